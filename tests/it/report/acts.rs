//! What a scripted engine does for a report, in a word for each request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Barrier;
use tutti::engine::{
    Event, FinishReason, GenerateError, GenerateRequest, Prompt, Score, ScoredPiece, UnionId,
};

use crate::scripted::{Scripted, Step, finished, started, text};

/// What comes of one request.
#[derive(Clone)]
pub(crate) enum Act {
    /// The request is not admitted.
    Refuse(GenerateError),
    /// The text, a few characters an event, each one fused step.
    Say(String, FinishReason),
    /// The text, and then an error.
    SayThenFail(String, GenerateError),
    /// The text, and then the engine is gone.
    SayThenDie(String),
    /// The text, and then nothing, until nobody listens.
    SayThenHang(String),
    /// Nothing but the pieces of this prompt, one a byte, each of this log-probability.
    Score(String, f32),
    /// Something, once all who wait at the barrier are there.
    Meet(Arc<Barrier>, Box<Act>),
    /// Something after a while.
    Late(Duration, Box<Act>),
}

/// An engine that does what `act` says of each request and its number, from 0, in the order of
/// admission.
pub(crate) fn acting(
    act: impl Fn(usize, &GenerateRequest) -> Act + Send + Sync + 'static,
) -> Arc<Scripted> {
    let asked = AtomicUsize::new(0);
    Scripted::new(move |request| act(asked.fetch_add(1, Ordering::SeqCst), request).steps())
}

impl Act {
    pub(crate) fn say(text: impl Into<String>) -> Self {
        Self::Say(text.into(), FinishReason::Stop)
    }

    pub(crate) fn steps(self) -> Result<Vec<Step>, GenerateError> {
        let (first, then) = match self {
            Self::Refuse(error) => return Err(error),
            Self::Meet(barrier, then) => (Step::Meet(barrier), *then),
            Self::Late(pause, then) => (Step::Pause(pause), *then),
            Self::Say(text, reason) => {
                let mut steps = said(&text);
                let count = steps.len();
                steps.push(finished(reason, count));
                return Ok(steps);
            }
            Self::SayThenFail(text, error) => {
                return Ok([said(&text), vec![Step::Send(Event::Failed(error))]].concat());
            }
            Self::Score(prompt, logprob) => {
                let pieces = prompt.bytes().map(|byte| scored(byte, logprob)).collect();
                let prompt = Step::Send(Event::Prompt { pieces });
                return Ok(vec![started(), prompt, finished(FinishReason::Length, 0)]);
            }
            Self::SayThenDie(text) => return Ok(said(&text)),
            Self::SayThenHang(text) => return Ok([said(&text), vec![Step::Hang]].concat()),
        };
        Ok([vec![first], then.steps()?].concat())
    }
}

fn scored(byte: u8, logprob: f32) -> ScoredPiece {
    let score = Score { logprob: Some(logprob), ..Score::default() };
    ScoredPiece { id: UnionId(byte.into()), bytes: vec![byte], score }
}

fn said(whole: &str) -> Vec<Step> {
    let characters: Vec<char> = whole.chars().collect();
    let pieces = characters.chunks(6).map(|piece| text(&piece.iter().collect::<String>()));
    std::iter::once(started()).chain(pieces).collect()
}

/// The last message of a request: what is asked now.
pub(crate) fn last_message(request: &GenerateRequest) -> &str {
    let Prompt::Chat { messages, .. } = &request.prompt else { panic!("no chat") };
    &messages.last().unwrap().content
}
