//! Whether a difference is shown: intervals, tests and verdicts on samples that two systems share.
//!
//! Pure: figures in, figures out. Every draw comes from the seed it is given.
//!
//! A task gives each system one [`Part`] a sample, in the same order: a score with size 1 (right
//! is 1 and wrong is 0), or the bits of a document with its bytes as the size. What is compared is
//! the ratio of the sums, so bits per byte are of all the bytes, and a document is drawn whole.

mod bootstrap;
mod chance;
mod normal;
mod power;

use std::fmt;

pub use bootstrap::{Estimate, estimate};
use chance::{holm, mcnemar, sign_flip};
pub use power::{detectable_difference, detectable_share};

/// What one sample adds to a ratio of two sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Its score, or what it took.
    pub value: f64,
    /// What `value` is counted per; above 0.
    pub size: f64,
}

impl Part {
    /// A sample that counts as one.
    pub fn one(value: f64) -> Self {
        Self { value, size: 1.0 }
    }

    /// A sample that is right or wrong.
    pub fn right(right: bool) -> Self {
        Self::one(f64::from(u8::from(right)))
    }

    fn is_right_or_wrong(self) -> bool {
        self.size == 1.0 && (self.value == 0.0 || self.value == 1.0)
    }
}

/// Which way a measure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// As with the share of right answers.
    Higher,
    /// As with bits per byte.
    Lower,
}

/// One task's samples of two systems, in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Paired<'a> {
    /// Of the system in question.
    pub ours: &'a [Part],
    /// Of the one it is held against. Each sample has the same size as in `ours`.
    pub theirs: &'a [Part],
    /// Which way the measure is good.
    pub better: Better,
    /// Scores are between 0 and 1.
    pub is_share: bool,
}

impl Paired<'_> {
    /// What each sample adds to the difference.
    fn differences(&self) -> Vec<Part> {
        assert_eq!(self.ours.len(), self.theirs.len(), "both systems have every sample");
        let pairs = self.ours.iter().zip(self.theirs);
        pairs.map(|(ours, theirs)| Part { value: ours.value - theirs.value, ..*ours }).collect()
    }
}

/// Where the p-value of a comparison comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The exact McNemar test, of samples that are right or wrong.
    McNemar,
    /// The sign-flip test, of other scores.
    SignFlip,
}

/// What the samples show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The system in question is better.
    Better,
    /// It is worse.
    Worse,
    /// These samples show neither.
    NotShown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NotShown => "not shown",
        })
    }
}

/// Two systems on one task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Ours less theirs, with its 95 % interval.
    pub difference: Estimate,
    /// What the p-value is of.
    pub test: Test,
    /// The two-sided p-value of this task alone.
    pub p: f64,
    /// The same, corrected for the number of tasks by Holm's method.
    pub adjusted_p: f64,
    /// In words: a direction only where the interval leaves 0 out and the corrected p-value is
    /// below [`LEVEL`].
    pub verdict: Verdict,
}

/// The chance of a false verdict that is put up with, over all tasks of one call of [`compare`].
pub const LEVEL: f64 = 0.05;

/// Holds one system against another on some tasks, which are corrected for together.
///
/// # Panics
/// If a task's two systems have not the same number of samples.
pub fn compare(tasks: &[Paired<'_>], seed: u64) -> Vec<Comparison> {
    let tested: Vec<(Estimate, Test, f64)> = tasks.iter().map(|task| test(task, seed)).collect();
    let adjusted = holm(&tested.iter().map(|&(_, _, p)| p).collect::<Vec<_>>());
    let outcomes = tasks.iter().zip(tested).zip(adjusted);
    let comparison = |((task, (difference, test, p)), adjusted_p): ((&Paired<'_>, _), f64)| {
        let verdict = verdict(&difference, adjusted_p, task.better);
        Comparison { difference, test, p, adjusted_p, verdict }
    };
    outcomes.map(comparison).collect()
}

fn test(task: &Paired<'_>, seed: u64) -> (Estimate, Test, f64) {
    let differences = task.differences();
    let difference = estimate(&differences, task.is_share.then_some((-1.0, 1.0)), seed);
    let all = || task.ours.iter().chain(task.theirs);
    if all().all(|part| part.is_right_or_wrong()) {
        let count = |value| differences.iter().filter(|part| part.value == value).count();
        (difference, Test::McNemar, mcnemar(count(1.0), count(-1.0)))
    } else {
        (difference, Test::SignFlip, sign_flip(&differences, seed))
    }
}

fn verdict(difference: &Estimate, adjusted_p: f64, better: Better) -> Verdict {
    if adjusted_p >= LEVEL || (difference.low <= 0.0 && difference.high >= 0.0) {
        return Verdict::NotShown;
    }
    match (difference.value > 0.0, better) {
        (true, Better::Higher) | (false, Better::Lower) => Verdict::Better,
        (true, Better::Lower) | (false, Better::Higher) => Verdict::Worse,
    }
}

#[cfg(test)]
mod tests;
