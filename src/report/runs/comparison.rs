//! Runs that share a plan, to be compared, and what models find of each other's texts.

use std::fs::File;

use rusqlite::params;

use super::{Place, Runs, RunsError, Session, Summary, kept};
use crate::report::{ReportRequest, score::Bits};

impl Runs {
    /// Keeps a new run that others are to be compared with, and takes it.
    pub fn begin_comparison(&self, request: ReportRequest) -> Result<Session, RunsError> {
        self.insert(request, Place::First)
    }

    /// Keeps a new run to be compared with the run `first`, and takes it.
    pub(in crate::report) fn begin_compared(
        &self,
        first: &str,
        request: ReportRequest,
    ) -> Result<Session, RunsError> {
        self.insert(request, Place::With(first))
    }

    /// The runs that are compared with the run `first`, itself included, in the order they were
    /// begun.
    pub(in crate::report) fn compared(&self, first: &str) -> Result<Vec<Summary>, RunsError> {
        let sql = "SELECT * FROM run WHERE comparison = ?1 ORDER BY id != ?1, created, id";
        let rows = self.select(sql, &[&first], kept)?;
        rows.into_iter().map(|kept| Ok(self.open_kept(kept)?.0)).collect()
    }

    /// Until it is dropped, nobody else goes on with the comparison of the run `first`.
    pub(in crate::report) fn take_comparison(&self, first: &str) -> Result<File, RunsError> {
        let taken = self.lock(&format!("{first}-comparison"));
        taken.map_err(|error| match error {
            RunsError::Taken { .. } => RunsError::Taken { id: first.to_owned() },
            error => error,
        })
    }

    /// What the model found of each part of the run's report, if it was asked.
    pub(in crate::report) fn scores(
        &self,
        run: &str,
        model: &str,
    ) -> Result<Option<Vec<Option<Bits>>>, RunsError> {
        let sql = "SELECT body FROM score WHERE run = ?1 AND model = ?2";
        let mut found: Vec<String> = self.select(sql, &[&run, &model], |row| row.get(0))?;
        found.pop().map(|json| self.parse(run, &json)).transpose()
    }

    pub(in crate::report) fn keep_scores(
        &self,
        run: &str,
        model: &str,
        scores: &[Option<Bits>],
    ) -> Result<(), RunsError> {
        let json = serde_json::to_string(scores).expect("scores are numbers");
        let sql = "INSERT OR REPLACE INTO score (run, model, body) VALUES (?1, ?2, ?3)";
        let kept = self.connect()?.execute(sql, params![run, model, json]);
        kept.map(drop).map_err(|source| self.broken(source))
    }
}
