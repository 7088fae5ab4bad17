//! A prompt that is scored is known before its scores are: a member reads many of its tokens in one
//! forward, and what it says after each is kept until the piece that stands there is scored.
//!
//! What comes out is, to the bit, what reading piece after piece gives. The context of a piece is
//! a member's tokenization of the text before it. Where that is a beginning of the tokens of all
//! that comes before the last piece, the member's *path*, it is read with the path. Where it is
//! not, as the piece begins inside a token of the path or its beginning changes how the text
//! before it is cut, the few tokens that are not the path's are read *aside*, on a copy of the
//! keys and values.

use std::ops::Range;

use super::{prefix::shared, sequence::MemberState};
use crate::{
    model::{KvCache, Row, Want},
    vocab::TokenId,
};

/// Rows of up to this many tokens are decode rows: a chosen piece and what re-tokenization rolled
/// back. They are never put off; longer ones share the step's prefill budget.
const DECODE_ROW: usize = 16;

/// The most tokens of a row whose logits are all wanted: those of 32 are 20 MB at 150,000 a token.
const LOOKED_AT: usize = 32;

/// What one member reads before it is its turn.
pub(super) struct Ahead {
    path: Vec<TokenId>,
    /// The tokens of the path after which it is known what the member says.
    known: Range<usize>,
    /// What it says, a distribution after each.
    said: Vec<f32>,
    aside: KvCache,
}

impl Ahead {
    pub(super) fn new(path: Vec<TokenId>, empty: KvCache) -> Self {
        Self { path, known: 0..0, said: Vec::new(), aside: empty }
    }

    fn is_path(&self, target: &[TokenId]) -> bool {
        self.path.starts_with(target)
    }

    /// What to read for `target`, and into which cache: the path, or what `target` shares with it
    /// if most of that is still to be read, or `target` aside.
    fn course<'a>(
        &'a mut self,
        cache: &'a mut KvCache,
        target: &'a [TokenId],
    ) -> (&'a mut KvCache, &'a [TokenId]) {
        if self.is_path(target) {
            return (cache, &self.path);
        }
        let common = shared(&self.path, target);
        let held = shared(cache.tokens(), target);
        if held + DECODE_ROW < common {
            return (cache, &self.path[..common]);
        }
        if shared(self.aside.tokens(), target) < held {
            // Where there is no memory for a copy it is read again.
            if let Ok(copy) = cache.beginning(held) {
                self.aside = copy;
            }
        }
        (&mut self.aside, target)
    }

    /// What the member says after token number `token` of the path, if that is known.
    fn after(&self, token: usize) -> Option<&[f32]> {
        let size = self.said.len() / self.known.len().max(1);
        let at = token.checked_sub(self.known.start).filter(|_| token < self.known.end)?;
        Some(&self.said[at * size..][..size])
    }
}

impl MemberState {
    /// The row that brings the member's cache up to date, or closer to it; `None` if there is no
    /// room for it in `prefill`, what the member may still read of prompts.
    pub(super) fn row(&mut self, prefill: &mut usize) -> Option<Row<'_>> {
        let length = self.target.len();
        let unscored = self.scores.next(length);
        let (cache, goal) = match &mut self.ahead {
            Some(ahead) => ahead.course(&mut self.cache, &self.target),
            None => (&mut self.cache, &self.target[..]),
        };
        // A token is scored by what is said after the one before it.
        let first = unscored.filter(|_| goal.len() >= length).unwrap_or(length.min(goal.len()));
        let held = cache.tokens().len();
        let at = first - cache.sync(&goal[..first]).len();
        self.rolled_back += held.saturating_sub(at);
        let rest = &goal[at..];
        let (most, want) = if goal.len() < length {
            (rest.len(), Want::Nothing)
        } else if goal.len() == length && unscored.is_none() {
            (rest.len(), Want::Last)
        } else if at + DECODE_ROW < first {
            (first - 1 - at, Want::Nothing)
        } else {
            (LOOKED_AT, Want::All)
        };
        let mut taken = rest.len().min(most);
        if rest.len() > DECODE_ROW {
            taken = taken.min(*prefill);
            *prefill -= taken;
        }
        if taken == 0 {
            return None;
        }
        self.ready = at + taken >= length;
        self.heard = false;
        let want = if want == Want::Last && !self.ready { Want::Nothing } else { want };
        self.looked = if want == Want::All { at..at + taken } else { 0..0 };
        Some(Row { cache, tokens: &rest[..taken], want, logits: &mut self.probs })
    }

    /// Keeps what the member said after each of the tokens `looked`, which `probs` holds.
    pub(super) fn keep(&mut self, looked: Range<usize>) {
        let size = self.probs.len() / looked.len();
        match &mut self.ahead {
            Some(ahead) if ahead.is_path(&self.target) => {
                ahead.known = looked;
                std::mem::swap(&mut ahead.said, &mut self.probs);
                self.recall();
            }
            _ => drop(self.probs.drain(..(looked.len() - 1) * size)),
        }
    }

    /// Takes what it has said after its tokens, if that was kept.
    pub(super) fn recall(&mut self) {
        let Some(ahead) = self.ahead.as_ref().filter(|ahead| ahead.is_path(&self.target)) else {
            return;
        };
        while let Some(next) = self.scores.next(self.target.len()) {
            let Some(said) = ahead.after(next - 1) else { return };
            self.scores.note(next, said[self.target[next].0 as usize]);
        }
        if let Some(said) = ahead.after(self.target.len() - 1) {
            self.probs.clear();
            self.probs.extend_from_slice(said);
            (self.ready, self.heard) = (true, true);
        }
    }
}
