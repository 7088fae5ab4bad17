//! What a union consists of, in numbers and examples.

use super::{Piece, TokenId, UnionId, UnionVocab, VocabMap};

/// Sizes and overlaps of a union.
#[derive(Debug, PartialEq, Eq)]
pub struct VocabSummary {
    /// Byte strings in the union; `End` is not counted.
    pub union: usize,
    /// Byte strings that every member has.
    pub common: usize,
    pub members: Vec<MemberShare>,
    /// `overlaps[a][b]`: byte strings that both have; on the diagonal, those that `a` has.
    pub overlaps: Vec<Vec<usize>>,
}

/// One member's part of a union.
#[derive(Debug, PartialEq, Eq)]
pub struct MemberShare {
    /// Logits of the model.
    pub tokens: usize,
    /// Distinct byte strings among them.
    pub pieces: usize,
    /// Tokens that end the text.
    pub stops: usize,
    /// Tokens that stand for nothing that can be generated.
    pub masked: usize,
    /// Byte strings that no other member has.
    pub only: usize,
    /// A few of those, evenly spaced in byte order.
    pub examples: Vec<Vec<u8>>,
}

impl VocabSummary {
    /// Counts a union of `maps`, with up to `examples` pieces a member that only it has.
    pub fn new(union: &UnionVocab, maps: &[VocabMap], examples: usize) -> Self {
        let owners = owners(union, maps);
        let of_bytes = &owners[..union.size() - 1];
        let overlaps = (0..maps.len())
            .map(|a| {
                (0..maps.len())
                    .map(|b| of_bytes.iter().filter(|owners| owners[a] && owners[b]).count())
                    .collect()
            })
            .collect();
        let members = maps
            .iter()
            .enumerate()
            .map(|(member, map)| {
                let alone = |owners: &[bool]| {
                    owners[member] && owners.iter().filter(|&&has| has).count() == 1
                };
                let only: Vec<&Piece> = of_bytes
                    .iter()
                    .zip(union.pieces())
                    .filter(|(owners, _)| alone(owners))
                    .map(|(_, piece)| piece)
                    .collect();
                MemberShare {
                    tokens: map.len(),
                    pieces: of_bytes.iter().filter(|owners| owners[member]).count(),
                    stops: tokens_of(map).filter(|&id| id == Some(union.end())).count(),
                    masked: tokens_of(map).filter(Option::is_none).count(),
                    only: only.len(),
                    examples: spaced(&only, examples),
                }
            })
            .collect();
        let common = of_bytes.iter().filter(|owners| owners.iter().all(|&has| has)).count();
        Self { union: union.size() - 1, common, members, overlaps }
    }
}

/// For each piece, which members have a token for it.
fn owners(union: &UnionVocab, maps: &[VocabMap]) -> Vec<Vec<bool>> {
    let mut owners = vec![vec![false; maps.len()]; union.size()];
    for (member, map) in maps.iter().enumerate() {
        for id in tokens_of(map).flatten() {
            owners[id.0 as usize][member] = true;
        }
    }
    owners
}

fn tokens_of(map: &VocabMap) -> impl Iterator<Item = Option<UnionId>> {
    (0..map.len()).map(|token| {
        map.get(TokenId(u32::try_from(token).expect("a vocabulary has fewer than 2^32 entries")))
    })
}

fn spaced(pieces: &[&Piece], count: usize) -> Vec<Vec<u8>> {
    let count = count.min(pieces.len());
    (0..count)
        .filter_map(|n| match pieces[n * pieces.len() / count] {
            Piece::Bytes(bytes) => Some(bytes.clone()),
            Piece::End => None,
        })
        .collect()
}
