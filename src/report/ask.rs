//! One generation from its request to its end, told as events on the way.

use std::time::Duration;

use super::{Lost, Part, ReportEvent, Run, Tokens, loops::loops};
use crate::{
    constrain::Constraint,
    engine::{
        Event, FinishReason, Generate, GenerateError, GenerateRequest, Generation, Prompt,
        StopConditions,
    },
    tokenizer::chat::Message,
};

/// The first and the longest pause before a full queue is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What is asked, and how.
pub(super) struct Question {
    pub(super) part: Part,
    pub(super) messages: Vec<Message>,
    pub(super) constraint: Option<Constraint>,
    pub(super) max_tokens: usize,
    /// The generation's number, for its seed.
    pub(super) number: usize,
}

/// What came, even if it did not end well.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) usage: Tokens,
    /// Members that the generation went on without.
    pub(super) lost: Vec<Lost>,
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
    let part = question.part;
    let mut answer = Answer {
        text: String::new(),
        usage: Tokens::default(),
        lost: Vec::new(),
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
                answer.usage.prompt_tokens += prompt_tokens;
            }
            Event::Prompt { .. } => {}
            Event::Text { text, tokens, .. } => {
                answer.usage.completion_tokens += tokens;
                answer.text.push_str(&text);
                run.tell(delta(part, text, tokens)).await;
                if part != Part::Plan && loops(&answer.text) {
                    answer.end = End::Looped;
                    break;
                }
            }
            Event::Warning { member, reason } => {
                let lost = Lost { member, reason };
                run.tell(ReportEvent::MemberLost { part, lost: lost.clone() }).await;
                answer.lost.push(lost);
            }
            Event::Finished { reason, usage } => {
                answer.usage = usage.into();
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
    admitted(run.engine, request, Some((run, question.part))).await
}

/// The generation, once there is a place for it. The run it is for, if any, is told that it waits.
pub(super) async fn admitted(
    engine: &dyn Generate,
    request: GenerateRequest,
    of: Option<(&Run<'_>, Part)>,
) -> Result<Generation, GenerateError> {
    let (mut pause, longest) = PAUSES;
    loop {
        match engine.generate(request.clone()) {
            Err(GenerateError::QueueFull { waiting }) => {
                if let Some((run, part)) = of {
                    run.tell(ReportEvent::Queued { part, waiting }).await;
                }
                tokio::time::sleep(pause).await;
                pause = longest.min(pause * 2);
            }
            admitted => return admitted,
        }
    }
}

fn delta(part: Part, text: String, tokens: usize) -> ReportEvent {
    match part {
        Part::Plan => ReportEvent::PlanDelta { text, tokens },
        part => ReportEvent::SectionDelta { part, text, tokens },
    }
}
