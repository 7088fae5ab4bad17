//! The union vocabulary on bytes, and each member's map into it.
//!
//! Pure: ids, bytes and f32 slices. No tensors, no threads, no `String` for tokens.

mod by_piece;
mod map_file;
mod summary;

use by_piece::ByPiece;

pub use map_file::{Fingerprint, MapError};
pub use summary::{MemberShare, VocabSummary};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnionVocab {
    pieces: Vec<Piece>,
}

/// One member's ids into the union's. Tokens that stand for no piece (padding, reserved and
/// control tokens) are mapped nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VocabMap {
    to_union: Vec<u32>,
    /// The tokens that are mapped nowhere.
    nowhere: Vec<u32>,
    by_piece: ByPiece,
    /// The number of the union's pieces.
    size: usize,
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
        pieces.shrink_to_fit();
        let union = Self { pieces };
        let maps = members.iter().map(|member| union.map_of(member)).collect();
        (union, maps)
    }

    fn map_of(&self, member: &[Option<Piece>]) -> VocabMap {
        let id = |piece: &Piece| self.id(piece).expect("the union holds every member's pieces").0;
        let to_union = member.iter().map(|piece| piece.as_ref().map_or(NOWHERE, id)).collect();
        VocabMap::new(to_union, self.size())
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
        let rank = self.pieces.binary_search(piece).ok()?;
        Some(UnionId(u32::try_from(rank).expect("under 2^32 pieces")))
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
    /// `to_union` has ids below `size` and [`NOWHERE`].
    fn new(to_union: Vec<u32>, size: usize) -> Self {
        let nowhere = (0..).zip(&to_union).filter(|&(_, &id)| id == NOWHERE);
        let nowhere = nowhere.map(|(token, _)| token).collect();
        Self { nowhere, by_piece: ByPiece::new(&to_union, size), to_union, size }
    }

    /// The map with `other` pieces in the place of those it has, where `other` gives some.
    #[must_use]
    pub fn with(&self, other: impl Fn(UnionId) -> Option<UnionId>) -> Self {
        let moved = |&id: &u32| match id {
            NOWHERE => NOWHERE,
            id => other(UnionId(id)).map_or(id, |other| other.0),
        };
        Self::new(self.to_union.iter().map(moved).collect(), self.size)
    }

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

    /// `mix[union] += weight * probs[token]`, tokens of a piece in id order.
    ///
    /// # Panics
    /// If `probs` is not as long as the map, or `mix` not as the union.
    pub fn project_into(&self, probs: &[f32], weight: f32, mix: &mut [f32]) {
        assert_eq!(mix.len(), self.size, "one entry a piece");
        self.project_part(probs, weight, 0, mix);
    }

    /// As [`Self::project_into`], for the pieces from `from` on that `part` has room for: the same
    /// bits, however the union is divided.
    ///
    /// # Panics
    /// If `probs` is not as long as the map, or the union has not so many pieces.
    pub fn project_part(&self, probs: &[f32], weight: f32, from: usize, part: &mut [f32]) {
        assert_eq!(probs.len(), self.to_union.len(), "one probability a logit");
        assert!(from + part.len() <= self.size, "no more entries than pieces");
        self.by_piece.add(probs, weight, from, part);
    }

    /// What the tokens of one piece have together.
    ///
    /// # Panics
    /// If `probs` is not as long as the map.
    pub fn mass_of(&self, probs: &[f32], id: UnionId) -> f32 {
        assert_eq!(probs.len(), self.to_union.len(), "one probability a logit");
        let of_piece = probs.iter().zip(&self.to_union).filter(|&(_, &piece)| piece == id.0);
        of_piece.map(|(&p, _)| p).sum()
    }

    /// Sets the logits of tokens that stand for no piece to minus infinity.
    ///
    /// # Panics
    /// If `logits` is not as long as the map.
    pub fn mask(&self, logits: &mut [f32]) {
        assert_eq!(logits.len(), self.to_union.len(), "one entry a logit");
        for &token in &self.nowhere {
            logits[token as usize] = f32::NEG_INFINITY;
        }
    }
}

impl UnionVocab {
    /// The maps as a file, to be read back by [`UnionVocab::from_file`].
    pub fn to_file(&self, maps: &[VocabMap], prints: &[Fingerprint]) -> Vec<u8> {
        map_file::encode(self, maps, prints)
    }

    /// What [`UnionVocab::build`] gives for `members`, read from a file instead of sorted out.
    ///
    /// # Errors
    /// If the file was written for other tokenizers, by another version, or is damaged.
    pub fn from_file(
        file: &[u8],
        members: &[Vec<Option<Piece>>],
        prints: &[Fingerprint],
    ) -> Result<(Self, Vec<VocabMap>), MapError> {
        map_file::decode(file, members, prints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(words: &[&str]) -> Vec<Option<Piece>> {
        words
            .iter()
            .map(|&word| match word {
                "<pad>" => None,
                "<end>" => Some(Piece::End),
                word => Some(Piece::Bytes(word.as_bytes().to_vec())),
            })
            .collect()
    }

    fn two() -> Vec<Vec<Option<Piece>>> {
        vec![
            pieces(&["b", "a", "<end>", "ab", "<pad>"]),
            pieces(&["<end>", "c", "b", "b", "<end>"]),
        ]
    }

    #[test]
    fn union_ids_are_ranks_in_byte_order_with_end_last() {
        let (union, maps) = UnionVocab::build(&two());
        let bytes = |s: &str| Piece::Bytes(s.as_bytes().to_vec());
        assert_eq!(union.pieces(), [bytes("a"), bytes("ab"), bytes("b"), bytes("c"), Piece::End]);
        assert_eq!(maps[0].get(TokenId(0)), Some(UnionId(2)));
        assert_eq!(maps[0].get(TokenId(4)), None);
        assert_eq!(maps[0].get(TokenId(9)), None);
        assert_eq!(union.id(&Piece::End), Some(union.end()));
    }

    #[test]
    fn union_ids_do_not_depend_on_the_order_of_the_members() {
        let mut members = two();
        let (union, maps) = UnionVocab::build(&members);
        members.reverse();
        let (reversed, reversed_maps) = UnionVocab::build(&members);
        assert_eq!(union, reversed);
        assert_eq!(maps[0], reversed_maps[1]);
    }

    #[test]
    fn tokens_of_the_same_bytes_and_all_stop_tokens_sum() {
        let (_, maps) = UnionVocab::build(&two());
        let mut mix = vec![0.0; 5];
        maps[1].project_into(&[0.1, 0.2, 0.3, 0.15, 0.25], 0.5, &mut mix);
        let expected = [0.0, 0.0, 0.225, 0.1, 0.175];
        assert!(
            mix.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6),
            "{mix:?}"
        );
    }

    #[test]
    fn projecting_whole_in_parts_and_token_by_token_are_the_same() {
        // The last member has few of the pieces.
        let words: Vec<String> = (0..40).map(|i| format!("w{}", i * 17 % 40)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["w5", "w5"]).collect();
        let members =
            [pieces(&words), pieces(&["w3", "<pad>", "w3", "<end>", "w7", "<end>", "<end>"])];
        let (union, maps) = UnionVocab::build(&members);
        let start = 0.125;
        for map in &maps {
            let probs: Vec<f32> = (0..map.len()).map(|i| 0.37 / (i as f32 + 1.3)).collect();
            let mut expected = vec![start; union.size()];
            for (token, p) in (0..).zip(&probs) {
                if let Some(id) = map.get(TokenId(token)) {
                    expected[id.0 as usize] += 0.7 * p;
                }
            }
            let mut whole = vec![start; union.size()];
            map.project_into(&probs, 0.7, &mut whole);
            assert_eq!(whole, expected);
            for size in [1, 7, 16, 100] {
                let mut parts = vec![start; union.size()];
                for (index, part) in parts.chunks_mut(size).enumerate() {
                    map.project_part(&probs, 0.7, index * size, part);
                }
                assert_eq!(parts, expected, "in parts of {size}");
            }
        }
    }

    #[test]
    fn a_file_gives_back_what_was_built() {
        let members = two();
        let prints = [[1; 32], [2; 32]];
        let (union, maps) = UnionVocab::build(&members);
        let file = union.to_file(&maps, &prints);
        assert_eq!(UnionVocab::from_file(&file, &members, &prints), Ok((union, maps)));
    }

    #[test]
    fn a_union_without_any_stop_token_survives_its_file() {
        let members = vec![pieces(&["b", "a"])];
        let (union, maps) = UnionVocab::build(&members);
        let file = union.to_file(&maps, &[[0; 32]]);
        assert_eq!(UnionVocab::from_file(&file, &members, &[[0; 32]]), Ok((union, maps)));
    }

    #[test]
    fn a_file_of_another_tokenizer_is_stale() {
        let members = two();
        let (union, maps) = UnionVocab::build(&members);
        let file = union.to_file(&maps, &[[1; 32], [2; 32]]);
        let read = UnionVocab::from_file(&file, &members, &[[1; 32], [3; 32]]);
        assert_eq!(read, Err(MapError::Stale { member: 1 }));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_noticed() {
        let members = two();
        let prints = [[1; 32], [2; 32]];
        let (union, maps) = UnionVocab::build(&members);
        let file = union.to_file(&maps, &prints);
        for cut in 0..file.len() {
            assert!(
                UnionVocab::from_file(&file[..cut], &members, &prints).is_err(),
                "cut at {cut}"
            );
        }
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 1;
            assert!(UnionVocab::from_file(&bad, &members, &prints).is_err(), "flipped at {at}");
        }
        let mut long = file;
        long.push(0);
        let read = UnionVocab::from_file(&long, &members, &prints);
        assert_eq!(read, Err(MapError::TrailingBytes { bytes: 1 }));
    }

    #[test]
    fn a_summary_counts_overlaps_and_names_what_one_member_alone_has() {
        let (union, maps) = UnionVocab::build(&two());
        let summary = VocabSummary::new(&union, &maps, 5);
        assert_eq!((summary.union, summary.common), (4, 1));
        assert_eq!(summary.overlaps, [[3, 1], [1, 2]]);
        let [a, b] = &summary.members[..] else { panic!("two members") };
        assert_eq!((a.tokens, a.pieces, a.stops, a.masked, a.only), (5, 3, 1, 1, 2));
        assert_eq!((b.tokens, b.pieces, b.stops, b.masked, b.only), (5, 2, 2, 0, 1));
        assert_eq!(a.examples, [b"a".to_vec(), b"ab".to_vec()]);
    }
}
