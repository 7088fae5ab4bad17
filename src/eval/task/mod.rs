//! Tasks: samples, how a system is asked about each, and what its answer scores.
//!
//! Knows requests and answers, and not who runs them, in which order, or what is kept.

mod bpb;
mod choice;
mod exact;
mod json;
mod masses;
mod program;
mod report;

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::{Item, Sample, System, ask::Asker, sandbox::Sandbox, stats::Part};
use crate::engine::GenerateError;

pub use choice::Frame;
pub use program::{Problem, program};
pub use report::Reports;

/// A named data set and how it is asked.
#[derive(Clone, Debug)]
pub struct Task {
    /// As the tables call it.
    pub name: String,
    pub kind: Kind,
    pub samples: Vec<Sample>,
    /// Where the samples are from, by sums.
    pub sources: Vec<Source>,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Source {
    pub name: String,
    pub sha256: String,
}

/// How samples are asked and scored.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Bits per byte of a text, of which this many bytes are read.
    BitsPerByte { bytes: usize },
    /// What each member gives each piece of a text, of which this many bytes are read: what
    /// [`tune`](super::tune) reads.
    Masses { bytes: usize },
    /// The most probable of some continuations.
    Choice(Frame),
    /// A written answer whose last number is the right one.
    Exact { max_tokens: usize },
    /// A Python function that passes its tests.
    Program { max_tokens: usize, sandbox: Sandbox },
    /// JSON that keeps a schema, asked for with the constraint and without.
    Json { max_tokens: usize },
    /// A report, in what can be said of it without a judge.
    Report(Reports),
}

/// A figure that a task gives for each sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    /// From 0 to 1, and told in percent.
    pub is_share: bool,
    pub lower_is_better: bool,
    /// Of a system whose members have several vocabularies it is an upper bound; see
    /// [`lattice`](super::lattice).
    pub bound: bool,
}

/// What a system's answer to a sample came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub prompt: String,
    pub output: String,
    /// By the names of the task's metrics.
    pub scores: BTreeMap<&'static str, Part>,
    /// Pieces that were scored or written.
    pub tokens: usize,
    pub prompt_tokens: usize,
    /// Of the pieces written, those that the gate left to the primary; `None` without a gate.
    pub gated: Option<usize>,
    /// What else the score can be made from again.
    pub detail: Value,
}

/// Why a sample has no score.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    #[error(transparent)]
    Engine(#[from] GenerateError),
    #[error("the text has no probability: {system} gives none to any way to cut it")]
    NoMass { system: String },
    #[error("the sample is {found}, which {task} does not ask about")]
    WrongItem { task: &'static str, found: &'static str },
    #[error("the schema of the sample is none: {reason}")]
    Schema { reason: String },
    #[error("there is no report: {reason}")]
    Report { reason: String },
    #[error("the program could not be run: {reason}")]
    Sandbox { reason: String },
}

impl Kind {
    /// The first is the one that the best member is chosen by.
    pub fn metrics(&self) -> &'static [Metric] {
        const fn share(name: &'static str) -> Metric {
            Metric { name, is_share: true, lower_is_better: false, bound: false }
        }
        match self {
            Self::BitsPerByte { .. } | Self::Masses { .. } => &[Metric {
                name: "bits per byte",
                is_share: false,
                lower_is_better: true,
                bound: true,
            }],
            Self::Choice(_) => const { &[share("right, per byte"), share("right, sum")] },
            Self::Exact { .. } => const { &[share("right")] },
            Self::Program { .. } => const { &[share("passes")] },
            Self::Json { .. } => const { &[share("valid, constrained"), share("valid, free")] },
            Self::Report(_) => {
                const {
                    &[
                        share("coverage"),
                        Metric { lower_is_better: true, ..share("said again") },
                        share("language kept"),
                        share("length reached"),
                    ]
                }
            }
        }
    }
}

impl Task {
    /// Makes what all systems are given alike and a model has to make first: the plan of a report.
    /// One that fails is told by [`solve`](Self::solve), which tries again.
    pub async fn prepare(&self, asker: &Asker, sample: &Sample) {
        if let (Kind::Report(reports), Item::Topic(topic)) = (&self.kind, &sample.item) {
            drop(reports.plan(asker, topic).await);
        }
    }

    /// Asks a system about one of the samples.
    ///
    /// # Errors
    /// If the engine fails or refuses, or the sample is not of this task's shape.
    pub async fn solve(
        &self,
        asker: &Asker,
        system: &System,
        sample: &Sample,
    ) -> Result<Outcome, TaskError> {
        match (&self.kind, &sample.item) {
            (&Kind::BitsPerByte { bytes }, Item::Text(text)) => {
                bpb::solve(asker, system, cut(text, bytes)).await
            }
            (&Kind::Masses { bytes }, Item::Text(text)) => {
                masses::solve(asker, system, cut(text, bytes)).await
            }
            (Kind::Choice(frame), Item::Choice { stem, choices, answer }) => {
                choice::solve(asker, system, &frame.around(stem), (choices, *answer)).await
            }
            (&Kind::Exact { max_tokens }, Item::Exact { question, answer }) => {
                exact::solve(asker, system, (question, answer), max_tokens).await
            }
            (
                Kind::Program { max_tokens, sandbox },
                Item::Program { prompt, tests, entry_point },
            ) => {
                let problem = Problem { prompt, tests, entry_point };
                program::solve(asker, system, problem, (sandbox, *max_tokens)).await
            }
            (&Kind::Json { max_tokens }, Item::Json { instruction, schema }) => {
                json::solve(asker, system, (instruction, schema), max_tokens).await
            }
            (Kind::Report(reports), Item::Topic(topic)) => {
                report::solve(asker, system, topic, reports).await
            }
            (kind, item) => Err(TaskError::WrongItem { task: kind.called(), found: item.called() }),
        }
    }
}

/// How samples are asked, for the log.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BitsPerByte { bytes } => write!(f, "bits per byte of the first {bytes} bytes"),
            Self::Masses { bytes } => {
                write!(f, "what each member gives each piece of the first {bytes} bytes")
            }
            Self::Choice(Frame::None) => f.write_str("the most probable continuation"),
            Self::Choice(Frame::Question) => f.write_str("the most probable answer, no examples"),
            Self::Exact { max_tokens } => {
                write!(f, "the last number of a greedy answer of at most {max_tokens} tokens")
            }
            Self::Program { max_tokens, .. } => {
                write!(f, "a greedy continuation of at most {max_tokens} tokens passes the tests")
            }
            Self::Json { max_tokens } => {
                write!(f, "greedy JSON of at most {max_tokens} tokens, held to its schema and free")
            }
            Self::Report(reports) => reports.fmt(f),
        }
    }
}

impl Kind {
    fn called(&self) -> &'static str {
        match self {
            Self::BitsPerByte { .. } => "bits per byte",
            Self::Masses { .. } => "what members give",
            Self::Choice(_) => "multiple choice",
            Self::Exact { .. } => "an exact answer",
            Self::Program { .. } => "programs",
            Self::Json { .. } => "keeping a schema",
            Self::Report(_) => "reports",
        }
    }
}

impl Item {
    fn called(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Choice { .. } => "a choice",
            Self::Exact { .. } => "a question",
            Self::Program { .. } => "a program",
            Self::Json { .. } => "an instruction with a schema",
            Self::Topic(_) => "a topic",
        }
    }
}

/// The beginning of a text, up to so many bytes, in whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
