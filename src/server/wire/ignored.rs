//! Fields that nothing reads: unknown ones, and those of the API that are not served.
//!
//! What would ask for another kind of answer is refused by name; what only hints at how to make it
//! is named in a header and ignored.

use axum::http::HeaderValue;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::server::{
    ApiError,
    body::{JsonBody, Place},
};

/// A field by the keys that lead to it, and whether a value of it (never null) asks for nothing.
type Known = (&'static str, fn(&Value) -> bool);

/// Refused unless they ask for nothing.
const REFUSED: &[Known] = &[
    ("functions", is_empty),
    ("function_call", is_idle_choice),
    ("audio", never),
    ("modalities", is_text_only),
    ("web_search_options", never),
    ("suffix", is_empty),
    ("best_of", is_one),
    ("background", is_false),
    ("conversation", never),
    ("previous_response_id", never),
    ("prompt", never),
];

/// Ignored, and not named where they ask for what is done anyway.
const IGNORED: &[Known] = &[
    ("store", is_false),
    ("service_tier", is_usual),
    ("reasoning_effort", is_usual),
    ("verbosity", is_usual),
    ("truncation", is_usual),
    ("top_logprobs", is_zero),
    ("add_special_tokens", is_false),
    ("stream_options.include_obfuscation", is_false),
    ("text.verbosity", is_usual),
    // What is held to a schema is held to it strictly.
    ("response_format.json_schema.strict", always),
    // Of answers that were sent back.
    ("messages.refusal", is_empty),
    ("messages.annotations", is_empty),
    ("messages.tool_calls.index", always),
    ("input.content.annotations", is_empty),
    ("input.content.logprobs", always),
    ("input.id", always),
    ("input.status", always),
    // About the caller, for the caller's own books.
    ("user", always),
    ("metadata", always),
    ("safety_identifier", always),
    ("response_format.json_schema.name", always),
    ("response_format.json_schema.description", always),
    ("text.format.description", always),
];

/// A body that is one type, and the names of the fields that nothing reads.
pub(in crate::server) fn read<T: DeserializeOwned>(
    body: &JsonBody,
) -> Result<(T, Vec<String>), ApiError> {
    let (read, unread) = body.parse()?;
    Ok((read, ignored(body, &unread)?))
}

/// The names of the fields that nothing reads, of those that ask for something.
pub(super) fn ignored(body: &JsonBody, unread: &[Place]) -> Result<Vec<String>, ApiError> {
    if unread.is_empty() {
        return Ok(Vec::new());
    }
    told(&body.value()?, unread)
}

fn told(body: &Value, unread: &[Place]) -> Result<Vec<String>, ApiError> {
    let mut names = Vec::new();
    let found = unread.iter().filter_map(|place| Some((place, place.find(body)?)));
    for (place, value) in found.filter(|(_, value)| !value.is_null()) {
        let keys = place.keys();
        let known = |table: &[Known]| table.iter().find(|(known, _)| *known == keys).copied();
        if let Some((_, asks_nothing)) = known(REFUSED) {
            if !asks_nothing(value) {
                let reason = "is not served; leave it out or at its default";
                return Err(ApiError::unsupported(place.to_string(), reason));
            }
        } else if !known(IGNORED).is_some_and(|(_, asks_nothing)| asks_nothing(value)) {
            names.push(place.to_string());
        }
    }
    Ok(names)
}

/// The longest list that is sent: clients and proxies limit their headers.
const LONGEST: usize = 1024;

/// Names as a header has them, between commas. What cannot stand there is percent-encoded.
pub(in crate::server) fn header(names: &[String]) -> Option<HeaderValue> {
    let mut list = String::new();
    for name in names {
        let separator = if list.is_empty() { "" } else { ", " };
        let name: String = name.bytes().map(in_header).collect();
        if list.len() + name.len() > LONGEST {
            list.push_str(separator);
            list.push_str("...");
            break;
        }
        list = list + separator + &name;
    }
    HeaderValue::from_str(&list).ok().filter(|value| !value.is_empty())
}

fn in_header(byte: u8) -> String {
    if byte.is_ascii_graphic() && byte != b',' && byte != b'%' {
        char::from(byte).into()
    } else {
        format!("%{byte:02X}")
    }
}

fn never(_: &Value) -> bool {
    false
}

fn always(_: &Value) -> bool {
    true
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

/// Without functions to call, both say that none is called.
fn is_idle_choice(value: &Value) -> bool {
    matches!(value.as_str(), Some("none" | "auto"))
}

fn is_text_only(value: &Value) -> bool {
    matches!(value.as_array().map(Vec::as_slice), Some([Value::String(kind)]) if kind == "text")
}

fn is_usual(value: &Value) -> bool {
    matches!(value.as_str(), Some("none" | "auto" | "default" | "medium" | "disabled"))
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn names_are_made_fit_for_a_header() {
        let names = ["a", "b c", "é,%"].map(str::to_owned);
        assert_eq!(header(&names).unwrap(), "a, b%20c, %C3%A9%2C%25");
        assert!(header(&[]).is_none());
        let long = vec!["x".repeat(600), "y".repeat(600)];
        assert!(header(&long).unwrap().to_str().unwrap().ends_with(", ..."));
    }
}
