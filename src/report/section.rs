//! One section: written, judged, written again if need be.

use std::time::Instant;

use super::{
    ReportEvent, Run, add,
    ask::{Answer, End, Question, Speaker, ask},
    plan::Plan,
    prompts,
    tidy::{Place, Tidied, tidy},
};
use crate::engine::{GenerateError, Usage};

/// A section of the report and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    pub name: String,
    pub outcome: Outcome,
    /// Why the first text was dropped.
    pub retried: Option<SectionFault>,
    /// Of both texts.
    pub usage: Usage,
    pub seconds: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Written {
        /// Markdown whose headings are below the section's; not empty.
        text: String,
        tidied: Tidied,
        /// True if `max_tokens` (or the context) ended the section and not the models.
        at_limit: bool,
    },
    /// It failed twice, the second time for this.
    Gap(SectionFault),
}

/// Why a text is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SectionFault {
    #[error("{0}")]
    Failed(#[from] GenerateError),
    #[error("the models wrote no text")]
    Empty,
    #[error("the models repeated themselves")]
    Loops,
}

impl Section {
    /// Why the section is missing, if it is.
    pub fn gap(&self) -> Option<&SectionFault> {
        match &self.outcome {
            Outcome::Gap(fault) => Some(fault),
            Outcome::Written { .. } => None,
        }
    }
}

impl SectionFault {
    /// What the worker is told when it tries again; an engine's failure is none of its business.
    pub(super) fn note(&self) -> Option<&'static str> {
        match self {
            Self::Failed(_) => None,
            Self::Empty => Some("Your last answer was empty. Write at least one paragraph."),
            Self::Loops => Some("Your last answer repeated itself. Say everything only once."),
        }
    }
}

/// Writes section `index` of the plan. Never fails: what goes wrong is the section's outcome.
pub(super) async fn write(run: &Run<'_>, plan: &Plan, index: usize) -> Section {
    let started = Instant::now();
    let max_tokens = run.request.max_tokens;
    let mut usage = Usage::default();
    run.tell(ReportEvent::SectionStarted { index, max_tokens }).await;
    let (outcome, retried) = match attempt(run, (plan, index), None, &mut usage).await {
        Ok(written) => (written, None),
        Err(fault) => {
            run.tell(ReportEvent::SectionRetried { index, fault: fault.clone() }).await;
            let again = attempt(run, (plan, index), Some(&fault), &mut usage).await;
            (again.unwrap_or_else(Outcome::Gap), Some(fault))
        }
    };
    let name = plan.sections[index].name.clone();
    let seconds = started.elapsed().as_secs_f64();
    let section = Section { name, outcome, retried, usage, seconds };
    run.tell(ReportEvent::SectionFinished { index, section: section.clone() }).await;
    section
}

async fn attempt(
    run: &Run<'_>,
    (plan, index): (&Plan, usize),
    retried: Option<&SectionFault>,
    usage: &mut Usage,
) -> Result<Outcome, SectionFault> {
    let question = Question {
        speaker: Speaker::Section(index),
        messages: prompts::section(&run.request.topic, plan, index, retried),
        constraint: None,
        max_tokens: run.request.max_tokens,
        number: 2 * (index + 1) + usize::from(retried.is_some()),
    };
    let Answer { text, usage: used, end } = ask(run, question).await;
    add(usage, used);
    let at_limit = match end {
        End::Failed(error) => return Err(error.into()),
        End::Looped => return Err(SectionFault::Loops),
        End::Length => true,
        End::Stop => false,
    };
    let (text, tidied) = tidy(&text, &Place { plan, index, at_limit });
    if !text.chars().any(char::is_alphanumeric) {
        return Err(SectionFault::Empty);
    }
    Ok(Outcome::Written { text, tidied, at_limit })
}
