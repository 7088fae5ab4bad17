//! Keys and values of one sequence in one model.

use crate::vocab::TokenId;

/// Invariant: every layer holds `tokens.len()` positions; positions beyond are free room.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    tokens: Vec<TokenId>,
}

impl KvCache {
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Records tokens whose keys and values the model has written.
    pub fn append(&mut self, tokens: &[TokenId]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Rolls back to the longest prefix shared with `target` and returns what is left to
    /// forward: at least its last token, since the caller wants the logits after it.
    ///
    /// # Panics
    /// If `target` is empty: there would be nothing to get logits from.
    pub fn sync<'t>(&mut self, target: &'t [TokenId]) -> &'t [TokenId] {
        assert!(!target.is_empty(), "a target has at least one token");
        let shared = self.tokens.iter().zip(target).take_while(|(a, b)| a == b).count();
        let keep = shared.min(target.len() - 1);
        self.tokens.truncate(keep);
        &target[keep..]
    }
}
