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
    earley::{CGrammar, lexerspec::LexemeIdx},
    toktrie::TokTrie,
};

use super::{
    cuts::Cuts,
    lexing::Lexer,
    rules::{self, Dot, ENDLESS, Item, Rules, Symbol, Way},
};
use crate::vocab::UnionVocab;

#[derive(Clone)]
pub(super) struct Chart {
    rules: Rules,
    lexer: Lexer,
    rows: Vec<Row>,
    /// Rows by the items that what was read has led to.
    known: HashMap<Vec<Item>, u32>,
    /// Distances that were asked for.
    distances: HashMap<Place, usize>,
}

/// The most rows while all that may be written is gone through: some 50 MB.
const MOST_ROWS: usize = 50_000;

/// Where a text has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    row: u32,
    /// Of the lexeme under way.
    state: StateID,
    /// Some of that lexeme is there.
    begun: bool,
}

#[derive(Clone)]
struct Row {
    items: Vec<Item>,
    /// To the end in bytes, by symbol.
    ways: Vec<(Symbol, Way)>,
    start: StateID,
    /// The text may end here.
    ends: bool,
}

impl AsRef<[(Symbol, Way)]> for Row {
    fn as_ref(&self) -> &[(Symbol, Way)] {
        &self.ways
    }
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

impl Chart {
    /// `None` for what is beyond it: lexemes that are not as long as they can be, rules with
    /// parameters, grammars in grammars.
    pub(super) fn new(grammar: &CGrammar, limits: &ParserLimits) -> Option<Self> {
        if grammar.parametric() || has_inner_grammar(grammar) {
            return None;
        }
        let mut lexer = Lexer::new(grammar.lexer_spec(), limits)?;
        let rules = Rules::new(grammar, |lexeme| lexer.shortest(lexeme));
        let (rows, known, distances) = (Vec::new(), HashMap::new(), HashMap::new());
        let mut chart = Self { rules, lexer, rows, known, distances };
        let first = |&dot: &Dot| Item { dot, origin: 0 };
        let items = chart.rules.rules(chart.rules.start).iter().map(first).collect();
        chart.row(items);
        (!chart.lexer.is_broken()).then_some(chart)
    }

    /// It has become too large to be gone on with, or what it says is no longer true.
    pub(super) fn is_overfull(&self) -> bool {
        self.rows.len() > MOST_ROWS || self.lexer.is_broken()
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
        self.lexer.refuel();
        let at = bytes.iter().try_fold(from, |at, &byte| self.push(at, byte))?;
        (!self.lexer.is_broken()).then_some(at)
    }

    fn push(&mut self, at: Place, byte: u8) -> Option<Place> {
        if let Some(state) = self.lexer.push(at.state, byte) {
            return self.settle(at.row, state);
        }
        let row = self.scan(at.row, at.state)?;
        let state = self.lexer.push(self.rows[row as usize].start, byte)?;
        self.settle(row, state)
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
        let lexemes = self.lexer.over(state);
        if lexemes.iter().any(|&lexeme| self.lexer.means_nothing(lexeme)) {
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
        let start = self.lexer.start(allowed);
        let ways = self.rules.ways(&self.rules.bytes, &items, &self.rows);
        Row { items, ways, start, ends }
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

    /// The fewest bytes with which the lexeme under way can end; `None` if none were found.
    pub(super) fn rest(&mut self, at: Place) -> Option<usize> {
        if at.begun { self.lexer.rest(at.state) } else { Some(0) }
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
                text.extend_from_slice(self.rules.text(symbol).unwrap_or_default());
                self.write_way(at.row, symbol, &mut text);
            }
        }
        Some(text)
    }

    fn write_way(&self, mut row: u32, mut symbol: Symbol, text: &mut Vec<u8>) {
        let way = |row: u32, symbol| rules::way(&self.rows[row as usize].ways, symbol);
        while let Some(Way { item: Item { dot, origin }, .. }) = way(row, symbol) {
            self.rules.write_rest(dot + 1, text);
            (row, symbol) = (origin, self.rules.of(dot));
            if row == 0 && symbol == self.rules.start {
                return;
            }
        }
    }

    /// What bounds the pieces of a text from below.
    pub(super) fn cuts(&mut self, union: &UnionVocab, trie: &TokTrie) -> Cuts {
        let Self { rules, lexer, .. } = self;
        let one = |(symbol, lexeme, text): (Symbol, LexemeIdx, &[u8])| {
            lexer.has_one(lexeme, text).then(|| (symbol, text.to_vec()))
        };
        let literals: Vec<(Symbol, Vec<u8>)> = rules.lexemes().filter_map(one).collect();
        Cuts::new(rules, &literals, (union, trie))
    }

    /// How many borders of pieces there are at least after a place.
    pub(super) fn fewest_cuts(&self, cuts: &mut Cuts, at: Place) -> usize {
        for row in &self.rows[cuts.rows()..] {
            cuts.learn(&self.rules, &row.items);
        }
        let row = &self.rows[at.row as usize];
        let lexemes =
            row.ways.iter().filter_map(|&(symbol, _)| Some((symbol, self.rules.lexeme(symbol)?)));
        if !at.begun && row.ends {
            return 0;
        }
        let skips = self.lexer.skip(at.state).is_some();
        let fewest = lexemes.filter_map(|(symbol, lexeme)| {
            if !at.begun || skips {
                Some(cuts.with(at.row, symbol))
            } else {
                self.lexer.may_be(at.state, lexeme).then(|| cuts.after(at.row, symbol))
            }
        });
        fewest.min().unwrap_or(0)
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
                Some((self.rules.bytes.of(symbol) + way.cost, symbol))
            };
            let (bytes, symbol) = row.ways.iter().filter_map(whole).min()?;
            let ending = Ending { bytes, lexeme: Vec::new(), then: Then::Write(symbol) };
            return (bytes < ENDLESS).then_some(ending);
        }
        for &(symbol, way) in &row.ways {
            if let Some(lexeme) = self.rules.lexeme(symbol) {
                nexts.push((lexeme, way.cost, Then::After(symbol)));
            }
        }
        if let Some(skip) = self.lexer.skip(at.state) {
            let bytes = self.distance(self.begin(at.row)).unwrap_or(ENDLESS);
            nexts.push((skip, bytes, Then::Again));
        }
        let next = |lexeme: LexemeIdx| {
            let nexts = nexts.iter().filter(|&&(of, ..)| of == lexeme);
            nexts.min_by_key(|&&(_, bytes, _)| bytes).copied()
        };
        let after = |lexeme| next(lexeme).map(|(_, bytes, _)| bytes);
        let (text, lexeme) = self.lexer.nearest(at.state, true, after)?;
        let (_, bytes, then) = next(lexeme)?;
        Some(Ending { bytes: text.len() + bytes, lexeme: text, then })
    }
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
