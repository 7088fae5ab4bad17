//! One generation from its request to its end, told as events on the way.

use std::time::Duration;

use super::{ReportEvent, Run, add, loops::loops};
use crate::{
    constrain::Constraint,
    engine::{
        Event, FinishReason, GenerateError, GenerateRequest, Generation, Prompt, StopConditions,
        Usage,
    },
    tokenizer::chat::Message,
};

/// The first and the longest pause before a full queue is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Who is asked, and how.
pub(super) struct Question {
    pub(super) speaker: Speaker,
    pub(super) messages: Vec<Message>,
    pub(super) constraint: Option<Constraint>,
    pub(super) max_tokens: usize,
    /// The generation's number, for its seed.
    pub(super) number: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Speaker {
    Planner,
    Section(usize),
}

/// What came, even if it did not end well.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) usage: Usage,
    pub(super) end: End,
}

pub(super) enum End {
    Stop,
    Length,
    /// A section began to repeat itself and was cancelled.
    Looped,
    Failed(GenerateError),
}

/// Asks and listens to the end. Waits for its turn while the engine's queue is full.
pub(super) async fn ask(run: &Run<'_>, question: Question) -> Answer {
    let speaker = question.speaker;
    let mut answer = Answer {
        text: String::new(),
        usage: Usage::default(),
        end: End::Failed(GenerateError::Stopped),
    };
    let mut generation = match admit(run, question).await {
        Ok(generation) => generation,
        Err(error) => {
            answer.end = End::Failed(error);
            return answer;
        }
    };
    // An engine that dies says nothing more: then the end stays `Stopped`.
    while let Some(event) = generation.next().await {
        match event {
            Event::Started { prompt_tokens } => {
                add(&mut answer.usage, Usage { prompt_tokens, ..Usage::default() });
            }
            Event::Prompt { .. } => {}
            Event::Text { text, tokens, .. } => {
                answer.usage.completion_tokens += tokens;
                answer.text.push_str(&text);
                run.tell(speaker.delta(text, tokens)).await;
                if matches!(speaker, Speaker::Section(_)) && loops(&answer.text) {
                    answer.end = End::Looped;
                    break;
                }
            }
            // The log has it; a report is not the place for it.
            Event::Warning { .. } => {}
            Event::Finished { reason, usage } => {
                answer.usage = usage;
                answer.end = match reason {
                    FinishReason::Stop => End::Stop,
                    FinishReason::Length => End::Length,
                };
                break;
            }
            Event::Failed(error) => {
                answer.end = End::Failed(error);
                break;
            }
        }
    }
    answer
}

async fn admit(run: &Run<'_>, question: Question) -> Result<Generation, GenerateError> {
    let request = GenerateRequest {
        sampling: run.request.sampling_of(question.number),
        stop: StopConditions { max_tokens: Some(question.max_tokens), ..StopConditions::default() },
        constraint: question.constraint,
        ..GenerateRequest::new(run.request.model.clone(), Prompt::chat(question.messages))
    };
    let (mut pause, longest) = PAUSES;
    loop {
        match run.engine.generate(request.clone()) {
            Err(GenerateError::QueueFull { waiting }) => {
                let index = question.speaker.index();
                run.tell(ReportEvent::Queued { index, waiting }).await;
                tokio::time::sleep(pause).await;
                pause = longest.min(pause * 2);
            }
            admitted => return admitted,
        }
    }
}

impl Speaker {
    fn index(self) -> Option<usize> {
        match self {
            Self::Planner => None,
            Self::Section(index) => Some(index),
        }
    }

    fn delta(self, text: String, tokens: usize) -> ReportEvent {
        match self {
            Self::Planner => ReportEvent::PlanDelta { text, tokens },
            Self::Section(index) => ReportEvent::SectionDelta { index, text, tokens },
        }
    }
}
