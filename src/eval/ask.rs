//! Asks an engine to score texts and to write them.

use std::sync::Arc;

use futures::future::try_join_all;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    System,
    lattice::{Edge, log_mass},
};
use crate::{
    constrain::Constraint,
    engine::{
        Event, FinishReason, Generate, GenerateError, GenerateRequest, Logprobs, Prompt,
        ScoredPiece, StopConditions, UnionId, Usage,
    },
    sampling::SamplingParams,
};

/// Hands requests to the engine, not more at once than it takes.
pub struct Asker {
    engine: Arc<dyn Generate>,
    places: Semaphore,
}

/// How probable a text is after another.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Natural; see [`lattice`](super::lattice) for what it counts.
    pub logprob: f64,
    pub bytes: usize,
    /// Pieces of the text, in all of its readings.
    pub pieces: usize,
    /// Tokens of what came before it, of one reading.
    pub prompt_tokens: usize,
    /// Of the pieces, those that the gate left to the primary; `None` without a gate.
    pub gated: Option<usize>,
    /// The pieces of the text in each reading.
    pub readings: Vec<Vec<ScoredPiece>>,
}

/// What to write.
#[derive(Clone, Debug)]
pub struct Writing {
    pub prompt: Prompt,
    pub max_tokens: usize,
    pub stop: Vec<String>,
    pub constraint: Option<Constraint>,
    pub sampling: SamplingParams,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub text: String,
    pub reason: FinishReason,
    pub usage: Usage,
}

impl Asker {
    /// At most `at_once` requests, and at least 3, run or wait at the same time.
    pub fn new(engine: Arc<dyn Generate>, at_once: usize) -> Self {
        Self { engine, places: Semaphore::new(at_once.max(3)) }
    }

    pub fn engine(&self) -> &Arc<dyn Generate> {
        &self.engine
    }

    /// Places for requests that are made without this; they are free again when it is dropped.
    pub async fn reserve(&self, requests: usize) -> SemaphorePermit<'_> {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        self.places.acquire_many(requests).await.expect("the semaphore is never closed")
    }

    /// How probable `text` is after `context`, or as a whole text from its beginning if that is
    /// empty: after the token that a member begins texts with, or else one that ends them, which is
    /// what it saw before texts when it was made.
    pub async fn score(
        &self,
        system: &System,
        context: &str,
        text: &str,
    ) -> Result<Scored, GenerateError> {
        self.read_all(system, context, text, Logprobs::default()).await
    }

    /// How probable a text is from its beginning, and of each piece what each member would give it
    /// at other calibration temperatures.
    pub async fn masses(&self, system: &System, text: &str) -> Result<Scored, GenerateError> {
        let told = Logprobs { calibrated: true, ..Logprobs::default() };
        self.read_all(system, "", text, told).await
    }

    async fn read_all(
        &self,
        system: &System,
        context: &str,
        text: &str,
        told: Logprobs,
    ) -> Result<Scored, GenerateError> {
        let told = Logprobs { members: true, prompt: Some(context.len()), ..told };
        let mut readings: Vec<Reading> = Vec::new();
        for tokenizer in &system.vocabularies {
            let reading = self.reading(system, tokenizer, context, text)?;
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        }
        let prompt_tokens = readings.first().map_or(0, |reading| reading.context);
        let read = readings.into_iter().map(|reading| self.read(system, reading, told));
        let (readings, gates): (Vec<_>, Vec<bool>) = try_join_all(read).await?.into_iter().unzip();
        let edges = readings.iter().flat_map(|pieces| edges(pieces)).collect();
        let alone = |piece: &&ScoredPiece| {
            piece.score.members.iter().any(|vote| vote.probability.is_none())
        };
        let gated = readings.iter().flatten().filter(alone).count();
        Ok(Scored {
            logprob: log_mass(text.len(), edges),
            bytes: text.len(),
            pieces: readings.iter().map(Vec::len).sum(),
            prompt_tokens,
            gated: gates.contains(&true).then_some(gated),
            readings,
        })
    }

    /// The canonical tokens that one model cuts the texts into, as pieces of the system's union.
    /// The two are cut apart, so that every reading of the second begins where it begins.
    fn reading(
        &self,
        system: &System,
        tokenizer: &str,
        context: &str,
        text: &str,
    ) -> Result<Reading, GenerateError> {
        let (theirs, ours) = (self.engine.union(tokenizer)?, self.engine.union(&system.model)?);
        let pieces = |text: &str| -> Result<Vec<UnionId>, GenerateError> {
            let known = |id: UnionId| ours.id(theirs.piece(id)).ok_or_else(|| unknown(tokenizer));
            self.engine.tokenize(tokenizer, text)?.into_iter().map(known).collect()
        };
        let mut all = if context.is_empty() { vec![ours.end()] } else { pieces(context)? };
        let context = if context.is_empty() { 0 } else { all.len() };
        all.extend(pieces(text)?);
        Ok(Reading { pieces: all, context })
    }

    /// Scores a reading after its context, and tells whether there is a gate.
    async fn read(
        &self,
        system: &System,
        reading: Reading,
        told: Logprobs,
    ) -> Result<(Vec<ScoredPiece>, bool), GenerateError> {
        let request = GenerateRequest {
            stop: StopConditions { max_tokens: Some(0), ..StopConditions::default() },
            logprobs: Some(told),
            fusion: system.fusion.clone(),
            ..GenerateRequest::new(&system.model, Prompt::Tokens(reading.pieces))
        };
        let Heard { prompt, written } = self.ask(request).await?;
        Ok((prompt, written.usage.gated.is_some()))
    }

    pub async fn write(&self, system: &System, writing: Writing) -> Result<Written, GenerateError> {
        let Writing { prompt, max_tokens, stop, constraint, sampling } = writing;
        let request = GenerateRequest {
            sampling,
            stop: StopConditions {
                max_tokens: Some(max_tokens),
                strings: stop,
                ..StopConditions::default()
            },
            constraint,
            fusion: system.fusion.clone(),
            ..GenerateRequest::new(&system.model, prompt)
        };
        Ok(self.ask(request).await?.written)
    }

    async fn ask(&self, request: GenerateRequest) -> Result<Heard, GenerateError> {
        let _place = self.reserve(1).await;
        let mut generation = self.engine.generate(request)?;
        let (mut text, mut prompt) = (String::new(), Vec::new());
        while let Some(event) = generation.next().await {
            match event {
                Event::Started { .. } => {}
                Event::Prompt { pieces } => prompt = pieces,
                Event::Text { text: more, .. } => text += &more,
                // An evaluation of an ensemble that has lost a member would be of another one.
                Event::Warning { member, reason } => {
                    return Err(GenerateError::Member { member, reason });
                }
                Event::Finished { reason, usage } => {
                    return Ok(Heard { prompt, written: Written { text, reason, usage } });
                }
                Event::Failed(error) => return Err(error),
            }
        }
        Err(GenerateError::Stopped)
    }
}

/// A way to cut a context and a text into pieces.
#[derive(PartialEq)]
struct Reading {
    pieces: Vec<UnionId>,
    /// How many of them are the context.
    context: usize,
}

struct Heard {
    prompt: Vec<ScoredPiece>,
    written: Written,
}

fn unknown(tokenizer: &str) -> GenerateError {
    let reason = format!("a token of `{tokenizer}` is no piece of the ensemble it is a member of");
    GenerateError::Prompt { reason }
}

/// The pieces of a text as edges between its bytes.
pub(super) fn edges(pieces: &[ScoredPiece]) -> impl Iterator<Item = Edge> {
    let mut start = 0;
    pieces.iter().map(move |piece| {
        let end = start + piece.bytes.len();
        let logprob = piece.score.logprob.map_or(f64::NEG_INFINITY, f64::from);
        let edge = Edge { start, end, logprob };
        start = end;
        edge
    })
}
