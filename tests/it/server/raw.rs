//! Completions of raw texts, and the union's tokenizer.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tutti::engine::{
    Event, FinishReason, Logprobs, Prompt, Score, ScoredAlternative, ScoredPiece, UnionId, Vote,
};

use super::client::{Reply, app, get, send};
use crate::scripted::{Scripted, Step, finished, started};

async fn post_to(engine: &std::sync::Arc<Scripted>, path: &str, body: &Value) -> Reply {
    let request = Request::post(path).header("content-type", "application/json");
    send(app(engine), request.body(Body::from(body.to_string())).unwrap()).await
}

async fn complete(engine: &std::sync::Arc<Scripted>, fields: Value) -> Reply {
    let mut body = json!({ "model": "duet", "prompt": "Once" });
    let Value::Object(fields) = fields else { panic!("fields must be an object") };
    body.as_object_mut().unwrap().extend(fields);
    post_to(engine, "/v1/completions", &body).await
}

#[tokio::test]
async fn every_form_of_prompt_is_a_choice_each() {
    let ids = |ids: &[u32]| Prompt::Tokens(ids.iter().copied().map(UnionId).collect());
    let text = |text: &str| Prompt::Text(text.to_owned());
    for (prompt, expected) in [
        (json!("a"), vec![text("a")]),
        (json!(["a", "b"]), vec![text("a"), text("b")]),
        (json!([97, 98]), vec![ids(&[97, 98])]),
        (json!([[97], [98, 99]]), vec![ids(&[97]), ids(&[98, 99])]),
    ] {
        let engine = Scripted::saying(&[" upon"]);
        let body = complete(&engine, json!({ "prompt": prompt })).await.json();
        assert_eq!(body["object"], "text_completion");
        assert!(body["id"].as_str().unwrap().starts_with("cmpl-"));
        let choices = body["choices"].as_array().unwrap();
        assert_eq!(choices.len(), expected.len());
        for (index, choice) in choices.iter().enumerate() {
            assert_eq!((&choice["index"], &choice["text"]), (&json!(index), &json!(" upon")));
        }
        let seen: Vec<Prompt> = engine.seen().into_iter().map(|request| request.prompt).collect();
        assert_eq!(seen, expected);
        assert_eq!(engine.seen()[0].stop.max_tokens, Some(16), "as OpenAI's API has it");
        let prompts = expected.len();
        assert_eq!(body["usage"]["prompt_tokens"], json!(7 * prompts));
        assert_eq!(body["usage"]["completion_tokens"], json!(2 * prompts));
    }
}

#[tokio::test]
async fn prompts_that_are_none_are_refused() {
    for (prompt, code) in [
        (json!([]), "invalid_value"),
        (json!(5), "invalid_type"),
        (json!([1, "a"]), "invalid_type"),
        (json!([-1]), "invalid_type"),
        (Value::Null, "missing_required_parameter"),
    ] {
        let engine = Scripted::saying(&["must not be asked"]);
        let reply = complete(&engine, json!({ "prompt": prompt })).await;
        assert_eq!(reply.refusal(), (400, code.to_owned(), json!("prompt")), "{prompt}");
        assert!(engine.seen().is_empty());
    }
    let reply = complete(&Scripted::saying(&[]), json!({ "suffix": "x" })).await;
    assert_eq!(reply.refusal(), (400, "unsupported_parameter".to_owned(), json!("suffix")));
}

#[tokio::test]
async fn choices_of_one_prompt_have_seeds_of_their_own_and_the_prompt_counts_once() {
    let engine = Scripted::saying(&["x"]);
    let body = complete(&engine, json!({ "n": 3, "seed": 5 })).await.json();
    assert_eq!(body["choices"].as_array().unwrap().len(), 3);
    assert_eq!(body["usage"]["prompt_tokens"], 7);
    assert_eq!(body["usage"]["completion_tokens"], 6);
    let seeds: Vec<u64> = engine.seen().iter().map(|request| request.sampling.seed).collect();
    assert_eq!(seeds[0], 5);
    assert!(seeds[1] != 5 && seeds[2] != 5 && seeds[1] != seeds[2]);
}

#[tokio::test]
async fn streamed_choices_have_their_numbers() {
    let engine = Scripted::saying(&["on", "e"]);
    let fields = json!({
        "prompt": ["a", "b"], "n": 2, "echo": true, "stream": true,
        "stream_options": { "include_usage": true },
    });
    let stream = complete(&engine, fields).await.text;
    let chunks = stream.lines().filter_map(|line| line.strip_prefix("data: {"));
    let mut texts = vec![String::new(); 4];
    let mut reasons = 0;
    for chunk in chunks {
        let chunk: Value = serde_json::from_str(&format!("{{{chunk}")).unwrap();
        assert_eq!(chunk["object"], "text_completion");
        match chunk["choices"].as_array().unwrap().as_slice() {
            [] => assert_eq!(chunk["usage"]["prompt_tokens"], 14),
            choices => {
                let index = usize::try_from(choices[0]["index"].as_u64().unwrap()).unwrap();
                texts[index] += choices[0]["text"].as_str().unwrap();
                reasons += usize::from(choices[0]["finish_reason"] == "stop");
            }
        }
    }
    assert_eq!(texts, ["aone", "aone", "bone", "bone"]);
    assert_eq!(reasons, 4);
    assert!(stream.ends_with("data: [DONE]\n\n"));
}

pub(super) fn scored(byte: u8, logprob: Option<f32>) -> ScoredPiece {
    let top = vec![
        ScoredAlternative { id: UnionId(b'x'.into()), logprob: -0.25 },
        // The end comes after the 256 bytes.
        ScoredAlternative { id: UnionId(256), logprob: f32::NEG_INFINITY },
    ];
    let votes = vec![
        Vote { weight: 0.5, probability: Some(0.125) },
        Vote { weight: 0.5, probability: None },
    ];
    let score = Score { logprob, top, members: votes, ..Score::default() };
    ScoredPiece { id: UnionId(byte.into()), bytes: vec![byte], score }
}

pub(super) fn scoring() -> std::sync::Arc<Scripted> {
    Scripted::new(|request| {
        let told = request.logprobs.is_some_and(|logprobs| logprobs.prompt.is_some());
        let prompt = Event::Prompt { pieces: vec![scored(b'O', None), scored(b'n', Some(-1.1))] };
        let text = |text: &str| Event::Text {
            text: text.to_owned(),
            tokens: 1,
            pieces: text.bytes().map(|byte| scored(byte, Some(-0.5))).collect(),
        };
        let end = ScoredPiece { id: UnionId(256), bytes: Vec::new(), ..scored(0, Some(-2.5)) };
        let ended = Event::Text { text: String::new(), tokens: 1, pieces: vec![end] };
        let mut steps = vec![started()];
        steps.extend(told.then_some(Step::Send(prompt)));
        steps.extend([text("c"), text("e"), ended].map(Step::Send));
        steps.push(finished(FinishReason::Stop, 3));
        Ok(steps)
    })
}

#[tokio::test]
async fn echoed_prompts_have_their_log_probabilities_too() {
    let engine = scoring();
    let fields = json!({ "prompt": "On", "echo": true, "logprobs": 2, "max_tokens": 0 });
    let reply = complete(&engine, fields).await;
    let choice = reply.json()["choices"][0].take();
    assert_eq!(
        engine.seen()[0].logprobs,
        Some(Logprobs { top: 2, prompt: Some(0), ..Logprobs::default() })
    );
    assert_eq!(engine.seen()[0].stop.max_tokens, Some(0));
    assert_eq!(choice["text"], "Once");
    let logprobs = &choice["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["O", "n", "c", "e", ""]), "joined, they are the text");
    assert_eq!(logprobs["text_offset"], json!([0, 1, 2, 3, 4]));
    assert_eq!(logprobs["token_logprobs"], json!([null, -1.1, -0.5, -0.5, -2.5]));
    let top = json!({ "n": -1.1, "x": -0.25, "<|end|>": -9999.0 });
    assert_eq!(logprobs["top_logprobs"][0], Value::Null);
    assert_eq!(logprobs["top_logprobs"][1], top, "its own is among them");
    assert!(reply.text.contains(r#""top_logprobs":[null,{"n":-1.1,"x":-0.25,"#), "{}", reply.text);
    assert!(reply.text.contains(r#""token_logprobs":[null,-1.1,"#), "the same digits");
}

#[tokio::test]
async fn a_chats_tokens_have_bytes_alternatives_and_what_each_member_gave() {
    for stream in [false, true] {
        let engine = scoring();
        let body = json!({
            "model": "duet", "messages": [{ "role": "user", "content": "Hi" }], "stream": stream,
            "logprobs": true, "top_logprobs": 2, "ensemble": { "attribution": true },
        });
        let reply = post_to(&engine, "/v1/chat/completions", &body).await;
        let wanted = Logprobs { top: 2, members: true, ..Logprobs::default() };
        assert_eq!(engine.seen()[0].logprobs, Some(wanted));
        let told: Vec<Value> = if stream {
            let chunks = reply.text.lines().filter_map(|line| line.strip_prefix("data: {"));
            let chunks = chunks.map(|c| serde_json::from_str::<Value>(&format!("{{{c}")).unwrap());
            let contents = chunks.map(|c| c["choices"][0]["logprobs"]["content"].clone());
            contents.filter_map(|c| c.as_array().cloned()).flatten().collect()
        } else {
            let body = reply.json();
            body["choices"][0]["logprobs"]["content"].as_array().unwrap().clone()
        };
        let tokens: Vec<&Value> = told.iter().map(|token| &token["token"]).collect();
        assert_eq!(tokens, ["c", "e"], "the end is none of a chat's");
        let expected = json!({
            "token": "c", "logprob": -0.5, "bytes": [99],
            "top_logprobs": [
                { "token": "x", "logprob": -0.25, "bytes": [120] },
                { "token": "<|end|>", "logprob": -9999.0, "bytes": null },
            ],
            "members": [
                { "model": "alpha", "weight": 0.5, "probability": 0.125 },
                { "model": "beta", "weight": 0.5, "probability": null },
            ],
        });
        assert_eq!(told[0], expected);
    }
}

#[tokio::test]
async fn the_tokenizer_goes_both_ways() {
    let engine = Scripted::saying(&[]);
    let body = json!({ "prompt": "né", "add_special_tokens": false, "return_token_strs": true });
    let told = post_to(&engine, "/tokenize", &body).await.json();
    let expected = json!({
        "count": 3, "max_model_len": 2048, "tokens": [110, 195, 169],
        "token_strs": ["n", "bytes:\\xc3", "bytes:\\xa9"],
    });
    assert_eq!(told, expected);
    let back = post_to(&engine, "/detokenize", &json!({ "tokens": told["tokens"] })).await;
    assert_eq!(back.json(), json!({ "prompt": "né" }));
    let reply =
        post_to(&engine, "/detokenize", &json!({ "model": "alpha", "tokens": [999] })).await;
    assert_eq!(reply.status, 400);
    assert!(reply.message().contains("999"), "{}", reply.message());
    let reply = post_to(&engine, "/tokenize", &json!({ "model": "gamma", "prompt": "" })).await;
    assert_eq!(reply.refusal(), (404, "model_not_found".to_owned(), json!("model")));
}

#[tokio::test]
async fn the_end_of_text_is_a_token_by_its_name() {
    let engine = Scripted::saying(&[]);
    let info = get(app(&engine), "/tokenizer_info").await.json();
    assert_eq!((&info["vocab_size"], &info["eos_token_id"]), (&json!(257), &json!(256)));
    let told = post_to(&engine, "/tokenize", &json!({ "prompt": info["eos_token"] })).await.json();
    assert_eq!(told["tokens"], json!([256]));
}
