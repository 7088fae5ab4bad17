//! How probable a piece was, for those who ask.
//!
//! Reads the distributions of a step and changes nothing.

use super::{Ensemble, Sequence, gate::Turn, mix::Mixture};
use crate::vocab::UnionId;

/// What is told of each piece of the text.
///
/// Log-probabilities are natural, of the fused distribution at temperature 1 under the constraint:
/// before penalties and bias, `min_tokens`, temperature and the cuts of sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logprobs {
    /// How many of the most probable pieces are told beside the chosen one.
    pub top: usize,
    /// What each member gave the piece is told too.
    pub members: bool,
    /// What each would give it at other calibration temperatures is told as well.
    pub calibrated: bool,
    /// The pieces of a raw prompt that end after so many of its bytes are told as well (0 for all
    /// of them); of a conversation that is refused. What comes before may be taken over from a
    /// text that begins alike.
    pub prompt: Option<usize>,
}

/// What is told of one piece.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// `None` for a text's first piece, which nothing comes before.
    pub logprob: Option<f32>,
    /// The most probable pieces at this place, `End` included, most probable first; of equals the
    /// one first in byte order. Those that cannot come (mass 0) are left out.
    pub top: Vec<ScoredAlternative>,
    /// In the members' order, which is that of the model's card; empty unless asked for.
    pub members: Vec<Vote>,
    /// In the members' order: the natural logarithm of what each that takes part would give the
    /// piece at each of [`TEMPERATURE_FACTORS`](super::TEMPERATURE_FACTORS), where all took part
    /// in the step. Empty unless asked for.
    pub calibrated: Vec<Vec<f32>>,
}

/// A piece that might have come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredAlternative {
    /// Its bytes are in the union.
    pub id: UnionId,
    pub logprob: f32,
}

/// What one member gave a piece.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote {
    /// Its share of the mixture at this step; 0 if it did not run.
    pub weight: f32,
    /// The member's own, at temperature 1 and before any constraint; `None` if it did not run.
    pub probability: Option<f32>,
}

/// A distribution as it was before penalties and bias changed it, kept until a piece is chosen.
#[derive(Debug, Default)]
pub(super) struct Before {
    masses: Vec<f32>,
    log_total: f64,
}

impl Before {
    pub(super) fn keep(&mut self, mixture: &mut Mixture) {
        self.log_total = mixture.total().ln();
        self.masses.clear();
        self.masses.extend_from_slice(mixture.masses());
    }

    fn logprob(&self, index: usize) -> f32 {
        (f64::from(self.masses[index]).ln() - self.log_total) as f32
    }

    /// The `count` most probable pieces.
    fn top(&self, count: usize) -> Vec<ScoredAlternative> {
        if count == 0 {
            return Vec::new();
        }
        let mut best: Vec<usize> = Vec::with_capacity(count + 1);
        let mut least = 0.0;
        for (index, &mass) in self.masses.iter().enumerate() {
            if mass > least {
                let at = best.partition_point(|&other| self.masses[other] >= mass);
                best.insert(at, index);
                best.truncate(count);
                if best.len() == count {
                    least = self.masses[best[count - 1]];
                }
            }
        }
        let told = |index: usize| ScoredAlternative {
            id: UnionId(u32::try_from(index).expect("a union has fewer than 2^32 pieces")),
            logprob: self.logprob(index),
        };
        best.into_iter().map(told).collect()
    }
}

impl Ensemble {
    /// What is told of a piece; `before` is of this step, and so are the members' distributions.
    pub(super) fn score(
        &self,
        sequence: &Sequence,
        before: &Before,
        id: UnionId,
        wanted: Logprobs,
    ) -> Score {
        let weights = if wanted.members { sequence.weights() } else { Vec::new() };
        let vote = |member: usize| {
            let weight = match sequence.turn {
                Turn::Primary => f32::from(u8::from(member == sequence.fusion.primary)),
                Turn::Open | Turn::Everyone => weights[member],
            };
            let given = || self.map(sequence, member).mass_of(&sequence.states[member].probs, id);
            Vote { weight, probability: (weight > 0.0).then(given) }
        };
        let members = if wanted.members { 0..self.members.len() } else { 0..0 };
        let calibrated = wanted.calibrated && sequence.turn != Turn::Primary;
        Score {
            logprob: Some(before.logprob(id.0 as usize)),
            top: before.top(wanted.top),
            members: members.map(vote).collect(),
            calibrated: if calibrated { self.calibrated(sequence, id) } else { Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_what_a_full_sort_gives_and_its_mass_is_relative() {
        let mix: Vec<f32> = (0..500).map(|i| ((i * 7919) % 97) as f32 / 200.0).collect();
        let mut before = Before::default();
        let mut mixture = Mixture::new(mix.len());
        mixture.masses_mut().copy_from_slice(&mix);
        before.keep(&mut mixture);
        let total: f64 = mix.iter().map(|&mass| f64::from(mass)).sum();
        let mut order: Vec<usize> = (0..500).filter(|&i| mix[i] > 0.0).collect();
        order.sort_by(|&a, &b| mix[b].total_cmp(&mix[a]).then(a.cmp(&b)));
        for count in [0, 1, 5, 499, 1000] {
            let top = before.top(count);
            let ids: Vec<usize> = top.iter().map(|piece| piece.id.0 as usize).collect();
            assert_eq!(ids, order[..count.min(order.len())]);
            for piece in top {
                let share = f64::from(mix[piece.id.0 as usize]) / total;
                assert!((f64::from(piece.logprob) - share.ln()).abs() < 1e-6);
                assert_eq!(piece.logprob, before.logprob(piece.id.0 as usize));
            }
        }
    }
}
