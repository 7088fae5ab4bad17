//! `ensemble`, our own field of requests and answers.

use serde_json::{Value, json};
use tutti::engine::{
    Agreement, Event, FinishReason, FusionRequest, Rule, Usage, Weighting, WeightsRequest,
};

use super::client::{app, chat, post};
use crate::scripted::{Scripted, Step, finished, started, text};

#[tokio::test]
async fn what_a_request_changes_of_the_fusion_reaches_the_engine() {
    let name = |name: &str| name.to_owned();
    let power = |floor| Rule::Power { exponent: 0.5, floor };
    let none = FusionRequest::default();
    let cases = [
        (json!({}), none.clone()),
        (
            json!({ "members": ["beta"], "rule": "max" }),
            FusionRequest {
                members: Some(vec![name("beta")]),
                rule: Some(Rule::Max),
                ..none.clone()
            },
        ),
        (
            json!({ "weights": [0.25, 0.5], "rule": "power:0.5", "floor": 0.25 }),
            FusionRequest {
                weights: Some(WeightsRequest::InOrder(vec![0.25, 0.5])),
                rule: Some(power(0.25)),
                ..none.clone()
            },
        ),
        (
            json!({ "weights": "online" }),
            FusionRequest { weights: Some(WeightsRequest::By(Weighting::Online)), ..none.clone() },
        ),
        (
            json!({ "weights": { "beta": 2, "alpha": 1 } }),
            FusionRequest {
                weights: Some(WeightsRequest::Named(vec![
                    (name("alpha"), 1.0),
                    (name("beta"), 2.0),
                ])),
                ..none
            },
        ),
    ];
    for (asked, expected) in cases {
        let engine = Scripted::saying(&["well"]);
        let reply = post(app(&engine), &chat(json!({ "ensemble": asked }))).await;
        assert_eq!(reply.status, 200, "{asked}");
        assert_eq!(engine.seen()[0].fusion, expected, "{asked}");
        assert!(reply.json().get("ensemble").is_none(), "nothing to tell");
    }
}

#[tokio::test]
async fn what_is_wrong_with_it_is_named() {
    let cases = [
        (json!({ "rule": "median" }), "invalid_value", "ensemble.rule"),
        (json!({ "rule": "power:3" }), "invalid_value", "ensemble.rule"),
        (json!({ "rule": "max", "floor": 0.5 }), "invalid_value", "ensemble.floor"),
        (json!({ "rule": "geometric", "floor": 0 }), "invalid_value", "ensemble.floor"),
        (json!({ "floor": 0.5 }), "invalid_value", "ensemble.floor"),
        (json!({ "members": "beta" }), "invalid_type", "ensemble.members"),
        (json!({ "weights": "free" }), "invalid_value", "ensemble.weights"),
        (json!({ "weights": true }), "invalid_type", "ensemble.weights"),
        (json!({ "rul": "max" }), "unsupported_parameter", "ensemble.rul"),
    ];
    for (asked, code, param) in cases {
        let engine = Scripted::saying(&["must not be asked"]);
        let reply = post(app(&engine), &chat(json!({ "ensemble": asked }))).await;
        assert_eq!(reply.refusal(), (400, code.to_owned(), json!(param)), "{asked}");
        assert!(engine.seen().is_empty());
    }
}

fn losing_a_member() -> std::sync::Arc<Scripted> {
    Scripted::new(|_| {
        let (member, reason) = ("beta".to_owned(), "it panicked: no".to_owned());
        let warning = Step::Send(Event::Warning { member, reason });
        Ok(vec![started(), text("one"), warning, text(" two"), finished(FinishReason::Stop, 3)])
    })
}

#[tokio::test]
async fn a_member_that_was_lost_is_told_with_the_answer() {
    let expected = json!([{ "member": "beta", "reason": "it panicked: no" }]);
    let whole = post(app(&losing_a_member()), &chat(json!({}))).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "one two");
    assert_eq!(whole["ensemble"]["warnings"], expected);
    let streamed = post(app(&losing_a_member()), &chat(json!({ "stream": true }))).await;
    let chunks = streamed.text.lines().filter_map(|line| line.strip_prefix("data: "));
    let told: Vec<Value> = chunks
        .filter_map(|chunk| serde_json::from_str(chunk).ok())
        .filter(|chunk: &Value| chunk.get("ensemble").is_some())
        .collect();
    let [last] = &told[..] else { panic!("{told:?}") };
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["ensemble"]["warnings"], expected);
}

#[tokio::test]
async fn the_gate_goes_in_and_its_rate_comes_out() {
    let engine = Scripted::new(|_| {
        let usage = Usage {
            prompt_tokens: 7,
            completion_tokens: 4,
            gated: Some(3),
            agreement: Agreement { steps: 2, millionths: 1_500_000 },
            ..Usage::default()
        };
        let end = Step::Send(Event::Finished { reason: FinishReason::Stop, usage });
        Ok(vec![started(), text("well"), end])
    });
    let reply = post(app(&engine), &chat(json!({ "ensemble": { "gate": 0.5 } }))).await.json();
    assert_eq!(engine.seen()[0].fusion.gate, Some(0.5));
    assert_eq!(reply["ensemble"], json!({ "gate_rate": 0.75, "agreement": 0.75 }));
}
