//! One transformer for Llama and Qwen2: weights on the memory map, loaded and checked here.

use super::{
    KvCache, LanguageModel, LoadError, ModelError, Row, Want,
    config::Config,
    forward,
    kernels::{Isa, Pool},
    tensors::{Matrix, Tensors},
};
use crate::gguf::Gguf;

/// A decoder-only transformer: pre-norm blocks of grouped-query attention with rotary positions
/// and a gated feed-forward network.
pub struct Decoder {
    pub(super) config: Config,
    pub(super) isa: Isa,
    pub(super) pool: Pool,
    pub(super) embedding: Matrix,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: Vec<f32>,
    /// `None`: the embedding is used.
    pub(super) output: Option<Matrix>,
    /// Radians a position, for each pair of a head.
    pub(super) frequencies: Vec<f64>,
}

pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Matrix,
    pub(super) key: Matrix,
    pub(super) value: Matrix,
    pub(super) biases: Option<Biases>,
    pub(super) attention_output: Matrix,
    pub(super) feed_forward_norm: Vec<f32>,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
}

pub(super) struct Biases {
    pub(super) query: Vec<f32>,
    pub(super) key: Vec<f32>,
    pub(super) value: Vec<f32>,
}

impl Decoder {
    /// Maps the weights, copies nothing but norms and biases. Members may share the pool.
    ///
    /// # Errors
    /// If the file needs something this decoder does not do, or is not consistent.
    pub fn from_gguf(gguf: &Gguf, pool: &Pool) -> Result<Self, LoadError> {
        let config = Config::from_gguf(gguf)?;
        let mut tensors = Tensors::new(gguf);
        let embedding = tensors.table("token_embd.weight", config.width)?;
        let output = if tensors.has("output.weight") {
            Some(tensors.matrix("output.weight", [embedding.rows(), config.width])?)
        } else {
            None
        };
        let layers = (0..config.layers)
            .map(|index| Layer::load(&mut tensors, &config, index))
            .collect::<Result<_, _>>()?;
        let output_norm = tensors.vector("output_norm.weight", config.width)?;
        let frequencies = frequencies(&mut tensors, &config)?;
        tensors.finish()?;
        let (isa, pool) = (Isa::best(), pool.clone());
        Ok(Self { config, isa, pool, embedding, layers, output_norm, output, frequencies })
    }

    fn check(&self, row: &Row<'_>) -> Result<(), ModelError> {
        assert!(!row.tokens.is_empty(), "a row has at least one token");
        let vocab_size = self.vocab_size();
        if let Some(token) = row.tokens.iter().find(|token| token.0 as usize >= vocab_size) {
            return Err(ModelError::TokenOutOfRange { token: token.0, vocab_size });
        }
        let capacity = self.config.context_length;
        let wanted = row.cache.tokens().len() + row.tokens.len();
        if wanted > capacity {
            return Err(ModelError::ContextFull { capacity, wanted });
        }
        let (expected, found) = (self.cache_shape(), row.cache.shape());
        if expected != found {
            return Err(ModelError::ForeignCache { expected, found });
        }
        Ok(())
    }

    fn cache_shape(&self) -> (usize, usize) {
        (self.config.layers, self.config.kv_width())
    }
}

impl LanguageModel for Decoder {
    fn vocab_size(&self) -> usize {
        self.embedding.rows()
    }

    fn context_length(&self) -> usize {
        self.config.context_length
    }

    fn new_cache(&self) -> KvCache {
        let (layers, width) = self.cache_shape();
        KvCache::new(layers, width, self.config.context_length)
    }

    fn pool(&self) -> Option<&Pool> {
        Some(&self.pool)
    }

    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        rows.iter().try_for_each(|row| self.check(row))?;
        for row in rows.iter_mut() {
            let wanted = match row.want {
                Want::Nothing => 0,
                Want::Last => 1,
                Want::All => row.tokens.len(),
            };
            row.logits.resize(wanted * self.vocab_size(), 0.0);
        }
        forward::forward(self, rows);
        Ok(())
    }
}

impl Layer {
    fn load(tensors: &mut Tensors<'_>, config: &Config, index: usize) -> Result<Self, LoadError> {
        let (width, hidden, kv_width) = (config.width, config.hidden, config.kv_width());
        let q_width = config.heads * config.head_dim;
        let name = |part: &str| format!("blk.{index}.{part}");
        let biases = if config.qkv_bias {
            Some(Biases {
                query: tensors.vector(&name("attn_q.bias"), q_width)?,
                key: tensors.vector(&name("attn_k.bias"), kv_width)?,
                value: tensors.vector(&name("attn_v.bias"), kv_width)?,
            })
        } else {
            None
        };
        Ok(Self {
            attention_norm: tensors.vector(&name("attn_norm.weight"), width)?,
            query: tensors.matrix(&name("attn_q.weight"), [q_width, width])?,
            key: tensors.matrix(&name("attn_k.weight"), [kv_width, width])?,
            value: tensors.matrix(&name("attn_v.weight"), [kv_width, width])?,
            biases,
            attention_output: tensors.matrix(&name("attn_output.weight"), [width, q_width])?,
            feed_forward_norm: tensors.vector(&name("ffn_norm.weight"), width)?,
            gate: tensors.matrix(&name("ffn_gate.weight"), [hidden, width])?,
            up: tensors.matrix(&name("ffn_up.weight"), [hidden, width])?,
            down: tensors.matrix(&name("ffn_down.weight"), [width, hidden])?,
        })
    }
}

/// Rotary position embedding (arXiv 2104.09864). Llama 3 files carry divisors of the frequencies.
fn frequencies(tensors: &mut Tensors<'_>, config: &Config) -> Result<Vec<f64>, LoadError> {
    let pairs = config.head_dim / 2;
    let divisors = if tensors.has("rope_freqs.weight") {
        tensors.vector("rope_freqs.weight", pairs)?
    } else {
        vec![1.0; pairs]
    };
    let base = f64::from(config.rope_base);
    let exponent = |pair: usize| -(pair as f64) / pairs as f64;
    Ok(divisors
        .iter()
        .enumerate()
        .map(|(pair, &divisor)| base.powf(exponent(pair)) / f64::from(divisor))
        .collect())
}
