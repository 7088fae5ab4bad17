//! Causal language models: weights are immutable and shared, all state is in the [`KvCache`].
//!
//! Knows no other member, no union, no request and no runtime.

use crate::vocab::TokenId;

mod cache;

pub use cache::KvCache;

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("the context holds {capacity} tokens, {wanted} were wanted")]
    ContextFull { capacity: usize, wanted: usize },
    #[error("token {token} is not below the vocabulary size {vocab_size}")]
    TokenOutOfRange { token: u32, vocab_size: usize },
}

/// Weights are immutable and shared between threads and sequences.
pub trait LanguageModel: Send + Sync {
    /// The number of logits, which may exceed the number of tokens the tokenizer has.
    fn vocab_size(&self) -> usize;

    /// The number of tokens a sequence may hold.
    fn context_length(&self) -> usize;

    /// An empty cache of this model's shape.
    fn new_cache(&self) -> KvCache;

    /// Appends each row's tokens to its cache and writes the logits it asks for. A row's result
    /// does not depend, to the bit, on the other rows or on how its tokens were cut into calls.
    ///
    /// # Errors
    /// Checked for all rows before any cache is touched.
    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError>;
}

/// One sequence's share of a forward pass.
pub struct Row<'a> {
    pub cache: &'a mut KvCache,
    /// At least one.
    pub tokens: &'a [TokenId],
    pub want: Want,
    /// Overwritten: `vocab_size` values for each position wanted, natural-log scale, unnormalised.
    pub logits: &'a mut Vec<f32>,
}

/// The positions whose logits a row asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// None: a chunk of a prompt that is not its last.
    Nothing,
    /// After the row's last token.
    Last,
    /// After each of the row's tokens: scoring, verification of drafted tokens.
    All,
}
