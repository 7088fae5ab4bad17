//! Causal attention of some positions of one sequence, for the query heads that share one
//! key-value head.

use super::{activations::zeros, elementwise::exp, kept::Numbers};
use crate::{
    isa::{sum_lanes, versions},
    model::ModelError,
};

/// Positions whose keys are kept together: number by number, each of all of them.
pub(crate) const BLOCK: usize = 16;

/// One number of a block's keys, or one score of each.
type Lanes = [f32; BLOCK];

/// Keys and values are kept small, for memory and bandwidth, and computed with in 32 bits. They
/// are widened once for all queries of a task.
pub(crate) struct Attention<'a> {
    /// At least one, all of the same length.
    pub(crate) queries: Vec<Query<'a>>,
    /// Whole blocks: in each, all key-value heads' numbers one after another, `BLOCK` of each.
    pub(crate) keys: Numbers<'a>,
    /// One position after another, all key-value heads of each.
    pub(crate) values: Numbers<'a>,
    /// Of all key-value heads.
    pub(crate) width: usize,
    /// Where in the width the group's head begins.
    pub(crate) offset: usize,
    pub(crate) head_dim: usize,
    /// Why nothing was done: there was no memory for the scores.
    pub(crate) failed: Option<ModelError>,
}

/// One position's share.
pub(crate) struct Query<'a> {
    /// The query heads of the group, one after another.
    pub(crate) heads: &'a [f32],
    /// As long as `heads`.
    pub(crate) out: &'a mut [f32],
    /// The number of positions it sees: itself and those before it.
    pub(crate) visible: usize,
}

versions! {
    /// `softmax(q K / sqrt(d)) V`, positions in order; depends on nothing else, other queries
    /// least of all.
    fn attend(task: &mut Attention<'_>) {
        let Attention { queries, keys, values, width, offset, head_dim, failed } = task;
        let (width, offset, head_dim) = (*width, *offset, *head_dim);
        let seen = queries.iter().map(|query| query.visible).max().unwrap_or(0);
        let room = seen.next_multiple_of(BLOCK);
        let heads = queries[0].heads.len() / head_dim;
        let scale = 1.0 / (head_dim as f32).sqrt();
        // Of each head of each query; in the last blocks also of positions it does not see.
        let mut scores = match zeros(queries.len() * heads * room) {
            Ok(scores) => scores,
            Err(error) => {
                *failed = Some(error);
                return;
            }
        };
        let mut wide = vec![0.0; BLOCK * head_dim];
        for from in (0..seen).step_by(BLOCK) {
            keys.widen::<BLOCK>(from * width + BLOCK * offset, &mut wide);
            let (wide, _) = wide.as_chunks();
            for (query, scores) in queries.iter().zip(scores.chunks_exact_mut(heads * room)) {
                if from >= query.visible {
                    continue;
                }
                let heads = query.heads.chunks_exact(head_dim);
                for (head, scores) in heads.zip(scores.chunks_exact_mut(room)) {
                    let dots = dots(head, wide);
                    for (score, dot) in scores[from..][..BLOCK].iter_mut().zip(dots) {
                        *score = dot * scale;
                    }
                }
            }
        }
        for (query, scores) in queries.iter_mut().zip(scores.chunks_exact_mut(heads * room)) {
            query.out.fill(0.0);
            for scores in scores.chunks_exact_mut(room) {
                softmax(&mut scores[..query.visible]);
            }
        }
        for from in (0..seen).step_by(BLOCK) {
            for (position, wide) in (from..seen).zip(wide.chunks_exact_mut(head_dim)) {
                values.widen::<1>(position * width + offset, wide);
            }
            for (query, scores) in queries.iter_mut().zip(scores.chunks_exact(heads * room)) {
                let visible = query.visible.saturating_sub(from).min(BLOCK);
                let heads = query.out.chunks_exact_mut(head_dim);
                for (out, scores) in heads.zip(scores.chunks_exact(room)) {
                    add_weighted(&scores[from..][..visible], &wide, out);
                }
            }
        }
    }
}

/// The products of a query with a block's keys, each summed as [`super::elementwise::dot`] does.
#[inline(always)]
fn dots(query: &[f32], keys: &[Lanes]) -> Lanes {
    let sums = |lane| four_lanes(query, keys, lane);
    add(add(sums(0), sums(2)), add(sums(1), sums(3)))
}

/// The sum of the lanes `first`, `first + 4`, `first + 8` and `first + 12`. So few at a time,
/// and one variable for each, is what the compiler keeps in registers.
#[inline(always)]
fn four_lanes(query: &[f32], keys: &[Lanes], first: usize) -> Lanes {
    let [mut a, mut b, mut c, mut d] = [[0.0; BLOCK]; 4];
    let (queries, query_rest) = query.as_chunks::<16>();
    let (keys, key_rest) = keys.as_chunks::<16>();
    for (query, keys) in queries.iter().zip(keys) {
        add_product(&mut a, query[first], &keys[first]);
        add_product(&mut b, query[first + 4], &keys[first + 4]);
        add_product(&mut c, query[first + 8], &keys[first + 8]);
        add_product(&mut d, query[first + 12], &keys[first + 12]);
    }
    let rest = |lane: usize| query_rest.get(lane).zip(key_rest.get(lane));
    if let Some((query, keys)) = rest(first) {
        add_product(&mut a, *query, keys);
    }
    if let Some((query, keys)) = rest(first + 4) {
        add_product(&mut b, *query, keys);
    }
    if let Some((query, keys)) = rest(first + 8) {
        add_product(&mut c, *query, keys);
    }
    if let Some((query, keys)) = rest(first + 12) {
        add_product(&mut d, *query, keys);
    }
    add(add(a, c), add(b, d))
}

#[inline(always)]
fn add_product(sums: &mut Lanes, a: f32, b: &Lanes) {
    for (sum, b) in sums.iter_mut().zip(b) {
        *sum += a * b;
    }
}

#[inline(always)]
fn add(mut a: Lanes, b: Lanes) -> Lanes {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
    a
}

/// Adds each value, as long as `out`, times its weight: one after another.
#[inline(always)]
fn add_weighted(weights: &[f32], values: &[f32], out: &mut [f32]) {
    /// What fits into registers while all values are added.
    const PART: usize = 64;
    let length = out.len();
    let (parts, rest) = out.as_chunks_mut::<PART>();
    for (index, part) in parts.iter_mut().enumerate() {
        let mut sums = *part;
        let values = values[PART * index..].chunks(length);
        for (weight, value) in weights.iter().zip(values.filter_map(<[f32]>::first_chunk::<PART>)) {
            for (sum, value) in sums.iter_mut().zip(value) {
                *sum += weight * value;
            }
        }
        *part = sums;
    }
    let from = length - rest.len();
    for (weight, value) in weights.iter().zip(values.chunks_exact(length)) {
        for (sum, value) in rest.iter_mut().zip(&value[from..]) {
            *sum += weight * value;
        }
    }
}

#[inline(always)]
fn softmax(scores: &mut [f32]) {
    let mut most = [f32::NEG_INFINITY; 16];
    for scores in scores.chunks(16) {
        for (score, most) in scores.iter().zip(&mut most) {
            *most = if score > most { *score } else { *most };
        }
    }
    let largest = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut lanes = [0.0; 16];
    for scores in scores.chunks_mut(16) {
        for (score, lane) in scores.iter_mut().zip(&mut lanes) {
            *score = exp(*score - largest);
            *lane += *score;
        }
    }
    let inverse = 1.0 / sum_lanes(lanes);
    for score in scores {
        *score *= inverse;
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::{super::kept, *};
    use crate::isa::Isa;

    fn wave(i: usize) -> f16 {
        f16::from_f32((i as f32 * 0.37).sin())
    }

    /// Numbers of some positions in both ways, of which as many as named stand together.
    struct Kept {
        halves: Vec<u16>,
        integers: Vec<i8>,
        scales: Vec<u16>,
        group: usize,
    }

    impl Kept {
        fn new([positions, width, group]: [usize; 3], salt: usize, together: usize) -> Self {
            let length = positions.next_multiple_of(together) * width;
            let [mut halves, mut scales] = [length, length / group].map(|length| vec![0; length]);
            let mut integers = vec![0; length];
            for (t, d) in (0..positions).flat_map(|t| (0..width).map(move |d| (t, d))) {
                let place = |width, d| (t / together * width + d) * together + t % together;
                let number = wave(t * width + d + salt);
                halves[place(width, d)] = number.to_bits();
                integers[place(width, d)] = (number.to_f32() * 127.0) as i8;
                let scale = f16::from_f32(0.004 * (1 + (t + 2 * (d / group)) % 5) as f32);
                scales[place(width / group, d / group)] = scale.to_bits();
            }
            Self { halves, integers, scales, group }
        }

        fn numbers(&self, q8: bool) -> Numbers<'_> {
            let Self { halves, integers, scales, group } = self;
            if q8 { Numbers::Q8 { integers, scales, group: *group } } else { Numbers::F16(halves) }
        }

        /// Whichever way: what the number at `place` stands for, whose group's scale is at `scale`.
        fn number(&self, q8: bool, place: usize, scale: usize) -> f64 {
            if q8 {
                f64::from(self.integers[place]) * f16::from_bits(self.scales[scale]).to_f64()
            } else {
                f16::from_bits(self.halves[place]).to_f64()
            }
        }
    }

    #[test]
    fn attention_is_the_weighted_mean_of_the_values_on_all_instruction_sets() {
        for (positions, head_dim, heads, kv_heads) in
            [(1_usize, 64, 3, 2), (5, 8, 1, 1), (77, 20, 7, 3), (48, 80, 2, 1)]
        {
            for q8 in [false, true] {
                assert_attends([positions, head_dim, heads, kv_heads], q8);
            }
        }
    }

    fn assert_attends([positions, head_dim, heads, kv_heads]: [usize; 4], q8: bool) {
        let (width, group) = (kv_heads * head_dim, kept::group(head_dim));
        let [keys, values] =
            [(3, BLOCK), (500, 1)].map(|(salt, n)| Kept::new([positions, width, group], salt, n));
        let queries: Vec<Vec<f32>> = (0..positions)
            .map(|t| (0..heads * head_dim).map(|i| 3.0 * wave(i + 9 * t).to_f32()).collect())
            .collect();
        let offset = width - head_dim;
        let on = |isa: Isa, tile: usize| {
            let mut outs = vec![vec![f32::NAN; heads * head_dim]; positions];
            let mut all: Vec<Query<'_>> = (1..)
                .zip(queries.iter().zip(&mut outs))
                .map(|(visible, (heads, out))| Query { heads, out, visible })
                .collect();
            while !all.is_empty() {
                let queries = all.drain(..tile.min(all.len())).collect();
                let (keys, values) = (keys.numbers(q8), values.numbers(q8));
                let failed = None;
                attend(
                    isa,
                    &mut Attention { queries, keys, values, width, offset, head_dim, failed },
                );
            }
            outs
        };
        let outs = on(Isa::portable(), 1);
        let bits = |outs: &[Vec<f32>]| outs.concat().into_iter().map(f32::to_bits).collect();
        let expected: Vec<u32> = bits(&outs);
        for isa in Isa::all() {
            for tile in [1, 2, 16, 77] {
                let found: Vec<u32> = bits(&on(isa, tile));
                assert_eq!(found, expected, "{isa:?}, {tile} queries at a time");
            }
        }
        let key = |t: usize, d: usize| {
            let place = |width, d| (t / BLOCK * width + d) * BLOCK + t % BLOCK;
            keys.number(q8, place(width, d), place(width / group, d / group))
        };
        let value = |t: usize, d: usize| values.number(q8, t * width + d, (t * width + d) / group);
        for (at, h) in (0..positions).flat_map(|at| (0..heads).map(move |h| (at, h))) {
            let score = |t| -> f64 {
                let q = &queries[at][h * head_dim..][..head_dim];
                let dot: f64 = (0..head_dim).map(|d| f64::from(q[d]) * key(t, offset + d)).sum();
                (dot / (head_dim as f64).sqrt()).exp()
            };
            let scores: Vec<f64> = (0..=at).map(score).collect();
            let total: f64 = scores.iter().sum();
            for d in 0..head_dim {
                let mean: f64 =
                    (0..=at).map(|t| scores[t] * value(t, offset + d)).sum::<f64>() / total;
                assert!((f64::from(outs[at][h * head_dim + d]) - mean).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn scores_that_memory_cannot_hold_are_an_error() {
        let (heads, mut out) = ([1.0; 8], [2.0; 8]);
        let mut task = Attention {
            queries: vec![Query { heads: &heads, out: &mut out, visible: 1 << 58 }],
            keys: Numbers::F16(&[]),
            values: Numbers::F16(&[]),
            width: 8,
            offset: 0,
            head_dim: 8,
            failed: None,
        };
        attend(Isa::best(), &mut task);
        assert!(
            matches!(task.failed, Some(ModelError::OutOfMemory { wanted, .. }) if wanted == 1 << 60)
        );
        assert_eq!(out, [2.0; 8]);
    }

    #[test]
    fn keys_are_multiplied_in_the_order_of_other_products() {
        for length in [1, 15, 16, 20, 47, 64, 80] {
            let wave = |i: usize| (i as f32 * 0.61).sin() * 9.0;
            let query: Vec<f32> = (0..length).map(wave).collect();
            let keys: Vec<Lanes> =
                (0..length).map(|d| std::array::from_fn(|t| wave(5 + 3 * d + 100 * t))).collect();
            for (t, found) in dots(&query, &keys).into_iter().enumerate() {
                let key: Vec<f32> = keys.iter().map(|lanes| lanes[t]).collect();
                let expected = super::super::elementwise::dot(&query, &key);
                assert_eq!(found.to_bits(), expected.to_bits());
            }
        }
    }
}
