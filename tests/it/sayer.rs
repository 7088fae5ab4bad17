//! Toy models of one rule: what they say after what they have read.

use tutti::{
    model::{KvCache, LanguageModel, ModelError, Row, Want},
    vocab::TokenId,
};

pub(crate) struct Sayer<F> {
    size: usize,
    says: F,
}

impl<F: Fn(&[TokenId], &mut [f32]) + Send + Sync> Sayer<F> {
    /// `says` takes the tokens that were read, and the logits after them, which are 0.
    pub(crate) fn new(size: usize, says: F) -> Self {
        Self { size, says }
    }
}

impl<F: Fn(&[TokenId], &mut [f32]) + Send + Sync> LanguageModel for Sayer<F> {
    fn vocab_size(&self) -> usize {
        self.size
    }

    fn context_length(&self) -> usize {
        4096
    }

    fn new_cache(&self) -> KvCache {
        KvCache::default()
    }

    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        for row in rows {
            row.logits.clear();
            for (at, &token) in row.tokens.iter().enumerate() {
                row.cache.append(&[token]);
                let is_last = at + 1 == row.tokens.len();
                if row.want == Want::All || row.want == Want::Last && is_last {
                    let begin = row.logits.len();
                    row.logits.resize(begin + self.size, 0.0);
                    (self.says)(row.cache.tokens(), &mut row.logits[begin..]);
                }
            }
        }
        Ok(())
    }
}
