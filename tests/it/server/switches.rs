//! `chat_template_kwargs`: switches of the members' own templates.

use axum::{body::Body, http::Request};
use serde_json::json;
use tutti::engine::Prompt;

use super::client::{app, chat, post, send};
use crate::scripted::Scripted;

#[tokio::test]
async fn switches_reach_the_engine_from_chats_and_responses() {
    let switches = json!({ "enable_thinking": false, "style": ["a"] });
    let engine = Scripted::saying(&["well"]);
    let reply = post(app(&engine), &chat(json!({ "chat_template_kwargs": switches }))).await;
    assert!(reply.status == 200 && !reply.headers.contains_key("x-ignored-params"));
    let body = json!({ "model": "duet", "input": "hi", "chat_template_kwargs": switches });
    let response = Request::post("/v1/responses").header("content-type", "application/json");
    let response = response.body(Body::from(body.to_string())).unwrap();
    assert_eq!(send(app(&engine), response).await.status, 200);
    assert_eq!(engine.seen().len(), 2);
    for request in engine.seen() {
        let Prompt::Chat { template_args, .. } = &request.prompt else { panic!("a chat") };
        assert_eq!(json!(template_args), switches);
    }
}

#[tokio::test]
async fn what_is_no_switch_is_refused_by_name() {
    let engine = Scripted::saying(&["well"]);
    for (switches, code, param) in [
        (json!({ "messages": [] }), "invalid_value", "chat_template_kwargs.messages"),
        (json!({ "bos_token": "<s>" }), "invalid_value", "chat_template_kwargs.bos_token"),
        (json!(true), "invalid_type", "chat_template_kwargs"),
    ] {
        let reply = post(app(&engine), &chat(json!({ "chat_template_kwargs": switches }))).await;
        assert_eq!(reply.refusal(), (400, code.to_owned(), json!(param)));
    }
}
