//! One transformer for Llama, Mistral, Qwen2 and Qwen3: weights on the memory map, loaded and
//! checked here.

use std::sync::Arc;

use super::{
    KvCache, KvFormat, LanguageModel, Lease, LoadError, ModelError, Room, Row,
    cache::Layout,
    checkpoint::{Checkpoint, OUTPUT},
    config::Config,
    forward,
    kernels::Pool,
    tensors::{Matrix, Tensors},
};
use crate::{gguf::Gguf, isa::Isa};

/// A decoder-only transformer: pre-norm blocks of grouped-query attention with rotary positions
/// and a gated feed-forward network.
pub struct Decoder {
    pub(super) config: Config,
    pub(super) isa: Isa,
    pub(super) pool: Pool,
    kv_format: KvFormat,
    pub(super) embedding: Matrix,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: Vec<f32>,
    /// `None`: the embedding is used.
    pub(super) output: Option<Matrix>,
    weight_bytes: u64,
    /// Of the weights.
    lease: Lease,
}

pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) head_norms: Option<HeadNorms>,
    pub(super) attention_output: Linear,
    pub(super) feed_forward_norm: Vec<f32>,
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

pub(super) struct Linear {
    pub(super) matrix: Matrix,
    pub(super) bias: Option<Vec<f32>>,
}

/// For each number of a head, the same for all heads.
pub(super) struct HeadNorms {
    pub(super) query: Vec<f32>,
    pub(super) key: Vec<f32>,
}

impl Decoder {
    /// Maps the weights, copies nothing but norms and biases. Members may share the pool.
    ///
    /// # Errors
    /// If a tensor is missing, left over, or not what the configuration says.
    pub fn new(checkpoint: &Checkpoint, pool: &Pool) -> Result<Self, LoadError> {
        let config = checkpoint.config.clone();
        let mut tensors = Tensors::new(checkpoint);
        let embedding = tensors.table("token_embd.weight", config.width)?;
        let output = if tensors.has(OUTPUT) {
            Some(tensors.matrix(OUTPUT, [embedding.rows(), config.width])?)
        } else {
            None
        };
        let layers = (0..config.layers)
            .map(|index| Layer::load(&mut tensors, &config, index))
            .collect::<Result<_, _>>()?;
        let output_norm = tensors.vector("output_norm.weight", config.width)?;
        tensors.finish()?;
        let (isa, pool) = (Isa::best(), pool.clone());
        let kv_format = KvFormat::default();
        let weight_bytes = checkpoint.weight_bytes();
        Ok(Self {
            config,
            isa,
            pool,
            kv_format,
            embedding,
            layers,
            output_norm,
            output,
            weight_bytes,
            lease: Lease::default(),
        })
    }

    /// # Errors
    /// If the file needs something this decoder does not do, or is not consistent.
    pub fn from_gguf(gguf: &Gguf, pool: &Pool) -> Result<Self, LoadError> {
        Self::new(&Checkpoint::from_gguf(gguf)?, pool)
    }

    /// How the caches that it makes from now on keep keys and values.
    #[must_use]
    pub fn with_kv_format(self, kv_format: KvFormat) -> Self {
        Self { kv_format, ..self }
    }

    /// Takes the memory of its weights of this room, and that of the caches it makes from now on.
    ///
    /// # Errors
    /// If there is not so much.
    pub fn within(mut self, room: &Arc<Room>) -> Result<Self, ModelError> {
        self.lease = Lease::new(room);
        self.lease.grow(self.weight_bytes)?;
        Ok(self)
    }

    /// The size of the weights in their files.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    fn check(&self, row: &Row<'_>) -> Result<(), ModelError> {
        row.check(self.vocab_size(), self.config.context_length)?;
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
        let Config { layers, head_dim, context_length, .. } = self.config;
        let width = self.config.kv_width();
        let layout = Layout { layers, width, head_dim, capacity: context_length };
        KvCache::new(&layout, self.kv_format).within(&self.lease)
    }

    fn pool(&self) -> Option<&Pool> {
        Some(&self.pool)
    }

    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        rows.iter().try_for_each(|row| self.check(row))?;
        for row in rows.iter_mut() {
            row.cache.make_room(row.cache.tokens().len() + row.tokens.len())?;
            let wanted = row.want.count(row.tokens.len()) * self.vocab_size();
            let more = wanted.saturating_sub(row.logits.len());
            row.logits.try_reserve_exact(more).map_err(|_| ModelError::OutOfMemory {
                wanted: (more * size_of::<f32>()) as u64,
                left: 0,
            })?;
            row.logits.resize(wanted, 0.0);
        }
        forward::forward(self, rows)
    }
}

impl Layer {
    fn load(tensors: &mut Tensors<'_>, config: &Config, index: usize) -> Result<Self, LoadError> {
        let (width, hidden, kv_width) = (config.width, config.hidden, config.kv_width());
        let (q_width, biases) = (config.q_width(), config.biases);
        let name = |part: &str| format!("blk.{index}.{part}");
        let mut linear = |part: &str, shape: [usize; 2], has_bias: bool| {
            let matrix = tensors.matrix(&name(&format!("{part}.weight")), shape)?;
            let bias = match has_bias {
                true => Some(tensors.vector(&name(&format!("{part}.bias")), shape[0])?),
                false => None,
            };
            Ok::<_, LoadError>(Linear { matrix, bias })
        };
        let query = linear("attn_q", [q_width, width], biases.qkv)?;
        let key = linear("attn_k", [kv_width, width], biases.qkv)?;
        let value = linear("attn_v", [kv_width, width], biases.qkv)?;
        let attention_output = linear("attn_output", [width, q_width], biases.output)?;
        let gate = linear("ffn_gate", [hidden, width], biases.feed_forward)?;
        let up = linear("ffn_up", [hidden, width], biases.feed_forward)?;
        let down = linear("ffn_down", [width, hidden], biases.feed_forward)?;
        let head_norms = if config.head_norms {
            Some(HeadNorms {
                query: tensors.vector(&name("attn_q_norm.weight"), config.head_dim)?,
                key: tensors.vector(&name("attn_k_norm.weight"), config.head_dim)?,
            })
        } else {
            None
        };
        let attention_norm = tensors.vector(&name("attn_norm.weight"), width)?;
        let feed_forward_norm = tensors.vector(&name("ffn_norm.weight"), width)?;
        Ok(Self {
            attention_norm,
            query,
            key,
            value,
            head_norms,
            attention_output,
            feed_forward_norm,
            gate,
            up,
            down,
        })
    }
}
