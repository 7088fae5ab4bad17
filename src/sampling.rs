//! Draws from a slice of probabilities.
//!
//! Pure: no tensors, no clocks, no global generator.

mod penalties;
mod power;
mod survey;

use std::ops::Range;

pub use penalties::{Penalizer, Penalties};

use rand_pcg::{
    Pcg64,
    rand_core::{Rng, SeedableRng},
};

use crate::isa::Isa;
pub(crate) use power::{exp2, log2, powers};
use survey::Temper;
pub(crate) use survey::{BLOCK, Blocks, Survey};

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

impl SamplingParams {
    /// The parameters of one of several choices of a request: the first has the request's seed,
    /// the others seeds drawn from it.
    pub fn of_choice(&self, index: usize) -> Self {
        let seed = if index == 0 { self.seed } else { split_mix(self.seed, index as u64) };
        Self { seed, ..self.clone() }
    }
}

/// The `number`-th output, from 0, of SplitMix64 started at `seed` (Steele, Lea and Flood, "Fast
/// splittable pseudorandom number generators", 2014).
pub fn split_mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Draws pieces with one seeded generator; one draw takes one random number.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    random: Pcg64,
}

/// What is drawn from: masses, how they are tempered, and a survey with the sums of the tempered
/// masses.
struct Urn<'a> {
    probs: &'a [f32],
    how: Temper,
    survey: &'a Survey,
}

/// A piece that can be drawn: its index and its tempered mass relative to the largest.
type Candidate = (usize, f32);

impl Sampler {
    pub fn new(params: SamplingParams) -> Self {
        let random = Pcg64::seed_from_u64(params.seed);
        Self { params, random }
    }

    /// The index drawn from `probs`, which need not be normalised; `None` if it has no mass.
    /// Temperature comes first, then top-k, top-p and min-p cut the tempered distribution.
    /// Of equally probable pieces the first counts as the more probable.
    pub fn sample(&mut self, probs: &[f32]) -> Option<usize> {
        self.sample_seen(probs, &mut Survey::of(probs))
    }

    /// As [`Self::sample`], of masses that have been looked at. The survey's sums are not theirs
    /// afterwards.
    pub(crate) fn sample_seen(&mut self, probs: &[f32], survey: &mut Survey) -> Option<usize> {
        let (first, _) = survey.first_largest(probs)?;
        let SamplingParams { temperature, top_k, top_p, min_p, .. } = self.params;
        if temperature == 0.0 || top_k == Some(1) {
            return Some(first);
        }
        let unit = (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let all = top_k.is_none() && top_p >= 1.0;
        let urn = if all && temperature == 1.0 && min_p == 0.0 {
            Urn { probs, how: Temper::NOT, survey }
        } else {
            self.temper(probs, survey)
        };
        if all {
            return urn.draw(unit);
        }
        let kept = urn.top(top_k, top_p);
        let total = kept.iter().map(|&(_, mass)| f64::from(mass)).sum::<f64>();
        draw(kept.into_iter(), unit * total)
    }

    /// Masses below a share of the largest that all pieces together could not make a unit of
    /// 32-bit precision of are 0.
    fn temper<'a>(&self, probs: &'a [f32], survey: &'a mut Survey) -> Urn<'a> {
        let least = self.params.min_p.max(f32::EPSILON / 2.0 / probs.len() as f32);
        let exponent = (1.0 / self.params.temperature).min(f32::MAX);
        let cut = if exponent == 1.0 { least } else { least.powf(self.params.temperature) * 0.999 };
        let how = Temper { largest: survey.largest(), exponent, least, cut };
        survey::temper(Isa::best(), how, probs, survey);
        Urn { probs, how, survey }
    }
}

impl Urn<'_> {
    /// The piece in which the running sum of masses passes a share of their total. Whole blocks
    /// are passed over by the sums of the survey.
    fn draw(&self, share: f64) -> Option<usize> {
        let mut left = share * self.survey.total();
        let mut found = None;
        for (block, &sum) in self.survey.sums.iter().enumerate().filter(|&(_, &sum)| sum > 0.0) {
            found = Some((block, left));
            left -= f64::from(sum);
            if left < 0.0 {
                break;
            }
        }
        let (block, left) = found?;
        let block = (block * BLOCK..self.probs.len()).take(BLOCK);
        let mut block: Vec<Candidate> = block.map(|at| (at, self.probs[at])).collect();
        survey::temper_each(Isa::best(), self.how, &mut block);
        draw(block.into_iter().filter(|&(_, mass)| mass > 0.0), left)
    }

    /// What top-k and top-p leave, most probable first. Min-p is relative to the largest mass, so
    /// it may come before them.
    fn top(&self, top_k: Option<usize>, top_p: f32) -> Vec<Candidate> {
        let max = self.survey.largest();
        let most = top_k.unwrap_or(usize::MAX);
        // With top-k, top-p is a share of what that leaves.
        let mut wanted = if top_p < 1.0 && top_k.is_none() {
            f64::from(top_p) * self.survey.total()
        } else {
            f64::INFINITY
        };
        let (mut kept, mut mass) = (Vec::new(), 0.0);
        let (mut below, mut least) = (f32::INFINITY, max / BAND);
        while kept.len() < most && mass < wanted && below > 0.0 {
            let band = self.between(least..below);
            mass += band.iter().map(|&(_, mass)| f64::from(mass)).sum::<f64>();
            kept.extend(band);
            (below, least) = (least, if least > max * LAST_BAND { least / BAND } else { 0.0 });
        }
        kept.truncate(most);
        if top_p < 1.0 {
            if top_k.is_some() {
                wanted = f64::from(top_p) * kept.iter().map(|&(_, p)| f64::from(p)).sum::<f64>();
            }
            let mut mass = 0.0;
            let reached = kept.iter().position(|&(_, p)| {
                mass += f64::from(p);
                mass >= wanted
            });
            kept.truncate(reached.map_or(kept.len(), |last| last + 1));
        }
        kept
    }

    /// All that can be drawn with a probability in `range`, most probable first.
    fn between(&self, range: Range<f32>) -> Vec<Candidate> {
        let mut found = Vec::new();
        let blocks = self.survey.most.iter().zip(&self.survey.sums).enumerate();
        for (block, (&most, &sum)) in blocks {
            if most >= range.start && sum > 0.0 {
                let from = block * BLOCK;
                let block = (from..).zip(self.probs[from..].iter().copied()).take(BLOCK);
                found.extend(block.filter(|(_, prob)| range.contains(prob)));
            }
        }
        found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        survey::temper_each(Isa::best(), self.how, &mut found);
        found.retain(|&(_, mass)| mass > 0.0);
        found
    }
}

/// Candidates for top-k and top-p are looked for in bands of probability, each down to this part
/// of the one before: few have to be sorted.
const BAND: f32 = 8.0;

/// What is below this part of the largest is one band.
const LAST_BAND: f32 = 1e-9;

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
        let mut survey = Survey::of(&probs);
        let urn = Sampler::new(SamplingParams::default()).temper(&probs, &mut survey);
        let total = urn.survey.total();
        let kept = urn.top(None, 0.8);
        let masses = probs.iter().map(|&prob| urn.how.of(prob));
        let mut all: Vec<Candidate> = masses.enumerate().collect();
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
        let mut survey = Survey::of(&probs);
        let urn = Sampler::new(SamplingParams::default()).temper(&probs, &mut survey);
        for k in [2, 40, 3000, 6000] {
            let kept: Vec<usize> = urn.top(Some(k), 1.0).iter().map(|&(i, _)| i).collect();
            let mut all: Vec<usize> = (0..5000).filter(|&i| urn.how.of(probs[i]) > 0.0).collect();
            all.sort_by(|&a, &b| probs[b].total_cmp(&probs[a]).then(a.cmp(&b)));
            all.truncate(k);
            assert_eq!(kept, all);
        }
    }

    #[test]
    fn min_p_is_a_share_of_the_most_probable() {
        let params = SamplingParams { min_p: 0.6, ..SamplingParams::default() };
        assert_close(&shares(&params, &PROBS), &[0.0, 0.375, 0.0, 0.375, 0.25, 0.0]);
    }

    #[test]
    fn the_ends_of_the_ranges_leave_the_most_probable() {
        let ends = [(0.7, 1.0), (1.0, 1.0), (2.0, 1.0), (1e-6, 0.0), (1e-10, 0.0), (1e-40, 0.0)];
        for (temperature, min_p) in ends {
            let params = SamplingParams { temperature, min_p, ..SamplingParams::default() };
            let mut sampler = Sampler::new(params);
            for i in 1..1000_u16 {
                // The inverse of many of these, times them, is less than 1.
                let largest = f32::from(i) / 1009.0;
                let found = sampler.sample(&[0.9 * largest, largest, 0.0]);
                assert_eq!(found, Some(1), "{temperature} {min_p} {largest}");
            }
        }
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

    #[test]
    fn seeds_are_the_outputs_of_split_mix() {
        // The generator's published first outputs for the seed 1234567.
        let published = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        for (number, expected) in (0..).zip(published) {
            assert_eq!(split_mix(1234567, number), expected);
        }
    }

    #[test]
    fn the_first_choice_has_the_requests_seed_and_the_others_their_own() {
        let params = SamplingParams { seed: 5, ..SamplingParams::default() };
        assert_eq!(params.of_choice(0), params);
        let seeds = [1, 2, 3].map(|index| params.of_choice(index).seed);
        assert!(!seeds.contains(&5) && seeds[0] != seeds[1] && seeds[1] != seeds[2]);
    }
}
