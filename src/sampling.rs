//! Draws from a slice of probabilities.
//!
//! Pure: no tensors, no clocks, no global generator.

use rand_pcg::{
    Pcg64,
    rand_core::{Rng, SeedableRng},
};

/// How the next piece is drawn from the fused distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 takes the most probable piece; 1 leaves the distribution as it is.
    pub temperature: f32,
    /// Keep the `k` most probable pieces; `None` keeps all.
    pub top_k: Option<usize>,
    /// Keep the smallest set of most probable pieces whose mass reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep pieces of at least this share of the most probable one's mass; 0 keeps all.
    pub min_p: f32,
    pub seed: u64,
}

impl Default for SamplingParams {
    /// The plain fused distribution with seed 0.
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

/// Draws pieces with one seeded generator; one draw takes one random number.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    random: Pcg64,
}

/// Pieces below this share of the most probable one's tempered mass are never drawn: all of a
/// vocabulary of 10^6 of them together weigh less than one unit of f32 precision.
const NEGLIGIBLE: f32 = 1e-14;

/// How many of the most probable pieces are sorted first when a cut needs an order.
const FIRST_SORTED: usize = 64;

impl Sampler {
    pub fn new(params: SamplingParams) -> Self {
        let random = Pcg64::seed_from_u64(params.seed);
        Self { params, random }
    }

    /// The index drawn from `probs`, which need not be normalised; `None` if it has no mass.
    /// Temperature comes first, then top-k, top-p and min-p cut the tempered distribution.
    /// Of equally probable pieces the first counts as the more probable.
    pub fn sample(&mut self, probs: &[f32]) -> Option<usize> {
        let best = argmax(probs)?;
        if self.params.temperature == 0.0 || self.params.top_k == Some(1) {
            return Some(best);
        }
        let mut candidates = self.tempered(probs, probs[best]);
        if self.params.top_k.is_some() || self.params.top_p < 1.0 {
            self.keep_top(&mut candidates);
        }
        Some(self.draw(&candidates))
    }

    /// Each index that can be drawn, in order, with its tempered mass relative to the largest.
    fn tempered(&self, probs: &[f32], max: f32) -> Vec<(usize, f32)> {
        let least = self.params.min_p.max(NEGLIGIBLE);
        let exponent = 1.0 / self.params.temperature;
        // A first cut before the costly power: what it drops, the power would put below `least`.
        let untempered = max * least.powf(self.params.temperature) * 0.999;
        probs
            .iter()
            .enumerate()
            .filter(|&(_, &p)| p >= untempered)
            .map(|(index, &p)| (index, p / max))
            .map(|(index, ratio)| {
                (index, if exponent == 1.0 { ratio } else { ratio.powf(exponent) })
            })
            .filter(|&(_, mass)| mass >= least)
            .collect()
    }

    /// Applies top-k and top-p; min-p is relative to the largest, so it may come before them.
    fn keep_top(&self, candidates: &mut Vec<(usize, f32)>) {
        let descending =
            |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if let Some(k) = self.params.top_k.filter(|&k| k < candidates.len()) {
            candidates.select_nth_unstable_by(k, descending);
            candidates.truncate(k);
        }
        if self.params.top_p >= 1.0 {
            candidates.sort_unstable_by(descending);
            return;
        }
        let wanted = f64::from(self.params.top_p) * total(candidates);
        let mut sorted = FIRST_SORTED.min(candidates.len());
        loop {
            if sorted < candidates.len() {
                candidates.select_nth_unstable_by(sorted, descending);
            }
            candidates[..sorted].sort_unstable_by(descending);
            let mut mass = 0.0;
            let reached = candidates[..sorted].iter().position(|&(_, p)| {
                mass += f64::from(p);
                mass >= wanted
            });
            if let Some(last) = reached {
                candidates.truncate(last + 1);
                return;
            }
            if sorted == candidates.len() {
                return;
            }
            sorted = (sorted * 16).min(candidates.len());
        }
    }

    fn draw(&mut self, candidates: &[(usize, f32)]) -> usize {
        let unit = (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut left = unit * total(candidates);
        for &(index, mass) in candidates {
            left -= f64::from(mass);
            if left < 0.0 {
                return index;
            }
        }
        candidates.last().expect("the most probable piece is always a candidate").0
    }
}

fn total(candidates: &[(usize, f32)]) -> f64 {
    candidates.iter().map(|&(_, mass)| f64::from(mass)).sum()
}

/// The first index of the largest value; `None` if no value is above 0.
fn argmax(probs: &[f32]) -> Option<usize> {
    let mut best = None;
    let mut max = 0.0;
    for (index, &p) in probs.iter().enumerate() {
        if p > max {
            (best, max) = (Some(index), p);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBS: [f32; 6] = [0.05, 0.3, 0.1, 0.3, 0.2, 0.05];

    fn shares(params: &SamplingParams, probs: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(params.clone());
        let mut counts = vec![0.0; probs.len()];
        const DRAWS: usize = 40_000;
        for _ in 0..DRAWS {
            counts[sampler.sample(probs).unwrap()] += 1.0 / DRAWS as f64;
        }
        counts
    }

    /// Four standard deviations of a share of one half over the draws.
    fn assert_close(found: &[f64], expected: &[f64]) {
        assert!(
            found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01),
            "{found:?} {expected:?}"
        );
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_most_probable() {
        let params = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        assert_eq!(Sampler::new(params).sample(&PROBS), Some(1));
    }

    #[test]
    fn nothing_is_drawn_from_no_mass() {
        assert_eq!(Sampler::new(SamplingParams::default()).sample(&[0.0; 4]), None);
        assert_eq!(Sampler::new(SamplingParams::default()).sample(&[]), None);
    }

    #[test]
    fn the_default_draws_the_distribution_as_it_is() {
        let expected = PROBS.map(f64::from);
        assert_close(&shares(&SamplingParams::default(), &PROBS), &expected);
    }

    #[test]
    fn temperature_sharpens_by_its_inverse_power() {
        let params = SamplingParams { temperature: 0.5, ..SamplingParams::default() };
        let squares = PROBS.map(|p| f64::from(p).powi(2));
        let sum: f64 = squares.iter().sum();
        assert_close(&shares(&params, &PROBS), &squares.map(|p| p / sum));
    }

    #[test]
    fn top_k_keeps_k_and_prefers_the_first_of_equals() {
        let params = SamplingParams { top_k: Some(4), ..SamplingParams::default() };
        assert_close(
            &shares(&params, &PROBS),
            &[0.0, 1.0 / 3.0, 1.0 / 9.0, 1.0 / 3.0, 2.0 / 9.0, 0.0],
        );
        let params = SamplingParams { top_k: Some(1), ..SamplingParams::default() };
        assert_close(&shares(&params, &PROBS), &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_it() {
        let params = SamplingParams { top_p: 0.7, ..SamplingParams::default() };
        assert_close(&shares(&params, &PROBS), &[0.0, 0.375, 0.0, 0.375, 0.25, 0.0]);
    }

    #[test]
    fn top_p_over_a_flat_large_vocabulary_equals_a_full_sort() {
        let probs: Vec<f32> =
            (0..5000).map(|i| 1.0 + ((i * 7919) % 5000) as f32 / 1000.0).collect();
        let params = SamplingParams { top_p: 0.8, ..SamplingParams::default() };
        let sampler = Sampler::new(params);
        let mut kept = sampler.tempered(&probs, 6.0);
        let mut all = kept.clone();
        let wanted = 0.8 * total(&kept);
        sampler.keep_top(&mut kept);
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut mass = 0.0;
        let last = all.iter().position(|&(_, p)| {
            mass += f64::from(p);
            mass >= wanted
        });
        assert_eq!(kept, all[..=last.unwrap()]);
    }

    #[test]
    fn min_p_is_a_share_of_the_most_probable() {
        let params = SamplingParams { min_p: 0.6, ..SamplingParams::default() };
        assert_close(&shares(&params, &PROBS), &[0.0, 0.375, 0.0, 0.375, 0.25, 0.0]);
    }

    #[test]
    fn scaling_all_masses_changes_nothing() {
        let params = SamplingParams { top_p: 0.9, temperature: 0.8, ..SamplingParams::default() };
        let scaled = PROBS.map(|p| p * 0.125);
        let mut a = Sampler::new(params.clone());
        let mut b = Sampler::new(params);
        assert!((0..200).all(|_| a.sample(&PROBS) == b.sample(&scaled)));
    }

    #[test]
    fn a_seed_gives_the_same_draws_and_another_seed_others() {
        let draws = |seed| {
            let mut sampler = Sampler::new(SamplingParams { seed, ..SamplingParams::default() });
            (0..50).map(|_| sampler.sample(&PROBS)).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }
}
