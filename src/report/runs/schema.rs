//! The tables, and how an older file comes to have them.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{BUSY, RunsError};

/// What makes version `n + 1` of version `n`; never changed, only added to.
const STEPS: [&str; 2] = [
    "
    CREATE TABLE run (
        id      TEXT PRIMARY KEY,
        created INTEGER NOT NULL,   -- Unix milliseconds
        request TEXT NOT NULL,      -- JSON
        state   TEXT NOT NULL,      -- open, finished, failed, cancelled
        title   TEXT                -- of the plan
    ) STRICT;
    CREATE TABLE event (
        run    TEXT NOT NULL REFERENCES run ON DELETE CASCADE,
        number INTEGER NOT NULL,    -- from 1
        at     INTEGER NOT NULL,    -- Unix milliseconds
        kind   TEXT NOT NULL,
        body   TEXT NOT NULL,       -- JSON
        PRIMARY KEY (run, number)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- The run whose plan this one shares, to be compared with it; its own id for that run itself.
    ALTER TABLE run ADD COLUMN comparison TEXT REFERENCES run ON DELETE SET NULL;
    CREATE TABLE score (
        run   TEXT NOT NULL REFERENCES run ON DELETE CASCADE,
        model TEXT NOT NULL,        -- that finds the run's texts so probable
        body  TEXT NOT NULL,        -- JSON
        PRIMARY KEY (run, model)
    ) STRICT, WITHOUT ROWID;
",
];

/// Brings the file to the newest version. Several processes may try at once.
pub(super) fn migrate(db: &mut Connection, file: &Path) -> Result<(), RunsError> {
    let broken = |source| RunsError::Database { file: file.to_owned(), source };
    // Kept by the file, and cannot be changed in a transaction. SQLite does not wait for others
    // that do it at the same moment.
    let begun = Instant::now();
    while let Err(error) = db.pragma_update(None, "journal_mode", "WAL") {
        if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || begun.elapsed() >= BUSY {
            return Err(broken(error));
        }
        thread::sleep(Duration::from_millis(20));
    }
    let step = |db: &mut Connection| -> rusqlite::Result<i64> {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        for sql in STEPS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
            transaction.execute_batch(sql)?;
        }
        let version = found.max(STEPS.len() as i64);
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
        Ok(version)
    };
    let known = STEPS.len() as i64;
    match step(db).map_err(broken)? {
        found if found > known => Err(RunsError::Newer { file: file.to_owned(), found, known }),
        _ => Ok(()),
    }
}
