//! How likely a difference as large as the one seen is, if there is none.

use rand_pcg::{
    Pcg64,
    rand_core::{Rng, SeedableRng},
};

use super::Part;

/// How often signs are flipped.
const FLIPS: usize = 10_000;

/// The exact two-sided McNemar test: of the samples that only one of two systems has right, `ours`
/// and `theirs`, the chance that they are split at least so unevenly by a fair coin.
pub(super) fn mcnemar(ours: usize, theirs: usize) -> f64 {
    let (few, all) = (ours.min(theirs), ours + theirs);
    // In logarithms: a coin's 2^-n is no f64 from a thousand samples on.
    let mut term = -(all as f64) * std::f64::consts::LN_2;
    let mut tail = term.exp();
    for k in 1..=few {
        term += ((all - k + 1) as f64 / k as f64).ln();
        tail += term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// The two-sided sign-flip test of a mean difference of 0: the share of random signs that take the
/// sum at least as far from 0. The signs seen count as one draw, so it is never 0 (Phipson and
/// Smyth 2010, "Permutation p-values should never be zero").
pub(super) fn sign_flip(differences: &[Part], seed: u64) -> f64 {
    let mut random = Pcg64::seed_from_u64(seed);
    let seen: f64 = differences.iter().map(|part| part.value).sum::<f64>().abs();
    // Sums of the same numbers differ by rounding.
    let most: f64 = differences.iter().map(|part| part.value.abs()).sum();
    let least = seen - most * 1e-12;
    let flipped = |random: &mut Pcg64| {
        let mut sum = 0.0;
        for chunk in differences.chunks(64) {
            let bits = random.next_u64();
            for (n, part) in chunk.iter().enumerate() {
                sum += if bits >> n & 1 == 1 { part.value } else { -part.value };
            }
        }
        f64::abs(sum)
    };
    let as_far = (0..FLIPS).filter(|_| flipped(&mut random) >= least).count();
    (as_far + 1) as f64 / (FLIPS + 1) as f64
}

/// P-values corrected so that the chance of any false one among them stays below the level they are
/// held against (Holm 1979, "A simple sequentially rejective multiple test procedure").
pub(super) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut least = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        least = least.max(p[index] * (p.len() - rank) as f64).min(1.0);
        adjusted[index] = least;
    }
    adjusted
}
