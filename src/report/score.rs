//! How probable a model finds a text that it need not have written.

use serde::{Deserialize, Serialize};

use super::ask::admitted;
use crate::engine::{
    Event, Generate, GenerateError, GenerateRequest, Logprobs, Prompt, StopConditions,
};

/// What a text costs a model, in bits; tokenizers differ, bytes do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bits {
    pub bits: f64,
    /// Of what was scored of the text.
    pub bytes: usize,
}

impl Bits {
    /// `None` of no text.
    pub fn per_byte(self) -> Option<f64> {
        (self.bytes > 0).then(|| self.bits / self.bytes as f64)
    }
}

impl std::iter::Sum for Bits {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, more| Self {
            bits: sum.bits + more.bits,
            bytes: sum.bytes + more.bytes,
        })
    }
}

/// What `text` costs `model` after `before`. Waits for its turn while the engine's queue is full.
///
/// # Errors
/// If the model cannot read the text, or the engine does not answer.
pub async fn score(
    engine: &dyn Generate,
    model: &str,
    before: &str,
    text: &str,
) -> Result<Bits, GenerateError> {
    let request = GenerateRequest {
        stop: StopConditions { max_tokens: Some(0), ..StopConditions::default() },
        logprobs: Some(Logprobs { prompt: Some(before.len()), ..Logprobs::default() }),
        ..GenerateRequest::new(model, Prompt::Text(format!("{before}{text}")))
    };
    let mut generation = admitted(engine, request, None).await?;
    let mut pieces = Vec::new();
    loop {
        match generation.next().await {
            Some(Event::Prompt { pieces: scored }) => pieces = scored,
            Some(Event::Finished { .. }) => break,
            Some(Event::Failed(error)) => return Err(error),
            Some(_) => {}
            None => return Err(GenerateError::Stopped),
        }
    }
    let scored = pieces.iter().filter_map(|piece| {
        let bits = -f64::from(piece.score.logprob?) / std::f64::consts::LN_2;
        Some(Bits { bits, bytes: piece.bytes.len() })
    });
    Ok(scored.sum())
}
