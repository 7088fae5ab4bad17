//! The reference kernel, for any machine: it defines the result that the others give to the bit.
//!
//! A product of one weight row and one vector is summed block by block in order of position:
//! `sum = fma(scale * x.scale, dot as f32, sum)`, where `dot` is exact in integers and the
//! offset is taken off it, then, in formats that have one, `sum = fma(minimum, x.sum, sum)`; where
//! the halves of a block have their own scales, half by half, the sum of a half being its scale
//! times that of its quants.
//! Nothing in that depends on how rows or vectors are grouped. `mul_add` rounds once, by hardware
//! or not, so all instruction sets agree.

use super::{
    Task,
    activations::{Activations, BLOCK},
    blocks::{self, Format},
    weights::{Dtype, Weights},
};

/// Runs the rows of a task.
pub(super) fn multiply(task: &Task<'_>) {
    match task.weights.dtype {
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => multiply_floats(task),
        Dtype::Q4_0 => quantized::<blocks::Q4_0>(task),
        Dtype::Q4_1 => quantized::<blocks::Q4_1>(task),
        Dtype::Q5_0 => quantized::<blocks::Q5_0>(task),
        Dtype::Q5_1 => quantized::<blocks::Q5_1>(task),
        Dtype::Q8_0 => quantized::<blocks::Q8_0>(task),
        Dtype::Q2K => quantized::<blocks::Q2K>(task),
        Dtype::Q3K => quantized::<blocks::Q3K>(task),
        Dtype::Q4K => quantized::<blocks::Q4K>(task),
        Dtype::Q5K => quantized::<blocks::Q5K>(task),
        Dtype::Q6K => quantized::<blocks::Q6K>(task),
    }
}

/// Runs the rows of a task whose weights are plain numbers.
#[inline(always)]
pub(super) fn multiply_floats(task: &Task<'_>) {
    match task.weights.dtype {
        Dtype::F32 => floats(task, single),
        Dtype::F16 => floats(task, half),
        _ => floats(task, brain),
    }
}

fn quantized<F: Format>(task: &Task<'_>) {
    for row in task.rows.clone() {
        let groups = task.weights.row(row).chunks_exact(F::BYTES);
        // Eight vectors at a time, so that a block is decoded an eighth as often.
        for (first, xs) in task.inputs.chunks(8).enumerate() {
            let mut sums = [0.0; 8];
            for (g, group) in groups.clone().enumerate() {
                for index in 0..F::BLOCKS {
                    let block = F::block(group, index);
                    for (sum, x) in sums.iter_mut().zip(xs) {
                        *sum = add_block::<F>(*sum, &block, x, g * F::BLOCKS + index);
                    }
                }
            }
            for (n, &sum) in sums[..xs.len()].iter().enumerate() {
                task.write(8 * first + n, row, sum);
            }
        }
    }
}

fn add_block<F: Format>(mut sum: f32, block: &blocks::Block, x: &Activations, at: usize) -> f32 {
    let quants = &x.quants[at * BLOCK..][..BLOCK];
    let scale = x.scales[at];
    if F::HALVES {
        for half in 0..2 {
            let mut dot = dot(&block.quants[16 * half..][..16], &quants[16 * half..][..16]);
            dot += F::OFFSET.map_or(0, |bits| x.negative_half_sums[2 * at + half] << bits);
            sum = (block.scales[half] * scale).mul_add(dot as f32, sum);
            if F::MINIMUM {
                let half_sum = scale * -x.negative_half_sums[2 * at + half] as f32;
                sum = block.minima[half].mul_add(half_sum, sum);
            }
        }
    } else {
        let mut dot = dot(&block.quants, quants);
        dot += F::OFFSET.map_or(0, |bits| x.negative_sums[at] << bits);
        sum = (block.scales[0] * scale).mul_add(dot as f32, sum);
        if F::MINIMUM {
            sum = block.minima[0].mul_add(x.sums[at], sum);
        }
    }
    sum
}

#[inline(always)]
fn dot(weights: &[u8], quants: &[i8]) -> i32 {
    weights.iter().zip(quants).fold(0, |sum, (&w, &q)| sum + i32::from(w) * i32::from(q))
}

/// Plain numbers are summed in 16 lanes, with two roundings a step, so that no instruction set
/// needs a fused one.
#[inline(always)]
fn floats<const N: usize>(task: &Task<'_>, decode: impl Fn(&[u8; N]) -> f32) {
    for row in task.rows.clone() {
        let (weights, _) = task.weights.row(row).as_chunks::<N>();
        for (n, x) in task.inputs.iter().enumerate() {
            let mut lanes = [0.0; 16];
            let (wide, rest) = weights.as_chunks::<16>();
            let (wide_x, rest_x) = x.values.as_chunks::<16>();
            for (w, x) in wide.iter().zip(wide_x) {
                for lane in 0..16 {
                    lanes[lane] += decode(&w[lane]) * x[lane];
                }
            }
            for (lane, (w, x)) in rest.iter().zip(rest_x).enumerate() {
                lanes[lane] += decode(w) * x;
            }
            task.write(n, row, crate::isa::sum_lanes(lanes));
        }
    }
}

fn single(bytes: &[u8; 4]) -> f32 {
    f32::from_le_bytes(*bytes)
}

/// Half precision as the `half` crate reads it, but in operations that a compiler makes lanes of:
/// the crate converts number by number.
#[inline(always)]
fn half(bytes: &[u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(*bytes));
    let moved = (bits & 0x7fff) << 13;
    // By what the exponents of the two formats are apart; infinity and what is no number by more.
    let normal = moved + ((127 - 15) << 23);
    let beyond = moved + ((255 - 31) << 23);
    let smallest = f32::from_bits((127 - 14) << 23);
    let denormal = f32::from_bits(moved | smallest.to_bits()) - smallest;
    let magnitude = match bits & 0x7c00 {
        0 => denormal.to_bits(),
        0x7c00 => beyond,
        _ => normal,
    };
    f32::from_bits(magnitude | (bits & 0x8000) << 16)
}

#[inline(always)]
fn brain(bytes: &[u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16)
}

/// What one row of weights stands for.
pub(super) fn dequantize(weights: Weights<'_>, row: usize, out: &mut [f32]) {
    let bytes = weights.row(row);
    match weights.dtype {
        Dtype::F32 => plain(bytes, out, single),
        Dtype::F16 => plain(bytes, out, half),
        Dtype::Bf16 => plain(bytes, out, brain),
        Dtype::Q4_0 => blockwise::<blocks::Q4_0>(bytes, out),
        Dtype::Q4_1 => blockwise::<blocks::Q4_1>(bytes, out),
        Dtype::Q5_0 => blockwise::<blocks::Q5_0>(bytes, out),
        Dtype::Q5_1 => blockwise::<blocks::Q5_1>(bytes, out),
        Dtype::Q8_0 => blockwise::<blocks::Q8_0>(bytes, out),
        Dtype::Q2K => blockwise::<blocks::Q2K>(bytes, out),
        Dtype::Q3K => blockwise::<blocks::Q3K>(bytes, out),
        Dtype::Q4K => blockwise::<blocks::Q4K>(bytes, out),
        Dtype::Q5K => blockwise::<blocks::Q5K>(bytes, out),
        Dtype::Q6K => blockwise::<blocks::Q6K>(bytes, out),
    }
}

fn plain<const N: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn(&[u8; N]) -> f32) {
    for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = decode(bytes);
    }
}

fn blockwise<F: Format>(bytes: &[u8], out: &mut [f32]) {
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for (at, out) in out.iter_mut().enumerate() {
        let group = &bytes[at / F::BLOCKS * F::BYTES..][..F::BYTES];
        let block = F::block(group, at % F::BLOCKS);
        let offset = F::OFFSET.map_or(0.0, |bits| (1_u32 << bits) as f32);
        for (k, value) in out.iter_mut().enumerate() {
            let quant = f32::from(block.quants[k]) - offset;
            *value = block.scales[k / 16] * quant + block.minima[k / 16];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_16_bits_are_those_of_the_half_crate() {
        for bits in 0..=u16::MAX {
            let bytes = bits.to_le_bytes();
            let pairs = [
                (half(&bytes), half::f16::from_bits(bits).to_f32()),
                (brain(&bytes), half::bf16::from_bits(bits).to_f32()),
            ];
            for (found, expected) in pairs {
                let same = found.to_bits() == expected.to_bits();
                assert!(same || found.is_nan() && expected.is_nan(), "{bits:#06x}: {found}");
            }
        }
    }
}
