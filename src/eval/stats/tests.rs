//! The golden figures are of scipy 1.17.1 and statsmodels 0.15.0 (`scipy.stats.bootstrap` with
//! 400,000 draws, `permutation_test`, `statsmodels.stats` `mcnemar`, `multipletests`,
//! `NormalIndPower`), on the numbers that the functions here make.

use super::*;

#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected} +- {tolerance}");
}

/// Two systems with much noise and a small difference.
fn scores() -> (Vec<Part>, Vec<Part>) {
    let ours = |i: u32| Part::one(f64::from(i * 7919 % 97) / 97.0 + 0.08);
    let theirs = |i: u32| Part::one(f64::from(i * 5077 % 89) / 89.0);
    ((0..60).map(ours).collect(), (0..60).map(theirs).collect())
}

fn differences() -> Vec<Part> {
    let (ours, theirs) = scores();
    Paired { ours: &ours, theirs: &theirs, better: Better::Higher, is_share: false }.differences()
}

/// Documents of very different lengths, some of them hard.
fn documents() -> Vec<Part> {
    let document = |i: u32| {
        let size = f64::from(50 + i * i * 13 % 911);
        let hard = if i.is_multiple_of(7) { 400.0 } else { 0.0 };
        Part { value: size * (1.0 + f64::from(i * 31 % 17) / 30.0) + hard, size }
    };
    (0..60).map(document).collect()
}

#[test]
fn intervals_are_those_of_scipy() {
    let mean = estimate(&differences(), None, 1);
    near(mean.value, 0.109_827_406_463_570_03, 1e-12);
    // Ten thousand draws place an end within some hundredths of the interval.
    near(mean.low, 0.002_168_8, 0.006);
    near(mean.high, 0.214_825_7, 0.006);
    let ratio = estimate(&documents(), None, 1);
    near(ratio.value, 1.393_262_012_012_012, 1e-12);
    // The plain percentiles would be 1.3070 and 1.4920.
    near(ratio.low, 1.311_975, 0.003);
    near(ratio.high, 1.499_207, 0.003);
}

#[test]
fn an_interval_is_its_seeds() {
    let parts = documents();
    let of = |parts: &[Part], seed| estimate(parts, Some((0.0, 1.0)), seed);
    assert_eq!(of(&parts, 7), of(&parts, 7));
    assert_ne!(of(&parts, 7), of(&parts, 8));
    let one = of(&[Part::one(0.25)], 1);
    assert_eq!((one.low, one.high), (f64::NEG_INFINITY, f64::INFINITY));
    assert!(of(&[], 1).value.is_nan());
}

/// `statsmodels.stats.proportion.proportion_confint(0, 120, method="beta")` and the like.
#[test]
fn of_samples_that_are_all_the_same_the_interval_says_what_others_could_be() {
    let of =
        |value: f64, count: usize| estimate(&vec![Part::one(value); count], Some((0.0, 1.0)), 1);
    let none = of(0.0, 120);
    near(none.low, 0.0, 0.0);
    near(none.high, 0.030_272_973, 1e-8);
    let all = of(1.0, 23);
    near(all.low, 0.851_814_871, 1e-8);
    near(all.high, 1.0, 0.0);
    let quarter = of(0.25, 23);
    near(quarter.low, 0.25 * 0.851_814_871, 1e-8);
    near(quarter.high, 1.0 - 0.75 * 0.851_814_871, 1e-8);
    let (ours, theirs) = right(&[(true, true, 7), (false, false, 16)]);
    let same = Paired { ours: &ours, theirs: &theirs, better: Better::Higher, is_share: true };
    let difference = compare(&[same], 1)[0].difference;
    near(difference.low, -0.148_185_129, 1e-8);
    near(difference.high, 0.148_185_129, 1e-8);
    // Nobody knows how far a text could be off.
    let same = estimate(&[Part::one(0.25); 9], None, 1);
    assert_eq!((same.value, same.low, same.high), (0.25, 0.25, 0.25));
}

#[test]
fn intervals_hold_the_truth_nineteen_times_of_twenty() {
    let mut held = 0;
    for run in 0..200_u64 {
        let right = |i: u64| Part::right(crate::sampling::split_mix(run, i) % 10 < 3);
        let parts: Vec<Part> = (0..80).map(right).collect();
        let found = estimate(&parts, Some((0.0, 1.0)), run);
        held += u32::from(found.low <= 0.3 && 0.3 <= found.high);
    }
    // Of 200 runs 190 are expected; fewer than 180 or more than 198 come once in a thousand.
    assert!((180..=198).contains(&held), "{held} of 200");
}

#[test]
fn mcnemar_is_that_of_statsmodels() {
    for (ours, theirs, p) in [
        (10, 3, 0.092_285_156_25),
        (25, 12, 0.047_031_027_439_516_04),
        (0, 0, 1.0),
        (7, 7, 1.0),
        (1, 9, 0.021_484_375),
        (9, 1, 0.021_484_375),
        (700, 610, 0.013_902_723_449_447_724),
        (2, 1, 1.0),
    ] {
        near(mcnemar(ours, theirs), p, 1e-12);
    }
}

#[test]
fn flipped_signs_give_the_p_value_of_scipy() {
    let differences = differences();
    near(sign_flip(&differences, 3), 0.049_63, 0.006);
    // All 1,024 flips of ten samples.
    near(sign_flip(&differences[..10], 3), 0.009_766, 0.003);
    near(sign_flip(&[Part::one(0.0); 5], 3), 1.0, 0.0);
}

#[test]
fn holm_is_that_of_statsmodels() {
    let adjusted = holm(&[0.01, 0.04, 0.03, 0.005, 0.6, 0.03]);
    for (found, expected) in adjusted.iter().zip([0.05, 0.12, 0.12, 0.03, 0.6, 0.12]) {
        near(*found, expected, 1e-12);
    }
    assert!(holm(&[]).is_empty());
}

#[test]
fn the_normal_distribution_is_that_of_scipy() {
    near(normal::quantile(0.975), 1.959_963_984_540_054, 1e-12);
    near(normal::quantile(1e-12), -7.034_483_825_301_132, 1e-12);
    near(normal::quantile(0.3), -0.524_400_512_708_040_9, 1e-12);
    near(normal::cdf(-8.0) / 6.220_960_574_271_786e-16, 1.0, 1e-12);
    near(normal::cdf(1.3), 0.903_199_515_414_389_7, 1e-15);
    assert_eq!(normal::quantile(0.0), f64::NEG_INFINITY);
}

#[test]
fn what_can_be_shown_is_connors_formula_and_holds_in_a_simulation() {
    for (samples, discordance, expected) in
        [(1000, 0.3, 0.048_467_694_2), (100, 0.2, 0.123_819_331_5), (164, 0.1, 0.068_684_089_8)]
    {
        near(detectable_share(samples, discordance).unwrap(), expected, 1e-8);
    }
    assert_eq!(detectable_share(10, 0.1), None);
    near(detectable_difference(250, 1.0), 0.177_187_7, 1e-5);

    let (samples, discordance) = (400, 0.25);
    let difference = detectable_share(samples, discordance).unwrap();
    let shown = |run: u64| {
        let (mut ours, mut theirs) = (0, 0);
        for i in 0..samples as u64 {
            let draw = crate::sampling::split_mix(run, i) as f64 / u64::MAX as f64;
            ours += usize::from(draw < f64::midpoint(discordance, difference));
            theirs += usize::from(draw > 1.0 - (discordance - difference) / 2.0);
        }
        mcnemar(ours, theirs) < LEVEL
    };
    let found = (0..1000).filter(|&run| shown(run)).count();
    // The formula is of the test without the exact tail, which is a little weaker.
    assert!((730..=830).contains(&found), "{found} of 1000");
}

fn right(pattern: &[(bool, bool, usize)]) -> (Vec<Part>, Vec<Part>) {
    let each = pattern.iter().flat_map(|&(ours, theirs, count)| vec![(ours, theirs); count]);
    each.map(|(ours, theirs)| (Part::right(ours), Part::right(theirs))).unzip()
}

#[test]
fn a_verdict_needs_a_difference_that_survives_the_number_of_tasks() {
    let (ours, theirs) = right(&[(true, true, 60), (true, false, 14), (false, true, 4)]);
    let one = Paired { ours: &ours, theirs: &theirs, better: Better::Higher, is_share: true };
    let found = compare(&[one], 1)[0];
    assert_eq!((found.test, found.verdict), (Test::McNemar, Verdict::Better));
    assert_eq!(found.p, mcnemar(14, 4));
    near(found.difference.value, 10.0 / 78.0, 1e-12);
    let turned = Paired { ours: &theirs, theirs: &ours, ..one };
    assert_eq!(compare(&[turned], 1)[0].verdict, Verdict::Worse);
    let lower = Paired { better: Better::Lower, ..one };
    assert_eq!(compare(&[lower], 1)[0].verdict, Verdict::Worse);
    // Beside another task the same figures are not enough.
    let (a, b) = right(&[(true, true, 30), (true, false, 3), (false, true, 3)]);
    let other = Paired { ours: &a, theirs: &b, ..one };
    let found = compare(&[one, other], 1);
    assert_eq!(found[0].adjusted_p, 2.0 * mcnemar(14, 4));
    assert_eq!(found[0].verdict.to_string(), "not shown");
    assert_eq!(found[0].difference, compare(&[one], 1)[0].difference);
}

#[test]
fn scores_that_are_not_right_or_wrong_are_tested_by_flipped_signs() {
    let (ours, theirs) = scores();
    let task = Paired { ours: &ours, theirs: &theirs, better: Better::Lower, is_share: false };
    let found = compare(&[task], 5)[0];
    assert_eq!(found.test, Test::SignFlip);
    assert_eq!(found.p, sign_flip(&differences(), 5));
    let same = Paired { theirs: &ours, ..task };
    assert_eq!(compare(&[same], 5)[0].verdict, Verdict::NotShown);
}
