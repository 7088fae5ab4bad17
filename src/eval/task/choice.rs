//! The most probable of some continuations, by the logarithm of the whole and by that per byte.
//!
//! Long choices are less probable than short ones, whatever they say; per byte they compete on
//! equal terms, and with members of several vocabularies bytes are the one unit they share. (The
//! `acc_norm` of EleutherAI's evaluation harness counts characters, without the space before.)

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
    Ok(Outcome {
        prompt: context.to_owned(),
        output: best(&per_byte).map_or_else(String::new, |best| choices[best].clone()),
        scores: BTreeMap::from([
            ("right, per byte", Part::right(best(&per_byte) == Some(answer))),
            ("right, sum", Part::right(best(&sums) == Some(answer))),
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

/// `None` of equals: which of them stands first must not matter, for in some data sets (TruthfulQA)
/// it is always the right one.
fn best(values: &[f64]) -> Option<usize> {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut of_most = values.iter().enumerate().filter(|(_, value)| **value == most);
    let (index, _) = of_most.next()?;
    of_most.next().is_none().then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_are_no_choice() {
        assert_eq!(best(&[-3.0, -1.0, -2.0]), Some(1));
        assert_eq!(best(&[-1.0, -1.0, -2.0]), None);
        assert_eq!(best(&[f64::NEG_INFINITY, -9.0]), Some(1));
    }
}
