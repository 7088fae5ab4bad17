//! Ways to the end of a text, in pieces, so that it ends while there is room.
//!
//! Knows the grammar's chart and the union's pieces; nothing of how they are drawn.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use llguidance::toktrie::TokEnv;

use super::chart::{Chart, Place};
use crate::vocab::{Piece, UnionId, UnionVocab};

/// What is left for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Pieces, `End` included where the text needs one.
    pub pieces: usize,
    /// Bytes, for a piece can be as many tokens of a member as it has bytes.
    pub bytes: usize,
}

impl Room {
    pub const ENDLESS: Self = Self { pieces: usize::MAX, bytes: usize::MAX };

    /// What is left after a piece of so many bytes.
    fn after(self, bytes: usize) -> Self {
        Self { pieces: self.pieces.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }
}

/// How many of the most probable pieces are weighed against the room where it is scarce.
const WEIGHED: usize = 256;

/// The most bytes that are gone through to make sure that nothing fits into a budget.
const MOST_BYTES: usize = 4_000_000;

/// Where a text stands and how it can end.
#[derive(Clone)]
pub(super) struct Closing {
    chart: Chart,
    union: Arc<UnionVocab>,
    pieces: TokEnv,
    at: Place,
    /// A way from here to the end, if it was needed yet.
    held: Option<Vec<UnionId>>,
    /// The pieces of the ways that were asked for.
    lengths: HashMap<Place, usize>,
}

/// Where a piece leads.
pub(super) struct Next {
    at: Place,
    held: Option<Vec<UnionId>>,
}

/// What comes of a piece.
pub(super) enum Weighed {
    Fits(Next),
    /// The text could not end in the room that is left then.
    Crowds,
    /// The chart does not have it.
    Lost,
}

impl Closing {
    /// Before the first piece; `None` if no way to the end is found.
    pub(super) fn new(chart: Chart, union: Arc<UnionVocab>, pieces: TokEnv) -> Option<Self> {
        let (at, lengths) = (chart.start(), HashMap::new());
        let mut closing = Self { chart, union, pieces, at, held: None, lengths };
        closing.held = Some(closing.way(at)?);
        Some(closing)
    }

    /// The way from here to the end that is held; empty if none is.
    pub(super) fn held(&self) -> &[UnionId] {
        self.held.as_deref().unwrap_or_default()
    }

    /// A way from here to the end, which is held from now on; empty if none is found.
    pub(super) fn find(&mut self) -> &[UnionId] {
        if self.held.is_none() {
            self.held = self.way(self.at);
        }
        self.held()
    }

    /// Goes through all that can be written with so many pieces, and holds what is whole; false if
    /// it is certain that nothing is.
    pub(super) fn search(&mut self, most: usize) -> bool {
        let pieces = self.pieces.clone();
        let trie = pieces.tok_trie();
        let mut cuts = self.chart.cuts(&self.union, trie);
        // Each place with the one before it and the piece between; of one level after the other.
        let mut places = vec![(self.at, 0, self.union.end())];
        let mut seen = HashSet::from([self.at]);
        let (mut level, mut bytes) = (0..1, 0);
        for left in (0..most).rev() {
            for before in level.clone() {
                let mut open = vec![(places[before].0, trie.root())];
                while let Some((at, node)) = open.pop() {
                    for child in trie.node_children(node) {
                        bytes += 1;
                        if bytes > MOST_BYTES || self.chart.is_overfull() {
                            return true;
                        }
                        let Some(at) = self.chart.go(at, &[child.byte()]) else { continue };
                        open.push((at, child));
                        let Some(id) = child.token_id().filter(|_| seen.insert(at)) else {
                            continue;
                        };
                        let is_over = self.chart.is_over(at);
                        if !is_over && self.chart.fewest_cuts(&mut cuts, at) >= left {
                            continue;
                        }
                        places.push((at, before, UnionId(id)));
                        if is_over || left > 0 && self.chart.may_end(at) {
                            self.held = Some(back(&places, (!is_over).then(|| self.union.end())));
                            return true;
                        }
                    }
                }
            }
            level = level.end..places.len();
        }
        false
    }

    /// Goes on to the end by a piece.
    pub(super) fn close(&mut self) -> Option<UnionId> {
        let next = self.find().first().copied()?;
        if next != self.union.end() {
            self.at = self.after(next)?;
        }
        self.held.as_mut()?.remove(0);
        Some(next)
    }

    /// Where the text stands after a piece that is not `End`; `None` if the chart does not have it.
    fn after(&mut self, id: UnionId) -> Option<Place> {
        let union = self.union.clone();
        self.chart.go(self.at, bytes_of(&union, id))
    }

    /// The fewest bytes with which the lexeme that a piece leads to can end, if they are known.
    pub(super) fn rest(&mut self, id: UnionId) -> Option<usize> {
        let at = self.after(id)?;
        self.chart.rest(at)
    }

    /// Whether the text can end in the room that is left after a piece. `leads_to_end` says whether
    /// these pieces do.
    pub(super) fn weigh(
        &mut self,
        id: UnionId,
        room: Room,
        leads_to_end: impl FnOnce(&[UnionId]) -> bool,
    ) -> Weighed {
        let Some(at) = self.after(id) else { return Weighed::Lost };
        let room = room.after(bytes_of(&self.union, id).len());
        if self.is_roomy(at, room) {
            return Weighed::Fits(Next { at, held: None });
        }
        let known = self.held().split_first().filter(|&(&first, _)| first == id);
        let known = known.map(|(_, rest)| rest.to_vec());
        let ways = [known, self.way(at)].into_iter().flatten();
        let Some(held) = ways.min_by_key(Vec::len) else { return Weighed::Crowds };
        let whole: Vec<UnionId> = [id].into_iter().chain(held.iter().copied()).collect();
        if self.fits(&held, room) && leads_to_end(&whole) {
            Weighed::Fits(Next { at, held: Some(held) })
        } else {
            Weighed::Crowds
        }
    }

    pub(super) fn go(&mut self, Next { at, held }: Next) {
        (self.at, self.held) = (at, held);
    }

    /// Takes the mass from every piece after which the text could not end in the room that is left
    /// then, and from those that are not among the most probable. A way to the end can always go on.
    pub(super) fn keep_room(&mut self, mix: &mut [f32], room: Room) {
        let mut likely: Vec<usize> = (0..mix.len()).filter(|&index| mix[index] > 0.0).collect();
        if likely.len() > WEIGHED {
            let by_mass = |&a: &usize, &b: &usize| mix[b].total_cmp(&mix[a]).then(a.cmp(&b));
            likely.select_nth_unstable_by(WEIGHED, by_mass);
            likely.truncate(WEIGHED);
        }
        let next = self.find().first().copied();
        let end = self.union.end();
        let masses: Vec<(usize, f32)> = likely
            .into_iter()
            .filter(|&index| {
                let id = UnionId(u32::try_from(index).expect("under 2^32 pieces"));
                id == end || Some(id) == next || self.leaves_room(id, room)
            })
            .map(|index| (index, mix[index]))
            .collect();
        mix.fill(0.0);
        masses.iter().for_each(|&(index, mass)| mix[index] = mass);
        if let Some(next) = next {
            let mass = &mut mix[next.0 as usize];
            *mass = mass.max(f32::MIN_POSITIVE);
        }
    }

    fn leaves_room(&mut self, id: UnionId, room: Room) -> bool {
        let Some(at) = self.after(id) else { return false };
        let room = room.after(bytes_of(&self.union, id).len());
        if self.is_roomy(at, room) {
            return true;
        }
        let length = self.lengths.get(&at).copied().unwrap_or_else(|| {
            let length = self.way(at).map_or(usize::MAX, |way| way.len());
            self.lengths.insert(at, length);
            length
        });
        length <= room.pieces && self.chart.distance(at).is_some_and(|bytes| bytes <= room.bytes)
    }

    /// There is room for each byte as a piece, and `End`.
    fn is_roomy(&mut self, at: Place, room: Room) -> bool {
        let bytes = self.chart.distance(at);
        bytes.is_some_and(|bytes| bytes < room.pieces && bytes <= room.bytes)
    }

    fn fits(&self, way: &[UnionId], room: Room) -> bool {
        let bytes: usize = way.iter().map(|&id| bytes_of(&self.union, id).len()).sum();
        way.len() <= room.pieces && bytes <= room.bytes
    }

    /// The shortest text from a place to the end in the fewest pieces.
    fn way(&mut self, at: Place) -> Option<Vec<UnionId>> {
        let text = self.chart.shortest(at)?;
        let end = self.chart.go(at, &text)?;
        let mut way = self.fewest(&text)?;
        if !self.chart.is_over(end) {
            way.push(self.union.end());
        }
        Some(way)
    }

    /// A text in the fewest pieces; `None` if some of it has no pieces.
    fn fewest(&self, text: &[u8]) -> Option<Vec<UnionId>> {
        let trie = self.pieces.tok_trie();
        // For each length of text: the fewest pieces, and the last of them.
        let mut best: Vec<Option<(usize, UnionId, usize)>> = vec![None; text.len() + 1];
        for start in 0..text.len() {
            let before = if start == 0 { Some(0) } else { best[start].map(|(count, ..)| count) };
            let Some(count) = before.map(|count| count + 1) else { continue };
            let mut node = trie.root();
            for (end, &byte) in (start + 1..).zip(&text[start..]) {
                let Some(child) = trie.child_at_byte(node, byte) else { break };
                node = child;
                if let Some(id) = node.token_id()
                    && best[end].is_none_or(|(least, ..)| count < least)
                {
                    best[end] = Some((count, UnionId(id), start));
                }
            }
        }
        let (mut pieces, mut end) = (Vec::new(), text.len());
        while end > 0 {
            let (_, id, start) = best[end]?;
            pieces.push(id);
            end = start;
        }
        pieces.reverse();
        Some(pieces)
    }
}

/// The pieces that led to the last place, and what comes after it.
fn back(places: &[(Place, usize, UnionId)], last: Option<UnionId>) -> Vec<UnionId> {
    let mut way: Vec<UnionId> = last.into_iter().collect();
    let mut at = places.len() - 1;
    while at > 0 {
        let (_, before, id) = places[at];
        way.push(id);
        at = before;
    }
    way.reverse();
    way
}

fn bytes_of(union: &UnionVocab, id: UnionId) -> &[u8] {
    match union.piece(id) {
        Piece::Bytes(bytes) => bytes,
        Piece::End => &[],
    }
}
