//! A compiled grammar's lexemes, and the fewest bytes with which one that is under way ends.
//!
//! Knows bytes; no rules and no pieces.

use std::collections::{HashMap, HashSet};

use llguidance::{
    api::ParserLimits,
    derivre::StateID,
    earley::{
        lexerspec::{LexemeIdx, LexerSpec},
        regexvec::{LexemeSet, RegexVec},
    },
};

use super::rules::ENDLESS;

/// What building states may cost at a time, in the library's unit of about 100 ns.
const FUEL: u64 = 500_000;
/// The most states that are looked at for a lexeme's shortest text, once a lexeme.
const MOST_STATES: usize = 20_000;
/// The most that are looked at for the end of one that is under way, at each step: those of a
/// long minimal length are known from its shortest text.
const MOST_STATES_A_STEP: usize = 2_000;

#[derive(Clone)]
pub(super) struct Lexer {
    states: RegexVec,
    /// Of each lexeme: what may stand before it and means nothing.
    skips: Vec<LexemeIdx>,
    /// Of states with one lexeme that a shortest end led through: its bytes, its first and where
    /// that leads.
    known: HashMap<StateID, (usize, u8, StateID)>,
    /// The fewest bytes with which some lexeme ends, where it was asked for.
    rests: HashMap<StateID, Option<usize>>,
}

/// A state that is looked at, the one it was reached from and the byte between.
struct Reached {
    state: StateID,
    before: usize,
    byte: u8,
    depth: usize,
}

/// The end of a lexeme that was found.
struct Found {
    bytes: usize,
    /// Among the states looked at; its end may be known from there.
    at: usize,
    lexeme: LexemeIdx,
}

impl Lexer {
    /// `None` for lexemes that end as early as they can or by what follows, or that are limited in
    /// pieces or are pieces.
    pub(super) fn new(spec: &LexerSpec, limits: &ParserLimits) -> Option<Self> {
        let is_plain = spec.lazy_lexemes().is_empty()
            && spec.eos_ending_lexemes().is_empty()
            && !spec.has_stop
            && !spec.has_max_tokens
            && spec.special_token_rx.is_none();
        let states = is_plain.then(|| spec.to_regex_vec(&mut limits.clone()))?.ok()?;
        let skips = spec.lexemes.iter().map(|lexeme| spec.skip_id(lexeme.class())).collect();
        let mut lexer = Self { states, skips, known: HashMap::new(), rests: HashMap::new() };
        lexer.refuel();
        Some(lexer)
    }

    pub(super) fn refuel(&mut self) {
        self.states.set_fuel(FUEL);
    }

    /// Building states has cost too much; what it says is no longer true.
    pub(super) fn is_broken(&self) -> bool {
        self.states.has_error()
    }

    /// Before any of these lexemes, or what may stand before them.
    pub(super) fn start(&mut self, lexemes: impl IntoIterator<Item = LexemeIdx>) -> StateID {
        let mut set = LexemeSet::new(self.skips.len());
        for lexeme in lexemes {
            set.add(lexeme);
            set.add(self.skips[lexeme.as_usize()]);
        }
        self.states.initial_state(&set)
    }

    /// After a byte; `None` if no lexeme goes on with it.
    pub(super) fn push(&mut self, state: StateID, byte: u8) -> Option<StateID> {
        let next = self.states.transition(state, byte);
        (!next.is_dead()).then_some(next)
    }

    /// The lexemes that may be over here.
    pub(super) fn over(&self, state: StateID) -> &[LexemeIdx] {
        self.states.state_desc(state).greedy_accepting.as_slice()
    }

    pub(super) fn means_nothing(&self, lexeme: LexemeIdx) -> bool {
        self.skips.contains(&lexeme)
    }

    /// What means nothing and may be under way.
    pub(super) fn skip(&self, state: StateID) -> Option<LexemeIdx> {
        self.states.state_desc(state).possible.iter().find(|&lexeme| self.means_nothing(lexeme))
    }

    /// This lexeme may be under way.
    pub(super) fn may_be(&self, state: StateID, lexeme: LexemeIdx) -> bool {
        self.states.state_desc(state).possible.contains(lexeme)
    }

    /// This is a lexeme's only text.
    pub(super) fn has_one(&mut self, lexeme: LexemeIdx, text: &[u8]) -> bool {
        let mut state = Some(self.before(lexeme));
        for &byte in text {
            let Some(at) = state else { return false };
            let mut others = (0..=u8::MAX).filter(|&other| other != byte);
            if others.any(|other| self.push(at, other).is_some()) {
                return false;
            }
            state = self.push(at, byte);
        }
        state.is_some_and(|state| state.has_lowest_match())
    }

    /// Before one lexeme and nothing else.
    fn before(&mut self, lexeme: LexemeIdx) -> StateID {
        let mut only = LexemeSet::new(self.skips.len());
        only.add(lexeme);
        self.states.initial_state(&only)
    }

    /// A shortest text of a lexeme.
    pub(super) fn shortest(&mut self, lexeme: LexemeIdx) -> Option<Vec<u8>> {
        self.refuel();
        let start = self.before(lexeme);
        self.nearest(start, false, |_| Some(0)).map(|(text, _)| text)
    }

    /// The fewest bytes with which a lexeme that is under way ends.
    pub(super) fn rest(&mut self, state: StateID) -> Option<usize> {
        if let Some(&known) = self.rests.get(&state) {
            return known;
        }
        let rest = self.nearest(state, true, |_| Some(0)).map(|(text, _)| text.len());
        self.rests.insert(state, rest);
        rest
    }

    /// The bytes with which some lexeme ends best, and which: `after` is what follows it, `None` if
    /// nothing may. One that has not begun takes at least one byte. Of equals it is the first
    /// found, and the blank is tried first: most vocabularies have pieces for runs of it.
    pub(super) fn nearest(
        &mut self,
        from: StateID,
        begun: bool,
        after: impl Fn(LexemeIdx) -> Option<usize>,
    ) -> Option<(Vec<u8>, LexemeIdx)> {
        let mut reached = vec![Reached { state: from, before: 0, byte: 0, depth: 0 }];
        let mut seen = HashSet::from([from]);
        let mut best: Option<Found> = None;
        let most = if begun { MOST_STATES_A_STEP } else { MOST_STATES };
        let rests = self.states.state_desc(from).possible.iter().filter_map(&after);
        let least = rests.min()?;
        let mut at = 0;
        while let Some(&Reached { state, depth, .. }) = reached.get(at) {
            if best.as_ref().is_some_and(|best| best.bytes <= depth + least) || at > most {
                break;
            }
            let mut take = |lexeme: LexemeIdx, bytes: usize| {
                let bytes = after(lexeme).map_or(ENDLESS, |rest| depth + bytes + rest);
                if bytes < best.as_ref().map_or(ENDLESS, |best| best.bytes) {
                    best = Some(Found { bytes, at, lexeme });
                }
            };
            let possible = &self.states.state_desc(state).possible;
            if let Some(&(bytes, ..)) = self.known.get(&state) {
                possible.iter().for_each(|lexeme| take(lexeme, bytes));
            } else {
                let over = self.over(state).iter().filter(|_| begun || at > 0);
                over.for_each(|&lexeme| take(lexeme, 0));
                for byte in (b' '..=u8::MAX).chain(0..b' ') {
                    let next = self.push(state, byte).filter(|&next| seen.insert(next));
                    let reach = |state| Reached { state, before: at, byte, depth: depth + 1 };
                    reached.extend(next.map(reach));
                }
            }
            at += 1;
        }
        let Found { at, lexeme, .. } = best?;
        let mut text = Vec::new();
        let mut known = reached[at].state;
        while let Some(&(_, byte, next)) = self.known.get(&known) {
            text.push(byte);
            known = next;
        }
        text.reverse();
        let mut on = at;
        while on > 0 {
            let Reached { state: next, before, byte, .. } = reached[on];
            text.push(byte);
            on = before;
            let state = reached[on].state;
            if (begun || on > 0) && self.is_one(state) {
                self.known.insert(state, (text.len(), byte, next));
            }
        }
        text.reverse();
        Some((text, lexeme))
    }

    /// Only one lexeme can be under way.
    fn is_one(&self, state: StateID) -> bool {
        self.states.state_desc(state).possible.iter().nth(1).is_none()
    }
}
