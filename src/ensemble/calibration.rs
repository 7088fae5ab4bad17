//! What a member would give a piece at other calibration temperatures.
//!
//! A distribution at the temperature `T` raised to `1/f` and scaled to 1 is the one at `f T`: the
//! logits are not needed. So one reading of a text tells what every temperature of a grid would
//! make of it.

use super::{Ensemble, Sequence};
use crate::{isa::Isa, sampling::powers, vocab::UnionId};

/// The temperatures that are told of, as multiples of the member's own.
pub const TEMPERATURE_FACTORS: [f32; 11] =
    [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0];

impl Ensemble {
    /// The natural logarithm of what each member that takes part gives the piece, at each of
    /// [`TEMPERATURE_FACTORS`]; empty for the others. Minus infinity where the piece is none of the
    /// member's.
    pub(super) fn calibrated(&self, sequence: &Sequence, id: UnionId) -> Vec<Vec<f32>> {
        let mut raised = Vec::new();
        let mut of_member = |member: usize| {
            let (map, probs) = (self.map(sequence, member), &sequence.states[member].probs);
            // What has no mass has none at any temperature, where `powers` leaves a trace.
            let has_mass = map.mass_of(probs, id) > 0.0;
            let mut at = |factor: f32| {
                raised.resize(probs.len(), 0.0);
                powers(Isa::best(), probs, factor.recip(), &mut raised);
                let total: f64 = raised.iter().map(|&mass| f64::from(mass)).sum();
                (f64::from(map.mass_of(&raised, id)).ln() - total.ln()) as f32
            };
            let told = TEMPERATURE_FACTORS.iter();
            told.map(|&factor| if has_mass { at(factor) } else { f32::NEG_INFINITY }).collect()
        };
        let takes_part = |member: usize| sequence.fusion.is_active(member);
        let members = 0..self.members.len();
        members.map(|it| if takes_part(it) { of_member(it) } else { Vec::new() }).collect()
    }
}
