//! Logits to probabilities, for whole vocabularies.

use super::{Pool, elementwise::exp};
use crate::isa::{Isa, sum_lanes, versions};

/// What a thread takes at a time, which stays in its own cache between the passes. It does not
/// depend on the number of threads, and so neither does the sum.
const PART: usize = 4096;

/// Sums of so many values are kept in 32 bits, sums of those sums in 64.
const RUN: usize = 1024;

/// The logits of one vocabulary.
pub struct Logits<'a> {
    pub values: &'a mut [f32],
    /// What they are divided by first.
    pub temperature: f32,
}

/// Neighbouring logits of a row.
pub(super) struct Part<'a> {
    row: usize,
    logits: Logits<'a>,
    /// The largest.
    most: f32,
    /// Of what they are raised to.
    sum: f64,
    /// What then makes them probabilities.
    scale: f32,
}

/// `e^x / sum of e^x` of each row in place. False if one of its logits is not a number or the
/// largest is not finite; such a row is left in no particular state.
pub(in crate::model) fn softmax(pool: &Pool, isa: Isa, rows: Vec<Logits<'_>>) -> Vec<bool> {
    let mut sound = vec![false; rows.len()];
    let mut parts: Vec<Part<'_>> = Vec::new();
    for (row, Logits { values, temperature }) in rows.into_iter().enumerate() {
        let part = |values| Part {
            row,
            logits: Logits { values, temperature },
            most: f32::NEG_INFINITY,
            sum: 0.0,
            scale: 0.0,
        };
        parts.extend(values.chunks_mut(PART).map(part));
    }
    pool.for_each(&mut parts, |_, part| raise(isa, part));
    for parts in parts.chunk_by_mut(|a, b| a.row == b.row) {
        sound[parts[0].row] = settle(parts);
    }
    pool.for_each(&mut parts, |_, part| scale(isa, part.logits.values, part.scale));
    sound
}

/// What each part of a row is to be scaled by.
fn settle(parts: &mut [Part<'_>]) -> bool {
    let most = parts.iter().map(|part| part.most).fold(f32::NEG_INFINITY, f32::max);
    let share = |part: &Part<'_>| f64::from(exp(part.most - most));
    // What is not a number is not a number in the sum either.
    let sum: f64 = parts.iter().map(|part| share(part) * part.sum).sum();
    parts.iter_mut().for_each(|part| part.scale = (share(part) / sum) as f32);
    most.is_finite() && sum.is_finite()
}

versions! {
    /// `e^(x - most)` in place.
    fn raise(part: &mut Part<'_>) {
        let Part { logits: Logits { values, temperature }, most, sum, .. } = part;
        if *temperature != 1.0 {
            values.iter_mut().for_each(|value| *value /= *temperature);
        }
        // Several maxima side by side: one alone waits for itself at each step.
        let mut lanes = [f32::NEG_INFINITY; 64];
        for values in values.chunks(64) {
            for (value, lane) in values.iter().zip(&mut lanes) {
                *lane = if value > lane { *value } else { *lane };
            }
        }
        *most = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
        // Where all are masked, or none is a number.
        let base = if *most == f32::NEG_INFINITY { 0.0 } else { *most };
        for values in values.chunks_mut(RUN) {
            let mut lanes = [0.0; 16];
            let (wide, rest) = values.as_chunks_mut::<16>();
            for values in wide {
                for lane in 0..16 {
                    values[lane] = exp(values[lane] - base);
                    lanes[lane] += values[lane];
                }
            }
            for (value, lane) in rest.iter_mut().zip(&mut lanes) {
                *value = exp(*value - base);
                *lane += *value;
            }
            *sum += f64::from(sum_lanes(lanes));
        }
    }
}

versions! {
    fn scale(values: &mut [f32], scale: f32) {
        values.iter_mut().for_each(|value| *value *= scale);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    /// On one thread and on two; true if the logits are sound.
    fn probabilities(isa: Isa, logits: &mut [f32]) -> bool {
        let mut again = logits.to_vec();
        let [alone, together] =
            [1, 2].map(|threads| Pool::new(NonZeroUsize::new(threads).unwrap()));
        let sound = softmax(&alone, isa, vec![Logits { values: logits, temperature: 1.0 }]);
        let mut other = vec![2.0; 9000];
        let rows = [&mut other[..], &mut again].map(|values| Logits { values, temperature: 1.0 });
        assert_eq!(softmax(&together, isa, rows.into()), [true, sound[0]]);
        if sound[0] {
            assert_eq!(again, logits, "beside another row, on two threads");
        }
        sound[0]
    }

    #[test]
    fn what_is_not_a_number_is_noticed_wherever_it_stands() {
        for (at, odd) in (0..200).flat_map(|at| [f32::NAN, f32::INFINITY].map(|odd| (at, odd))) {
            let mut logits = vec![1.0; 200];
            logits[at] = odd;
            assert!(!probabilities(Isa::best(), &mut logits), "{odd} at {at}");
        }
        for odd in [f32::NAN, f32::INFINITY] {
            let mut logits = vec![1.0; 3 * PART];
            logits[PART..2 * PART].fill(odd);
            assert!(!probabilities(Isa::best(), &mut logits), "a part of {odd}");
        }
        let mut masked = vec![f32::NEG_INFINITY; 200];
        assert!(!probabilities(Isa::best(), &mut masked), "no logit is finite");
        assert!(!probabilities(Isa::best(), &mut []), "there is no logit");
        let mut one = vec![f32::NEG_INFINITY; 2 * PART];
        one[70] = -3.0;
        assert!(probabilities(Isa::best(), &mut one));
        assert_eq!([one[70], one[0], one[PART]], [1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_temperature_divides_the_logits() {
        let logits: Vec<f32> = (0..5000).map(|i| (i % 7) as f32).collect();
        let mut divided: Vec<f32> = logits.iter().map(|logit| logit / 1.7).collect();
        let mut calibrated = logits;
        let pool = Pool::new(NonZeroUsize::MIN);
        let rows = vec![
            Logits { values: &mut calibrated, temperature: 1.7 },
            Logits { values: &mut divided, temperature: 1.0 },
        ];
        assert_eq!(softmax(&pool, Isa::best(), rows), [true, true]);
        assert_eq!(calibrated, divided);
    }

    #[test]
    fn every_instruction_set_gives_the_exact_softmax_and_the_same_bits() {
        for len in [1, 15, 16, 1023, 5000, 151_936] {
            let logits: Vec<f32> =
                (0..len).map(|i| ((i * 7919) % 977) as f32 * 0.03 - 9.0).collect();
            let exact: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::all() {
                let mut probs = logits.clone();
                assert!(probabilities(isa, &mut probs));
                let mass: f64 = probs.iter().map(|&p| f64::from(p)).sum();
                assert!((mass - 1.0).abs() < 3e-7, "{mass}");
                for (p, x) in probs.iter().zip(&logits) {
                    let exact = f64::from(*x).exp() / exact;
                    // Rounding `x - max` alone is 29 units of 2^-24.
                    assert!((f64::from(*p) / exact - 1.0).abs() < 4e-6);
                }
                assert_eq!(*first.get_or_insert_with(|| probs.clone()), probs);
            }
        }
    }
}
