//! How many pieces a text under a grammar has at least, for certain.
//!
//! A lexeme that is one text and longer than what a piece holds of it has borders of pieces inside,
//! wherever it stands. The fewest of these cuts in a whole text bound its pieces from below,
//! whatever else it says.
//!
//! Knows rules and pieces; nothing of a text that is under way.

use std::collections::HashSet;

use llguidance::toktrie::TokTrie;

use super::rules::{Costs, Item, Rules, Symbol, Way};
use crate::vocab::{Piece, UnionVocab};

pub(super) struct Cuts {
    costs: Costs,
    /// Of each row of the chart: the fewest cuts from after a symbol to the end.
    rows: Vec<Vec<(Symbol, Way)>>,
}

impl Cuts {
    /// `literals` are the lexemes that are one text.
    pub(super) fn new(
        rules: &Rules,
        literals: &[(Symbol, Vec<u8>)],
        (union, trie): (&UnionVocab, &TokTrie),
    ) -> Self {
        let cuts = inside(literals, union, trie);
        let of = |symbol| {
            let at = literals.iter().position(|&(literal, _)| literal == symbol);
            at.map_or(0, |at| cuts[at])
        };
        Self { costs: rules.costs(of), rows: Vec::new() }
    }

    /// How many rows it knows.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Learns the next row.
    pub(super) fn learn(&mut self, rules: &Rules, items: &[Item]) {
        let ways = rules.ways(&self.costs, items, &self.rows);
        self.rows.push(ways);
    }

    /// In a symbol and from after it to the end.
    pub(super) fn with(&self, row: u32, symbol: Symbol) -> usize {
        self.costs.of(symbol) + self.after(row, symbol)
    }

    /// From after a symbol to the end.
    pub(super) fn after(&self, row: u32, symbol: Symbol) -> usize {
        super::rules::way(&self.rows[row as usize], symbol).map_or(0, |way| way.cost)
    }
}

/// The fewest borders of pieces inside each of these texts, wherever it stands.
fn inside(texts: &[(Symbol, Vec<u8>)], union: &UnionVocab, trie: &TokTrie) -> Vec<usize> {
    // For each length of a text: the fewest pieces up to a border there.
    let mut borders: Vec<Vec<Option<usize>>> =
        texts.iter().map(|(_, text)| vec![None; text.len() + 1]).collect();
    let mut is_held = vec![false; texts.len()];
    let firsts: HashSet<u8> = texts.iter().filter_map(|(_, text)| text.first().copied()).collect();
    for piece in union.pieces() {
        let Piece::Bytes(bytes) = piece else { continue };
        for start in (0..bytes.len()).filter(|&start| firsts.contains(&bytes[start])) {
            let tail = &bytes[start..];
            for (index, (_, text)) in texts.iter().enumerate() {
                if tail.starts_with(text) {
                    is_held[index] = true;
                } else if text.starts_with(tail) {
                    borders[index][tail.len()] = Some(1);
                }
            }
        }
    }
    let cuts = texts.iter().zip(borders).zip(is_held);
    cuts.map(
        |(((_, text), borders), is_held)| if is_held { 0 } else { fewest(text, borders, trie) },
    )
    .collect()
}

/// The fewest borders inside a text that no piece holds; the first piece may begin before it and
/// the last may end after it.
fn fewest(text: &[u8], mut borders: Vec<Option<usize>>, trie: &TokTrie) -> usize {
    let mut least = usize::MAX;
    for start in 1..text.len() {
        let Some(count) = borders[start] else { continue };
        let mut node = Some(trie.root());
        for (end, &byte) in (start + 1..).zip(&text[start..]) {
            node = node.and_then(|node| trie.child_at_byte(node, byte));
            if node.is_some_and(|node| node.token_id().is_some()) {
                let known = &mut borders[end];
                *known = Some(known.map_or(count + 1, |known| known.min(count + 1)));
            }
        }
        // A piece goes on with all of the rest.
        if node.is_some() {
            least = least.min(count);
        }
    }
    // What cannot be written is in no text, or in one that is not to be reckoned with here.
    if least == usize::MAX { 0 } else { least }
}
