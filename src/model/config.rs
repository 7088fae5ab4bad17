//! A model's shape, from the metadata of its file, and what this crate cannot run.

use super::LoadError;
use crate::gguf::Gguf;

/// What tells the supported architectures apart, and sizes. Checked: no zero, heads divide.
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
    pub(super) rope_base: f32,
    pub(super) rope_pairs: RopePairs,
    /// Whether queries, keys and values have a bias.
    pub(super) qkv_bias: bool,
}

/// Which two numbers of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RopePairs {
    /// Neighbours: how GGUF stores Llama's heads.
    Neighbours,
    /// The same place of the first and the second half: the paper's code, and Qwen.
    Halves,
}

/// Keys that are understood; any other that begins with the architecture is refused, since it may
/// change what has to be computed.
const KNOWN: [&str; 13] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "vocab_size",
];

impl Config {
    pub(super) fn from_gguf(gguf: &Gguf) -> Result<Self, LoadError> {
        let architecture = gguf.string("general.architecture")?;
        let (rope_pairs, qkv_bias) = match architecture {
            "llama" => (RopePairs::Neighbours, false),
            "qwen2" => (RopePairs::Halves, true),
            _ => {
                return Err(LoadError::Architecture {
                    path: gguf.path().to_owned(),
                    architecture: architecture.to_owned(),
                });
            }
        };
        let keys = Keys { gguf, architecture };
        keys.refuse_unknown()?;
        let heads = keys.positive("attention.head_count")?;
        let width = keys.positive("embedding_length")?;
        let head_dim = keys.or("attention.key_length", width / heads)?;
        let config = Self {
            layers: keys.positive("block_count")?,
            width,
            hidden: keys.positive("feed_forward_length")?,
            heads,
            kv_heads: keys.or("attention.head_count_kv", heads)?,
            head_dim,
            context_length: keys.positive("context_length")?,
            norm_eps: gguf.float(&keys.name("attention.layer_norm_rms_epsilon"))?,
            rope_base: keys.rope_base()?,
            rope_pairs,
            qkv_bias,
        };
        keys.check_heads(&config)?;
        Ok(config)
    }

    pub(super) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn positive(&self, key: &str) -> Result<usize, LoadError> {
        let name = self.name(key);
        let value = self.gguf.unsigned(&name)?;
        // Far above any model, and products of two of them fit a `usize`.
        if value == 0 || value > 1 << 30 {
            return Err(self.refuse(&name, format!("{value}")));
        }
        Ok(value as usize)
    }

    fn or(&self, key: &str, default: usize) -> Result<usize, LoadError> {
        if self.gguf.has(&self.name(key)) { self.positive(key) } else { Ok(default) }
    }

    fn rope_base(&self) -> Result<f32, LoadError> {
        let name = self.name("rope.freq_base");
        let base = if self.gguf.has(&name) { self.gguf.float(&name)? } else { 10_000.0 };
        if base.is_finite() && base > 1.0 {
            Ok(base)
        } else {
            Err(self.refuse(&name, format!("{base}")))
        }
    }

    fn refuse(&self, key: &str, value: String) -> LoadError {
        LoadError::Unsupported { path: self.gguf.path().to_owned(), key: key.to_owned(), value }
    }

    fn refuse_unknown(&self) -> Result<(), LoadError> {
        let prefix = self.name("");
        // Sorted, so that the same file always names the same key.
        let mut unknown: Vec<&str> = self
            .gguf
            .keys()
            .filter(|key| key.strip_prefix(&prefix).is_some_and(|key| !KNOWN.contains(&key)))
            .collect();
        unknown.sort_unstable();
        if let Some(key) = unknown.first() {
            return Err(self.refuse(key, "a key that is not understood".to_owned()));
        }
        let scaling = self.name("rope.scaling.type");
        if self.gguf.has(&scaling) && self.gguf.string(&scaling)? != "none" {
            return Err(self.refuse(&scaling, self.gguf.string(&scaling)?.to_owned()));
        }
        Ok(())
    }

    fn check_heads(&self, config: &Config) -> Result<(), LoadError> {
        let Config { heads, kv_heads, head_dim, .. } = *config;
        let value_length = self.or("attention.value_length", head_dim)?;
        let rotated = self.or("rope.dimension_count", head_dim)?;
        let checks = [
            ("attention.head_count_kv", kv_heads, heads.is_multiple_of(kv_heads)),
            ("attention.key_length", head_dim, head_dim > 0 && head_dim.is_multiple_of(2)),
            ("attention.value_length", value_length, value_length == head_dim),
            ("rope.dimension_count", rotated, rotated == head_dim),
        ];
        match checks.iter().find(|(.., fine)| !fine) {
            Some((key, value, _)) => Err(self.refuse(&self.name(key), format!("{value}"))),
            None => Ok(()),
        }
    }
}
