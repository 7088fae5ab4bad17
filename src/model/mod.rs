//! Causal language models: weights are immutable and shared, all state is in the [`KvCache`].
//!
//! Knows no other member, no union, no request and no runtime.

use std::path::PathBuf;

use crate::{gguf::GgufError, isa::Isa, safetensors::SafetensorsError, vocab::TokenId};

mod cache;
mod candle;
mod checkpoint;
mod config;
mod config_gguf;
mod config_json;
mod decoder;
mod forward;
mod kernels;
mod lazy;
mod quantize;
mod room;
mod tensors;

pub use cache::{KvCache, KvFormat};
pub use candle::{Device, DeviceError};
pub use checkpoint::Checkpoint;
pub(crate) use config_gguf::DIVISORS;
pub use decoder::Decoder;
pub use kernels::{Logits, Pool};
pub use lazy::{Lazy, Loaded, Loader};
pub use quantize::{Quantize, QuantizeError};
pub use room::{Lease, Room};

/// The name of the instructions that models compute with on this machine.
pub fn instructions() -> &'static str {
    Isa::best().name()
}

/// Why a file cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    #[error("cannot read {path}: {source}; fetch the model again")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} is not readable: {reason}; fetch it again")]
    Malformed { path: PathBuf, reason: String },
    #[error(
        "{path}: architecture `{architecture}` is not supported; use a llama, mistral, qwen2 or \
         qwen3 model"
    )]
    Architecture { path: PathBuf, architecture: String },
    #[error("{path}: `{key}` ({value}) is not supported; use a model without it")]
    Unsupported { path: PathBuf, key: String, value: String },
    #[error("{path} has no tensor `{tensor}`; the file is not what its metadata says")]
    NoTensor { path: PathBuf, tensor: String },
    #[error(
        "{path}: tensor `{tensor}` has shape {found:?}, not {expected:?}; the file is not what its metadata says"
    )]
    Shape { path: PathBuf, tensor: String, found: Vec<usize>, expected: Vec<usize> },
    #[error(
        "{path}: tensor `{tensor}` is {dtype} in rows of {cols}, which is not supported; use a file in Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, F16, BF16 or F32"
    )]
    Dtype { path: PathBuf, tensor: String, dtype: String, cols: usize },
    #[error(
        "{path}: tensor `{tensor}` belongs to no part of this architecture that is supported; use another model"
    )]
    UnknownTensor { path: PathBuf, tensor: String },
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ModelError {
    #[error("the context holds {capacity} tokens, {wanted} were wanted")]
    ContextFull { capacity: usize, wanted: usize },
    #[error("token {token} is not below the vocabulary size {vocab_size}")]
    TokenOutOfRange { token: u32, vocab_size: usize },
    #[error(
        "the cache has (layers, width) {found:?}, the model needs {expected:?}; use its `new_cache`"
    )]
    ForeignCache { expected: (usize, usize), found: (usize, usize) },
    #[error(
        "it needs {wanted} more bytes of memory, and {left} are left; ask for less at once, or raise \
         `engine.memory_limit_mb`"
    )]
    OutOfMemory { wanted: u64, left: u64 },
    #[error("its weights cannot be loaded: {reason}")]
    NotLoaded { reason: String },
    #[error("the device failed: {reason}")]
    Device { reason: String },
}

/// Weights are immutable and shared between threads and sequences.
pub trait LanguageModel: Send + Sync {
    /// The number of logits, which may exceed the number of tokens the tokenizer has.
    fn vocab_size(&self) -> usize;

    /// The number of tokens a sequence may hold.
    fn context_length(&self) -> usize;

    /// An empty cache of this model's shape.
    fn new_cache(&self) -> KvCache;

    /// The threads that a forward computes on; between two forwards they are free for others.
    fn pool(&self) -> Option<&Pool> {
        None
    }

    /// Whether a forward can begin at once. If not, what it needs is being loaded from now on: ask
    /// again.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether the weights are in memory.
    fn is_loaded(&self) -> bool {
        true
    }

    /// Whether [`rest`](Self::rest) may come to something, later if not now.
    fn can_rest(&self) -> bool {
        false
    }

    /// Gives weights back that were not used for long, and says whether it did.
    fn rest(&self) -> bool {
        false
    }

    /// Appends each row's tokens to its cache and writes the logits it asks for. A row's result
    /// does not depend, to the bit, on the other rows or on how its tokens were cut into calls.
    ///
    /// # Errors
    /// Checked for all rows before any cache is touched.
    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError>;
}

/// Each row's logits to probabilities, in place; they sum to 1 within 3e-7. False for a row whose
/// largest logit is not finite, or with one that is not a number.
pub fn softmax(pool: &Pool, rows: Vec<Logits<'_>>) -> Vec<bool> {
    kernels::softmax(pool, Isa::best(), rows)
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

impl Row<'_> {
    /// What every model asks of a row.
    fn check(&self, vocab_size: usize, capacity: usize) -> Result<(), ModelError> {
        assert!(!self.tokens.is_empty(), "a row has at least one token");
        if let Some(token) = self.tokens.iter().find(|token| token.0 as usize >= vocab_size) {
            return Err(ModelError::TokenOutOfRange { token: token.0, vocab_size });
        }
        let wanted = self.cache.tokens().len() + self.tokens.len();
        if wanted > capacity {
            return Err(ModelError::ContextFull { capacity, wanted });
        }
        Ok(())
    }
}

impl Want {
    /// Of so many tokens.
    fn count(self, tokens: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Last => 1,
            Self::All => tokens,
        }
    }
}
