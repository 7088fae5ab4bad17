//! What an engine has done so far, for whoever watches it.
//!
//! The engine's thread writes, anyone reads: numbers of their own, not signals between threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::ensemble::{Agreement, Ensemble, Sequence, Workspace};

/// As it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that generate.
    pub running: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// The most that can run or wait; one more is refused.
    pub places: usize,
    /// In the order of the models' list.
    pub models: Vec<ModelCounters>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCounters {
    pub name: String,
    pub members: Vec<MemberCounters>,
    /// Of generations that have ended, with a gate: their steps, and those that it left to one.
    pub steps: u64,
    pub gated: u64,
    /// Of generations that have ended.
    pub agreement: Agreement,
}

/// What one member did for one ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberCounters {
    pub name: String,
    /// In forward passes.
    pub forward: Duration,
    /// Tokens that re-tokenization took back, of generations that have ended.
    pub rolled_back: u64,
    /// Generations that it failed.
    pub failures: u64,
}

/// The numbers behind [`Counters`].
pub(super) struct Tally {
    running: AtomicUsize,
    models: Vec<ModelTally>,
}

struct ModelTally {
    name: String,
    ensemble: Arc<Ensemble>,
    members: Vec<MemberTally>,
    steps: AtomicU64,
    gated: AtomicU64,
    agreed_steps: AtomicU64,
    agreed_millionths: AtomicU64,
}

#[derive(Default)]
struct MemberTally {
    forward_nanos: AtomicU64,
    rolled_back: AtomicU64,
    failures: AtomicU64,
}

impl Tally {
    pub(super) fn new(models: &[(String, Arc<Ensemble>)]) -> Self {
        let model = |(name, ensemble): &(String, Arc<Ensemble>)| ModelTally {
            name: name.clone(),
            members: ensemble.members().iter().map(|_| MemberTally::default()).collect(),
            ensemble: ensemble.clone(),
            steps: AtomicU64::new(0),
            gated: AtomicU64::new(0),
            agreed_steps: AtomicU64::new(0),
            agreed_millionths: AtomicU64::new(0),
        };
        Self { running: AtomicUsize::new(0), models: models.iter().map(model).collect() }
    }

    pub(super) fn set_running(&self, running: usize) {
        self.running.store(running, Relaxed);
    }

    /// Takes over the clock of an ensemble's steps.
    pub(super) fn set_times(&self, ensemble: &Arc<Ensemble>, work: &Workspace) {
        let Some(model) = self.model(ensemble) else { return };
        for (member, forward) in model.members.iter().zip(&work.times.forward) {
            let nanos = u64::try_from(forward.as_nanos()).unwrap_or(u64::MAX);
            member.forward_nanos.store(nanos, Relaxed);
        }
    }

    /// Counts what has ended after so many steps.
    pub(super) fn add_ended(&self, ensemble: &Arc<Ensemble>, sequence: &Sequence, steps: usize) {
        let Some(model) = self.model(ensemble) else { return };
        for (index, member) in model.members.iter().enumerate() {
            member.rolled_back.fetch_add(sequence.rolled_back(index) as u64, Relaxed);
            member.failures.fetch_add(sequence.has_lost(index).into(), Relaxed);
        }
        if let Some(gated) = sequence.gated() {
            model.steps.fetch_add(steps as u64, Relaxed);
            model.gated.fetch_add(gated as u64, Relaxed);
        }
        let Agreement { steps, millionths } = sequence.agreement();
        model.agreed_steps.fetch_add(steps, Relaxed);
        model.agreed_millionths.fetch_add(millionths, Relaxed);
    }

    /// `taken` are the requests that wait or run, out of `places`.
    pub(super) fn read(&self, taken: usize, places: usize) -> Counters {
        let running = self.running.load(Relaxed);
        let member = |(tally, member): (&MemberTally, &crate::ensemble::Member)| MemberCounters {
            name: member.name.clone(),
            forward: Duration::from_nanos(tally.forward_nanos.load(Relaxed)),
            rolled_back: tally.rolled_back.load(Relaxed),
            failures: tally.failures.load(Relaxed),
        };
        let model = |model: &ModelTally| ModelCounters {
            name: model.name.clone(),
            members: model.members.iter().zip(model.ensemble.members()).map(member).collect(),
            steps: model.steps.load(Relaxed),
            gated: model.gated.load(Relaxed),
            agreement: Agreement {
                steps: model.agreed_steps.load(Relaxed),
                millionths: model.agreed_millionths.load(Relaxed),
            },
        };
        Counters {
            running,
            waiting: taken.saturating_sub(running),
            places,
            models: self.models.iter().map(model).collect(),
        }
    }

    fn model(&self, ensemble: &Arc<Ensemble>) -> Option<&ModelTally> {
        self.models.iter().find(|model| Arc::ptr_eq(&model.ensemble, ensemble))
    }
}
