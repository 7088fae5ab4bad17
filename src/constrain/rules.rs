//! A compiled grammar's rules, and the shortest text of each of its symbols.
//!
//! Knows symbols and bytes; nothing of a text that is under way.

use std::collections::HashMap;

use llguidance::earley::{CGrammar, CSymIdx, lexerspec::LexemeIdx};

/// More than any text has; two of them still fit into the type.
pub(super) const ENDLESS: usize = usize::MAX / 4;

/// A symbol of the grammar that its start can lead to.
pub(super) type Symbol = u32;
/// A place before, between or after the symbols of a rule.
pub(super) type Dot = u32;

#[derive(Clone)]
pub(super) struct Rules {
    pub(super) start: Symbol,
    symbols: Vec<Known>,
    dots: Vec<AtDot>,
}

#[derive(Clone)]
struct Known {
    rules: Vec<Dot>,
    is_nullable: bool,
    lexeme: Option<LexemeIdx>,
    /// The fewest bytes of what it stands for.
    bytes: usize,
    shortest: Shortest,
}

#[derive(Clone)]
enum Shortest {
    Nothing,
    Text(Vec<u8>),
    Rule(Dot),
}

#[derive(Clone)]
struct AtDot {
    /// What the rule is of.
    of: Symbol,
    /// `None` at the rule's end.
    next: Option<Symbol>,
    /// The fewest bytes of the rest of the rule.
    rest: usize,
}

impl Rules {
    /// `shortest` is a shortest text of a lexeme; `None` if there is none or it was not found.
    pub(super) fn new(
        grammar: &CGrammar,
        mut shortest: impl FnMut(LexemeIdx) -> Option<Vec<u8>>,
    ) -> Self {
        let mut rules = Self { start: 0, symbols: Vec::new(), dots: Vec::new() };
        let (mut found, mut known) = (vec![grammar.start()], HashMap::new());
        known.insert(grammar.start(), 0);
        let mut name = |symbol: CSymIdx, found: &mut Vec<CSymIdx>| {
            *known.entry(symbol).or_insert_with(|| {
                found.push(symbol);
                count(found.len() - 1)
            })
        };
        let mut at = 0;
        while at < found.len() {
            let (of, symbol) = (count(at), grammar.sym_data(found[at]));
            let mut begins = Vec::with_capacity(symbol.rules.len());
            for &rule in &symbol.rules {
                begins.push(count(rules.dots.len()));
                for &next in grammar.rule_rhs(rule).0 {
                    let next = Some(name(next, &mut found));
                    rules.dots.push(AtDot { of, next, rest: ENDLESS });
                }
                rules.dots.push(AtDot { of, next: None, rest: 0 });
            }
            let text = symbol.lexeme.and_then(&mut shortest);
            let (bytes, shortest) = match text {
                Some(text) => (text.len(), Shortest::Text(text)),
                None if symbol.is_nullable => (0, Shortest::Nothing),
                None => (ENDLESS, Shortest::Nothing),
            };
            let (is_nullable, lexeme) = (symbol.is_nullable, symbol.lexeme);
            rules.symbols.push(Known { rules: begins, is_nullable, lexeme, bytes, shortest });
            at += 1;
        }
        rules.measure();
        rules
    }

    /// Finds the fewest bytes of everything: a generalization of Dijkstra's algorithm, Knuth 1977,
    /// here as passes until nothing changes, since what is found last is mostly inside.
    fn measure(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            for symbol in (0..self.symbols.len()).rev() {
                for rule in 0..self.symbols[symbol].rules.len() {
                    let first = self.symbols[symbol].rules[rule];
                    let bytes = self.sum(first);
                    let known = &mut self.symbols[symbol];
                    if bytes < known.bytes {
                        (known.bytes, known.shortest) = (bytes, Shortest::Rule(first));
                        changed = true;
                    }
                }
            }
        }
        for dot in (0..self.dots.len()).rev() {
            if let Some(next) = self.dots[dot].next {
                let rest = self.symbols[next as usize].bytes + self.dots[dot + 1].rest;
                self.dots[dot].rest = rest.min(ENDLESS);
            }
        }
    }

    fn sum(&self, first: Dot) -> usize {
        let rule = self.dots[first as usize..].iter().map_while(|dot| dot.next);
        let bytes = rule.map(|symbol| self.symbols[symbol as usize].bytes);
        bytes.fold(0, |sum, bytes| (sum + bytes).min(ENDLESS))
    }

    pub(super) fn of(&self, dot: Dot) -> Symbol {
        self.dots[dot as usize].of
    }

    pub(super) fn next(&self, dot: Dot) -> Option<Symbol> {
        self.dots[dot as usize].next
    }

    pub(super) fn rest(&self, dot: Dot) -> usize {
        self.dots[dot as usize].rest
    }

    pub(super) fn rules(&self, symbol: Symbol) -> &[Dot] {
        &self.symbols[symbol as usize].rules
    }

    pub(super) fn is_nullable(&self, symbol: Symbol) -> bool {
        self.symbols[symbol as usize].is_nullable
    }

    pub(super) fn lexeme(&self, symbol: Symbol) -> Option<LexemeIdx> {
        self.symbols[symbol as usize].lexeme
    }

    pub(super) fn bytes(&self, symbol: Symbol) -> usize {
        self.symbols[symbol as usize].bytes
    }

    /// Writes a lexeme's shortest text.
    pub(super) fn write_lexeme(&self, symbol: Symbol, text: &mut Vec<u8>) {
        if let Shortest::Text(shortest) = &self.symbols[symbol as usize].shortest {
            text.extend_from_slice(shortest);
        }
    }

    /// Writes the shortest text of the rest of a rule.
    pub(super) fn write_rest(&self, dot: Dot, text: &mut Vec<u8>) {
        let mut open = vec![dot];
        while let Some(dot) = open.pop() {
            let Some(next) = self.next(dot) else { continue };
            open.push(dot + 1);
            match self.symbols[next as usize].shortest {
                Shortest::Rule(first) => open.push(first),
                _ => self.write_lexeme(next, text),
            }
        }
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("the compiler limits a grammar far below 2^32 symbols")
}
