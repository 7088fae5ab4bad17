//! Fields of the API that we know and do not serve.
//!
//! They are refused by name rather than ignored, unless their value asks for nothing. Fields
//! that change nothing about the answer (`user`, `metadata`, `prompt_cache_key`, ...) and fields
//! that nobody knows are not here: clients send them and mean no harm.

use serde_json::{Map, Value};

use crate::server::ApiError;

/// A field, and whether a value of it (never null) asks for nothing.
type Unserved = (&'static str, fn(&Value) -> bool);

const UNSERVED: &[Unserved] = &[
    ("tools", is_empty),
    ("tool_choice", is_idle_choice),
    ("functions", is_empty),
    ("function_call", is_idle_choice),
    ("logprobs", is_false),
    ("top_logprobs", is_zero),
    ("logit_bias", is_empty),
    ("frequency_penalty", is_zero),
    ("presence_penalty", is_zero),
    ("repetition_penalty", is_one),
    ("min_tokens", is_zero),
    ("ignore_eos", is_false),
    ("audio", never),
    ("modalities", is_text_only),
    ("prediction", never),
    ("web_search_options", never),
    ("reasoning_effort", is_none_word),
    ("verbosity", is_medium),
    ("store", is_false),
];

/// `fields` are those of a request that are served by nothing else.
pub(super) fn refuse(fields: &Map<String, Value>) -> Result<(), ApiError> {
    for (name, asks_nothing) in UNSERVED {
        match fields.get(*name) {
            None | Some(Value::Null) => {}
            Some(value) if asks_nothing(value) => {}
            Some(_) => {
                let reason = "is not served; leave it out or at its default";
                return Err(ApiError::unsupported(*name, reason));
            }
        }
    }
    Ok(())
}

fn never(_: &Value) -> bool {
    false
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
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

/// Without tools to call, both say that none is called.
fn is_idle_choice(value: &Value) -> bool {
    matches!(value.as_str(), Some("none" | "auto"))
}

fn is_text_only(value: &Value) -> bool {
    matches!(value.as_array().map(Vec::as_slice), Some([Value::String(kind)]) if kind == "text")
}

fn is_none_word(value: &Value) -> bool {
    value.as_str() == Some("none")
}

fn is_medium(value: &Value) -> bool {
    value.as_str() == Some("medium")
}
