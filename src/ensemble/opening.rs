//! How an answer begins where members see a space before every word.
//!
//! Vocabularies such as Llama 2's have a space before each word, also before the first (the dummy
//! prefix of `SentencePiece`). Where another model answers `Hello`, such a member answers ` Hello`,
//! and decoders drop the space. Hence, at the first piece of an answer of several vocabularies:
//!
//! - Pieces that a space before them alone tells apart are one: what a member gives to ` Hello`
//!   counts for `Hello`, if some member has a token for that.
//! - The text begins without that space, and so does what the members read. But a member that sees
//!   spaces reads one before the text, for it has never seen a word there without: its tokens spell
//!   a space and the text. Where its prompt ends in white space (`<|assistant|>` and a line break)
//!   that stands for it.
//! - A space alone is no text, but the beginning of such a member's word: it alone reads it.
//!
//! One model, or copies of it, write what they write, and only the answer that is shown lacks the
//! space. Under a constraint nothing is dropped, as every byte counts there.

use super::{Ensemble, Sequence, sequence::MemberState};
use crate::{
    tokenizer::Tokenizer,
    vocab::{Piece, UnionId, VocabMap},
};

impl Ensemble {
    /// What a member's tokens stand for at this place of the text.
    pub(super) fn map(&self, sequence: &Sequence, member: usize) -> &VocabMap {
        let map = &self.maps[member];
        if !sequence.opening {
            return map;
        }
        self.openings[member].get_or_init(|| map.with(|id| self.without_space(id)))
    }

    /// The piece that comes after a space in this one.
    fn without_space(&self, id: UnionId) -> Option<UnionId> {
        let Piece::Bytes(bytes) = self.union.piece(id) else { return None };
        let word = bytes.strip_prefix(b" ")?;
        self.union.id(&Piece::Bytes(word.to_vec()))
    }

    /// Takes the first piece of an answer into every member's text.
    pub(super) fn open(&self, sequence: &mut Sequence, piece: &[u8]) {
        let text = piece.strip_prefix(b" ").unwrap_or(piece);
        sequence.text.extend_from_slice(text);
        for member in sequence.fusion.active() {
            let (state, tokenizer) =
                (&mut sequence.states[member], &self.members[member].tokenizer);
            state.own_space = usize::from(state.begins_with_space(tokenizer));
            let read = [&b" "[..state.own_space], text].concat();
            if !read.is_empty() {
                state.text.append(tokenizer, &read);
                state.retarget();
            }
        }
    }
}

impl MemberState {
    /// Whether a word after its prompt has a space before it.
    fn begins_with_space(&self, tokenizer: &Tokenizer) -> bool {
        let last = self.target[..self.prompt].last().and_then(|&token| tokenizer.bytes(token));
        let is_apart = last.and_then(<[u8]>::last).is_some_and(u8::is_ascii_whitespace);
        tokenizer.has_dummy_space() && !is_apart
    }

    /// Where in the text each token of it starts.
    pub(super) fn starts(&self) -> impl Iterator<Item = usize> {
        self.text.starts().iter().map(|start| start.saturating_sub(self.own_space))
    }
}
