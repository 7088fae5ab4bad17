//! A model's shape and what tells the supported architectures apart, whichever file says it.

use std::path::Path;

use super::LoadError;

/// Sizes and switches. Checked: no zero, heads divide.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub(super) layers: usize,
    pub(super) width: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) context_length: usize,
    pub(super) norm_eps: f32,
    pub(super) rope_pairs: RopePairs,
    /// Radians a position, for each pair of a head.
    pub(super) frequencies: Vec<f64>,
    pub(super) biases: Biases,
    /// Whether each head of queries and keys is normalised before its rotation, as in Qwen3.
    pub(super) head_norms: bool,
}

/// Which two numbers of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RopePairs {
    /// Neighbours: how GGUF stores Llama's heads.
    Neighbours,
    /// The same place of the first and the second half: the paper's code, Qwen, and all models in
    /// safetensors.
    Halves,
}

/// Which products have a bias added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Biases {
    /// Queries, keys and values.
    pub(super) qkv: bool,
    /// What attention gives back.
    pub(super) output: bool,
    /// All three of the feed-forward network.
    pub(super) feed_forward: bool,
}

impl Config {
    pub(super) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    pub(super) fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// What both kinds of files say of the heads, by the names that the file has for it.
pub(super) struct Heads<'a> {
    pub(super) heads: usize,
    pub(super) kv_heads: (&'a str, usize),
    pub(super) head_dim: (&'a str, usize),
}

impl Heads<'_> {
    pub(super) fn check(&self, path: &Path) -> Result<(), LoadError> {
        let (kv_heads, head_dim) = (self.kv_heads.1, self.head_dim.1);
        let checks = [
            (self.kv_heads, self.heads.is_multiple_of(kv_heads)),
            (self.head_dim, (1..=MOST_HEAD_DIM).contains(&head_dim) && head_dim.is_multiple_of(2)),
        ];
        match checks.iter().find(|(_, fine)| !fine) {
            Some(((key, value), _)) => Err(unsupported(path, key, format!("{value}"))),
            None => Ok(()),
        }
    }
}

/// Far above any model's: tables are made for a head before any tensor is looked at.
const MOST_HEAD_DIM: usize = 1 << 16;

/// A size that a file gives, if it can be one: not 0, and not far above any model's, so that
/// products of two of them fit a `usize`.
pub(super) fn size(value: u64) -> Option<usize> {
    (1..=1 << 30).contains(&value).then_some(value as usize)
}

/// The base of the rotary frequencies, if it can be one.
pub(super) fn rope_base(base: f64) -> Option<f64> {
    (base.is_finite() && base > 1.0).then_some(base)
}

/// What frequencies are divided by, if they can be.
pub(super) fn rope_factor(factor: f64) -> Option<f64> {
    (factor.is_finite() && factor >= 1.0).then_some(factor)
}

/// Rotary position embedding (arXiv 2104.09864): a frequency for each pair of a head, divided by
/// the scaling's divisor for it.
pub(super) fn frequencies(base: f64, divisors: &[f64]) -> Vec<f64> {
    let pairs = divisors.len() as f64;
    let frequency = |(pair, divisor): (usize, &f64)| base.powf(-(pair as f64) / pairs) / divisor;
    divisors.iter().enumerate().map(frequency).collect()
}

pub(super) fn unsupported(path: &Path, key: &str, value: String) -> LoadError {
    LoadError::Unsupported { path: path.to_owned(), key: key.to_owned(), value }
}
