//! A report from the topic to the document, on the default ensemble and its real weights.

use std::sync::Arc;

use tutti::{
    engine::{Engine, EngineConfig},
    report::{Outcome, ReportRequest, export::Format, runs::Runs},
    sampling::SamplingParams,
};

use super::request;
use crate::duet::duet;

/// An engine as `tutti report` starts it.
fn engine() -> Arc<Engine> {
    let models = vec![("duet".to_owned(), duet())];
    Arc::new(Engine::start(models, EngineConfig::default()).unwrap())
}

#[tokio::test]
async fn the_default_ensemble_writes_a_report_and_goes_on_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let runs = Runs::open(folder.path()).unwrap();
    let sampling =
        SamplingParams { temperature: 0.7, top_p: 0.95, seed: 1, ..SamplingParams::default() };
    let request = ReportRequest { sections: Some(2), max_tokens: 32, sampling, ..request() };
    let begun = runs.begin(request.clone()).unwrap();
    let id = begun.id().to_owned();
    let report = begun.write(engine(), &mut |_, _| ()).await.unwrap();

    // What small models plan is theirs; that all of it is written is ours.
    assert!((1..=2).contains(&report.sections.len()), "{:?}", report.plan);
    assert_eq!(report.sections.len(), report.plan.sections.len());
    assert!(report.sections.iter().any(|section| section.text().is_some()));
    for part in report.parts() {
        match &part.outcome {
            Outcome::Written { text, .. } => assert!(!text.trim().is_empty(), "{part:?}"),
            Outcome::Gap { fault } => assert!(!fault.to_string().is_empty()),
        }
        assert!(part.usage.completion_tokens <= 2 * request.max_tokens, "{part:?}");
    }
    let agreement = report.facts.usage.agreement.unwrap();
    assert!((0.3..1.0).contains(&agreement.mean) && agreement.tokens > 32, "{agreement:?}");
    assert!(agreement.tokens <= report.facts.usage.completion_tokens as u64);
    for format in [Format::Md, Format::Html, Format::Json, Format::Docx] {
        assert!(!format.document(&report).unwrap().is_empty());
    }

    // Another engine goes on from the plan alone, and comes to the same document.
    let planned = runs.begin(request).unwrap();
    let other = planned.id().to_owned();
    planned.plan(engine(), &mut |_, _| ()).await.unwrap();
    let resumed = runs.resume(&other).unwrap().write(engine(), &mut |_, _| ()).await.unwrap();
    assert_eq!(resumed.markdown(), report.markdown());
    assert_eq!(runs.load(&id).unwrap().report().unwrap().markdown(), report.markdown());
}
