//! The union vocabulary on bytes, and each member's map into it.
//!
//! Pure: ids, bytes and f32 slices. No tensors, no threads, no `String` for tokens.

use std::collections::HashMap;

/// An id in one member's own vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u32);

/// An id in the union vocabulary. Never interchangeable with [`TokenId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnionId(pub u32);

/// What a token stands for, whichever member it came from.
///
/// The derived order is the order of union ids: pieces by byte string, `End` last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// Every stop token of every member is this one entry.
    End,
}

/// All pieces that some member has a token for, in byte order, `End` last.
#[derive(Debug)]
pub struct UnionVocab {
    pieces: Vec<Piece>,
    ids: HashMap<Piece, UnionId>,
}

/// One member's ids into the union's. Tokens that stand for no piece (padding, reserved and
/// control tokens) are mapped nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VocabMap {
    to_union: Vec<u32>,
}

/// Marks a token that stands for no piece.
const NOWHERE: u32 = u32::MAX;

impl UnionVocab {
    /// Builds the union of the members' vocabularies and each member's map into it. A member's
    /// vocabulary lists, for each of its logits in order, the piece or `None`.
    pub fn build(members: &[Vec<Option<Piece>>]) -> (Self, Vec<VocabMap>) {
        let mut pieces: Vec<Piece> = members.iter().flatten().flatten().cloned().collect();
        pieces.push(Piece::End);
        pieces.sort_unstable();
        pieces.dedup();
        let union = Self::from_sorted(pieces);
        let maps = members.iter().map(|member| union.map_of(member)).collect();
        (union, maps)
    }

    fn from_sorted(pieces: Vec<Piece>) -> Self {
        let ids = pieces
            .iter()
            .enumerate()
            .map(|(id, piece)| {
                (piece.clone(), UnionId(u32::try_from(id).expect("under 2^32 pieces")))
            })
            .collect();
        Self { pieces, ids }
    }

    fn map_of(&self, member: &[Option<Piece>]) -> VocabMap {
        let to_union = member
            .iter()
            .map(|piece| piece.as_ref().map_or(NOWHERE, |piece| self.ids[piece].0))
            .collect();
        VocabMap { to_union }
    }

    /// The number of pieces, `End` included.
    pub fn size(&self) -> usize {
        self.pieces.len()
    }

    /// # Panics
    /// If `id` is not of this union.
    pub fn piece(&self, id: UnionId) -> &Piece {
        &self.pieces[id.0 as usize]
    }

    pub fn id(&self, piece: &Piece) -> Option<UnionId> {
        self.ids.get(piece).copied()
    }

    /// `End` is always the last piece.
    pub fn end(&self) -> UnionId {
        UnionId(u32::try_from(self.pieces.len() - 1).expect("under 2^32 pieces"))
    }

    /// All pieces in id order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

impl VocabMap {
    /// The number of the member's logits that this map covers.
    pub fn len(&self) -> usize {
        self.to_union.len()
    }

    pub fn is_empty(&self) -> bool {
        self.to_union.is_empty()
    }

    pub fn get(&self, token: TokenId) -> Option<UnionId> {
        let id = *self.to_union.get(token.0 as usize)?;
        (id != NOWHERE).then_some(UnionId(id))
    }

    /// `mix[union] += weight * probs[token]`, tokens in id order; tokens that stand for no piece
    /// must carry no mass.
    ///
    /// # Panics
    /// If `probs` is not as long as the map.
    pub fn project_into(&self, probs: &[f32], weight: f32, mix: &mut [f32]) {
        assert_eq!(probs.len(), self.to_union.len(), "one probability a logit");
        for (&p, &id) in probs.iter().zip(&self.to_union) {
            if id != NOWHERE {
                mix[id as usize] += weight * p;
            }
        }
    }

    /// Sets the logits of tokens that stand for no piece to minus infinity.
    ///
    /// # Panics
    /// If `logits` is not as long as the map.
    pub fn mask(&self, logits: &mut [f32]) {
        assert_eq!(logits.len(), self.to_union.len(), "one entry a logit");
        for (logit, &id) in logits.iter_mut().zip(&self.to_union) {
            if id == NOWHERE {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
