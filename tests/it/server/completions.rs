use std::sync::Arc;

use serde_json::{Value, json};
use tutti::{
    constrain::Constraint,
    engine::{EngineConfig, FinishReason, GenerateRequest, Prompt, StopConditions},
    sampling::SamplingParams,
    server::router,
    tokenizer::chat::Role,
};

use super::client::{app, chat, config, post};
use crate::{
    engine,
    scripted::{Scripted, finished, started, text},
};

/// The request that reaches the engine when `fields` are sent.
async fn reaching(fields: Value) -> GenerateRequest {
    let engine = Scripted::saying(&["ok"]);
    let reply = post(app(&engine), &chat(fields)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    engine.seen().pop().unwrap()
}

fn messages(request: &GenerateRequest) -> Vec<(Role, &str)> {
    let Prompt::Chat { messages, .. } = &request.prompt else { panic!("no chat") };
    messages.iter().map(|message| (message.role, message.content.as_str())).collect()
}

#[tokio::test]
async fn the_answer_is_openais_completion_object() {
    let engine = Scripted::saying(&["Hello", " ", "wörld ", "👋🏽", ""]);
    let reply = post(app(&engine), &chat(json!({}))).await;
    assert_eq!(reply.status, 200);
    let mut body = reply.json();
    let fields = body.as_object_mut().unwrap();
    let id = fields.remove("id").unwrap();
    assert!(id.as_str().unwrap().starts_with("chatcmpl-"), "{id}");
    assert!(fields.remove("created").unwrap().as_u64().unwrap() > 1_700_000_000);
    let expected = json!({
        "object": "chat.completion",
        "model": "duet",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": "Hello wörld 👋🏽", "refusal": null },
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 6, "total_tokens": 13 },
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn an_answer_cut_by_its_budget_says_length() {
    let engine =
        Scripted::new(|_| Ok(vec![started(), text("cut"), finished(FinishReason::Length, 1)]));
    let body = post(app(&engine), &chat(json!({ "max_tokens": 1 }))).await.json();
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(engine.seen()[0].stop.max_tokens, Some(1));
}

#[tokio::test]
async fn what_a_request_leaves_out_comes_from_the_config() {
    let request = reaching(json!({ "seed": 5 })).await;
    assert_eq!(request.model, "duet");
    assert_eq!(messages(&request), [(Role::User, "Hi")]);
    assert_eq!(request.sampling, SamplingParams { seed: 5, ..config().sampling });
    assert_eq!(request.stop.max_tokens, None);
    assert!(request.stop.strings.is_empty());
    assert_eq!(request.constraint, None);
}

#[tokio::test]
async fn nulls_are_as_left_out() {
    let fields = [
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "n",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "stream",
        "stream_options",
        "response_format",
        "tools",
        "tool_choice",
        "logprobs",
        "logit_bias",
        "frequency_penalty",
        "audio",
        "user",
    ];
    let mut nulls: Value = fields.iter().map(|&name| (name.to_owned(), Value::Null)).collect();
    nulls["seed"] = json!(5);
    let (with, without) = (reaching(nulls).await, reaching(json!({ "seed": 5 })).await);
    assert_eq!(format!("{with:?}"), format!("{without:?}"));
}

#[tokio::test]
async fn sampling_and_stop_fields_reach_the_engine() {
    let request = reaching(json!({
        "temperature": 0, "top_p": 0.25, "top_k": 3, "min_p": 0.5, "seed": -2,
        "max_completion_tokens": 9, "max_tokens": 9, "stop": ["\n\n", "END"],
    }))
    .await;
    let sampling = SamplingParams {
        temperature: 0.0,
        top_k: Some(3),
        top_p: 0.25,
        min_p: 0.5,
        seed: u64::MAX - 1,
    };
    assert_eq!(request.sampling, sampling);
    let StopConditions { max_tokens, strings, .. } = request.stop;
    assert_eq!((max_tokens, strings), (Some(9), vec!["\n\n".to_owned(), "END".to_owned()]));
}

#[tokio::test]
async fn the_ends_of_each_range_are_served() {
    for (fields, read) in [(json!({ "temperature": 2 }), 2.0), (json!({ "temperature": 0.0 }), 0.0)]
    {
        assert_eq!(reaching(fields).await.sampling.temperature, read);
    }
    assert_eq!(reaching(json!({ "top_p": 1 })).await.sampling.top_p, 1.0);
    assert!(reaching(json!({ "top_p": 1e-300 })).await.sampling.top_p > 0.0);
    assert_eq!(reaching(json!({ "min_p": 1 })).await.sampling.min_p, 1.0);
    assert_eq!(reaching(json!({ "seed": i64::MIN })).await.sampling.seed, 1 << 63);
    for off in [0, -1] {
        assert_eq!(reaching(json!({ "top_k": off })).await.sampling.top_k, None);
    }
    let sixteen: Vec<String> = (0..16).map(|i| i.to_string()).collect();
    assert_eq!(reaching(json!({ "stop": sixteen })).await.stop.strings.len(), 16);
    assert_eq!(reaching(json!({ "stop": "one" })).await.stop.strings, ["one"]);
    assert!(reaching(json!({ "stop": [] })).await.stop.strings.is_empty());
}

#[tokio::test]
async fn requests_without_a_seed_get_different_ones() {
    let (one, two) = (reaching(json!({})).await, reaching(json!({})).await);
    assert_ne!(one.sampling.seed, two.sampling.seed);
    assert_ne!(one.sampling.seed, config().sampling.seed);
}

#[tokio::test]
async fn messages_are_read_in_every_form() {
    let request = reaching(json!({ "messages": [
        { "role": "system", "content": "be brief" },
        { "role": "developer", "content": [{ "type": "text", "text": "be kind" }] },
        { "role": "user", "name": "ann", "content": [
            { "type": "text", "text": "a" }, { "type": "text", "text": "b" },
        ] },
        { "role": "assistant", "content": null, "refusal": null, "tool_calls": [] },
        { "role": "assistant", "tool_calls": null, "audio": null, "function_call": null },
        { "role": "user", "content": "" },
    ] }))
    .await;
    let expected = [
        (Role::System, "be brief"),
        (Role::System, "be kind"),
        (Role::User, "ab"),
        (Role::Assistant, ""),
        (Role::Assistant, ""),
        (Role::User, ""),
    ];
    assert_eq!(messages(&request), expected);
}

#[tokio::test]
async fn response_formats_are_constraints() {
    let schema = json!({ "type": "object", "properties": { "b": {}, "a": {} } });
    let mut closed = schema.clone();
    closed["additionalProperties"] = json!(false);
    let format = json!({
        "type": "json_schema",
        "json_schema": { "name": "x", "strict": true, "schema": schema },
    });
    for (format, expected) in [
        (json!({ "type": "text" }), None),
        (json!({ "type": "json_object" }), Some(json!({ "type": "object" }))),
        (format, Some(closed)),
    ] {
        let request = reaching(json!({ "response_format": format })).await;
        assert_eq!(request.constraint, expected.map(Constraint::JsonSchema));
    }
}

#[tokio::test]
async fn a_schema_is_closed_within_max_tokens_or_refused() {
    let app = router(Arc::new(engine::engine(EngineConfig::default())), config());
    let schema = json!({ "type": "array", "items": { "enum": [1, 2] }, "minItems": 3 });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
    for max_tokens in 1..20 {
        for name in ["max_tokens", "max_completion_tokens"] {
            let messages = json!([{ "role": "user", "content": "ab" }]);
            let fields = json!({
                name: max_tokens, "response_format": format, "model": "duo", "messages": messages,
            });
            let reply = post(app.clone(), &chat(fields)).await;
            if max_tokens < 7 {
                let expected = (400, "max_tokens_too_small".to_owned(), json!(name));
                assert_eq!(reply.refusal(), expected);
                assert!(reply.message().contains("needs 7"), "{}", reply.message());
                continue;
            }
            let choice = &reply.json()["choices"][0];
            assert_eq!(choice["finish_reason"], "stop");
            let content = choice["message"]["content"].as_str().unwrap();
            let items: Vec<u32> = serde_json::from_str(content).unwrap();
            assert!(items.len() >= 3 && items.iter().all(|&item| item < 3), "{content}");
        }
    }
}

#[tokio::test]
async fn more_texts_than_there_are_places_are_refused_and_not_put_off() {
    let engine = EngineConfig { max_sequences: 2, queue: 3, ..EngineConfig::default() };
    let app = router(Arc::new(engine::engine(engine)), config());
    let asking = |n: usize| {
        let body = chat(json!({ "n": n, "model": "duo", "max_tokens": 1,
            "messages": [{ "role": "user", "content": "ab" }] }));
        let app = app.clone();
        async move { post(app, &body).await }
    };
    assert_eq!(asking(5).await.json()["choices"].as_array().unwrap().len(), 5);
    let reply = asking(6).await;
    assert_eq!(reply.refusal(), (400, "invalid_value".to_owned(), json!("n")));
    assert!(reply.message().contains("at most 5"), "{}", reply.message());
}

#[tokio::test]
async fn other_constraints_have_the_names_of_other_servers() {
    let text = |text: &str| text.to_owned();
    for (fields, expected) in [
        (
            json!({ "response_format": { "type": "regex", "regex": "a+" } }),
            Constraint::Regex(text("a+")),
        ),
        (
            json!({ "response_format": { "type": "grammar", "grammar": "start: \"a\"" } }),
            Constraint::Grammar(text("start: \"a\"")),
        ),
        (
            json!({ "guided_json": { "type": "object" } }),
            Constraint::JsonSchema(json!({ "type": "object" })),
        ),
        (json!({ "guided_regex": "a+" }), Constraint::Regex(text("a+"))),
        (json!({ "guided_grammar": "start: \"a\"" }), Constraint::Grammar(text("start: \"a\""))),
        (json!({ "guided_choice": ["a", "b"] }), Constraint::Choice(vec![text("a"), text("b")])),
    ] {
        assert_eq!(reaching(fields).await.constraint, Some(expected));
    }
}

#[tokio::test]
async fn fields_that_ask_for_nothing_are_accepted() {
    reaching(json!({
        "n": 1, "tools": [], "tool_choice": "none", "functions": [], "function_call": "auto",
        "parallel_tool_calls": true, "logprobs": false, "top_logprobs": 0, "logit_bias": {},
        "frequency_penalty": 0, "presence_penalty": 0.0, "repetition_penalty": 1.0,
        "modalities": ["text"], "store": false, "metadata": { "a": "b" }, "user": "ann",
        "service_tier": "auto", "safety_identifier": "s",
        "min_tokens": 0, "ignore_eos": false, "verbosity": "medium", "reasoning_effort": "none",
        "ensemble": {},
    }))
    .await;
}

#[tokio::test]
async fn a_content_type_may_have_parameters() {
    let engine = Scripted::saying(&["ok"]);
    let mut request = super::client::post_request(chat(json!({})).to_string());
    let value = "Application/JSON; charset=utf-8".parse().unwrap();
    request.headers_mut().insert("content-type", value);
    assert_eq!(super::client::send(app(&engine), request).await.status, 200);
}

#[tokio::test]
async fn thirty_two_requests_at_once_get_their_own_answers() {
    let engine = Scripted::new(|request| {
        let Prompt::Chat { messages, .. } = &request.prompt else { panic!("no chat") };
        Ok(vec![
            started(),
            text("re: "),
            text(&messages[0].content),
            finished(FinishReason::Stop, 3),
        ])
    });
    let router = app(&engine);
    let replies = futures::future::join_all((0..32).map(|i| {
        let router = router.clone();
        async move {
            let question = json!({ "messages": [{ "role": "user", "content": format!("q{i}") }] });
            post(router, &chat(question)).await.json()
        }
    }))
    .await;
    for (i, reply) in replies.iter().enumerate() {
        assert_eq!(reply["choices"][0]["message"]["content"], format!("re: q{i}"));
    }
}

#[tokio::test]
async fn fields_that_nothing_reads_are_named_in_a_header() {
    let engine = Scripted::saying(&["ok"]);
    let fields = json!({
        "reasoning_effort": "high", "something_of_another_server": [1, { "deep": true }],
        "prompt_cache_key": "k", "user": "ann", "nothing": null, "odd, name": 1,
    });
    let reply = post(app(&engine), &chat(fields)).await;
    assert_eq!(reply.status, 200);
    let named = reply.headers["x-ignored-params"].to_str().unwrap();
    let expected = "reasoning_effort, something_of_another_server, prompt_cache_key, odd%2C%20name";
    assert_eq!(named, expected);
    let plain = post(app(&engine), &chat(json!({ "user": "ann" }))).await;
    assert!(!plain.headers.contains_key("x-ignored-params"));
}

#[tokio::test]
async fn fields_inside_others_that_nothing_reads_are_named_with_their_place() {
    let engine = Scripted::saying(&["ok"]);
    let fields = json!({
        "messages": [
            { "role": "user", "content": [{ "type": "text", "text": "Hi", "cache_control": {} }] },
            { "role": "assistant", "content": "Ho", "refusal": null, "annotations": [],
              "reasoning_content": "Hm" },
            { "role": "user", "content": "?" },
        ],
        "tools": [{ "type": "function", "function": { "name": "f", "strict": true, "x": 1 } }],
        "tool_choice": { "type": "function", "function": { "name": "f", "y": 1 }, "z": null },
        "stream": true, "stream_options": { "include_usage": true, "pace": 5 },
        "user": { "not": "read" },
    });
    let reply = post(app(&engine), &chat(fields.clone())).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let expected = "stream_options.pace, messages[0].content[0].cache_control, \
                    messages[1].reasoning_content, tools[0].function.x, tool_choice.function.y";
    assert_eq!(reply.headers["x-ignored-params"], expected);

    let free = json!({ "tools": fields["tools"] });
    let reply = post(app(&engine), &chat(free)).await;
    let expected = "tools[0].function.x, tools[0].function.strict";
    assert_eq!(reply.headers["x-ignored-params"], expected, "nothing holds a free call to it");
    let schema = json!({ "name": "n", "strict": true, "schema": {}, "colour": "red" });
    let format = json!({ "type": "json_schema", "json_schema": schema });
    let reply = post(app(&engine), &chat(json!({ "response_format": format }))).await;
    assert_eq!(reply.headers["x-ignored-params"], "response_format.json_schema.colour");
}

#[tokio::test]
async fn a_strict_server_refuses_fields_that_nothing_reads() {
    let engine = Scripted::saying(&["must not be asked"]);
    let strict = tutti::server::ServerConfig { strict_params: true, ..config() };
    let router = tutti::server::router(std::sync::Arc::clone(&engine) as _, strict);
    let reply = post(router, &chat(json!({ "logit_bais": {} }))).await;
    let expected = (400, "unsupported_parameter".to_owned(), json!("logit_bais"));
    assert_eq!(reply.refusal(), expected);
    let strict = tutti::server::ServerConfig { strict_params: true, ..config() };
    let router = tutti::server::router(std::sync::Arc::clone(&engine) as _, strict);
    let message = json!({ "role": "user", "content": "Hi", "colour": "red" });
    let reply = post(router, &chat(json!({ "messages": [message] }))).await;
    let expected = (400, "unsupported_parameter".to_owned(), json!("messages[0].colour"));
    assert_eq!(reply.refusal(), expected);
    assert!(engine.seen().is_empty());
}

#[tokio::test]
async fn penalties_bias_and_bounds_reach_the_engine() {
    let request = reaching(json!({
        "frequency_penalty": -0.5, "presence_penalty": 2, "repetition_penalty": 1.25,
        "logit_bias": { "7": -100, "3": 1.5 }, "min_tokens": 2, "max_tokens": 5,
        "ignore_eos": true,
    }))
    .await;
    let bias = vec![(tutti::engine::UnionId(3), 1.5), (tutti::engine::UnionId(7), -100.0)];
    let expected =
        tutti::sampling::Penalties { frequency: -0.5, presence: 2.0, repetition: 1.25, bias };
    let mut told = request.penalties;
    told.bias.sort_by_key(|(id, _)| id.0);
    assert_eq!(told, expected);
    assert_eq!((request.stop.min_tokens, request.stop.ignore_end), (2, true));
}
