//! `ensemble`, our own field of a request: how its members write together; and of an answer: how
//! they did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    engine::{FusionRequest, Rule, Usage, Weighting, WeightsRequest},
    server::ApiError,
};

/// Every key may be left out; the ensemble's own setting then holds.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::server) struct WireEnsemble {
    /// The names of those that take part.
    members: Option<Vec<String>>,
    weights: Option<WireWeights>,
    rule: Option<String>,
    floor: Option<f64>,
    gate: Option<f64>,
    /// Tells of each token what each member gave it; implies `logprobs`.
    attribution: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected fixed, prompt, online, a list of numbers, or an object of names and numbers"
)]
enum WireWeights {
    By(String),
    InOrder(Vec<f64>),
    Named(BTreeMap<String, f64>),
}

impl WireEnsemble {
    pub(in crate::server) fn wants_attribution(&self) -> bool {
        self.attribution.unwrap_or(false)
    }

    /// Names are checked by the engine, which knows the members.
    pub(in crate::server) fn check(self) -> Result<FusionRequest, ApiError> {
        let weights = match self.weights {
            None => None,
            Some(WireWeights::By(name)) => {
                let weighting = name.parse::<Weighting>();
                Some(WeightsRequest::By(
                    weighting.map_err(|error| invalid("ensemble.weights", &error))?,
                ))
            }
            Some(WireWeights::InOrder(weights)) => Some(WeightsRequest::InOrder(
                weights.into_iter().map(|weight| weight as f32).collect(),
            )),
            Some(WireWeights::Named(weights)) => Some(WeightsRequest::Named(
                weights.into_iter().map(|(name, weight)| (name, weight as f32)).collect(),
            )),
        };
        let rule = match (self.rule, self.floor) {
            (Some(rule), floor) => {
                let rule: Rule = rule.parse().map_err(|error| invalid("ensemble.rule", &error))?;
                let with = |floor| rule.with_floor(floor);
                let rule = floor.map_or(Ok(rule), with);
                Some(rule.map_err(|error| invalid("ensemble.floor", &error))?)
            }
            (None, Some(_)) => {
                let reason = "is only allowed with `ensemble.rule`; name the rule it is for";
                return Err(ApiError::invalid("ensemble.floor", reason));
            }
            (None, None) => None,
        };
        Ok(FusionRequest { members: self.members, weights, rule, gate: self.gate })
    }
}

fn invalid(param: &str, error: &impl ToString) -> ApiError {
    ApiError::invalid(param, error.to_string())
}

/// What an answer says of its members; nothing of one member that did as it should.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(in crate::server) struct WireFusion {
    /// The share of the steps that the primary decided alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate_rate: Option<f64>,
    /// Where several chose: how near their probabilities of the chosen token were, 1 less the
    /// distance between the greatest and the least, in the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::server) warnings: Vec<WireWarning>,
}

/// A member that failed; the answer went on without it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(in crate::server) struct WireWarning {
    pub(in crate::server) member: String,
    pub(in crate::server) reason: String,
}

impl WireFusion {
    /// What the usage says belongs here, not to OpenAI's own fields.
    pub(in crate::server) fn with_usage(self, usage: Usage) -> Self {
        Self { gate_rate: usage.gate_rate(), agreement: usage.agreement.rate(), ..self }
    }

    pub(in crate::server) fn is_silent(&self) -> bool {
        *self == Self::default()
    }
}
