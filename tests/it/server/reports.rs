//! `/v1/reports` over a scripted engine and a real run store.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Request};
use serde_json::{Value, json};
use tutti::{
    report::runs::Runs,
    server::{ServerConfig, router},
};

use super::client::{Reply, config, get, send};
use crate::report::{
    acts::{Act, acting},
    good_plan, is_plan, is_synthesis, own_section, text_on,
};

struct Desk {
    router: Router,
    _folder: tempfile::TempDir,
}

impl Desk {
    /// Sections of these names never end by themselves.
    fn new(hanging: &'static [&'static str]) -> Self {
        let engine = acting(move |_, request| {
            if is_plan(request) {
                good_plan()
            } else if !is_synthesis(request) && hanging.contains(&own_section(request)) {
                Act::SayThenHang("It begins and".to_owned())
            } else {
                text_on(request)
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let reports = Some(Runs::open(folder.path()).unwrap());
        let router = router(Arc::clone(&engine) as _, ServerConfig { reports, ..config() });
        Self { router, _folder: folder }
    }

    async fn post(&self, body: Value) -> Reply {
        let request = Request::post("/v1/reports").header("content-type", "application/json");
        send(self.router.clone(), request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn get(&self, path: &str) -> Reply {
        get(self.router.clone(), path).await
    }

    async fn delete(&self, id: &str) -> Reply {
        let request = Request::delete(format!("/v1/reports/{id}")).body(Body::empty()).unwrap();
        send(self.router.clone(), request).await
    }

    /// The list's entries, once there are any.
    async fn listed(&self) -> Vec<Value> {
        loop {
            let list = self.get("/v1/reports").await.json();
            let data = list["data"].as_array().unwrap();
            if !data.is_empty() {
                return data.clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The ids, names and bodies of a stream's events.
fn events(reply: &Reply) -> Vec<(Option<u64>, String, Value)> {
    let field = |event: &str, name: &str| {
        let start = format!("{name}: ");
        event.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned))
    };
    reply
        .text
        .split("\n\n")
        .filter(|event| event.contains("data: "))
        .map(|event| {
            let data = field(event, "data").unwrap();
            let id = field(event, "id").map(|id| id.parse().unwrap());
            (id, field(event, "event").unwrap(), serde_json::from_str(&data).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_report_is_answered_whole_and_kept() {
    let desk = Desk::new(&[]);
    let reply = desk.post(json!({ "topic": "Scaling", "model": "duet", "seed": 7 })).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let report = reply.json();
    assert_eq!((&report["object"], &report["status"]), (&json!("report"), &json!("finished")));
    assert_eq!(report["report"]["sections"].as_array().unwrap().len(), 3);
    assert!(report["markdown"].as_str().unwrap().contains("## Origins\n\nWhat is known of"));
    let id = report["id"].as_str().unwrap();
    assert_eq!(desk.get(&format!("/v1/reports/{id}")).await.json(), report);
    let listed = desk.listed().await;
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(id)));
    assert_eq!(listed[0]["title"], "Scaling Laws");
    assert_eq!(desk.delete(id).await.json()["status"], "deleted");
    assert_eq!(desk.get(&format!("/v1/reports/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_stream_tells_every_event_and_can_be_picked_up_after_any() {
    let desk = Desk::new(&[]);
    let reply = desk.post(json!({ "topic": "Scaling", "stream": true })).await;
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let told = events(&reply);
    let ids: Vec<_> = told.iter().map(|(id, ..)| id.unwrap()).collect();
    assert_eq!(ids, (1..=told.len() as u64).collect::<Vec<_>>());
    let names: Vec<_> = told.iter().map(|(_, name, _)| name.as_str()).collect();
    for name in ["planned", "section_started", "section_delta", "section_finished"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(names.last(), Some(&"finished"));
    let id = desk.listed().await[0]["id"].as_str().unwrap().to_owned();
    for after in [0, 1, 7, told.len() - 1] {
        let request = Request::get(format!("/v1/reports/{id}/events"))
            .header("last-event-id", after.to_string());
        let reply = send(desk.router.clone(), request.body(Body::empty()).unwrap()).await;
        assert_eq!(events(&reply), told[after..], "after {after}");
    }
}

#[tokio::test]
async fn a_running_report_is_cancelled_and_its_stream_ends() {
    let desk = Desk::new(&["Data"]);
    let stream = desk.post(json!({ "topic": "Scaling", "stream": true }));
    let cancel = async {
        let id = desk.listed().await[0]["id"].as_str().unwrap().to_owned();
        loop {
            let report = desk.get(&format!("/v1/reports/{id}")).await.json();
            assert_eq!(report["status"], "running");
            if !report["plan"].is_null() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (desk.delete(&id).await.json(), id)
    };
    let (reply, (cancelled, id)) = tokio::join!(stream, cancel);
    assert_eq!(cancelled["status"], "cancelled");
    let told = events(&reply);
    let (last_id, last, _) = told.last().unwrap();
    assert_eq!((last_id, last.as_str()), (&None, "failed"));
    assert_eq!(desk.get(&format!("/v1/reports/{id}")).await.json()["status"], "cancelled");
}

#[tokio::test]
async fn a_report_without_a_stream_ends_with_its_request() {
    let desk = Desk::new(&["Data"]);
    let waiting = desk.post(json!({ "topic": "Scaling" }));
    assert!(tokio::time::timeout(Duration::from_millis(100), waiting).await.is_err());
    let ended = async {
        while desk.listed().await[0]["status"] != "interrupted" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it is written on");
}

#[tokio::test]
async fn what_cannot_be_a_report_is_refused_with_its_field() {
    let desk = Desk::new(&[]);
    let plan = json!({ "title": "a", "sections": [] });
    for (body, param, code) in [
        (json!({}), "topic", "missing_required_parameter"),
        (json!({ "topic": " " }), "topic", "invalid_value"),
        (json!({ "topic": "a", "sections": 13 }), "sections", "invalid_value"),
        (json!({ "topic": "a", "sections": 3, "plan": plan }), "sections", "invalid_value"),
        (json!({ "topic": "a", "plan": plan }), "plan", "invalid_value"),
        (json!({ "topic": "a", "max_tokens": 1 }), "max_tokens", "invalid_value"),
        (json!({ "topic": "a", "temperature": 3 }), "temperature", "invalid_value"),
        (json!({ "topic": "a", "model": "gamma" }), "model", "model_not_found"),
    ] {
        let refusal = desk.post(body.clone()).await.refusal();
        assert_eq!((refusal.1.as_str(), refusal.2), (code, json!(param)), "{body}");
    }
    assert_eq!(desk.get("/v1/reports/zz").await.refusal().1, "report_not_found");
    assert!(desk.get("/v1/reports").await.json()["data"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_keeps_no_reports_has_no_routes_for_them() {
    let engine = acting(|_, request| text_on(request));
    let router = router(engine, config());
    assert_eq!(get(router, "/v1/reports").await.refusal().1, "unknown_url");
}
