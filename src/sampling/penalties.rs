//! What has been said already, and what the caller would rather read, on the fused distribution.
//!
//! Each changes the natural log of a piece's mass, in this order:
//!
//! 1. `repetition`, for every piece of the prompt or the text: times the factor (Keskar et al.,
//!    CTRL, arXiv 1909.05858, on log-probabilities, which are never positive).
//! 2. `frequency` times the count of the piece in the text, and `presence` if it is there at all:
//!    less by that much (as OpenAI's API defines them; the prompt does not count).
//! 3. `bias`: more by that much.
//!
//! What a constraint forbids stays forbidden.

use std::collections::BTreeMap;

use crate::vocab::UnionId;

/// On union pieces; the default changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Penalties {
    pub frequency: f32,
    pub presence: f32,
    /// Above 0; 1 changes nothing.
    pub repetition: f32,
    /// Added to the log of a piece's mass; a piece may be named once.
    pub bias: Vec<(UnionId, f32)>,
}

impl Default for Penalties {
    fn default() -> Self {
        Self { frequency: 0.0, presence: 0.0, repetition: 1.0, bias: Vec::new() }
    }
}

/// Penalties and the pieces so far.
#[derive(Clone, Debug)]
pub struct Penalizer {
    params: Penalties,
    pieces: BTreeMap<usize, Seen>,
    /// Scratch: pieces whose mass changes, and the log of it.
    changed: Vec<(usize, f64)>,
}

/// What is known of a piece that occurs or has a bias.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// In the text.
    count: usize,
    in_prompt: bool,
    bias: f32,
}

impl Penalizer {
    /// After a prompt of these pieces.
    pub fn new(params: Penalties, prompt: impl IntoIterator<Item = UnionId>) -> Self {
        let mut pieces: BTreeMap<usize, Seen> = BTreeMap::new();
        if params.repetition != 1.0 {
            for id in prompt {
                pieces.entry(id.0 as usize).or_default().in_prompt = true;
            }
        }
        for &(id, bias) in &params.bias {
            pieces.entry(id.0 as usize).or_default().bias = bias;
        }
        Self { params, pieces, changed: Vec::new() }
    }

    /// Gives pieces with a positive bias the least mass there is, if they have none: a bias of a
    /// hundred then chooses even what no member would say. Comes before the constraint.
    pub fn raise(&self, mix: &mut [f32]) {
        for &(id, bias) in &self.params.bias {
            if bias > 0.0 {
                let mass = &mut mix[id.0 as usize];
                *mass = mass.max(f32::MIN_POSITIVE);
            }
        }
    }

    /// Changes the masses; only their ratios mean something afterwards.
    pub fn apply(&mut self, mix: &mut [f32]) {
        let Penalties { frequency, presence, repetition, .. } = self.params;
        let [frequency, presence, repetition] = [frequency, presence, repetition].map(f64::from);
        self.changed.clear();
        let mut most: f64 = 0.0;
        for (&index, &Seen { count, in_prompt, bias }) in &self.pieces {
            if mix[index] == 0.0 {
                continue;
            }
            let mut log = f64::from(mix[index]).ln();
            if in_prompt || count > 0 {
                log *= repetition;
            }
            if count > 0 {
                log -= frequency * count as f64 + presence;
            }
            log += f64::from(bias);
            most = most.max(log);
            self.changed.push((index, log));
        }
        if most > 0.0 {
            // No mass may grow past what a float holds.
            let scale = (-most).exp() as f32;
            mix.iter_mut().for_each(|mass| *mass *= scale);
        }
        for &(index, log) in &self.changed {
            mix[index] = (log - most).exp() as f32;
        }
    }

    /// The text has grown by a piece.
    pub fn count(&mut self, id: UnionId) {
        self.pieces.entry(id.0 as usize).or_default().count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBS: [f32; 5] = [0.1, 0.2, 0.3, 0.4, 0.0];

    /// The distribution after a prompt and a text.
    fn after(params: Penalties, prompt: &[u32], text: &[u32]) -> Vec<f64> {
        let mut penalizer = Penalizer::new(params, prompt.iter().map(|&id| UnionId(id)));
        text.iter().for_each(|&id| penalizer.count(UnionId(id)));
        let mut mix = PROBS;
        penalizer.raise(&mut mix);
        penalizer.apply(&mut mix);
        let sum: f64 = mix.iter().map(|&p| f64::from(p)).sum();
        mix.iter().map(|&p| f64::from(p) / sum).collect()
    }

    fn assert_ratios(found: &[f64], masses: [f64; 5]) {
        let sum: f64 = masses.iter().sum();
        let close = found.iter().zip(masses).all(|(a, b)| (a - b / sum).abs() < 1e-5);
        assert!(close, "{found:?} {masses:?}");
    }

    #[test]
    fn the_default_changes_nothing() {
        assert_ratios(&after(Penalties::default(), &[0, 1], &[2, 2]), PROBS.map(f64::from));
    }

    #[test]
    fn frequency_counts_and_presence_does_not_and_the_prompt_is_no_text() {
        let frequency = Penalties { frequency: 0.5, ..Penalties::default() };
        let e = |x: f64| x.exp();
        let expected = [0.1, 0.2 * e(-1.0), 0.3 * e(-0.5), 0.4, 0.0];
        assert_ratios(&after(frequency, &[3], &[1, 2, 1]), expected);
        let presence = Penalties { presence: -0.5, ..Penalties::default() };
        let expected = [0.1, 0.2 * e(0.5), 0.3 * e(0.5), 0.4, 0.0];
        assert_ratios(&after(presence, &[3], &[1, 2, 1]), expected);
    }

    #[test]
    fn repetition_is_a_power_and_counts_the_prompt_too() {
        let repetition = Penalties { repetition: 2.0, ..Penalties::default() };
        assert_ratios(&after(repetition, &[3], &[1, 1]), [0.1, 0.04, 0.3, 0.16, 0.0]);
    }

    #[test]
    fn a_bias_of_a_hundred_chooses_or_forbids_a_piece() {
        let bias = |id, bias| Penalties { bias: vec![(UnionId(id), bias)], ..Default::default() };
        assert_ratios(&after(bias(1, 100.0), &[], &[]), [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_ratios(&after(bias(4, 100.0), &[], &[]), [0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_ratios(&after(bias(3, -100.0), &[], &[]), [0.1, 0.2, 0.3, 0.0, 0.0]);
        let one = (1.0_f64).exp();
        assert_ratios(&after(bias(1, 1.0), &[], &[]), [0.1, 0.2 * one, 0.3, 0.4, 0.0]);
    }

    #[test]
    fn what_a_constraint_has_forbidden_stays_forbidden() {
        let params = Penalties { bias: vec![(UnionId(4), 100.0)], ..Default::default() };
        let mut mix = PROBS;
        Penalizer::new(params, []).apply(&mut mix);
        assert_eq!(mix[4], 0.0);
    }
}
