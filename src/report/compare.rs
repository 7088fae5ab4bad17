//! The same report by an ensemble and by each of its members alone, on one plan, side by side.
//!
//! The ensemble plans and writes; then each member writes the same sections with the same seeds,
//! one after the other, so that their times can be compared. Then each model says how probable it
//! finds the others' texts. Every report is a run of its own in the store, and what is done is not
//! done again.

use std::sync::Arc;

use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::{
    Measures, Overall, Plan, Report, ReportError, ReportEvent, ReportRequest, Section,
    measures::measures,
    runs::{self, Runs, RunsError, Session, SessionError, State},
    score::{Bits, score},
};
use crate::{
    engine::{Generate, GenerateError},
    report,
};

/// One plan, written by several models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The run of the model that planned.
    pub id: String,
    pub topic: String,
    pub plan: Plan,
    pub seed: u64,
    /// The most tokens of a section.
    pub max_tokens: usize,
    /// First the one that planned, then its members.
    pub entries: Vec<Compared>,
}

/// One model's report, and what can be said of it without a judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub model: String,
    pub run: String,
    /// The report in numbers, or why there is none.
    #[serde(flatten)]
    pub outcome: Written,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Written {
    Report(Box<Judged>),
    Failed { reason: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub report: Report,
    /// Of each part, in the document's order.
    pub measures: Vec<Measures>,
    pub overall: Overall,
    /// By each of the other models, in the order of the entries.
    pub scores: Vec<Scored>,
}

/// What another model finds of a report's texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    pub by: String,
    /// Of each part; `None` of one that is missing or that the model cannot read.
    pub parts: Vec<Option<Bits>>,
    /// Of all of them.
    pub bits_per_byte: Option<f64>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("`{model}` is one model alone; compare an ensemble with its members")]
    Alone { model: String },
    #[error("run {id} is not compared with others; begin one with --compare")]
    NotCompared { id: String },
    #[error(
        "the comparison of run {id} is not finished; `tutti report resume {id}` goes on with it"
    )]
    Unfinished { id: String },
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("the texts cannot be scored: {0}")]
    Score(GenerateError),
}

impl From<RunsError> for CompareError {
    fn from(error: RunsError) -> Self {
        Self::Session(error.into())
    }
}

/// What happens while a comparison is written.
#[derive(Clone, Copy, Debug)]
pub enum Happens<'a> {
    /// This model writes, in the run of this id; `new` unless that goes on.
    Begins { model: &'a str, id: &'a str },
    /// Of the model that began last.
    Report(&'a ReportEvent),
    /// This model reads what the others wrote.
    Scores { model: &'a str },
}

/// The names that have to be there to compare a model: its own and its members'.
pub fn compared_models(model: &str, members: &[String]) -> Result<Vec<String>, CompareError> {
    if members.len() < 2 {
        return Err(CompareError::Alone { model: model.to_owned() });
    }
    let mut names = vec![model.to_owned()];
    for member in members {
        if !names.contains(member) {
            names.push(member.clone());
        }
    }
    Ok(names)
}

/// Writes what is not done of the comparison that the run `first` begins. Dropping the future
/// leaves everything as it is, to be gone on with.
pub async fn compare(
    engine: Arc<dyn Generate>,
    runs: &Runs,
    first: &str,
    listener: &mut (dyn FnMut(Happens<'_>) + Send),
) -> Result<Comparison, CompareError> {
    let first = runs.find(first)?;
    let head = runs.load(&first)?;
    if head.summary.comparison.as_ref() != Some(&first) {
        return Err(CompareError::NotCompared { id: first });
    }
    let _taken = runs.take_comparison(&first)?;
    let card = report::card(&*engine, &head.request.model).map_err(SessionError::from)?;
    let models = compared_models(&card.name, &card.members)?;
    if head.summary.state != State::Finished {
        write(&engine, runs.resume(&first)?, listener).await?;
    }
    let report = runs.load(&first)?.report()?;
    for model in &models[1..] {
        let known = runs.compared(&first)?.into_iter().find(|run| run.model == *model);
        let session = match known {
            Some(run) if run.state == State::Finished => continue,
            Some(run) => runs.resume(&run.id)?,
            None => runs.begin_compared(&first, on_plan(&head.request, model, &report.plan))?,
        };
        match write(&engine, session, listener).await {
            // One model's failure is a fact of the comparison.
            Ok(()) | Err(SessionError::Report(ReportError::NothingWritten { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for model in &models {
        listener(Happens::Scores { model });
        read(&*engine, runs, &first, model).await?;
    }
    load(runs, &first)
}

/// A comparison that is finished.
pub fn load(runs: &Runs, first: &str) -> Result<Comparison, CompareError> {
    let first = runs.find(first)?;
    let head = runs.load(&first)?;
    let compared = runs.compared(&first)?;
    if head.summary.comparison.as_ref() != Some(&first) {
        return Err(CompareError::NotCompared { id: first });
    }
    let unfinished = || CompareError::Unfinished { id: first.clone() };
    let report = head.report().map_err(|_| unfinished())?;
    let names = compared_models(&head.request.model, &report.facts.members)?;
    if compared.len() != names.len() {
        return Err(unfinished());
    }
    let mut entries = Vec::new();
    for summary in compared {
        let run = runs.load(&summary.id)?;
        let outcome = match run.report() {
            Ok(report) => {
                let scores = scores(runs, &summary, &names)?.ok_or_else(unfinished)?;
                let measures = measures(&report, run.request.max_tokens);
                let overall = Overall::of(&measures, &report.plan);
                Written::Report(Box::new(Judged { report, measures, overall, scores }))
            }
            Err(_) => Written::Failed { reason: run.failure.ok_or_else(unfinished)? },
        };
        entries.push(Compared { model: summary.model, run: summary.id, outcome });
    }
    let ReportRequest { topic, max_tokens, sampling, .. } = head.request;
    Ok(Comparison { id: first, topic, plan: report.plan, seed: sampling.seed, max_tokens, entries })
}

/// The request of the first run for another model, on the plan that came of it.
fn on_plan(first: &ReportRequest, model: &str, plan: &Plan) -> ReportRequest {
    ReportRequest {
        model: model.to_owned(),
        plan: Some(plan.clone()),
        sections: None,
        ..first.clone()
    }
}

async fn write(
    engine: &Arc<dyn Generate>,
    session: Session,
    listener: &mut (dyn FnMut(Happens<'_>) + Send),
) -> Result<(), SessionError> {
    let (model, id) = (session.request().model.clone(), session.id().to_owned());
    listener(Happens::Begins { model: &model, id: &id });
    for event in session.done().events() {
        listener(Happens::Report(&event));
    }
    let mut observer = |_: u64, event: &ReportEvent| listener(Happens::Report(event));
    session.write(Arc::clone(engine), &mut observer).await.map(drop)
}

/// Lets a model read the reports of the others that it has not read yet.
async fn read(
    engine: &dyn Generate,
    runs: &Runs,
    first: &str,
    model: &str,
) -> Result<(), CompareError> {
    for run in runs.compared(first)?.into_iter().filter(|run| run.model != model) {
        if runs.scores(&run.id, model)?.is_some() {
            continue;
        }
        let Ok(report) = runs.load(&run.id)?.report() else { continue };
        let parts = report.parts().map(|part| score_part(engine, model, part));
        let scores = try_join_all(parts).await?;
        runs.keep_scores(&run.id, model, &scores)?;
    }
    Ok(())
}

/// What the part's text costs under its heading.
async fn score_part(
    engine: &dyn Generate,
    model: &str,
    part: &Section,
) -> Result<Option<Bits>, CompareError> {
    let Some(text) = part.text() else { return Ok(None) };
    match score(engine, model, &format!("## {}\n\n", part.name), text).await {
        // A text with mass 0 costs no number of bits.
        Ok(bits) => Ok(bits.bits.is_finite().then_some(bits)),
        Err(error @ (GenerateError::Stopped | GenerateError::Member { .. })) => {
            Err(CompareError::Score(error))
        }
        Err(_) => Ok(None),
    }
}

/// What the other models find of a run's report; `None` if one has not been asked.
fn scores(
    runs: &Runs,
    run: &runs::Summary,
    models: &[String],
) -> Result<Option<Vec<Scored>>, RunsError> {
    let others = models.iter().filter(|model| **model != run.model);
    others
        .map(|by| {
            let Some(parts) = runs.scores(&run.id, by)? else { return Ok(None) };
            let bits_per_byte = parts.iter().flatten().copied().sum::<Bits>().per_byte();
            Ok(Some(Scored { by: by.clone(), parts, bits_per_byte }))
        })
        .collect()
}
