//! The decoder on candle's tensors, for devices that the kernels of this crate do not know.
//!
//! It takes a [`Decoder`] apart that has been read and checked, so whatever that one can run, this
//! one runs. On candle's CPU device it is what the tests compare the two by. Results agree with
//! that decoder's to rounding; a device may take another path for another number of positions,
//! so unlike the decoder's they may depend in their last bits on what else is in a call.
//!
//! Knows the decoder's parts, no file.

use candle_core::{Result, Tensor, quantized::QMatMul};
use candle_nn::{
    ops::{rms_norm, softmax_last_dim},
    rotary_emb::{rope, rope_i},
};

use super::{
    KvCache, LanguageModel, ModelError, Pool, Row,
    config::{Config, RopePairs},
    decoder::{self, Decoder},
    kernels,
    tensors::Matrix,
};

mod cache;
mod device;

pub(super) use cache::DeviceLayer;
pub use device::{Device, DeviceError};

/// A [`Decoder`] whose weights are on a device, but for the embedding: of that only the rows of
/// the tokens at hand are sent there.
pub(super) struct CandleDecoder {
    config: Config,
    pool: Pool,
    device: candle_core::Device,
    embedding: Matrix,
    layers: Vec<Layer>,
    output_norm: Tensor,
    output: QMatMul,
}

struct Layer {
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    /// Of queries and of keys.
    head_norms: Option<(Tensor, Tensor)>,
    attention_output: Linear,
    feed_forward_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

struct Linear {
    weights: QMatMul,
    bias: Option<Tensor>,
}

/// What the layers have to know of a call's positions.
struct Batch {
    /// For each row: the first of its positions in the batch, their number, and that before them.
    spans: Vec<Span>,
    /// Of each pair's angle at each position.
    cosines: Tensor,
    sines: Tensor,
}

struct Span {
    first: usize,
    count: usize,
    past: usize,
    /// Minus infinity where a position would see a later one; none for a single position.
    mask: Option<Tensor>,
}

impl CandleDecoder {
    /// Copies the weights to the device.
    pub(super) fn new(decoder: Decoder, device: &candle_core::Device) -> Result<Self> {
        let output = decoder.output.as_ref().unwrap_or(&decoder.embedding);
        Ok(Self {
            output: output.on(device)?,
            output_norm: vector(&decoder.output_norm, device)?,
            layers: decoder
                .layers
                .iter()
                .map(|layer| Layer::new(layer, device))
                .collect::<Result<_>>()?,
            config: decoder.config,
            pool: decoder.pool,
            device: device.clone(),
            embedding: decoder.embedding,
        })
    }

    fn check(&self, row: &Row<'_>) -> std::result::Result<(), ModelError> {
        row.check(self.vocab_size(), self.context_length())?;
        row.cache.check_device_layers(self.config.layers, self.config.kv_width())
    }

    /// The logits of all positions that rows ask for, row after row.
    fn run(&self, rows: &mut [Row<'_>]) -> Result<Vec<f32>> {
        let batch = self.batch(rows)?;
        let mut hidden = self.embed(rows)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let change = self.attention(layer, index, rows, (&batch, &hidden))?;
            hidden = (hidden + change)?;
            let normed = self.norm(&hidden, &layer.feed_forward_norm)?;
            let gated = (layer.gate.apply(&normed)?.silu()? * layer.up.apply(&normed)?)?;
            hidden = (hidden + layer.down.apply(&gated)?)?;
        }
        let wanted: Vec<u32> = rows
            .iter()
            .zip(&batch.spans)
            .flat_map(|(row, span)| {
                let end = span.first + span.count;
                end - row.want.count(span.count)..end
            })
            .map(|position| position as u32)
            .collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let count = wanted.len();
        let hidden = hidden.index_select(&Tensor::from_vec(wanted, count, &self.device)?, 0)?;
        let normed = self.norm(&hidden, &self.output_norm)?;
        apply(&self.output, &normed)?.flatten_all()?.to_vec1()
    }

    fn batch(&self, rows: &[Row<'_>]) -> Result<Batch> {
        let (mut spans, mut angles) = (Vec::with_capacity(rows.len()), Vec::new());
        let mut first = 0;
        for row in rows {
            let (count, past) = (row.tokens.len(), row.cache.tokens().len());
            let mask = if count > 1 { Some(self.mask(count, past)?) } else { None };
            spans.push(Span { first, count, past, mask });
            first += count;
            for position in past..past + count {
                angles.extend(
                    self.config.frequencies.iter().map(|f| (position as f64 * f).sin_cos()),
                );
            }
        }
        let shape = (first, self.config.frequencies.len());
        let (sines, cosines) =
            angles.into_iter().map(|(sin, cos)| (sin as f32, cos as f32)).unzip();
        Ok(Batch {
            spans,
            cosines: Tensor::from_vec(cosines, shape, &self.device)?,
            sines: Tensor::from_vec(sines, shape, &self.device)?,
        })
    }

    fn mask(&self, count: usize, past: usize) -> Result<Tensor> {
        let seen = past + count;
        let hides = |position, key| if key > past + position { f32::NEG_INFINITY } else { 0.0 };
        let mask = (0..count).flat_map(|at| (0..seen).map(move |key| hides(at, key))).collect();
        Tensor::from_vec::<_, f32>(mask, (count, seen), &self.device)
    }

    fn embed(&self, rows: &[Row<'_>]) -> Result<Tensor> {
        let width = self.config.width;
        let tokens: Vec<usize> =
            rows.iter().flat_map(|row| row.tokens).map(|token| token.0 as usize).collect();
        let mut hidden = vec![0.0; tokens.len() * width];
        for (&token, out) in tokens.iter().zip(hidden.chunks_exact_mut(width)) {
            kernels::dequantize(self.embedding.weights(), token, out);
        }
        Tensor::from_vec(hidden, (tokens.len(), width), &self.device)
    }

    /// What attention adds to the positions' hidden vectors.
    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        rows: &mut [Row<'_>],
        (batch, hidden): (&Batch, &Tensor),
    ) -> Result<Tensor> {
        let Config { heads, kv_heads, context_length, .. } = self.config;
        let normed = self.norm(hidden, &layer.attention_norm)?;
        let mut query = self.heads(&layer.query.apply(&normed)?, heads)?;
        let mut key = self.heads(&layer.key.apply(&normed)?, kv_heads)?;
        if let Some((of_query, of_key)) = &layer.head_norms {
            query = self.norm(&query, of_query)?;
            key = self.norm(&key, of_key)?;
        }
        let (query, key) = (self.rotate(&query, batch)?, self.rotate(&key, batch)?);
        let value = self.heads(&layer.value.apply(&normed)?, kv_heads)?;
        let mut attended = Vec::with_capacity(rows.len());
        for (row, span) in rows.iter_mut().zip(&batch.spans) {
            let part = |all: &Tensor| all.narrow(1, span.first, span.count)?.contiguous();
            let cached = row.cache.device_layer(index);
            let new = (&part(&key)?, &part(&value)?);
            let (keys, values) = cached.write(span.past, new, context_length)?;
            attended.push(attend(&part(&query)?, &keys, &values, span.mask.as_ref())?);
        }
        layer.attention_output.apply(&Tensor::cat(&attended, 0)?)
    }

    /// From positions of some heads to heads of positions.
    fn heads(&self, positions: &Tensor, heads: usize) -> Result<Tensor> {
        let shape = (positions.dim(0)?, heads, self.config.head_dim);
        positions.reshape(shape)?.transpose(0, 1)?.contiguous()
    }

    fn rotate(&self, heads: &Tensor, batch: &Batch) -> Result<Tensor> {
        let rotate = match self.config.rope_pairs {
            RopePairs::Neighbours => rope_i,
            RopePairs::Halves => rope,
        };
        rotate(&heads.unsqueeze(0)?, &batch.cosines, &batch.sines)?.squeeze(0)
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        rms_norm(x, weight, self.config.norm_eps)
    }
}

impl LanguageModel for CandleDecoder {
    fn vocab_size(&self) -> usize {
        self.embedding.rows()
    }

    fn context_length(&self) -> usize {
        self.config.context_length
    }

    fn new_cache(&self) -> KvCache {
        KvCache::on_device(self.config.layers, self.config.kv_width())
    }

    fn pool(&self) -> Option<&Pool> {
        Some(&self.pool)
    }

    fn forward(&self, rows: &mut [Row<'_>]) -> std::result::Result<(), ModelError> {
        rows.iter().try_for_each(|row| self.check(row))?;
        if rows.is_empty() {
            return Ok(());
        }
        let all = self
            .run(rows)
            .map_err(|error| ModelError::Device { reason: device::first_line(&error) })?;
        let mut rest = &all[..];
        for row in rows {
            row.cache.append(row.tokens);
            let (logits, others) =
                rest.split_at(row.want.count(row.tokens.len()) * self.vocab_size());
            row.logits.clear();
            row.logits.extend_from_slice(logits);
            rest = others;
        }
        Ok(())
    }
}

impl Layer {
    fn new(layer: &decoder::Layer, device: &candle_core::Device) -> Result<Self> {
        let linear = |linear: &decoder::Linear| {
            let bias = linear.bias.as_ref().map(|bias| vector(bias, device)).transpose()?;
            Result::Ok(Linear { weights: linear.matrix.on(device)?, bias })
        };
        let head_norms = layer
            .head_norms
            .as_ref()
            .map(|norms| Result::Ok((vector(&norms.query, device)?, vector(&norms.key, device)?)))
            .transpose()?;
        Ok(Self {
            attention_norm: vector(&layer.attention_norm, device)?,
            query: linear(&layer.query)?,
            key: linear(&layer.key)?,
            value: linear(&layer.value)?,
            head_norms,
            attention_output: linear(&layer.attention_output)?,
            feed_forward_norm: vector(&layer.feed_forward_norm, device)?,
            gate: linear(&layer.gate)?,
            up: linear(&layer.up)?,
            down: linear(&layer.down)?,
        })
    }
}

impl Linear {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let y = apply(&self.weights, x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

fn apply(weights: &QMatMul, x: &Tensor) -> Result<Tensor> {
    candle_core::Module::forward(weights, x)
}

fn vector(values: &[f32], device: &candle_core::Device) -> Result<Tensor> {
    Tensor::from_slice(values, values.len(), device)
}

/// `softmax(q K / sqrt(d) + mask) V`; query heads in order share a key-value head.
fn attend(query: &Tensor, keys: &Tensor, values: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (heads, count, head_dim) = query.dims3()?;
    let (kv_heads, seen, _) = keys.dims3()?;
    let grouped = (kv_heads, heads / kv_heads * count);
    let query = query.reshape((grouped.0, grouped.1, head_dim))?;
    let scores = (query.matmul(&keys.t()?)? * (1.0 / (head_dim as f64).sqrt()))?;
    let mut scores = scores.reshape((heads, count, seen))?;
    if let Some(mask) = mask {
        scores = scores.broadcast_add(mask)?;
    }
    let weights = softmax_last_dim(&scores)?.reshape((grouped.0, grouped.1, seen))?;
    let attended = weights.matmul(values)?.reshape((heads, count, head_dim))?;
    attended.transpose(0, 1)?.reshape((count, heads * head_dim))
}
