//! Causal attention of one position, for the query heads that share one key-value head.

use super::{
    elementwise::{exp, sum_lanes, versions},
    isa::Isa,
};

/// Keys and values are 16-bit floats: half the memory and bandwidth, computed with in 32 bits.
pub(crate) struct Attention<'a> {
    /// The query heads of the group, one after another.
    pub(crate) queries: &'a [f32],
    /// As long as `queries`.
    pub(crate) out: &'a mut [f32],
    /// One position after another, all key-value heads of each.
    pub(crate) keys: &'a [u16],
    pub(crate) values: &'a [u16],
    /// From one position to the next.
    pub(crate) stride: usize,
    /// Where in a position the group's head begins.
    pub(crate) offset: usize,
    pub(crate) head_dim: usize,
}

versions! {
    /// `softmax(q K / sqrt(d)) V`, positions in order; depends on nothing else.
    fn attend(task: &mut Attention<'_>) {
        let Attention { queries, keys, values, stride, offset, head_dim, .. } = *task;
        let positions = keys.len() / stride;
        let heads = queries.len() / head_dim;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let mut scores = vec![0.0; heads * positions];
        let mut wide = vec![0.0; head_dim];
        for (t, keys) in keys.chunks_exact(stride).enumerate() {
            widen(&keys[offset..][..head_dim], &mut wide);
            for (h, query) in queries.chunks_exact(head_dim).enumerate() {
                scores[h * positions + t] = super::elementwise::dot(query, &wide) * scale;
            }
        }
        for scores in scores.chunks_exact_mut(positions) {
            softmax(scores);
        }
        task.out.fill(0.0);
        for (t, values) in values.chunks_exact(stride).enumerate() {
            widen(&values[offset..][..head_dim], &mut wide);
            for (h, out) in task.out.chunks_exact_mut(head_dim).enumerate() {
                let weight = scores[h * positions + t];
                for (out, value) in out.iter_mut().zip(&wide) {
                    *out += weight * value;
                }
            }
        }
    }
}

#[inline(always)]
fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().fold(f32::NEG_INFINITY, |most, &score| most.max(score));
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

/// IEEE half to single precision, exact for all finite numbers: the bits are moved to their
/// places and the exponent is corrected by a multiplication, which also normalises denormals.
#[inline(always)]
fn widen(halves: &[u16], out: &mut [f32]) {
    for (out, &half) in out.iter_mut().zip(halves) {
        let bits = u32::from(half);
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        *out = f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16);
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_finite_half_is_widened_exactly() {
        let halves: Vec<u16> =
            (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()).collect();
        let mut wide = vec![0.0; halves.len()];
        widen(&halves, &mut wide);
        for (&bits, wide) in halves.iter().zip(wide) {
            assert_eq!(wide.to_bits(), f16::from_bits(bits).to_f32().to_bits());
        }
    }

    #[test]
    fn attention_is_the_weighted_mean_of_the_values_on_all_instruction_sets() {
        let wave = |i: usize| (i as f32 * 0.37).sin();
        for (positions, head_dim, heads, kv_heads) in [(1, 64, 3, 2), (5, 8, 1, 1), (77, 20, 7, 3)]
        {
            let stride = kv_heads * head_dim;
            let narrow = |from: usize| -> Vec<u16> {
                (0..positions * stride).map(|i| f16::from_f32(wave(i + from)).to_bits()).collect()
            };
            let (keys, values) = (narrow(3), narrow(500));
            let queries: Vec<f32> = (0..heads * head_dim).map(|i| 3.0 * wave(i + 9)).collect();
            let offset = (kv_heads - 1) * head_dim;
            let on = |isa: Isa| {
                let mut out = vec![f32::NAN; queries.len()];
                let (queries, keys, values) = (&queries[..], &keys[..], &values[..]);
                attend(
                    isa,
                    &mut Attention {
                        queries,
                        out: &mut out,
                        keys,
                        values,
                        stride,
                        offset,
                        head_dim,
                    },
                );
                out
            };
            let out = on(Isa::portable());
            let bits = |out: Vec<f32>| out.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            for isa in Isa::all() {
                assert_eq!(bits(on(isa)), bits(out.clone()), "{isa:?}");
            }
            let at = |half: &[u16], t: usize, d: usize| {
                f64::from(f16::from_bits(half[t * stride + offset + d]).to_f32())
            };
            for h in 0..heads {
                let score = |t| -> f64 {
                    let q = &queries[h * head_dim..][..head_dim];
                    let dot: f64 = (0..head_dim).map(|d| f64::from(q[d]) * at(&keys, t, d)).sum();
                    (dot / (head_dim as f64).sqrt()).exp()
                };
                let total: f64 = (0..positions).map(score).sum();
                for d in 0..head_dim {
                    let mean: f64 =
                        (0..positions).map(|t| score(t) * at(&values, t, d)).sum::<f64>() / total;
                    assert!((f64::from(out[h * head_dim + d]) - mean).abs() < 1e-5);
                }
            }
        }
    }
}
