//! What a thread that steps one ensemble keeps from step to step.

use std::time::{Duration, Instant};

use super::{Ensemble, mix::Mixture, prefix::Prefixes};

/// Scratch memory, kept texts and the clock of one ensemble's steps. Results do not depend on it.
pub struct Workspace {
    /// The most tokens a member reads in one step of texts that it has still to read.
    pub prefill: usize,
    pub prefixes: Prefixes,
    pub times: Times,
    pub(super) mixture: Mixture,
}

/// Where the time of the steps so far went.
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

impl Workspace {
    /// At most `prefill` prompt tokens a step, and at most `kept` tokens of ended texts.
    pub fn new(ensemble: &Ensemble, prefill: usize, kept: usize) -> Self {
        Self {
            prefill,
            prefixes: Prefixes::new(kept),
            times: Times {
                forward: vec![Duration::ZERO; ensemble.members().len()],
                mix: Duration::ZERO,
                choose: Duration::ZERO,
                commit: Duration::ZERO,
            },
            mixture: Mixture::new(ensemble.union().size()),
        }
    }
}

impl Times {
    pub fn total(&self) -> Duration {
        self.forward.iter().sum::<Duration>() + self.mix + self.choose + self.commit
    }
}

/// Adds what has passed since `lap` to `part`, and begins the next lap.
pub(super) fn lap(lap: &mut Instant, part: &mut Duration) {
    let now = Instant::now();
    *part += now - *lap;
    *lap = now;
}
