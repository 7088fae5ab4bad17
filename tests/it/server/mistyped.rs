//! Values of another type than a field's: named, with what would do, in JSON's words.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tutti::{report::runs::Runs, server::router};

use super::client::{CHAT, Reply, chat, config, send};
use crate::scripted::Scripted;

const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const REPORTS: &str = "/v1/reports";

async fn ask(path: &str, body: &Value) -> Reply {
    let engine = Scripted::saying(&["must not be asked"]);
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.reports = Some(Runs::open(folder.path()).unwrap());
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let reply = send(router(engine.clone(), config), request).await;
    assert!(engine.seen().is_empty(), "{body} reached the engine");
    reply
}

/// The smallest request, and one field over it, which may stand inside others.
fn asking(path: &str, field: &str, value: &Value) -> Value {
    let mut body = match path {
        CHAT => chat(json!({})),
        COMPLETIONS => json!({ "model": "duet", "prompt": "a" }),
        RESPONSES => json!({ "model": "duet", "input": "a" }),
        REPORTS => json!({ "model": "duet", "topic": "a" }),
        _ => json!({}),
    };
    let (outer, inner) = field.split_once('.').unwrap_or((field, ""));
    body[outer] = if inner.is_empty() { value.clone() } else { json!({ inner: value }) };
    body
}

/// A field, a value that it cannot have, and what it must be.
type Case = (&'static str, Value, &'static str);

/// Those that three endpoints have.
fn common() -> Vec<Case> {
    let whole = "a whole number, not a string";
    let number = "a number, not a string";
    let stop = "a string or a list of strings, not 5";
    vec![
        ("model", json!(7), "a string, not 7"),
        ("temperature", json!("hot"), number),
        ("top_p", json!("x"), number),
        ("top_k", json!("x"), whole),
        ("top_k", json!(1.5), "a whole number, not 1.5"),
        ("min_p", json!([]), "a number, not a list"),
        ("seed", json!("x"), whole),
        ("seed", json!(u64::MAX), "between -2^63 and 2^63 - 1, not 18446744073709551615"),
        ("n", json!(true), "a whole number, not true"),
        ("max_tokens", json!("x"), whole),
        ("max_tokens", json!(1e30), "a whole number, not 1e+30"),
        ("min_tokens", json!({}), "a whole number, not an object"),
        ("ignore_eos", json!("yes"), "true or false, not a string"),
        ("stop", json!(5), stop),
        ("stop", json!([5]), "a string, not 5"),
        ("frequency_penalty", json!("x"), number),
        ("presence_penalty", json!("x"), number),
        ("repetition_penalty", json!("x"), number),
        ("logit_bias", json!([1]), "an object, not a list"),
        ("logit_bias.5", json!("x"), number),
        ("stream", json!(1), "true or false, not 1"),
        ("stream_options", json!("x"), "an object, not a string"),
        ("stream_options.include_usage", json!(3), "true or false, not 3"),
        ("guided_regex", json!(["a"]), "a string, not a list"),
        ("guided_grammar", json!(1), "a string, not 1"),
        ("guided_choice", json!("a"), "a list, not a string"),
        ("ensemble", json!([]), "an object, not a list"),
        ("ensemble.members", json!("a"), "a list, not a string"),
        ("ensemble.weights", json!(5), "fixed, prompt, online, a list of numbers"),
        ("ensemble.rule", json!(5), "a string, not 5"),
        ("ensemble.floor", json!("x"), number),
        ("ensemble.gate", json!("x"), number),
        ("ensemble.attribution", json!("x"), "true or false, not a string"),
    ]
}

fn own() -> Vec<(&'static str, Vec<Case>)> {
    let list = "a list, not a string";
    let whole = "a whole number, not a string";
    let object = "an object, not a string";
    let part = "a string or a list of content parts";
    let chats = vec![
        ("messages", json!("Hi"), list),
        ("messages", json!([5]), "an object, not 5"),
        ("messages", json!([{ "role": 5 }]), "a string, not 5"),
        ("messages", json!([{ "role": "user", "content": 5 }]), part),
        ("max_completion_tokens", json!("x"), whole),
        ("response_format", json!("json"), object),
        ("response_format.type", json!(5), "a string, not 5"),
        ("logprobs", json!(5), "true or false, not 5"),
        ("top_logprobs", json!("x"), whole),
        ("tools", json!("x"), list),
        ("tools", json!(["x"]), object),
        ("tool_choice", json!(5), "a word or an object that names a function, not 5"),
        ("parallel_tool_calls", json!("x"), "true or false, not a string"),
        ("chat_template_kwargs", json!("x"), object),
    ];
    let completions = vec![
        ("prompt", json!(5), "a string, a list of strings, a list of token ids"),
        ("echo", json!("x"), "true or false, not a string"),
        ("logprobs", json!(true), "a whole number, not true"),
    ];
    let responses = vec![
        ("input", json!(5), "a string or a list of items, not 5"),
        ("input", json!([{ "role": "user", "content": 5 }]), part),
        ("instructions", json!(5), "a string, not 5"),
        ("max_output_tokens", json!("x"), whole),
        ("text", json!("x"), object),
        ("text.format", json!("x"), object),
        ("tools", json!("x"), list),
        ("tools", json!([{ "type": "function", "name": 5 }]), "a string, not 5"),
        ("tool_choice", json!(5), "a word or an object that names a function, not 5"),
    ];
    let reports = vec![
        ("topic", json!(5), "a string, not 5"),
        ("sections", json!(-1), "a whole number from 0 up, not -1"),
        ("plan", json!("x"), object),
        ("max_tokens", json!("x"), "a whole number from 0 up, not a string"),
        ("temperature", json!("x"), "a number, not a string"),
        ("seed", json!(-1), "a whole number from 0 up, not -1"),
        ("stream", json!("x"), "true or false, not a string"),
    ];
    let tokenize = vec![("prompt", json!(5), "a string, not 5"), ("model", json!(5), "a string")];
    let too_large = "a whole number from 0 to 4294967295, not 4294967296";
    let detokenize =
        vec![("tokens", json!("x"), list), ("tokens", json!([u64::from(u32::MAX) + 1]), too_large)];
    vec![
        (CHAT, [common(), chats].concat()),
        (COMPLETIONS, [common(), completions].concat()),
        (RESPONSES, [common(), responses].concat()),
        (REPORTS, reports),
        ("/tokenize", tokenize),
        ("/detokenize", detokenize),
    ]
}

#[tokio::test]
async fn a_value_of_another_type_is_named_with_what_the_field_must_be() {
    for (path, cases) in own() {
        for (field, value, expected) in cases {
            let reply = ask(path, &asking(path, field, &value)).await;
            let (status, code, param) = reply.refusal();
            assert_eq!((status, code.as_str()), (400, "invalid_type"), "{path} {field} {value}");
            let param = param.as_str().unwrap();
            assert!(param.starts_with(field), "{path} {field} {value}: {param}");
            let message = reply.message();
            let wanted = format!("`{param}` must be {expected}");
            assert!(message.starts_with(&wanted), "{path}: {message}, not {wanted}");
        }
    }
}

#[tokio::test]
async fn the_place_of_a_value_is_told_to_the_item() {
    for (path, field, value, place) in [
        (CHAT, "messages", json!([{ "role": 5 }]), "messages[0].role"),
        (CHAT, "tools", json!(["x"]), "tools[0]"),
        (CHAT, "logit_bias.5", json!("x"), "logit_bias.5"),
        (RESPONSES, "tools", json!([{ "type": "function", "name": 5 }]), "tools[0].name"),
        ("/detokenize", "tokens", json!([1, "x"]), "tokens[1]"),
    ] {
        let reply = ask(path, &asking(path, field, &value)).await;
        assert_eq!(reply.refusal().2, place, "{}", reply.text);
    }
}

#[tokio::test]
async fn a_body_that_is_no_object_is_told_so() {
    for (body, found) in [(json!([1]), "a list"), (json!("x"), "a string"), (json!(5), "5")] {
        let reply = ask(CHAT, &body).await;
        assert_eq!(reply.refusal(), (400, "invalid_type".to_owned(), Value::Null), "{body}");
        assert_eq!(reply.message(), format!("the body must be an object, not {found}"));
    }
}

#[tokio::test]
async fn a_field_that_an_object_does_not_have_is_named_with_those_it_has() {
    let reply = ask(CHAT, &chat(json!({ "ensemble": { "gates": 1 } }))).await;
    let expected = (400, "unsupported_parameter".to_owned(), json!("ensemble.gates"));
    assert_eq!(reply.refusal(), expected, "{}", reply.text);
    assert!(reply.message().contains("`gate`"), "{}", reply.message());
}
