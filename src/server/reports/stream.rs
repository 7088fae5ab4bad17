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
    server::App,
};

/// The events after number `after`, as they come, to the end of the run.
pub(super) fn respond(app: &App, id: String, after: u64) -> Response {
    let kept = app.active.watch(&id);
    let runs = app.runs().clone();
    let reading = Reading { runs, id, after, kept, ready: VecDeque::new(), told_end: false };
    let events = stream::unfold(reading, async |mut reading| {
        let event = reading.next().await?;
        Some((Ok::<_, Infallible>(event), reading))
    });
    let comments = KeepAlive::new().interval(app.config.keep_alive).text("keep-alive");
    Sse::new(events).keep_alive(comments).into_response()
}

struct Reading {
    runs: Runs,
    id: String,
    /// The last event that was sent.
    after: u64,
    /// `None` if nobody writes the run here (any more).
    kept: Option<watch::Receiver<u64>>,
    ready: VecDeque<Event>,
    /// The stream's last event was sent.
    told_end: bool,
}

impl Reading {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.told_end {
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
        let Entry { number, event, .. } = entry;
        self.after = number;
        // A run that failed and was resumed has more to say.
        let is_last = matches!(event, ReportEvent::Finished(_) | ReportEvent::Failed { .. });
        self.told_end = is_last;
        self.ready.push_back(to_event(&event).id(number.to_string()));
    }

    /// Until there is more to read; the stream ends where nobody writes.
    async fn wait(&mut self) {
        match &mut self.kept {
            None => self.end("the report is not being written; resume it"),
            Some(kept) => {
                if kept.changed().await.is_err() {
                    // What was written last has still to be read.
                    self.kept = None;
                }
            }
        }
    }

    /// Ends with an event that is none of the run's, so that it can be picked up from the last.
    fn end(&mut self, reason: &str) {
        self.told_end = true;
        self.ready.push_back(to_event(&ReportEvent::Failed { reason: reason.to_owned() }));
    }
}

/// Named as its kind, for `addEventListener`.
fn to_event(event: &ReportEvent) -> Event {
    let json = serde_json::to_value(event).expect("an event's keys are strings");
    let name = json["event"].as_str().unwrap_or_default().to_owned();
    Event::default().event(name).json_data(json).expect("a value is JSON")
}
