//! Logits to probabilities, for a whole vocabulary.

use super::elementwise::exp;
use crate::isa::{sum_lanes, versions};

/// Sums of so many values are kept in 32 bits, sums of those sums in 64.
const RUN: usize = 1024;

versions! {
    /// `e^x / sum of e^x` in place; `sound` becomes false if a logit is not a number or the
    /// largest is not finite, and `logits` is then left in no particular state.
    fn softmax(logits: &mut [f32], sound: &mut bool) {
        // Several maxima side by side: one alone waits for itself at each step.
        let mut most = [f32::NEG_INFINITY; 64];
        for logits in logits.chunks(64) {
            for (logit, most) in logits.iter().zip(&mut most) {
                *most = if logit > most { *logit } else { *most };
            }
        }
        let max = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0_f64;
        for logits in logits.chunks_mut(RUN) {
            let mut lanes = [0.0; 16];
            for logits in logits.chunks_mut(16) {
                for (logit, lane) in logits.iter_mut().zip(&mut lanes) {
                    *logit = exp(*logit - max);
                    *lane += *logit;
                }
            }
            sum += f64::from(sum_lanes(lanes));
        }
        // What is not a number is not a number in the sum either.
        *sound = max.is_finite() && sum.is_finite();
        let scale = (1.0 / sum) as f32;
        for logit in logits.iter_mut() {
            *logit *= scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn what_is_not_a_number_is_noticed_wherever_it_stands() {
        for (at, odd) in (0..200).flat_map(|at| [f32::NAN, f32::INFINITY].map(|odd| (at, odd))) {
            let mut logits = vec![1.0; 200];
            logits[at] = odd;
            let mut sound = true;
            softmax(Isa::best(), &mut logits, &mut sound);
            assert!(!sound, "{odd} at {at}");
        }
        let mut masked = vec![f32::NEG_INFINITY; 200];
        let mut sound = true;
        softmax(Isa::best(), &mut masked, &mut sound);
        assert!(!sound, "no logit is finite");
        let mut one = vec![f32::NEG_INFINITY; 200];
        one[70] = -3.0;
        softmax(Isa::best(), &mut one, &mut sound);
        assert!(sound && one[70] == 1.0 && one[0] == 0.0);
    }

    #[test]
    fn every_instruction_set_gives_the_exact_softmax_and_the_same_bits() {
        for len in [1, 15, 16, 1023, 5000, 151_936] {
            let logits: Vec<f32> =
                (0..len).map(|i| ((i * 7919) % 977) as f32 * 0.03 - 9.0).collect();
            let exact: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::all() {
                let (mut probs, mut sound) = (logits.clone(), false);
                softmax(isa, &mut probs, &mut sound);
                assert!(sound);
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
