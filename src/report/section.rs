//! One section: written, judged, written again if need be.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{
    Done, Lost, Part, ReportError, ReportEvent, Run, Tokens,
    ask::{Answer, End, Question, ask},
    plan::Plan,
    prompts,
    request::MAX_SECTIONS,
    tidy::{Place, Tidied, Tidy, tidy},
};
use crate::{engine::GenerateError, tokenizer::chat::Message};

/// A section of the report and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Section {
    pub name: String,
    pub outcome: Outcome,
    /// What was wrong with the first text, if another was written.
    pub retried: Option<SectionFault>,
    /// The most tokens that a text of it could have; `None` in runs of old, which do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Of all its texts.
    pub usage: Tokens,
    /// Members that failed while one of them was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
    pub seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Written {
        /// Markdown whose headings are below the section's; not empty.
        text: String,
        tidied: Tidied,
        /// True if `max_tokens` (or the context) ended the text and not the models.
        at_limit: bool,
    },
    /// It failed each time, the last time for this.
    Gap { fault: SectionFault },
}

/// Why a text is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum SectionFault {
    #[error("{reason}")]
    Failed { reason: String },
    #[error("the models wrote no text")]
    Empty,
    #[error("the models repeated themselves")]
    Loops,
    #[error("its budget of {max_tokens} tokens ended before the text did")]
    Unfinished { max_tokens: usize },
}

impl Section {
    /// Why the section is missing, if it is.
    pub fn gap(&self) -> Option<&SectionFault> {
        match &self.outcome {
            Outcome::Gap { fault } => Some(fault),
            Outcome::Written { .. } => None,
        }
    }

    /// The text, if it is not missing.
    pub fn text(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Gap { .. } => None,
            Outcome::Written { text, .. } => Some(text),
        }
    }

    pub(super) fn is_at_limit(&self) -> bool {
        matches!(self.outcome, Outcome::Written { at_limit: true, .. })
    }

    /// What is to be said in the document where a text ends that its writer did not end.
    pub(super) fn note(&self) -> Option<String> {
        let budget = self.max_tokens.map(|tokens| format!(" of {tokens} tokens"));
        let budget = budget.unwrap_or_default();
        self.is_at_limit().then(|| format!("This section ends here: its budget{budget} was spent."))
    }
}

impl SectionFault {
    /// What the worker is told when it tries again; an engine's failure is none of its business.
    pub(super) fn note(&self) -> Option<&'static str> {
        match self {
            Self::Failed { .. } => None,
            Self::Empty => Some("Your last answer was empty. Write at least one paragraph."),
            Self::Loops => Some("Your last answer repeated itself. Say everything only once."),
            Self::Unfinished { .. } => {
                Some("Your last answer was too long. Write short sentences and come to an end.")
            }
        }
    }
}

/// What one worker has to write.
pub(super) struct Assignment<'a> {
    pub(super) part: Part,
    /// The heading it goes under.
    pub(super) name: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) max_tokens: usize,
    /// The number of the first try, for its seed; see [`Assignment::number`].
    pub(super) number: usize,
}

/// The first numbers of generations are the plan's and those of each part's first two tries.
const NUMBERS: usize = 2 * (MAX_SECTIONS + 1) + 7;

impl Assignment<'_> {
    /// The number of a try, counted from 0.
    fn number(&self, attempt: usize) -> usize {
        match attempt {
            0 | 1 => self.number + attempt,
            more => self.number + (more - 1) * NUMBERS,
        }
    }
}

/// Section `index` of the plan, unless it is done.
pub(super) async fn of_plan(
    run: &Run<'_>,
    plan: &Plan,
    index: usize,
    done: &Done,
) -> Result<Section, ReportError> {
    let assignment = Assignment {
        part: Part::Section { index },
        name: &plan.sections[index].name,
        plan,
        max_tokens: run.request.max_tokens,
        number: 2 * (index + 1),
    };
    let (topic, budget) = (&run.request.topic, run.request.max_tokens);
    write(run, assignment, done, &|retried| {
        prompts::section(topic, plan, index, &prompts::Told { budget, retried })
    })
    .await
}

/// What the assignment's worker writes when it is told `messages`, unless that is done. What goes
/// wrong is the section's outcome, but for an engine that stops.
pub(super) async fn write(
    run: &Run<'_>,
    assignment: Assignment<'_>,
    done: &Done,
    messages: &(dyn Fn(Option<&SectionFault>) -> Vec<Message> + Sync),
) -> Result<Section, ReportError> {
    let Assignment { part, name, max_tokens, .. } = assignment;
    if let Some(section) = done.parts.get(&part) {
        return Ok(section.clone());
    }
    let started = Instant::now();
    let mut cost = (Tokens::default(), Vec::new());
    run.tell(ReportEvent::SectionStarted { part, max_tokens }).await;
    let (mut best, mut retried) = (None, None);
    let mut fault: Option<SectionFault> = None;
    for tried in 0..=run.request.retries {
        if let Some(fault) = &fault {
            run.tell(ReportEvent::SectionRetried { part, fault: fault.clone() }).await;
            retried.get_or_insert_with(|| fault.clone());
        }
        let messages = messages(fault.as_ref());
        let outcome =
            attempt(run, &assignment, (assignment.number(tried), messages), &mut cost).await?;
        fault = outcome.fault(max_tokens);
        best = best.into_iter().chain([outcome]).max_by_key(Outcome::worth);
        if fault.is_none() {
            break;
        }
    }
    let outcome = best.expect("there is a first try").marked();
    let seconds = started.elapsed().as_secs_f64();
    let (usage, lost) = cost;
    let (name, max_tokens) = (name.to_owned(), Some(max_tokens));
    let section = Section { name, outcome, retried, max_tokens, usage, lost, seconds };
    run.tell(ReportEvent::SectionFinished { part, section: section.clone() }).await;
    Ok(section)
}

async fn attempt(
    run: &Run<'_>,
    &Assignment { part, name, plan, max_tokens, .. }: &Assignment<'_>,
    (number, messages): (usize, Vec<Message>),
    (usage, lost): &mut (Tokens, Vec<Lost>),
) -> Result<Outcome, ReportError> {
    let question = Question { part, messages, constraint: None, max_tokens, number };
    let Answer { text, usage: used, lost: gone, end } = ask(run, question).await;
    *usage += used;
    lost.extend(gone);
    let at_limit = match end {
        End::Failed(GenerateError::Stopped) => return Err(ReportError::Stopped),
        End::Failed(error) => {
            return Ok(Outcome::Gap { fault: SectionFault::Failed { reason: error.to_string() } });
        }
        End::Looped => return Ok(Outcome::Gap { fault: SectionFault::Loops }),
        End::Length => true,
        End::Stop => false,
    };
    let index = match part {
        Part::Section { index } => Some(index),
        _ => None,
    };
    let Tidy { text, tidied, at_limit } = tidy(&text, &Place { plan, name, index, at_limit });
    if !text.chars().any(char::is_alphanumeric) {
        return Ok(Outcome::Gap { fault: SectionFault::Empty });
    }
    Ok(Outcome::Written { text, tidied, at_limit })
}

impl Outcome {
    /// Why the part is worth another try.
    fn fault(&self, max_tokens: usize) -> Option<SectionFault> {
        match self {
            Self::Gap { fault } => Some(fault.clone()),
            Self::Written { at_limit: true, .. } => Some(SectionFault::Unfinished { max_tokens }),
            Self::Written { .. } => None,
        }
    }

    /// Of several texts the one that is finished is worth the most, then one that was cut at the
    /// end of a sentence, of those the longest.
    fn worth(&self) -> (usize, usize) {
        match self {
            Self::Gap { .. } => (0, 0),
            Self::Written { text, at_limit, tidied, .. } => match (at_limit, tidied.ragged) {
                (true, 1..) => (1, text.len()),
                (true, 0) => (2, text.len()),
                (false, _) => (3, text.len()),
            },
        }
    }

    /// A text without a whole sentence at its end shows it.
    fn marked(mut self) -> Self {
        if let Self::Written { text, tidied: Tidied { ragged: 1.., .. }, .. } = &mut self {
            text.push_str(" …");
        }
        self
    }
}
