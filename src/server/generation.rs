//! From a checked request to the events of its generation, with a watch on them.

use std::sync::Arc;

use super::{
    ApiError, App,
    life::Life,
    ops::{Clock, Record},
};
use crate::engine::{Event, GenerateError, GenerateRequest, Generation};

/// A generation under watch: its numbers are kept, and it ends with the server. Dropping it
/// cancels.
pub(super) struct Running {
    generation: Generation,
    clock: Clock,
    record: Arc<Record>,
    life: Life,
}

/// Tokenizing a long prompt takes milliseconds that the other connections should not wait for.
pub(super) async fn admit(
    app: &App,
    record: Arc<Record>,
    request: GenerateRequest,
) -> Result<Running, ApiError> {
    if app.config.log_prompts {
        tracing::info!(model = request.model, prompt = ?request.prompt, "asked");
    }
    let clock = Clock::start(app.metrics.clone(), &request.model);
    let engine = app.engine.clone();
    match tokio::task::spawn_blocking(move || engine.generate(request)).await {
        Ok(admitted) => {
            Ok(Running { generation: admitted?, clock, record, life: app.life.clone() })
        }
        Err(_) => Err(ApiError::Panicked),
    }
}

impl Running {
    /// The next event; `None` only if the engine died without a last one.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let event = tokio::select! {
            biased;
            event = self.generation.next() => event,
            () = self.life.over() => Some(Event::Failed(GenerateError::Stopped)),
        };
        match &event {
            Some(Event::Text { tokens, .. }) => self.clock.text(*tokens),
            Some(Event::Finished { reason, usage }) => {
                self.clock.finished(*reason, *usage);
                self.record.add(*usage);
            }
            Some(Event::Started { .. } | Event::Warning { .. } | Event::Failed(_)) | None => {}
        }
        event
    }
}
