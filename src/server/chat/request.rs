//! The request on the wire, and its check into a [`GenerateRequest`].

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ensemble::WireEnsemble, message::WireMessage, unserved};
use crate::{
    constrain::Constraint,
    engine::{GenerateRequest, Prompt, StopConditions},
    sampling::SamplingParams,
    server::ApiError,
    tokenizer::chat::Message,
};

/// OpenAI allows 4 and clients of other servers send more.
const MAX_STOP_STRINGS: usize = 16;

/// The body of `POST /v1/chat/completions`. A field that is null is as one left out.
#[derive(Clone, Debug, Deserialize)]
pub struct ChatCompletionRequest {
    model: Option<String>,
    messages: Option<Vec<WireMessage>>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    seed: Option<i64>,
    n: Option<i64>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    stop: Option<Stop>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    response_format: Option<ResponseFormat>,
    ensemble: Option<WireEnsemble>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What is asked of the engine, and how the answer is to be sent.
#[derive(Clone, Debug)]
pub struct CheckedRequest {
    pub generate: GenerateRequest,
    /// `None` sends the answer in one piece.
    pub stream: Option<StreamOptions>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct StreamOptions {
    /// One more chunk, with the usage and without choices, before the end.
    #[serde(default)]
    pub include_usage: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<JsonSchemaFormat>,
}

#[derive(Clone, Debug, Deserialize)]
struct JsonSchemaFormat {
    schema: Option<Value>,
}

impl ChatCompletionRequest {
    /// Checks everything that can be checked without the models. `defaults` fills what the
    /// request leaves out, the seed included.
    pub fn validate(self, defaults: SamplingParams) -> Result<CheckedRequest, ApiError> {
        unserved::refuse(&self.rest)?;
        if self.n.is_some_and(|n| n != 1) {
            return Err(ApiError::unsupported("n", "must be 1: one choice a request is served"));
        }
        let sampling = self.sampling(defaults)?;
        let max_tokens = self.max_tokens()?;
        let stream = self.stream()?;
        let strings = stop_strings(self.stop)?;
        let constraint = self.response_format.map_or(Ok(None), constraint)?;
        let fusion = self.ensemble.unwrap_or_default().check()?;
        let messages = check_messages(self.messages)?;
        let generate = GenerateRequest {
            model: self.model.ok_or(ApiError::Missing { param: "model" })?,
            prompt: Prompt::Chat(messages),
            sampling,
            stop: StopConditions { max_tokens, strings },
            constraint,
            fusion,
        };
        Ok(CheckedRequest { generate, stream })
    }

    fn sampling(&self, defaults: SamplingParams) -> Result<SamplingParams, ApiError> {
        let mut sampling = defaults;
        if let Some(value) = self.temperature {
            sampling.temperature = within("temperature", value, 0.0, 2.0)?;
        }
        if let Some(value) = self.top_p {
            if value <= 0.0 {
                let reason = format!("is {value}; it must be greater than 0 and at most 1");
                return Err(ApiError::invalid("top_p", reason));
            }
            // What is smaller than an f32 can be still keeps one piece, as it would in f64.
            sampling.top_p = within("top_p", value, 0.0, 1.0)?.max(f32::MIN_POSITIVE);
        }
        if let Some(value) = self.min_p {
            sampling.min_p = within("min_p", value, 0.0, 1.0)?;
        }
        if let Some(value) = self.top_k {
            sampling.top_k = top_k(value)?;
        }
        if let Some(seed) = self.seed {
            sampling.seed = seed.cast_unsigned();
        }
        Ok(sampling)
    }

    fn max_tokens(&self) -> Result<Option<usize>, ApiError> {
        let old = self.max_tokens.map(|value| at_least_one("max_tokens", value)).transpose()?;
        let new = self
            .max_completion_tokens
            .map(|value| at_least_one("max_completion_tokens", value))
            .transpose()?;
        match (old, new) {
            (Some(old), Some(new)) if old != new => Err(ApiError::invalid(
                "max_completion_tokens",
                format!("is {new} but `max_tokens` is {old}; send one of them"),
            )),
            _ => Ok(new.or(old)),
        }
    }

    fn stream(&self) -> Result<Option<StreamOptions>, ApiError> {
        match (self.stream.unwrap_or(false), self.stream_options) {
            (true, options) => Ok(Some(options.unwrap_or_default())),
            (false, None) => Ok(None),
            (false, Some(_)) => {
                Err(ApiError::invalid("stream_options", "is only allowed with `stream: true`"))
            }
        }
    }
}

fn check_messages(messages: Option<Vec<WireMessage>>) -> Result<Vec<Message>, ApiError> {
    let messages = messages.ok_or(ApiError::Missing { param: "messages" })?;
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "is empty; send at least one message"));
    }
    let numbered = messages.into_iter().enumerate();
    numbered.map(|(index, message)| message.check(&format!("messages[{index}]"))).collect()
}

/// The domain's floats are `f32`; the range is checked before rounding.
fn within(param: &str, value: f64, low: f64, high: f64) -> Result<f32, ApiError> {
    if (low..=high).contains(&value) {
        Ok(value as f32)
    } else {
        let reason = format!("is {value}; it must be between {low} and {high}");
        Err(ApiError::invalid(param, reason))
    }
}

/// 0 and -1 turn it off, as they do at other servers.
fn top_k(value: i64) -> Result<Option<usize>, ApiError> {
    match value {
        -1 | 0 => Ok(None),
        value => match usize::try_from(value) {
            Ok(k) => Ok(Some(k)),
            Err(_) => {
                let reason = format!("is {value}; it must be at least 1, or 0 or -1 for no limit");
                Err(ApiError::invalid("top_k", reason))
            }
        },
    }
}

fn at_least_one(param: &str, value: i64) -> Result<usize, ApiError> {
    match usize::try_from(value) {
        Ok(value) if value >= 1 => Ok(value),
        _ => Err(ApiError::invalid(param, format!("is {value}; it must be at least 1"))),
    }
}

fn stop_strings(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let strings = match stop {
        None => Vec::new(),
        Some(Stop::One(string)) => vec![string],
        Some(Stop::Many(strings)) => strings,
    };
    if strings.len() > MAX_STOP_STRINGS {
        let reason =
            format!("has {} strings; at most {MAX_STOP_STRINGS} are served", strings.len());
        return Err(ApiError::invalid("stop", reason));
    }
    if strings.iter().any(String::is_empty) {
        return Err(ApiError::invalid("stop", "has an empty string, which would end every text"));
    }
    Ok(strings)
}

fn constraint(format: ResponseFormat) -> Result<Option<Constraint>, ApiError> {
    match format.kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Constraint::JsonSchema(json!({ "type": "object" })))),
        "json_schema" => match format.json_schema.and_then(|format| format.schema) {
            Some(schema @ Value::Object(_)) => Ok(Some(Constraint::JsonSchema(schema))),
            _ => Err(ApiError::invalid("response_format.json_schema.schema", "must be an object")),
        },
        other => Err(ApiError::invalid(
            "response_format.type",
            format!("is `{other}`; it must be text, json_object or json_schema"),
        )),
    }
}
