//! Texts that begin alike are read once.
//!
//! A sequence that has read nothing yet takes over the keys and values of the longest beginning
//! that another text shares with its own: one that is being written, or one that has ended and is
//! [kept](Prefixes). If one that came before it is just reading that beginning, it waits for it
//! instead of reading it too. Results do not change by a bit, for a model's keys and values do
//! not depend on how its tokens were cut into calls.

use std::collections::VecDeque;

use super::Sequence;
use crate::{model::KvCache, vocab::TokenId};

/// Shorter beginnings are read again: templates begin alike for every conversation.
const SHORTEST: usize = 16;

/// The caches of sequences that have ended, up to a number of tokens; the oldest go first.
#[derive(Debug)]
pub struct Prefixes {
    /// A cache for each member, the latest sequence last.
    kept: VecDeque<Vec<KvCache>>,
    capacity: usize,
}

impl Prefixes {
    /// Keeps at most `capacity` tokens for each member; 0 keeps nothing.
    pub fn new(capacity: usize) -> Self {
        Self { kept: VecDeque::new(), capacity }
    }

    /// Takes over what a sequence that ends has read and written.
    pub fn keep(&mut self, sequence: Sequence) {
        self.kept.push_back(sequence.states.into_iter().map(|state| state.cache).collect());
        while self.tokens() > self.capacity {
            self.kept.pop_front();
        }
    }

    /// Of the member that holds most.
    fn tokens(&self) -> usize {
        let members = self.kept.front().map_or(0, Vec::len);
        let of = |member: usize| {
            self.kept.iter().map(|caches| caches[member].tokens().len()).sum::<usize>()
        };
        (0..members).map(of).max().unwrap_or(0)
    }
}

/// What a sequence that has read nothing should do for one member.
pub(super) enum Start {
    /// Read from the beginning.
    Alone,
    /// Go on from here.
    From(KvCache),
    /// Let the sequence before it read what they share.
    Wait,
}

/// Looks for the longest beginning that the sequence at `index` shares with another. `asked` are
/// the sequences that the member is to read now; others may never come to it.
pub(super) fn start(
    member: usize,
    sequences: &[&mut Sequence],
    index: usize,
    asked: &[bool],
    prefixes: &Prefixes,
) -> Start {
    let state = &sequences[index].states[member];
    // What is scored has to be read for itself, or the scores would depend on others; the last
    // token for the logits after it.
    let most = state.scores.start().min(state.target.len()).saturating_sub(1);
    let target = &state.target[..most];
    let running = sequences.iter().map(|sequence| &sequence.states[member].cache);
    let kept = prefixes.kept.iter().map(|caches| &caches[member]);
    let best = running
        .chain(kept)
        .map(|cache| (shared(cache.tokens(), target), cache))
        .max_by_key(|&(length, _)| length);
    let (length, cache) = best.expect("the sequence itself is among them");
    let coming = sequences[..index]
        .iter()
        .zip(asked)
        .filter(|(_, asked)| **asked)
        .map(|(sequence, _)| shared(&sequence.states[member].target, target))
        .max();
    if coming.is_some_and(|coming| coming >= SHORTEST && coming > length) {
        Start::Wait
    } else if length >= SHORTEST {
        // Where there is no memory for a copy, what is kept may be given up before it is read.
        cache.beginning(length).map_or(Start::Alone, Start::From)
    } else {
        Start::Alone
    }
}

/// The length of the common beginning.
pub(super) fn shared(tokens: &[TokenId], target: &[TokenId]) -> usize {
    tokens.iter().zip(target).take_while(|(a, b)| a == b).count()
}
