//! Runs on the disk: every event as it happens, so that nothing that was written is lost.
//!
//! One SQLite file holds all runs, in WAL mode, each event in a transaction of its own: a process
//! that is killed loses no event it has told, and readers and writers of several processes do not
//! wait for each other. Beside it a lock file a run says that somebody writes it; the system lets
//! go of the lock when that process ends, however it ends.
//!
//! Knows nothing of models. A [`Runs`] opens a connection for each thing it is asked, so it can
//! be shared and copied freely.

mod comparison;
mod schema;
mod session;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, Row, params};

use super::{Done, Facts, Report, ReportEvent, ReportRequest};

pub use session::{Session, SessionError};

/// How long a statement waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(10);
/// How often, and after what pauses, a lock that somebody may only be looking at is tried again.
const LOCK_TRIES: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why a run cannot be kept, found or gone on with.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    #[error("the folder {folder} cannot be used: {source}; set `paths.data` to another")]
    Folder { folder: PathBuf, source: io::Error },
    #[error("there is no folder to keep reports in: {reason}; set `paths.data`")]
    NoFolder { reason: String },
    #[error("the runs in {file} cannot be read or written: {source}")]
    Database { file: PathBuf, source: rusqlite::Error },
    #[error("{file} was written by a newer tutti (schema {found}, this one knows {known}); update")]
    Newer { file: PathBuf, found: i64, known: i64 },
    #[error("run {id} of {file} has an entry that cannot be read: {reason}")]
    Entry { file: PathBuf, id: String, reason: String },
    #[error("there is no run `{id}`; `tutti report list` names those there are")]
    Unknown { id: String },
    #[error("`{id}` begins the names of {count} runs; write more of it")]
    Ambiguous { id: String, count: usize },
    #[error("run {id} is being written by another process; wait for it or end it first")]
    Taken { id: String },
    #[error("run {id} is finished; `tutti report export {id}` gives its document")]
    Finished { id: String },
    #[error("run {id} is not finished; `tutti report resume {id}` goes on with it")]
    Unfinished { id: String },
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Somebody writes it now.
    Running,
    /// Nobody writes it and it has no end; it can be resumed.
    Interrupted,
    Finished,
    /// It ended without a report; it can be tried again from what it has.
    Failed,
    /// Somebody ended it; it can be resumed.
    Cancelled,
}

/// A run as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub id: String,
    pub state: State,
    pub created: SystemTime,
    pub topic: String,
    pub model: String,
    /// Once there is a plan.
    pub title: Option<String>,
    /// The run that it is compared with; itself if that is the one whose plan the others share.
    pub comparison: Option<String>,
}

/// A run as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub summary: Summary,
    pub request: ReportRequest,
    pub done: Done,
    /// What the last session ended with, if it failed.
    pub failure: Option<String>,
    facts: Option<Facts>,
}

/// An event, its number within its run (from 1), and when it was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub number: u64,
    pub at: SystemTime,
    pub event: ReportEvent,
}

/// The folder that runs are kept in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    folder: PathBuf,
}

/// `tutti` of the platform's data folder.
pub fn default_folder() -> Result<PathBuf, RunsError> {
    use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
    let strategy = choose_native_strategy()
        .map_err(|error| RunsError::NoFolder { reason: error.to_string() })?;
    Ok(strategy.data_dir().join("tutti"))
}

impl Runs {
    /// Makes the folder and the file in it if they are not there, and brings an older file to
    /// this version.
    pub fn open(folder: &Path) -> Result<Self, RunsError> {
        let runs = Self { folder: folder.to_owned() };
        fs::create_dir_all(runs.locks())
            .map_err(|source| RunsError::Folder { folder: folder.to_owned(), source })?;
        let mut db = runs.connect()?;
        schema::migrate(&mut db, &runs.file())?;
        Ok(runs)
    }

    /// Keeps a new run and takes it.
    pub fn begin(&self, request: ReportRequest) -> Result<Session, RunsError> {
        self.insert(request, Place::Alone)
    }

    fn insert(&self, request: ReportRequest, place: Place<'_>) -> Result<Session, RunsError> {
        let db = self.connect()?;
        let json = serde_json::to_string(&request).expect("a request's keys are strings");
        loop {
            let id = new_id();
            let lock = self.lock(&id)?;
            let comparison = match place {
                Place::Alone => None,
                Place::First => Some(id.as_str()),
                Place::With(first) => Some(first),
            };
            let inserted = db.execute(
                "INSERT OR IGNORE INTO run (id, created, request, state, comparison)
                 VALUES (?1, ?2, ?3, 'open', ?4)",
                params![id, to_millis(SystemTime::now()), json, comparison],
            );
            if inserted.map_err(|source| self.broken(source))? == 1 {
                return Ok(Session::new(self.clone(), db, (id, lock), request, Done::default()));
            }
        }
    }

    /// Takes a run that is not finished, to go on with it.
    pub fn resume(&self, id: &str) -> Result<Session, RunsError> {
        let id = self.find(id)?;
        let lock = self.lock(&id)?;
        let run = self.load(&id)?;
        if run.facts.is_some() {
            return Err(RunsError::Finished { id });
        }
        let db = self.connect()?;
        db.execute("UPDATE run SET state = 'open' WHERE id = ?1", [&id])
            .map_err(|source| self.broken(source))?;
        Ok(Session::new(self.clone(), db, (id, lock), run.request, run.done.without_failures()))
    }

    /// All runs, the newest first.
    pub fn list(&self) -> Result<Vec<Summary>, RunsError> {
        let rows = self.select("SELECT * FROM run ORDER BY created DESC, id", &[], kept)?;
        rows.into_iter().map(|kept| Ok(self.open_kept(kept)?.0)).collect()
    }

    /// A run by its id or an unambiguous beginning of it.
    pub fn load(&self, id: &str) -> Result<Run, RunsError> {
        let id = self.find(id)?;
        let found = self.select("SELECT * FROM run WHERE id = ?1", &[&id], kept)?.pop();
        let (mut summary, request) =
            self.open_kept(found.ok_or_else(|| RunsError::Unknown { id: id.clone() })?)?;
        let entries = self.milestones(&id)?;
        let events = || entries.iter().map(|entry| &entry.event);
        let done = Done::of(events(), seconds(&entries));
        let facts = events().find_map(|event| match event {
            ReportEvent::Finished(facts) => Some(facts.clone()),
            _ => None,
        });
        let failure = match events().next_back() {
            Some(ReportEvent::Failed { reason }) => Some(reason.clone()),
            _ => None,
        };
        summary.title = done.planned().map(|planned| planned.plan.title.clone());
        Ok(Run { summary, request, done, failure, facts })
    }

    /// The events of a run after number `after`, in order.
    pub fn entries(&self, id: &str, after: u64) -> Result<Vec<Entry>, RunsError> {
        let sql =
            "SELECT number, at, body FROM event WHERE run = ?1 AND number > ?2 ORDER BY number";
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.read_entries(id, sql, &[&id, &after])
    }

    /// Says that somebody ended the run, which nobody writes any more, on purpose.
    pub fn cancel(&self, id: &str) -> Result<(), RunsError> {
        let id = self.find(id)?;
        let _lock = self.lock(&id)?;
        self.connect()?
            .execute("UPDATE run SET state = 'cancelled' WHERE id = ?1 AND state = 'open'", [&id])
            .map_err(|source| self.broken(source))?;
        Ok(())
    }

    /// Ends a run that nobody writes, for good: it is not there any more.
    pub fn delete(&self, id: &str) -> Result<(), RunsError> {
        let id = self.find(id)?;
        let lock = self.lock(&id)?;
        self.connect()?
            .execute("DELETE FROM run WHERE id = ?1", [&id])
            .map_err(|source| self.broken(source))?;
        // Nobody needs the lock of a run that is not there; a file that stays does no harm.
        let _ = fs::remove_file(self.lock_file(&id));
        drop(lock);
        Ok(())
    }

    /// The whole id of the one run whose id begins so.
    pub fn find(&self, id: &str) -> Result<String, RunsError> {
        let unknown = || RunsError::Unknown { id: id.to_owned() };
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(unknown());
        }
        let sql = "SELECT id FROM run WHERE id GLOB ?1 || '*' ORDER BY id";
        let mut ids: Vec<String> = self.select(sql, &[&id], |row| row.get(0))?;
        match (ids.len(), ids.pop()) {
            (1, Some(id)) => Ok(id),
            (0, _) | (_, None) => Err(unknown()),
            (count, _) => Err(RunsError::Ambiguous { id: id.to_owned(), count }),
        }
    }

    /// The events that say what is done, without the text on the way.
    fn milestones(&self, id: &str) -> Result<Vec<Entry>, RunsError> {
        let sql = "SELECT number, at, body FROM event WHERE run = ?1 \
                   AND kind NOT IN ('plan_delta', 'section_delta', 'queued') ORDER BY number";
        self.read_entries(id, sql, &[&id])
    }

    fn read_entries(
        &self,
        id: &str,
        sql: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<Entry>, RunsError> {
        let rows = self.select(sql, values, |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
        })?;
        let entry = |(number, at, body): (i64, i64, String)| {
            let event = self.parse(id, &body)?;
            Ok(Entry { number: number.cast_unsigned(), at: from_millis(at), event })
        };
        rows.into_iter().map(entry).collect()
    }

    fn select<T>(
        &self,
        sql: &str,
        values: &[&dyn rusqlite::ToSql],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, RunsError> {
        let db = self.connect()?;
        let rows = db.prepare(sql).and_then(|mut statement| {
            statement.query_map(values, read)?.collect::<rusqlite::Result<Vec<T>>>()
        });
        rows.map_err(|source| self.broken(source))
    }

    fn open_kept(&self, kept: Kept) -> Result<(Summary, ReportRequest), RunsError> {
        let Kept { id, created, request, state, title, comparison } = kept;
        let request: ReportRequest = self.parse(&id, &request)?;
        let state = match state.as_str() {
            "finished" => State::Finished,
            "failed" => State::Failed,
            "cancelled" => State::Cancelled,
            _ if self.is_taken(&id) => State::Running,
            _ => State::Interrupted,
        };
        let (topic, model) = (request.topic.clone(), request.model.clone());
        let created = from_millis(created);
        Ok((Summary { id, state, created, topic, model, title, comparison }, request))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, id: &str, json: &str) -> Result<T, RunsError> {
        serde_json::from_str(json).map_err(|error| RunsError::Entry {
            file: self.file(),
            id: id.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Takes the run's lock, or says that somebody has it.
    fn lock(&self, id: &str) -> Result<File, RunsError> {
        let failed = |source| RunsError::Folder { folder: self.locks(), source };
        let file = File::options().create(true).append(true).open(self.lock_file(id));
        let file = file.map_err(failed)?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        Err(RunsError::Taken { id: id.to_owned() })
    }

    fn is_taken(&self, id: &str) -> bool {
        let file = File::open(self.lock_file(id));
        // The look itself is a shared lock for a moment.
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn connect(&self) -> Result<Connection, RunsError> {
        let open = || {
            let db = Connection::open(self.file())?;
            db.busy_timeout(BUSY)?;
            db.pragma_update(None, "foreign_keys", true)?;
            // In WAL mode this never corrupts; after a power cut the last events may be missing.
            db.pragma_update(None, "synchronous", "NORMAL")?;
            Ok(db)
        };
        open().map_err(|source| self.broken(source))
    }

    fn broken(&self, source: rusqlite::Error) -> RunsError {
        RunsError::Database { file: self.file(), source }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("reports.db")
    }

    fn locks(&self) -> PathBuf {
        self.folder.join("locks")
    }

    fn lock_file(&self, id: &str) -> PathBuf {
        self.locks().join(format!("{id}.lock"))
    }
}

impl Run {
    /// The report, once it is finished.
    pub fn report(&self) -> Result<Report, RunsError> {
        let id = &self.summary.id;
        let unfinished = || RunsError::Unfinished { id: id.clone() };
        let facts = self.facts.clone().ok_or_else(unfinished)?;
        let planned = self.done.planned().ok_or_else(unfinished)?;
        let topic = self.request.topic.clone();
        Ok(Report::assembled(topic, planned.plan.clone(), &self.done, facts))
    }
}

/// A row of the table.
struct Kept {
    id: String,
    created: i64,
    request: String,
    state: String,
    title: Option<String>,
    comparison: Option<String>,
}

/// Where a new run belongs.
#[derive(Clone, Copy)]
enum Place<'a> {
    Alone,
    /// The first of a comparison.
    First,
    /// In the comparison of this run.
    With(&'a str),
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    Ok(Kept {
        id: row.get("id")?,
        created: row.get("created")?,
        request: row.get("request")?,
        state: row.get("state")?,
        title: row.get("title")?,
        comparison: row.get("comparison")?,
    })
}

/// The wall time of all sessions: each lasts from its first event to its last.
fn seconds(entries: &[Entry]) -> f64 {
    let since = |first: &Entry, last: &Entry| last.at.duration_since(first.at).unwrap_or_default();
    let mut total = Duration::ZERO;
    let mut first: Option<&Entry> = None;
    let mut last: Option<&Entry> = None;
    for entry in entries {
        if matches!(entry.event, ReportEvent::Started { .. }) {
            total += first.zip(last).map_or(Duration::ZERO, |(first, last)| since(first, last));
            first = Some(entry);
        }
        last = Some(entry);
    }
    total += first.zip(last).map_or(Duration::ZERO, |(first, last)| since(first, last));
    total.as_secs_f64()
}

/// Eight hexadecimal digits, short enough to be typed.
fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..8].to_owned()
}

fn to_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn from_millis(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
