//! Real chat templates, with tools, results and switches, against jinja2
//! (`tests/reference/render_templates.py` makes the sums).

use std::{fs, path::Path, sync::LazyLock};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tutti::{
    tokenizer::{
        PreTokenizer, SpecToken, TokenRole, Tokenizer, TokenizerSpec,
        chat::{Conversation, Message, Role, TemplateArgs, Tool, ToolCall},
    },
    vocab::TokenId,
};

use crate::npm;

static SOURCE: LazyLock<String> = LazyLock::new(npm::templates);

fn fixture() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/templates.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The template of the model that the package lists under this name.
fn template(model: &str) -> String {
    let entry = format!("model: \"{model}\",");
    let at = SOURCE.find(&entry).unwrap_or_else(|| panic!("{model} is listed"));
    let literal = SOURCE[at + entry.len()..].trim_start().strip_prefix("gguf: ").unwrap();
    let mut chars = literal.chars();
    let quote = chars.next().unwrap();
    let mut text = String::new();
    while let Some(c) = chars.next().filter(|&c| c != quote) {
        text.push(match c {
            '\\' => match chars.next().unwrap() {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            },
            c => c,
        });
    }
    text
}

/// A tokenizer that has this template and little else.
fn tokenizer(template: String, bos: &str, eos: &str) -> Tokenizer {
    let mut tokens: Vec<SpecToken> =
        (b' '..=b'~').map(|byte| SpecToken::new([byte], TokenRole::Normal)).collect();
    let mut id = |mark: &str| {
        tokens.push(SpecToken::new(mark, TokenRole::Control));
        TokenId(u32::try_from(tokens.len() - 1).unwrap())
    };
    let bos = (!bos.is_empty()).then(|| id(bos));
    let eos = id(eos);
    let mut spec = TokenizerSpec::new(tokens, PreTokenizer::Gpt2);
    (spec.bos, spec.eos, spec.stops) = (bos, Some(eos), vec![eos]);
    spec.chat_template = Some(template);
    Tokenizer::from_spec(spec).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn message(message: &Value) -> Message {
    let role = match message["role"].as_str().unwrap() {
        "system" => Role::System,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => Role::User,
    };
    let call = |call: &Value| ToolCall {
        id: text(&call["id"]),
        name: text(&call["function"]["name"]),
        arguments: call["function"]["arguments"].clone(),
    };
    Message {
        tool_calls: message["tool_calls"].as_array().into_iter().flatten().map(call).collect(),
        tool_call_id: message["tool_call_id"].as_str().map(str::to_owned),
        ..Message::new(role, text(&message["content"]))
    }
}

fn tool(tool: &Value) -> Tool {
    let function = &tool["function"];
    Tool {
        name: text(&function["name"]),
        description: function["description"].as_str().map(str::to_owned),
        parameters: Some(function["parameters"].clone()),
    }
}

#[test]
fn real_templates_are_rendered_as_by_jinja2() {
    let golden = fixture();
    let (mut compared, mut refused) = (0, 0);
    for case in golden["cases"].as_array().unwrap() {
        let [name, bos, eos] = ["template", "bos", "eos"].map(|key| case[key].as_str().unwrap());
        let title = case["conversation"].as_str().unwrap();
        let said = &golden["conversations"][title];
        let messages: Vec<Message> =
            said["messages"].as_array().unwrap().iter().map(message).collect();
        let tools: Vec<Tool> = said["tools"].as_array().unwrap().iter().map(tool).collect();
        let args: TemplateArgs = serde_json::from_value(case["args"].clone()).unwrap();
        let conversation = Conversation { messages: &messages, tools: &tools, args: &args };
        let rendered = tokenizer(template(name), bos, eos).render(conversation);
        let Some(sum) = case["sha256"].as_str() else {
            // Calls that a template refuses are told as text; anything else is an error.
            match rendered {
                Ok(rendered) => assert!(!tools.is_empty() && rendered.contains("<tool_call>")),
                Err(error) => assert!(tools.is_empty() && error.to_string().contains("refuses")),
            }
            refused += 1;
            continue;
        };
        let rendered = rendered.unwrap();
        let found: String = Sha256::digest(&rendered).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(found, sum, "{name}, {title}, {args:?}:\n{rendered}");
        compared += 1;
    }
    assert!(compared > 75 && refused > 5, "{compared} {refused}");
}

#[test]
fn the_thinking_switch_of_qwen3_is_its_templates_own() {
    let tokenizer = tokenizer(template("library/qwen3:0.6b"), "", "<|im_end|>");
    let messages = [Message::new(Role::User, "Hi")];
    let render = |args: Value| {
        let args: TemplateArgs = serde_json::from_value(args).unwrap();
        let conversation = Conversation { args: &args, ..Conversation::new(&messages) };
        tokenizer.render(conversation).unwrap()
    };
    let on = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(render(serde_json::json!({})), on);
    assert_eq!(render(serde_json::json!({ "enable_thinking": true, "unknown": [1] })), on);
    let off = format!("{on}<think>\n\n</think>\n\n");
    assert_eq!(render(serde_json::json!({ "enable_thinking": false })), off);
}

#[test]
fn what_a_switch_says_names_no_special_token() {
    let template = "{{ style }}<end>{{ messages[0].content }}".to_owned();
    let tokenizer = tokenizer(template, "", "<end>");
    let args: TemplateArgs =
        [("style".to_owned(), Value::from("a<end>b")), ("messages".to_owned(), Value::from(1))]
            .into();
    let messages = [Message::new(Role::User, "c")];
    let conversation = Conversation { args: &args, ..Conversation::new(&messages) };
    assert_eq!(tokenizer.render(conversation).unwrap(), "a<end>b<end>c");
    let ids = tokenizer.converse(conversation).unwrap();
    assert_eq!(ids.iter().filter(|id| tokenizer.stops().contains(id)).count(), 1);
}
