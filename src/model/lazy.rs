//! A model whose weights are loaded when they are first needed, and given back when they have not
//! been used for long.
//!
//! Whoever can do something else meanwhile asks [`is_ready`](LanguageModel::is_ready), which loads
//! on a thread of its own; a forward waits for that thread.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{KvCache, LanguageModel, ModelError, Pool, Row};

/// The model, or why it cannot be had.
pub type Loaded = Result<Arc<dyn LanguageModel>, ModelError>;

/// Loads as often as it is asked to.
pub type Loader = Arc<dyn Fn() -> Loaded + Send + Sync>;

pub struct Lazy {
    vocab_size: usize,
    context_length: usize,
    /// What new caches are copies of.
    cache: KvCache,
    pool: Option<Pool>,
    loader: Loader,
    idle: Option<Duration>,
    /// One thread at a time asks for anything, so nobody waits for this.
    state: Mutex<State>,
}

enum State {
    Absent,
    Loading(Receiver<Loaded>),
    Here {
        model: Arc<dyn LanguageModel>,
        used: Instant,
    },
    /// To be told to the next who wants to use it, and then tried again.
    Failed(ModelError),
}

impl Lazy {
    /// `like` is the model itself, or one of its shape; it is not kept. Weights that were not used
    /// for `idle` are given back when [`rest`](LanguageModel::rest) is called.
    pub fn new(like: &dyn LanguageModel, idle: Option<Duration>, loader: Loader) -> Self {
        Self {
            vocab_size: like.vocab_size(),
            context_length: like.context_length(),
            cache: like.new_cache(),
            pool: like.pool().cloned(),
            loader,
            idle,
            state: Mutex::new(State::Absent),
        }
    }

    /// With its weights there already.
    #[must_use]
    pub fn loaded(self, model: Arc<dyn LanguageModel>) -> Self {
        Self { state: Mutex::new(State::Here { model, used: Instant::now() }), ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Receiver<Loaded> {
        let (say, hear) = mpsc::sync_channel(1);
        let loader = self.loader.clone();
        // A thread that panics or cannot be had says nothing, which is heard too.
        let _ = thread::Builder::new().name("loading".to_owned()).spawn(move || {
            let _ = say.send(loader());
        });
        hear
    }

    fn ended(loaded: Option<Loaded>) -> State {
        match loaded {
            Some(Ok(model)) => State::Here { model, used: Instant::now() },
            Some(Err(error)) => State::Failed(error),
            None => State::Failed(ModelError::NotLoaded {
                reason: "the loading ended without a result".to_owned(),
            }),
        }
    }
}

impl LanguageModel for Lazy {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn new_cache(&self) -> KvCache {
        self.cache.clone()
    }

    fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    fn is_ready(&self) -> bool {
        let mut state = self.state();
        if let State::Absent = *state {
            *state = State::Loading(self.start());
        }
        if let State::Loading(hear) = &*state {
            let ended = match hear.try_recv() {
                Err(TryRecvError::Empty) => return false,
                Ok(loaded) => Self::ended(Some(loaded)),
                Err(TryRecvError::Disconnected) => Self::ended(None),
            };
            *state = ended;
        }
        true
    }

    fn is_loaded(&self) -> bool {
        matches!(*self.state(), State::Here { .. })
    }

    fn can_rest(&self) -> bool {
        self.idle.is_some() && self.is_loaded()
    }

    fn rest(&self) -> bool {
        let (mut state, Some(idle)) = (self.state(), self.idle) else { return false };
        let over = matches!(&*state, State::Here { used, .. } if used.elapsed() >= idle);
        if over {
            *state = State::Absent;
        }
        over
    }

    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        let model = {
            let mut state = self.state();
            if let State::Absent = *state {
                *state = State::Loading(self.start());
            }
            if let State::Loading(hear) = &*state {
                let ended = Self::ended(hear.recv().ok());
                *state = ended;
            }
            if let State::Here { model, .. } = &*state {
                model.clone()
            } else {
                let failed = std::mem::replace(&mut *state, State::Absent);
                let State::Failed(error) = failed else { unreachable!("it was waited for") };
                return Err(error);
            }
        };
        let done = model.forward(rows);
        if let State::Here { used, .. } = &mut *self.state() {
            *used = Instant::now();
        }
        done
    }
}
