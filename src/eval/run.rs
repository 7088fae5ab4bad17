//! Runs a plan: every system on the same samples, a block at a time, what is finished kept.
//!
//! Knows the order of the work and the log; not what a score means, nor how it is shown.
//!
//! The first block of every task comes first, so that what a task cannot do shows at once and the
//! time of the rest can be told. Then task after task; of each its dev samples come first, and when
//! it is done, two copies of the member that is best on those are asked about some of the test
//! samples: they have to say what the member says.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};

use super::{
    Sample, Split, System,
    ask::Asker,
    log::{Header, Log, LogError, MetricHeader, ModelHeader, Record, SystemHeader, TaskHeader},
    summary,
    task::{Metric, Outcome, Task, TaskError},
};
use crate::engine::{Generate, GenerateError};

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub tasks: Vec<Task>,
    /// The members alone, then ensembles.
    pub systems: Vec<System>,
    /// For each member two of it, as one system.
    pub copies: Vec<System>,
    /// Of how many test samples of each task copies are asked.
    pub checked: usize,
    pub models: Vec<ModelHeader>,
    /// On what models compute, in one line.
    pub device: String,
    /// Of what is drawn, and of the statistics.
    pub seed: u64,
    /// Requests that the engine has at the same time.
    pub at_once: usize,
}

/// What happens in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many answers of so many are there, and about how long the others take.
    Answered { done: usize, total: usize, left: Option<Duration> },
    /// Each task has been tried.
    Tried { left: Option<Duration> },
    /// A task is finished.
    Finished { task: &'a str, header: &'a Header, records: &'a [Record] },
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("`{system}` cannot be asked about {task}: {cause}")]
    System { system: String, task: String, cause: TaskError },
}

/// How many samples each system answers before the next one does.
const BLOCK: usize = 16;

impl Plan {
    /// What its log is about.
    pub fn header(&self) -> Header {
        let system = |system: &System| SystemHeader {
            name: system.name.clone(),
            role: system.role,
            fusion: system.described.clone(),
            members: system.members.clone(),
            bound: system.is_bound(),
        };
        let metric = |metric: &Metric| MetricHeader {
            name: metric.name.to_owned(),
            is_share: metric.is_share,
            lower_is_better: metric.lower_is_better,
            bound: metric.bound,
        };
        let task = |task: &Task| TaskHeader {
            name: task.name.clone(),
            kind: task.kind.to_string(),
            metrics: task.kind.metrics().iter().map(metric).collect(),
            samples: task.samples.len(),
            sources: task.sources.clone(),
        };
        Header {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: self.seed,
            systems: self.systems.iter().chain(&self.copies).map(system).collect(),
            tasks: self.tasks.iter().map(task).collect(),
            models: self.models.clone(),
            device: self.device.clone(),
        }
    }

    /// How many answers the whole run has.
    pub fn answers(&self) -> usize {
        let checked =
            |task: &Task| if self.copies.is_empty() { 0 } else { self.checked(task).len() };
        let of = |task: &Task| task.samples.len() * self.systems.len() + checked(task);
        self.tasks.iter().map(of).sum()
    }

    /// The samples of a task that copies are asked about.
    fn checked<'a>(&self, task: &'a Task) -> Vec<&'a Sample> {
        let test = task.samples.iter().filter(|sample| sample.split() == Split::Test);
        test.take(self.checked).collect()
    }
}

/// Asks what is not in the log yet, and puts it there.
///
/// # Errors
/// If the log cannot be written, or a system cannot be asked at all. That one sample cannot be
/// answered is put in the log.
pub async fn run(
    engine: Arc<dyn Generate>,
    plan: &Plan,
    log: &mut Log,
    observer: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<(), RunError> {
    let header = plan.header();
    let asker = Asker::new(engine, plan.at_once);
    let mut run = Run { plan, header, asker, log, observer };
    for task in &plan.tasks {
        if let Some(first) = task.samples.chunks(BLOCK).next() {
            run.block(task, first).await?;
        }
    }
    let left = run.left();
    (run.observer)(Event::Tried { left });
    for task in &plan.tasks {
        for block in task.samples.chunks(BLOCK) {
            run.block(task, block).await?;
        }
        run.check(task).await?;
        let (header, records) = (&run.header, run.log.records());
        (run.observer)(Event::Finished { task: &task.name, header, records });
    }
    Ok(())
}

struct Run<'a> {
    plan: &'a Plan,
    header: Header,
    asker: Asker,
    log: &'a mut Log,
    observer: &'a mut (dyn FnMut(Event<'_>) + Send),
}

impl Run<'_> {
    async fn block(&mut self, task: &Task, samples: &[Sample]) -> Result<(), RunError> {
        for system in &self.plan.systems {
            self.ask(task, system, samples.iter()).await?;
        }
        Ok(())
    }

    /// Asks copies of the best member what the member was asked.
    async fn check(&mut self, task: &Task) -> Result<(), RunError> {
        let best = summary::best_member(&self.header, &task.name, 0, self.log.records());
        let copies = self.plan.copies.iter().find(|copies| copies.members.first() == best.as_ref());
        match copies {
            Some(copies) => self.ask(task, copies, self.plan.checked(task).into_iter()).await,
            None => Ok(()),
        }
    }

    async fn ask<'s>(
        &mut self,
        task: &Task,
        system: &System,
        samples: impl Iterator<Item = &'s Sample>,
    ) -> Result<(), RunError> {
        let asker = &self.asker;
        let is_left =
            |sample: &&Sample| !self.log.is_finished(&task.name, &system.name, &sample.id);
        let left: Vec<&Sample> = samples.filter(is_left).collect();
        // What is asked of no system takes none of their time.
        join_all(left.iter().map(|sample| task.prepare(asker, sample))).await;
        let mut answers: FuturesUnordered<_> = left
            .into_iter()
            .map(|sample| async move { (sample, task.solve(asker, system, sample).await) })
            .collect();
        let mut lap = Instant::now();
        while let Some((sample, answer)) = answers.next().await {
            let seconds = lap.elapsed().as_secs_f64();
            lap = Instant::now();
            if let Err(cause) = &answer
                && is_of_all(cause)
            {
                let (system, task) = (system.name.clone(), task.name.clone());
                return Err(RunError::System { system, task, cause: cause.clone() });
            }
            self.log.add(record(task, system, sample, (answer, seconds)))?;
            let (done, total, left) = (self.log.finished(), self.plan.answers(), self.left());
            (self.observer)(Event::Answered { done, total, left });
        }
        Ok(())
    }

    /// What the rest takes, by what was taken so far; `None` before each task was tried.
    fn left(&self) -> Option<Duration> {
        let mut taken: HashMap<(&str, &str), (f64, usize)> = HashMap::new();
        for record in self.log.records() {
            let taken = taken.entry((&record.task, &record.system)).or_default();
            taken.0 += record.seconds;
            taken.1 += 1;
        }
        let mut left = 0.0;
        for task in &self.plan.tasks {
            let mut slowest = 0.0_f64;
            for system in &self.plan.systems {
                let (seconds, count) = *taken.get(&(task.name.as_str(), system.name.as_str()))?;
                let each = seconds / count as f64;
                slowest = slowest.max(each);
                left += each * task.samples.len().saturating_sub(count) as f64;
            }
            let asked = |copies: &System| {
                taken.get(&(task.name.as_str(), copies.name.as_str())).map_or(0, |taken| taken.1)
            };
            let checked: usize = self.plan.copies.iter().map(asked).sum();
            let unchecked = self.plan.checked(task).len().saturating_sub(checked);
            left += slowest * if self.plan.copies.is_empty() { 0.0 } else { unchecked as f64 };
        }
        Some(Duration::from_secs_f64(left))
    }
}

/// It would be the same for every sample.
fn is_of_all(error: &TaskError) -> bool {
    let TaskError::Engine(error) = error else { return false };
    matches!(
        error,
        GenerateError::Stopped
            | GenerateError::UnknownModel { .. }
            | GenerateError::Fusion { .. }
            | GenerateError::QueueFull { .. }
    )
}

fn record(
    task: &Task,
    system: &System,
    sample: &Sample,
    (answer, seconds): (Result<Outcome, TaskError>, f64),
) -> Record {
    let (outcome, error) = match answer {
        Ok(outcome) => (outcome, None),
        Err(error) => (Outcome::default(), Some(error.to_string())),
    };
    let Outcome { prompt, output, scores, tokens, prompt_tokens, gated, detail } = outcome;
    Record {
        task: task.name.clone(),
        system: system.name.clone(),
        sample: sample.id.clone(),
        split: sample.split(),
        group: sample.group.clone(),
        prompt,
        output,
        scores: scores.into_iter().map(|(name, part)| (name.to_owned(), part.into())).collect(),
        tokens,
        prompt_tokens,
        gated,
        seconds,
        detail,
        error,
    }
}
