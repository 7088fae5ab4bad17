//! What each member gives each piece of a text, at several calibration temperatures: all that the
//! bits per byte of any weights and temperatures of the mean can be computed from.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Outcome, TaskError};
use crate::eval::{System, ask::Asker, stats::Part};

/// Reads a whole text, its first token too.
pub(super) async fn solve(
    asker: &Asker,
    system: &System,
    text: &str,
) -> Result<Outcome, TaskError> {
    let scored = asker.masses(system, text).await?;
    if !scored.logprob.is_finite() {
        return Err(TaskError::NoMass { system: system.name.clone() });
    }
    let bits = -scored.logprob / std::f64::consts::LN_2;
    let pieces: Vec<_> = scored
        .readings
        .iter()
        .map(|pieces| {
            let piece = |piece: &crate::engine::ScoredPiece| {
                let rounded = |&ln: &f32| (f64::from(ln) * 1e6).round() / 1e6;
                let member = |given: &Vec<f32>| given.iter().map(rounded).collect::<Vec<_>>();
                let given: Vec<_> = piece.score.calibrated.iter().map(member).collect();
                json!([piece.bytes.len(), given])
            };
            pieces.iter().map(piece).collect::<Vec<_>>()
        })
        .collect();
    Ok(Outcome {
        prompt: String::new(),
        output: text.to_owned(),
        scores: BTreeMap::from([(
            "bits per byte",
            Part { value: bits, size: scored.bytes as f64 },
        )]),
        tokens: scored.pieces,
        prompt_tokens: scored.prompt_tokens,
        gated: scored.gated,
        // For each reading its pieces: the length of each in bytes and, for each member, the
        // natural logarithms at the temperatures; null where it has no probability.
        detail: json!({ "readings": pieces }),
    })
}
