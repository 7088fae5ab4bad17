//! How far a figure could be off, by drawing the samples again.

use rand_pcg::{
    Pcg64,
    rand_core::{Rng, SeedableRng},
};

use super::{Part, normal};

/// How often the samples are drawn again.
const DRAWS: usize = 10_000;
/// The share of the interval.
const COVERAGE: f64 = 0.95;

/// A ratio of sums, with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The figure of the samples themselves; not a number without any.
    pub value: f64,
    /// The interval's lower end; minus infinity of fewer than two samples.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The ratio of the sums of values and sizes, with its bias-corrected and accelerated bootstrap
/// interval (Efron 1987, "Better bootstrap confidence intervals", J. Am. Stat. Assoc. 82).
///
/// Samples that are all the same say by that alone how often others can come (Clopper and Pearson
/// 1934, "The use of confidence or fiducial limits", Biometrika 26): such others are taken to lie at
/// the ends of `range`, between which a sample can be, if there are any.
pub fn estimate(parts: &[Part], range: Option<(f64, f64)>, seed: u64) -> Estimate {
    let value = ratio(parts.iter());
    if parts.len() < 2 {
        return Estimate { value, low: f64::NEG_INFINITY, high: f64::INFINITY };
    }
    if let Some((least, most)) = range
        && parts.iter().all(|part| *part == parts[0])
    {
        let (outside, _) = tails();
        let others = 1.0 - outside.powf(1.0 / parts.len() as f64);
        let low = value - others * (value - least);
        return Estimate { value, low, high: value + others * (most - value) };
    }
    let drawn = draws(parts, seed);
    let (below, above) = match corrected(parts, &drawn, value) {
        // All draws are on one side: there is nothing to correct by.
        (below, above) if !below.is_finite() || !above.is_finite() => tails(),
        levels => levels,
    };
    Estimate { value, low: at(&drawn, below), high: at(&drawn, above) }
}

fn ratio<'a>(parts: impl Iterator<Item = &'a Part>) -> f64 {
    let add = |(value, size), part: &Part| (value + part.value, size + part.size);
    let (value, size) = parts.fold((0.0, 0.0), add);
    value / size
}

/// The ratios of samples drawn with replacement, in order.
fn draws(parts: &[Part], seed: u64) -> Vec<f64> {
    let mut random = Pcg64::seed_from_u64(seed);
    let one = |random: &mut Pcg64| {
        let drawn = (0..parts.len()).map(|_| &parts[below(random, parts.len())]);
        ratio(drawn)
    };
    let mut drawn: Vec<f64> = (0..DRAWS).map(|_| one(&mut random)).collect();
    drawn.sort_unstable_by(f64::total_cmp);
    drawn
}

/// A number below `count`. The product's upper half favours none by more than `count` in 2^64.
fn below(random: &mut Pcg64, count: usize) -> usize {
    let product = u128::from(random.next_u64()) * count as u128;
    usize::try_from(product >> 64).expect("it is below the count")
}

fn tails() -> (f64, f64) {
    let outside = (1.0 - COVERAGE) / 2.0;
    (outside, 1.0 - outside)
}

/// The shares of the draws at which the interval ends.
fn corrected(parts: &[Part], drawn: &[f64], value: f64) -> (f64, f64) {
    let less = drawn.partition_point(|&it| it < value);
    let up_to = drawn.partition_point(|&it| it <= value);
    let bias = normal::quantile((less + up_to) as f64 / (2 * drawn.len()) as f64);
    let acceleration = acceleration(parts);
    let level = |outside: f64| {
        let z = bias + normal::quantile(outside);
        normal::cdf(bias + z / (1.0 - acceleration * z))
    };
    let (low, high) = tails();
    (level(low), level(high))
}

/// From the ratios that each sample is left out of (the jackknife).
fn acceleration(parts: &[Part]) -> f64 {
    let (value, size) =
        parts.iter().fold((0.0, 0.0), |(v, s), part| (v + part.value, s + part.size));
    let without: Vec<f64> =
        parts.iter().map(|part| (value - part.value) / (size - part.size)).collect();
    let mean = without.iter().sum::<f64>() / without.len() as f64;
    let (mut squares, mut cubes) = (0.0, 0.0);
    for ratio in without {
        squares += (mean - ratio).powi(2);
        cubes += (mean - ratio).powi(3);
    }
    // Samples that are all alike pull nowhere.
    if squares == 0.0 { 0.0 } else { cubes / (6.0 * squares.powf(1.5)) }
}

/// The value that a share of the draws is below, between two of them in proportion.
fn at(drawn: &[f64], share: f64) -> f64 {
    let place = share * (drawn.len() - 1) as f64;
    let (before, part) = (place.floor() as usize, place.fract());
    let after = (before + 1).min(drawn.len() - 1);
    drawn[before] + part * (drawn[after] - drawn[before])
}
