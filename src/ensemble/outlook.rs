//! What comes next in a text: what each member would say, and what they say together. Nothing is
//! chosen.

use std::mem;

use super::{Ensemble, Sequence, StepError, Workspace, gate::Turn, mix::Mixture};

/// Distributions over the union.
#[derive(Debug)]
pub struct Outlook {
    /// What the rule makes of all members that take part, whether or not a gate would ask them.
    pub mix: Vec<f32>,
    /// Each member's own, calibrated; `None` for one that takes no part.
    pub members: Vec<Option<Vec<f32>>>,
}

impl Ensemble {
    /// Lets every member read the sequence's text and says what would come next. The sequence goes
    /// on as it would have.
    ///
    /// # Errors
    /// As those of a step.
    pub fn outlook(&self, sequence: &mut Sequence) -> Result<Outlook, StepError> {
        let work = Workspace::new(self, usize::MAX, 0);
        let turn = mem::replace(&mut sequence.turn, Turn::Everyone);
        for member in 0..self.members.len() {
            let mut prefill = work.prefill;
            self.forward(member, &mut [&mut *sequence], &mut prefill, &work.prefixes);
        }
        self.listen(sequence, &work.pool);
        let mut mixture = Mixture::new(self.union().size());
        if sequence.failed.is_none() {
            self.mix(sequence, &mut mixture, &work.pool);
        }
        sequence.turn = turn;
        if let Some(error) = sequence.failed.take() {
            return Err(error);
        }
        let own = |member: usize| {
            sequence.fusion.is_active(member).then(|| {
                let mut own = vec![0.0; self.union().size()];
                let probs = &sequence.states[member].probs;
                self.map(sequence, member).project_into(probs, 1.0, &mut own);
                own
            })
        };
        Ok(Outlook {
            mix: mixture.into_masses(),
            members: (0..self.members.len()).map(own).collect(),
        })
    }
}
