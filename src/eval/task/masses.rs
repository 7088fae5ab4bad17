//! What each member gives each piece of a text, at several calibration temperatures: all that the
//! bits per byte of any weights and temperatures of the mean can be computed from.

use serde_json::{Value, json};

use super::{Outcome, TaskError, bpb};
use crate::{
    engine::ScoredPiece,
    eval::{System, ask::Asker},
};

/// Reads a whole text, its first token too.
pub(super) async fn solve(
    asker: &Asker,
    system: &System,
    text: &str,
) -> Result<Outcome, TaskError> {
    let scored = asker.masses(system, text).await?;
    let reading = |pieces: &Vec<ScoredPiece>| pieces.iter().map(given).collect::<Vec<_>>();
    let readings: Vec<_> = scored.readings.iter().map(reading).collect();
    bpb::outcome(system, text, &scored, json!({ "readings": readings }))
}

/// A piece's length in bytes and, for each member, the natural logarithms of what it gives the piece
/// at the temperatures, to a millionth; null where that is nothing.
fn given(piece: &ScoredPiece) -> Value {
    let rounded = |&ln: &f32| (f64::from(ln) * 1e6).round() / 1e6;
    let member = |given: &Vec<f32>| given.iter().map(rounded).collect::<Vec<_>>();
    let members: Vec<_> = piece.score.calibrated.iter().map(member).collect();
    json!([piece.bytes.len(), members])
}
