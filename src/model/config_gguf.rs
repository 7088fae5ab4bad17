//! A model's shape out of the metadata of a GGUF file, and what of it cannot be run.

use super::{
    LoadError,
    config::{
        Biases, Config, Heads, RopePairs, frequencies, rope_base, rope_factor, size, unsupported,
    },
    kernels,
    tensors::matrix,
};
use crate::gguf::Gguf;

/// Keys that are understood; any other that begins with the architecture is refused, since it may
/// change what has to be computed.
const KNOWN: [&str; 15] = [
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
    "rope.scaling.factor",
    "rope.scaling.type",
    // How the tensors were ordered before they were converted: of no consequence.
    "tensor_data_layout",
    "vocab_size",
];

/// Divisors of the frequencies: how Llama 3.1's and 3.2's scaling is written down.
pub(crate) const DIVISORS: &str = "rope_freqs.weight";

pub(super) fn read(gguf: &Gguf) -> Result<Config, LoadError> {
    let architecture = gguf.string("general.architecture")?;
    let has = |name: &str| gguf.tensor_names().any(|tensor| tensor == name);
    let (rope_pairs, head_norms) = match architecture {
        "llama" => (RopePairs::Neighbours, false),
        "qwen2" => (RopePairs::Halves, false),
        "qwen3" => (RopePairs::Halves, true),
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
    let kv_heads = keys.or("attention.head_count_kv", heads)?;
    keys.check_heads(heads, kv_heads, head_dim)?;
    let divisors = keys.divisors(head_dim / 2)?;
    Ok(Config {
        layers: keys.positive("block_count")?,
        width,
        hidden: keys.positive("feed_forward_length")?,
        heads,
        kv_heads,
        head_dim,
        context_length: keys.positive("context_length")?,
        norm_eps: gguf.float(&keys.name("attention.layer_norm_rms_epsilon"))?,
        rope_pairs,
        frequencies: frequencies(keys.rope_base()?, &divisors),
        biases: Biases {
            qkv: architecture == "qwen2" || has("blk.0.attn_q.bias"),
            output: has("blk.0.attn_output.bias"),
            feed_forward: has("blk.0.ffn_gate.bias"),
        },
        head_norms,
    })
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
        size(value).ok_or_else(|| self.refuse(&name, format!("{value}")))
    }

    fn or(&self, key: &str, default: usize) -> Result<usize, LoadError> {
        if self.gguf.has(&self.name(key)) { self.positive(key) } else { Ok(default) }
    }

    fn rope_base(&self) -> Result<f64, LoadError> {
        let name = self.name("rope.freq_base");
        let base = if self.gguf.has(&name) { self.gguf.float(&name)? } else { 10_000.0 };
        rope_base(base.into()).ok_or_else(|| self.refuse(&name, format!("{base}")))
    }

    /// What each pair's frequency is divided by.
    fn divisors(&self, pairs: usize) -> Result<Vec<f64>, LoadError> {
        let (kind, factor) = (self.name("rope.scaling.type"), self.name("rope.scaling.factor"));
        let kind = if self.gguf.has(&kind) { self.gguf.string(&kind)? } else { "none" };
        let factor = match kind {
            "linear" => {
                let value = self.gguf.float(&factor)?;
                rope_factor(value.into()).ok_or_else(|| self.refuse(&factor, format!("{value}")))?
            }
            "none" if self.gguf.has(&factor) => {
                return Err(self.refuse(&factor, "a factor without a type".to_owned()));
            }
            "none" => 1.0,
            other => return Err(self.refuse(&self.name("rope.scaling.type"), other.to_owned())),
        };
        if !self.gguf.tensor_names().any(|name| name == DIVISORS) {
            return Ok(vec![factor; pairs]);
        }
        let row = matrix(self.gguf.path(), DIVISORS, [1, pairs], &self.gguf.tensor(DIVISORS)?)?;
        let mut divisors = vec![0.0; pairs];
        kernels::dequantize(row.weights(), 0, &mut divisors);
        match divisors.iter().find(|divisor| !divisor.is_finite() || **divisor <= 0.0) {
            Some(divisor) => Err(self.refuse(DIVISORS, format!("{divisor}"))),
            None => Ok(divisors.into_iter().map(|divisor| f64::from(divisor) * factor).collect()),
        }
    }

    fn refuse(&self, key: &str, value: String) -> LoadError {
        unsupported(self.gguf.path(), key, value)
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
        match unknown.first() {
            Some(key) => Err(self.refuse(key, "a key that is not understood".to_owned())),
            None => Ok(()),
        }
    }

    fn check_heads(&self, heads: usize, kv_heads: usize, head_dim: usize) -> Result<(), LoadError> {
        let names = ["attention.head_count_kv", "attention.key_length"].map(|key| self.name(key));
        let heads =
            Heads { heads, kv_heads: (&names[0], kv_heads), head_dim: (&names[1], head_dim) };
        heads.check(self.gguf.path())?;
        for key in ["attention.value_length", "rope.dimension_count"] {
            let value = self.or(key, head_dim)?;
            if value != head_dim {
                return Err(self.refuse(&self.name(key), format!("{value}")));
            }
        }
        Ok(())
    }
}
