//! A compiled grammar's rules, and the shortest text of each of its symbols.
//!
//! Knows symbols and bytes; nothing of a text that is under way.

use std::collections::HashMap;

use llguidance::earley::{CGrammar, CSymIdx, lexerspec::LexemeIdx};

/// More than anything costs; a few of them still fit into the type.
pub(super) const ENDLESS: usize = usize::MAX / 8;

/// A symbol of the grammar that its start can lead to.
pub(super) type Symbol = u32;
/// A place before, between or after the symbols of a rule.
pub(super) type Dot = u32;

#[derive(Clone)]
pub(super) struct Rules {
    pub(super) start: Symbol,
    symbols: Vec<Known>,
    dots: Vec<AtDot>,
    /// Each byte costs one.
    pub(super) bytes: Costs,
}

#[derive(Clone)]
struct Known {
    rules: Vec<Dot>,
    is_nullable: bool,
    lexeme: Option<LexemeIdx>,
    /// A shortest one, of a lexeme.
    text: Option<Vec<u8>>,
}

#[derive(Clone)]
struct AtDot {
    /// What the rule is of.
    of: Symbol,
    /// `None` at the rule's end.
    next: Option<Symbol>,
}

/// What everything costs at least, if lexemes cost something.
#[derive(Clone, Default)]
pub(super) struct Costs {
    symbols: Vec<usize>,
    /// The rule that costs the least, of symbols that have one and are not best left out.
    cheapest: Vec<Option<Dot>>,
    /// From a dot to the rule's end.
    rests: Vec<usize>,
}

impl Costs {
    pub(super) fn of(&self, symbol: Symbol) -> usize {
        self.symbols[symbol as usize]
    }
}

/// A rule that is under way in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Item {
    pub(super) dot: Dot,
    /// The row of the chart where it began.
    pub(super) origin: u32,
}

impl Item {
    pub(super) fn advanced(self) -> Self {
        Self { dot: self.dot + 1, ..self }
    }
}

/// From after a symbol to the end of the text.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) cost: usize,
    /// The item whose rule goes on.
    pub(super) item: Item,
}

/// The way from after a symbol, out of those of its row.
pub(super) fn way(ways: &[(Symbol, Way)], symbol: Symbol) -> Option<Way> {
    ways.binary_search_by_key(&symbol, |&(symbol, _)| symbol).ok().map(|at| ways[at].1)
}

impl Rules {
    /// `shortest` is a shortest text of a lexeme; `None` if there is none or it was not found.
    pub(super) fn new(
        grammar: &CGrammar,
        mut shortest: impl FnMut(LexemeIdx) -> Option<Vec<u8>>,
    ) -> Self {
        let (symbols, dots, bytes) = (Vec::new(), Vec::new(), Costs::default());
        let mut rules = Self { start: 0, symbols, dots, bytes };
        let (mut found, mut known) = (vec![grammar.start()], HashMap::from([(grammar.start(), 0)]));
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
                    rules.dots.push(AtDot { of, next });
                }
                rules.dots.push(AtDot { of, next: None });
            }
            rules.symbols.push(Known {
                rules: begins,
                is_nullable: symbol.is_nullable,
                lexeme: symbol.lexeme,
                text: symbol.lexeme.and_then(&mut shortest),
            });
            at += 1;
        }
        rules.bytes = rules.costs(|symbol| rules.text(symbol).map_or(ENDLESS, <[u8]>::len));
        rules
    }

    /// What everything costs at least: Dijkstra's algorithm made general (Knuth 1977), here as
    /// passes until nothing changes, for what is inside was mostly found last.
    pub(super) fn costs(&self, lexeme: impl Fn(Symbol) -> usize) -> Costs {
        let first = |index: usize| match &self.symbols[index] {
            Known { lexeme: Some(_), .. } => lexeme(count(index)),
            Known { is_nullable: true, .. } => 0,
            Known { .. } => ENDLESS,
        };
        let mut costs: Vec<usize> = (0..self.symbols.len()).map(first).collect();
        let mut cheapest = vec![None; costs.len()];
        let mut changed = true;
        while changed {
            changed = false;
            for index in (0..costs.len()).rev() {
                for &rule in &self.symbols[index].rules {
                    let parts = self.dots[rule as usize..].iter().map_while(|dot| dot.next);
                    let parts = parts.map(|symbol| costs[symbol as usize]);
                    let cost = parts.fold(0, |sum, cost| (sum + cost).min(ENDLESS));
                    if cost < costs[index] {
                        (costs[index], cheapest[index], changed) = (cost, Some(rule), true);
                    }
                }
            }
        }
        let mut rests = vec![0; self.dots.len()];
        for dot in (0..self.dots.len()).rev() {
            if let Some(next) = self.dots[dot].next {
                rests[dot] = (costs[next as usize] + rests[dot + 1]).min(ENDLESS);
            }
        }
        Costs { symbols: costs, cheapest, rests }
    }

    /// The cheapest ways from after each symbol that may come next in the row of these items; `rows`
    /// are those of the rows before it.
    pub(super) fn ways(
        &self,
        costs: &Costs,
        items: &[Item],
        rows: &[impl AsRef<[(Symbol, Way)]>],
    ) -> Vec<(Symbol, Way)> {
        let mut ways: HashMap<Symbol, Way> = HashMap::new();
        let mut changed = true;
        while changed {
            changed = false;
            for &item in items {
                let Some(next) = self.next(item.dot) else { continue };
                let of = self.of(item.dot);
                let onward = if of == self.start && item.origin == 0 {
                    Some(0)
                } else if let Some(row) = rows.get(item.origin as usize) {
                    way(row.as_ref(), of).map(|way| way.cost)
                } else {
                    ways.get(&of).map(|way| way.cost)
                };
                let rest = costs.rests[item.dot as usize + 1];
                let cost = onward.map_or(ENDLESS, |onward| (rest + onward).min(ENDLESS));
                if cost < ways.get(&next).map_or(ENDLESS, |way| way.cost) {
                    ways.insert(next, Way { cost, item });
                    changed = true;
                }
            }
        }
        let mut ways: Vec<(Symbol, Way)> = ways.into_iter().collect();
        ways.sort_unstable_by_key(|&(symbol, _)| symbol);
        ways
    }

    pub(super) fn of(&self, dot: Dot) -> Symbol {
        self.dots[dot as usize].of
    }

    pub(super) fn next(&self, dot: Dot) -> Option<Symbol> {
        self.dots[dot as usize].next
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

    /// A shortest text of a lexeme.
    pub(super) fn text(&self, symbol: Symbol) -> Option<&[u8]> {
        self.symbols[symbol as usize].text.as_deref()
    }

    /// The lexemes that have a text.
    pub(super) fn lexemes(&self) -> impl Iterator<Item = (Symbol, LexemeIdx, &[u8])> {
        let known = (0..).zip(&self.symbols);
        known.filter_map(|(symbol, known)| Some((symbol, known.lexeme?, known.text.as_deref()?)))
    }

    /// Writes the shortest text of the rest of a rule.
    pub(super) fn write_rest(&self, dot: Dot, text: &mut Vec<u8>) {
        let mut open = vec![dot];
        while let Some(dot) = open.pop() {
            let Some(next) = self.next(dot) else { continue };
            open.push(dot + 1);
            match self.bytes.cheapest[next as usize] {
                Some(rule) => open.push(rule),
                None => text.extend_from_slice(self.text(next).unwrap_or_default()),
            }
        }
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("the compiler limits a grammar far below 2^32 symbols")
}
