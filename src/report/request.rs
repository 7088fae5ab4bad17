//! What is to be written, and why it cannot be.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::plan::{Plan, PlanFault};
use crate::{
    engine::GenerateError,
    report::SectionFault,
    sampling::{SamplingParams, split_mix},
};

/// The most sections that can be asked for.
pub const MAX_SECTIONS: usize = 12;
/// The fewest tokens a section can be given.
pub const MIN_SECTION_TOKENS: usize = 16;
/// The longest topic. Every prompt of the report has it; this is about a quarter of the smallest
/// default model's context in English, and most of it in scripts of which it knows few words.
pub const MAX_TOPIC_BYTES: usize = 8000;
/// The most times that a section is written again.
pub const MAX_RETRIES: usize = 9;
/// How often it is if nobody says.
pub const USUAL_RETRIES: usize = 1;
/// The number of sections if none is asked for.
const USUAL_SECTIONS: RangeInclusive<usize> = 3..=6;

/// What is to be written. With the same request the same models write the same report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportRequest {
    /// In any language; the report keeps it.
    pub topic: String,
    /// A name out of [`Generate::models`](crate::engine::Generate::models).
    pub model: String,
    /// Exactly so many sections, 1 to [`MAX_SECTIONS`]; `None` leaves 3 to 6 to the planner.
    pub sections: Option<usize>,
    /// A plan to write as it is; `None` asks the planner.
    pub plan: Option<Plan>,
    /// The most tokens of one section.
    pub max_tokens: usize,
    /// How often a section that goes wrong or is not finished is written again, 0 to
    /// [`MAX_RETRIES`].
    #[serde(default = "usual_retries")]
    pub retries: usize,
    /// The most tokens of the plan; `None` allows what a plan of that many sections can need.
    pub plan_max_tokens: Option<usize>,
    /// The seed is the report's; each generation draws its own from it.
    #[serde(with = "kept_sampling")]
    pub sampling: SamplingParams,
}

impl ReportRequest {
    /// What is wrong with the request whatever the models are. [`write`](super::write) checks it
    /// too; ask before the models are loaded to refuse early.
    pub fn check(&self) -> Result<(), ReportError> {
        if self.topic.trim().is_empty() {
            return Err(ReportError::EmptyTopic);
        }
        if self.topic.len() > MAX_TOPIC_BYTES {
            return Err(ReportError::TopicTooLong { bytes: self.topic.len() });
        }
        if let Some(asked) = self.sections
            && !(1..=MAX_SECTIONS).contains(&asked)
        {
            return Err(ReportError::SectionCount { asked });
        }
        if self.max_tokens < MIN_SECTION_TOKENS {
            return Err(ReportError::SectionBudget { asked: self.max_tokens });
        }
        if self.retries > MAX_RETRIES {
            return Err(ReportError::Retries { asked: self.retries });
        }
        match &self.plan {
            Some(plan) => plan.check_given().map_err(ReportError::GivenPlan),
            None => Ok(()),
        }
    }

    pub(super) fn section_bounds(&self) -> RangeInclusive<usize> {
        self.sections.map_or(USUAL_SECTIONS, |n| n..=n)
    }

    /// The sampling of generation `number`, see the module's rules.
    pub(super) fn sampling_of(&self, number: usize) -> SamplingParams {
        SamplingParams {
            seed: split_mix(self.sampling.seed, number as u64),
            ..self.sampling.clone()
        }
    }
}

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    #[error("the topic is empty; say what the report is about")]
    EmptyTopic,
    #[error("the topic has {bytes} bytes; put it in at most {MAX_TOPIC_BYTES}")]
    TopicTooLong { bytes: usize },
    #[error("a report cannot have {asked} sections; ask for 1 to {MAX_SECTIONS}")]
    SectionCount { asked: usize },
    #[error("{asked} tokens are too few for a section; allow at least {MIN_SECTION_TOKENS}")]
    SectionBudget { asked: usize },
    #[error("a section is not written again {asked} times; ask for 0 to {MAX_RETRIES}")]
    Retries { asked: usize },
    #[error("the plan cannot be written as it is: {0}")]
    GivenPlan(PlanFault),
    #[error("the plan could not be written: {0}")]
    Plan(GenerateError),
    #[error(
        "the planner gave no usable plan, asked {asked} times: {fault}; try another seed or model"
    )]
    UnusablePlan { fault: PlanFault, asked: usize },
    #[error("no section could be written; the first one: {fault}")]
    NothingWritten { fault: SectionFault },
    #[error(
        "the report was begun with `{then}` and the models now write with `{now}`; set them as they \
         were, or begin another"
    )]
    OtherModels { then: String, now: String },
    #[error("the engine stopped before the report was written; resume it with a new one")]
    Stopped,
}

/// Runs that were kept before it could be asked for have none.
fn usual_retries() -> usize {
    USUAL_RETRIES
}

/// The sampling parameters as a kept run has them.
mod kept_sampling {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::sampling::SamplingParams;

    #[derive(Serialize, Deserialize)]
    struct Kept {
        temperature: f32,
        top_k: Option<usize>,
        top_p: f32,
        min_p: f32,
        seed: u64,
    }

    pub(super) fn serialize<S: Serializer>(
        sampling: &SamplingParams,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let SamplingParams { temperature, top_k, top_p, min_p, seed } = *sampling;
        Kept { temperature, top_k, top_p, min_p, seed }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<SamplingParams, D::Error> {
        let Kept { temperature, top_k, top_p, min_p, seed } = Kept::deserialize(from)?;
        Ok(SamplingParams { temperature, top_k, top_p, min_p, seed })
    }
}
