//! The same seeded request gives the same bytes and the same log-probabilities, whatever else the
//! server does and however the answer is sent.

use std::{num::NonZeroUsize, sync::Arc};

use axum::{Router, body::Body, http::Request};
use futures::future::join_all;
use serde_json::{Value, json};
use tutti::{
    engine::{Engine, EngineConfig},
    ensemble::{Ensemble, LoadedModel, Member, load_model},
    model::{Decoder, Device, Pool},
    server::router,
};

use super::client::{CHAT, config, send};
use crate::{
    engine, real,
    tiny::{LLAMA, Tiny},
};

const COMPLETIONS: &str = "/v1/completions";

fn served(members: Vec<Member>) -> Router {
    let models = vec![("duet".to_owned(), Arc::new(Ensemble::new(members)))];
    // Texts wait for each other, and prompts are read in several steps.
    let limits = EngineConfig { max_sequences: 7, prefill_chunk: 9, ..EngineConfig::default() };
    router(Arc::new(Engine::start(models, limits).unwrap()), config())
}

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap())
}

/// Two decoders of random weights, whose vocabularies differ.
fn toys(threads: usize) -> Router {
    let pool = pool(threads);
    let member = |name: &str, large| {
        let (_file, gguf) = Tiny::new(&LLAMA).write();
        let model = Arc::new(Decoder::from_gguf(&gguf, &pool).unwrap());
        Member::new(name.to_owned(), model, engine::tokenizer(large), 0.5)
    };
    served(vec![member("small", false), member("large", true)])
}

/// What must not change of an answer: its text, what is told of each piece, and why it ended.
type Told = (String, Vec<Value>, Value);

fn take(choice: &Value, told: &mut Told) {
    let texts = [&choice["text"], &choice["message"]["content"], &choice["delta"]["content"]];
    texts.iter().filter_map(|text| text.as_str()).for_each(|text| told.0 += text);
    match &choice["logprobs"] {
        Value::Null => {}
        chat if chat["content"].is_array() => {
            told.1.extend(chat["content"].as_array().unwrap().iter().cloned());
        }
        lists => {
            let count = lists["tokens"].as_array().unwrap().len();
            told.1.extend((0..count).map(|at| {
                let of = |list: &str| lists[list][at].clone();
                json!([of("tokens"), of("token_logprobs"), of("top_logprobs"), of("members")])
            }));
        }
    }
    if !choice["finish_reason"].is_null() {
        told.2 = choice["finish_reason"].clone();
    }
}

async fn ask(app: &Router, (path, body): &(&'static str, Value), stream: bool) -> Told {
    let mut body = body.clone();
    body["stream"] = json!(stream);
    let request = Request::post(*path).header("content-type", "application/json");
    let reply = send(app.clone(), request.body(Body::from(body.to_string())).unwrap()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let mut told = Told::default();
    if stream {
        for chunk in reply.text.lines().filter_map(|line| line.strip_prefix("data: {")) {
            let chunk: Value = serde_json::from_str(&format!("{{{chunk}")).unwrap();
            take(&chunk["choices"][0], &mut told);
        }
    } else {
        take(&reply.json()["choices"][0], &mut told);
    }
    assert!(!told.1.is_empty() && told.2.is_string(), "{}", reply.text);
    told
}

/// A chat, and a completion that tells of its prompt too.
fn watched(prompt: &str, max_tokens: usize) -> [(&'static str, Value); 2] {
    let common = |own: Value| {
        let mut body = json!({
            "model": "duet", "seed": 11, "temperature": 0.9, "max_tokens": max_tokens,
            "frequency_penalty": 0.5, "ignore_eos": true, "ensemble": { "attribution": true },
        });
        body.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        body
    };
    let messages = json!([{ "role": "user", "content": prompt }]);
    let chat = json!({ "messages": messages, "logprobs": true, "top_logprobs": 5 });
    let completion = json!({ "prompt": prompt, "echo": true, "logprobs": 5 });
    [(CHAT, common(chat)), (COMPLETIONS, common(completion))]
}

/// Requests of all sorts, of which some begin like `prompt`.
fn others(prompt: &str, count: usize, max_tokens: usize) -> Vec<(&'static str, Value)> {
    let other = |index: usize| {
        let mut body = watched(prompt, 1 + index * max_tokens / count)[index % 2].clone();
        body.1["seed"] = json!(index);
        if index.is_multiple_of(3) {
            let text = prompt[index % 8..].to_owned();
            match body.0 {
                CHAT => body.1["messages"][0]["content"] = json!(text),
                _ => body.1["prompt"] = json!(text),
            }
        }
        if index % 4 == 1 {
            body.1["ensemble"]["gate"] = json!(0.2);
        }
        body
    };
    (0..count).map(other).collect()
}

fn assert_alike(one: &Told, other: &Told, case: &str) {
    assert_eq!((&one.0, &one.2), (&other.0, &other.2), "{case}");
    assert_eq!(one.1.len(), other.1.len(), "{case}");
    for (at, (one, other)) in one.1.iter().zip(&other.1).enumerate() {
        assert_eq!(one, other, "piece {at}, {case}");
    }
}

/// Asks alone, then among `others` that come before and after it, streamed and not.
async fn assert_told_alike(
    app: &Router,
    expected: &mut Vec<Told>,
    watched: &[(&'static str, Value)],
    others: &[(&'static str, Value)],
) {
    for (index, request) in watched.iter().enumerate() {
        for stream in [false, true] {
            let alone = ask(app, request, stream).await;
            if expected.len() == index {
                expected.push(alone.clone());
            }
            assert_alike(&alone, &expected[index], &format!("alone, streamed: {stream}"));
        }
        let crowd = async |some: &[(&'static str, Value)]| {
            let asked = some.iter().enumerate();
            join_all(asked.map(|(at, other)| ask(app, other, at.is_multiple_of(2)))).await
        };
        let (before, after) = others.split_at(others.len() / 2);
        let (own, streamed) = (ask(app, request, false), ask(app, request, true));
        let (_, own, streamed, _) = futures::join!(crowd(before), own, streamed, crowd(after));
        assert_alike(&own, &expected[index], "among others");
        assert_alike(&streamed, &expected[index], "among others, streamed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seeded_request_says_the_same_alone_among_32_others_streamed_or_not_on_any_threads() {
    let prompt = "ab a1,2 [bc] abc ab a1,2 [bc] abc";
    let (watched, others) = (watched(prompt, 20), others(prompt, 32, 5));
    let mut expected = Vec::new();
    for threads in [1, 2] {
        assert_told_alike(&toys(threads), &mut expected, &watched, &others).await;
    }
    assert!(expected[0].0.chars().count() > 12, "{:?}", expected[0].0);
    assert!(expected[1].0.starts_with(prompt));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_models_say_the_same_alone_among_others_streamed_or_not_on_any_threads() {
    let prompt = "A duet is a piece of music for two performers";
    let (watched, others) = (watched(prompt, 12), others(prompt, 5, 12));
    let mut expected = Vec::new();
    for threads in [1, 2] {
        let pool = pool(threads);
        let member = |name: &str, path| {
            let loaded = load_model(path, &pool, &Device::default()).unwrap();
            let LoadedModel { model, tokenizer, .. } = loaded;
            Member::new(name.to_owned(), model, tokenizer, 0.5)
        };
        let members = vec![member("smollm2", &real::smollm2()), member("qwen", &real::qwen())];
        assert_told_alike(&served(members), &mut expected, &watched[..1], &others).await;
    }
}
