//! The on-disk form of a union's maps.
//!
//! A file holds, for each member, the fingerprint of its tokenizer and the union id of each of
//! its tokens. The pieces themselves are not stored: every piece of the union is a token of some
//! member, so they follow from the vocabularies, and a map that does not fit them cannot load.
//!
//! Layout, all integers little-endian: the magic `TUTTIMAP`, a `u16` version, a `u16` count of
//! members, the `u32` size of the union; then for each member 32 bytes of fingerprint, the `u32`
//! number of tokens and 3 bytes a token (`FFFFFF` for a token that stands for no piece).

use super::{NOWHERE, Piece, UnionVocab, VocabMap};

const MAGIC: &[u8; 8] = b"TUTTIMAP";
const VERSION: u16 = 1;
/// What `NOWHERE` is in three bytes; a union stays below it.
const NOWHERE_24: u32 = 0x00FF_FFFF;

/// What identifies a tokenizer: equal fingerprints encode every text alike.
pub type Fingerprint = [u8; 32];

/// Why a stored map does not serve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    #[error("it is not a vocabulary map")]
    NotAMap,
    #[error("it has format version {found}, this program writes {VERSION}")]
    Version { found: u16 },
    #[error("it ends after {len} bytes, in the middle of a field")]
    Truncated { len: usize },
    #[error("it is of {found} members, not {expected}")]
    Members { found: usize, expected: usize },
    #[error("the tokenizer of member {member} has changed since")]
    Stale { member: usize },
    #[error("it does not fit the vocabulary of member {member} at token {token}")]
    Inconsistent { member: usize, token: usize },
    #[error("it goes on for {bytes} bytes after its end")]
    TrailingBytes { bytes: usize },
    #[error("its pieces are not those of the members, in byte order")]
    Order,
}

/// The file's content for these maps, whose members' fingerprints are given in order.
///
/// # Panics
/// If the union has 2^24 pieces or more.
pub(super) fn encode(union: &UnionVocab, maps: &[VocabMap], prints: &[Fingerprint]) -> Vec<u8> {
    assert!(union.size() < NOWHERE_24 as usize, "a union id fits in three bytes");
    let mut file = MAGIC.to_vec();
    file.extend(VERSION.to_le_bytes());
    file.extend(u16::try_from(maps.len()).expect("fewer than 65,536 members").to_le_bytes());
    file.extend(length(union.size()).to_le_bytes());
    for (map, print) in maps.iter().zip(prints) {
        file.extend(print);
        file.extend(length(map.to_union.len()).to_le_bytes());
        file.extend(map.to_union.iter().flat_map(|&id| {
            let [a, b, c, _] = id.min(NOWHERE_24).to_le_bytes();
            [a, b, c]
        }));
    }
    file
}

fn length(n: usize) -> u32 {
    u32::try_from(n).expect("a vocabulary has fewer than 2^32 entries")
}

/// Reads a file back for members with these vocabularies and fingerprints.
pub(super) fn decode(
    file: &[u8],
    members: &[Vec<Option<Piece>>],
    prints: &[Fingerprint],
) -> Result<(UnionVocab, Vec<VocabMap>), MapError> {
    let mut reader = Reader { file, at: 0 };
    if reader.bytes::<8>().map_err(|_| MapError::NotAMap)? != *MAGIC {
        return Err(MapError::NotAMap);
    }
    let version = u16::from_le_bytes(reader.bytes()?);
    if version != VERSION {
        return Err(MapError::Version { found: version });
    }
    let found = usize::from(u16::from_le_bytes(reader.bytes()?));
    if found != members.len() {
        return Err(MapError::Members { found, expected: members.len() });
    }
    let size = u32::from_le_bytes(reader.bytes()?) as usize;
    if size > members.iter().map(Vec::len).sum::<usize>() + 1 {
        return Err(MapError::Order);
    }
    let mut pieces: Vec<Option<&Piece>> = vec![None; size];
    let mut maps = Vec::with_capacity(members.len());
    for (member, (vocabulary, print)) in members.iter().zip(prints).enumerate() {
        maps.push(reader.map(member, vocabulary, print, &mut pieces)?);
    }
    if reader.at != file.len() {
        return Err(MapError::TrailingBytes { bytes: file.len() - reader.at });
    }
    if let Some(last) = pieces.last_mut() {
        last.get_or_insert(&Piece::End);
    }
    let pieces: Vec<Piece> = pieces
        .into_iter()
        .map(|piece| piece.cloned())
        .collect::<Option<_>>()
        .ok_or(MapError::Order)?;
    if !pieces.is_sorted_by(|a, b| a < b) || pieces.last() != Some(&Piece::End) {
        return Err(MapError::Order);
    }
    Ok((UnionVocab { pieces }, maps))
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], MapError> {
        let truncated = MapError::Truncated { len: self.file.len() };
        let bytes = self.file.get(self.at..self.at + N).ok_or(truncated)?;
        self.at += N;
        Ok(bytes.try_into().expect("the slice is N long"))
    }

    /// One member's map; notes in `pieces` what its tokens say the union's pieces are.
    fn map<'p>(
        &mut self,
        member: usize,
        vocabulary: &'p [Option<Piece>],
        print: &Fingerprint,
        pieces: &mut [Option<&'p Piece>],
    ) -> Result<VocabMap, MapError> {
        if self.bytes::<32>()? != *print {
            return Err(MapError::Stale { member });
        }
        if u32::from_le_bytes(self.bytes()?) as usize != vocabulary.len() {
            return Err(MapError::Stale { member });
        }
        let mut to_union = Vec::with_capacity(vocabulary.len());
        for (token, piece) in vocabulary.iter().enumerate() {
            let [a, b, c] = self.bytes()?;
            let id = u32::from_le_bytes([a, b, c, 0]);
            let fits = match (piece, pieces.get_mut(id as usize)) {
                (None, _) => id == NOWHERE_24,
                (Some(piece), Some(slot)) => *slot.get_or_insert(piece) == piece,
                (Some(_), None) => false,
            };
            if !fits {
                return Err(MapError::Inconsistent { member, token });
            }
            to_union.push(if id == NOWHERE_24 { NOWHERE } else { id });
        }
        Ok(VocabMap::new(to_union, pieces.len()))
    }
}
