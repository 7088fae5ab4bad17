//! A report on one frozen plan, in what can be said of it without a judge.
//!
//! The plan is the ensemble's, made of the topic and the seed alone, so that every system gets the
//! same one however often it is asked. The answer is the document without the lines that say who
//! wrote it: copies of a member have to give that member's, and a judge is not told. What is measured
//! is in [`crate::report::Measures`].

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::json;

use super::{Outcome, TaskError};
use crate::{
    eval::{System, ask::Asker, fused::Fused, stats::Part},
    report::{self, Done, Overall, Plan, ReportError, ReportRequest, USUAL_RETRIES},
    sampling::SamplingParams,
};

/// How reports are written.
#[derive(Clone, Debug)]
pub struct Reports {
    /// The model that plans for all.
    planner: String,
    /// The most tokens of a section.
    max_tokens: usize,
    sampling: SamplingParams,
    /// By topic, those that were made.
    plans: Arc<Mutex<HashMap<String, Plan>>>,
}

/// Of every report: enough for order to matter, and few enough for many topics.
const SECTIONS: usize = 3;

impl Reports {
    pub fn new(planner: &str, max_tokens: usize, sampling: &SamplingParams) -> Self {
        let (planner, sampling) = (planner.to_owned(), sampling.clone());
        Self { planner, max_tokens, sampling, plans: Arc::default() }
    }

    fn request(&self, topic: &str) -> ReportRequest {
        ReportRequest {
            topic: topic.to_owned(),
            model: self.planner.clone(),
            sections: Some(SECTIONS),
            plan: None,
            max_tokens: self.max_tokens,
            retries: USUAL_RETRIES,
            plan_max_tokens: None,
            sampling: self.sampling.clone(),
        }
    }

    /// The plan that all systems get.
    pub(super) async fn plan(&self, asker: &Asker, topic: &str) -> Result<Plan, TaskError> {
        let plans = || self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans().get(topic) {
            return Ok(plan.clone());
        }
        let _place = asker.reserve(1).await;
        let (engine, request) = (asker.engine().clone(), self.request(topic));
        let planned = report::plan(engine, &request, Done::default(), &mut |_| {}).await;
        let plan = planned?.plan;
        plans().insert(topic.to_owned(), plan.clone());
        Ok(plan)
    }
}

impl fmt::Display for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { planner, max_tokens, sampling, .. } = self;
        let SamplingParams { temperature, top_k, top_p, min_p, seed } = sampling;
        write!(
            f,
            "a report on a plan by {planner}, sections of at most {max_tokens} tokens, drawn with \
             temperature {temperature}, top-k {}, top-p {top_p}, min-p {min_p} and seed {seed}",
            top_k.unwrap_or(0)
        )
    }
}

impl From<ReportError> for TaskError {
    fn from(error: ReportError) -> Self {
        Self::Report { reason: error.to_string() }
    }
}

pub(super) async fn solve(
    asker: &Asker,
    system: &System,
    topic: &str,
    reports: &Reports,
) -> Result<Outcome, TaskError> {
    let plan = Some(reports.plan(asker, topic).await?);
    let request = ReportRequest { model: system.model.clone(), plan, ..reports.request(topic) };
    // A report asks for all of its sections at once.
    let _places = asker.reserve(SECTIONS).await;
    let fused = Arc::new(Fused::new(asker.engine().clone(), system));
    let written = report::write(fused, &request, Done::default(), &mut |_| {}).await?;
    let parts = report::measures(&written, reports.max_tokens);
    let overall = Overall::of(&parts, &written.plan);
    let missing = written.parts().filter(|part| part.gap().is_some()).count();
    let length = (overall.units as f64 / overall.asked.max(1) as f64).min(1.0);
    let mut scores = BTreeMap::from([
        ("coverage", Part::one(overall.coverage)),
        ("said again", Part::one(overall.repeated + overall.shared)),
        ("length reached", Part::one(length)),
    ]);
    // Of a report whose language cannot be told nothing is said.
    if overall.language_told > 0 {
        let kept = overall.language_kept as f64 / overall.language_told as f64;
        scores.insert("language kept", Part::one(kept));
    }
    Ok(Outcome {
        prompt: topic.to_owned(),
        scores,
        tokens: written.facts.usage.completion_tokens,
        prompt_tokens: written.facts.usage.prompt_tokens,
        gated: written.facts.usage.gated,
        detail: json!({ "plan": written.plan, "overall": overall, "missing": missing }),
        output: written.content(),
    })
}
