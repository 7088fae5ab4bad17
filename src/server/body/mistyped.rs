//! What is wrong with a value that a wire type cannot be read from, in JSON's words instead of
//! those of this server's types.

use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::server::ApiError;

/// `message` is serde's about the value at `path` inside the body.
pub(super) fn refusal(body: Option<&Value>, path: &Path, message: &str) -> ApiError {
    let step = |value, segment: &Segment| inside(value, segment);
    let found = body.and_then(|body| path.iter().try_fold(body, step));
    let path = path.to_string();
    let param = if path == "." { String::new() } else { path };
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    if let Some(name) = message.strip_prefix("missing field ") {
        let name = name.trim_matches('`');
        let dot = if param.is_empty() { "" } else { "." };
        return ApiError::missing(format!("{param}{dot}{name}"));
    }
    // The path goes to the field itself.
    if let Some(known) = message.strip_prefix("unknown field ") {
        let known = known.split_once(", expected ").map_or("none", |(_, known)| known);
        let known = known.strip_prefix("one of ").unwrap_or(known);
        return ApiError::unsupported(param, format!("is no field of this; there are {known}"));
    }
    let expected = match message.split_once(", expected ") {
        Some((_, expected)) if message.starts_with("invalid ") => Some(expected),
        // The words that a type of our own has for it.
        _ => message.strip_prefix("expected "),
    };
    let reason = match expected {
        Some(expected) => {
            let not = found.map_or_else(String::new, |found| format!(", not {}", shown(found)));
            format!("must be {}{not}", json_type(expected, found))
        }
        None => format!("cannot be read: {message}"),
    };
    ApiError::WrongType { param: Some(param).filter(|param| !param.is_empty()), reason }
}

fn inside<'v>(value: &'v Value, segment: &Segment) -> Option<&'v Value> {
    match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// What serde calls `expected`.
fn json_type<'e>(expected: &'e str, found: Option<&Value>) -> &'e str {
    let is_whole = found.is_some_and(|found| found.is_i64() || found.is_u64());
    match expected {
        "f32" | "f64" => "a number",
        // Whole, but not one of those.
        "i64" if is_whole => "between -2^63 and 2^63 - 1",
        "i64" => "a whole number",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0 up",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// Numbers as they are; a text may be long, and its sender knows it.
pub(super) fn shown(found: &Value) -> String {
    match found {
        Value::Null | Value::Bool(_) | Value::Number(_) => found.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
