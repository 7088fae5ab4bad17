//! The body of `POST /v1/reports`.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    report::{Plan, PlanFault, ReportError, ReportRequest},
    sampling::SamplingParams,
    server::{ApiError, App},
};

/// The tokens of a section if none are asked for, as on the command line.
pub(in crate::server) const MAX_TOKENS: usize = 400;

/// The body of `POST /v1/reports`. A field that is null is as one left out.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::server) struct ReportsRequest {
    #[schema(value_type = String)]
    topic: Option<String>,
    model: Option<String>,
    /// Exactly so many; without it the planner chooses 3 to 6.
    #[schema(minimum = 1, maximum = 12)]
    sections: Option<usize>,
    /// Is written as it is: `title`, `sections` of `name` and `description`, `language`.
    #[schema(value_type = Option<Object>)]
    plan: Option<Plan>,
    /// Of a section.
    #[schema(minimum = 16)]
    max_tokens: Option<usize>,
    /// How often a section that fails, loops or does not end within its tokens is written again.
    #[schema(minimum = 0, maximum = 9)]
    retries: Option<usize>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f32>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f32>,
    seed: Option<u64>,
    stream: Option<bool>,
}

impl ReportsRequest {
    pub(super) fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn validate(self, app: &App) -> Result<ReportRequest, ApiError> {
        if self.plan.is_some() && self.sections.is_some() {
            return Err(ApiError::invalid("sections", "cannot be asked for beside a `plan`"));
        }
        let default = || app.engine.models().into_iter().next().map(|card| card.name);
        let request = ReportRequest {
            topic: self.topic.ok_or_else(|| ApiError::missing("topic"))?,
            model: self.model.or_else(default).ok_or_else(|| ApiError::missing("model"))?,
            sections: self.sections,
            plan: self.plan.map(Plan::cleaned),
            max_tokens: self.max_tokens.unwrap_or(MAX_TOKENS),
            retries: self.retries.unwrap_or(app.config.report_retries),
            plan_max_tokens: None,
            sampling: SamplingParams {
                temperature: within("temperature", self.temperature, 2.0)?
                    .unwrap_or(app.config.sampling.temperature),
                top_p: within("top_p", self.top_p, 1.0)?
                    .map_or(app.config.sampling.top_p, |top_p| top_p.max(f32::MIN_POSITIVE)),
                seed: self.seed.unwrap_or_else(super::random_seed),
                ..app.config.sampling.clone()
            },
        };
        request.check().map_err(|error| refusal(&error))?;
        let mut cards = app.engine.models().into_iter().map(|card| card.name);
        if !cards.any(|name| name == request.model) {
            let available = app.engine.models().into_iter().map(|card| card.name).collect();
            let name = request.model;
            return Err(crate::engine::GenerateError::UnknownModel { name, available }.into());
        }
        Ok(request)
    }
}

fn within(param: &str, value: Option<f32>, most: f32) -> Result<Option<f32>, ApiError> {
    match value {
        Some(value) if !(0.0..=most).contains(&value) => {
            let reason = format!("is {value}; it must be between 0 and {most}");
            Err(ApiError::invalid(param, reason))
        }
        value => Ok(value),
    }
}

/// The field that the error is about, and the error without saying it twice.
fn refusal(error: &ReportError) -> ApiError {
    let param = match error {
        ReportError::EmptyTopic | ReportError::TopicTooLong { .. } => "topic",
        ReportError::SectionCount { .. } => "sections",
        ReportError::SectionBudget { .. } => "max_tokens",
        ReportError::Retries { .. } => "retries",
        _ => "plan",
    };
    let reason = match error {
        ReportError::GivenPlan(PlanFault::Malformed { reason }) => reason.clone(),
        error => error.to_string(),
    };
    ApiError::invalid(param, format!("is refused: {reason}"))
}
