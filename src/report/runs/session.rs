//! A run while it is being written.

use std::{fs::File, sync::Arc, time::SystemTime};

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::{Runs, RunsError, to_millis};
use crate::{
    engine::Generate,
    report::{self, Done, Planned, Report, ReportError, ReportEvent, ReportRequest},
};

/// A run that this process alone may write, until it is dropped.
pub struct Session {
    runs: Runs,
    db: Connection,
    id: String,
    _lock: File,
    request: ReportRequest,
    done: Done,
}

/// Why a session ended without what it was for.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    Runs(#[from] RunsError),
}

/// Hears of every event once it is kept, with its number within the run.
type Listener<'a> = &'a mut (dyn FnMut(u64, &ReportEvent) + Send);

impl Session {
    pub(super) fn new(
        runs: Runs,
        db: Connection,
        (id, lock): (String, File),
        request: ReportRequest,
        done: Done,
    ) -> Self {
        Self { runs, db, id, _lock: lock, request, done }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn request(&self) -> &ReportRequest {
        &self.request
    }

    /// What earlier sessions have finished.
    pub fn done(&self) -> &Done {
        &self.done
    }

    /// Writes what is not done, see [`report::write`]. Dropping the future leaves the run as it
    /// is, to be resumed.
    pub async fn write(
        self,
        engine: Arc<dyn Generate>,
        listener: Listener<'_>,
    ) -> Result<Report, SessionError> {
        let (request, done) = (self.request.clone(), self.done.clone());
        let (mut keeper, stop) = Keeper::new(self, listener);
        let mut observer = |event: ReportEvent| keeper.keep(&event);
        let work = Box::pin(report::write(engine, &request, done, &mut observer));
        unless_stopped(work, stop).await
    }

    /// Plans, see [`report::plan`]; the run can then be resumed.
    pub async fn plan(
        self,
        engine: Arc<dyn Generate>,
        listener: Listener<'_>,
    ) -> Result<Planned, SessionError> {
        let (request, done) = (self.request.clone(), self.done.clone());
        let (mut keeper, stop) = Keeper::new(self, listener);
        let mut observer = |event: ReportEvent| keeper.keep(&event);
        let work = Box::pin(report::plan(engine, &request, done, &mut observer));
        unless_stopped(work, stop).await
    }

    /// Keeps the event and what it says of the run, or neither.
    fn append(&mut self, event: &ReportEvent) -> Result<u64, RunsError> {
        let body = serde_json::to_value(event).expect("an event's keys are strings");
        let kind = body["event"].as_str().expect("an event has its kind");
        let transact = || {
            // Nothing else uses this connection while the session does.
            let transaction = self.db.unchecked_transaction()?;
            let number = self.insert(kind, &body.to_string())?;
            match event {
                ReportEvent::Planned(planned) => self.set("title", &planned.plan.title)?,
                ReportEvent::Finished(_) => self.set("state", "finished")?,
                ReportEvent::Failed { .. } => self.set("state", "failed")?,
                _ => {}
            }
            transaction.commit()?;
            Ok(number)
        };
        transact().map_err(|source| self.runs.broken(source))
    }

    fn insert(&self, kind: &str, body: &str) -> rusqlite::Result<u64> {
        let mut statement = self.db.prepare_cached(
            "INSERT INTO event (run, number, at, kind, body)
             SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3, ?4 FROM event WHERE run = ?1
             RETURNING number",
        )?;
        let at = to_millis(SystemTime::now());
        let number: i64 =
            statement.query_row(params![self.id, at, kind, body], |row| row.get(0))?;
        Ok(number.cast_unsigned())
    }

    fn set(&self, column: &'static str, value: &str) -> rusqlite::Result<()> {
        let sql = format!("UPDATE run SET {column} = ?2 WHERE id = ?1");
        self.db.execute(&sql, params![self.id, value]).map(drop)
    }
}

/// Keeps events until that fails, and then says so once.
struct Keeper<'a> {
    session: Session,
    listener: Listener<'a>,
    broken: Option<oneshot::Sender<RunsError>>,
}

impl<'a> Keeper<'a> {
    fn new(session: Session, listener: Listener<'a>) -> (Self, oneshot::Receiver<RunsError>) {
        let (broken, stop) = oneshot::channel();
        (Self { session, listener, broken: Some(broken) }, stop)
    }

    fn keep(&mut self, event: &ReportEvent) {
        match self.session.append(event) {
            Ok(number) => (self.listener)(number, event),
            Err(error) => {
                if let Some(broken) = self.broken.take() {
                    // Whoever listens no more has ended the session already.
                    let _ = broken.send(error);
                }
            }
        }
    }
}

/// The work's result; ends it when its events cannot be kept any more.
async fn unless_stopped<T>(
    work: impl Future<Output = Result<T, ReportError>>,
    mut stop: oneshot::Receiver<RunsError>,
) -> Result<T, SessionError> {
    let result = tokio::select! {
        biased;
        Ok(error) = &mut stop => return Err(error.into()),
        result = work => result,
    };
    match stop.try_recv() {
        Ok(error) => Err(error.into()),
        Err(_) => Ok(result?),
    }
}
