//! A response as events, each with its name and its number.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::writer::Writer;
use crate::{
    engine::Event,
    server::{
        ApiError,
        generation::Answer,
        sse::{Out, Transcript},
    },
};

pub(super) struct Events {
    writer: Writer,
    sent: usize,
}

impl Events {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, sent: 0 }
    }

    fn send(&mut self, events: Vec<Value>, out: &mut Out) {
        for mut event in events {
            event["sequence_number"] = json!(self.sent);
            self.sent += 1;
            let name = event["type"].as_str().unwrap_or_default().to_owned();
            out.named(&name, &event);
        }
    }
}

impl Transcript for Events {
    fn whole(mut self, mut answers: Vec<Answer>) -> Result<Response, ApiError> {
        let (mut answer, mut unsent) = (answers.pop().ok_or(ApiError::Unfinished)?, Vec::new());
        self.writer.text(&answer.text, std::mem::take(&mut answer.pieces), &mut unsent)?;
        self.writer.finish(answer.reason(), answer.usage(), &mut unsent)?;
        Ok(Json(self.writer.response()).into_response())
    }

    fn begin(&mut self, out: &mut Out) {
        let mut events = Vec::new();
        self.writer.begin(&mut events);
        self.send(events, out);
    }

    fn take(&mut self, _: usize, event: Event, out: &mut Out) -> Result<(), ApiError> {
        let mut events = Vec::new();
        match event {
            Event::Text { text, pieces, .. } => self.writer.text(&text, pieces, &mut events)?,
            Event::Finished { reason, usage } => self.writer.finish(reason, usage, &mut events)?,
            _ => {}
        }
        self.send(events, out);
        Ok(())
    }

    fn end(&mut self, _: &mut Out) {}

    fn fail(&mut self, error: &ApiError, out: &mut Out) {
        let mut events = Vec::new();
        self.writer.fail(error, &mut events);
        self.send(events, out);
    }
}
