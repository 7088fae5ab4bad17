//! `POST /v1/responses`.

use std::sync::Arc;

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tutti::{
    constrain::Constraint,
    engine::{Event, FinishReason, GenerateError, Prompt},
    tokenizer::chat::{Message, Role},
};

use super::{
    client::{Reply, app, send},
    raw::{scored, scoring},
};
use crate::scripted::{Scripted, Step, finished, started, text};

async fn respond(engine: &Arc<Scripted>, fields: Value) -> Reply {
    let mut body = json!({ "model": "duet", "input": "Hi" });
    let Value::Object(fields) = fields else { panic!("fields must be an object") };
    body.as_object_mut().unwrap().extend(fields);
    let request = Request::post("/v1/responses").header("content-type", "application/json");
    send(app(engine), request.body(Body::from(body.to_string())).unwrap()).await
}

fn messages(engine: &Scripted) -> Vec<Message> {
    match engine.seen().pop().unwrap().prompt {
        Prompt::Chat { messages, .. } => messages,
        other => panic!("{other:?}"),
    }
}

/// The events of a stream. Each has its type as its name, and they are numbered from 0.
async fn events(engine: &Arc<Scripted>, mut fields: Value) -> Vec<Value> {
    fields["stream"] = json!(true);
    let reply = respond(engine, fields).await;
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let mut told = Vec::new();
    for event in reply.text.split_terminator("\n\n") {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
        assert_eq!(data["sequence_number"], told.len());
        told.push(data);
    }
    told
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_text_is_a_message_of_output() {
    let engine = Scripted::saying(&["Hel", "lo"]);
    let fields = json!({ "instructions": "Be brief.", "metadata": { "a": "b" }, "temperature": 0 });
    let body = respond(&engine, fields).await.json();
    for (key, expected) in [
        ("object", json!("response")),
        ("status", json!("completed")),
        ("instructions", json!("Be brief.")),
        ("metadata", json!({ "a": "b" })),
        ("temperature", json!(0.0)),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
        ("text", json!({ "format": { "type": "text" } })),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
    ] {
        assert_eq!(body[key], expected, "{key}");
    }
    let item = &body["output"][0];
    assert_eq!(
        (&item["type"], &item["role"], &item["status"]),
        (&json!("message"), &json!("assistant"), &json!("completed"),)
    );
    assert_eq!(item["content"][0]["type"], "output_text");
    assert_eq!(item["content"][0]["text"], "Hello");
    let usage = &body["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"], &usage["total_tokens"]),
        (&json!(7), &json!(3), &json!(10),)
    );
    let expected = [Message::new(Role::System, "Be brief."), Message::new(Role::User, "Hi")];
    assert_eq!(messages(&engine), expected);
}

#[tokio::test]
async fn a_stream_tells_of_the_same_response_step_by_step() {
    let engine = Scripted::saying(&["Hel", "", "lo"]);
    let events = events(&engine, json!({})).await;
    assert_eq!(
        types(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!(events[0]["response"]["status"], "in_progress");
    assert_eq!(events[6]["text"], "Hello");
    let item = &events[8]["item"];
    for event in &events[3..8] {
        assert_eq!(event["item_id"], item["id"]);
        assert_eq!((&event["output_index"], &event["content_index"]), (&json!(0), &json!(0)));
    }
    let last = &events[9]["response"];
    assert_eq!((&last["output"][0], &last["status"]), (item, &json!("completed")));
    assert_eq!(last["id"], events[0]["response"]["id"]);
    assert_eq!(last["usage"]["output_tokens"], 4);
}

#[tokio::test]
async fn a_call_is_an_item_of_output() {
    let tools = json!([{ "type": "function", "name": "now", "strict": true, "parameters": {
        "type": "object", "properties": {},
    } }]);
    let fields = json!({ "tools": tools, "tool_choice": { "type": "function", "name": "now" } });
    let engine = Scripted::saying(&["{", "}"]);
    let item = respond(&engine, fields.clone()).await.json()["output"][0].take();
    assert_eq!(item["type"], "function_call");
    assert_eq!((&item["name"], &item["arguments"]), (&json!("now"), &json!("{}")));
    assert!(item["call_id"].as_str().unwrap().starts_with("call_"));

    let events = events(&engine, fields).await;
    assert_eq!(
        types(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!(events[5]["arguments"], "{}");
}

#[tokio::test]
async fn items_of_every_served_kind_are_read() {
    let engine = Scripted::saying(&["ok"]);
    let input = json!([
        { "role": "developer", "content": "Be kind." },
        { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "?" }] },
        { "type": "function_call", "call_id": "c1", "name": "now", "arguments": "{}" },
        { "type": "function_call_output", "call_id": "c1", "output": "noon" },
        { "type": "message", "id": "m", "status": "completed", "role": "assistant",
          "content": [{ "type": "output_text", "text": "Noon.", "annotations": [] }] },
    ]);
    assert_eq!(respond(&engine, json!({ "input": input })).await.status, 200);
    let seen = messages(&engine);
    let told: Vec<(Role, &str)> = seen.iter().map(|m| (m.role, m.content.as_str())).collect();
    assert_eq!(
        told,
        [
            (Role::System, "Be kind."),
            (Role::User, "?"),
            (Role::Assistant, ""),
            (Role::Tool, "noon"),
            (Role::Assistant, "Noon."),
        ]
    );
    assert_eq!(
        (seen[2].tool_calls[0].name.as_str(), seen[2].tool_calls[0].id.as_str()),
        ("now", "c1")
    );
    assert_eq!(seen[3].tool_call_id.as_deref(), Some("c1"));
}

#[tokio::test]
async fn a_format_is_a_constraint_and_a_budget_is_a_limit() {
    let engine =
        Scripted::new(|_| Ok(vec![started(), text("{"), finished(FinishReason::Length, 1)]));
    let schema = json!({ "type": "object" });
    let format = json!({ "type": "json_schema", "name": "x", "schema": schema, "strict": true });
    let fields = json!({ "text": { "format": format }, "max_output_tokens": 1 });
    let body = respond(&engine, fields.clone()).await.json();
    assert_eq!(body["status"], "incomplete");
    assert_eq!(body["incomplete_details"], json!({ "reason": "max_output_tokens" }));
    assert_eq!(body["output"][0]["status"], "incomplete");
    assert_eq!(body["text"]["format"], format);
    let seen = engine.seen().pop().unwrap();
    assert_eq!(seen.stop.max_tokens, Some(1));
    assert_eq!(seen.constraint, Some(Constraint::JsonSchema(schema)));
    assert_eq!(types(&events(&engine, fields).await).last(), Some(&"response.incomplete"));
}

#[tokio::test]
async fn texts_have_log_probabilities_where_they_are_asked_for() {
    let fields = json!({ "include": ["message.output_text.logprobs"], "top_logprobs": 2 });
    let whole = respond(&scoring(), fields.clone()).await.json();
    let told = &whole["output"][0]["content"][0]["logprobs"];
    let tokens: Vec<&Value> = told.as_array().unwrap().iter().map(|it| &it["token"]).collect();
    assert_eq!((json!(tokens), &whole["top_logprobs"]), (json!(["c", "e"]), &json!(2)));
    assert_eq!(told[0]["logprob"], -0.5);
    assert_eq!(told[0]["top_logprobs"].as_array().unwrap().len(), 2);

    let events = events(&scoring(), fields).await;
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    let deltas: Vec<&Value> = deltas.flat_map(|it| it["logprobs"].as_array().unwrap()).collect();
    assert_eq!(json!(deltas), *told);
    let done = events.iter().find(|event| event["type"] == "response.output_text.done");
    assert_eq!(&done.unwrap()["logprobs"], told);
    let last = &events.last().unwrap()["response"];
    assert_eq!(&last["output"][0]["content"][0]["logprobs"], told);

    let attributed = json!({ "ensemble": { "attribution": true } });
    let body = respond(&scoring(), attributed).await.json();
    let told = &body["output"][0]["content"][0]["logprobs"];
    assert_eq!(told[0]["members"][0]["probability"], 0.125);
    let reply = respond(&scoring(), json!({ "top_logprobs": 2 })).await;
    let expected = (400, "invalid_value".to_owned(), json!("top_logprobs"));
    assert_eq!(reply.refusal(), expected);
}

#[tokio::test]
async fn log_probabilities_are_of_the_text_around_calls_and_not_of_these() {
    const TEXT: &str = "Ok <tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>\n!";
    // In one piece the text is told as it is in many.
    for cut in [1, 4, TEXT.len()] {
        let steps = move || {
            let chunks = TEXT.as_bytes().chunks(cut).map(|it| std::str::from_utf8(it).unwrap());
            let told = chunks.map(|chunk| {
                let pieces = chunk.bytes().map(|byte| scored(byte, Some(-1.1))).collect();
                Step::Send(Event::Text { text: chunk.to_owned(), tokens: chunk.len(), pieces })
            });
            let mut steps = vec![started()];
            steps.extend(told);
            steps.push(finished(FinishReason::Stop, TEXT.len()));
            steps
        };
        let engine = Scripted::new(move |_| Ok(steps()));
        let tools = json!([{ "type": "function", "name": "now" }]);
        let fields = json!({ "tools": tools, "include": ["message.output_text.logprobs"] });
        let whole = respond(&engine, fields.clone()).await.json();
        let last = events(&engine, fields).await.pop().unwrap();
        for response in [&whole, &last["response"]] {
            let output = response["output"].as_array().unwrap();
            assert_eq!(
                output.iter().map(|it| &it["type"]).collect::<Vec<_>>(),
                ["message", "function_call", "message"]
            );
            for (item, text) in [(&output[0], "Ok"), (&output[2], "!")] {
                let content = &item["content"][0];
                let told = content["logprobs"].as_array().unwrap();
                assert_eq!(told[0]["logprob"], -1.1, "with the digits that it has");
                let told: String = told.iter().map(|it| it["token"].as_str().unwrap()).collect();
                assert_eq!((&content["text"], told.as_str()), (&json!(text), text), "{cut}");
            }
        }
    }
}

#[tokio::test]
async fn what_needs_a_memory_is_refused_by_name() {
    for (name, value) in [
        ("previous_response_id", json!("resp_1")),
        ("background", json!(true)),
        ("conversation", json!("conv_1")),
        ("prompt", json!({ "id": "p" })),
        ("include[0]", json!("reasoning.encrypted_content")),
    ] {
        let engine = Scripted::saying(&["must not be asked"]);
        let field = match name.split_once('[') {
            Some((field, _)) => json!({ field: [value] }),
            None => json!({ name: value }),
        };
        let reply = respond(&engine, field).await;
        assert_eq!(reply.refusal(), (400, "unsupported_parameter".to_owned(), json!(name)));
        assert!(engine.seen().is_empty());
    }
}

#[tokio::test]
async fn input_that_cannot_be_served_is_refused_with_its_place() {
    let cases = [
        (Value::Null, "missing_required_parameter", "input"),
        (json!([]), "invalid_value", "input"),
        (
            json!([{ "type": "item_reference", "id": "x" }]),
            "unsupported_parameter",
            "input[0].type",
        ),
        (json!([{ "role": "robot", "content": "x" }]), "invalid_value", "input[0].role"),
        (json!([{ "role": "user", "content": 5 }]), "invalid_type", "input[0].content"),
        (
            json!([{ "type": "function_call", "name": "x" }]),
            "missing_required_parameter",
            "input[0].call_id",
        ),
        (
            json!([{ "role": "user", "content": [{ "type": "input_image" }] }]),
            "unsupported_parameter",
            "input[0].content[0].type",
        ),
    ];
    for (input, code, param) in cases {
        let engine = Scripted::saying(&["must not be asked"]);
        let reply = respond(&engine, json!({ "input": input })).await;
        assert_eq!(reply.refusal(), (400, code.to_owned(), json!(param)), "{input}");
        assert!(engine.seen().is_empty());
    }
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_the_last_event() {
    let failed = GenerateError::Member { member: "beta".to_owned(), reason: "boom".to_owned() };
    let engine = Scripted::new(move |_| {
        Ok(vec![started(), text("par"), Step::Send(Event::Failed(failed.clone()))])
    });
    let events = events(&engine, json!({})).await;
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["status"], "failed");
    assert_eq!(last["response"]["error"]["message"], "`beta` failed: boom");
}
