//! Sixteen weight rows at a time with AVX-512: VNNI for the products, VBMI for fifth bits.
//!
//! A lane is a row. Four weights of each of 16 rows are brought into one register (a *quad*) and
//! multiplied with the same four activations, so a block's products end up in one lane, nothing
//! is summed across lanes, and a decoded quad serves several vectors.
//!
//! The same order of sums as [`super::portable`], hence the same bits.

use std::arch::x86_64::*;

use super::{
    Task,
    activations::{Activations, BLOCK},
    avx512_panels::{Group, Panel},
    blocks::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0},
    portable,
    weights::Dtype,
};

pub(super) const ROWS: usize = 16;

/// Runs the rows of a task.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[target_feature(enable = "avx512vbmi")]
pub(super) fn multiply(task: &Task<'_>) {
    if task.weights.rows < ROWS {
        return portable::multiply(task);
    }
    match task.weights.dtype {
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => portable::multiply_floats(task),
        Dtype::Q4_0 => panels::<Q4_0>(task),
        Dtype::Q4_1 => panels::<Q4_1>(task),
        Dtype::Q5_0 => panels::<Q5_0>(task),
        Dtype::Q5_1 => panels::<Q5_1>(task),
        Dtype::Q8_0 => panels::<Q8_0>(task),
        Dtype::Q4K => panels::<Q4K>(task),
        Dtype::Q5K => panels::<Q5K>(task),
        Dtype::Q6K => panels::<Q6K>(task),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[target_feature(enable = "avx512vbmi")]
fn panels<F: Panel>(task: &Task<'_>) {
    for row in task.rows.clone().step_by(ROWS) {
        let mut first = 0;
        while first < task.inputs.len() {
            first += match task.inputs.len() - first {
                1 => panel::<F, 1>(task, row, first),
                2 | 3 => panel::<F, 2>(task, row, first),
                4..8 => panel::<F, 4>(task, row, first),
                _ => panel::<F, 8>(task, row, first),
            };
        }
    }
}

/// Multiplies the panel that begins at `row` with the `N` inputs from `first` on, returns `N`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[target_feature(enable = "avx512vbmi")]
fn panel<F: Panel, const N: usize>(task: &Task<'_>, row: usize, first: usize) -> usize {
    let weights = task.weights;
    // A panel at the end that has not 16 rows begins earlier; its first lanes are not written.
    let skipped = (row + ROWS).saturating_sub(weights.rows);
    let top = row - skipped;
    let stride = weights.row_bytes();
    let bytes = &weights.bytes[top * stride..][..ROWS * stride];
    let inputs: [&Activations; N] = std::array::from_fn(|n| task.inputs[first + n]);
    let groups = stride / F::BYTES;
    assert!(inputs.iter().all(|x| x.scales.len() == groups * F::BLOCKS), "inputs are a row long");
    let mut sums = [_mm512_setzero_ps(); N];
    for g in 0..groups {
        // SAFETY: `g` is below the number of groups of a row, and `bytes` holds 16 rows.
        let group = unsafe { Group::new(bytes.as_ptr().add(g * F::BYTES), stride) };
        if first == 0 {
            prefetch::<F>(bytes, g);
        }
        // SAFETY: the instructions are there, and the group is whole.
        let head = unsafe { F::head(group) };
        for unit in 0..F::UNITS {
            // SAFETY: as above.
            let raw = unsafe { F::raw(group, unit) };
            for part in 0..F::BLOCKS / F::UNITS {
                let block = unit * (F::BLOCKS / F::UNITS) + part;
                add_block::<F, N>((&head, &raw), block, &inputs, g, &mut sums);
            }
        }
    }
    let lanes = u16::MAX << skipped;
    for (n, sum) in sums.into_iter().enumerate() {
        // SAFETY: `top + 16` rows at most are in an output, and the lanes before `row`, which
        // belong to another task, are masked.
        unsafe { _mm512_mask_storeu_ps(task.outputs[first + n].add(top), lanes, sum) };
    }
    N
}

/// Adds the products with one block of the group `g`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[target_feature(enable = "avx512vbmi")]
fn add_block<F: Panel, const N: usize>(
    (head, raw): (&F::Head, &F::Raw),
    block: usize,
    inputs: &[&Activations; N],
    g: usize,
    sums: &mut [__m512; N],
) {
    let at = g * F::BLOCKS + block;
    let halves = if F::HALVES { 2 } else { 1 };
    // SAFETY: the instructions are there.
    let scales = unsafe { F::scales(head, block) };
    for half in 0..halves {
        let mut dots: [__m512i; N] = std::array::from_fn(|n| {
            // SAFETY: `panel` checked that the inputs have this block.
            let offset = |bits| unsafe {
                let sum = if F::HALVES {
                    *inputs[n].negative_half_sums.get_unchecked(2 * at + half)
                } else {
                    *inputs[n].negative_sums.get_unchecked(at)
                };
                _mm512_sll_epi32(_mm512_set1_epi32(sum), _mm_cvtsi32_si128(bits))
            };
            F::OFFSET.map_or(_mm512_setzero_si512(), |bits| offset(bits.cast_signed()))
        });
        for k in half * 8 / halves..(half + 1) * 8 / halves {
            // SAFETY: the instructions are there.
            let quad = unsafe { F::quad(head, raw, block, k) };
            for (dot, x) in dots.iter_mut().zip(inputs) {
                // SAFETY: `panel` checked that the inputs have this block.
                let four = unsafe { x.quants.as_ptr().add(at * BLOCK + 4 * k).cast::<i32>() };
                // SAFETY: as above; the read need not be aligned.
                let four = unsafe { four.read_unaligned() };
                *dot = _mm512_dpbusd_epi32(*dot, quad, _mm512_set1_epi32(four));
            }
        }
        for n in 0..N {
            // SAFETY: `panel` checked that the inputs have this block.
            let scale = _mm512_set1_ps(unsafe { *inputs[n].scales.get_unchecked(at) });
            let scale = _mm512_mul_ps(scales[half], scale);
            sums[n] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots[n]), sums[n]);
        }
    }
    if F::MINIMUM {
        // SAFETY: the instructions are there.
        let minimum = unsafe { F::minimum(head, block) };
        for n in 0..N {
            // SAFETY: `panel` checked that the inputs have this block.
            let sum = _mm512_set1_ps(unsafe { *inputs[n].sums.get_unchecked(at) });
            sums[n] = _mm512_fmadd_ps(minimum, sum, sums[n]);
        }
    }
}

/// Asks for the piece of the next panel that corresponds to this group: panels follow each other
/// in memory, but 16 rows are read side by side, which the hardware does not foresee.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<F: Panel>(panel: &[u8], g: usize) {
    let ahead = panel.as_ptr().wrapping_add(panel.len() + g * F::BYTES * ROWS);
    for line in 0..(F::BYTES * ROWS).div_ceil(64) {
        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64 * line).cast());
    }
}
