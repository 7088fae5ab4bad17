//! A member's tokens in the order of the union's pieces: masses are read wherever they lie, and
//! written from the first piece to the last, any part of the union by itself.

use super::NOWHERE;
use crate::isa::{Isa, versions};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ByPiece {
    /// Each piece's first token, `NOWHERE` without one; empty if most pieces have none, which is
    /// faster to tell piece by piece.
    first: Vec<u32>,
    /// The other tokens behind their pieces, in piece and then in token order.
    others: Vec<(u32, u32)>,
}

impl ByPiece {
    /// `to_union` has ids below `size` and [`NOWHERE`].
    pub(super) fn new(to_union: &[u32], size: usize) -> Self {
        let pairs = to_union.iter().copied().zip(0..).filter(|&(piece, _)| piece != NOWHERE);
        let mut others: Vec<(u32, u32)> = pairs.collect();
        others.sort_unstable();
        let mut first = Vec::new();
        if 2 * others.len() > size {
            first.resize(size, NOWHERE);
            others.retain(|&(piece, token)| {
                let first = &mut first[piece as usize];
                let known = *first != NOWHERE;
                if !known {
                    *first = token;
                }
                known
            });
        }
        others.shrink_to_fit();
        Self { first, others }
    }

    /// Adds the weighted masses of the pieces from `from` on to `mix`, tokens of a piece in id
    /// order.
    pub(super) fn add(&self, probs: &[f32], weight: f32, from: usize, mix: &mut [f32]) {
        let to = from + mix.len();
        if !self.first.is_empty() {
            add_first(Isa::best(), &self.first[from..to], probs, weight, mix);
        }
        let start = self.others.partition_point(|&(piece, _)| (piece as usize) < from);
        for &(piece, token) in &self.others[start..] {
            let piece = piece as usize;
            if piece >= to {
                break;
            }
            mix[piece - from] += weight * probs[token as usize];
        }
    }
}

versions! {
    fn add_first(first: &[u32], probs: &[f32], weight: f32, mix: &mut [f32]) {
        for (mix, &token) in mix.iter_mut().zip(first) {
            // There is nothing at `NOWHERE`.
            *mix += weight * probs.get(token as usize).copied().unwrap_or(0.0);
        }
    }
}
