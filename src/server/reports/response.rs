//! Reports on the wire.

use std::time::SystemTime;

use serde::Serialize;

use crate::report::{
    Plan, Report,
    runs::{Run, State, Summary},
};

#[derive(Debug, Serialize)]
pub(in crate::server) struct WireList {
    object: &'static str,
    data: Vec<WireSummary>,
}

impl WireList {
    pub(super) fn new(runs: Vec<Summary>) -> Self {
        Self { object: "list", data: runs.into_iter().map(WireSummary::new).collect() }
    }
}

#[derive(Debug, Serialize)]
pub(in crate::server) struct WireSummary {
    id: String,
    object: &'static str,
    /// Unix seconds.
    created: u64,
    status: Status,
    model: String,
    topic: String,
    title: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Status {
    Kept(State),
    Deleted(&'static str),
}

impl WireSummary {
    pub(super) fn new(summary: Summary) -> Self {
        let Summary { id, state, created, topic, model, title, comparison: _ } = summary;
        let since = created.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let status = Status::Kept(state);
        Self { id, object: "report", created: since.as_secs(), status, model, topic, title }
    }

    pub(super) fn deleted(summary: Summary) -> Self {
        Self { status: Status::Deleted("deleted"), ..Self::new(summary) }
    }
}

#[derive(Debug, Serialize)]
pub(in crate::server) struct WireReport {
    #[serde(flatten)]
    summary: WireSummary,
    /// Once there is one.
    plan: Option<Plan>,
    /// Why the last try failed.
    error: Option<String>,
    /// Once it is finished.
    report: Option<Report>,
    /// The document, once it is finished.
    markdown: Option<String>,
}

impl WireReport {
    pub(super) fn new(run: Run) -> Self {
        let report = run.report().ok();
        Self {
            plan: run.done.planned().map(|planned| planned.plan.clone()),
            error: run.failure,
            markdown: report.as_ref().map(Report::markdown),
            report,
            summary: WireSummary::new(run.summary),
        }
    }
}
