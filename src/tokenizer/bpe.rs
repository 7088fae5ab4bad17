//! Byte-pair merging of one pre-token, by the `tokenizers` crate.
//!
//! Knows bytes and ids; not where pre-tokens come from.

use tokenizers::{
    Model,
    models::bpe::{BPE, Merges, Vocab},
};

use super::{MergePair, TokenizerError, alphabet};
use crate::vocab::TokenId;

pub(super) struct Bpe {
    model: BPE,
    /// Bytes no token stands for: nothing can be merged across them.
    missing: Vec<u8>,
}

impl std::fmt::Debug for Bpe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bpe").field("missing", &self.missing).finish_non_exhaustive()
    }
}

impl Bpe {
    /// `tokens` are the ones text may become. Where two stand for the same bytes, the first is used.
    pub(super) fn new<'a>(
        tokens: impl Iterator<Item = (TokenId, &'a [u8])>,
        merges: &[MergePair],
        ignore_merges: bool,
    ) -> Result<Self, TokenizerError> {
        let mut vocab = Vocab::with_capacity(tokens.size_hint().1.unwrap_or(0));
        let mut longest = 0;
        let mut present = [false; 256];
        for (id, bytes) in tokens {
            if let [byte] = bytes {
                present[usize::from(*byte)] = true;
            }
            let spelling = alphabet::spell(bytes);
            longest = longest.max(spelling.len());
            vocab.entry(spelling).or_insert(id.0);
        }
        let merges: Merges =
            merges.iter().map(|(a, b)| (alphabet::spell(a), alphabet::spell(b))).collect();
        // The crate reports parts and wholes that are no tokens, but panics on a whole longer than
        // every token.
        if let Some((a, b)) = merges.iter().find(|(a, b)| a.len() + b.len() > longest) {
            let reason = format!("`{a} {b}` makes no token");
            return Err(TokenizerError::Merges { reason });
        }
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .ignore_merges(ignore_merges)
            .build()
            .map_err(|error| TokenizerError::Merges { reason: error.to_string() })?;
        let missing = (0..=255).filter(|&byte| !present[usize::from(byte)]).collect();
        Ok(Self { model, missing })
    }

    /// The bytes that no token stands for, in order.
    pub(super) fn missing(&self) -> &[u8] {
        &self.missing
    }

    /// Calls `emit` with each token of a pre-token and where in it the token starts.
    pub(super) fn encode(&self, pre_token: &[u8], mut emit: impl FnMut(TokenId, usize)) {
        let mut start = 0;
        let known = |byte: &u8| self.missing.binary_search(byte).is_err();
        for run in pre_token.chunk_by(|a, b| known(a) == known(b)) {
            if run.first().is_some_and(known) {
                let mut at = start;
                let tokens = self
                    .model
                    .tokenize(&alphabet::spell(run))
                    .expect("without an unknown token nothing in merging can fail");
                for token in tokens {
                    emit(TokenId(token.id), at);
                    // One letter of the alphabet is one byte.
                    at += token.value.chars().count();
                }
            }
            start += run.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    /// 0 `a`, 1 `b`, 2 `c`, 3 `ab`, 4 `abc`; only `a`+`b` is a merge.
    fn toy(ignore_merges: bool) -> Bpe {
        let tokens: [&[u8]; 5] = [b"a", b"b", b"c", b"ab", b"abc"];
        let tokens = (0..).map(TokenId).zip(tokens);
        Bpe::new(tokens, &[(bytes("a"), bytes("b"))], ignore_merges).unwrap()
    }

    fn encode(bpe: &Bpe, text: &[u8]) -> Vec<(u32, usize)> {
        let mut tokens = Vec::new();
        bpe.encode(text, |id, start| tokens.push((id.0, start)));
        tokens
    }

    #[test]
    fn a_whole_token_is_taken_only_where_merges_are_ignored() {
        assert_eq!(encode(&toy(false), b"abc"), [(3, 0), (2, 2)]);
        assert_eq!(encode(&toy(true), b"abc"), [(4, 0)]);
    }

    #[test]
    fn a_byte_without_a_token_is_left_out_and_merges_nothing_around_it() {
        assert_eq!(encode(&toy(false), b"a\x04babx"), [(0, 0), (1, 2), (3, 3)]);
        assert_eq!(toy(false).missing().len(), 253);
    }

    #[test]
    fn a_merge_into_no_token_is_refused() {
        let tokens: [&[u8]; 3] = [b"a", b"b", b"ab"];
        for (a, b) in [("b", "a"), ("ab", "b"), ("c", "a")] {
            let tokens = (0..).map(TokenId).zip(tokens);
            let error = Bpe::new(tokens, &[(bytes(a), bytes(b))], false).unwrap_err();
            assert!(matches!(error, TokenizerError::Merges { .. }), "{error}");
        }
    }
}
