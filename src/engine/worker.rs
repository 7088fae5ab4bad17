//! The engine's thread: admits jobs, steps them together, sends what comes out.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    EngineConfig, Event, FinishReason, GenerateError, Place, ScoredPiece, Usage,
    counters::Tally,
    output::{Output, Released},
};
use crate::{
    ensemble::{Ensemble, Prefixes, Sequence, Step, StepError, Warning, Workspace},
    vocab::{Piece, UnionId},
};

/// A request, ready to run.
pub(super) struct Job {
    pub(super) ensemble: Arc<Ensemble>,
    pub(super) sequence: Sequence,
    pub(super) output: Output,
    pub(super) max_tokens: usize,
    /// Stop strings within so many pieces end nothing.
    pub(super) min_tokens: usize,
    pub(super) events: mpsc::Sender<Event>,
    /// Given back with the job.
    pub(super) _place: Place,
}

/// A job that has a place among those that generate.
struct Running {
    job: Job,
    steps: usize,
    /// Steps whose text has not been sent yet.
    unsent: usize,
    started: bool,
    /// Since when its reader leaves no room for what a step sends.
    unread_since: Option<Instant>,
    /// False once it failed: after a step did, the caches may be half written.
    sound: bool,
}

pub(super) struct Worker {
    jobs: Receiver<Job>,
    config: EngineConfig,
    tally: Arc<Tally>,
    queue: VecDeque<Job>,
    running: Vec<Running>,
    /// One for each ensemble that has been asked for anything.
    workspaces: Vec<(Arc<Ensemble>, Workspace)>,
    /// All there are.
    ensembles: Vec<Arc<Ensemble>>,
}

/// How often a thread that has nothing to do looks whether models have been idle for long.
const LOOK_FOR_REST: Duration = Duration::from_millis(250);

/// How often a thread that only waits for slow readers looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The most events one step sends but for warnings, of which there may be one a member: the start,
/// the prompt, a text, the text held back, the end.
const EVENTS_A_STEP: usize = 5;

impl Worker {
    pub(super) fn new(
        jobs: Receiver<Job>,
        config: EngineConfig,
        tally: Arc<Tally>,
        ensembles: Vec<Arc<Ensemble>>,
    ) -> Self {
        let (queue, running, workspaces) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { jobs, config, tally, queue, running, workspaces, ensembles }
    }

    /// Runs until the engine is dropped.
    pub(super) fn run(mut self) {
        while self.receive() {
            self.rest();
            self.admit();
            self.retire();
            self.tally.set_running(self.running.len());
            self.step();
            for (ensemble, work) in &self.workspaces {
                self.tally.set_times(ensemble, work);
            }
            self.retire();
            self.tally.set_running(self.running.len());
        }
        let left = self.queue.iter().chain(self.running.iter().map(|running| &running.job));
        for job in left {
            // A reader that is gone or does not read cannot be told.
            let _ = job.events.try_send(Event::Failed(GenerateError::Stopped));
        }
    }

    /// Takes in what has been sent, waiting only if there is nothing to do; false at the end.
    fn receive(&mut self) -> bool {
        if self.running.is_empty() && self.queue.is_empty() {
            let received = if self.ensembles.iter().any(|ensemble| ensemble.can_rest()) {
                self.jobs.recv_timeout(LOOK_FOR_REST)
            } else {
                self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match received {
                Ok(job) => self.queue.push_back(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        } else if !self.running.iter().any(Running::can_send) {
            match self.jobs.recv_timeout(LOOK_AGAIN) {
                Ok(job) => self.queue.push_back(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.queue.push_back(job),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Gives back weights that were idle for long and that nobody runs on or waits for, with what
    /// their ensembles keep read.
    fn rest(&mut self) {
        let jobs = self.queue.iter().chain(self.running.iter().map(|running| &running.job));
        let busy: Vec<&Arc<Ensemble>> = jobs.map(|job| &job.ensemble).collect();
        let rested = self.ensembles.iter().filter(|ensemble| ensemble.rest(&busy)).count();
        if rested > 0 {
            for (ensemble, work) in &mut self.workspaces {
                if !ensemble.is_loaded() {
                    work.prefixes = Prefixes::new(self.config.kept_tokens);
                }
            }
        }
    }

    /// Gives free places to those who have waited longest, but for those whose models are still
    /// being loaded; the cancelled leave the queue.
    fn admit(&mut self) {
        self.queue.retain(|job| !job.events.is_closed());
        self.give_up_unread();
        let mut free = self.config.max_sequences.saturating_sub(self.running.len());
        let mut admitted = Vec::new();
        for job in std::mem::take(&mut self.queue) {
            if free > 0 && job.ensemble.is_ready(&job.sequence) {
                free -= 1;
                admitted.push(job);
            } else {
                self.queue.push_back(job);
            }
        }
        self.running.extend(admitted.into_iter().map(|job| Running {
            job,
            steps: 0,
            unsent: 0,
            started: false,
            unread_since: None,
            sound: true,
        }));
    }

    /// Ends texts whose readers have read nothing for long, if others can only so get a place: no
    /// more than these need, and first those that have waited longest for their reader.
    fn give_up_unread(&mut self) {
        for running in &mut self.running {
            let paused = (!running.can_send()).then(Instant::now);
            running.unread_since = paused.map(|now| running.unread_since.unwrap_or(now));
        }
        let ready = self.queue.iter().filter(|job| job.ensemble.is_ready(&job.sequence)).count();
        let free = self.config.max_sequences.saturating_sub(self.running.len());
        let patience = self.config.patience;
        let is_unread = |running: &&mut Running| {
            running.unread_since.is_some_and(|since| since.elapsed() >= patience)
        };
        let mut unread: Vec<&mut Running> = self.running.iter_mut().filter(is_unread).collect();
        unread.sort_by_key(|running| running.unread_since);
        for running in unread.into_iter().take(ready.saturating_sub(free)) {
            tracing::warn!("a text that nobody reads is ended for one who waits");
            running.fail(GenerateError::Unread { seconds: patience.as_secs() });
        }
        self.retire();
    }

    /// One step of everything whose reader keeps up, ensemble by ensemble.
    fn step(&mut self) {
        let mut left: Vec<&mut Running> =
            self.running.iter_mut().filter(|running| running.can_send()).collect();
        while let Some(first) = left.first() {
            let ensemble = first.job.ensemble.clone();
            let (mut group, others): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|running| Arc::ptr_eq(&running.job.ensemble, &ensemble));
            let EngineConfig { prefill_chunk, kept_tokens, .. } = self.config;
            let known = self.workspaces.iter().position(|(known, _)| Arc::ptr_eq(known, &ensemble));
            let known = known.unwrap_or_else(|| {
                let work = Workspace::new(&ensemble, prefill_chunk, kept_tokens);
                self.workspaces.push((ensemble.clone(), work));
                self.workspaces.len() - 1
            });
            step_group(&ensemble, &mut group, &mut self.workspaces[known].1, kept_tokens);
            left = others;
        }
    }

    /// Frees the places of what has ended or was cancelled; what it has read may serve others.
    fn retire(&mut self) {
        let ended = self.running.extract_if(.., |running| running.job.events.is_closed());
        for Running { job, sound, steps, .. } in ended {
            self.tally.add_ended(&job.ensemble, &job.sequence, steps);
            let work =
                self.workspaces.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &job.ensemble));
            if let Some((_, work)) = work.filter(|_| sound) {
                work.prefixes.keep(job.sequence);
            }
        }
    }
}

/// Steps sequences of one ensemble together and sends what each yields.
fn step_group(ensemble: &Ensemble, group: &mut [&mut Running], work: &mut Workspace, kept: usize) {
    let mut sequences: Vec<&mut Sequence> =
        group.iter_mut().map(|running| &mut running.job.sequence).collect();
    let stepped = catch_unwind(AssertUnwindSafe(|| ensemble.step(&mut sequences, work)));
    match stepped {
        Ok(results) => {
            let short =
                results.iter().any(|it| it.as_ref().is_err_and(StepError::is_out_of_memory));
            for (running, result) in group.iter_mut().zip(results) {
                running.advance(ensemble, result);
            }
            if short {
                // What is kept for those who come is worth less than that they can run.
                work.prefixes = Prefixes::new(kept);
            }
        }
        // The sequences may be half written, so none of them goes on; the weights never change.
        Err(_) => {
            for running in group {
                running.fail(GenerateError::Member {
                    member: "a member".to_owned(),
                    reason: "it panicked inside a step; see the log".to_owned(),
                });
            }
        }
    }
}

impl Running {
    fn can_send(&self) -> bool {
        let warnings = self.job.ensemble.members().len();
        self.job.events.capacity() >= EVENTS_A_STEP + warnings
    }

    fn advance(&mut self, ensemble: &Ensemble, result: Result<Step, StepError>) {
        for Warning { member, reason } in self.job.sequence.warnings() {
            tracing::warn!(member, reason, "a member failed; the generation goes on without it");
            self.send(Event::Warning { member, reason });
        }
        if self.job.max_tokens == 0 && result.is_ok() && self.job.sequence.has_read() {
            self.begin(ensemble);
            return self.end(FinishReason::Length);
        }
        let id = match result {
            Ok(Step::Prefill) => return,
            Ok(Step::Chose(id)) => id,
            Err(error) => return self.fail(failure(error)),
        };
        self.begin(ensemble);
        self.steps += 1;
        self.unsent += 1;
        let score = self.job.sequence.take_score();
        let told = |bytes| score.map(|score| ScoredPiece { id, bytes, score });
        let Piece::Bytes(bytes) = ensemble.union().piece(id) else {
            return self.finish(FinishReason::Stop, told(Vec::new()));
        };
        let piece = told(bytes.clone());
        let Job { sequence, output, min_tokens, .. } = &mut self.job;
        let may_end = |last| self.steps > *min_tokens && sequence.is_whole_without(last);
        let released = output.push(bytes, piece, may_end);
        let stopped = released.stopped;
        self.send_text(released);
        if stopped {
            self.end(FinishReason::Stop);
        } else if self.job.sequence.is_complete() {
            self.finish(FinishReason::Stop, None);
        } else if self.steps >= self.job.max_tokens || self.job.sequence.is_full() {
            self.finish(FinishReason::Length, None);
        }
    }

    /// Tells once that the prompt has been read.
    fn begin(&mut self, ensemble: &Ensemble) {
        if self.started {
            return;
        }
        self.started = true;
        self.send(Event::Started { prompt_tokens: self.job.sequence.prompt_tokens() });
        let bytes = |id: UnionId| match ensemble.union().piece(id) {
            Piece::Bytes(bytes) => bytes.clone(),
            Piece::End => Vec::new(),
        };
        let read = self.job.sequence.take_read().into_iter();
        let pieces: Vec<ScoredPiece> =
            read.map(|(id, score)| ScoredPiece { id, bytes: bytes(id), score }).collect();
        if !pieces.is_empty() {
            self.send(Event::Prompt { pieces });
        }
    }

    /// Ends the text; what was held back belongs to it. `end` is told of the piece that ended it.
    fn finish(&mut self, reason: FinishReason, end: Option<ScoredPiece>) {
        let output = std::mem::replace(&mut self.job.output, Output::new(Vec::new()));
        let mut released = output.finish();
        released.pieces.extend(end);
        self.send_text(released);
        self.end(reason);
    }

    fn end(&mut self, reason: FinishReason) {
        let usage = Usage {
            prompt_tokens: self.job.sequence.prompt_tokens(),
            cached_tokens: Some(self.job.sequence.reused_tokens()),
            completion_tokens: self.steps,
            gated: self.job.sequence.gated(),
            agreement: self.job.sequence.agreement(),
        };
        self.send(Event::Finished { reason, usage });
        self.close();
    }

    fn fail(&mut self, error: GenerateError) {
        self.sound = false;
        self.send(Event::Failed(error));
        self.close();
    }

    fn send_text(&mut self, Released { text, pieces, .. }: Released) {
        if !text.is_empty() || !pieces.is_empty() {
            let tokens = std::mem::take(&mut self.unsent);
            self.send(Event::Text { text, tokens, pieces });
        }
    }

    fn send(&mut self, event: Event) {
        // Full cannot happen: a step runs only with room for all it may send. Closed means that
        // the reader has cancelled, which the next round sees.
        let _ = self.job.events.try_send(event);
    }

    /// Gives up the channel, so that the reader sees the end and the place becomes free.
    fn close(&mut self) {
        self.job.events = mpsc::channel(1).0;
    }
}

fn failure(error: StepError) -> GenerateError {
    let reason = error.to_string();
    match error {
        StepError::Member { member, cause } => {
            GenerateError::Member { member, reason: cause.to_string() }
        }
        StepError::NoMass => GenerateError::Member { member: "the mixture".to_owned(), reason },
        StepError::Constraint(_) => GenerateError::Constraint { reason },
    }
}
