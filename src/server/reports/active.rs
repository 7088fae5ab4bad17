//! The reports that this server is writing now.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, task::JoinHandle};

use super::off_thread;
use crate::{
    engine::{Generate, GenerateError},
    report::{
        ReportRequest,
        runs::{Runs, Session},
    },
    server::ApiError,
};

/// The most reports at once: each asks for all of its sections at the same time, and those that
/// are too many wait for each other anyway.
const MOST: usize = 8;

/// Shared by all requests of one server.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Active(Arc<Mutex<BTreeMap<String, Task>>>);

#[derive(Debug)]
struct Task {
    /// The number of the last event that is kept; closed when the task has ended.
    kept: watch::Receiver<u64>,
    writing: JoinHandle<()>,
}

/// A report that has just been started.
pub(super) struct Started {
    pub(super) id: String,
    active: Active,
}

/// Keeps the run and writes it on a task of its own.
pub(super) async fn start(
    active: &Active,
    runs: Runs,
    engine: Arc<dyn Generate>,
    request: ReportRequest,
) -> Result<Started, ApiError> {
    if active.tasks().len() >= MOST {
        return Err(GenerateError::QueueFull { waiting: MOST }.into());
    }
    let session = off_thread(move || runs.begin(request)).await?;
    let id = session.id().to_owned();
    let (kept, watched) = watch::channel(0);
    // Held until the task is entered, so that one that ends at once finds itself there.
    let mut tasks = active.tasks();
    let writing = tokio::spawn(write(session, engine, kept, active.clone()));
    tasks.insert(id.clone(), Task { kept: watched, writing });
    drop(tasks);
    Ok(Started { id, active: active.clone() })
}

async fn write(
    session: Session,
    engine: Arc<dyn Generate>,
    kept: watch::Sender<u64>,
    active: Active,
) {
    let id = session.id().to_owned();
    let written = session
        .write(engine, &mut |number, _| {
            kept.send_replace(number);
        })
        .await;
    if let Err(error) = written {
        tracing::warn!(report = id, "{error}");
    }
    active.tasks().remove(&id);
}

impl Active {
    /// Tells how many events of the run are kept; `None` if it is not being written here.
    pub(super) fn watch(&self, id: &str) -> Option<watch::Receiver<u64>> {
        self.tasks().get(id).map(|task| task.kept.clone())
    }

    /// Ends the run if it is being written here; true once nobody writes it any more.
    pub(super) async fn cancel(&self, id: &str) -> bool {
        let Some(task) = self.tasks().remove(id) else { return false };
        task.writing.abort();
        // An error says that it was cancelled, as it should be.
        let _ = task.writing.await;
        true
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<String, Task>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Started {
    /// Waits for the report's end; its id. Dropping this before ends the report too.
    pub(super) async fn ended(self) -> String {
        let id = self.id.clone();
        let guard = EndsWithRequest(self);
        if let Some(mut kept) = guard.0.active.watch(&id) {
            while kept.changed().await.is_ok() {}
        }
        id
    }
}

/// A report that nobody waits for any more is not written on; what it has can be resumed.
struct EndsWithRequest(Started);

impl Drop for EndsWithRequest {
    fn drop(&mut self) {
        if let Some(task) = self.0.active.tasks().remove(&self.0.id) {
            task.writing.abort();
        }
    }
}
