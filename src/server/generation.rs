//! From checked requests to the events of their generations.

use std::sync::Arc;

use futures::{
    StreamExt,
    stream::{self, BoxStream, SelectAll},
};

use super::{
    ApiError, App,
    error::Names,
    life::Life,
    ops::Record,
    reports::writer,
    wire::{ChatLogprobs, TextLogprobs, WireFusion, WireWarning},
};
use crate::engine::{
    Event, FinishReason, Generate, GenerateError, GenerateRequest, Generation, ScoredPiece, Usage,
};

/// A generation that ends with the server. Dropping it cancels.
struct Running {
    generation: Generation,
    names: Names,
    record: Arc<Record>,
    life: Life,
}

/// What one choice reports: its number, and an event or why there is none.
type Report = (usize, Result<Event, ApiError>);

/// The choices of one request, whichever has something to say. Dropping it cancels all.
pub(super) struct Choices {
    reports: SelectAll<BoxStream<'static, Report>>,
    running: usize,
}

/// A whole generation.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) prompt: Vec<ScoredPiece>,
    pub(super) pieces: Vec<ScoredPiece>,
    pub(super) end: Option<(FinishReason, Usage)>,
    pub(super) fusion: WireFusion,
}

/// Admits all of them or none; errors are in the request's words. Tokenizing a long prompt takes
/// milliseconds that the other connections should not wait for.
pub(super) async fn admit(
    app: &App,
    record: Arc<Record>,
    requests: Vec<GenerateRequest>,
    names: Names,
) -> Result<Choices, ApiError> {
    if let Some(request) = requests.iter().find(|request| writer(app, &request.model).is_some()) {
        let reason = format!(
            "is `{}`, which answers chats with a report; ask it at /v1/chat/completions",
            request.model
        );
        return Err(ApiError::unsupported("model", reason));
    }
    let places = app.engine.counters().places;
    if places > 0 && requests.len() > places {
        let reason = format!(
            "asks for {} texts at once; this server takes at most {places} (`engine.max_sequences` \
             and `engine.queue` of its configuration), so send them in parts",
            requests.len()
        );
        let is_one = requests.windows(2).all(|two| two[0].prompt == two[1].prompt);
        return Err(ApiError::invalid(if is_one { "n" } else { names.prompt }, reason));
    }
    if app.config.log_prompts {
        for GenerateRequest { model, prompt, .. } in &requests {
            tracing::info!(model, ?prompt, "asked");
        }
    }
    let engine = app.engine.clone();
    let admit = move || requests.into_iter().map(|request| engine.generate(request)).collect();
    let admitted: Result<Vec<Generation>, GenerateError> =
        tokio::task::spawn_blocking(admit).await.map_err(|_| ApiError::Panicked)?;
    let admitted = admitted.map_err(|error| ApiError::from(error).in_words_of(names))?;
    let watched = admitted.into_iter().map(|generation| Running {
        generation,
        names,
        record: record.clone(),
        life: app.life.clone(),
    });
    let reports: SelectAll<_> =
        watched.enumerate().map(|(index, running)| running.reports(index)).collect();
    Ok(Choices { running: reports.len(), reports })
}

impl Running {
    async fn next(&mut self) -> Result<Event, ApiError> {
        let event = tokio::select! {
            biased;
            event = self.generation.next() => event,
            () = self.life.over() => Some(Event::Failed(GenerateError::Stopped)),
        };
        if let Some(Event::Finished { usage, .. }) = &event {
            self.record.add(*usage);
        }
        match event {
            Some(Event::Failed(error)) => Err(ApiError::from(error).in_words_of(self.names)),
            Some(event) => Ok(event),
            None => Err(ApiError::Unfinished),
        }
    }

    /// Its events to the last one.
    fn reports(self, index: usize) -> BoxStream<'static, Report> {
        let events = stream::unfold(Some(self), move |running| async move {
            let mut running = running?;
            let event = running.next().await;
            let ended = matches!(event, Ok(Event::Finished { .. }) | Err(_));
            Some(((index, event), (!ended).then_some(running)))
        });
        events.boxed()
    }
}

impl Choices {
    /// `None` after the last event of the last choice.
    pub(super) async fn next(&mut self) -> Option<Report> {
        self.reports.next().await
    }

    /// The choices in order.
    pub(super) async fn collect(mut self) -> Result<Vec<Answer>, ApiError> {
        let mut answers: Vec<Answer> = (0..self.running).map(|_| Answer::default()).collect();
        while let Some((index, event)) = self.next().await {
            answers[index].take(event?);
        }
        Ok(answers)
    }
}

impl Answer {
    fn take(&mut self, event: Event) {
        match event {
            Event::Started { .. } | Event::Failed(_) => {}
            Event::Prompt { pieces } => self.prompt = pieces,
            Event::Warning { member, reason } => {
                self.fusion.warnings.push(WireWarning { member, reason });
            }
            Event::Text { text, pieces, .. } => {
                self.text.push_str(&text);
                self.pieces.extend(pieces);
            }
            Event::Finished { reason, usage } => self.end = Some((reason, usage)),
        }
    }

    pub(super) fn reason(&self) -> FinishReason {
        self.end.map_or(FinishReason::Stop, |(reason, _)| reason)
    }

    pub(super) fn usage(&self) -> Usage {
        self.end.map_or(Usage::default(), |(_, usage)| usage)
    }
}

/// The tokens of a request: those of `choices` on one prompt, which counts once, and was read if
/// one of them read it.
pub(super) fn total(choices: impl IntoIterator<Item = Usage>) -> Usage {
    let both = choices.into_iter().reduce(|sum, one| Usage {
        prompt_tokens: sum.prompt_tokens.max(one.prompt_tokens),
        cached_tokens: sum.cached_tokens.min(one.cached_tokens),
        ..written(sum, one)
    });
    both.unwrap_or_default()
}

/// The same for several prompts.
pub(super) fn sum(prompts: impl IntoIterator<Item = Usage>) -> Usage {
    let both = prompts.into_iter().reduce(|sum, one| Usage {
        prompt_tokens: sum.prompt_tokens + one.prompt_tokens,
        cached_tokens: sum.cached_tokens.zip(one.cached_tokens).map(|(sum, one)| sum + one),
        ..written(sum, one)
    });
    both.unwrap_or_default()
}

/// What both wrote.
fn written(one: Usage, other: Usage) -> Usage {
    let gated = [one.gated, other.gated].into_iter().flatten();
    let mut agreement = one.agreement;
    agreement += other.agreement;
    Usage {
        completion_tokens: one.completion_tokens + other.completion_tokens,
        gated: gated.reduce(|one, other| one + other),
        agreement,
        ..Usage::default()
    }
}

/// Writes scores of one model's pieces for the wire.
pub(super) struct Scores {
    engine: Arc<dyn Generate>,
    model: String,
    members: Vec<String>,
}

impl Scores {
    pub(super) fn new(app: &App, model: &str) -> Self {
        let card = app.engine.models().into_iter().find(|card| card.name == model);
        let members = card.map_or(Vec::new(), |card| card.members);
        Self { engine: app.engine.clone(), model: model.to_owned(), members }
    }

    pub(super) fn chat(&self, pieces: &[ScoredPiece]) -> Result<ChatLogprobs, ApiError> {
        let union = self.engine.union(&self.model)?;
        Ok(ChatLogprobs::new(pieces, union, &self.members))
    }

    /// `offset` is where the pieces begin in the text, in characters.
    pub(super) fn text(
        &self,
        pieces: &[ScoredPiece],
        offset: usize,
    ) -> Result<TextLogprobs, ApiError> {
        let union = self.engine.union(&self.model)?;
        Ok(TextLogprobs::new(pieces, union, &self.members, offset))
    }
}
