//! A generation as server-sent events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{self, KeepAlive, Sse},
};
use futures::stream;
use serde::Serialize;

use super::{
    StreamOptions,
    ensemble::{WireFusion, WireWarning},
    response::{Chunk, Head, Part},
};
use crate::{
    engine::Event,
    server::{ApiError, generation::Running},
};

/// The role chunk goes out at once, before the prompt has been read. The generation lives in the
/// body: when the client goes away the body is dropped and the generation with it.
pub(super) fn respond(
    generation: Running,
    head: Head,
    options: StreamOptions,
    keep_alive: Duration,
) -> Response {
    let mut transcript = Transcript {
        head,
        with_usage: options.include_usage.unwrap_or(false),
        generation: Some(generation),
        ready: VecDeque::new(),
        fusion: WireFusion::default(),
    };
    transcript.push_part(Part::Role);
    let events = stream::unfold(transcript, async |mut transcript| {
        let event = transcript.next().await?;
        Some((Ok::<_, Infallible>(event), transcript))
    });
    let comments = KeepAlive::new().interval(keep_alive).text("keep-alive");
    Sse::new(events).keep_alive(comments).into_response()
}

/// What remains to be sent.
struct Transcript {
    head: Head,
    with_usage: bool,
    /// `None` once its last event has come.
    generation: Option<Running>,
    ready: VecDeque<sse::Event>,
    /// What the end will say of the members.
    fusion: WireFusion,
}

impl Transcript {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let event = self.generation.as_mut()?.next().await;
            self.take(event);
        }
    }

    fn take(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Started { .. }) => {}
            Some(Event::Text { text, .. }) => {
                // Steps whose bytes do not yet make a character have nothing to say.
                if !text.is_empty() {
                    self.push_part(Part::Text(text));
                }
            }
            Some(Event::Warning { member, reason }) => {
                self.fusion.warnings.push(WireWarning { member, reason });
            }
            Some(Event::Finished { reason, usage }) => {
                self.generation = None;
                let fusion = std::mem::take(&mut self.fusion).with_usage(usage);
                self.push_part(Part::Finish(reason, fusion));
                if self.with_usage {
                    let event = to_event(&Chunk::usage(&self.head, usage));
                    self.ready.push_back(event);
                }
                self.ready.push_back(sse::Event::default().data("[DONE]"));
            }
            Some(Event::Failed(error)) => self.fail(&error.into()),
            None => self.fail(&ApiError::Unfinished),
        }
    }

    /// Ends without `[DONE]`: the answer is not whole.
    fn fail(&mut self, error: &ApiError) {
        self.generation = None;
        self.ready.push_back(to_event(&error.object()));
    }

    fn push_part(&mut self, part: Part) {
        let event = to_event(&Chunk::delta(&self.head, part, self.with_usage));
        self.ready.push_back(event);
    }
}

fn to_event(value: &impl Serialize) -> sse::Event {
    sse::Event::default().json_data(value).expect("chunks have string keys only")
}
