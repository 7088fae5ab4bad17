//! How near the members are to each other, step by step.

use super::{Ensemble, Sequence, gate::Turn};
use crate::vocab::UnionId;

/// Of steps that several members chose together: how near their probabilities of the chosen piece
/// were, 1 less the distance between the greatest and the least, in the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    pub steps: u64,
    /// Summed over the steps. Whole numbers add up to the same in every order.
    pub millionths: u64,
}

impl Agreement {
    /// Of one step, from what each member gave the piece; nothing of fewer than two members.
    pub fn of(given: impl IntoIterator<Item = f32>) -> Self {
        let mut members = 0;
        let range = |(least, most): (f32, f32), p: f32| (least.min(p), most.max(p));
        let counted = given.into_iter().inspect(|_| members += 1);
        let (least, most) = counted.fold((f32::INFINITY, 0.0), range);
        if members < 2 {
            return Self::default();
        }
        let near = f64::from(1.0 - (most - least)).clamp(0.0, 1.0);
        Self { steps: 1, millionths: (near * 1e6).round() as u64 }
    }

    /// From 0 to 1; `None` of no steps.
    pub fn rate(self) -> Option<f64> {
        let sum = self.millionths as f64 / 1e6;
        (self.steps > 0).then(|| sum / self.steps as f64)
    }
}

impl std::ops::AddAssign for Agreement {
    fn add_assign(&mut self, more: Self) {
        self.steps += more.steps;
        self.millionths += more.millionths;
    }
}

impl Ensemble {
    /// What the step that has just chosen a piece adds; nothing where one member decided.
    pub(super) fn agreement_on(&self, sequence: &Sequence, id: UnionId) -> Agreement {
        if sequence.turn != Turn::Everyone {
            return Agreement::default();
        }
        let given = |member: usize| {
            let (tokenizer, probs) =
                (&self.members[member].tokenizer, &sequence.states[member].probs);
            if sequence.opening {
                return self.map(sequence, member).mass_of(probs, id);
            }
            match self.tokens(member)[id.0 as usize] {
                Some(token) => probs[token.0 as usize],
                None if id == self.union().end() => {
                    tokenizer.stops().iter().map(|stop| probs[stop.0 as usize]).sum()
                }
                None => 0.0,
            }
        };
        Agreement::of(sequence.fusion.active().map(given))
    }
}
