//! A response as it is written: items of output, and the events that tell of them.

use std::collections::VecDeque;

use serde_json::{Value, json};
use uuid::Uuid;

use super::request::Echo;
use crate::{
    engine::{FinishReason, ScoredPiece, Usage},
    server::{
        ApiError,
        generation::Scores,
        tools::{Part, Reader, Toolbox},
        unix_seconds,
        wire::Token,
    },
};

pub(super) struct Writer {
    id: String,
    created: u64,
    model: String,
    echo: Echo,
    reader: Reader,
    /// Writes the log-probabilities if they were asked for.
    scores: Option<Scores>,
    /// Pieces whose text is in no item yet.
    pieces: VecDeque<ScoredPiece>,
    items: Vec<Item>,
    end: End,
}

enum Item {
    Message { id: String, text: String, logprobs: Vec<Value> },
    Call { id: String, call_id: String, name: String, arguments: String },
}

/// How the response stands.
enum End {
    Running,
    Finished(FinishReason, Usage),
    Failed(String),
}

impl Writer {
    pub(super) fn new(model: &str, echo: Echo, toolbox: &Toolbox, scores: Option<Scores>) -> Self {
        Self {
            id: named("resp"),
            created: unix_seconds(),
            model: model.to_owned(),
            echo,
            reader: Reader::new(toolbox),
            scores,
            pieces: VecDeque::new(),
            items: Vec::new(),
            end: End::Running,
        }
    }

    pub(super) fn begin(&self, events: &mut Vec<Value>) {
        events.push(json!({ "type": "response.created", "response": self.response() }));
        events.push(json!({ "type": "response.in_progress", "response": self.response() }));
    }

    /// `pieces` are those that the text consists of, where they are told.
    pub(super) fn text(
        &mut self,
        text: &str,
        pieces: Vec<ScoredPiece>,
        events: &mut Vec<Value>,
    ) -> Result<(), ApiError> {
        // One by one, so that those of a call are known from those of the text around it.
        let (mut read, mut end) = (0, 0);
        for piece in pieces {
            end += piece.bytes.len();
            self.pieces.push_back(piece);
            if let Some(text) = text.get(read..end) {
                self.read(text, events)?;
                read = end;
            }
        }
        self.read(&text[read..], events)
    }

    fn read(&mut self, text: &str, events: &mut Vec<Value>) -> Result<(), ApiError> {
        let parts = self.reader.push(text);
        parts.into_iter().try_for_each(|part| self.part(part, events))
    }

    pub(super) fn finish(
        &mut self,
        reason: FinishReason,
        usage: Usage,
        events: &mut Vec<Value>,
    ) -> Result<(), ApiError> {
        let parts = self.reader.finish();
        parts.into_iter().try_for_each(|part| self.part(part, events))?;
        // An answer without words is a message without words.
        if self.items.is_empty() {
            self.open_message(events);
        }
        self.close(reason == FinishReason::Length, events);
        self.end = End::Finished(reason, usage);
        let kind = format!("response.{}", self.status());
        events.push(json!({ "type": kind, "response": self.response() }));
        Ok(())
    }

    pub(super) fn fail(&mut self, error: &ApiError, events: &mut Vec<Value>) {
        error.log();
        self.end = End::Failed(error.to_string());
        events.push(json!({ "type": "response.failed", "response": self.response() }));
    }

    fn part(&mut self, part: Part, events: &mut Vec<Value>) -> Result<(), ApiError> {
        match part {
            Part::Text(more) => {
                if !matches!(self.items.last(), Some(Item::Message { .. })) {
                    self.close(false, events);
                    self.open_message(events);
                }
                let told = self.told(&more)?;
                let output_index = self.items.len() - 1;
                if let Some(Item::Message { id, text, logprobs }) = self.items.last_mut() {
                    text.push_str(&more);
                    events.push(json!({
                        "type": "response.output_text.delta", "item_id": id,
                        "output_index": output_index, "content_index": 0,
                        "delta": more, "logprobs": told,
                    }));
                    logprobs.extend(told);
                }
            }
            Part::Call { id: call_id, name } => {
                // A call's own are in no text.
                self.pieces.clear();
                self.close(false, events);
                let (id, arguments) = (named("fc"), String::new());
                self.items.push(Item::Call { id, call_id, name, arguments });
                self.tell_item("response.output_item.added", "in_progress", events);
            }
            Part::Arguments(more) => {
                let output_index = self.items.len() - 1;
                if let Some(Item::Call { id, arguments, .. }) = self.items.last_mut() {
                    arguments.push_str(&more);
                    events.push(json!({
                        "type": "response.function_call_arguments.delta", "item_id": id,
                        "output_index": output_index, "delta": more,
                    }));
                }
            }
        }
        Ok(())
    }

    /// The log-probabilities of the pieces that this text consists of.
    fn told(&mut self, text: &str) -> Result<Vec<Value>, ApiError> {
        let Some(scores) = &self.scores else { return Ok(Vec::new()) };
        // White space after a call is in no text either.
        let blank = |piece: &ScoredPiece| piece.bytes.iter().all(u8::is_ascii_whitespace);
        let begins = |piece: &ScoredPiece| text.as_bytes().starts_with(&piece.bytes);
        while self.pieces.front().is_some_and(|piece| blank(piece) && !begins(piece)) {
            self.pieces.pop_front();
        }
        let (mut length, mut pieces) = (0, Vec::new());
        while length < text.len()
            && let Some(piece) = self.pieces.pop_front()
        {
            length += piece.bytes.len();
            pieces.push(piece);
        }
        Ok(as_written(&scores.chat(&pieces)?.content))
    }

    fn open_message(&mut self, events: &mut Vec<Value>) {
        let id = named("msg");
        let output_index = self.items.len();
        let item = json!({
            "id": id, "type": "message", "role": "assistant", "status": "in_progress",
            "content": [],
        });
        events.push(json!({
            "type": "response.output_item.added", "output_index": output_index, "item": item,
        }));
        events.push(json!({
            "type": "response.content_part.added", "item_id": id, "output_index": output_index,
            "content_index": 0, "part": output_text("", &[]),
        }));
        self.items.push(Item::Message { id, text: String::new(), logprobs: Vec::new() });
    }

    /// Tells that the last item is done.
    fn close(&mut self, cut: bool, events: &mut Vec<Value>) {
        let output_index = self.items.len().saturating_sub(1);
        match self.items.last() {
            None => return,
            Some(Item::Message { id, text, logprobs }) => {
                let place = |kind: &str| {
                    json!({
                        "type": kind, "item_id": id, "output_index": output_index,
                        "content_index": 0,
                    })
                };
                let mut done = place("response.output_text.done");
                done["text"] = json!(text);
                done["logprobs"] = json!(logprobs);
                events.push(done);
                let mut done = place("response.content_part.done");
                done["part"] = output_text(text, logprobs);
                events.push(done);
            }
            Some(Item::Call { id, name, arguments, .. }) => events.push(json!({
                "type": "response.function_call_arguments.done", "item_id": id, "name": name,
                "output_index": output_index, "arguments": arguments,
            })),
        }
        let status = if cut { "incomplete" } else { "completed" };
        self.tell_item("response.output_item.done", status, events);
    }

    fn tell_item(&self, kind: &str, status: &str, events: &mut Vec<Value>) {
        let Some(item) = self.items.last() else { return };
        events.push(json!({
            "type": kind, "output_index": self.items.len() - 1, "item": item.wire(status),
        }));
    }

    fn status(&self) -> &'static str {
        match self.end {
            End::Running => "in_progress",
            End::Finished(FinishReason::Stop, _) => "completed",
            End::Finished(FinishReason::Length, _) => "incomplete",
            End::Failed(_) => "failed",
        }
    }

    /// The object as it stands.
    pub(super) fn response(&self) -> Value {
        let Echo { instructions, metadata, temperature, tools, .. } = &self.echo;
        let status = self.status();
        let last = self.items.len().saturating_sub(1);
        let state = |index| match status {
            _ if index < last => "completed",
            "failed" => "incomplete",
            status => status,
        };
        let items = self.items.iter().enumerate();
        let output = items.map(|(index, item)| item.wire(state(index)));
        let cut = status == "incomplete";
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": match &self.end {
                End::Failed(message) => json!({ "code": "server_error", "message": message }),
                _ => Value::Null,
            },
            "incomplete_details": cut.then(|| json!({ "reason": "max_output_tokens" })),
            "instructions": instructions,
            "max_output_tokens": self.echo.max_output_tokens,
            "metadata": metadata,
            "model": self.model,
            "output": output.collect::<Vec<_>>(),
            "parallel_tool_calls": self.echo.parallel_tool_calls,
            "previous_response_id": null,
            "store": false,
            "temperature": decimal(*temperature),
            "text": { "format": self.echo.format },
            "tool_choice": self.echo.tool_choice,
            "tools": tools,
            "top_logprobs": self.echo.top_logprobs,
            "top_p": decimal(self.echo.top_p),
            "truncation": "disabled",
            "usage": match &self.end {
                End::Finished(_, usage) => usage_of(*usage),
                _ => Value::Null,
            },
        })
    }
}

impl Item {
    fn wire(&self, status: &str) -> Value {
        match self {
            Self::Message { id, text, logprobs } => json!({
                "id": id, "type": "message", "role": "assistant", "status": status,
                "content": [output_text(text, logprobs)],
            }),
            Self::Call { id, call_id, name, arguments } => json!({
                "id": id, "type": "function_call", "status": status, "call_id": call_id,
                "name": name, "arguments": arguments,
            }),
        }
    }
}

fn output_text(text: &str, logprobs: &[Value]) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": logprobs })
}

fn usage_of(usage: Usage) -> Value {
    // The details are required. A cache is not written on its own account, and nothing is thought
    // aloud.
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens.unwrap_or(0), "cache_write_tokens": 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

/// With the digits that chats have: a `Value` made of them directly has those of an `f64`.
fn as_written(tokens: &[Token]) -> Vec<Value> {
    let written = serde_json::to_string(tokens).expect("tokens have string keys only");
    serde_json::from_str(&written).expect("what was written as JSON is JSON")
}

/// With the digits that were sent.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().expect("what a number is written as is a number")
}

fn named(kind: &str) -> String {
    format!("{kind}_{}", Uuid::new_v4().simple())
}
