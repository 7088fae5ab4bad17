use std::sync::Arc;

use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use super::client::{app, get, send};
use crate::scripted::Scripted;

fn engine() -> Arc<Scripted> {
    Scripted::saying(&["ok"])
}

#[tokio::test]
async fn health_is_ok() {
    let reply = get(app(&engine()), "/health").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json(), json!({ "status": "ok" }));
}

#[tokio::test]
async fn a_server_that_serves_is_ready_and_says_its_version() {
    let router = app(&engine());
    let ready = get(router.clone(), "/ready").await;
    assert_eq!((ready.status.as_u16(), ready.json()), (200, json!({ "status": "ready" })));
    let expected = json!({ "name": "tutti", "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(get(router, "/version").await.json(), expected);
}

#[tokio::test]
async fn models_lists_the_ensemble_and_its_members() {
    let list = get(app(&engine()), "/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let ids: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, ["duet", "alpha", "beta"]);
    let duet = &list["data"][0];
    assert!(duet["created"].as_u64().unwrap() > 1_700_000_000);
    let mut rest = duet.clone();
    rest.as_object_mut().unwrap().remove("created");
    let expected = json!({
        "id": "duet", "object": "model", "owned_by": "tutti",
        "members": ["alpha", "beta"], "context_length": 2048, "loaded": true,
    });
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn a_model_is_found_by_its_id() {
    let router = app(&engine());
    let list = get(router.clone(), "/v1/models").await.json();
    let beta = get(router, "/v1/models/beta").await;
    assert_eq!((beta.status.as_u16(), beta.json()), (200, list["data"][2].clone()));
}

#[tokio::test]
async fn an_unknown_models_refusal_names_those_there_are() {
    let reply = get(app(&engine()), "/v1/models/gamma").await;
    assert_eq!(reply.refusal(), (404, "model_not_found".to_owned(), json!("model")));
    for name in ["gamma", "duet", "alpha", "beta"] {
        assert!(reply.message().contains(name), "{}", reply.message());
    }
}

#[tokio::test]
async fn an_id_that_is_not_text_is_refused() {
    let reply = get(app(&engine()), "/v1/models/%ff").await;
    assert_eq!(reply.refusal(), (400, "invalid_value".to_owned(), json!("model")));
}

#[tokio::test]
async fn an_unknown_route_is_a_404_that_names_it() {
    let reply = get(app(&engine()), "/v2/models?x=1").await;
    assert_eq!(reply.refusal(), (404, "unknown_url".to_owned(), Value::Null));
    assert!(reply.message().contains("`/v2/models`"), "{}", reply.message());
}

#[tokio::test]
async fn a_wrong_method_is_a_405_that_says_what_is_allowed() {
    let router = app(&engine());
    let reply = get(router.clone(), "/v1/chat/completions").await;
    assert_eq!(reply.refusal(), (405, "method_not_allowed".to_owned(), Value::Null));
    assert_eq!(reply.headers["allow"], "POST");

    let delete = Request::delete("/v1/models").body(Body::empty()).unwrap();
    let reply = send(router, delete).await;
    assert_eq!(reply.refusal(), (405, "method_not_allowed".to_owned(), Value::Null));
    assert_eq!(reply.headers["allow"], "GET,HEAD");
}

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_description_names_what_is_served_and_refers_to_what_it_has() {
    let description = get(app(&engine()), "/openapi.json").await.json();
    assert_eq!(description["openapi"], "3.1.0");
    let mut found = Vec::new();
    references(&description, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let place = reference.strip_prefix('#').expect("a place of this document");
        assert!(description.pointer(place).is_some(), "{reference}");
    }
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{id}", "duet");
            let request = Request::builder().method(method.to_uppercase().as_str()).uri(&path);
            let status = send(app(&engine()), request.body(Body::empty()).unwrap()).await.status;
            assert!(![404, 405].contains(&status.as_u16()), "{method} {path}: {status}");
        }
    }
    let fields = &description["components"]["schemas"]["Fields"];
    assert_eq!(fields["properties"]["model"]["enum"], json!(["duet", "alpha", "beta"]));
    assert_eq!(fields["required"], json!(["model"]));
}
