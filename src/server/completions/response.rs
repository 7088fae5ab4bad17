//! The answers on the wire: one object, or chunks of the same shape.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    engine::{Event, ScoredPiece, Usage},
    server::{
        ApiError,
        generation::{Answer, Scores, sum, total},
        sse::{Out, Transcript},
        unix_seconds,
        wire::{
            StreamOptions, TextLogprobs, WireFusion, WireUsage, WireWarning, characters,
            reason_word,
        },
    },
};

/// What an answer and all of its chunks have in common.
pub(super) struct Form {
    head: Head,
    /// Of each prompt.
    choices: usize,
    /// The prompts' texts, if the answer repeats them.
    echoed: Vec<String>,
    /// Writes the log-probabilities if they were asked for.
    scores: Option<Scores>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = TextHead)]
struct Head {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
}

impl Form {
    pub(super) fn new(
        model: &str,
        choices: usize,
        echoed: Vec<String>,
        scores: Option<Scores>,
    ) -> Self {
        let id = format!("cmpl-{}", Uuid::new_v4().simple());
        let created = unix_seconds();
        let head = Head { id, object: "text_completion", created, model: model.to_owned() };
        Self { head, choices, echoed, scores }
    }

    fn echo(&self, index: usize) -> &str {
        self.echoed.get(index / self.choices).map_or("", String::as_str)
    }

    fn logprobs(
        &self,
        pieces: &[ScoredPiece],
        offset: usize,
    ) -> Result<Option<TextLogprobs>, ApiError> {
        self.scores.as_ref().map(|scores| scores.text(pieces, offset)).transpose()
    }

    /// Each prompt counts once, however many choices it has.
    fn usage(&self, choices: &[Usage]) -> Usage {
        sum(choices.chunks(self.choices).map(|prompt| total(prompt.iter().copied())))
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TextCompletion)]
pub(super) struct Completion {
    #[serde(flatten)]
    head: Head,
    choices: Vec<Choice>,
    /// Absent from chunks unless the client asked for usage; then null in every chunk but the one
    /// that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<WireUsage>)]
    usage: Option<Option<WireUsage>>,
    #[serde(skip_serializing_if = "WireFusion::is_silent")]
    ensemble: WireFusion,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TextChoice)]
struct Choice {
    index: usize,
    text: String,
    logprobs: Option<TextLogprobs>,
    finish_reason: Option<&'static str>,
}

impl Completion {
    fn new(form: &Form, answers: Vec<Answer>) -> Result<Self, ApiError> {
        let usages: Vec<Usage> = answers.iter().map(Answer::usage).collect();
        let mut ensemble = WireFusion::default();
        let mut choices = Vec::with_capacity(answers.len());
        for (index, mut answer) in answers.into_iter().enumerate() {
            ensemble.warnings.append(&mut answer.fusion.warnings);
            let finish_reason = Some(reason_word(answer.reason()));
            let mut pieces = answer.prompt;
            pieces.append(&mut answer.pieces);
            let logprobs = form.logprobs(&pieces, 0)?;
            let text = form.echo(index).to_owned() + &answer.text;
            choices.push(Choice { index, text, logprobs, finish_reason });
        }
        let usage = form.usage(&usages);
        let ensemble = ensemble.with_usage(usage);
        Ok(Self { head: form.head.clone(), choices, usage: Some(Some(usage.into())), ensemble })
    }
}

/// The same as a stream.
pub(super) struct Chunks {
    form: Form,
    with_usage: bool,
    choices: Vec<Spoken>,
}

#[derive(Clone, Debug, Default)]
struct Spoken {
    /// Pieces that no chunk has told yet, and where they begin in the text, in characters.
    pieces: Vec<ScoredPiece>,
    offset: usize,
    fusion: WireFusion,
    usage: Usage,
}

impl Chunks {
    /// `count` is that of the choices of all prompts.
    pub(super) fn new(form: Form, count: usize, options: StreamOptions) -> Self {
        let with_usage = options.include_usage.unwrap_or(false);
        Self { form, with_usage, choices: vec![Spoken::default(); count] }
    }

    fn send(
        &mut self,
        index: usize,
        text: String,
        finish_reason: Option<&'static str>,
        out: &mut Out,
    ) -> Result<(), ApiError> {
        let spoken = &mut self.choices[index];
        let pieces = std::mem::take(&mut spoken.pieces);
        let offset = spoken.offset;
        spoken.offset += pieces.iter().map(|piece| characters(&piece.bytes)).sum::<usize>();
        let ensemble = match finish_reason {
            Some(_) => std::mem::take(&mut spoken.fusion).with_usage(spoken.usage),
            None => WireFusion::default(),
        };
        let logprobs =
            if pieces.is_empty() { None } else { self.form.logprobs(&pieces, offset)? };
        let choices = vec![Choice { index, text, logprobs, finish_reason }];
        let usage = self.with_usage.then_some(None);
        out.json(&Completion { head: self.form.head.clone(), choices, usage, ensemble });
        Ok(())
    }
}

impl Transcript for Chunks {
    fn whole(self, answers: Vec<Answer>) -> Result<Response, ApiError> {
        Ok(Json(Completion::new(&self.form, answers)?).into_response())
    }

    fn begin(&mut self, _: &mut Out) {}

    fn take(&mut self, index: usize, event: Event, out: &mut Out) -> Result<(), ApiError> {
        let spoken = &mut self.choices[index];
        match event {
            Event::Started { .. } => match self.form.echo(index).to_owned() {
                // Its pieces' scores come after this event.
                echo if !echo.is_empty() && self.form.scores.is_none() => {
                    self.send(index, echo, None, out)
                }
                _ => Ok(()),
            },
            Event::Prompt { pieces } => {
                spoken.pieces = pieces;
                let echo = self.form.echo(index).to_owned();
                self.send(index, echo, None, out)
            }
            Event::Warning { member, reason } => {
                spoken.fusion.warnings.push(WireWarning { member, reason });
                Ok(())
            }
            Event::Text { text, pieces, .. } => {
                spoken.pieces.extend(pieces);
                // Steps whose bytes do not yet make a character have nothing to say.
                if text.is_empty() { Ok(()) } else { self.send(index, text, None, out) }
            }
            Event::Finished { reason, usage } => {
                spoken.usage = usage;
                self.send(index, String::new(), Some(reason_word(reason)), out)
            }
            Event::Failed(_) => Ok(()),
        }
    }

    fn end(&mut self, out: &mut Out) {
        if self.with_usage {
            let usages: Vec<Usage> = self.choices.iter().map(|choice| choice.usage).collect();
            let usage = Some(Some(self.form.usage(&usages).into()));
            let (head, ensemble) = (self.form.head.clone(), WireFusion::default());
            out.json(&Completion { head, choices: Vec::new(), usage, ensemble });
        }
        out.done();
    }

    /// Ends without `[DONE]`.
    fn fail(&mut self, error: &ApiError, out: &mut Out) {
        out.json(&error.object());
    }
}
