//! `SentencePiece`'s BPE: characters are merged, and what no piece spells is written in byte tokens.
//!
//! Knows bytes and ids. Pieces are as they read: the `▁` of the files is a space here.
//!
//! Method: `bpe_model.cc` of the `sentencepiece` library (merge the pair whose joint piece has the
//! highest score, of equal ones the leftmost) and, where a file lists merges instead of scores, the
//! `BPE` model of the `tokenizers` library (merge the pair that stands first in the list).
//!
//! There are no pre-tokens: a piece may reach across spaces. But a merge makes a piece, so no merge
//! ever joins two neighbouring characters that are neighbours in no piece. Text is cut at all such
//! places ([`split`](SentencePiece::split)); the parts do not depend on one another, and bytes that
//! come after a text can change its last part only. In a vocabulary learned from words that is the
//! last word or less.
//!
//! Invalid bytes are byte tokens and end a part. So is a literal `▁`, which is no space.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

use super::{MergePair, TokenRole, TokenizerError, TokenizerSpec, split::PreToken};
use crate::vocab::TokenId;

pub(super) struct SentencePiece {
    /// What text may become, by its bytes.
    pieces: HashMap<Vec<u8>, TokenId>,
    ranks: Ranks,
    /// Pairs of characters that are neighbours in some piece.
    neighbours: HashSet<(char, char)>,
    /// The lengths in bytes of the pieces that are taken whole, by their first byte, longest first.
    whole: Vec<Vec<usize>>,
    is_whole: HashSet<TokenId>,
    /// The token of each byte by itself.
    bytes: Vec<Option<TokenId>>,
    missing: Vec<u8>,
}

/// Which pairs are merged, and which before which: lower ranks first.
enum Ranks {
    /// Of each piece, by id: any pair that makes it.
    Pieces(Vec<u32>),
    /// Of each pair, with what it makes.
    Pairs(Pairs),
}

type Pairs = HashMap<(TokenId, TokenId), (u32, TokenId)>;

/// Some characters in a row that are one piece, or one character that is none.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    end: usize,
    /// Indices of the symbols around it; `usize::MAX` where there is none.
    previous: usize,
    next: usize,
    token: Option<TokenId>,
}

const NONE: usize = usize::MAX;

/// A pair that could be merged, and what it was when it was found. The derived order is that of
/// merging.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: usize,
    middle: usize,
    end: usize,
    token: TokenId,
}

/// What a piece reads as: files write a space as `▁`.
pub(super) fn unspell(piece: &str) -> String {
    piece.replace('▁', " ")
}

/// The byte that a byte token's name says, as in `<0x0A>`.
pub(super) fn byte(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    let valid = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    valid.then(|| u8::from_str_radix(digits, 16).ok())?
}

impl std::fmt::Debug for SentencePiece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentencePiece").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

impl SentencePiece {
    /// `scores` has one for each token; without them the spec's merges say what is merged.
    pub(super) fn new(
        spec: &TokenizerSpec,
        scores: Option<&[f32]>,
    ) -> Result<Self, TokenizerError> {
        let mut pieces = HashMap::with_capacity(spec.tokens.len());
        let mut neighbours = HashSet::new();
        let mut whole: Vec<Vec<usize>> = vec![Vec::new(); 256];
        let mut is_whole = HashSet::new();
        let mut bytes = vec![None; 256];
        let mut single = bytes.clone();
        for (id, token) in (0..).map(TokenId).zip(&spec.tokens) {
            match (token.role, &token.bytes[..]) {
                _ if spec.stops.contains(&id) => {}
                (TokenRole::Byte, &[byte]) => {
                    bytes[usize::from(byte)].get_or_insert(id);
                }
                (TokenRole::Normal | TokenRole::Verbatim, text @ &[first, ..]) => {
                    let text = str::from_utf8(text).map_err(|_| TokenizerError::Spelling {
                        token: text.escape_ascii().to_string(),
                    })?;
                    neighbours.extend(text.chars().zip(text.chars().skip(1)));
                    if let &[byte] = text.as_bytes() {
                        single[usize::from(byte)].get_or_insert(id);
                    }
                    if token.role == TokenRole::Verbatim {
                        whole[usize::from(first)].push(text.len());
                        is_whole.insert(id);
                    }
                    pieces.entry(text.as_bytes().to_vec()).or_insert(id);
                }
                _ => {}
            }
        }
        for lengths in &mut whole {
            lengths.sort_unstable_by_key(|&length| Reverse(length));
            lengths.dedup();
        }
        for (byte, single) in bytes.iter_mut().zip(single) {
            *byte = byte.or(single);
        }
        let missing = (0..=255).filter(|&byte| bytes[usize::from(byte)].is_none()).collect();
        let ranks = match scores {
            Some(scores) => Ranks::Pieces(ranks(spec.tokens.len(), scores)?),
            None => Ranks::Pairs(pairs(&pieces, &spec.merges)?),
        };
        Ok(Self { pieces, ranks, neighbours, whole, is_whole, bytes, missing })
    }

    /// The bytes that no token stands for, in order.
    pub(super) fn missing(&self) -> &[u8] {
        &self.missing
    }

    /// The parts of `bytes` that no merge reaches across, in order, without gaps.
    pub(super) fn split(&self, bytes: &[u8]) -> Vec<PreToken> {
        let mut parts = Vec::new();
        let mut end = 0;
        let mut push = |start: usize, end: usize| {
            if start < end {
                parts.push(PreToken { range: start..end, blank: false });
            }
        };
        for chunk in bytes.utf8_chunks() {
            let (mut start, mut before) = (end, None);
            for c in chunk.valid().chars() {
                if before.is_some_and(|before| !self.neighbours.contains(&(before, c))) {
                    push(start, end);
                    start = end;
                }
                end += c.len_utf8();
                before = Some(c);
            }
            push(start, end);
            push(end, end + chunk.invalid().len());
            end += chunk.invalid().len();
        }
        parts
    }

    /// Calls `emit` with each token of a part and where in it the token starts.
    pub(super) fn encode(&self, part: &[u8], mut emit: impl FnMut(TokenId, usize)) {
        let Ok(text) = str::from_utf8(part) else {
            return self.spell(part, 0, &mut emit);
        };
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            match self.taken_whole(&part[at..]) {
                Some((token, length)) => {
                    self.merge(&text[start..at], start, &mut emit);
                    emit(token, at);
                    at += length;
                    start = at;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        self.merge(&text[start..], start, &mut emit);
    }

    /// The longest piece at the beginning of `rest` that is taken before anything is merged.
    fn taken_whole(&self, rest: &[u8]) -> Option<(TokenId, usize)> {
        let lengths = &self.whole[usize::from(*rest.first()?)];
        lengths.iter().find_map(|&length| {
            let token = *self.pieces.get(rest.get(..length)?)?;
            self.is_whole.contains(&token).then_some((token, length))
        })
    }

    fn merge(&self, text: &str, offset: usize, emit: &mut impl FnMut(TokenId, usize)) {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, c))| {
                let end = start + c.len_utf8();
                let token = self.pieces.get(&text.as_bytes()[start..end]).copied();
                Symbol { start, end, previous: index.wrapping_sub(1), next: index + 1, token }
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        let mut queue = BinaryHeap::new();
        for left in 0..symbols.len() {
            queue.extend(self.candidate(text, &symbols, left).map(Reverse));
        }
        while let Some(Reverse(found)) = queue.pop() {
            let left = symbols[found.left];
            // Merged into another symbol since, or grown.
            if left.end != found.middle || left.next == NONE || symbols[left.next].end != found.end
            {
                continue;
            }
            let right = symbols[left.next];
            symbols[left.next].end = symbols[left.next].start;
            symbols[found.left] =
                Symbol { end: right.end, next: right.next, token: Some(found.token), ..left };
            if right.next != NONE {
                symbols[right.next].previous = found.left;
            }
            queue.extend(self.candidate(text, &symbols, found.left).map(Reverse));
            if left.previous != NONE {
                queue.extend(self.candidate(text, &symbols, left.previous).map(Reverse));
            }
        }
        for symbol in symbols.iter().filter(|symbol| symbol.start < symbol.end) {
            match symbol.token {
                Some(token) => emit(token, offset + symbol.start),
                None => {
                    let bytes = &text.as_bytes()[symbol.start..symbol.end];
                    self.spell(bytes, offset + symbol.start, emit);
                }
            }
        }
    }

    /// The merge of the symbol `left` with the one after it, if there is one.
    fn candidate(&self, text: &str, symbols: &[Symbol], left: usize) -> Option<Candidate> {
        let first = symbols[left];
        let second = symbols.get(first.next)?;
        let (rank, token) = match &self.ranks {
            Ranks::Pieces(ranks) => {
                let token = *self.pieces.get(&text.as_bytes()[first.start..second.end])?;
                (ranks[token.0 as usize], token)
            }
            Ranks::Pairs(pairs) => *pairs.get(&(first.token?, second.token?))?,
        };
        Some(Candidate { rank, left, middle: first.end, end: second.end, token })
    }

    /// Byte by byte; one that no token stands for is left out.
    fn spell(&self, bytes: &[u8], offset: usize, emit: &mut impl FnMut(TokenId, usize)) {
        for (at, &byte) in bytes.iter().enumerate() {
            if let Some(token) = self.bytes[usize::from(byte)] {
                emit(token, offset + at);
            }
        }
    }
}

/// Equal scores have equal ranks, the highest has rank 0.
fn ranks(tokens: usize, scores: &[f32]) -> Result<Vec<u32>, TokenizerError> {
    if scores.len() != tokens {
        let reason = format!("{tokens} tokens have {} scores", scores.len());
        return Err(TokenizerError::Malformed { reason });
    }
    if let Some(token) = scores.iter().position(|score| score.is_nan()) {
        let reason = format!("the score of token {token} is not a number");
        return Err(TokenizerError::Malformed { reason });
    }
    let mut order: Vec<usize> = (0..tokens).collect();
    // Adding 0 makes -0 equal to it.
    order.sort_by(|&a, &b| (scores[b] + 0.0).total_cmp(&(scores[a] + 0.0)));
    let mut ranks = vec![0; tokens];
    let mut rank = 0;
    for pair in order.windows(2) {
        rank += u32::from(scores[pair[0]] > scores[pair[1]]);
        ranks[pair[1]] = rank;
    }
    Ok(ranks)
}

fn pairs(
    pieces: &HashMap<Vec<u8>, TokenId>,
    merges: &[MergePair],
) -> Result<Pairs, TokenizerError> {
    let id = |bytes: &[u8]| {
        pieces.get(bytes).copied().ok_or_else(|| TokenizerError::Merges {
            reason: format!("`{}` is no token", String::from_utf8_lossy(bytes)),
        })
    };
    let mut pairs = HashMap::with_capacity(merges.len());
    for (rank, (a, b)) in (0..).zip(merges) {
        let made = id(&[&a[..], b].concat())?;
        pairs.entry((id(a)?, id(b)?)).or_insert((rank, made));
    }
    Ok(pairs)
}
