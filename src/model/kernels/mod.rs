//! Arithmetic: quantized weights times vectors, attention, and what lies between them.
//!
//! Knows no model and no file. The only folder with `unsafe` besides the memory map of `gguf`.
//!
//! Results are the same to the bit whatever the instruction set, the number of threads, and the
//! number of vectors in a call: [`portable`] says in which order a product is summed.
#![allow(unsafe_code, reason = "vector instructions, and slices that threads write parts of")]

use std::ops::Range;

use crate::isa::{Isa, Set};

mod activations;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod elementwise;
#[cfg(test)]
mod fuzz;
mod kept;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod panels;
mod pool;
mod portable;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod rows;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod simd;
mod softmax;
mod weights;

pub(super) use activations::{Activations, zeros};
pub(super) use attention::{Attention, BLOCK, Query, attend};
pub(super) use elementwise::{add, gate_and_quantize, norm, norm_and_quantize, quantize};
pub(super) use kept::{Numbers, group, quantize_group};
pub use pool::Pool;
pub use softmax::Logits;
pub(super) use softmax::softmax;
pub(super) use weights::{Dtype, Weights};

/// Rows are handed to threads in multiples of this many, the widest kernel's stride.
const PANEL: usize = 16;

/// One matrix to multiply the inputs with: an output for each input, one value a weight row.
pub(super) struct Product<'a> {
    pub(super) weights: Weights<'a>,
    pub(super) outputs: Vec<&'a mut [f32]>,
}

/// Some rows of one matrix times all inputs.
struct Task<'a> {
    weights: Weights<'a>,
    rows: Range<usize>,
    inputs: &'a [&'a Activations],
    outputs: &'a [*mut f32],
}

impl Task<'_> {
    fn write(&self, input: usize, row: usize, value: f32) {
        debug_assert!(self.rows.contains(&row), "a task writes its own rows only");
        // SAFETY: outputs have a value for each row, which `multiply` checked, and no other task
        // has this row.
        unsafe { self.outputs[input].add(row).write(value) };
    }
}

/// Multiplies all inputs with each of the matrices.
///
/// # Panics
/// If a length does not fit.
pub(super) fn multiply(pool: &Pool, isa: Isa, inputs: &[&Activations], products: Vec<Product<'_>>) {
    struct Target<'a> {
        weights: Weights<'a>,
        outputs: Vec<*mut f32>,
        first_panel: usize,
    }
    // SAFETY: the pointers are to distinct slices, borrowed until the end of `multiply`; tasks
    // write disjoint parts of them.
    unsafe impl Sync for Target<'_> {}

    let mut panels = 0;
    let targets: Vec<Target<'_>> = products
        .into_iter()
        .map(|Product { weights, outputs }| {
            assert_eq!(outputs.len(), inputs.len(), "an output for each input");
            assert!(inputs.iter().all(|x| x.values.len() == weights.cols), "inputs are a row long");
            assert!(outputs.iter().all(|y| y.len() == weights.rows), "outputs are a column long");
            let first_panel = panels;
            panels += weights.rows.div_ceil(PANEL);
            let outputs = outputs.into_iter().map(<[f32]>::as_mut_ptr).collect();
            Target { weights, outputs, first_panel }
        })
        .collect();
    // Several tasks a thread, so that one that is held up does not hold up the others as long.
    let size = panels.div_ceil(4 * pool.threads()).max(1);
    pool.run(panels.div_ceil(size), &|task| {
        let mine = task * size..panels.min((task + 1) * size);
        for target in &targets {
            let from = mine.start.max(target.first_panel) - target.first_panel;
            let to = mine.end.saturating_sub(target.first_panel) * PANEL;
            let rows = from * PANEL..target.weights.rows.min(to);
            if !rows.is_empty() {
                let (weights, outputs) = (target.weights, &target.outputs);
                run(isa, &Task { weights, rows, inputs, outputs });
            }
        }
    });
}

fn run(isa: Isa, task: &Task<'_>) {
    match isa.set() {
        // SAFETY: an `Isa` of this set exists where the instructions do.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 => unsafe { avx512::multiply(task) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { avx2::multiply(task) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Set::NeonDotprod => unsafe { neon::multiply_dotprod(task) },
        #[cfg(target_arch = "aarch64")]
        Set::Neon => neon::multiply(task),
        Set::Portable => portable::multiply(task),
    }
}

/// What one row of a matrix stands for.
///
/// # Panics
/// If there is no such row or `out` is not a row long.
pub(super) fn dequantize(weights: Weights<'_>, row: usize, out: &mut [f32]) {
    assert_eq!(out.len(), weights.cols, "the output is a row long");
    portable::dequantize(weights, row, out);
}

#[cfg(test)]
mod tests {
    use candle_core::{
        Device,
        quantized::{GgmlDType, ggml_file::qtensor_from_ggml},
    };
    use half::f16;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg32;

    use super::{fuzz::product, *};

    const DTYPES: [GgmlDType; 13] = [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ];

    /// Random bytes are random weights, but scales and plain numbers have to be finite.
    fn random_weights(dtype: GgmlDType, count: usize, rng: &mut Pcg32) -> Vec<u8> {
        let blocks = count / dtype.block_size();
        let mut bytes: Vec<u8> = (0..blocks * dtype.type_size()).map(|_| rng.random()).collect();
        for block in bytes.chunks_exact_mut(dtype.type_size()) {
            let magnitude = 10.0_f32.powi(rng.random_range(-7..=2));
            let mut set = |at: usize| {
                let value = f16::from_f32(magnitude * rng.random_range(-1.0..=1.0));
                block[at..at + 2].copy_from_slice(&value.to_le_bytes());
            };
            match dtype {
                GgmlDType::F32 => block.copy_from_slice(&rng.random::<f32>().to_le_bytes()),
                // The two high bytes of a single are a brain float.
                GgmlDType::BF16 => block.copy_from_slice(&rng.random::<f32>().to_le_bytes()[2..]),
                GgmlDType::Q4_1 | GgmlDType::Q5_1 | GgmlDType::Q4K | GgmlDType::Q5K => {
                    set(0);
                    set(2);
                }
                GgmlDType::Q2K => {
                    set(80);
                    set(82);
                }
                GgmlDType::Q3K => set(108),
                GgmlDType::Q6K => set(208),
                _ => set(0),
            }
        }
        bytes
    }

    fn random_input(cols: usize, rng: &mut Pcg32) -> Activations {
        let mut x = Activations::new(cols).unwrap();
        for block in x.values.chunks_mut(32) {
            let magnitude = 10.0_f32.powi(rng.random_range(-5..=3));
            block.fill_with(|| magnitude * rng.random_range(-1.0..=1.0));
        }
        x.quantize();
        x
    }

    fn candle(dtype: GgmlDType, bytes: &[u8], rows: usize, cols: usize) -> Vec<Vec<f32>> {
        let tensor = qtensor_from_ggml(dtype, bytes, vec![rows, cols], &Device::Cpu).unwrap();
        tensor.dequantize(&Device::Cpu).unwrap().to_vec2().unwrap()
    }

    fn cols(dtype: GgmlDType) -> Vec<usize> {
        match dtype.block_size() {
            1 => vec![1, 15, 16, 50, 96],
            block => vec![block, 2 * block, 3 * block, 7 * block],
        }
    }

    #[test]
    fn rows_are_dequantized_as_candle_does() {
        let mut rng = Pcg32::seed_from_u64(1);
        for dtype in DTYPES {
            for cols in cols(dtype) {
                let bytes = random_weights(dtype, 3 * cols, &mut rng);
                let weights = Weights::new(Dtype::new(dtype).unwrap(), [3, cols], &bytes);
                for (row, expected) in candle(dtype, &bytes, 3, cols).iter().enumerate() {
                    let mut values = vec![f32::NAN; cols];
                    dequantize(weights, row, &mut values);
                    for (value, expected) in values.iter().zip(expected) {
                        let close = (value - expected).abs() <= 1e-6 * expected.abs().max(1e-12);
                        assert!(close, "{dtype:?}: {value} for {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn products_are_those_of_what_weights_and_inputs_stand_for() {
        let mut rng = Pcg32::seed_from_u64(2);
        for dtype in DTYPES {
            for cols in cols(dtype) {
                let rows = 5;
                let bytes = random_weights(dtype, rows * cols, &mut rng);
                let weights = Weights::new(Dtype::new(dtype).unwrap(), [rows, cols], &bytes);
                let x = random_input(cols, &mut rng);
                let stands_for = |k: usize| match dtype.block_size() {
                    1 => f64::from(x.values[k]),
                    _ => f64::from(x.scales[k / 32]) * f64::from(x.quants[k]),
                };
                let values = candle(dtype, &bytes, rows, cols);
                let terms = |row: usize| {
                    values[row].iter().enumerate().map(|(k, &w)| f64::from(w) * stands_for(k))
                };
                let expected: Vec<(f64, f64)> = (0..rows)
                    .map(|row| (terms(row).sum(), terms(row).map(f64::abs).sum()))
                    .collect();
                let found = product(weights, &[x], Isa::portable(), 1);
                for (found, (expected, size)) in found.iter().zip(expected) {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error <= 2e-6 * size, "{dtype:?} x {cols}: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn products_are_the_same_bits_on_all_instruction_sets_batches_and_threads() {
        let mut rng = Pcg32::seed_from_u64(3);
        for dtype in DTYPES {
            for rows in [1, 2, 7, 15, 16, 17, 31, 33, 80] {
                let cols = cols(dtype)[rows % 4];
                let bytes = random_weights(dtype, rows * cols, &mut rng);
                let weights = Weights::new(Dtype::new(dtype).unwrap(), [rows, cols], &bytes);
                let inputs: Vec<Activations> =
                    (0..9).map(|_| random_input(cols, &mut rng)).collect();
                let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
                let expected = product(weights, &inputs, Isa::portable(), 1);
                for isa in Isa::all() {
                    for count in [1, 2, 3, 5, 7, 8, 9] {
                        let found = product(weights, &inputs[..count], isa, count % 3 + 1);
                        let context = format!("{dtype:?} {rows} x {cols}, {count} on {isa:?}");
                        assert_eq!(bits(&found), bits(&expected[..found.len()]), "{context}");
                    }
                }
            }
        }
    }
}
