//! A report: a plan, its sections written in parallel on one engine, an introduction and a
//! conclusion written from them, one document.
//!
//! Knows [`Generate`] and nothing below it: not that there is an ensemble, no sockets, no
//! tensors. Never prints: what happens is told as [`ReportEvent`]s, and [`progress`] is one
//! listener; [`runs`] keeps them on the disk.
//!
//! The pipeline is [`write`]. Its rules:
//!
//! - **Seeds.** Every generation of a report has a number: the plan 0, the plan asked for again
//!   1, section `i` (from 0) `2 * (i + 1)`, the same section tried again `2 * (i + 1) + 1`,
//!   the sections that a plan lacks, asked for up to three times, the three after those of the
//!   last section there can be ([`MAX_SECTIONS`] is 12, so 26 to 28), the introduction 29 and 30,
//!   the conclusion 31 and 32; try `t` (from 0) of what has number `n` has `n + 33 (t - 1)` from
//!   the third on. Generation `n` is seeded with the `n`-th output of SplitMix64
//!   started at the report's seed, so a seeded report does not depend on the timing of its
//!   workers, nor on whether it was written at one go.
//! - **Plan.** The schema bounds the number of sections and the length of every text. A plan
//!   that is unfinished, has too few sections, has nameless or equally named ones, or is the
//!   example's and not the topic's is asked for once more, naming what was wrong. If that is no
//!   better, the usable sections of both answers together make the plan, and the planner is asked
//!   for those it lacks. If a number of sections was asked for and there still are fewer, the
//!   report has those there are and says so in its facts. A plan that is given is taken as it is.
//! - **Language.** The planner names the topic's language first, out of those its script allows,
//!   and the workers are told to write in it.
//! - **Sections.** One that fails, is empty, loops or does not end within its budget is tried
//!   again with another seed and told what was wrong, once if the request does not say how often.
//!   If no try is whole, the best one stands in the document: of those that the budget ended the
//!   longest, up to its last whole sentence if one ends in its second half, else with a visible
//!   "…"; a line under it says that the budget ended it. If there is none either, a visible gap.
//! - **Length.** The workers are told a number of words that fits `max_tokens`. Small models
//!   rarely keep to it: of the 27 parts of four reports by the default ensemble 6 did not end in
//!   400 tokens (200 of an introduction or a conclusion). Of 4 such a second try ended 2.
//! - **Synthesis.** Introduction and conclusion are written at the same time, from the beginnings
//!   of all sections, cut so that they fit a small context. A report of one section has none, nor
//!   has one whose plan brings them.
//! - **Text.** Code fences around everything, preambles ("Sure, here is ..."), repeated headings
//!   and text that runs on into another section are removed by rule, and counted in [`Tidied`].
//! - **Sessions.** What is finished is not written again: [`write`] takes what earlier sessions
//!   have [`Done`] and asks for the rest with the same prompts and seeds. So the document of a run
//!   that was interrupted is byte for byte that of one that was not; for that it says no times,
//!   which are in [`Facts`]. An engine that stops ends the session and makes no gaps.

mod ask;
pub mod compare;
mod document;
mod event;
pub mod export;
mod file;
mod language;
mod loops;
mod markdown;
mod measures;
mod plan;
pub mod progress;
mod prompts;
mod request;
pub mod runs;
mod score;
mod section;
mod sentence;
mod synthesis;
mod tidy;

use std::{sync::Arc, time::Instant};

use futures::future::try_join_all;
use tokio::sync::mpsc;

use crate::engine::{Generate, GenerateError, ModelCard};

pub use event::{Agreement, Done, Facts, Lost, Part, Report, ReportEvent, Tokens};
pub use file::{DocumentError, check_destination, write_document};
pub use measures::{Measures, Overall, Structure, measures};
pub use plan::{Plan, PlanFault, Planned, PlannedSection};
pub use request::{
    MAX_RETRIES, MAX_SECTIONS, MAX_TOPIC_BYTES, MIN_SECTION_TOKENS, ReportError, ReportRequest,
    USUAL_RETRIES,
};
pub use score::{Bits, score};
pub use section::{Outcome, Section, SectionFault};
pub use tidy::Tidied;

/// Events told but not yet listened to; a listener that is behind holds the workers back.
const EVENTS_AHEAD: usize = 64;

/// Plans and writes what of a report is not done, telling `observer` what happens.
///
/// Dropping the future cancels all that is being generated for it.
pub async fn write(
    engine: Arc<dyn Generate>,
    request: &ReportRequest,
    done: Done,
    observer: &mut (dyn FnMut(ReportEvent) + Send),
) -> Result<Report, ReportError> {
    session(&*engine, request, observer, async |run| {
        let report = run.to_the_end(done).await?;
        run.tell(ReportEvent::Finished(report.facts.clone())).await;
        Ok(report)
    })
    .await
}

/// Plans a report and stops there, so that a person can look at the plan; [`write`] goes on.
pub async fn plan(
    engine: Arc<dyn Generate>,
    request: &ReportRequest,
    done: Done,
    observer: &mut (dyn FnMut(ReportEvent) + Send),
) -> Result<Planned, ReportError> {
    session(&*engine, request, observer, async |run| {
        run.start(&done).await?;
        run.planned(&done).await
    })
    .await
}

/// Runs `work` while the observer listens; what it fails for is the last event.
async fn session<T>(
    engine: &dyn Generate,
    request: &ReportRequest,
    observer: &mut (dyn FnMut(ReportEvent) + Send),
    work: impl AsyncFnOnce(&Run<'_>) -> Result<T, ReportError>,
) -> Result<T, ReportError> {
    let (events, mut told) = mpsc::channel(EVENTS_AHEAD);
    let run = async {
        // Moved in, so that the channel closes when the run ends.
        let run = Run { engine, request, events };
        let result = work(&run).await;
        if let Err(error) = &result {
            run.tell(ReportEvent::Failed { reason: error.to_string() }).await;
        }
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
    /// What writes.
    async fn start(&self, done: &Done) -> Result<ModelCard, ReportError> {
        self.request.check()?;
        let card = card(self.engine, &self.request.model)?;
        let now = card.fusion.clone();
        if let Some(then) = done.fusion.clone().filter(|then| *then != now) {
            return Err(ReportError::OtherModels { then, now });
        }
        let resumed = done.fusion.is_some();
        self.tell(ReportEvent::Started { resumed, fusion: now }).await;
        Ok(card)
    }

    async fn planned(&self, done: &Done) -> Result<Planned, ReportError> {
        match &done.planned {
            Some(planned) => Ok(planned.clone()),
            None => plan::plan(self).await,
        }
    }

    async fn to_the_end(&self, done: Done) -> Result<Report, ReportError> {
        let started = Instant::now();
        let card = self.start(&done).await?;
        let Planned { plan, usage: mut total, short_of, .. } = self.planned(&done).await?;
        let workers =
            (0..plan.sections.len()).map(|index| section::of_plan(self, &plan, index, &done));
        let sections = try_join_all(workers).await?;
        if let Some(fault) = sections.iter().map(Section::gap).collect::<Option<Vec<_>>>() {
            return Err(ReportError::NothingWritten { fault: fault[0].clone() });
        }
        let (introduction, conclusion) = synthesis::write(self, &plan, &sections, &done).await?;
        for section in introduction.iter().chain(&sections).chain(&conclusion) {
            total += section.usage;
        }
        let facts = Facts {
            model: self.request.model.clone(),
            members: card.members,
            fusion: card.fusion,
            seed: self.request.sampling.seed,
            short_of,
            usage: total,
            seconds: done.seconds + started.elapsed().as_secs_f64(),
        };
        let topic = self.request.topic.clone();
        Ok(Report { topic, plan, introduction, sections, conclusion, facts })
    }

    async fn tell(&self, event: ReportEvent) {
        self.events.send(event).await.expect("the listener outlives the run");
    }
}

/// What is asked for by a name.
fn card(engine: &dyn Generate, model: &str) -> Result<ModelCard, ReportError> {
    let mut cards = engine.models();
    match cards.iter().position(|card| card.name == model) {
        Some(at) => Ok(cards.swap_remove(at)),
        None => Err(ReportError::Plan(GenerateError::UnknownModel {
            name: model.to_owned(),
            available: cards.into_iter().map(|card| card.name).collect(),
        })),
    }
}
