//! Bits per byte of a text by teacher forcing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Outcome, TaskError};
use crate::{
    engine::{Agreement, ScoredPiece},
    eval::{
        System,
        ask::{Asker, Scored},
        stats::Part,
    },
};

/// Bytes of text that one figure of agreement is the mean of.
const BIN: usize = 128;

/// Scores a whole text, its first token too.
pub(super) async fn solve(
    asker: &Asker,
    system: &System,
    text: &str,
) -> Result<Outcome, TaskError> {
    let scored = asker.score(system, "", text).await?;
    let reading = scored.readings.first().map_or(&[][..], Vec::as_slice);
    let detail = json!({
        "readings": scored.readings.len(),
        "bin": BIN,
        "agreement": agreement(reading),
    });
    outcome(system, text, &scored, detail)
}

/// What a text's score comes to.
pub(super) fn outcome(
    system: &System,
    text: &str,
    scored: &Scored,
    detail: Value,
) -> Result<Outcome, TaskError> {
    if !scored.logprob.is_finite() {
        return Err(TaskError::NoMass { system: system.name.clone() });
    }
    let bits = -scored.logprob / std::f64::consts::LN_2;
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
        detail,
    })
}

/// How near the members' probabilities of what came are to each other along the text, by bins of
/// [`BIN`] bytes; none for a bin where no two spoke. Empty for one member.
fn agreement(pieces: &[ScoredPiece]) -> Vec<Option<f64>> {
    let mut bins: Vec<Agreement> = Vec::new();
    let mut at = 0;
    for piece in pieces {
        let one = Agreement::of(piece.score.members.iter().filter_map(|vote| vote.probability));
        if one.steps > 0 {
            bins.resize(bins.len().max(at / BIN + 1), Agreement::default());
            bins[at / BIN] += one;
        }
        at += piece.bytes.len();
    }
    bins.into_iter().map(|bin| bin.rate()).collect()
}
