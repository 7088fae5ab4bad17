//! A JSON schema as the set of union pieces allowed next, with `llguidance`, and as the shortest
//! way to its end, so that a text is whole when its budget is spent.
//!
//! Works on the union after fusion; knows no member.

#[cfg(test)]
mod budgets;
mod chart;
mod closing;
mod cuts;
mod grammars;
mod lexing;
mod outline;
mod rules;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use llguidance::{Matcher, toktrie::SimpleVob};
use serde_json::Value;

pub use self::{closing::Room, grammars::Grammars};
use self::{
    closing::{Closing, Weighed},
    grammars::in_one_line,
    outline::Outline,
};
use crate::vocab::{Piece, UnionId, UnionVocab};

/// What the generated text has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// A JSON document that this schema accepts.
    JsonSchema(Value),
    /// A text that this regular expression matches from end to end, in the syntax of Rust's
    /// `regex` crate without look-around and back-references.
    Regex(String),
    /// A text of this grammar, in the dialect of Lark that `llguidance` reads; it begins with a
    /// rule `start`.
    Grammar(String),
    /// One of these texts.
    Choice(Vec<String>),
}

#[derive(Debug, thiserror::Error)]
pub enum ConstrainError {
    #[error("it cannot be enforced: {reason}")]
    Schema { reason: String },
    #[error(
        "nothing that it allows fits into {budget} pieces; the shortest that is known has {least}"
    )]
    Budget { least: usize, budget: usize },
    #[error("the constraint allows nothing after {committed} pieces: {reason}")]
    DeadEnd { committed: usize, reason: String },
}

/// A constraint and how far the text has come in it.
///
/// How far the end is can be measured for all but grammars with lexemes that end as early as they
/// can, with parameters or with other grammars inside.
#[derive(Clone)]
pub struct Matching {
    matcher: Matcher,
    committed: Vec<UnionId>,
    union: Arc<UnionVocab>,
    /// Of a text that is JSON.
    outline: Option<Outline>,
    /// `None` if no way to the end is known.
    closing: Option<Closing>,
}

impl Matching {
    /// Takes the mass from every piece that may not come next. If the members give no mass at all
    /// to what may, all of it becomes equally probable.
    ///
    /// # Errors
    /// If nothing may come next.
    pub fn mask(&mut self, mix: &mut [f32]) -> Result<(), ConstrainError> {
        let allowed =
            self.matcher.compute_mask_or_eos().map_err(|e| self.dead_end(&e.to_string()))?;
        if allowed.is_zero() {
            return Err(self.dead_end("no piece of the union fits"));
        }
        let mut any = false;
        for (index, mass) in mix.iter_mut().enumerate() {
            if !is_allowed(&allowed, index) {
                *mass = 0.0;
            }
            any |= *mass > 0.0;
        }
        if !any {
            allowed.iter_set_entries(|index| mix[index] = 1.0);
        }
        self.bound(mix);
        Ok(())
    }

    /// Takes the mass from what makes a number longer or a nesting deeper than readers can read, or
    /// leaves it no end before, if there is anything else.
    fn bound(&mut self, mix: &mut [f32]) {
        let Some(outline) = self.outline.as_ref().filter(|outline| outline.is_near()) else {
            return;
        };
        let mut exceeds = |index: usize| {
            let Piece::Bytes(bytes) = &self.union.pieces()[index] else { return false };
            let id = UnionId(u32::try_from(index).expect("under 2^32 pieces"));
            let mut rest = || self.closing.as_mut().and_then(|closing| closing.rest(id));
            let left = outline.left_after(bytes);
            outline.would_exceed(bytes)
                || left.is_some_and(|left| rest().is_some_and(|rest| rest > left))
        };
        let (over, other): (Vec<usize>, Vec<usize>) =
            (0..mix.len()).filter(|&index| mix[index] > 0.0).partition(|&index| exceeds(index));
        if !other.is_empty() {
            over.into_iter().for_each(|index| mix[index] = 0.0);
        }
    }

    /// Whether a piece may come next.
    pub fn allows(&mut self, id: UnionId) -> bool {
        // An error is told when the mask is asked for.
        let allowed = self.matcher.compute_mask_or_eos();
        allowed.is_ok_and(|allowed| is_allowed(&allowed, id.0 as usize))
    }

    /// Makes sure that something may fit into so many pieces, `End` included where it needs one.
    ///
    /// # Errors
    /// If it is certain that nothing does.
    pub fn fit(&mut self, budget: usize) -> Result<(), ConstrainError> {
        let Some(closing) = &mut self.closing else { return Ok(()) };
        let least = closing.held().len();
        if budget < least && !closing.search(budget) {
            return Err(ConstrainError::Budget { least, budget });
        }
        Ok(())
    }

    /// Takes the mass from every piece after which the text could not end in this room, of which
    /// the piece takes its part; [`Matching::mask`] comes before.
    pub fn keep_room(&mut self, mix: &mut [f32], room: Room) {
        if let Some(closing) = &mut self.closing {
            closing.keep_room(mix, room);
        }
    }

    /// Advances by a piece that [`Matching::mask`] left, unless the text could then not end in this
    /// room, of which the piece takes its part; says whether it did.
    ///
    /// # Errors
    /// If the piece may not come next.
    pub fn commit(&mut self, id: UnionId, room: Room) -> Result<bool, ConstrainError> {
        if let Some(closing) = self.closing.as_mut().filter(|_| id != self.union.end()) {
            let (matcher, end) = (&mut self.matcher, self.union.end());
            match closing.weigh(id, room, |way| leads_to_end(matcher, way, end)) {
                Weighed::Fits(next) => closing.go(next),
                Weighed::Crowds if leads_to_end(matcher, closing.find(), end) => return Ok(false),
                Weighed::Crowds | Weighed::Lost => self.closing = None,
            }
        }
        self.consume(id).map(|()| true)
    }

    /// Advances by the next piece of a short way to the end; `None` if none is known.
    ///
    /// # Errors
    /// If it is none.
    pub fn close(&mut self) -> Result<Option<UnionId>, ConstrainError> {
        let next = self.closing.as_mut().and_then(Closing::close);
        next.map(|id| self.consume(id).map(|()| id)).transpose()
    }

    fn consume(&mut self, id: UnionId) -> Result<(), ConstrainError> {
        self.matcher.consume_token(id.0).map_err(|e| self.dead_end(&e.to_string()))?;
        self.committed.push(id);
        if let (Some(outline), Piece::Bytes(bytes)) = (&mut self.outline, self.union.piece(id)) {
            outline.extend(bytes);
        }
        Ok(())
    }

    /// The text is complete and nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }

    /// The text without its last so many bytes is complete, whatever could follow.
    pub fn is_whole_without(&self, mut last: usize) -> bool {
        let (mut pieces, mut kept) = (0, &[][..]);
        let mut committed = self.committed.iter().rev();
        while last > 0
            && let Some(id) = committed.next()
        {
            let Piece::Bytes(bytes) = self.union.piece(*id) else { return false };
            kept = &bytes[..bytes.len().saturating_sub(last)];
            last = last.saturating_sub(bytes.len());
            pieces += 1;
        }
        let mut matcher = self.matcher.clone();
        let Ok(env) = matcher.tok_env() else { return false };
        let trie = env.tok_trie();
        let part = trie.greedy_tokenize(kept);
        let way: Vec<UnionId> = part.iter().copied().map(UnionId).collect();
        // What no piece spells is left out of the part.
        trie.decode_raw(&part) == kept
            && matcher.rollback(pieces).is_ok()
            && leads_to_end(&mut matcher, &way, self.union.end())
    }

    fn dead_end(&self, error: &str) -> ConstrainError {
        ConstrainError::DeadEnd { committed: self.committed.len(), reason: in_one_line(error) }
    }
}

/// Whether these pieces may come next and the text may end after them.
fn leads_to_end(matcher: &mut Matcher, way: &[UnionId], end: UnionId) -> bool {
    let mut ids: Vec<u32> = way.iter().map(|id| id.0).collect();
    if way.last() != Some(&end) {
        ids.push(end.0);
    }
    matcher.validate_tokens(&ids).is_ok_and(|valid| valid == ids.len())
}

fn is_allowed(allowed: &SimpleVob, index: usize) -> bool {
    index < allowed.len() && allowed.get(index)
}
