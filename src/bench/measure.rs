//! One measurement each, once.

use std::time::{Duration, Instant};

use super::{BenchError, Plan};
use crate::{
    ensemble::{Ensemble, Sequence, Step, Times, Workspace},
    model::{KvCache, LanguageModel, ModelError, Row, Want},
    sampling::SamplingParams,
    vocab::{TokenId, UnionId},
};

/// Sequences that are continued together.
#[derive(Clone, Copy, Debug)]
pub struct Decode {
    pub batch: usize,
    /// What each has read before, in tokens; at least one.
    pub prompt: usize,
    pub steps: usize,
}

/// What the steps of an ensemble took.
#[derive(Clone, Debug)]
pub struct Lockstep {
    pub steps: usize,
    /// Chosen, over all sequences.
    pub tokens: usize,
    pub wall: Duration,
    /// By part.
    pub times: Times,
}

/// From a prompt's text to the first piece.
#[derive(Clone, Copy, Debug)]
pub struct FirstToken {
    /// The longest of the members' prompts.
    pub prompt_tokens: usize,
    /// With nothing read before.
    pub cold: Duration,
    /// After a request with the same beginning.
    pub shared: Duration,
}

/// The time a model takes to read a prompt of `tokens`.
///
/// # Errors
/// If its context is shorter.
pub fn prefill(model: &dyn LanguageModel, tokens: usize) -> Result<Duration, ModelError> {
    let tokens = prompt(model, tokens, 0);
    let (mut cache, mut logits) = (model.new_cache(), Vec::new());
    let start = Instant::now();
    let row = Row { cache: &mut cache, tokens: &tokens, want: Want::Last, logits: &mut logits };
    model.forward(&mut [row])?;
    Ok(start.elapsed())
}

/// The bytes of keys and values that a model keeps of each of `tokens`.
///
/// # Errors
/// If its context is shorter.
pub(super) fn cache_bytes_a_token(
    model: &dyn LanguageModel,
    tokens: usize,
) -> Result<f64, ModelError> {
    let (mut cache, tokens) = (model.new_cache(), prompt(model, tokens, 0));
    let (want, logits) = (Want::Nothing, &mut Vec::new());
    model.forward(&mut [Row { cache: &mut cache, tokens: &tokens, want, logits }])?;
    Ok(cache.bytes() as f64 / tokens.len() as f64)
}

/// The time a model takes for all the steps, the prompts not counted.
///
/// # Errors
/// If its context is too short.
pub fn decode(model: &dyn LanguageModel, what: Decode) -> Result<Duration, ModelError> {
    let Decode { batch, prompt: length, steps } = what;
    let mut sequences: Vec<(KvCache, Vec<f32>)> =
        (0..batch).map(|_| (model.new_cache(), Vec::new())).collect();
    let mut forward = |length: usize, salt: usize| {
        let tokens: Vec<_> = (0..batch).map(|at| prompt(model, length, salt + at)).collect();
        let mut rows: Vec<Row<'_>> = sequences
            .iter_mut()
            .zip(&tokens)
            .map(|((cache, logits), tokens)| Row { cache, tokens, want: Want::Last, logits })
            .collect();
        model.forward(&mut rows)
    };
    forward(length, 0)?;
    let start = Instant::now();
    for step in 1..=steps {
        forward(1, step * batch)?;
    }
    Ok(start.elapsed())
}

/// Tokens without order; what they are does not matter to the time they take.
fn prompt(model: &dyn LanguageModel, length: usize, salt: usize) -> Vec<TokenId> {
    (0..length)
        .map(|at| (at * 7919 + salt * 104_729) % model.vocab_size())
        .map(|id| TokenId(u32::try_from(id).expect("a vocabulary has fewer than 2^32 entries")))
        .collect()
}

/// Steps `batch` sequences together. One that ends gives its place to another; the time that one
/// takes until it writes is not counted.
///
/// # Errors
/// If a member fails, or texts end as soon as they begin.
pub fn lockstep(ensemble: &Ensemble, batch: usize, plan: &Plan) -> Result<Lockstep, BenchError> {
    let mut fresh = Fresh { ensemble, plan, begun: 0 };
    let mut sequences = (0..batch).map(|_| fresh.next()).collect::<Result<Vec<_>, _>>()?;
    let mut work = Workspace::new(ensemble, plan.prefill_chunk, 0);
    let (mut tokens, mut wall) = (0, Duration::ZERO);
    for _ in 0..plan.steps {
        let mut running: Vec<&mut Sequence> = sequences.iter_mut().collect();
        let start = Instant::now();
        let results = ensemble.step(&mut running, &mut work);
        wall += start.elapsed();
        for (sequence, result) in sequences.iter_mut().zip(results) {
            let Step::Chose(id) = result? else { continue };
            tokens += 1;
            if id == ensemble.union().end() || sequence.is_full() {
                *sequence = fresh.next()?;
            }
        }
    }
    Ok(Lockstep { steps: plan.steps, tokens, wall, times: work.times })
}

/// Begins texts, no two alike.
struct Fresh<'a> {
    ensemble: &'a Ensemble,
    plan: &'a Plan,
    begun: u64,
}

impl Fresh<'_> {
    /// Texts that end with their first token are passed over, but not more than so many.
    const ATTEMPTS: u64 = 64;

    /// A sequence that has read its prompt and written one token.
    fn next(&mut self) -> Result<Sequence, BenchError> {
        for _ in 0..Self::ATTEMPTS {
            self.begun += 1;
            let text = text(self.ensemble, &format!("{}. ", self.begun), self.plan.prompt);
            let sampling = SamplingParams { seed: self.begun, ..self.plan.sampling.clone() };
            let prompts = self.ensemble.text_prompts(&text, self.ensemble.fusion());
            let mut sequence = Sequence::new(self.ensemble, prompts, sampling, None)?;
            let mut work = Workspace::new(self.ensemble, self.plan.prefill_chunk, 0);
            if !choose(self.ensemble, &mut sequence, &mut work)? && !sequence.is_full() {
                return Ok(sequence);
            }
        }
        Err(BenchError::OnlyEnds { attempts: Self::ATTEMPTS })
    }
}

/// Steps until a piece is chosen; true if that was the end.
fn choose(
    ensemble: &Ensemble,
    sequence: &mut Sequence,
    work: &mut Workspace,
) -> Result<bool, BenchError> {
    Ok(step(ensemble, sequence, work)? == ensemble.union().end())
}

/// Steps until a piece is chosen.
pub(super) fn step(
    ensemble: &Ensemble,
    sequence: &mut Sequence,
    work: &mut Workspace,
) -> Result<UnionId, BenchError> {
    loop {
        let mut results = ensemble.step(&mut [&mut *sequence], work);
        let result = results.pop().expect("a step has a result for each sequence");
        if let Step::Chose(id) = result? {
            return Ok(id);
        }
    }
}

/// The time until two requests, one after the other, have their first token. They share the
/// first `plan.shared` tokens or more.
///
/// # Errors
/// If a member fails or its context is too short.
pub fn first_token(ensemble: &Ensemble, plan: &Plan) -> Result<FirstToken, BenchError> {
    let beginning = text(ensemble, "", plan.shared);
    let mut work = Workspace::new(ensemble, plan.prefill_chunk, usize::MAX);
    let mut timed = |end: &str| -> Result<(Duration, usize), BenchError> {
        let start = Instant::now();
        let prompts = ensemble.text_prompts(format!("{beginning} {end}"), ensemble.fusion());
        let mut sequence = Sequence::new(ensemble, prompts, plan.sampling.clone(), None)?;
        choose(ensemble, &mut sequence, &mut work)?;
        let time = start.elapsed();
        let tokens = sequence.prompt_tokens();
        work.prefixes.keep(sequence);
        Ok((time, tokens))
    };
    let (cold, prompt_tokens) = timed("At last, a cab came along")?;
    let (shared, _) = timed("But back at the bay")?;
    Ok(FirstToken { prompt_tokens, cold, shared })
}

/// `beginning` and sentences, until every member reads at least so many tokens.
pub(super) fn text(ensemble: &Ensemble, beginning: &str, tokens: usize) -> String {
    const SENTENCES: [&str; 4] = [
        "A ferry crossed the bay each morning, and a cab was waiting at the landing.",
        "The baker carried a basket of bread across the market before anybody else was about.",
        "Clouds came and went above the harbour, but rain was rare at that time of the year.",
        "Each of them began at dawn, because the boats could not wait for the tide to come back.",
    ];
    let mut text = beginning.to_owned();
    for sentence in SENTENCES.iter().cycle() {
        let prompts = ensemble.text_prompts(&text, ensemble.fusion());
        if prompts.tokens.iter().all(|prompt| prompt.len() >= tokens.max(1)) {
            break;
        }
        text.push_str(sentence);
        text.push(' ');
    }
    text.truncate(text.trim_end().len());
    text
}
