//! One step: who is forwarded, what is chosen, and what becomes of it.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use super::{
    Ensemble, Rule, Sequence, Workspace,
    gate::Turn,
    mix::{Mixture, Voice},
    prefix::{self, Prefixes, Start},
    score::Before,
    sequence::MemberState,
    workspace::{self, Desk},
};
use crate::{
    constrain::{ConstrainError, Room},
    model::{self, Logits, ModelError, Pool},
    tokenizer::Encoded,
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

impl StepError {
    /// Whether a member was refused the memory that it needed.
    pub fn is_out_of_memory(&self) -> bool {
        let Self::Member { cause, .. } = self else { return false };
        matches!(cause, Failure::Model(ModelError::OutOfMemory { .. }))
    }
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
        assert_eq!(work.pieces, self.union().size(), "a workspace is made for its ensemble");
        let mut left = vec![work.prefill; self.members.len()];
        self.ask(sequences, work, &mut left);
        let lap = Instant::now();
        let (mixture, pool) = (&mut work.desks[0].mixture, &work.pool);
        let waiting = sequences
            .iter_mut()
            .filter_map(|sequence| self.open_gate(sequence, mixture, pool).then_some(()));
        let asks_others = waiting.count() > 0;
        work.times.mix += lap.elapsed();
        if asks_others {
            self.ask(sequences, work, &mut left);
        }
        self.choose_and_commit(sequences, work)
    }

    /// Lets everyone speak whose turn it is. `left` is what each member may still read of prompts.
    pub(super) fn ask(
        &self,
        sequences: &mut [&mut Sequence],
        work: &mut Workspace,
        left: &mut [usize],
    ) {
        let mut lap = Instant::now();
        for (member, left) in left.iter_mut().enumerate() {
            self.forward(member, sequences, left, &work.prefixes);
            workspace::lap(&mut lap, &mut work.times.forward[member]);
        }
    }

    /// Brings one member's caches up to date and leaves the logits after the last token.
    pub(super) fn forward(
        &self,
        member: usize,
        sequences: &mut [&mut Sequence],
        prefill: &mut usize,
        prefixes: &Prefixes,
    ) {
        let asked: Vec<bool> = sequences.iter().map(|sequence| sequence.asks(member)).collect();
        let mut wanted = asked.clone();
        for index in 0..sequences.len() {
            if wanted[index] && sequences[index].states[member].cache.tokens().is_empty() {
                match prefix::start(member, sequences, index, &asked, prefixes) {
                    Start::Alone => {}
                    Start::From(cache) => {
                        let state = &mut sequences[index].states[member];
                        (state.reused, state.cache) = (cache.tokens().len(), cache);
                    }
                    Start::Wait => wanted[index] = false,
                }
            }
        }
        let model = &self.members[member].model;
        let mut rows = Vec::new();
        let mut forwarded = Vec::new();
        for (index, sequence) in sequences.iter_mut().enumerate() {
            if !wanted[index] {
                continue;
            }
            let (capacity, length) = (model.context_length(), sequence.states[member].target.len());
            if length > capacity {
                // Its row would fail the call for all. A text ends before; but the beginning of a
                // prompt that is scored may have more tokens than the whole.
                let full = Failure::Model(ModelError::ContextFull { capacity, wanted: length });
                sequence.lose(member, &self.members[member], &full);
                continue;
            }
            if let Some(row) = sequence.states[member].row(prefill) {
                rows.push(row);
                forwarded.push(index);
            }
        }
        if rows.is_empty() {
            return;
        }
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

    /// Makes the logits that members have just given probabilities. The threads share them out.
    pub(super) fn listen(&self, sequence: &mut Sequence, pool: &Pool) {
        let spoken = |(_, state): &(usize, &mut MemberState)| state.has_spoken();
        let mut spoken: Vec<_> = sequence.states.iter_mut().enumerate().filter(spoken).collect();
        // A row for each token whose logits there are.
        let mut rows = Vec::new();
        let mut counts = Vec::with_capacity(spoken.len());
        for (member, state) in &mut spoken {
            let (map, temperature) = (&self.maps[*member], self.members[*member].temperature);
            let before = rows.len();
            for values in state.probs.chunks_exact_mut(map.len()) {
                map.mask(values);
                rows.push(Logits { values, temperature });
            }
            counts.push(rows.len() - before);
        }
        let sound = model::softmax(pool, rows);
        let mut sound = &sound[..];
        let mut failed = Vec::new();
        for ((member, state), count) in spoken.into_iter().zip(counts) {
            let (own, others) = sound.split_at(count);
            sound = others;
            state.heard = true;
            if own.iter().all(|&sound| sound) {
                self.hear(member, state);
            } else {
                failed.push(member);
            }
        }
        for member in failed {
            sequence.lose(member, &self.members[member], &Failure::NotFinite);
        }
    }

    /// Keeps the last of a member's distributions; those before it only score what followed.
    fn hear(&self, member: usize, state: &mut MemberState) {
        let looked = std::mem::take(&mut state.looked);
        if looked.is_empty() {
            return;
        }
        let size = self.maps[member].len();
        for (at, probs) in looked.clone().zip(state.probs.chunks_exact(size)) {
            if let Some(token) = state.target.get(at + 1) {
                state.scores.note(at + 1, probs[token.0 as usize]);
            }
        }
        state.keep(looked);
    }

    /// Sequences whose members have said something are shared out among the threads; each listens
    /// and chooses on its own, while the logits are at hand. Where there is only one, the threads
    /// share out its masses.
    fn choose_and_commit(
        &self,
        sequences: &mut [&mut Sequence],
        work: &mut Workspace,
    ) -> Vec<Result<Step, StepError>> {
        let start = Instant::now();
        let failed = |sequence: &mut &mut Sequence| match sequence.failed.take() {
            Some(error) => Err(error),
            None => Ok(Step::Prefill),
        };
        let mut results: Vec<_> = sequences.iter_mut().map(failed).collect();
        let said = |sequence: &Sequence| {
            sequence.is_ready() || sequence.states.iter().any(MemberState::has_spoken)
        };
        let mut busy: Vec<_> = sequences
            .iter_mut()
            .zip(&mut results)
            .filter(|(sequence, result)| result.is_ok() && said(sequence))
            .collect();
        let share = busy.len().div_ceil(work.desks.len()).max(1);
        let mut tasks: Vec<_> = busy.chunks_mut(share).zip(&mut work.desks).collect();
        let pool = &work.pool;
        pool.for_each(&mut tasks, |_, (sequences, desk)| {
            for (sequence, result) in sequences.iter_mut() {
                **result = self.choose_and_commit_one(sequence, desk, pool);
            }
        });
        work.times.share_out(start.elapsed(), &mut work.desks);
        results
    }

    fn choose_and_commit_one(
        &self,
        sequence: &mut Sequence,
        desk: &mut Desk,
        pool: &Pool,
    ) -> Result<Step, StepError> {
        let mut lap = Instant::now();
        self.listen(sequence, pool);
        workspace::lap(&mut lap, &mut desk.spent.mix);
        if let Some(error) = sequence.failed.take() {
            return Err(error);
        }
        if !sequence.is_ready() {
            return Ok(Step::Prefill);
        }
        if !sequence.choosing.unread.is_empty() {
            self.read(sequence, desk, pool);
            return Ok(Step::Prefill);
        }
        let Desk { mixture, before, spent } = desk;
        self.mix(sequence, mixture, pool);
        workspace::lap(&mut lap, &mut spent.mix);
        let id = self.choose(sequence, mixture, before, pool)?;
        workspace::lap(&mut lap, &mut spent.choose);
        sequence.gated += usize::from(sequence.turn == Turn::Primary);
        sequence.agreement += self.agreement_on(sequence, id);
        self.commit(sequence, &[id]);
        workspace::lap(&mut lap, &mut spent.commit);
        Ok(Step::Chose(id))
    }

    /// The next piece out of the mixture. If the text could not end in time after the piece that
    /// is drawn, another is drawn of those after which it can.
    fn choose(
        &self,
        sequence: &mut Sequence,
        mixture: &mut Mixture,
        before: &mut Before,
        pool: &Pool,
    ) -> Result<UnionId, StepError> {
        let room = sequence.room();
        let mut id = self.draw(sequence, mixture, before, None)?;
        if id.is_none() {
            self.mix(sequence, mixture, pool);
            id = self.draw(sequence, mixture, before, Some(room))?;
        }
        let id = match id {
            Some(id) => id,
            // A bias may forbid what has to come.
            None => sequence.close()?.ok_or(StepError::NoMass)?,
        };
        let wanted = sequence.choosing.logprobs;
        sequence.choosing.score = wanted.map(|wanted| self.score(sequence, before, id, wanted));
        sequence.choosing.pieces += 1;
        if let Some(penalizer) = &mut sequence.choosing.penalizer {
            penalizer.count(id);
        }
        Ok(id)
    }

    /// A piece out of the mixture: constraint, room if it is scarce, penalties and bias, the draw;
    /// taken into the constraint. `None` if nothing has mass, or the text could not end in time
    /// after what was drawn.
    fn draw(
        &self,
        sequence: &mut Sequence,
        mixture: &mut Mixture,
        before: &mut Before,
        scarce: Option<Room>,
    ) -> Result<Option<UnionId>, StepError> {
        if let Some(penalizer) = &sequence.choosing.penalizer {
            penalizer.raise(mixture.masses_mut());
        }
        if let Some(matching) = &mut sequence.matching {
            matching.mask(mixture.masses_mut())?;
            if let Some(room) = scarce {
                matching.keep_room(mixture.masses_mut(), room);
            }
        }
        if sequence.choosing.logprobs.is_some() {
            before.keep(mixture);
        }
        let end = self.union().end().0 as usize;
        let may_not_end = sequence.choosing.pieces < sequence.choosing.least;
        let can_go_on = |mix: &[f32]| mix.iter().enumerate().any(|(id, &p)| p > 0.0 && id != end);
        if may_not_end && can_go_on(mixture.masses()) {
            mixture.masses_mut()[end] = 0.0;
        }
        if let Some(penalizer) = &mut sequence.choosing.penalizer {
            penalizer.apply(mixture.masses_mut());
        }
        let (mix, survey) = mixture.survey();
        let Some(index) = sequence.sampler.sample_seen(mix, survey) else { return Ok(None) };
        let id = UnionId(u32::try_from(index).expect("a union has fewer than 2^32 pieces"));
        Ok(sequence.take(id)?.then_some(id))
    }

    /// Scores the next piece of the prompt, and those after it of which everyone has said already
    /// what comes.
    fn read(&self, sequence: &mut Sequence, desk: &mut Desk, pool: &Pool) {
        let Desk { mixture, before, spent } = desk;
        let wanted = sequence.choosing.logprobs.unwrap_or_default();
        let mut lap = Instant::now();
        while let Some(id) = sequence.choosing.unread.pop_front() {
            self.mix(sequence, mixture, pool);
            workspace::lap(&mut lap, &mut spent.mix);
            before.keep(mixture);
            let score = self.score(sequence, before, id, wanted);
            sequence.choosing.read.push((id, score));
            workspace::lap(&mut lap, &mut spent.choose);
            self.pass(sequence, &[id]);
            workspace::lap(&mut lap, &mut spent.commit);
            if self.open_gate(sequence, mixture, pool) || !sequence.is_ready() {
                break;
            }
        }
    }

    /// Takes pieces of the prompt into every member's text.
    pub(super) fn pass(&self, sequence: &mut Sequence, ids: &[UnionId]) {
        self.commit(sequence, ids);
        sequence.pass();
    }

    /// The mixture of those whose turn it is.
    pub(super) fn mix(&self, sequence: &Sequence, mixture: &mut Mixture, pool: &Pool) {
        if sequence.turn == Turn::Primary {
            let primary = self.voice(sequence, sequence.fusion.primary);
            return mixture.fuse(Rule::Mean, &[primary], pool);
        }
        let weights = sequence.weights();
        let voice =
            |member: usize| Voice { weight: weights[member], ..self.voice(sequence, member) };
        let voices: Vec<Voice<'_>> = sequence.fusion.active().map(voice).collect();
        mixture.fuse(sequence.fusion.rule, &voices, pool);
    }

    /// One member alone.
    pub(super) fn voice<'a>(&'a self, sequence: &'a Sequence, member: usize) -> Voice<'a> {
        let (probs, map) = (&sequence.states[member].probs, self.map(sequence, member));
        Voice { probs, map, weight: 1.0 }
    }

    /// Takes pieces into every member's text; `End` has no bytes.
    fn commit(&self, sequence: &mut Sequence, ids: &[UnionId]) {
        let bytes = self.spelt(ids);
        if bytes.is_empty() {
            return;
        }
        if std::mem::take(&mut sequence.opening) {
            self.open(sequence, &bytes);
            return sequence.next_turn();
        }
        sequence.text.extend_from_slice(&bytes);
        let Sequence { states, fusion, as_tokens, .. } = sequence;
        for member in fusion.active() {
            self.extend(member, &mut states[member].text, ids, *as_tokens);
            states[member].retarget();
        }
        sequence.next_turn();
    }

    /// Appends pieces to one member's text.
    pub(super) fn extend(
        &self,
        member: usize,
        text: &mut Encoded,
        ids: &[UnionId],
        as_tokens: bool,
    ) {
        let tokenizer = &self.members[member].tokenizer;
        if !as_tokens {
            return text.append(tokenizer, &self.spelt(ids));
        }
        for &id in ids {
            // A constraint may leave only pieces that are none of its tokens.
            match self.tokens(member)[id.0 as usize] {
                Some(token) => text.append_token(tokenizer, token),
                None => text.append(tokenizer, &self.spelt(&[id])),
            }
        }
    }

    fn spelt(&self, ids: &[UnionId]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &id in ids {
            if let Piece::Bytes(piece) = self.union().piece(id) {
                bytes.extend_from_slice(piece);
            }
        }
        bytes
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a word").to_owned()
}
