//! The gate: where the primary is sure enough, it decides alone (GaC's thresholded ensemble,
//! arXiv 2406.12585, section 3.3).
//!
//! A step forwards the primary first. If its most probable piece, by its calibrated distribution
//! over pieces, has at least the threshold's probability, and the constraint allows that piece, the
//! next piece is drawn from the primary's distribution and the others do not run. What they have
//! missed they read in one forward at the next step that asks them, which changes nothing of what
//! they say then.
//!
//! - At a threshold of 0 the primary is the only member: others never run, and its tokens are
//!   appended as they are, so that the text is what it writes alone.
//! - Above 1 there is no gate.
//! - In between the text is re-tokenized for all, the primary too, as without a gate.

use super::{Ensemble, Sequence, mix::Mixture};
use crate::model::Pool;

/// Who chooses a sequence's next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The primary has not said anything yet.
    Open,
    Primary,
    Everyone,
}

impl Sequence {
    /// Whether a member is to be forwarded now.
    pub(super) fn asks(&self, member: usize) -> bool {
        let waits = match self.turn {
            Turn::Everyone => false,
            Turn::Open | Turn::Primary => member != self.fusion.primary,
        };
        self.fusion.is_active(member) && !self.states[member].ready && !waits
    }

    /// All who choose the next piece have read the whole text.
    pub(super) fn is_ready(&self) -> bool {
        match self.turn {
            Turn::Open => false,
            Turn::Primary => true,
            Turn::Everyone => self.fusion.active().all(|member| self.states[member].ready),
        }
    }

    /// The turn that a text begins with, and goes on with after a piece.
    pub(super) fn next_turn(&mut self) {
        self.turn = if self.fusion.gate().is_some() { Turn::Open } else { Turn::Everyone };
    }
}

impl Ensemble {
    /// Settles whose turn it is, where the primary has just spoken. True if that is everyone's and
    /// others have yet to be asked.
    pub(super) fn open_gate(
        &self,
        sequence: &mut Sequence,
        mixture: &mut Mixture,
        pool: &Pool,
    ) -> bool {
        let Some(threshold) = sequence.fusion.gate() else { return false };
        self.listen(sequence, pool);
        let primary = sequence.fusion.primary;
        if sequence.turn != Turn::Open || !sequence.states[primary].ready {
            return false;
        }
        let top = mixture.top(self.voice(sequence, primary), pool);
        let mut allowed =
            |id| sequence.matching.as_mut().is_none_or(|matching| matching.allows(id));
        let sure = top.is_some_and(|(id, mass)| f64::from(mass) >= threshold && allowed(id));
        let alone = sequence.fusion.active().count() == 1;
        sequence.turn = if sure || alone { Turn::Primary } else { Turn::Everyone };
        sequence.turn == Turn::Everyone
    }
}
