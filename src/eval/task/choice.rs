//! The most probable of some continuations, by the logarithm of the whole and by that per byte.
//!
//! Long choices are less probable than short ones, whatever they say; per byte they compete on
//! equal terms (the `acc_norm` of EleutherAI's evaluation harness), and with members of several
//! vocabularies bytes are the one unit they share.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use serde_json::json;

use super::{Outcome, TaskError};
use crate::eval::{System, ask::Asker, stats::Part};

/// What stands around the stem of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Nothing: the choices go on with it.
    None,
    /// It is a question, the choices are answers.
    Question,
}

impl Frame {
    pub(super) fn around(self, stem: &str) -> String {
        match self {
            Self::None => stem.trim_end().to_owned(),
            Self::Question => format!("Question: {}\nAnswer:", stem.trim()),
        }
    }
}

pub(super) async fn solve(
    asker: &Asker,
    system: &System,
    context: &str,
    (choices, answer): (&[String], usize),
) -> Result<Outcome, TaskError> {
    let texts: Vec<String> = choices.iter().map(|choice| format!(" {}", choice.trim())).collect();
    let scored = try_join_all(texts.iter().map(|text| asker.score(system, context, text))).await?;
    let sums: Vec<f64> = scored.iter().map(|scored| scored.logprob).collect();
    let per_byte: Vec<f64> =
        scored.iter().map(|scored| scored.logprob / scored.bytes as f64).collect();
    if sums.iter().all(|sum| !sum.is_finite()) {
        return Err(TaskError::NoMass { system: system.name.clone() });
    }
    let (by_sum, by_byte) = (first_best(&sums), first_best(&per_byte));
    Ok(Outcome {
        prompt: context.to_owned(),
        output: choices[by_byte].clone(),
        scores: BTreeMap::from([
            ("right, per byte", Part::right(by_byte == answer)),
            ("right, sum", Part::right(by_sum == answer)),
        ]),
        tokens: scored.iter().map(|scored| scored.pieces).sum(),
        prompt_tokens: scored.first().map_or(0, |scored| scored.prompt_tokens),
        gated: scored.iter().map(|scored| scored.gated).sum(),
        detail: json!({
            // JSON has no infinite numbers; null is a choice without probability.
            "logprobs": sums,
            "bytes": scored.iter().map(|scored| scored.bytes).collect::<Vec<_>>(),
            "answer": answer,
            "chance": 1.0 / choices.len() as f64,
        }),
    })
}

/// Of equals the first.
fn first_best(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}
