//! The thread that owns all sequences, behind the [`Generate`] trait.
//!
//! Knows no HTTP and no wire types. Callers hand over whole sequences through a bounded count of
//! places and get events through a bounded channel each; nothing is shared but the immutable
//! ensembles, so there is no lock. A request is cancelled by dropping its [`Generation`].

mod counters;
mod output;
mod request;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc as std_mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

pub use crate::{
    ensemble::{
        Agreement, FusionRequest, Logprobs, Rule, RuleError, Score, ScoredAlternative,
        TEMPERATURE_FACTORS, Vote, Weighting, WeightsRequest,
    },
    vocab::{Piece, UnionId, UnionVocab},
};
pub use counters::{Counters, MemberCounters, ModelCounters};
pub use request::{
    Event, FinishReason, Generate, GenerateError, GenerateRequest, Generation, ModelCard, Prompt,
    ScoredPiece, StopConditions, Usage,
};
use tokio::sync::mpsc;

use crate::{
    constrain::ConstrainError,
    engine::{
        counters::Tally,
        output::Output,
        worker::{Job, Worker},
    },
    ensemble::{Ensemble, Fusion, FusionError, Prompts, Sequence, StartError},
    sampling::{Penalizer, Penalties},
    tokenizer::chat::Conversation,
};

/// How much an engine takes on.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The most sequences that generate at the same time.
    pub max_sequences: usize,
    /// The most requests that wait for one of those places.
    pub queue: usize,
    /// The most prompt tokens a member reads in one step, so that others' pieces keep coming.
    pub prefill_chunk: usize,
    /// The most tokens of ended texts that each ensemble keeps read, for texts that begin alike.
    pub kept_tokens: usize,
    /// How long a reader may leave everything unread while others wait for its place.
    pub patience: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_sequences: 8,
            queue: 64,
            prefill_chunk: 128,
            kept_tokens: 4096,
            patience: Duration::from_secs(60),
        }
    }
}

/// A running engine. Dropping it ends the thread after the step it is in; requests that still
/// run then end with [`GenerateError::Stopped`].
pub struct Engine {
    models: Vec<(String, Arc<Ensemble>)>,
    jobs: Option<std_mpsc::Sender<Job>>,
    /// Requests that wait or run.
    taken: Arc<AtomicUsize>,
    tally: Arc<Tally>,
    config: EngineConfig,
    thread: Option<JoinHandle<()>>,
}

/// A constraint's state can be deep, and is worked on by recursion.
const STACK: usize = 64 << 20;
/// Events a slow reader may leave unread before its sequence pauses.
const EVENTS: usize = 64;

impl Engine {
    /// Starts the thread. `models` are the names that can be asked for, in the order they are
    /// listed.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        models: Vec<(String, Arc<Ensemble>)>,
        config: EngineConfig,
    ) -> std::io::Result<Self> {
        // It holds no more than there are places, which are taken first.
        let (jobs, received) = std_mpsc::channel();
        let tally = Arc::new(Tally::new(&models));
        let ensembles = models.iter().map(|(_, ensemble)| ensemble.clone()).collect();
        let worker = Worker::new(received, config.clone(), tally.clone(), ensembles);
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .stack_size(STACK)
            .spawn(|| worker.run())?;
        let taken = Arc::new(AtomicUsize::new(0));
        Ok(Self { models, jobs: Some(jobs), taken, tally, config, thread: Some(thread) })
    }

    fn ensemble(&self, name: &str) -> Result<&Arc<Ensemble>, GenerateError> {
        self.models.iter().find(|(n, _)| n == name).map(|(_, e)| e).ok_or_else(|| {
            GenerateError::UnknownModel {
                name: name.to_owned(),
                available: self.models.iter().map(|(n, _)| n.clone()).collect(),
            }
        })
    }

    /// How many requests can wait or run.
    fn places(&self) -> usize {
        self.config.max_sequences.saturating_add(self.config.queue)
    }

    /// Takes one of the places for requests that wait or run.
    fn reserve(&self) -> Result<Place, GenerateError> {
        let (places, queue) = (self.places(), self.config.queue);
        let take = |taken: usize| (taken < places).then_some(taken + 1);
        match self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
            Ok(_) => Ok(Place { taken: self.taken.clone() }),
            Err(_) => Err(GenerateError::QueueFull { waiting: queue }),
        }
    }
}

/// A request's place, from before its prompt is read to after its last event.
struct Place {
    taken: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Generate for Engine {
    fn models(&self) -> Vec<ModelCard> {
        let card = |(name, ensemble): &(String, Arc<Ensemble>)| ModelCard {
            name: name.clone(),
            members: ensemble.members().iter().map(|member| member.name.clone()).collect(),
            fusion: ensemble.described(),
            context_length: ensemble.context_length(),
            loaded: ensemble.is_loaded(),
        };
        self.models.iter().map(card).collect()
    }

    fn counters(&self) -> Counters {
        self.tally.read(self.taken.load(Ordering::Acquire), self.places())
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, GenerateError> {
        let ensemble = self.ensemble(&request.model)?;
        check_bias(ensemble, &request.penalties)?;
        let place = self.reserve()?;
        let fusion = ensemble.fuse(&request.fusion)?;
        let prompts = match request.logprobs {
            Some(Logprobs { prompt: Some(from), .. }) => {
                scored_prompts(ensemble, &request.prompt, from, fusion)?
            }
            _ => prompts(ensemble, &request.prompt, fusion)?,
        };
        let penalizer = (request.penalties != Penalties::default())
            .then(|| Penalizer::new(request.penalties, prompt_pieces(ensemble, &prompts)));
        let mut sequence =
            Sequence::new(ensemble, prompts, request.sampling, request.constraint.as_ref())?;
        if let Some(penalizer) = penalizer {
            sequence.penalize(penalizer);
        }
        if let Some(logprobs) = request.logprobs {
            sequence.tell(logprobs);
        }
        let StopConditions { min_tokens, ignore_end, .. } = request.stop;
        sequence.at_least(if ignore_end { usize::MAX } else { min_tokens });
        let mut output = Output::new(request.stop.strings);
        if sequence.drops_space() {
            output = output.without_space_before();
        }
        let max_tokens = request.stop.max_tokens.unwrap_or(usize::MAX);
        sequence.at_most(max_tokens).map_err(StartError::from)?;
        let (events, received) = mpsc::channel(EVENTS);
        let job = Job {
            ensemble: ensemble.clone(),
            sequence,
            output,
            min_tokens,
            max_tokens,
            events,
            _place: place,
        };
        let jobs = self.jobs.as_ref().expect("only drop takes the sender");
        if jobs.send(job).is_err() {
            return Err(GenerateError::Stopped);
        }
        Ok(Generation::new(received))
    }

    fn union(&self, model: &str) -> Result<&UnionVocab, GenerateError> {
        Ok(self.ensemble(model)?.union())
    }

    fn tokenize(&self, model: &str, text: &str) -> Result<Vec<UnionId>, GenerateError> {
        let ensemble = self.ensemble(model)?;
        Ok(ensemble.pieces_of(text.as_bytes(), &ensemble.fusion())?)
    }

    fn count_tokens(&self, model: &str, prompt: &Prompt) -> Result<usize, GenerateError> {
        let ensemble = self.ensemble(model)?;
        let prompts = prompts(ensemble, prompt, ensemble.fusion())?;
        Ok(prompts.tokens.iter().map(Vec::len).max().unwrap_or(0))
    }
}

/// A prompt in each member's own tokens.
fn prompts(ensemble: &Ensemble, prompt: &Prompt, fusion: Fusion) -> Result<Prompts, StartError> {
    match prompt {
        Prompt::Chat { messages, tools, template_args } => {
            let conversation = Conversation { messages, tools, args: template_args };
            ensemble.chat_prompts(conversation, fusion)
        }
        Prompt::Text(text) => Ok(ensemble.text_prompts(text, fusion)),
        Prompt::Tokens(pieces) => Ok(ensemble.text_prompts(ensemble.bytes_of(pieces)?, fusion)),
    }
}

/// A prompt whose pieces that end after byte `from` are scored.
fn scored_prompts(
    ensemble: &Ensemble,
    prompt: &Prompt,
    from: usize,
    fusion: Fusion,
) -> Result<Prompts, GenerateError> {
    let pieces = match prompt {
        Prompt::Chat { .. } => {
            let reason = "a conversation's prompt cannot be scored; send a text".to_owned();
            return Err(GenerateError::Prompt { reason });
        }
        Prompt::Text(text) => ensemble.pieces_of(text.as_bytes(), &fusion)?,
        Prompt::Tokens(pieces) => pieces.clone(),
    };
    Ok(ensemble.scored_prompts(&pieces, from, fusion)?)
}

/// The prompt's pieces as far as they have some: the first active member's tokens.
fn prompt_pieces(ensemble: &Ensemble, prompts: &Prompts) -> Vec<UnionId> {
    let first = prompts.fusion.active().next().unwrap_or(0);
    let tokens = prompts.tokens[first].iter();
    let end = ensemble.union().end();
    let pieces = tokens.filter_map(|&token| ensemble.maps()[first].get(token));
    let read = prompts.passed.iter().chain(&prompts.scored);
    pieces.chain(read.copied()).filter(|&id| id != end).collect()
}

fn check_bias(ensemble: &Ensemble, penalties: &Penalties) -> Result<(), GenerateError> {
    let size = ensemble.union().size();
    match penalties.bias.iter().find(|(id, _)| id.0 as usize >= size) {
        Some(&(id, _)) => Err(GenerateError::UnknownBias { id, size }),
        None => Ok(()),
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already ended every stream; there is no one left to tell.
            let _ = thread.join();
        }
    }
}

impl From<FusionError> for GenerateError {
    fn from(error: FusionError) -> Self {
        Self::Fusion { param: error.param(), reason: error.to_string() }
    }
}

impl From<StartError> for GenerateError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Template { member, reason } => Self::Template { member, reason },
            StartError::PromptTooLong { member, prompt_tokens, context_length } => {
                Self::PromptTooLong { member, prompt_tokens, context_length }
            }
            StartError::UnknownPiece { id, size } => Self::UnknownPiece { id, size },
            StartError::Unspellable { .. }
            | StartError::EndInside { .. }
            | StartError::Empty { .. } => Self::Prompt { reason: error.to_string() },
            StartError::Constraint(
                ConstrainError::Schema { reason } | ConstrainError::DeadEnd { reason, .. },
            ) => Self::Constraint { reason },
            StartError::Constraint(ConstrainError::Budget { least, budget }) => {
                Self::Budget { least, budget }
            }
        }
    }
}
