//! What a log shows: figures with intervals, verdicts, costs.
//!
//! Pure: a header and records in, rows out. The same log gives the same rows.
//!
//! A figure is of the test samples that all members and ensembles have scores for. Each ensemble
//! is held against the member that is best on the dev samples, by each figure on its own; its
//! p-values over all figures of the run are corrected together, by Holm's method. Where an
//! ensemble's figure is only a bound, "worse" is not shown by it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Role, Split,
    log::{Header, MetricHeader, ModelHeader, Record, SystemHeader, TaskHeader},
    stats::{self, Better, Comparison, Estimate, Paired, Part, Verdict},
};

/// One figure of one task, of all systems.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub task: String,
    pub metric: MetricHeader,
    /// The test samples that all have.
    pub samples: usize,
    /// Of these, what guessing would get right; `None` where nothing is guessed.
    pub chance: Option<f64>,
    /// The member that is best on the dev samples.
    pub best: Option<String>,
    pub rows: Vec<Row>,
}

/// One system's figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub system: String,
    pub role: Role,
    pub figure: Estimate,
    /// On the dev samples.
    pub dev: Option<f64>,
    pub is_bound: bool,
    /// Of an ensemble, against the best member.
    pub against: Option<Comparison>,
    /// By the samples' groups, in their order; empty where there is one or very many.
    pub groups: Vec<(String, f64)>,
}

/// What a system's answers to a task took.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    pub task: String,
    pub system: String,
    pub seconds: f64,
    pub tokens: usize,
    /// The share of the pieces that the gate left to the primary.
    pub gate_rate: Option<f64>,
    /// Forwards of each member for a piece, prompts not counted.
    pub forwards: Vec<(String, f64)>,
    /// Bytes of weights read for a piece if it is asked alone.
    pub weights_read: f64,
}

/// What copies of a member said of what the member was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub task: String,
    pub copies: String,
    pub samples: usize,
    /// The samples where they did not say the same.
    pub different: Vec<String>,
}

/// What a setting is to be chosen by: all figures on the dev samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The tasks and metrics that all members and ensembles have dev scores of.
    pub columns: Vec<(String, MetricHeader)>,
    pub rows: Vec<ChoiceRow>,
}

/// One system's figures on the dev samples.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceRow {
    pub system: String,
    pub is_bound: bool,
    /// One for each column.
    pub figures: Vec<f64>,
    /// The mean of its ranks in the columns, from 1 for the best; equals share theirs.
    pub mean_rank: f64,
}

/// Of more groups than this no figures are told.
const MOST_GROUPS: usize = 16;

/// The part of the run that one figure is made from.
struct Scores<'a> {
    /// By system, then sample.
    of: HashMap<&'a str, BTreeMap<&'a str, Part>>,
    /// The samples of a split that all of the systems have, in order of their ids.
    samples: Vec<&'a str>,
}

/// All figures of a run, in the order of its tasks.
pub fn figures(header: &Header, records: &[Record]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for task in &header.tasks {
        for metric in 0..task.metrics.len() {
            figures.extend(figure(header, task, metric, records));
        }
    }
    compare(header, records, &mut figures);
    figures
}

/// All figures on the dev samples.
pub fn choice(header: &Header, records: &[Record]) -> Choice {
    let systems: Vec<&SystemHeader> = compared(header).collect();
    let (mut columns, mut by_column) = (Vec::new(), Vec::new());
    for task in &header.tasks {
        for metric in &task.metrics {
            let dev = Scores::of(compared(header), &task.name, metric, (records, Split::Dev));
            let figures: Option<Vec<f64>> = systems.iter().map(|s| dev.ratio(&s.name)).collect();
            if let Some(figures) = figures {
                columns.push((task.name.clone(), metric.clone()));
                by_column.push(figures);
            }
        }
    }
    let rank = |at: usize, (_, metric): &(String, MetricHeader), figures: &[f64]| {
        let count = |is: &dyn Fn(f64) -> bool| figures.iter().filter(|f| is(**f)).count() as f64;
        let own = figures[at];
        let better = match metric.better() {
            Better::Higher => count(&|other| other > own),
            Better::Lower => count(&|other| other < own),
        };
        1.0 + better + (count(&|other| other == own) - 1.0) / 2.0
    };
    let row = |(at, system): (usize, &&SystemHeader)| {
        let ranks =
            columns.iter().zip(&by_column).map(|(column, figures)| rank(at, column, figures));
        ChoiceRow {
            system: system.name.clone(),
            is_bound: system.bound,
            figures: by_column.iter().map(|figures| figures[at]).collect(),
            mean_rank: ranks.sum::<f64>() / columns.len().max(1) as f64,
        }
    };
    let rows = systems.iter().enumerate().map(row).collect();
    Choice { columns, rows }
}

/// The member that is best on the dev samples of a task, by one of its metrics; the first of
/// equals, and `None` if nobody has any.
pub fn best_member(
    header: &Header,
    task: &str,
    metric: usize,
    records: &[Record],
) -> Option<String> {
    let task = header.tasks.iter().find(|known| known.name == task)?;
    let metric = task.metrics.get(metric)?;
    let members = || header.systems.iter().filter(|system| system.role == Role::Member);
    let scores = Scores::of(members(), &task.name, metric, (records, Split::Dev));
    let mut best: Option<(f64, &str)> = None;
    for member in members() {
        let Some(dev) = scores.ratio(&member.name) else { continue };
        let is_better = best.is_none_or(|(score, _)| match metric.better() {
            Better::Higher => dev > score,
            Better::Lower => dev < score,
        });
        if is_better {
            best = Some((dev, &member.name));
        }
    }
    best.map(|(_, name)| name.to_owned())
}

fn figure(header: &Header, task: &TaskHeader, metric: usize, records: &[Record]) -> Option<Figure> {
    let best = best_member(header, &task.name, metric, records);
    let metric = &task.metrics[metric];
    let of = |split| Scores::of(compared(header), &task.name, metric, (records, split));
    let (scores, dev) = (of(Split::Test), of(Split::Dev));
    if scores.samples.is_empty() {
        return None;
    }
    let range = metric.is_share.then_some((0.0, 1.0));
    let row = |system: &SystemHeader| Row {
        system: system.name.clone(),
        role: system.role,
        figure: stats::estimate(&scores.parts(&system.name), range, header.seed),
        dev: dev.ratio(&system.name),
        is_bound: system.bound && metric.bound,
        against: None,
        groups: groups(records, &task.name, &system.name, (metric, &scores)),
    };
    Some(Figure {
        task: task.name.clone(),
        metric: metric.clone(),
        samples: scores.samples.len(),
        chance: chance(records, &task.name, &scores.samples),
        best,
        rows: compared(header).map(row).collect(),
    })
}

/// Holds each ensemble against the best members, all figures together.
fn compare(header: &Header, records: &[Record], figures: &mut [Figure]) {
    for system in compared(header).filter(|system| system.role == Role::Ensemble) {
        let mut pairs: Vec<(usize, Vec<Part>, Vec<Part>)> = Vec::new();
        for (at, figure) in figures.iter().enumerate() {
            let Some(best) = &figure.best else { continue };
            let test = (records, Split::Test);
            let scores = Scores::of(compared(header), &figure.task, &figure.metric, test);
            pairs.push((at, scores.parts(&system.name), scores.parts(best)));
        }
        let paired: Vec<Paired<'_>> = pairs
            .iter()
            .map(|(at, ours, theirs)| {
                let metric = &figures[*at].metric;
                Paired { ours, theirs, better: metric.better(), is_share: metric.is_share }
            })
            .collect();
        let compared = stats::compare(&paired, header.seed);
        let places: Vec<usize> = pairs.iter().map(|(at, ..)| *at).collect();
        for (at, mut comparison) in places.into_iter().zip(compared) {
            let rows = &mut figures[at].rows;
            let Some(row) = rows.iter_mut().find(|row| row.system == system.name) else { continue };
            // What is at most this may be less than what it is held against.
            if row.is_bound && comparison.verdict == Verdict::Worse {
                comparison.verdict = Verdict::NotShown;
            }
            row.against = Some(comparison);
        }
    }
}

/// The systems that have every sample.
fn compared(header: &Header) -> impl Iterator<Item = &SystemHeader> {
    header.systems.iter().filter(|system| system.role != Role::Copies)
}

impl<'a> Scores<'a> {
    fn of<'s>(
        systems: impl Iterator<Item = &'s SystemHeader>,
        task: &str,
        metric: &MetricHeader,
        (records, split): (&'a [Record], Split),
    ) -> Self {
        let mut of: HashMap<&str, BTreeMap<&str, Part>> = HashMap::new();
        for record in records.iter().filter(|r| r.task == task && r.split == split) {
            if let Some(&score) = record.scores.get(&metric.name) {
                of.entry(&record.system).or_default().insert(&record.sample, score.into());
            }
        }
        let has = |system: &SystemHeader| -> BTreeSet<&'a str> {
            let has = of.get(system.name.as_str());
            has.into_iter().flat_map(BTreeMap::keys).copied().collect()
        };
        let all = systems.map(has).reduce(|all, has| &all & &has);
        let samples = all.unwrap_or_default().into_iter().collect();
        Self { of, samples }
    }

    /// A system's scores of the samples that all have.
    fn parts(&self, system: &str) -> Vec<Part> {
        let of = self.of.get(system);
        self.samples.iter().filter_map(|sample| of?.get(sample).copied()).collect()
    }

    fn ratio(&self, system: &str) -> Option<f64> {
        ratio(self.parts(system).into_iter())
    }
}

fn ratio(parts: impl Iterator<Item = Part>) -> Option<f64> {
    let (mut value, mut size) = (0.0, 0.0);
    for part in parts {
        value += part.value;
        size += part.size;
    }
    (size > 0.0).then(|| value / size)
}

fn groups(
    records: &[Record],
    task: &str,
    system: &str,
    (metric, scores): (&MetricHeader, &Scores<'_>),
) -> Vec<(String, f64)> {
    let mut of: BTreeMap<&str, Vec<Part>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.task == task && record.system == system) {
        let counts = scores.samples.binary_search(&record.sample.as_str()).is_ok();
        if let Some(&score) = record.scores.get(&metric.name).filter(|_| counts) {
            of.entry(&record.group).or_default().push(score.into());
        }
    }
    if of.len() < 2 || of.len() > MOST_GROUPS {
        return Vec::new();
    }
    let figure =
        |(group, parts): (&str, Vec<Part>)| Some((group.to_owned(), ratio(parts.into_iter())?));
    of.into_iter().filter_map(figure).collect()
}

/// What guessing gets right of these samples.
fn chance(records: &[Record], task: &str, test: &[&str]) -> Option<f64> {
    let mut of: BTreeMap<&str, f64> = BTreeMap::new();
    for record in records.iter().filter(|record| record.task == task) {
        if let Some(chance) = record.detail.get("chance").and_then(serde_json::Value::as_f64) {
            of.insert(&record.sample, chance);
        }
    }
    let each: Option<Vec<f64>> = test.iter().map(|sample| of.get(sample).copied()).collect();
    each.filter(|each| !each.is_empty()).map(|each| each.iter().sum::<f64>() / each.len() as f64)
}

/// What all systems took for each task, in the order of the tasks.
pub fn costs(header: &Header, records: &[Record]) -> Vec<Cost> {
    let mut costs = Vec::new();
    for task in &header.tasks {
        for system in compared(header) {
            let of = records.iter().filter(|r| r.task == task.name && r.system == system.name);
            let of: Vec<&Record> = of.filter(|record| record.error.is_none()).collect();
            if !of.is_empty() {
                costs.push(cost(header, &task.name, system, &of));
            }
        }
    }
    costs
}

fn cost(header: &Header, task: &str, system: &SystemHeader, records: &[&Record]) -> Cost {
    let tokens: usize = records.iter().map(|record| record.tokens).sum();
    let gated: Option<usize> = records.iter().map(|record| record.gated).sum();
    let gate_rate = gated.map(|gated| gated as f64 / tokens.max(1) as f64);
    let share = |at: usize| if at == 0 { 1.0 } else { 1.0 - gate_rate.unwrap_or(0.0) };
    let forwards: Vec<(String, f64)> =
        system.members.iter().enumerate().map(|(at, name)| (name.clone(), share(at))).collect();
    let bytes = |name: &String| {
        let model = header.models.iter().find(|model: &&ModelHeader| model.name == *name);
        model.map_or(0.0, |model| model.weight_bytes as f64)
    };
    Cost {
        task: task.to_owned(),
        system: system.name.clone(),
        seconds: records.iter().map(|record| record.seconds).sum(),
        tokens,
        gate_rate,
        weights_read: forwards.iter().map(|(name, share)| bytes(name) * share).sum(),
        forwards,
    }
}

/// What copies said, of every task where some were asked.
pub fn checks(header: &Header, records: &[Record]) -> Vec<Check> {
    let mut checks = Vec::new();
    for task in &header.tasks {
        for copies in header.systems.iter().filter(|system| system.role == Role::Copies) {
            let said: Vec<&Record> = records
                .iter()
                .filter(|record| record.task == task.name && record.system == copies.name)
                .collect();
            // That an answer failed is told elsewhere.
            let is_same = |record: &&&Record| {
                let original = records.iter().find(|other| {
                    other.task == record.task
                        && Some(&other.system) == copies.members.first()
                        && other.sample == record.sample
                });
                let has_failed = |record: &Record| record.error.is_some();
                has_failed(record)
                    || original.is_some_and(|original| {
                        has_failed(original)
                            || (&original.output, &original.scores)
                                == (&record.output, &record.scores)
                    })
            };
            if !said.is_empty() {
                let different = said.iter().filter(|record| !is_same(record));
                checks.push(Check {
                    task: task.name.clone(),
                    copies: copies.name.clone(),
                    samples: said.len(),
                    different: different.map(|record| record.sample.clone()).collect(),
                });
            }
        }
    }
    checks
}

/// The samples that a system has no score for, and why.
pub fn failures(records: &[Record]) -> impl Iterator<Item = (&Record, &str)> {
    records.iter().filter_map(|record| Some((record, record.error.as_deref()?)))
}
