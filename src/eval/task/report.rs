//! A report on one frozen plan, in what can be said of it without a judge.
//!
//! The plan is the ensemble's, made of the topic and the seed alone, so that every system gets the
//! same one however often it is asked. The answer is the document without the lines that say who
//! wrote it: copies of a member have to give that member's, and a judge is not told. What is measured
//! is in [`crate::report::Measures`].

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::{Outcome, TaskError};
use crate::{
    eval::{System, ask::Asker, fused::Fused, stats::Part},
    report::{self, Done, Overall, ReportRequest, USUAL_RETRIES},
    sampling::SamplingParams,
};

/// How reports are written.
#[derive(Clone, Debug)]
pub struct Reports {
    /// The model that plans for all.
    pub planner: String,
    /// The most tokens of a section.
    pub max_tokens: usize,
    pub sampling: SamplingParams,
}

/// Of every report: enough for order to matter, and few enough for many topics.
const SECTIONS: usize = 3;

pub(super) async fn solve(
    asker: &Asker,
    system: &System,
    topic: &str,
    reports: &Reports,
) -> Result<Outcome, TaskError> {
    let request = ReportRequest {
        topic: topic.to_owned(),
        model: reports.planner.clone(),
        sections: Some(SECTIONS),
        plan: None,
        max_tokens: reports.max_tokens,
        retries: USUAL_RETRIES,
        plan_max_tokens: None,
        sampling: reports.sampling.clone(),
    };
    // A report asks for all of its sections at once.
    let _places = asker.reserve(SECTIONS).await;
    let failed = |error: report::ReportError| TaskError::Report { reason: error.to_string() };
    let engine = || asker.engine().clone();
    let planned =
        report::plan(engine(), &request, Done::default(), &mut |_| {}).await.map_err(failed)?;
    let model = system.model.clone();
    let request = ReportRequest { model, plan: Some(planned.plan), ..request };
    let fused = Arc::new(Fused::new(engine(), system));
    let written =
        report::write(fused, &request, Done::default(), &mut |_| {}).await.map_err(failed)?;
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
