//! The row kernel: some weight rows at a time, one a lane, times a few vectors.
//!
//! A block's products end up in one lane, nothing is summed across lanes, and a decoded quad of
//! weights serves several vectors. The same order of sums as [`super::portable`], hence the same
//! bits.
//!
//! Everything between [`multiply`] and the instructions is inlined into one function that enables
//! them. So there are no closures here, nor in the formats: they would be functions of their own.

use super::{
    Task,
    activations::{Activations, BLOCK},
    blocks::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0},
    portable,
    simd::{Panel, Rows, Simd},
    weights::Dtype,
};

/// Runs the rows of a task.
///
/// # Safety
/// The instructions of `S` must be there, and enabled in the caller, for speed.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(task: &Task<'_>) {
    if task.weights.rows < S::ROWS {
        return portable::multiply(task);
    }
    // SAFETY: the caller's duty.
    unsafe {
        match task.weights.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => portable::multiply_floats(task),
            Dtype::Q4_0 => panels::<S, Q4_0>(task),
            Dtype::Q4_1 => panels::<S, Q4_1>(task),
            Dtype::Q5_0 => panels::<S, Q5_0>(task),
            Dtype::Q5_1 => panels::<S, Q5_1>(task),
            Dtype::Q8_0 => panels::<S, Q8_0>(task),
            Dtype::Q2K => panels::<S, Q2K>(task),
            Dtype::Q3K => panels::<S, Q3K>(task),
            Dtype::Q4K => panels::<S, Q4K>(task),
            Dtype::Q5K => panels::<S, Q5K>(task),
            Dtype::Q6K => panels::<S, Q6K>(task),
        }
    }
}

#[inline(always)]
unsafe fn panels<S: Simd, F: Panel<S>>(task: &Task<'_>) {
    for row in task.rows.clone().step_by(S::ROWS) {
        let mut first = 0;
        while first < task.inputs.len() {
            // SAFETY: the caller's duty.
            first += unsafe {
                match S::TILE.min(task.inputs.len() - first) {
                    1 => panel::<S, F, 1>(task, row, first),
                    2 | 3 => panel::<S, F, 2>(task, row, first),
                    4..8 => panel::<S, F, 4>(task, row, first),
                    _ => panel::<S, F, 8>(task, row, first),
                }
            };
        }
    }
}

/// Multiplies the panel that begins at `row` with the `N` inputs from `first` on, returns `N`.
#[inline(always)]
unsafe fn panel<S: Simd, F: Panel<S>, const N: usize>(
    task: &Task<'_>,
    row: usize,
    first: usize,
) -> usize {
    let weights = task.weights;
    // A panel that would reach past the last row begins earlier; its first lanes are not written.
    let skipped = (row + S::ROWS).saturating_sub(weights.rows);
    let top = row - skipped;
    let stride = weights.row_bytes();
    assert!(stride < 1 << 26, "offsets of rows fit 32 bits");
    let bytes = &weights.bytes[top * stride..][..S::ROWS * stride];
    let inputs: [&Activations; N] = std::array::from_fn(|n| task.inputs[first + n]);
    let groups = stride / F::BYTES;
    assert!(inputs.iter().all(|x| x.scales.len() == groups * F::BLOCKS), "inputs are a row long");
    // SAFETY: the instructions are there; `g` is below the number of groups in a row, and `bytes`
    // has all rows; the inputs have all blocks.
    let sums = unsafe {
        let mut sums = [S::float(0.0); N];
        for g in 0..groups {
            if first == 0 {
                prefetch::<S, F>(bytes, g);
            }
            let rows = Rows { start: bytes.as_ptr().add(g * F::BYTES), stride };
            let head = F::head(rows);
            for unit in 0..F::UNITS {
                let raw = F::raw(rows, unit);
                for part in 0..F::BLOCKS / F::UNITS {
                    let block = unit * (F::BLOCKS / F::UNITS) + part;
                    add_block::<S, F, N>((&head, &raw), block, &inputs, g, &mut sums);
                }
            }
        }
        sums
    };
    for (n, sum) in sums.into_iter().enumerate() {
        // SAFETY: outputs have a value for each row, and this task has the rows from `row` on;
        // the lanes before it are not written.
        unsafe { S::store(sum, task.outputs[first + n].add(top), skipped) };
    }
    N
}

/// Adds the products with one block of the group `g`.
///
/// # Safety
/// The inputs must have this block, and the instructions must be there.
#[inline(always)]
unsafe fn add_block<S: Simd, F: Panel<S>, const N: usize>(
    (head, raw): (&F::Head, &F::Raw),
    block: usize,
    inputs: &[&Activations; N],
    g: usize,
    sums: &mut [S::Float; N],
) {
    let at = g * F::BLOCKS + block;
    let halves = if F::HALVES { 2 } else { 1 };
    let offset = if F::EIGHT_BITS && !S::OFFSET_EIGHT_BITS { None } else { F::OFFSET };
    // SAFETY: the caller's duty; quants are `BLOCK` a block, and reading four at once need not be
    // aligned.
    unsafe {
        for half in 0..halves {
            let mut dots = [S::int(0); N];
            if let Some(bits) = offset {
                for n in 0..N {
                    let sum = if F::HALVES {
                        *inputs[n].negative_half_sums.get_unchecked(2 * at + half)
                    } else {
                        *inputs[n].negative_sums.get_unchecked(at)
                    };
                    dots[n] = S::int(sum << bits);
                }
            }
            for k in half * 8 / halves..(half + 1) * 8 / halves {
                let quad = F::quad(head, raw, block, k);
                for (dot, x) in dots.iter_mut().zip(inputs) {
                    let four = x.quants.as_ptr().add(at * BLOCK + 4 * k).cast::<i32>();
                    let four = four.read_unaligned();
                    *dot = if F::EIGHT_BITS {
                        S::dot_eight_bits(*dot, quad, four)
                    } else {
                        S::dot(*dot, quad, four)
                    };
                }
            }
            let scale = F::scale(head, block, half);
            for n in 0..N {
                let scale = S::mul(scale, S::float(*inputs[n].scales.get_unchecked(at)));
                sums[n] = S::mul_add(scale, S::to_float(dots[n]), sums[n]);
            }
            if F::MINIMUM && F::HALVES {
                let minimum = F::minimum(head, block, half);
                for n in 0..N {
                    let negative = *inputs[n].negative_half_sums.get_unchecked(2 * at + half);
                    let sum = *inputs[n].scales.get_unchecked(at) * -negative as f32;
                    sums[n] = S::mul_add(minimum, S::float(sum), sums[n]);
                }
            }
        }
        if F::MINIMUM && !F::HALVES {
            let minimum = F::minimum(head, block, 0);
            for n in 0..N {
                let sum = S::float(*inputs[n].sums.get_unchecked(at));
                sums[n] = S::mul_add(minimum, sum, sums[n]);
            }
        }
    }
}

/// Asks for the piece of the next panel that corresponds to this group: panels follow each other
/// in memory, but their rows are read side by side, which the hardware does not foresee.
#[inline(always)]
fn prefetch<S: Simd, F: Panel<S>>(panel: &[u8], g: usize) {
    let ahead = panel.as_ptr().wrapping_add(panel.len() + g * F::BYTES * S::ROWS);
    for line in 0..(F::BYTES * S::ROWS).div_ceil(64) {
        S::prefetch(ahead.wrapping_add(64 * line));
    }
}
