//! Generations as server-sent events or in one piece, in whatever words an endpoint has for them.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{self, KeepAlive, Sse},
};
use futures::stream;
use serde::Serialize;

use super::{
    ApiError, App,
    error::Names,
    generation::{Answer, Choices, admit},
    ops::Record,
    wire::naming,
};
use crate::engine::{Event, GenerateRequest};

/// What an endpoint sends: all in one piece, or events, of which each other call may add some.
pub(super) trait Transcript: Send + 'static {
    /// Instead of everything else: the choices in order.
    fn whole(self, answers: Vec<Answer>) -> Result<Response, ApiError>;
    /// Before the prompt has been read.
    fn begin(&mut self, out: &mut Out);
    /// `choice` is none that has finished.
    fn take(&mut self, choice: usize, event: Event, out: &mut Out) -> Result<(), ApiError>;
    /// After all choices have finished.
    fn end(&mut self, out: &mut Out);
    /// Instead of the end: the answer is not whole.
    fn fail(&mut self, error: &ApiError, out: &mut Out);
}

/// Events on their way out.
#[derive(Default)]
pub(super) struct Out(VecDeque<sse::Event>);

impl Out {
    pub(super) fn json(&mut self, value: &impl Serialize) {
        self.0.push_back(with_data(sse::Event::default(), value));
    }

    /// An event with a name.
    pub(super) fn named(&mut self, name: &str, value: &impl Serialize) {
        self.0.push_back(with_data(sse::Event::default().event(name), value));
    }

    /// The next to be sent.
    pub(super) fn pop(&mut self) -> Option<sse::Event> {
        self.0.pop_front()
    }

    pub(super) fn done(&mut self) {
        self.0.push_back(sse::Event::default().data("[DONE]"));
    }
}

fn with_data(event: sse::Event, value: &impl Serialize) -> sse::Event {
    event.json_data(value).expect("chunks have string keys only")
}

/// What a request asks of the engine, and how its answer is to be sent.
pub(super) struct Asked {
    pub(super) requests: Vec<GenerateRequest>,
    pub(super) names: Names,
    pub(super) stream: bool,
    /// The fields that nothing reads.
    pub(super) ignored: Vec<String>,
}

pub(super) async fn answer(
    app: &App,
    record: Arc<Record>,
    asked: Asked,
    transcript: impl Transcript,
) -> Result<Response, ApiError> {
    let Asked { requests, names, stream, ignored } = asked;
    let choices = admit(app, record, requests, names).await?;
    let answer = if stream {
        respond(choices, transcript, app.config.keep_alive)
    } else {
        transcript.whole(choices.collect().await?)?
    };
    Ok(naming(&ignored, answer))
}

struct Sending<T> {
    transcript: T,
    /// `None` once nothing more comes.
    choices: Option<Choices>,
    out: Out,
}

/// The generations live in the body: when the client goes away the body is dropped and they with
/// it.
fn respond(choices: Choices, mut transcript: impl Transcript, keep_alive: Duration) -> Response {
    let mut out = Out::default();
    transcript.begin(&mut out);
    let sending = Sending { transcript, choices: Some(choices), out };
    let events = stream::unfold(sending, async |mut sending| {
        let event = sending.next().await?;
        Some((Ok::<_, Infallible>(event), sending))
    });
    let comments = KeepAlive::new().interval(keep_alive).text("keep-alive");
    Sse::new(events).keep_alive(comments).into_response()
}

impl<T: Transcript> Sending<T> {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.out.pop() {
                return Some(event);
            }
            let report = self.choices.as_mut()?.next().await;
            let Some((choice, event)) = report else {
                self.choices = None;
                self.transcript.end(&mut self.out);
                continue;
            };
            let taken = event.and_then(|event| self.transcript.take(choice, event, &mut self.out));
            if let Err(error) = taken {
                self.choices = None;
                self.transcript.fail(&error, &mut self.out);
            }
        }
    }
}
