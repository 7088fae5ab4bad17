//! One step: who is forwarded, what is chosen, and what becomes of it.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use super::{
    Ensemble, Sequence, Workspace,
    mix::{Mixture, Voice},
    prefix::{self, Prefixes, Start},
    workspace,
};
use crate::{
    constrain::ConstrainError,
    model::{self, ModelError, Row, Want},
    vocab::{Piece, UnionId},
};

/// What one step did for one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Some member has not seen the whole text yet; nothing was chosen.
    Prefill,
    /// This piece was chosen and, unless it is `End`, committed to every member.
    Chose(UnionId),
}

#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("`{member}` failed: {cause}")]
    Member { member: String, cause: Failure },
    #[error("the mixture has no mass")]
    NoMass,
    #[error(transparent)]
    Constraint(#[from] ConstrainError),
}

/// What went wrong inside one member.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("it gave logits that are not numbers")]
    NotFinite,
    #[error("it panicked: {reason}")]
    Panicked { reason: String },
}

/// Rows of up to this many tokens are decode rows: a chosen piece and what re-tokenization rolled
/// back. They are never put off; longer ones share the step's prefill budget.
const DECODE_ROW: usize = 16;

impl Ensemble {
    /// One step of each sequence. A step forwards every sequence's few new tokens, and at most
    /// `work.prefill` tokens a member of texts that it has still to read, first come first served;
    /// what two of them, or one and a kept one, begin with alike is read once. What a sequence
    /// gets does not depend on the others, unless a member fails: then all that it was forwarding
    /// have lost it.
    ///
    /// # Panics
    /// If `work` is another ensemble's.
    pub fn step(
        &self,
        sequences: &mut [&mut Sequence],
        work: &mut Workspace,
    ) -> Vec<Result<Step, StepError>> {
        assert_eq!(work.mixture.mix.len(), self.union().size(), "a workspace is its ensemble's");
        let mut lap = Instant::now();
        for member in 0..self.members.len() {
            self.forward(member, sequences, work.prefill, &work.prefixes);
            workspace::lap(&mut lap, &mut work.times.forward[member]);
            self.listen(member, sequences);
            workspace::lap(&mut lap, &mut work.times.mix);
        }
        sequences.iter_mut().map(|sequence| self.choose_and_commit(sequence, work)).collect()
    }

    /// Brings one member's caches up to date and leaves the logits after the last token.
    pub(super) fn forward(
        &self,
        member: usize,
        sequences: &mut [&mut Sequence],
        mut prefill: usize,
        prefixes: &Prefixes,
    ) {
        let wanted = |sequence: &Sequence| {
            sequence.fusion.is_active(member) && !sequence.states[member].ready
        };
        let mut wanted: Vec<bool> = sequences.iter().map(|sequence| wanted(sequence)).collect();
        for index in 0..sequences.len() {
            if wanted[index] && sequences[index].states[member].cache.tokens().is_empty() {
                match prefix::start(member, sequences, index, prefixes) {
                    Start::Alone => {}
                    Start::From(cache) => sequences[index].states[member].cache = cache,
                    Start::Wait => wanted[index] = false,
                }
            }
        }
        let mut rows = Vec::new();
        let mut forwarded = Vec::new();
        for (index, sequence) in sequences.iter_mut().enumerate() {
            if !wanted[index] {
                continue;
            }
            let state = &mut sequence.states[member];
            let held = state.cache.tokens().len();
            let rest = state.cache.sync(&state.target);
            state.rolled_back += held.saturating_sub(state.target.len() - rest.len());
            let (tokens, want) = if rest.len() <= DECODE_ROW {
                (rest, Want::Last)
            } else {
                let taken = rest.len().min(prefill);
                prefill -= taken;
                (&rest[..taken], if taken == rest.len() { Want::Last } else { Want::Nothing })
            };
            if tokens.is_empty() {
                continue;
            }
            state.ready = want == Want::Last;
            state.heard = false;
            rows.push(Row { cache: &mut state.cache, tokens, want, logits: &mut state.probs });
            forwarded.push(index);
        }
        if rows.is_empty() {
            return;
        }
        let model = &self.members[member].model;
        let failure = match catch_unwind(AssertUnwindSafe(|| model.forward(&mut rows))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => Failure::Model(error),
            Err(panic) => Failure::Panicked { reason: said(&*panic) },
        };
        // The cause is not of one row alone, and the caches may be half written.
        for index in forwarded {
            sequences[index].lose(member, &self.members[member], &failure);
        }
    }

    /// Makes the logits that one member has just given probabilities.
    pub(super) fn listen(&self, member: usize, sequences: &mut [&mut Sequence]) {
        for sequence in sequences {
            let state = &mut sequence.states[member];
            if !state.ready || state.heard {
                continue;
            }
            state.heard = true;
            self.maps[member].mask(&mut state.probs);
            let temperature = self.members[member].temperature;
            if temperature != 1.0 {
                state.probs.iter_mut().for_each(|logit| *logit /= temperature);
            }
            if model::softmax(&mut state.probs).is_none() {
                sequence.lose(member, &self.members[member], &Failure::NotFinite);
            }
        }
    }

    fn choose_and_commit(
        &self,
        sequence: &mut Sequence,
        work: &mut Workspace,
    ) -> Result<Step, StepError> {
        if let Some(error) = sequence.failed.take() {
            return Err(error);
        }
        if !sequence.fusion.active().all(|member| sequence.states[member].ready) {
            return Ok(Step::Prefill);
        }
        let Workspace { mixture, times, .. } = work;
        let mut lap = Instant::now();
        self.mix(sequence, mixture);
        workspace::lap(&mut lap, &mut times.mix);
        let mix = &mut mixture.mix;
        if let Some(matching) = &mut sequence.matching {
            matching.mask(mix)?;
        }
        let index = sequence.sampler.sample(mix).ok_or(StepError::NoMass)?;
        let id = UnionId(u32::try_from(index).expect("a union has fewer than 2^32 pieces"));
        if let Some(matching) = &mut sequence.matching {
            matching.commit(id)?;
        }
        workspace::lap(&mut lap, &mut times.choose);
        self.commit(sequence, id);
        workspace::lap(&mut lap, &mut times.commit);
        Ok(Step::Chose(id))
    }

    /// The mixture of all members that take part.
    pub(super) fn mix(&self, sequence: &Sequence, mixture: &mut Mixture) {
        let voices: Vec<Voice<'_>> =
            sequence.fusion.active().map(|member| self.voice(sequence, member)).collect();
        mixture.fuse(sequence.fusion.rule, &voices);
    }

    fn voice<'a>(&'a self, sequence: &'a Sequence, member: usize) -> Voice<'a> {
        Voice {
            probs: &sequence.states[member].probs,
            map: &self.maps[member],
            weight: sequence.fusion.weights[member],
        }
    }

    fn commit(&self, sequence: &mut Sequence, id: UnionId) {
        let Piece::Bytes(bytes) = self.union().piece(id) else { return };
        sequence.text.extend_from_slice(bytes);
        let Sequence { states, fusion, as_tokens, .. } = sequence;
        for member in fusion.active() {
            let (state, tokenizer) = (&mut states[member], &self.members[member].tokenizer);
            // A constraint may leave only pieces that are none of its tokens.
            let token = as_tokens.then(|| self.tokens(member)[id.0 as usize]).flatten();
            match token {
                Some(token) => state.text.append_token(tokenizer, token),
                None => state.text.append(tokenizer, bytes),
            }
            state.retarget();
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a word").to_owned()
}
