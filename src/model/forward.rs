//! The forward pass: rows are cut into positions, positions go through the layers in tiles.

use super::{
    ModelError, Row, Want,
    config::{Config, RopePairs},
    decoder::{Decoder, Layer, Linear},
    kernels::{self, Activations, Attention, Product, Query, zeros},
    tensors::Matrix,
};

/// Positions that go through the layers together: bounds the memory (about 100 kB a position in
/// a model of half a billion weights) and is many enough to hide the reading of the weights.
const TILE: usize = 128;

/// The most positions that share a pass over keys and values: hides the widening of these, and
/// leaves tasks enough for many threads.
const QUERIES: usize = 16;

/// The most scores of one task, a megabyte, unless it has one position only.
const SCORES: usize = 1 << 18;

/// One position of one row.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    /// In its sequence.
    index: usize,
    /// Whether logits are asked for after it.
    wanted: bool,
}

/// A position, and the room it needs on its way through a layer.
struct Position {
    place: Place,
    /// Cosine and sine of each pair's angle.
    rotations: Vec<(f32, f32)>,
    hidden: Vec<f32>,
    /// What a block adds to `hidden`.
    change: Vec<f32>,
    normed: Activations,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    attended: Activations,
    gate: Vec<f32>,
    up: Vec<f32>,
    gated: Activations,
}

/// Rows are checked, their caches have room and their logits their final length.
///
/// # Errors
/// If there is no memory for what is computed on the way. The caches hold whole tiles then.
pub(super) fn forward(model: &Decoder, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
    let all: Vec<(usize, usize)> = rows
        .iter()
        .enumerate()
        .flat_map(|(row, Row { tokens, .. })| (0..tokens.len()).map(move |at| (row, at)))
        .collect();
    // The number of logits written, by row.
    let mut done = vec![0; rows.len()];
    for tile in all.chunks(TILE) {
        let mut positions = model.embed(rows, tile)?;
        for (index, layer) in model.layers.iter().enumerate() {
            model.attention(layer, index, rows, &mut positions)?;
            model.feed_forward(layer, &mut positions);
        }
        for &(row, at) in tile {
            let token = rows[row].tokens[at];
            rows[row].cache.append(&[token]);
        }
        model.logits(rows, &mut positions, &mut done);
    }
    Ok(())
}

impl Position {
    fn new(config: &Config, place: Place) -> Result<Self, ModelError> {
        Ok(Self {
            place,
            rotations: zeros(config.frequencies.len())?,
            hidden: zeros(config.width)?,
            change: zeros(config.width)?,
            normed: Activations::new(config.width)?,
            query: zeros(config.q_width())?,
            key: zeros(config.kv_width())?,
            value: zeros(config.kv_width())?,
            attended: Activations::new(config.q_width())?,
            gate: zeros(config.hidden)?,
            up: zeros(config.hidden)?,
            gated: Activations::new(config.hidden)?,
        })
    }
}

impl Decoder {
    fn embed(
        &self,
        rows: &[Row<'_>],
        tile: &[(usize, usize)],
    ) -> Result<Vec<Position>, ModelError> {
        let mut positions: Vec<Position> = tile
            .iter()
            .map(|&(row, at)| {
                let Row { cache, tokens, want, .. } = &rows[row];
                // The tokens of earlier tiles are in the cache already.
                let first = tile.iter().find(|place| place.0 == row).map_or(at, |place| place.1);
                let place = Place {
                    row,
                    index: cache.tokens().len() + at - first,
                    wanted: match want {
                        Want::Nothing => false,
                        Want::Last => at + 1 == tokens.len(),
                        Want::All => true,
                    },
                };
                Position::new(&self.config, place)
            })
            .collect::<Result<_, _>>()?;
        self.pool.for_each(&mut positions, |n, position| {
            let (row, at) = tile[n];
            let token = rows[row].tokens[at].0 as usize;
            kernels::dequantize(self.embedding.weights(), token, &mut position.hidden);
            let angle = |frequency: &f64| position.place.index as f64 * frequency;
            let frequencies = &self.config.frequencies;
            for (rotation, frequency) in position.rotations.iter_mut().zip(frequencies) {
                let (sin, cos) = angle(frequency).sin_cos();
                *rotation = (cos as f32, sin as f32);
            }
        });
        Ok(positions)
    }

    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        rows: &mut [Row<'_>],
        positions: &mut Vec<Position>,
    ) -> Result<(), ModelError> {
        let (isa, eps) = (self.isa, self.config.norm_eps);
        self.pool.for_each(positions, |_, p| {
            kernels::norm_and_quantize(isa, &p.hidden, &layer.attention_norm, eps, &mut p.normed);
        });
        let mut inputs = Vec::new();
        let [mut queries, mut keys, mut values] = [(); 3].map(|()| Vec::new());
        for p in positions.iter_mut() {
            inputs.push(&p.normed);
            queries.push(&mut p.query[..]);
            keys.push(&mut p.key[..]);
            values.push(&mut p.value[..]);
        }
        let products = vec![
            product(&layer.query.matrix, queries),
            product(&layer.key.matrix, keys),
            product(&layer.value.matrix, values),
        ];
        kernels::multiply(&self.pool, isa, &inputs, products);
        self.pool.for_each(positions, |_, p| self.place(layer, p));
        for p in positions.iter() {
            rows[p.place.row].cache.write(index, p.place.index, &p.key, &p.value);
        }
        if index + 1 == self.layers.len() {
            // Past the last keys and values only positions with logits matter.
            positions.retain(|p| p.place.wanted);
        }
        self.attend(index, rows, positions)?;
        self.pool.for_each(positions, |_, p| kernels::quantize(isa, &mut p.attended));
        self.product_of(&layer.attention_output, positions, |p| (&p.attended, &mut p.change));
        self.pool.for_each(positions, |_, p| kernels::add(isa, &mut p.hidden, &p.change));
        Ok(())
    }

    /// Biases, norms of the heads, and the rotation that tells queries and keys their position.
    fn place(&self, layer: &Layer, p: &mut Position) {
        self.add_bias(&layer.query, &mut p.query);
        self.add_bias(&layer.key, &mut p.key);
        self.add_bias(&layer.value, &mut p.value);
        let norms = layer.head_norms.as_ref();
        let norms = [norms.map(|norms| &norms.query), norms.map(|norms| &norms.key)];
        for (heads, norm) in [&mut p.query, &mut p.key].into_iter().zip(norms) {
            for head in heads.chunks_exact_mut(self.config.head_dim) {
                if let Some(weight) = norm {
                    kernels::norm(self.isa, head, weight, self.config.norm_eps);
                }
                rotate(head, &p.rotations, self.config.rope_pairs);
            }
        }
    }

    fn add_bias(&self, linear: &Linear, out: &mut [f32]) {
        if let Some(bias) = &linear.bias {
            kernels::add(self.isa, out, bias);
        }
    }

    /// Positions of one sequence share a pass over its keys and values.
    fn attend(
        &self,
        layer: usize,
        rows: &[Row<'_>],
        positions: &mut [Position],
    ) -> Result<(), ModelError> {
        let head_dim = self.config.head_dim;
        let group = self.config.heads / self.config.kv_heads * head_dim;
        let mut tasks: Vec<Attention<'_>> = Vec::new();
        for of_row in positions.chunk_by_mut(|a, b| a.place.row == b.place.row) {
            let cache = &*rows[of_row[0].place.row].cache;
            let seen = of_row.iter().map(|p| p.place.index + 1).max().unwrap_or(0);
            let (keys, values) = cache.read(layer, seen);
            let most = SCORES / (seen * group / head_dim);
            for together in of_row.chunks_mut(most.clamp(1, QUERIES)) {
                let first = tasks.len();
                tasks.extend((0..self.config.kv_heads).map(|head| Attention {
                    queries: Vec::with_capacity(together.len()),
                    keys,
                    values,
                    width: self.config.kv_width(),
                    offset: head * head_dim,
                    head_dim,
                    failed: None,
                }));
                for p in together {
                    let groups = p.query.chunks(group).zip(p.attended.values.chunks_mut(group));
                    for ((heads, out), task) in groups.zip(&mut tasks[first..]) {
                        task.queries.push(Query { heads, out, visible: p.place.index + 1 });
                    }
                }
            }
        }
        self.pool.for_each(&mut tasks, |_, task| kernels::attend(self.isa, task));
        tasks.into_iter().find_map(|task| task.failed).map_or(Ok(()), Err)
    }

    fn feed_forward(&self, layer: &Layer, positions: &mut [Position]) {
        let (isa, eps) = (self.isa, self.config.norm_eps);
        self.pool.for_each(positions, |_, p| {
            let norm = &layer.feed_forward_norm;
            kernels::norm_and_quantize(isa, &p.hidden, norm, eps, &mut p.normed);
        });
        let mut inputs = Vec::new();
        let [mut gates, mut ups] = [(); 2].map(|()| Vec::new());
        for p in positions.iter_mut() {
            inputs.push(&p.normed);
            gates.push(&mut p.gate[..]);
            ups.push(&mut p.up[..]);
        }
        let products = vec![product(&layer.gate.matrix, gates), product(&layer.up.matrix, ups)];
        kernels::multiply(&self.pool, isa, &inputs, products);
        self.pool.for_each(positions, |_, p| {
            self.add_bias(&layer.gate, &mut p.gate);
            self.add_bias(&layer.up, &mut p.up);
            kernels::gate_and_quantize(isa, &p.gate, &p.up, &mut p.gated);
        });
        self.product_of(&layer.down, positions, |p| (&p.gated, &mut p.change));
        self.pool.for_each(positions, |_, p| kernels::add(isa, &mut p.hidden, &p.change));
    }

    fn product_of(
        &self,
        linear: &Linear,
        positions: &mut [Position],
        parts: impl Fn(&mut Position) -> (&Activations, &mut Vec<f32>),
    ) {
        let (inputs, mut outputs): (Vec<_>, Vec<_>) =
            positions.iter_mut().map(parts).map(|(x, y)| (x, &mut y[..])).unzip();
        let of = outputs.iter_mut().map(|output| &mut **output).collect();
        kernels::multiply(&self.pool, self.isa, &inputs, vec![product(&linear.matrix, of)]);
        for output in outputs {
            self.add_bias(linear, output);
        }
    }

    /// Continues each row's logits with those of its positions.
    fn logits(&self, rows: &mut [Row<'_>], positions: &mut [Position], done: &mut [usize]) {
        if positions.is_empty() {
            return;
        }
        let matrix = self.output.as_ref().unwrap_or(&self.embedding);
        self.pool.for_each(positions, |_, p| {
            let eps = self.config.norm_eps;
            kernels::norm_and_quantize(self.isa, &p.hidden, &self.output_norm, eps, &mut p.normed);
        });
        let mut outputs = Vec::new();
        for (index, (row, done)) in rows.iter_mut().zip(done).enumerate() {
            let count = positions.iter().filter(|p| p.place.row == index).count();
            outputs.extend(row.logits.chunks_exact_mut(matrix.rows()).skip(*done).take(count));
            *done += count;
        }
        let inputs: Vec<&Activations> = positions.iter().map(|p| &p.normed).collect();
        kernels::multiply(&self.pool, self.isa, &inputs, vec![product(matrix, outputs)]);
    }
}

fn product<'a>(matrix: &'a Matrix, outputs: Vec<&'a mut [f32]>) -> Product<'a> {
    Product { weights: matrix.weights(), outputs }
}

fn rotate(head: &mut [f32], rotations: &[(f32, f32)], pairs: RopePairs) {
    for (pair, &(cos, sin)) in rotations.iter().enumerate() {
        let (a, b) = match pairs {
            RopePairs::Neighbours => (2 * pair, 2 * pair + 1),
            RopePairs::Halves => (pair, pair + head.len() / 2),
        };
        (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Biases;

    #[test]
    fn a_position_that_memory_cannot_hold_is_an_error_and_not_the_end_of_the_process() {
        let config = Config {
            layers: 1,
            width: 8,
            hidden: 1 << 58,
            heads: 2,
            kv_heads: 1,
            head_dim: 4,
            context_length: 8,
            norm_eps: 1e-5,
            rope_pairs: RopePairs::Halves,
            frequencies: vec![1.0; 2],
            biases: Biases::default(),
            head_norms: false,
        };
        let new = |config: &Config| Position::new(config, Place { row: 0, index: 0, wanted: true });
        let refused = new(&config).err();
        assert!(
            matches!(refused, Some(ModelError::OutOfMemory { wanted, .. }) if wanted == 1 << 60)
        );
        assert!(new(&Config { hidden: 16, ..config }).is_ok());
    }
}
