//! The tokens of a text that grows at its end.
//!
//! Appending bytes can change the last tokens before them, never all: only pre-tokens close to the
//! end can come out differently (of a `SentencePiece` vocabulary, the parts that no piece reaches
//! across). [`Encoded`] knows where the pre-tokens start and encodes again from the last start that
//! is safe.

use super::{Tokenizer, split::PreToken};
use crate::vocab::TokenId;

/// A text, its tokens, and what is needed to append to it at a cost that does not grow with it.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    tokens: Vec<TokenId>,
    /// Where in `bytes` each token starts.
    starts: Vec<usize>,
    /// The pre-tokens of `bytes[floor.offset..scanned]`, as far as they can still matter.
    pieces: Vec<Piece>,
    scanned: usize,
    floor: Floor,
}

/// A pre-token's start, and whether it is only whitespace.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: usize,
    blank: bool,
}

/// Behind the last token without bytes: text before and after it is encoded apart.
#[derive(Clone, Copy, Debug, Default)]
struct Floor {
    offset: usize,
    tokens: usize,
}

/// How many pre-tokens with something visible in them are taken back before the text goes on.
///
/// The last pre-token may grow. The one before may join it: `'` and `l` become `'ll`, and the
/// spaces before an incomplete character depend on what it becomes. Of the parts of a
/// `SentencePiece` text only the last may grow, or, where it is an incomplete character, join the
/// one before.
const TAKEN_BACK: usize = 2;

impl Encoded {
    pub fn new() -> Self {
        Self::default()
    }

    /// The text, whether or not every byte of it has a token.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Where in the text each token starts.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Appends bytes and encodes again from a safe boundary a few words back; trailing whitespace
    /// counts for nothing there, for a newline can still join all of it.
    ///
    /// If the text came by `append` alone, its tokens are [`Tokenizer::encode`] of its bytes.
    /// Tokens that came by [`append_token`](Self::append_token) before the boundary stay as they
    /// are.
    pub fn append(&mut self, tokenizer: &Tokenizer, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut boundary = self.take_back();
        if self.scanned < self.bytes.len() {
            let pieces = tokenizer.encoder.split(&self.bytes[boundary..]);
            self.note(boundary, &pieces);
            boundary = self.take_back();
        }
        self.bytes.extend_from_slice(bytes);
        boundary = self.back_to_a_token(tokenizer, boundary);

        let kept = self.tokens_before(boundary);
        self.tokens.truncate(kept);
        self.starts.truncate(kept);
        let pieces = tokenizer.encoder.split(&self.bytes[boundary..]);
        for piece in &pieces {
            let start = boundary + piece.range.start;
            tokenizer.encoder.encode(&self.bytes[start..boundary + piece.range.end], |id, at| {
                self.tokens.push(id);
                self.starts.push(start + at);
            });
        }
        self.note(boundary, &pieces);
    }

    /// Appends one of the tokenizer's own tokens as it is, canonical or not. One that stands for no
    /// bytes is a border: what comes after it is encoded as a text of its own.
    pub fn append_token(&mut self, tokenizer: &Tokenizer, id: TokenId) {
        self.tokens.push(id);
        self.starts.push(self.bytes.len());
        match tokenizer.bytes(id) {
            Some(bytes) => self.bytes.extend_from_slice(bytes),
            None => {
                self.floor = Floor { offset: self.bytes.len(), tokens: self.tokens.len() };
                self.pieces.clear();
                self.scanned = self.bytes.len();
            }
        }
    }

    /// Drops the pre-tokens that bytes after the scanned text could change, and returns where they
    /// start.
    fn take_back(&mut self) -> usize {
        let mut boundary = self.scanned;
        let mut visible = 0;
        while visible < TAKEN_BACK
            && let Some(piece) = self.pieces.pop()
        {
            boundary = piece.start;
            visible += usize::from(!piece.blank);
        }
        boundary
    }

    /// Goes further back if a token that was appended as it is reaches across the boundary.
    fn back_to_a_token(&mut self, tokenizer: &Tokenizer, mut boundary: usize) -> usize {
        while self.is_inside_a_token(tokenizer, boundary) {
            boundary = self.pieces.pop().map_or(self.floor.offset, |piece| piece.start);
        }
        boundary
    }

    fn is_inside_a_token(&self, tokenizer: &Tokenizer, boundary: usize) -> bool {
        let before = self.tokens_before(boundary);
        before > self.floor.tokens && {
            let (token, start) = (self.tokens[before - 1], self.starts[before - 1]);
            start + tokenizer.bytes(token).map_or(0, <[u8]>::len) > boundary
        }
    }

    fn tokens_before(&self, boundary: usize) -> usize {
        self.starts.partition_point(|&start| start < boundary).max(self.floor.tokens)
    }

    /// Remembers the pre-tokens from `offset` to the end of the text.
    fn note(&mut self, offset: usize, pieces: &[PreToken]) {
        let noted =
            |piece: &PreToken| Piece { start: offset + piece.range.start, blank: piece.blank };
        self.pieces.extend(pieces.iter().map(noted));
        self.scanned = self.bytes.len();
    }
}
