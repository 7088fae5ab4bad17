//! Functions that clients let the model call.

use serde_json::{Value, json};
use tutti::{
    constrain::Constraint,
    engine::{FinishReason, Prompt},
    tokenizer::chat::{Role, ToolCall},
};

use super::client::{app, chat, post};
use crate::scripted::{Scripted, finished, started, text};

pub(super) fn tools() -> Value {
    let parameters = json!({ "type": "object", "properties": { "at": { "type": "string" } } });
    json!([
        { "type": "function", "function": { "name": "weather", "parameters": parameters } },
        { "type": "function", "function": { "name": "now", "description": "the time" } },
    ])
}

/// An answer that calls two functions after a word.
pub(super) const CALLS: &[&str] = &[
    "Well.\n<tool_",
    "call>\n{\"name\": \"weather\", \"arguments\": {\"at\": ",
    "\"Rome\"}}\n</tool_call>\n<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>",
];

/// The calls of a stream as the SDKs assemble them, with its text and its reason.
fn assembled(stream: &str) -> (String, Vec<(String, String)>, String) {
    let (mut content, mut calls, mut reason) = (String::new(), Vec::new(), String::new());
    for chunk in stream.lines().filter_map(|line| line.strip_prefix("data: {")) {
        let chunk: Value = serde_json::from_str(&format!("{{{chunk}")).unwrap();
        let choice = &chunk["choices"][0];
        content += choice["delta"]["content"].as_str().unwrap_or_default();
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if index == calls.len() {
                assert!(call["id"].as_str().unwrap().starts_with("call_"));
                assert_eq!(call["type"], "function");
                let name = call["function"]["name"].as_str().unwrap().to_owned();
                calls.push((name, String::new()));
            }
            calls[index].1 += call["function"]["arguments"].as_str().unwrap();
        }
        reason = choice["finish_reason"].as_str().unwrap_or(&reason).to_owned();
    }
    (content, calls, reason)
}

#[tokio::test]
async fn calls_are_the_same_streamed_or_not() {
    let engine = Scripted::saying(CALLS);
    let whole = post(app(&engine), &chat(json!({ "tools": tools() }))).await.json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "Well.");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    let calls: Vec<(String, String)> = calls
        .iter()
        .map(|call| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            assert_eq!(call["type"], "function");
            (text(&call["function"]["name"]), text(&call["function"]["arguments"]))
        })
        .collect();
    let expected = [
        ("weather".to_owned(), r#"{"at":"Rome"}"#.to_owned()),
        ("now".to_owned(), "{}".to_owned()),
    ];
    assert_eq!(calls, expected);

    let stream = post(app(&engine), &chat(json!({ "tools": tools(), "stream": true }))).await.text;
    let (content, streamed, reason) = assembled(&stream);
    assert_eq!((content.as_str(), reason.as_str()), ("Well.", "tool_calls"));
    assert_eq!(streamed, expected);
}

#[tokio::test]
async fn an_answer_that_only_calls_has_no_content() {
    let engine = Scripted::saying(&[r#"<tool_call>{"name": "now", "arguments": {}}</tool_call>"#]);
    let body = post(app(&engine), &chat(json!({ "tools": tools() }))).await.json();
    assert_eq!(body["choices"][0]["message"]["content"], Value::Null);
}

#[tokio::test]
async fn without_tools_or_with_none_allowed_a_call_is_text() {
    for fields in [json!({}), json!({ "tools": tools(), "tool_choice": "none" })] {
        let engine = Scripted::saying(CALLS);
        let body = post(app(&engine), &chat(fields)).await.json();
        assert_eq!(body["choices"][0]["message"]["content"], CALLS.concat());
        assert!(body["choices"][0]["message"].get("tool_calls").is_none());
        let Prompt::Chat { tools, .. } = &engine.seen()[0].prompt else { panic!("a chat") };
        assert!(tools.is_empty());
    }
}

#[tokio::test]
async fn one_call_at_a_time_is_one_call() {
    let engine = Scripted::saying(CALLS);
    let fields = json!({ "tools": tools(), "parallel_tool_calls": false });
    let body = post(app(&engine), &chat(fields)).await.json();
    assert_eq!(body["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_named_function_is_called_and_held_to_its_schema() {
    for choice in [
        json!({ "type": "function", "function": { "name": "weather" } }),
        json!({ "type": "function", "name": "weather" }),
    ] {
        let engine = Scripted::saying(&[r#"{"at""#, r#": "Bern"}"#]);
        let fields = json!({ "tools": tools(), "tool_choice": choice, "stream": true });
        let stream = post(app(&engine), &chat(fields)).await.text;
        let (content, calls, reason) = assembled(&stream);
        assert_eq!(calls, [("weather".to_owned(), r#"{"at": "Bern"}"#.to_owned())]);
        assert_eq!((content.as_str(), reason.as_str()), ("", "tool_calls"));
        let mut parameters = tools()[0]["function"]["parameters"].clone();
        parameters["additionalProperties"] = json!(false);
        assert_eq!(engine.seen()[0].constraint, Some(Constraint::JsonSchema(parameters)));
    }
}

#[tokio::test]
async fn a_call_that_must_come_is_one_of_the_tools() {
    let engine = Scripted::saying(&[r#"{"name": "now", "#, r#""arguments": {}}"#]);
    let fields = json!({ "tools": tools(), "tool_choice": "required" });
    let body = post(app(&engine), &chat(fields)).await.json();
    let call = &body["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call, &json!({ "name": "now", "arguments": "{}" }));
    let Some(Constraint::JsonSchema(schema)) = engine.seen()[0].constraint.clone() else {
        panic!("a schema")
    };
    let names: Vec<&Value> =
        schema["anyOf"].as_array().unwrap().iter().map(|s| &s["properties"]["name"]).collect();
    assert_eq!(names, [&json!({ "const": "weather" }), &json!({ "const": "now" })]);
}

#[tokio::test]
async fn a_call_that_was_cut_says_length() {
    let engine = Scripted::new(|_| {
        Ok(vec![started(), text(r#"{"at": "#), finished(FinishReason::Length, 2)])
    });
    let choice = json!({ "type": "function", "function": { "name": "weather" } });
    let fields = json!({ "tools": tools(), "tool_choice": choice });
    let body = post(app(&engine), &chat(fields)).await.json();
    assert_eq!(body["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn calls_and_results_of_the_history_reach_the_templates() {
    let engine = Scripted::saying(&["Sun."]);
    let call = json!({
        "id": "call_1", "type": "function",
        "function": { "name": "weather", "arguments": "{\"at\": \"Rome\"}" },
    });
    let messages = json!([
        { "role": "user", "content": "Rome?" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "call_1", "content": [{ "type": "text", "text": "sun" }] },
    ]);
    post(app(&engine), &chat(json!({ "messages": messages, "tools": tools() }))).await;
    let Prompt::Chat { messages, tools, .. } = &engine.seen()[0].prompt else { panic!("a chat") };
    let expected = ToolCall {
        id: "call_1".to_owned(),
        name: "weather".to_owned(),
        arguments: json!({ "at": "Rome" }),
    };
    assert_eq!(messages[1].tool_calls, [expected]);
    assert_eq!(messages[2].role, Role::Tool);
    assert_eq!(messages[2].content, "sun");
    assert_eq!(messages[2].tool_call_id.as_deref(), Some("call_1"));
    assert_eq!(tools[1].description.as_deref(), Some("the time"));
}

#[tokio::test]
async fn tools_that_cannot_be_served_are_refused_with_their_place() {
    let function = |name: &str| json!({ "type": "function", "function": { "name": name } });
    let cases = [
        (json!([{ "type": "web_search" }]), "unsupported_parameter", "tools[0].type"),
        (json!([{ "type": "function" }]), "invalid_value", "tools[0].function"),
        (json!([function("a"), function("b c")]), "invalid_value", "tools[1].function.name"),
        (json!([function("a"), function("a")]), "invalid_value", "tools"),
        (
            json!([{ "type": "function", "function": { "name": "a", "parameters": 5 } }]),
            "invalid_value",
            "tools[0].function.parameters",
        ),
    ];
    for (tools, code, param) in cases {
        let engine = Scripted::saying(&["must not be asked"]);
        let reply = post(app(&engine), &chat(json!({ "tools": tools }))).await;
        assert_eq!(reply.refusal(), (400, code.to_owned(), json!(param)), "{tools}");
        assert!(engine.seen().is_empty());
    }
}

#[tokio::test]
async fn definitions_of_one_name_are_shared_and_different_ones_refused_where_they_would_meet() {
    let tool = |name: &str, definition: Value| {
        let parameters = json!({
            "type": "object", "properties": { "a": { "$ref": "#/$defs/A" } },
            "$defs": { "A": definition },
        });
        json!({ "type": "function", "function": { "name": name, "parameters": parameters } })
    };
    let (one, other) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    for (definition, choice, is_served) in
        [(&one, "required", true), (&other, "auto", true), (&other, "required", false)]
    {
        let engine = Scripted::saying(&["{}"]);
        let tools = json!([tool("a", one.clone()), tool("b", definition.clone())]);
        let body = chat(json!({ "tools": tools, "tool_choice": choice }));
        let reply = post(app(&engine), &body).await;
        assert_eq!(engine.seen().len(), usize::from(is_served), "{body}");
        if !is_served {
            assert_eq!(reply.refusal(), (400, "invalid_value".to_owned(), json!("tools[1]")));
            assert!(reply.message().contains("`A`"), "{}", reply.message());
        }
    }
}
