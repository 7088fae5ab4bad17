//! Random shapes, formats and magnitudes, the same at every run: all instruction sets against the
//! portable code to the bit, and that against plain sums in 64 bits.

use std::{io::Write, num::NonZeroUsize};

use half::f16;
use memmap2::{Mmap, MmapOptions};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

use super::*;

const DTYPES: [Dtype; 13] = [
    Dtype::F32,
    Dtype::F16,
    Dtype::Bf16,
    Dtype::Q4_0,
    Dtype::Q4_1,
    Dtype::Q5_0,
    Dtype::Q5_1,
    Dtype::Q8_0,
    Dtype::Q2K,
    Dtype::Q3K,
    Dtype::Q4K,
    Dtype::Q5K,
    Dtype::Q6K,
];

/// Numbers as a model has them, and those that no model should have.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Numbers {
    Usual,
    /// Zeros, denormals, and large ones whose products do not overflow.
    Extreme,
    /// Infinities and what is not a number as well.
    Any,
    /// Multiples of a power of two, which are the same numbers wherever they are made.
    Round,
}

impl Numbers {
    fn float(self, rng: &mut Pcg32) -> f32 {
        const EXTREMES: [f32; 9] =
            [0.0, -0.0, 1e-45, -1e-40, f32::MIN_POSITIVE, 1e-20, 1.0, 1e30, -1e34];
        match (self, rng.random_range(0..4)) {
            (Self::Round, _) => f32::from(rng.random::<i16>()) / 4096.0,
            (Self::Any, 0) => {
                [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX][rng.random_range(0..4)]
            }
            (Self::Extreme | Self::Any, 0 | 1) => EXTREMES[rng.random_range(0..9)],
            _ => 10.0_f32.powi(rng.random_range(-5..=2)) * rng.random_range(-1.0..=1.0),
        }
    }

    fn half(self, rng: &mut Pcg32) -> f16 {
        match self {
            Self::Any => f16::from_bits(rng.random()),
            Self::Extreme => f16::from_bits(rng.random::<u16>() & 0xbfff),
            Self::Round => f16::from_f32(f32::from(rng.random::<i8>()) / 1024.0),
            Self::Usual => f16::from_f32(rng.random_range(-0.1..=0.1)),
        }
    }
}

/// Random bytes are random weights but for the numbers among them.
fn weights_of(dtype: Dtype, count: usize, numbers: Numbers, rng: &mut Pcg32) -> Vec<u8> {
    let (weights, size) = dtype.block();
    let mut bytes: Vec<u8> = (0..count / weights * size).map(|_| rng.random()).collect();
    for block in bytes.chunks_exact_mut(size) {
        let mut set = |at: usize| {
            block[at..at + 2].copy_from_slice(&numbers.half(rng).to_le_bytes());
        };
        match dtype {
            Dtype::F32 => block.copy_from_slice(&numbers.float(rng).to_le_bytes()),
            Dtype::Bf16 => block.copy_from_slice(&numbers.float(rng).to_le_bytes()[2..]),
            Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4K | Dtype::Q5K => [0, 2].into_iter().for_each(set),
            Dtype::Q2K => [80, 82].into_iter().for_each(set),
            Dtype::Q3K => set(108),
            Dtype::Q6K => set(208),
            _ => set(0),
        }
    }
    bytes
}

fn input(cols: usize, numbers: Numbers, rng: &mut Pcg32) -> Activations {
    let mut x = Activations::new(cols).unwrap();
    x.values.fill_with(|| numbers.float(rng));
    x.quantize();
    x
}

/// All inputs times one matrix, input after input.
pub(super) fn product(
    weights: Weights<'_>,
    inputs: &[Activations],
    isa: Isa,
    threads: usize,
) -> Vec<f32> {
    let pool = Pool::new(NonZeroUsize::new(threads).unwrap());
    let mut outputs = vec![f32::NAN; inputs.len() * weights.rows];
    let inputs: Vec<&Activations> = inputs.iter().collect();
    let outputs_of = outputs.chunks_mut(weights.rows).collect();
    multiply(&pool, isa, &inputs, vec![Product { weights, outputs: outputs_of }]);
    outputs
}

/// Which of the many not-a-numbers it is, is left open.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|y| if y.is_nan() { f32::NAN.to_bits() } else { y.to_bits() }).collect()
}

/// The sum of a row's products in 64 bits, and how large what is added may be: each product as if
/// its weight were the largest of the 16 that it shares scale and minimum with, since those may
/// cancel in any one.
fn oracle(weights: Weights<'_>, row: usize, x: &Activations) -> (f64, f64) {
    let mut values = vec![0.0; weights.cols];
    dequantize(weights, row, &mut values);
    let plain = weights.dtype.block().0 == 1;
    let mut sums = (0.0, 0.0);
    for (part, values) in values.chunks(if plain { 1 } else { 16 }).enumerate() {
        let largest = values.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
        for (k, &w) in (part * values.len()..).zip(values) {
            let x = if plain {
                f64::from(x.values[k])
            } else {
                f64::from(x.scales[k / 32]) * f64::from(x.quants[k])
            };
            sums.0 += f64::from(w) * x;
            sums.1 += f64::from(largest) * x.abs();
        }
    }
    sums
}

#[test]
fn products_of_any_shape_and_magnitude_are_the_same_bits_everywhere() {
    let mut rng = Pcg32::seed_from_u64(11);
    for case in 0..400 {
        let dtype = DTYPES[case % DTYPES.len()];
        let numbers = [Numbers::Usual, Numbers::Extreme, Numbers::Any][case / DTYPES.len() % 3];
        let block = dtype.block().0;
        let cols =
            if block == 1 { rng.random_range(1..100) } else { block * rng.random_range(1..6) };
        let rows = rng.random_range(1..70);
        let bytes = weights_of(dtype, rows * cols, numbers, &mut rng);
        let weights = Weights::new(dtype, [rows, cols], &bytes);
        let inputs: Vec<Activations> =
            (0..rng.random_range(1..12)).map(|_| input(cols, numbers, &mut rng)).collect();
        let context =
            format!("case {case}: {dtype:?} {rows} x {cols} x {}, {numbers:?}", inputs.len());
        let expected = product(weights, &inputs, Isa::portable(), 1);
        // Drawn once, so that the next case is the same on machines with more or fewer sets.
        let threads = rng.random_range(1..4);
        for isa in Isa::all() {
            let found = product(weights, &inputs, isa, threads);
            assert_eq!(bits(&found), bits(&expected), "{context} on {isa:?}");
        }
        for (x, found) in inputs.iter().zip(expected.chunks(rows)) {
            for (row, found) in found.iter().enumerate() {
                let (sum, size) = oracle(weights, row, x);
                let error = (f64::from(*found) - sum).abs();
                // Else an intermediate of 32 bits may overflow where the sum of 64 does not.
                if numbers != Numbers::Any && size < f64::from(f32::MAX) / 256.0 {
                    assert!(error <= 2e-6 * size + 1e-36, "{context}: {found} for {sum}");
                }
            }
        }
    }
}

/// One page of weights, after which comes one that is not there.
fn before_a_hole(bytes: &[u8]) -> (Mmap, usize) {
    // Not less than the page of any machine.
    const PAGE: usize = 1 << 16;
    let start = bytes.len().next_multiple_of(PAGE) - bytes.len();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![0; start]).unwrap();
    file.write_all(bytes).unwrap();
    // SAFETY: nobody else has the file. What is mapped past its end is never touched, or the
    // test ends with a signal, which is what it is for.
    let map = unsafe { MmapOptions::new().len(start + bytes.len() + PAGE).map(&file) }.unwrap();
    (map, start)
}

#[test]
fn no_byte_past_the_weights_is_read() {
    let mut rng = Pcg32::seed_from_u64(12);
    for dtype in DTYPES {
        let cols = dtype.block().0 * 3;
        for rows in [1, 8, 16, 17, 37] {
            let bytes = weights_of(dtype, rows * cols, Numbers::Usual, &mut rng);
            let (map, start) = before_a_hole(&bytes);
            let weights = Weights::new(dtype, [rows, cols], &map[start..][..bytes.len()]);
            let inputs = [input(cols, Numbers::Usual, &mut rng)];
            let expected = product(weights, &inputs, Isa::portable(), 1);
            for isa in Isa::all() {
                assert_eq!(product(weights, &inputs, isa, 1), expected, "{dtype:?} on {isa:?}");
            }
        }
    }
}

/// Keys and values of one head among others, and queries that see more and more of them.
struct Heads {
    positions: usize,
    head_dim: usize,
    group: usize,
    width: usize,
    offset: usize,
    keys: Vec<u16>,
    values: Vec<u16>,
    queries: Vec<Vec<f32>>,
}

impl Heads {
    fn new(positions: usize, rng: &mut Pcg32) -> Self {
        let head_dim = rng.random_range(1..140);
        let (group, kv_heads) = (rng.random_range(1..10), rng.random_range(1..4));
        let width = kv_heads * head_dim;
        let mut halves = |count: usize| -> Vec<u16> {
            (0..count).map(|_| f16::from_f32(rng.random_range(-2.0..2.0)).to_bits()).collect()
        };
        let keys = halves(positions.next_multiple_of(BLOCK) * width);
        let values = halves(positions * width);
        let offset = rng.random_range(0..kv_heads) * head_dim;
        let queries = (0..positions)
            .map(|_| (0..group * head_dim).map(|_| rng.random_range(-3.0..3.0)).collect())
            .collect();
        Self { positions, head_dim, group, width, offset, keys, values, queries }
    }

    fn attended(&self, isa: Isa, together: usize) -> Vec<Vec<f32>> {
        let mut outs = vec![vec![f32::NAN; self.group * self.head_dim]; self.positions];
        let queries = self.queries.chunks(together).zip(outs.chunks_mut(together));
        let mut seen = 0;
        for (queries, outs) in queries {
            let queries = queries
                .iter()
                .zip(outs)
                .map(|(heads, out)| {
                    seen += 1;
                    Query { heads, out, visible: seen }
                })
                .collect();
            let Self { keys, values, width, offset, head_dim, .. } = self;
            let (width, offset, head_dim) = (*width, *offset, *head_dim);
            let (keys, values) = (kept::Numbers::F16(keys), kept::Numbers::F16(values));
            let failed = None;
            attend(isa, &mut Attention { queries, keys, values, width, offset, head_dim, failed });
        }
        outs
    }

    /// What the head `h` of the query at `at` attends to.
    fn oracle(&self, at: usize, h: usize) -> Vec<f64> {
        let Self { head_dim, width, offset, .. } = *self;
        let wide = |half: u16| f16::from_bits(half).to_f64();
        let key = |t: usize, d: usize| {
            wide(self.keys[(t / BLOCK * width + offset + d) * BLOCK + t % BLOCK])
        };
        let query = &self.queries[at][h * head_dim..][..head_dim];
        let score = |t: usize| {
            let dot: f64 = query.iter().enumerate().map(|(d, &q)| f64::from(q) * key(t, d)).sum();
            dot / (head_dim as f64).sqrt()
        };
        let scores: Vec<f64> = (0..=at).map(score).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
        let value = |t: usize, d: usize| wide(self.values[t * width + offset + d]);
        let mean = |d: usize| {
            let weighted = |(t, score): (usize, &f64)| (score - most).exp() * value(t, d);
            scores.iter().enumerate().map(weighted).sum::<f64>() / total
        };
        (0..head_dim).map(mean).collect()
    }
}

#[test]
fn attention_of_any_shape_is_the_same_bits_everywhere_and_close_to_the_exact_one() {
    let mut rng = Pcg32::seed_from_u64(13);
    for positions in [1, 2, 14, 15, 16, 17, 18, 31, 32, 33, 47, 48, 49, 63, 64, 65] {
        for _ in 0..2 {
            let heads = Heads::new(positions, &mut rng);
            let Heads { head_dim, group, width, .. } = heads;
            let context = format!("{positions} of {group} x {head_dim} in {width}");
            let expected = heads.attended(Isa::portable(), 1);
            for isa in Isa::all() {
                for together in [1, 3, 16, 20] {
                    let found = heads.attended(isa, together);
                    assert_eq!(
                        bits(&found.concat()),
                        bits(&expected.concat()),
                        "{context} on {isa:?}"
                    );
                }
            }
            for (h, at) in [(0, 0), (group - 1, positions - 1), (group / 2, positions / 2)] {
                let exact = heads.oracle(at, h);
                for (found, exact) in expected[at][h * head_dim..].iter().zip(exact) {
                    assert!((f64::from(*found) - exact).abs() < 2e-5, "{context}: {found} {exact}");
                }
            }
        }
    }
}

#[test]
fn what_lies_between_products_is_the_same_bits_for_any_length_and_magnitude() {
    let mut rng = Pcg32::seed_from_u64(14);
    let pool = Pool::new(NonZeroUsize::MIN);
    for case in 0..300 {
        let numbers = [Numbers::Usual, Numbers::Extreme, Numbers::Any][case % 3];
        let length = rng.random_range(1..300);
        let mut vector = || -> Vec<f32> { (0..length).map(|_| numbers.float(&mut rng)).collect() };
        let (x, weight, gate, up, logits) = (vector(), vector(), vector(), vector(), vector());
        let all = |isa: Isa| -> (Vec<u32>, bool) {
            let (mut normed, mut gated) =
                (Activations::new(length).unwrap(), Activations::new(length).unwrap());
            norm_and_quantize(isa, &x, &weight, 1e-5, &mut normed);
            gate_and_quantize(isa, &gate, &up, &mut gated);
            let mut sum = x.clone();
            add(isa, &mut sum, &up);
            let mut probs = logits.clone();
            let rows = vec![Logits { values: &mut probs, temperature: 1.0 }];
            let sound = softmax(&pool, isa, rows)[0];
            if !sound {
                probs.clear();
            }
            let floats = [normed.values, normed.scales, gated.values, gated.scales, sum, probs];
            (bits(&floats.concat()), sound)
        };
        let expected = all(Isa::portable());
        let finite = logits.iter().all(|logit| logit.is_finite());
        assert!(expected.1 || !finite, "finite logits have probabilities");
        for isa in Isa::all() {
            assert_eq!(all(isa), expected, "case {case}: {length}, {numbers:?} on {isa:?}");
        }
    }
}

#[test]
fn every_kind_of_processor_gives_the_bits_that_were_once_written_down() {
    let (mut rng, isa) = (Pcg32::seed_from_u64(15), Isa::best());
    let mut results = Vec::new();
    for dtype in DTYPES {
        let (rows, cols) = (21, 3 * dtype.block().0.max(32));
        let bytes = weights_of(dtype, rows * cols, Numbers::Round, &mut rng);
        let inputs = [input(cols, Numbers::Round, &mut rng)];
        results.extend(product(Weights::new(dtype, [rows, cols], &bytes), &inputs, isa, 2));
    }
    results.extend(Heads::new(37, &mut rng).attended(isa, 16).concat());
    let [mut gated, mut normed] = [(); 2].map(|()| input(96, Numbers::Round, &mut rng));
    let (gate, up) = (normed.values.clone(), gated.values.clone());
    gate_and_quantize(isa, &gate, &up, &mut gated);
    norm_and_quantize(isa, &gate, &up, 1e-5, &mut normed);
    let mut probs = gate;
    let rows = vec![Logits { values: &mut probs, temperature: 1.0 }];
    assert_eq!(softmax(&Pool::new(NonZeroUsize::MIN), isa, rows), [true]);
    results.extend([gated.values, gated.sums, normed.values, normed.sums, probs].concat());
    // FNV-1a, over numbers instead of bytes.
    let hash = results.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, result| {
        (hash ^ u64::from(result.to_bits())).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!((results.len(), hash), (8855, 0xa3dc_89e4_2ea9_49c6));
}
