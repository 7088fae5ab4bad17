//! Chats as chunks.

use axum::{
    Json,
    response::{IntoResponse, Response},
};

use super::response::{Chunk, ChunkChoice, Completion, Delta, Head, finish_reason};
use crate::{
    engine::{Event, FinishReason, ScoredPiece, Usage},
    server::{
        ApiError,
        generation::{Answer, Scores, total},
        sse::{Out, Transcript},
        tools::{Part, Reader, Toolbox},
        wire::{StreamOptions, WireFusion, WireWarning},
    },
};

/// What the chunks of one request have in common, and what each choice has said.
pub(super) struct Chunks {
    head: Head,
    with_usage: bool,
    scores: Option<Scores>,
    choices: Vec<Spoken>,
}

struct Spoken {
    reader: Reader,
    /// Pieces that no chunk has told yet.
    pieces: Vec<ScoredPiece>,
    fusion: WireFusion,
    usage: Usage,
}

impl Chunks {
    /// `scores` writes the log-probabilities if they were asked for.
    pub(super) fn new(
        head: Head,
        toolbox: &Toolbox,
        (choices, options): (usize, StreamOptions),
        scores: Option<Scores>,
    ) -> Self {
        let spoken = || Spoken {
            reader: Reader::new(toolbox),
            pieces: Vec::new(),
            fusion: WireFusion::default(),
            usage: Usage::default(),
        };
        let choices = (0..choices).map(|_| spoken()).collect();
        Self { head, with_usage: options.include_usage.unwrap_or(false), scores, choices }
    }

    /// A chunk of one choice; it tells the scores that are due.
    fn send(
        &mut self,
        index: usize,
        delta: Delta,
        reason: Option<FinishReason>,
        out: &mut Out,
    ) -> Result<(), ApiError> {
        let Spoken { reader, pieces, fusion, usage } = &mut self.choices[index];
        let pieces = std::mem::take(pieces);
        let logprobs = self.scores.as_ref().map(|scores| scores.chat(&pieces)).transpose()?;
        let logprobs = logprobs.filter(|told| !told.content.is_empty());
        let finish_reason = reason.map(|reason| finish_reason(reason, reader));
        let fusion = match reason {
            Some(_) => std::mem::take(fusion).with_usage(*usage),
            None => WireFusion::default(),
        };
        let choice = ChunkChoice { index, delta, logprobs, finish_reason };
        out.json(&Chunk::delta(&self.head, choice, fusion, self.with_usage));
        Ok(())
    }

    fn send_parts(
        &mut self,
        index: usize,
        parts: Vec<Part>,
        out: &mut Out,
    ) -> Result<(), ApiError> {
        // The reader has counted all of these; each begun call takes the next number.
        let begun = parts.iter().filter(|part| matches!(part, Part::Call { .. })).count();
        let mut calls = self.choices[index].reader.calls() - begun;
        for part in parts {
            calls += usize::from(matches!(part, Part::Call { .. }));
            self.send(index, Delta::part(part, calls.saturating_sub(1)), None, out)?;
        }
        Ok(())
    }
}

impl Transcript for Chunks {
    fn whole(self, answers: Vec<Answer>) -> Result<Response, ApiError> {
        let readers = self.choices.into_iter().map(|choice| choice.reader);
        let answers = answers.into_iter().zip(readers);
        Ok(Json(Completion::new(self.head, answers, self.scores.as_ref())?).into_response())
    }

    fn begin(&mut self, out: &mut Out) {
        for index in 0..self.choices.len() {
            let choice =
                ChunkChoice { index, delta: Delta::role(), logprobs: None, finish_reason: None };
            out.json(&Chunk::delta(&self.head, choice, WireFusion::default(), self.with_usage));
        }
    }

    fn take(&mut self, index: usize, event: Event, out: &mut Out) -> Result<(), ApiError> {
        let spoken = &mut self.choices[index];
        match event {
            Event::Started { .. } | Event::Prompt { .. } | Event::Failed(_) => Ok(()),
            Event::Warning { member, reason } => {
                spoken.fusion.warnings.push(WireWarning { member, reason });
                Ok(())
            }
            // Steps whose bytes do not yet make a character have nothing to say.
            Event::Text { text, pieces, .. } => {
                spoken.pieces.extend(pieces);
                let parts = spoken.reader.push(&text);
                self.send_parts(index, parts, out)
            }
            Event::Finished { reason, usage } => {
                spoken.usage = usage;
                let parts = spoken.reader.finish();
                self.send_parts(index, parts, out)?;
                self.send(index, Delta::default(), Some(reason), out)
            }
        }
    }

    fn end(&mut self, out: &mut Out) {
        if self.with_usage {
            let usage = total(self.choices.iter().map(|choice| choice.usage));
            out.json(&Chunk::usage(&self.head, usage));
        }
        out.done();
    }

    /// Ends without `[DONE]`.
    fn fail(&mut self, error: &ApiError, out: &mut Out) {
        out.json(&error.object());
    }
}
