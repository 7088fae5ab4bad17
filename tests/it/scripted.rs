//! An engine that says what a test tells it to.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Barrier, mpsc};
use tutti::engine::{
    Agreement, Counters, Event, FinishReason, Generate, GenerateError, GenerateRequest, Generation,
    MemberCounters, ModelCard, ModelCounters, Piece, Prompt, UnionId, UnionVocab, Usage,
};

/// What a scripted generation does next.
#[derive(Clone)]
pub(crate) enum Step {
    Send(Event),
    Pause(Duration),
    /// Waits until all who wait at the barrier are there.
    Meet(Arc<Barrier>),
    /// Says nothing more until the generation is dropped.
    Hang,
}

type Script = dyn Fn(&GenerateRequest) -> Result<Vec<Step>, GenerateError> + Send + Sync;

/// Knows `duet` and its members `alpha` and `beta`, and plays a script for each request.
pub(crate) struct Scripted {
    script: Box<Script>,
    seen: Mutex<Vec<GenerateRequest>>,
    running: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
    union: UnionVocab,
}

impl Scripted {
    /// A script that ends without `Finished` or `Failed` is an engine that died.
    pub(crate) fn new(
        script: impl Fn(&GenerateRequest) -> Result<Vec<Step>, GenerateError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            seen: Mutex::default(),
            running: Arc::default(),
            cancelled: Arc::default(),
            union: bytes_only(),
        })
    }

    /// Answers every request with these pieces.
    pub(crate) fn saying(pieces: &'static [&'static str]) -> Arc<Self> {
        Self::new(move |_| Ok(say(pieces)))
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<GenerateRequest> {
        self.seen.lock().unwrap().clone()
    }

    /// Generations that have neither ended nor been dropped.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Waits until `count` generations were dropped before their script ended.
    pub(crate) async fn wait_for_cancelled(&self, count: usize) {
        let waiting = async {
            while self.cancelled.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting)
            .await
            .expect("the generation was not dropped");
    }
}

impl Generate for Scripted {
    fn models(&self) -> Vec<ModelCard> {
        let card = |name: &str, members: &[&str]| ModelCard {
            loaded: true,
            name: name.to_owned(),
            members: members.iter().map(|&member| member.to_owned()).collect(),
            fusion: format!("{}, rule mean", members.join(" + ")),
            context_length: 2048,
        };
        vec![card("duet", &["alpha", "beta"]), card("alpha", &["alpha"]), card("beta", &["beta"])]
    }

    /// As if one ran and two waited.
    fn counters(&self) -> Counters {
        let member = |name: &str| MemberCounters {
            name: name.to_owned(),
            forward: Duration::from_millis(1500),
            rolled_back: 9,
            failures: 2,
        };
        let members = vec![member("alpha"), member("beta")];
        let agreement = Agreement { steps: 4, millionths: 3_000_000 };
        let name = "duet".to_owned();
        let models = vec![ModelCounters { name, members, steps: 8, gated: 1, agreement }];
        Counters { running: 1, waiting: 2, places: 72, models }
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, GenerateError> {
        let available: Vec<String> = self.models().into_iter().map(|card| card.name).collect();
        if !available.contains(&request.model) {
            return Err(GenerateError::UnknownModel { name: request.model, available });
        }
        let steps = (self.script)(&request);
        self.seen.lock().unwrap().push(request);
        let (sender, receiver) = mpsc::channel(1);
        let (steps, running) = (steps?, Running::begin(&self.running));
        let cancelled = Arc::clone(&self.cancelled);
        tokio::spawn(async move {
            play(steps, sender, cancelled).await;
            drop(running);
        });
        Ok(Generation::new(receiver))
    }

    fn union(&self, _model: &str) -> Result<&UnionVocab, GenerateError> {
        Ok(&self.union)
    }

    fn tokenize(&self, _model: &str, text: &str) -> Result<Vec<UnionId>, GenerateError> {
        Ok(text.bytes().map(|byte| UnionId(byte.into())).collect())
    }

    fn count_tokens(&self, _model: &str, _prompt: &Prompt) -> Result<usize, GenerateError> {
        Ok(7)
    }
}

/// Pieces of one byte: the id is the byte.
fn bytes_only() -> UnionVocab {
    let bytes = (0..=255_u8).map(|byte| Some(Piece::Bytes(vec![byte]))).collect();
    UnionVocab::build(&[bytes]).0
}

async fn play(steps: Vec<Step>, sender: mpsc::Sender<Event>, cancelled: Arc<AtomicUsize>) {
    for step in steps {
        let gone = match step {
            Step::Send(event) => sender.send(event).await.is_err(),
            Step::Pause(pause) => {
                tokio::select! {
                    () = tokio::time::sleep(pause) => false,
                    () = sender.closed() => true,
                }
            }
            Step::Meet(barrier) => {
                barrier.wait().await;
                false
            }
            Step::Hang => {
                sender.closed().await;
                true
            }
        };
        if gone {
            cancelled.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
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

/// Prompt tokens of every scripted generation.
pub(crate) const PROMPT_TOKENS: usize = 7;

pub(crate) fn started() -> Step {
    Step::Send(Event::Started { prompt_tokens: PROMPT_TOKENS })
}

pub(crate) fn text(text: &str) -> Step {
    Step::Send(Event::text(text, 1))
}

/// After `tokens` fused steps.
pub(crate) fn finished(reason: FinishReason, tokens: usize) -> Step {
    let usage =
        Usage { prompt_tokens: PROMPT_TOKENS, completion_tokens: tokens, ..Usage::default() };
    Step::Send(Event::Finished { reason, usage })
}

/// A whole generation that ends by itself.
pub(crate) fn say(pieces: &[&str]) -> Vec<Step> {
    let mut steps = vec![started()];
    steps.extend(pieces.iter().map(|piece| text(piece)));
    steps.push(finished(FinishReason::Stop, pieces.len() + 1));
    steps
}
