//! A run's events as server-sent events, from the run store.

use std::{collections::VecDeque, convert::Infallible};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::stream;
use tokio::sync::watch;

use super::off_thread;
use crate::{
    report::{
        ReportEvent,
        runs::{Entry, Runs},
    },
    server::{App, life::Life},
};

/// The events after number `after`, as they come, to the end of the run.
pub(super) fn respond(app: &App, id: String, after: u64) -> Response {
    let reading = Reading::new(app, id, after);
    let events = stream::unfold(reading, async |mut reading| {
        let event = match reading.next().await? {
            Told::Entry(entry) => to_event(&entry.event).id(entry.number.to_string()),
            // None of the run's, so that it can be picked up from the last that is.
            Told::Over { reason } => to_event(&ReportEvent::Failed { reason }),
        };
        Some((Ok::<_, Infallible>(event), reading))
    });
    let comments = KeepAlive::new().interval(app.config.keep_alive).text("keep-alive");
    Sse::new(events).keep_alive(comments).into_response()
}

/// A run that is read as it is written.
pub(in crate::server) struct Reading {
    runs: Runs,
    id: String,
    /// The last event that was read.
    after: u64,
    /// `None` if nobody writes the run here (any more).
    kept: Option<watch::Receiver<u64>>,
    ready: VecDeque<Told>,
    /// There is nothing after what is ready.
    ended: bool,
    life: Life,
}

/// What comes of reading.
pub(in crate::server) enum Told {
    Entry(Box<Entry>),
    /// The run has no end and nobody writes it.
    Over {
        reason: String,
    },
}

impl Reading {
    pub(in crate::server) fn new(app: &App, id: String, after: u64) -> Self {
        let (kept, runs) = (app.active.watch(&id), app.runs().clone());
        Self { runs, id, after, kept, ready: VecDeque::new(), ended: false, life: app.life.clone() }
    }

    /// `None` after the run's end.
    pub(in crate::server) async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Some(told);
            }
            if self.ended {
                return None;
            }
            if let Some(kept) = &mut self.kept {
                kept.borrow_and_update();
            }
            let (runs, id, after) = (self.runs.clone(), self.id.clone(), self.after);
            let entries = off_thread(move || runs.entries(&id, after)).await;
            match entries {
                Ok(entries) if !entries.is_empty() => {
                    entries.into_iter().for_each(|entry| self.take(entry));
                }
                Ok(_) => self.wait().await,
                Err(error) => self.end(&error.to_string()),
            }
        }
    }

    fn take(&mut self, entry: Entry) {
        self.after = entry.number;
        // A run that failed and was resumed has more to say.
        self.ended = matches!(entry.event, ReportEvent::Finished(_) | ReportEvent::Failed { .. });
        self.ready.push_back(Told::Entry(Box::new(entry)));
    }

    /// Until there is more to read; the stream ends where nobody writes, and with the server.
    async fn wait(&mut self) {
        let Some(kept) = &mut self.kept else {
            return self.end("the report was cancelled or interrupted; resume it to go on");
        };
        tokio::select! {
            biased;
            more = kept.changed() => {
                if more.is_err() {
                    // What was written last has still to be read.
                    self.kept = None;
                }
            }
            () = self.life.over() => self.end("the server has stopped; resume the report"),
        }
    }

    fn end(&mut self, reason: &str) {
        self.ended = true;
        self.ready.push_back(Told::Over { reason: reason.to_owned() });
    }
}

/// Named as its kind, for `addEventListener`.
fn to_event(event: &ReportEvent) -> Event {
    let json = serde_json::to_value(event).expect("an event's keys are strings");
    let name = json["event"].as_str().unwrap_or_default().to_owned();
    Event::default().event(name).json_data(json).expect("a value is JSON")
}
