//! A generator that says what a test tells it to, for tests of what is built on [`Generate`].

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Barrier, mpsc};
use tutti::engine::{
    Event, FinishReason, Generate, GenerateError, GenerateRequest, Generation, ModelCard, Prompt,
    UnionId, UnionVocab, Usage,
};

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
    /// Something, once all who wait at the barrier are there.
    Meet(Arc<Barrier>, Box<Act>),
    /// Something after a while.
    Late(Duration, Box<Act>),
}

impl Act {
    pub(crate) fn say(text: impl Into<String>) -> Self {
        Self::Say(text.into(), FinishReason::Stop)
    }
}

type Script = dyn Fn(usize, &GenerateRequest) -> Act + Send + Sync;

/// `script` is given each request and its number, from 0, in the order of admission.
pub(crate) struct Scripted {
    script: Box<Script>,
    asked: Mutex<Vec<GenerateRequest>>,
    running: Arc<AtomicUsize>,
}

/// Prompt tokens of every scripted generation.
pub(crate) const PROMPT_TOKENS: usize = 7;

impl Scripted {
    pub(crate) fn new(
        script: impl Fn(usize, &GenerateRequest) -> Act + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            asked: Mutex::default(),
            running: Arc::default(),
        })
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<GenerateRequest> {
        self.asked.lock().unwrap().clone()
    }

    /// Generations that have neither ended nor been dropped.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

impl Generate for Scripted {
    fn models(&self) -> Vec<ModelCard> {
        let card = |name: &str, members: &[&str]| ModelCard {
            name: name.to_owned(),
            members: members.iter().map(|&member| member.to_owned()).collect(),
            fusion: format!("{}, rule mean", members.join(" + ")),
            context_length: 4096,
        };
        vec![card("duet", &["first", "second"]), card("first", &["first"])]
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, GenerateError> {
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(request.clone());
            asked.len() - 1
        };
        let act = (self.script)(number, &request);
        if let Act::Refuse(error) = act {
            return Err(error);
        }
        let (events, generation) = mpsc::channel(1);
        let running = Running::begin(&self.running);
        tokio::spawn(async move {
            // Sending fails when nobody listens any more: that is the cancel.
            let _cancelled = perform(act, &events).await;
            drop(running);
        });
        Ok(Generation::new(generation))
    }

    fn union(&self, _model: &str) -> Result<&UnionVocab, GenerateError> {
        Err(GenerateError::Stopped)
    }

    fn tokenize(&self, _model: &str, _text: &str) -> Result<Vec<UnionId>, GenerateError> {
        Err(GenerateError::Stopped)
    }

    fn count_tokens(&self, _model: &str, _prompt: &Prompt) -> Result<usize, GenerateError> {
        Err(GenerateError::Stopped)
    }
}

async fn perform(
    act: Act,
    events: &mpsc::Sender<Event>,
) -> Result<(), mpsc::error::SendError<Event>> {
    let mut act = act;
    loop {
        act = match act {
            Act::Meet(barrier, then) => {
                barrier.wait().await;
                *then
            }
            Act::Late(pause, then) => {
                tokio::time::sleep(pause).await;
                *then
            }
            other => {
                act = other;
                break;
            }
        };
    }
    let (text, end) = match act {
        Act::Say(text, reason) => (text, Some(Ok(reason))),
        Act::SayThenFail(text, error) => (text, Some(Err(error))),
        Act::SayThenDie(text) => (text, None),
        Act::SayThenHang(text) => {
            say(&text, events).await?;
            events.closed().await;
            return Ok(());
        }
        Act::Refuse(_) | Act::Meet(..) | Act::Late(..) => unreachable!("done before"),
    };
    let said = say(&text, events).await?;
    match end {
        Some(Ok(reason)) => {
            let usage =
                Usage { prompt_tokens: PROMPT_TOKENS, completion_tokens: said + 1, gated: None };
            events.send(Event::Finished { reason, usage }).await
        }
        Some(Err(error)) => events.send(Event::Failed(error)).await,
        None => Ok(()),
    }
}

/// Says the text; how many events it took.
async fn say(
    text: &str,
    events: &mpsc::Sender<Event>,
) -> Result<usize, mpsc::error::SendError<Event>> {
    events.send(Event::Started { prompt_tokens: PROMPT_TOKENS }).await?;
    let characters: Vec<char> = text.chars().collect();
    let pieces = characters.chunks(6);
    let count = pieces.len();
    for piece in pieces {
        events.send(Event::text(piece.iter().collect::<String>(), 1)).await?;
    }
    Ok(count)
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The last message of a request: what is asked now.
pub(crate) fn last_message(request: &GenerateRequest) -> &str {
    let Prompt::Chat { messages, .. } = &request.prompt else { panic!("no chat") };
    &messages.last().unwrap().content
}
