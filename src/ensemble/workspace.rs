//! What a thread that steps one ensemble keeps from step to step.

use std::{
    mem,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use super::{Ensemble, mix::Mixture, prefix::Prefixes, score::Before};
use crate::model::Pool;

/// Scratch memory, kept texts and the clock of one ensemble's steps. Results do not depend on it.
pub struct Workspace {
    /// The most tokens a member reads in one step of texts that it has still to read.
    pub prefill: usize,
    pub prefixes: Prefixes,
    pub times: Times,
    /// The threads of the members, which are idle between their forwards.
    pub(super) pool: Pool,
    /// One for each thread.
    pub(super) desks: Vec<Desk>,
    /// Of the union.
    pub(super) pieces: usize,
}

/// Where the time of the steps so far went. What several threads did at once counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// Forward passes, by member; what is shared of prompts is looked for here too.
    pub forward: Vec<Duration>,
    /// Softmax, projection and mean.
    pub mix: Duration,
    /// The constraint's mask, and the draw.
    pub choose: Duration,
    /// Re-tokenization.
    pub commit: Duration,
}

/// What one thread needs to choose a sequence's next piece.
pub(super) struct Desk {
    pub(super) mixture: Mixture,
    pub(super) before: Before,
    pub(super) spent: Spent,
}

/// One thread's time, until it is added to [`Times`].
#[derive(Debug, Default)]
pub(super) struct Spent {
    pub(super) mix: Duration,
    pub(super) choose: Duration,
    pub(super) commit: Duration,
}

impl Workspace {
    /// At most `prefill` prompt tokens a step, and at most `kept` tokens of ended texts.
    pub fn new(ensemble: &Ensemble, prefill: usize, kept: usize) -> Self {
        let members = ensemble.members().iter();
        let pool = members.filter_map(|member| member.model.pool()).next().cloned();
        let pool = pool.unwrap_or_else(|| Pool::new(NonZeroUsize::MIN));
        let pieces = ensemble.union().size();
        let desk = || Desk {
            mixture: Mixture::new(pieces),
            before: Before::default(),
            spent: Spent::default(),
        };
        Self {
            prefill,
            prefixes: Prefixes::new(kept),
            times: Times {
                forward: vec![Duration::ZERO; ensemble.members().len()],
                mix: Duration::ZERO,
                choose: Duration::ZERO,
                commit: Duration::ZERO,
            },
            desks: (0..pool.threads()).map(|_| desk()).collect(),
            pool,
            pieces,
        }
    }
}

impl Times {
    pub fn total(&self) -> Duration {
        self.forward.iter().sum::<Duration>() + self.mix + self.choose + self.commit
    }

    /// Divides `passed` among the parts as the threads did, and clears what they spent.
    pub(super) fn share_out(&mut self, passed: Duration, desks: &mut [Desk]) {
        let all: Vec<Spent> = desks.iter_mut().map(|desk| mem::take(&mut desk.spent)).collect();
        let sum = |of: fn(&Spent) -> Duration| all.iter().map(of).sum::<Duration>().as_secs_f64();
        let parts = [sum(|spent| spent.mix), sum(|spent| spent.choose), sum(|spent| spent.commit)];
        let total: f64 = parts.iter().sum();
        if total > 0.0 {
            let [mix, choose, commit] = parts.map(|part| passed.mul_f64(part / total));
            self.mix += mix;
            self.choose += choose;
            self.commit += commit;
        }
    }
}

/// Adds what has passed since `lap` to `part`, and begins the next lap.
pub(super) fn lap(lap: &mut Instant, part: &mut Duration) {
    let now = Instant::now();
    *part += now - *lap;
    *lap = now;
}
