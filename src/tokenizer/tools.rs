//! Tools for templates that do not know them: as text, in the Hermes form.
//!
//! The form is that of NousResearch's Hermes function-calling models and of Qwen2.5's template:
//! signatures as JSON in `<tools>`, a call as JSON in `<tool_call>`, a result in
//! `<tool_response>` that the user says. All members of an ensemble are thus told of one form
//! where their templates have none of their own.

use super::{
    chat::{Message, Role, Tool},
    template::python_json,
};
use serde_json::{Value, json};

/// The API's object for a tool, which templates show.
pub(super) fn object(tool: &Tool) -> Value {
    let mut function = json!({ "name": tool.name });
    if let Some(description) = &tool.description {
        function["description"] = json!(description);
    }
    if let Some(parameters) = &tool.parameters {
        function["parameters"] = parameters.clone();
    }
    json!({ "type": "function", "function": function })
}

/// The same conversation with ids of nine digits, numbered as they come: Mistral's templates refuse
/// any that are not nine letters and digits long.
pub(super) fn with_short_ids(messages: &[Message]) -> Vec<Message> {
    let mut seen: Vec<String> = Vec::new();
    let mut short = |id: &mut String| {
        let at = seen.iter().position(|known| known == id).unwrap_or_else(|| {
            seen.push(id.clone());
            seen.len() - 1
        });
        *id = format!("{at:09}");
    };
    let mut messages = messages.to_vec();
    for message in &mut messages {
        message.tool_calls.iter_mut().for_each(|call| short(&mut call.id));
        message.tool_call_id.iter_mut().for_each(&mut short);
    }
    messages
}

/// The same conversation in plain messages: a system message that tells of the tools, calls and
/// results as text.
pub(super) fn as_text(messages: Vec<Message>, tools: &[Tool]) -> Vec<Message> {
    let mut plain: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    let mut after_result = false;
    for mut message in messages {
        let calls = std::mem::take(&mut message.tool_calls);
        for call in calls {
            let call = json!({ "name": call.name, "arguments": call.arguments });
            let text = format!("<tool_call>\n{}\n</tool_call>", python_json(&call));
            add_line(&mut message.content, &text);
        }
        let is_result = message.role == Role::Tool;
        if is_result {
            let text = format!("<tool_response>\n{}\n</tool_response>", message.content);
            match plain.last_mut().filter(|_| after_result) {
                Some(results) => add_line(&mut results.content, &text),
                None => plain.push(Message::new(Role::User, text)),
            }
        } else {
            plain.push(message);
        }
        after_result = is_result;
    }
    if !tools.is_empty() {
        let told = instructions(tools);
        match plain.first_mut().filter(|message| message.role == Role::System) {
            Some(system) => system.content = format!("{}\n\n{told}", system.content),
            None => plain.insert(0, Message::new(Role::System, told)),
        }
    }
    plain
}

fn add_line(content: &mut String, line: &str) {
    if !content.is_empty() {
        content.push('\n');
    }
    content.push_str(line);
}

fn instructions(tools: &[Tool]) -> String {
    let signatures: Vec<String> = tools.iter().map(|tool| python_json(&object(tool))).collect();
    format!(
        "You can call functions to help the user. Their signatures are in <tools></tools>:\n\
         <tools>\n{}\n</tools>\n\n\
         To call one, write a JSON object with its name and arguments in \
         <tool_call></tool_call>:\n\
         <tool_call>\n{{\"name\": <function name>, \"arguments\": <object>}}\n</tool_call>",
        signatures.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::chat::ToolCall;

    fn weather() -> Tool {
        Tool {
            name: "weather".to_owned(),
            description: Some("the weather at a place".to_owned()),
            parameters: Some(json!({"type": "object", "properties": {"at": {"type": "string"}}})),
        }
    }

    #[test]
    fn tools_calls_and_results_become_text() {
        let call = |id: &str, at: &str| ToolCall {
            id: id.to_owned(),
            name: "weather".to_owned(),
            arguments: json!({ "at": at }),
        };
        let mut asked = Message::new(Role::Assistant, "Let me see.");
        asked.tool_calls = vec![call("1", "Rome"), call("2", "Bern")];
        let messages = vec![
            Message::new(Role::User, "Rome or Bern?"),
            asked,
            Message::new(Role::Tool, "sun"),
            Message::new(Role::Tool, "rain"),
            Message::new(Role::User, "So?"),
        ];
        let plain = as_text(messages, &[weather()]);
        let roles: Vec<Role> = plain.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User, Role::User]);
        assert!(plain[0].content.contains(
            r#"{"type": "function", "function": {"name": "weather", "description": "the weather at a place", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}}"#
        ));
        assert_eq!(
            plain[2].content,
            "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"at\": \"Rome\"}}\n</tool_call>\n\
             <tool_call>\n{\"name\": \"weather\", \"arguments\": {\"at\": \"Bern\"}}\n</tool_call>"
        );
        assert_eq!(
            plain[3].content,
            "<tool_response>\nsun\n</tool_response>\n<tool_response>\nrain\n</tool_response>"
        );
    }

    #[test]
    fn a_system_message_of_the_callers_own_comes_before_the_tools() {
        let messages = vec![Message::new(Role::System, "Be brief."), Message::new(Role::User, "?")];
        let plain = as_text(messages, &[weather()]);
        assert!(plain[0].content.starts_with("Be brief.\n\nYou can call"));
        assert_eq!(plain.len(), 2);
    }
}
