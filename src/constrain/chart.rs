//! How far a text under a grammar is from its end, to the byte.
//!
//! An Earley chart (Earley 1970) over the lexemes of `llguidance`'s compiled grammar, in which
//! every row also knows, for each symbol that may come next, the fewest bytes from after it to the
//! end of the text. Rows never change and equal ones are one, so a place in the chart is three
//! words, and going on from it takes nothing from who stays there.
//!
//! Knows grammars and bytes; no pieces, no mass.

use std::collections::{HashMap, HashSet};

use llguidance::{
    api::ParserLimits,
    derivre::StateID,
    earley::{
        CGrammar,
        lexerspec::{LexemeIdx, LexerSpec},
        regexvec::{LexemeSet, RegexVec},
    },
};

use super::rules::{Dot, ENDLESS, Rules, Symbol};

#[derive(Clone)]
pub(super) struct Chart {
    rules: Rules,
    lexer: RegexVec,
    /// Of each lexeme: what may stand before it and means nothing.
    skips: Vec<LexemeIdx>,
    rows: Vec<Row>,
    /// Rows by the items that what was read has led to.
    known: HashMap<Vec<Item>, u32>,
    /// Distances that were asked for.
    distances: HashMap<Place, usize>,
}

/// Where a text has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    row: u32,
    /// Of the lexeme under way.
    state: StateID,
    /// Some of that lexeme is there.
    begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Item {
    dot: Dot,
    /// The row where its rule began.
    origin: u32,
}

#[derive(Clone)]
struct Row {
    items: Vec<Item>,
    /// By symbol.
    ways: Vec<(Symbol, Way)>,
    start: StateID,
    /// The text may end here.
    ends: bool,
}

/// From after a symbol to the end of the text.
#[derive(Clone, Copy)]
struct Way {
    bytes: usize,
    /// The item whose rule goes on.
    item: Item,
}

/// From a place to the end: these bytes of the lexeme under way, then what follows.
struct Ending {
    bytes: usize,
    lexeme: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Nothing,
    /// This lexeme is over.
    After(Symbol),
    /// This lexeme as a whole.
    Write(Symbol),
    /// What means nothing is over.
    Again,
}

/// What building one state of a lexer may cost, in the library's unit of about 100 ns.
const FUEL: u64 = 2_000_000;
/// The most states that are looked at for the end of one lexeme.
const MOST_STATES: usize = 20_000;

impl Chart {
    /// `None` for what is beyond it: lexemes that end as early as they can or by what follows,
    /// limits on their pieces, rules with parameters, grammars in grammars.
    pub(super) fn new(grammar: &CGrammar, limits: &ParserLimits) -> Option<Self> {
        let spec = grammar.lexer_spec();
        if grammar.parametric() || !is_plain(spec) || has_inner_grammar(grammar) {
            return None;
        }
        let mut lexer = spec.to_regex_vec(&mut limits.clone()).ok()?;
        lexer.set_fuel(FUEL);
        let rules = Rules::new(grammar, |lexeme| {
            let mut only = spec.alloc_lexeme_set();
            only.add(lexeme);
            let start = lexer.initial_state(&only);
            nearest(&mut lexer, (start, false), |_| Some(0)).map(|(text, _)| text)
        });
        let skips = spec.lexemes.iter().map(|lexeme| spec.skip_id(lexeme.class())).collect();
        let (rows, known) = (Vec::new(), HashMap::new());
        let mut chart = Self { rules, lexer, skips, rows, known, distances: HashMap::new() };
        let first = |&dot: &Dot| Item { dot, origin: 0 };
        let items = chart.rules.rules(chart.rules.start).iter().map(first).collect();
        chart.row(items);
        (!chart.lexer.has_error()).then_some(chart)
    }

    /// Before the first byte.
    pub(super) fn start(&self) -> Place {
        self.begin(0)
    }

    fn begin(&self, row: u32) -> Place {
        Place { row, state: self.rows[row as usize].start, begun: false }
    }

    /// After these bytes; `None` if they may not come.
    pub(super) fn go(&mut self, from: Place, bytes: &[u8]) -> Option<Place> {
        self.lexer.set_fuel(FUEL);
        let at = bytes.iter().try_fold(from, |at, &byte| self.push(at, byte))?;
        (!self.lexer.has_error()).then_some(at)
    }

    fn push(&mut self, at: Place, byte: u8) -> Option<Place> {
        let state = self.lexer.transition(at.state, byte);
        if !state.is_dead() {
            return self.settle(at.row, state);
        }
        let row = self.scan(at.row, at.state)?;
        let state = self.lexer.transition(self.rows[row as usize].start, byte);
        if state.is_dead() { None } else { self.settle(row, state) }
    }

    /// A lexeme that nothing can make longer is over.
    fn settle(&mut self, row: u32, state: StateID) -> Option<Place> {
        if !state.has_lowest_match() {
            return Some(Place { row, state, begun: true });
        }
        let row = self.scan(row, state)?;
        Some(self.begin(row))
    }

    /// The row after a lexeme that ends in `state`; of what means nothing, the same one.
    fn scan(&mut self, row: u32, state: StateID) -> Option<u32> {
        let lexemes = self.lexer.state_desc(state).greedy_accepting.as_slice();
        if lexemes.iter().any(|lexeme| self.skips.contains(lexeme)) {
            return Some(row);
        }
        let items = self.rows[row as usize].items.iter();
        let is_read = |item: &&Item| {
            let lexeme = self.rules.next(item.dot).and_then(|next| self.rules.lexeme(next));
            lexeme.is_some_and(|lexeme| lexemes.contains(&lexeme))
        };
        let read: Vec<Item> = items.filter(is_read).map(|item| item.advanced()).collect();
        (!read.is_empty()).then(|| self.row(read))
    }

    /// The row that begins with these items.
    fn row(&mut self, items: Vec<Item>) -> u32 {
        if let Some(&known) = self.known.get(&items) {
            return known;
        }
        let here = u32::try_from(self.rows.len()).expect("a text is shorter than 2^32 lexemes");
        let row = self.complete(here, items.clone());
        self.rows.push(row);
        self.known.insert(items, here);
        here
    }

    /// Earley's completion and prediction, and the ways on from what may come next.
    fn complete(&mut self, here: u32, mut items: Vec<Item>) -> Row {
        let mut seen: HashSet<Item> = items.iter().copied().collect();
        let mut allowed: HashSet<LexemeIdx> = HashSet::new();
        let (mut at, mut ends) = (0, false);
        while at < items.len() {
            let item = items[at];
            at += 1;
            let old = items.len();
            if let Some(next) = self.rules.next(item.dot) {
                let predicted = self.rules.rules(next).iter();
                items.extend(predicted.map(|&dot| Item { dot, origin: here }));
                items.extend(self.rules.is_nullable(next).then(|| item.advanced()));
                allowed.extend(self.rules.lexeme(next));
            } else {
                let of = self.rules.of(item.dot);
                ends |= of == self.rules.start && item.origin == 0;
                if item.origin != here {
                    let waiting = self.rows[item.origin as usize].items.iter();
                    let waiting = waiting.filter(|item| self.rules.next(item.dot) == Some(of));
                    items.extend(waiting.map(|item| item.advanced()));
                }
            }
            let mut new = items.split_off(old);
            new.retain(|&item| seen.insert(item));
            items.append(&mut new);
        }
        let mut set = LexemeSet::new(self.skips.len());
        for lexeme in &allowed {
            set.add(*lexeme);
            set.add(self.skips[lexeme.as_usize()]);
        }
        let start = self.lexer.initial_state(&set);
        Row { ways: self.ways(here, &items), items, start, ends }
    }

    fn ways(&self, here: u32, items: &[Item]) -> Vec<(Symbol, Way)> {
        let mut ways: HashMap<Symbol, Way> = HashMap::new();
        let mut changed = true;
        while changed {
            changed = false;
            for &item in items {
                let Some(next) = self.rules.next(item.dot) else { continue };
                let of = self.rules.of(item.dot);
                let onward = if of == self.rules.start && item.origin == 0 {
                    0
                } else if item.origin == here {
                    ways.get(&of).map_or(ENDLESS, |way| way.bytes)
                } else {
                    self.way(item.origin, of).map_or(ENDLESS, |way| way.bytes)
                };
                let bytes = (self.rules.rest(item.dot + 1) + onward).min(ENDLESS);
                if bytes < ways.get(&next).map_or(ENDLESS, |way| way.bytes) {
                    ways.insert(next, Way { bytes, item });
                    changed = true;
                }
            }
        }
        let mut ways: Vec<(Symbol, Way)> = ways.into_iter().collect();
        ways.sort_unstable_by_key(|&(symbol, _)| symbol);
        ways
    }

    fn way(&self, row: u32, symbol: Symbol) -> Option<Way> {
        let ways = &self.rows[row as usize].ways;
        ways.binary_search_by_key(&symbol, |&(symbol, _)| symbol).ok().map(|at| ways[at].1)
    }

    /// The text is complete and nothing can follow.
    pub(super) fn is_over(&self, at: Place) -> bool {
        let row = &self.rows[at.row as usize];
        let goes_on = row.items.iter().any(|item| {
            self.rules.next(item.dot).is_some_and(|next| self.rules.lexeme(next).is_some())
        });
        !at.begun && row.ends && !goes_on
    }

    /// The text is complete, whether something can follow or not.
    pub(super) fn may_end(&mut self, at: Place) -> bool {
        let row = if at.begun { self.scan(at.row, at.state) } else { Some(at.row) };
        row.is_some_and(|row| self.rows[row as usize].ends)
    }

    /// The fewest bytes with which the text can end; `None` if none were found.
    pub(super) fn distance(&mut self, at: Place) -> Option<usize> {
        let known = self.distances.get(&at).copied();
        let bytes = known.unwrap_or_else(|| {
            let bytes = self.ending(at).map_or(ENDLESS, |ending| ending.bytes);
            self.distances.insert(at, bytes);
            bytes
        });
        (bytes < ENDLESS).then_some(bytes)
    }

    /// A shortest text from here to the end.
    pub(super) fn shortest(&mut self, at: Place) -> Option<Vec<u8>> {
        let Ending { lexeme: mut text, then, .. } = self.ending(at)?;
        let then = match then {
            Then::Again => {
                let Ending { lexeme, then, .. } = self.ending(self.begin(at.row))?;
                text.extend(lexeme);
                then
            }
            then => then,
        };
        match then {
            Then::Nothing | Then::Again => {}
            Then::After(symbol) => self.write_way(at.row, symbol, &mut text),
            Then::Write(symbol) => {
                self.rules.write_lexeme(symbol, &mut text);
                self.write_way(at.row, symbol, &mut text);
            }
        }
        Some(text)
    }

    fn write_way(&self, mut row: u32, mut symbol: Symbol, text: &mut Vec<u8>) {
        while let Some(Way { item: Item { dot, origin }, .. }) = self.way(row, symbol) {
            self.rules.write_rest(dot + 1, text);
            (row, symbol) = (origin, self.rules.of(dot));
            if row == 0 && symbol == self.rules.start {
                return;
            }
        }
    }

    fn ending(&mut self, at: Place) -> Option<Ending> {
        let row = &self.rows[at.row as usize];
        let mut nexts: Vec<(LexemeIdx, usize, Then)> = Vec::new();
        if !at.begun {
            if row.ends {
                return Some(Ending { bytes: 0, lexeme: Vec::new(), then: Then::Nothing });
            }
            let whole = |&(symbol, way): &(Symbol, Way)| {
                self.rules.lexeme(symbol)?;
                Some((self.rules.bytes(symbol) + way.bytes, symbol))
            };
            let (bytes, symbol) = row.ways.iter().filter_map(whole).min()?;
            let ending = Ending { bytes, lexeme: Vec::new(), then: Then::Write(symbol) };
            return (bytes < ENDLESS).then_some(ending);
        }
        for &(symbol, way) in &row.ways {
            if let Some(lexeme) = self.rules.lexeme(symbol) {
                nexts.push((lexeme, way.bytes, Then::After(symbol)));
            }
        }
        let possible = self.lexer.state_desc(at.state).possible.clone();
        if let Some(skip) = possible.iter().find(|lexeme| self.skips.contains(lexeme)) {
            let bytes = self.distance(self.begin(at.row)).unwrap_or(ENDLESS);
            nexts.push((skip, bytes, Then::Again));
        }
        let next = |lexeme: LexemeIdx| {
            let nexts = nexts.iter().filter(|&&(of, ..)| of == lexeme);
            nexts.min_by_key(|&&(_, bytes, _)| bytes).copied()
        };
        let after = |lexeme| next(lexeme).map(|(_, bytes, _)| bytes);
        let (text, lexeme) = nearest(&mut self.lexer, (at.state, true), after)?;
        let (_, bytes, then) = next(lexeme)?;
        Some(Ending { bytes: text.len() + bytes, lexeme: text, then })
    }
}

impl Item {
    fn advanced(self) -> Self {
        Self { dot: self.dot + 1, ..self }
    }
}

/// Its lexemes are as long as they can be, and nothing else is asked of them.
fn is_plain(spec: &LexerSpec) -> bool {
    spec.lazy_lexemes().is_empty()
        && spec.eos_ending_lexemes().is_empty()
        && !spec.has_stop
        && !spec.has_max_tokens
        && spec.special_token_rx.is_none()
}

fn has_inner_grammar(grammar: &CGrammar) -> bool {
    let (mut seen, mut open) = (HashSet::from([grammar.start()]), vec![grammar.start()]);
    while let Some(symbol) = open.pop() {
        let symbol = grammar.sym_data(symbol);
        if symbol.gen_grammar.is_some() {
            return true;
        }
        let nexts = symbol.rules.iter().flat_map(|&rule| grammar.rule_rhs(rule).0);
        open.extend(nexts.copied().filter(|&next| seen.insert(next)));
    }
    false
}

/// The bytes that end some lexeme best, and which: `after` is what follows it, `None` if nothing
/// may. A lexeme that has not begun takes at least one byte. Of equals it is the first found; those bytes are tried first that make long runs short in
/// most vocabularies.
fn nearest(
    lexer: &mut RegexVec,
    (from, begun): (StateID, bool),
    after: impl Fn(LexemeIdx) -> Option<usize>,
) -> Option<(Vec<u8>, LexemeIdx)> {
    // Each state with the one it was reached from and the byte between.
    let mut states = vec![(from, 0, 0_u8, 0_usize)];
    let mut seen = HashSet::from([from]);
    let mut best: Option<(usize, usize, LexemeIdx)> = None;
    let mut at = 0;
    while let Some(&(state, _, _, depth)) = states.get(at) {
        if best.is_some_and(|(bytes, ..)| bytes <= depth) || at > MOST_STATES {
            break;
        }
        let lexemes = lexer.state_desc(state).greedy_accepting.as_slice().iter();
        for &lexeme in lexemes.filter(|_| begun || at > 0) {
            let bytes = after(lexeme).map_or(ENDLESS, |rest| depth + rest);
            if bytes < best.map_or(ENDLESS, |(bytes, ..)| bytes) {
                best = Some((bytes, at, lexeme));
            }
        }
        if !state.has_lowest_match() {
            for byte in (b' '..=u8::MAX).chain(0..b' ') {
                let next = lexer.transition(state, byte);
                if !next.is_dead() && seen.insert(next) {
                    states.push((next, at, byte, depth + 1));
                }
            }
        }
        at += 1;
    }
    let (_, mut at, lexeme) = best?;
    let mut text = Vec::new();
    while at > 0 {
        let (_, before, byte, _) = states[at];
        text.push(byte);
        at = before;
    }
    text.reverse();
    Some((text, lexeme))
}
