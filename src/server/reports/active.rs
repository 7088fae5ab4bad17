//! The reports that this server is writing now.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, task::JoinHandle};

use super::off_thread;
use crate::{
    engine::{Counters, Generate, GenerateError},
    report::{ReportRequest, runs::Session},
    server::{ApiError, App, life::Life},
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
pub(in crate::server) struct Started {
    pub(in crate::server) id: String,
    active: Active,
}

/// Keeps the run and writes it on a task of its own.
pub(in crate::server) async fn start(
    app: &App,
    request: ReportRequest,
) -> Result<Started, ApiError> {
    let (active, runs, engine) = (&app.active, app.runs().clone(), app.engine.clone());
    if active.tasks().len() >= MOST {
        return Err(GenerateError::QueueFull { waiting: MOST }.into());
    }
    // A report whose sections find no place waits for them; one that finds none at all is refused
    // like any request.
    let Counters { running, waiting, places, .. } = engine.counters();
    if running + waiting >= places {
        return Err(GenerateError::QueueFull { waiting }.into());
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
    /// Waits for the report's end; its id. Dropping this before ends the report too, as the
    /// server's end does.
    pub(in crate::server) async fn ended(self, life: &Life) -> Result<String, ApiError> {
        let guard = self.guarded();
        let ended = async {
            if let Some(mut kept) = guard.0.active.watch(&guard.0.id) {
                while kept.changed().await.is_ok() {}
            }
        };
        tokio::select! {
            biased;
            () = ended => Ok(guard.0.id.clone()),
            () = life.over() => Err(GenerateError::Stopped.into()),
        }
    }

    /// The report ends when this is dropped.
    pub(in crate::server) fn guarded(self) -> EndsWithRequest {
        EndsWithRequest(self)
    }
}

/// A report that nobody waits for any more is not written on; what it has can be resumed.
pub(in crate::server) struct EndsWithRequest(Started);

impl Drop for EndsWithRequest {
    fn drop(&mut self) {
        if let Some(task) = self.0.active.tasks().remove(&self.0.id) {
            task.writing.abort();
        }
    }
}
