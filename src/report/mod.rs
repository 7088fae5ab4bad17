//! A report: a plan, its sections written in parallel on one engine, one Markdown document.
//!
//! Knows [`Generate`] and nothing below it: not that there is an ensemble, no sockets, no
//! tensors. Never prints: what happens is told as [`ReportEvent`]s, and [`progress`] is one
//! listener.
//!
//! The pipeline is [`write`]. Its rules:
//!
//! - **Seeds.** Every generation of a report has a number: the plan 0, the plan asked for again
//!   1, section `i` (from 0) `2 * (i + 1)`, the same section tried again `2 * (i + 1) + 1`,
//!   and the sections that a plan lacks, asked for up to three times, the three after those of
//!   the last section there can be: [`MAX_SECTIONS`] is 12, so 26 to 28.
//!   Generation `n` is seeded with the `n`-th output of SplitMix64 started at the report's seed,
//!   so a seeded report does not depend on the timing of its workers.
//! - **Plan.** The schema bounds the number of sections and the length of every text. A plan
//!   that is unfinished, has too few sections, has nameless or equally named ones, or is the
//!   example's and not the topic's is asked for once more, naming what was wrong. If that is no
//!   better, the usable sections of both answers together make the plan, and the planner is asked
//!   for those it lacks. If a number of sections was asked for and there still are fewer, the
//!   report has those there are and says so in its facts.
//! - **Language.** The planner names the topic's language first, out of those its script allows,
//!   and the workers are told to write in it.
//! - **Sections.** One that fails, is empty or loops is tried once more with another seed; if
//!   that does not help it stands in the document as a visible gap. One that reaches
//!   `max_tokens` keeps its text up to the last whole sentence, if one ends in its second half,
//!   and counts in the facts at the end of the document.
//! - **Text.** Code fences around everything, preambles ("Sure, here is ..."), repeated headings
//!   and text that runs on into another section are removed by rule, and counted in [`Tidied`].

mod ask;
mod document;
mod language;
mod loops;
mod markdown;
mod plan;
pub mod progress;
mod prompts;
mod section;
mod sentence;
mod tidy;

use std::{sync::Arc, time::Instant};

use futures::future::join_all;
use tokio::sync::mpsc;

use crate::{
    engine::{Generate, GenerateError, Usage},
    sampling::{self, SamplingParams},
};

pub use document::{DocumentError, check_destination, write_document};
pub use plan::{Plan, PlanFault, Planned, PlannedSection};
pub use section::{Outcome, Section, SectionFault};
pub use tidy::Tidied;

/// The most sections that can be asked for.
pub const MAX_SECTIONS: usize = 12;
/// The fewest tokens a section can be given.
pub const MIN_SECTION_TOKENS: usize = 16;
/// The number of sections if none is asked for.
const USUAL_SECTIONS: std::ops::RangeInclusive<usize> = 3..=6;
/// Events told but not yet listened to; a listener that is behind holds the workers back.
const EVENTS_AHEAD: usize = 64;

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportRequest {
    /// In any language; the report keeps it.
    pub topic: String,
    /// A name out of [`Generate::models`].
    pub model: String,
    /// Exactly so many sections, 1 to [`MAX_SECTIONS`]; `None` leaves 3 to 6 to the planner.
    pub sections: Option<usize>,
    /// The most tokens of one section.
    pub max_tokens: usize,
    /// The most tokens of the plan; `None` allows what a plan of that many sections can need.
    pub plan_max_tokens: Option<usize>,
    /// The seed is the report's; each generation draws its own from it.
    pub sampling: SamplingParams,
}

impl ReportRequest {
    /// What is wrong with the request whatever the models are. [`write`] checks it too; ask
    /// before the models are loaded to refuse early.
    pub fn check(&self) -> Result<(), ReportError> {
        if self.topic.trim().is_empty() {
            return Err(ReportError::EmptyTopic);
        }
        if let Some(asked) = self.sections
            && !(1..=MAX_SECTIONS).contains(&asked)
        {
            return Err(ReportError::SectionCount { asked });
        }
        if self.max_tokens < MIN_SECTION_TOKENS {
            return Err(ReportError::SectionBudget { asked: self.max_tokens });
        }
        Ok(())
    }

    fn section_bounds(&self) -> std::ops::RangeInclusive<usize> {
        self.sections.map_or(USUAL_SECTIONS, |n| n..=n)
    }

    /// The sampling of generation `number`, see the module's rules.
    fn sampling_of(&self, number: usize) -> SamplingParams {
        SamplingParams {
            seed: sampling::split_mix(self.sampling.seed, number as u64),
            ..self.sampling.clone()
        }
    }
}

/// What happens while a report is written, in order. `Finished` or `Failed` is the last.
#[derive(Clone, Debug, PartialEq)]
pub enum ReportEvent {
    PlanStarted {
        max_tokens: usize,
    },
    PlanDelta {
        text: String,
        tokens: usize,
    },
    /// What the planner answered is no usable plan; it is asked again, or for what is missing.
    PlanRefused {
        fault: PlanFault,
    },
    Planned(Planned),
    SectionStarted {
        index: usize,
        max_tokens: usize,
    },
    /// Text as the model says it, before it is tidied, and the fused steps that led to it.
    SectionDelta {
        index: usize,
        text: String,
        tokens: usize,
    },
    /// What came so far is dropped; the section is written again from its start.
    SectionRetried {
        index: usize,
        fault: SectionFault,
    },
    SectionFinished {
        index: usize,
        section: Section,
    },
    /// The engine's queue is full; the plan (`None`) or a section waits for its turn.
    Queued {
        index: Option<usize>,
        waiting: usize,
    },
    Finished(Facts),
    Failed(ReportError),
}

/// A written report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub plan: Plan,
    /// In the plan's order.
    pub sections: Vec<Section>,
    pub facts: Facts,
}

/// How a report came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub model: String,
    /// The members' names; a single model has itself.
    pub members: Vec<String>,
    pub seed: u64,
    /// The number of sections asked for, if fewer could be planned.
    pub short_of: Option<usize>,
    /// Of all generations, the dropped ones included.
    pub usage: Usage,
    /// Wall time from the request to the last section.
    pub seconds: f64,
}

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    #[error("the topic is empty; say what the report is about")]
    EmptyTopic,
    #[error("a report cannot have {asked} sections; ask for 1 to {MAX_SECTIONS}")]
    SectionCount { asked: usize },
    #[error("{asked} tokens are too few for a section; allow at least {MIN_SECTION_TOKENS}")]
    SectionBudget { asked: usize },
    #[error("the plan could not be written: {0}")]
    Plan(GenerateError),
    #[error(
        "the planner gave no usable plan, asked {asked} times: {fault}; try another seed or model"
    )]
    UnusablePlan { fault: PlanFault, asked: usize },
    #[error("no section could be written; the first one: {fault}")]
    NothingWritten { fault: SectionFault },
}

/// Plans and writes a report, telling `observer` what happens.
///
/// Dropping the future cancels all that is being generated for it.
pub async fn write(
    engine: Arc<dyn Generate>,
    request: ReportRequest,
    observer: &mut (dyn FnMut(ReportEvent) + Send),
) -> Result<Report, ReportError> {
    let (events, mut told) = mpsc::channel(EVENTS_AHEAD);
    let run = async {
        // Moved in, so that the channel closes when the run ends.
        let run = Run { engine: &*engine, request: &request, events };
        let result = run.to_the_end().await;
        run.tell(match &result {
            Ok(report) => ReportEvent::Finished(report.facts.clone()),
            Err(error) => ReportEvent::Failed(error.clone()),
        })
        .await;
        result
    };
    let listen = async {
        while let Some(event) = told.recv().await {
            observer(event);
        }
    };
    let (result, ()) = tokio::join!(run, listen);
    result
}

/// What the plan and all workers share.
struct Run<'a> {
    engine: &'a dyn Generate,
    request: &'a ReportRequest,
    events: mpsc::Sender<ReportEvent>,
}

impl Run<'_> {
    async fn to_the_end(&self) -> Result<Report, ReportError> {
        let started = Instant::now();
        self.request.check()?;
        let members = self.members()?;
        let Planned { plan, usage: mut total, short_of, .. } = plan::plan(self).await?;
        let workers = (0..plan.sections.len()).map(|index| section::write(self, &plan, index));
        let sections = join_all(workers).await;
        if let Some(fault) = sections.iter().map(Section::gap).collect::<Option<Vec<_>>>() {
            return Err(ReportError::NothingWritten { fault: fault[0].clone() });
        }
        for section in &sections {
            add(&mut total, section.usage);
        }
        let facts = Facts {
            model: self.request.model.clone(),
            members,
            seed: self.request.sampling.seed,
            short_of,
            usage: total,
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok(Report { plan, sections, facts })
    }

    fn members(&self) -> Result<Vec<String>, ReportError> {
        let mut cards = self.engine.models();
        match cards.iter().position(|card| card.name == self.request.model) {
            Some(at) => Ok(cards.swap_remove(at).members),
            None => Err(ReportError::Plan(GenerateError::UnknownModel {
                name: self.request.model.clone(),
                available: cards.into_iter().map(|card| card.name).collect(),
            })),
        }
    }

    async fn tell(&self, event: ReportEvent) {
        self.events.send(event).await.expect("the listener outlives the run");
    }
}

fn add(total: &mut Usage, more: Usage) {
    total.prompt_tokens += more.prompt_tokens;
    total.completion_tokens += more.completion_tokens;
    total.gated = total.gated.into_iter().chain(more.gated).reduce(|a, b| a + b);
}
