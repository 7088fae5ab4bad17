//! A run as data: what happens while a report is written, and what is there in the end.
//!
//! These types are kept in the run store, sent over the wire and written as JSON lines, so they
//! derive serde, and a field that is added later needs a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    plan::{Plan, PlanFault, Planned},
    section::{Section, SectionFault},
};
use crate::engine::{self, Usage};

/// A part of a report that is written by a generation of its own, in the document's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    Plan,
    Introduction,
    /// `index` counts from 0.
    Section {
        index: usize,
    },
    Conclusion,
}

/// What happens while a report is written, in order. `Finished` or `Failed` is the last of a
/// session; a run that is resumed has another `Started` after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ReportEvent {
    Started {
        /// Parts that an earlier session finished are not written again.
        resumed: bool,
        /// [`Facts::fusion`] of the models that write.
        fusion: String,
    },
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
        #[serde(flatten)]
        part: Part,
        max_tokens: usize,
    },
    /// Text as the model says it, before it is tidied, and the fused steps that led to it.
    SectionDelta {
        #[serde(flatten)]
        part: Part,
        text: String,
        tokens: usize,
    },
    /// What came so far is dropped; the section is written again from its start.
    SectionRetried {
        #[serde(flatten)]
        part: Part,
        fault: SectionFault,
    },
    SectionFinished {
        #[serde(flatten)]
        part: Part,
        section: Section,
    },
    /// A member was lost; the part goes on without it.
    MemberLost {
        #[serde(flatten)]
        part: Part,
        #[serde(flatten)]
        lost: Lost,
    },
    /// The engine's queue is full; the plan or a section waits for its turn.
    Queued {
        #[serde(flatten)]
        part: Part,
        waiting: usize,
    },
    Finished(Facts),
    Failed {
        reason: String,
    },
}

/// A written report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub topic: String,
    pub plan: Plan,
    /// `None` if the plan has an introduction of its own, or one section only.
    pub introduction: Option<Section>,
    /// In the plan's order.
    pub sections: Vec<Section>,
    /// As with the introduction.
    pub conclusion: Option<Section>,
    pub facts: Facts,
}

impl Report {
    /// The report of a run whose parts are all done.
    pub(super) fn assembled(topic: String, plan: Plan, done: &Done, facts: Facts) -> Self {
        let part = |part: Part| done.parts.get(&part).cloned();
        let sections = (0..plan.sections.len()).filter_map(|index| part(Part::Section { index }));
        let (introduction, conclusion) = (part(Part::Introduction), part(Part::Conclusion));
        Self { topic, sections: sections.collect(), plan, introduction, conclusion, facts }
    }

    /// All that was written, in the document's order.
    pub fn parts(&self) -> impl Iterator<Item = &Section> {
        self.introduction.iter().chain(&self.sections).chain(&self.conclusion)
    }
}

/// How a report came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub model: String,
    /// The members' names; a single model has itself.
    pub members: Vec<String>,
    /// How the members write together, in one line.
    pub fusion: String,
    pub seed: u64,
    /// The number of sections asked for, if fewer could be planned.
    pub short_of: Option<usize>,
    /// Of all generations whose text or fault is in the run, the dropped ones included.
    pub usage: Tokens,
    /// Wall time of all sessions that wrote it.
    pub seconds: f64,
}

/// A member that failed while others wrote on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    pub member: String,
    pub reason: String,
}

/// How near the members' probabilities of a token were to each other, of the tokens that several of
/// them decided; see [`engine::Agreement`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// From 0 to 1.
    pub mean: f64,
    pub tokens: u64,
}

impl std::ops::Add for Agreement {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        let tokens = self.tokens + more.tokens;
        let sum = self.mean * self.tokens as f64 + more.mean * more.tokens as f64;
        Self { mean: sum / tokens.max(1) as f64, tokens }
    }
}

/// Tokens of one or several generations, see [`Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    /// Steps that a gate left to one model alone; `None` without a gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gated: Option<usize>,
    /// `None` of one model alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
}

impl From<Usage> for Tokens {
    fn from(usage: Usage) -> Self {
        // What was cached would make a run that is resumed another one.
        let Usage { prompt_tokens, cached_tokens: _, completion_tokens, gated, agreement } = usage;
        let agreement = agreement.rate().map(|mean| Agreement { mean, tokens: agreement.steps });
        Self { prompt_tokens, completion_tokens, gated, agreement }
    }
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        let Tokens { prompt_tokens, completion_tokens, gated, agreement } = tokens;
        let agreement = agreement.map_or_else(engine::Agreement::default, |agreement| {
            let millionths = 1e6 * agreement.mean * agreement.tokens as f64;
            engine::Agreement { steps: agreement.tokens, millionths: millionths.round() as u64 }
        });
        Self { prompt_tokens, cached_tokens: None, completion_tokens, gated, agreement }
    }
}

impl std::ops::AddAssign for Tokens {
    fn add_assign(&mut self, more: Self) {
        self.prompt_tokens += more.prompt_tokens;
        self.completion_tokens += more.completion_tokens;
        self.gated = self.gated.into_iter().chain(more.gated).reduce(|a, b| a + b);
        self.agreement = self.agreement.into_iter().chain(more.agreement).reduce(|a, b| a + b);
    }
}

/// What earlier sessions of a run have finished.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// How the models of the first session wrote together.
    pub(super) fusion: Option<String>,
    pub(super) planned: Option<Planned>,
    pub(super) parts: BTreeMap<Part, Section>,
    /// Wall time of those sessions.
    pub(super) seconds: f64,
}

impl Done {
    /// What a run whose events are these has finished in `seconds`.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a ReportEvent>, seconds: f64) -> Self {
        let mut done = Self { seconds, ..Self::default() };
        for event in events {
            match event {
                ReportEvent::Started { fusion, .. } => {
                    done.fusion.get_or_insert_with(|| fusion.clone());
                }
                ReportEvent::Planned(planned) => done.planned = Some(planned.clone()),
                ReportEvent::SectionFinished { part, section } => {
                    done.parts.insert(*part, section.clone());
                }
                _ => {}
            }
        }
        done
    }

    /// Without the gaps that the engine is to blame for, so that they are written again: with the
    /// same seeds a sound engine writes what it would have written then.
    pub fn without_failures(mut self) -> Self {
        let failed = |section: &Section| matches!(section.gap(), Some(SectionFault::Failed { .. }));
        self.parts.retain(|_, section| !failed(section));
        self
    }

    pub fn planned(&self) -> Option<&Planned> {
        self.planned.as_ref()
    }

    /// As a listener would have been told.
    pub fn events(&self) -> Vec<ReportEvent> {
        let planned = self.planned.iter().cloned().map(ReportEvent::Planned);
        let finished = |(part, section): (Part, &Section)| ReportEvent::SectionFinished {
            part,
            section: section.clone(),
        };
        planned.chain(self.parts().map(finished)).collect()
    }

    /// The parts that are finished, in the document's order.
    pub fn parts(&self) -> impl Iterator<Item = (Part, &Section)> {
        self.parts.iter().map(|(part, section)| (*part, section))
    }
}
