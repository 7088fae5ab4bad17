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
    /// Scratch: each piece's tempered mass relative to the largest, 0 if it cannot be drawn.
    masses: Vec<f32>,
}

/// A piece that can be drawn: its index and its tempered mass relative to the largest.
type Candidate = (usize, f32);

impl Sampler {
    pub fn new(params: SamplingParams) -> Self {
        let random = Pcg64::seed_from_u64(params.seed);
        Self { params, random, masses: Vec::new() }
    }

    /// The index drawn from `probs`, which need not be normalised; `None` if it has no mass.
    /// Temperature comes first, then top-k, top-p and min-p cut the tempered distribution.
    /// Of equally probable pieces the first counts as the more probable.
    pub fn sample(&mut self, probs: &[f32]) -> Option<usize> {
        let best = argmax(probs)?;
        if self.params.temperature == 0.0 || self.params.top_k == Some(1) {
            return Some(best);
        }
        let total = self.temper(probs, probs[best]);
        let unit = (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        if self.params.top_k.is_none() && self.params.top_p >= 1.0 {
            let all = self.masses.iter().copied().enumerate().filter(|&(_, mass)| mass > 0.0);
            return draw(all, unit * total);
        }
        let kept = self.top(probs, total);
        let total = kept.iter().map(|&(_, mass)| f64::from(mass)).sum::<f64>();
        draw(kept.into_iter(), unit * total)
    }

    /// Fills in the masses and returns their sum. Masses below a share of the largest that all
    /// pieces together could not make a unit of 32-bit precision of are 0.
    fn temper(&mut self, probs: &[f32], max: f32) -> f64 {
        let least = self.params.min_p.max(f32::EPSILON / 2.0 / probs.len() as f32);
        let (scale, exponent) = (1.0 / max, 1.0 / self.params.temperature);
        self.masses.clear();
        if exponent == 1.0 {
            self.masses.extend(probs.iter().map(|&p| at_least(p * scale, least)));
        } else {
            // What a first cut drops, the power would put below `least`.
            let cut = least.powf(self.params.temperature) * 0.999;
            let tempered = |&p: &f32| {
                let mass = at_least(power(at_least(p * scale, cut), exponent), least);
                if p * scale < cut { 0.0 } else { mass }
            };
            self.masses.extend(probs.iter().map(tempered));
        }
        let sums = self.masses.chunks(RUN).map(|masses| f64::from(masses.iter().sum::<f32>()));
        sums.sum()
    }

    /// What top-k and top-p leave, most probable first. Min-p is relative to the largest mass, so
    /// it may come before them.
    fn top(&self, probs: &[f32], total: f64) -> Vec<Candidate> {
        let (mut kept, wanted) = match self.params.top_k {
            Some(k) => {
                let kept = self.largest(probs, k);
                let total = kept.iter().map(|&(_, mass)| f64::from(mass)).sum::<f64>();
                (kept, f64::from(self.params.top_p) * total)
            }
            None => {
                // All that is smaller than this adds up to less than what top-p leaves out.
                let left_out = f64::from(1.0 - self.params.top_p) * total;
                let least = (left_out / self.masses.len() as f64) as f32;
                (self.above(probs, least), f64::from(self.params.top_p) * total)
            }
        };
        if self.params.top_p < 1.0 {
            let mut mass = 0.0;
            let reached = kept.iter().position(|&(_, p)| {
                mass += f64::from(p);
                mass >= wanted
            });
            kept.truncate(reached.map_or(kept.len(), |last| last + 1));
        }
        kept
    }

    /// The `k` most probable, or all that can be drawn if those are fewer.
    fn largest(&self, probs: &[f32], k: usize) -> Vec<Candidate> {
        for least in [1e-2, 1e-4, 1e-6, 0.0] {
            let mut found = self.above(probs, least);
            if found.len() >= k || least == 0.0 {
                found.truncate(k);
                return found;
            }
        }
        unreachable!("the last bound is 0")
    }

    /// All that can be drawn with a mass of at least `least`, most probable first.
    fn above(&self, probs: &[f32], least: f32) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = self
            .masses
            .iter()
            .copied()
            .enumerate()
            .filter(|&(_, mass)| mass >= least && mass > 0.0)
            .collect();
        found.sort_unstable_by(|a, b| probs[b.0].total_cmp(&probs[a.0]).then(a.0.cmp(&b.0)));
        found
    }
}

/// Sums of so many values are kept in 32 bits, sums of those sums in 64.
const RUN: usize = 1024;

fn at_least(value: f32, least: f32) -> f32 {
    if value >= least { value } else { 0.0 }
}

/// The candidate in which the running sum of masses passes `at`; the last if rounding keeps it
/// from doing so.
fn draw(candidates: impl Iterator<Item = Candidate>, at: f64) -> Option<usize> {
    let mut left = at;
    let mut last = None;
    for (index, mass) in candidates {
        left -= f64::from(mass);
        last = Some(index);
        if left < 0.0 {
            break;
        }
    }
    last
}

/// `x^y` for `x` from about 1e-30 to 1 and `y x` in the same range, to about 3e-6; 1 stays 1, and
/// 0 comes to next to nothing. A whole vocabulary goes through it at each step, and unlike
/// [`f32::powf`] it is compiled to vector instructions.
pub(crate) fn power(x: f32, y: f32) -> f32 {
    // x = 2^exponent * mantissa, mantissa from sqrt(1/2) to sqrt(2).
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF);
    let exponent = (bits.cast_signed() >> 23) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(SQRT_HALF));
    // log2(mantissa) as the series of the inverse hyperbolic tangent, to the ninth power.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let t = s * s;
    let series = (((t / 9.0 + 1.0 / 7.0) * t + 1.0 / 5.0) * t + 1.0 / 3.0) * t + 1.0;
    let power = y * (exponent + 2.0 * std::f32::consts::LOG2_E * s * series);
    // 2^power: the whole part to the exponent, the rest by the series of e^x to the sixth power.
    const ROUND: f32 = 12_582_912.0;
    let shifted = power.max(-126.0) + ROUND;
    let r = (power.max(-126.0) - (shifted - ROUND)) * std::f32::consts::LN_2;
    let mut series = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + c;
    }
    let whole = shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 23;
    f32::from_bits(series.to_bits().wrapping_add(whole))
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
        let mut sampler = Sampler::new(params);
        let total = sampler.temper(&probs, 6.0);
        let kept = sampler.top(&probs, total);
        let mut all: Vec<Candidate> = sampler.masses.iter().copied().enumerate().collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut mass = 0.0;
        let last = all.iter().position(|&(_, p)| {
            mass += f64::from(p);
            mass >= 0.8 * total
        });
        assert_eq!(kept, all[..=last.unwrap()]);
    }

    #[test]
    fn top_k_over_a_large_vocabulary_equals_a_full_sort() {
        let probs: Vec<f32> =
            (0..5000).map(|i| (-((i * 7919) % 5000) as f32 / 200.0).exp()).collect();
        for k in [2, 40, 3000, 6000] {
            let params = SamplingParams { top_k: Some(k), ..SamplingParams::default() };
            let mut sampler = Sampler::new(params);
            let total = sampler.temper(&probs, 1.0);
            let kept: Vec<usize> = sampler.top(&probs, total).iter().map(|&(i, _)| i).collect();
            let mut all: Vec<usize> = (0..5000).filter(|&i| sampler.masses[i] > 0.0).collect();
            all.sort_by(|&a, &b| probs[b].total_cmp(&probs[a]).then(a.cmp(&b)));
            all.truncate(k);
            assert_eq!(kept, all);
        }
    }

    #[test]
    fn the_fast_power_is_close_to_the_exact_one() {
        for y in [0.5_f32, 1.0, 1.0 / 0.7, 2.0, 5.0] {
            assert_eq!(power(1.0, y), 1.0);
            for i in 0..20_000 {
                let x = (-i as f32 * 1e-3).exp();
                let exact = f64::from(x).powf(f64::from(y));
                if exact > 1e-30 {
                    let error = (f64::from(power(x, y)) / exact - 1.0).abs();
                    assert!(error < 1e-5, "{x}^{y}: {error}");
                }
            }
        }
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
