//! The fields that chats and completions have in common.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Asked, WireEnsemble, format};
use crate::{
    constrain::Constraint,
    engine::{FusionRequest, GenerateRequest, Logprobs, Prompt, StopConditions, UnionId},
    sampling::{Penalties, SamplingParams},
    server::{
        ApiError,
        body::{Instead, StringOr},
    },
};

/// OpenAI allows 4 and clients of other servers send more.
const MAX_STOP_STRINGS: usize = 16;
/// As OpenAI's API has it.
const MAX_CHOICES: usize = 128;

/// A field that is null is as one left out.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(in crate::server) struct Fields {
    #[schema(value_type = String)]
    pub(in crate::server) model: Option<String>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    #[schema(minimum = -1)]
    top_k: Option<i64>,
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    seed: Option<i64>,
    #[schema(minimum = 1, maximum = 128)]
    n: Option<i64>,
    /// A text under a constraint is whole within them, or the request is refused with
    /// `max_tokens_too_small`.
    #[schema(minimum = 0)]
    pub(in crate::server) max_tokens: Option<i64>,
    #[schema(minimum = 0)]
    min_tokens: Option<i64>,
    ignore_eos: Option<bool>,
    #[schema(inline)]
    stop: Option<Stop>,
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    #[schema(exclusive_minimum = 0, maximum = 2)]
    repetition_penalty: Option<f64>,
    /// By token ids of the union vocabulary, as `/tokenize` gives them.
    logit_bias: Option<BTreeMap<String, f64>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// As vLLM names it.
    pub(super) guided_json: Option<Value>,
    pub(super) guided_regex: Option<String>,
    pub(super) guided_grammar: Option<String>,
    pub(super) guided_choice: Option<Vec<String>>,
    ensemble: Option<WireEnsemble>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ToSchema)]
pub(in crate::server) struct StreamOptions {
    /// One more chunk, with the usage and without choices, before the end.
    #[serde(default)]
    pub(in crate::server) include_usage: Option<bool>,
}

type Stop = StringOr<Vec<String>>;

impl Instead for Vec<String> {
    const EXPECTED: &'static str = "a string or a list of strings";
}

/// The same, checked.
#[derive(Clone, Debug)]
pub(in crate::server) struct Checked {
    pub(in crate::server) model: String,
    pub(in crate::server) sampling: SamplingParams,
    pub(in crate::server) penalties: Penalties,
    pub(in crate::server) stop: StopConditions,
    pub(in crate::server) choices: usize,
    /// `None` sends the answer in one piece.
    pub(in crate::server) stream: Option<StreamOptions>,
    pub(in crate::server) constraint: Option<Asked>,
    pub(in crate::server) fusion: FusionRequest,
    /// What each member gave a piece is told.
    pub(in crate::server) attribution: bool,
}

impl Checked {
    pub(in crate::server) fn generate(
        self,
        prompt: Prompt,
        constraint: Option<Constraint>,
        logprobs: Option<Logprobs>,
    ) -> GenerateRequest {
        GenerateRequest {
            sampling: self.sampling,
            penalties: self.penalties,
            stop: self.stop,
            constraint,
            logprobs,
            fusion: self.fusion,
            ..GenerateRequest::new(self.model, prompt)
        }
    }
}

impl Fields {
    /// `defaults` fills what the request leaves out, the seed included.
    pub(in crate::server) fn check(self, defaults: SamplingParams) -> Result<Checked, ApiError> {
        let sampling = self.sampling(defaults)?;
        let max_tokens = self.max_tokens.map(|most| at_least("max_tokens", most, 0)).transpose()?;
        let min_tokens = at_least("min_tokens", self.min_tokens.unwrap_or(0), 0)?;
        if max_tokens.is_some_and(|most| most < min_tokens) {
            let reason = format!("is {min_tokens}, which is more than `max_tokens`");
            return Err(ApiError::invalid("min_tokens", reason));
        }
        let choices = at_least("n", self.n.unwrap_or(1), 1)?;
        if choices > MAX_CHOICES {
            return Err(ApiError::invalid("n", format!("is {choices}; at most {MAX_CHOICES}")));
        }
        let stream = self.stream()?;
        let penalties = self.penalties()?;
        let constraint = format::guided(&self)?;
        let ensemble = self.ensemble.unwrap_or_default();
        let attribution = ensemble.wants_attribution();
        Ok(Checked {
            model: self.model.ok_or_else(|| ApiError::missing("model"))?,
            sampling,
            penalties,
            stop: StopConditions {
                max_tokens,
                min_tokens,
                ignore_end: self.ignore_eos.unwrap_or(false),
                strings: stop_strings(self.stop)?,
            },
            choices,
            stream,
            constraint,
            fusion: ensemble.check()?,
            attribution,
        })
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

    fn penalties(&self) -> Result<Penalties, ApiError> {
        let penalty = |name, value: Option<f64>| within(name, value.unwrap_or(0.0), -2.0, 2.0);
        let repetition = self.repetition_penalty.unwrap_or(1.0);
        if repetition <= 0.0 {
            let reason = format!("is {repetition}; it must be greater than 0 and at most 2");
            return Err(ApiError::invalid("repetition_penalty", reason));
        }
        Ok(Penalties {
            frequency: penalty("frequency_penalty", self.frequency_penalty)?,
            presence: penalty("presence_penalty", self.presence_penalty)?,
            repetition: within("repetition_penalty", repetition, 0.0, 2.0)?.max(f32::MIN_POSITIVE),
            bias: bias(self.logit_bias.as_ref())?,
        })
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

/// The domain's floats are `f32`; the range is checked before rounding.
pub(in crate::server) fn within(
    param: &str,
    value: f64,
    low: f64,
    high: f64,
) -> Result<f32, ApiError> {
    if (low..=high).contains(&value) {
        Ok(value as f32)
    } else {
        let reason = format!("is {value}; it must be between {low} and {high}");
        Err(ApiError::invalid(param, reason))
    }
}

pub(in crate::server) fn at_least(
    param: &str,
    value: i64,
    least: usize,
) -> Result<usize, ApiError> {
    match usize::try_from(value) {
        Ok(value) if value >= least => Ok(value),
        _ => Err(ApiError::invalid(param, format!("is {value}; it must be at least {least}"))),
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

/// The keys are union ids; the engine knows which there are.
fn bias(bias: Option<&BTreeMap<String, f64>>) -> Result<Vec<(UnionId, f32)>, ApiError> {
    let one = |(key, value): (&String, &f64)| {
        let id = key.parse().map_err(|_| {
            ApiError::invalid("logit_bias", format!("has the key {key:?}, which is no token id"))
        })?;
        Ok((UnionId(id), within("logit_bias", *value, -100.0, 100.0)?))
    };
    bias.into_iter().flatten().map(one).collect()
}

fn stop_strings(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let strings = match stop {
        None => Vec::new(),
        Some(StringOr::String(string)) => vec![string],
        Some(StringOr::Other(strings)) => strings,
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
