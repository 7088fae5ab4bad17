//! The log of a run: a line of JSON for what was planned, then one for each answer of a system to a
//! sample. Everything that is told of a run is made from it.
//!
//! Knows files and lines; what figures mean is not its business. A line is written whole, so of a
//! run that was killed at most the last line is cut, and that is taken away when it goes on.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Role, Split,
    stats::{Better, Part},
    task::Source,
};

/// What a run is about. Two runs with the same one have the same samples and scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Of this program.
    pub version: String,
    pub seed: u64,
    pub systems: Vec<SystemHeader>,
    pub tasks: Vec<TaskHeader>,
    pub models: Vec<ModelHeader>,
    /// On what models compute, in one line; empty where it is not known.
    #[serde(default)]
    pub device: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SystemHeader {
    pub name: String,
    pub role: Role,
    /// How it is fused and what its members are set to, in one line.
    pub fusion: String,
    /// The members that take part; the first decides where a gate lets it.
    pub members: Vec<String>,
    /// The members have several vocabularies: what texts score is a bound.
    pub bound: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskHeader {
    pub name: String,
    /// How samples are asked, in one line.
    pub kind: String,
    pub metrics: Vec<MetricHeader>,
    pub samples: usize,
    pub sources: Vec<Source>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricHeader {
    pub name: String,
    pub is_share: bool,
    pub lower_is_better: bool,
    /// What systems with several vocabularies score is an upper bound.
    pub bound: bool,
}

/// A model's weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelHeader {
    pub name: String,
    pub files: Vec<Source>,
    /// What one token takes: all of the weights are read for it.
    pub weight_bytes: u64,
}

/// A sample that a system was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub task: String,
    pub system: String,
    pub sample: String,
    pub split: Split,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    pub prompt: String,
    pub output: String,
    /// By metric.
    pub scores: BTreeMap<String, Score>,
    pub tokens: usize,
    pub prompt_tokens: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gated: Option<usize>,
    /// Since the system's sample that finished before, so that all of a task add up to the time
    /// that it took, less what failed and was asked again.
    pub seconds: f64,
    pub detail: Value,
    /// Why it has no scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a sample adds to two sums whose ratio is the figure: a value, and what it is counted per.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score(pub f64, pub f64);

impl From<Part> for Score {
    fn from(part: Part) -> Self {
        Self(part.value, part.size)
    }
}

impl From<Score> for Part {
    fn from(Score(value, size): Score) -> Self {
        Self { value, size }
    }
}

impl MetricHeader {
    pub fn better(&self) -> Better {
        if self.lower_is_better { Better::Lower } else { Better::Higher }
    }
}

/// A log that is being written, and what it holds.
pub struct Log {
    file: File,
    path: PathBuf,
    records: Records,
    /// What has failed before and was not asked again yet.
    failed: HashSet<Key>,
}

/// One record for each sample that a system was asked: its last, for what failed is asked again.
#[derive(Default)]
struct Records {
    all: Vec<Record>,
    places: HashMap<Key, usize>,
}

/// The task, the system and the sample.
type Key = (String, String, String);

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {action} {path}: {cause}")]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("{path} is being written by another process")]
    Busy { path: PathBuf },
    #[error("line {line} of {path} is not of a log: {reason}")]
    Line { path: PathBuf, line: usize, reason: String },
    #[error(
        "{path} is of another run: {difference}; give the same options and files to go on with \
         it, or another --out"
    )]
    OtherRun { path: PathBuf, difference: String },
    #[error("{path} is empty")]
    Empty { path: PathBuf },
}

/// Of every log.
const BEGINNING: &[u8] = br#"{"line":"run","#;

#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
enum Line {
    Run(Box<Header>),
    Sample(Box<Record>),
}

impl Log {
    /// Begins a log, or goes on with one of the same run.
    ///
    /// # Errors
    /// If it is of another run, or is not to be read or written.
    pub fn open(path: &Path, header: &Header) -> Result<Self, LogError> {
        let io = |action| move |cause| LogError::Io { action, path: path.to_owned(), cause };
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .map_err(io("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LogError::Busy { path: path.to_owned() });
            }
            Err(TryLockError::Error(cause)) => return Err(io("lock")(cause)),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(io("read"))?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let is_begun = whole > 0;
        let mut records = Records::default();
        if is_begun {
            let (found, all) = parse(path, &text[..whole])?;
            if let Some(difference) = found.difference(header) {
                return Err(LogError::OtherRun { path: path.to_owned(), difference });
            }
            records = all;
        } else if !BEGINNING.starts_with(&text[..text.len().min(BEGINNING.len())]) {
            let reason = "a log begins with what the run is about".to_owned();
            return Err(LogError::Line { path: path.to_owned(), line: 1, reason });
        }
        if whole < text.len() {
            file.set_len(whole as u64).map_err(io("cut the unfinished last line of"))?;
            file.seek(SeekFrom::End(0)).map_err(io("read"))?;
        }
        let failed = records.all.iter().filter(|record| record.error.is_some()).map(key).collect();
        let mut log = Self { file, path: path.to_owned(), records, failed };
        if !is_begun {
            log.write(&Line::Run(Box::new(header.clone())))?;
        }
        Ok(log)
    }

    /// Whether a sample is not to be asked again: what failed is, once each time the run goes on.
    pub fn is_finished(&self, task: &str, system: &str, sample: &str) -> bool {
        let key = (task.to_owned(), system.to_owned(), sample.to_owned());
        self.records.places.contains_key(&key) && !self.failed.contains(&key)
    }

    /// How many samples are finished, of all systems.
    pub fn finished(&self) -> usize {
        self.records.all.len() - self.failed.len()
    }

    /// In the order they were first asked in.
    pub fn records(&self) -> &[Record] {
        &self.records.all
    }

    pub fn add(&mut self, record: Record) -> Result<(), LogError> {
        let line = Line::Sample(Box::new(record));
        self.write(&line)?;
        if let Line::Sample(record) = line {
            self.failed.remove(&key(&record));
            self.records.keep(*record);
        }
        Ok(())
    }

    fn write(&mut self, line: &Line) -> Result<(), LogError> {
        let mut json = serde_json::to_vec(line).expect("a line's keys are strings");
        json.push(b'\n');
        self.file.write_all(&json).map_err(|cause| LogError::Io {
            action: "write",
            path: self.path.clone(),
            cause,
        })
    }
}

impl Records {
    fn keep(&mut self, record: Record) {
        match self.places.entry(key(&record)) {
            Entry::Occupied(place) => self.all[*place.get()] = record,
            Entry::Vacant(place) => {
                place.insert(self.all.len());
                self.all.push(record);
            }
        }
    }
}

fn key(record: &Record) -> Key {
    (record.task.clone(), record.system.clone(), record.sample.clone())
}

/// A log as it lies on the disk, finished or not.
///
/// # Errors
/// If it cannot be read, or is none.
pub fn read(path: &Path) -> Result<(Header, Vec<Record>), LogError> {
    let text = std::fs::read(path).map_err(|cause| LogError::Io {
        action: "read",
        path: path.to_owned(),
        cause,
    })?;
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let (header, records) = parse(path, &text[..whole])?;
    Ok((header, records.all))
}

fn parse(path: &Path, text: &[u8]) -> Result<(Header, Records), LogError> {
    let mut lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).enumerate();
    let read = |(at, line): (usize, &[u8])| -> Result<Line, LogError> {
        serde_json::from_slice(line).map_err(|error| LogError::Line {
            path: path.to_owned(),
            line: at + 1,
            reason: error.to_string(),
        })
    };
    let wrong = |line: usize, reason: &str| LogError::Line {
        path: path.to_owned(),
        line,
        reason: reason.to_owned(),
    };
    let first = lines.next().ok_or_else(|| LogError::Empty { path: path.to_owned() })?;
    let Line::Run(header) = read(first)? else {
        return Err(wrong(1, "a log begins with what the run is about"));
    };
    let mut records = Records::default();
    for line in lines {
        match read(line)? {
            Line::Sample(record) => records.keep(*record),
            Line::Run(_) => return Err(wrong(line.0 + 1, "a log is about one run")),
        }
    }
    Ok((*header, records))
}

impl Header {
    /// What of another header is not as here, by name; `None` if nothing is.
    fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let list = |names: Vec<&String>| {
            names.into_iter().map(String::as_str).collect::<Vec<_>>().join("; ")
        };
        if self.version != other.version {
            return Some(format!("it was made by tutti {}", self.version));
        }
        if self.seed != other.seed {
            return Some(format!("its seed is {}", self.seed));
        }
        let names = |header: &Self| list(header.systems.iter().map(|it| &it.name).collect());
        if names(self) != names(other) {
            return Some(format!("it has the systems {}, not {}", names(self), names(other)));
        }
        if let Some((ours, theirs)) =
            self.systems.iter().zip(&other.systems).find(|(ours, theirs)| ours != theirs)
        {
            let SystemHeader { name, fusion, members, .. } = ours;
            return Some(if *fusion == theirs.fusion {
                let theirs = theirs.members.join(", ");
                format!("the order of its {name} is {}, not {theirs}", members.join(", "))
            } else {
                format!("its {name} is `{fusion}`, not `{}`", theirs.fusion)
            });
        }
        for (ours, theirs) in self.tasks.iter().zip(&other.tasks) {
            if ours != theirs {
                let TaskHeader { name, samples, kind, .. } = ours;
                return Some(format!("its task {name} is {samples} samples, {kind}"));
            }
        }
        if self.tasks.len() != other.tasks.len() {
            let names = list(self.tasks.iter().map(|task| &task.name).collect());
            return Some(format!("its tasks are {names}"));
        }
        if self.models != other.models {
            return Some("its models' files are others".to_owned());
        }
        let device = if self.device.is_empty() { "an unknown device" } else { &self.device };
        Some(format!("it computes on {device}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(seed: u64) -> Header {
        Header {
            version: "1".to_owned(),
            seed,
            systems: Vec::new(),
            tasks: Vec::new(),
            models: Vec::new(),
            device: String::new(),
        }
    }

    fn record(sample: &str) -> Record {
        Record {
            task: "t".to_owned(),
            system: "s".to_owned(),
            sample: sample.to_owned(),
            split: Split::Test,
            group: String::new(),
            prompt: "a\nb".to_owned(),
            output: "\u{1F600}".to_owned(),
            scores: BTreeMap::from([("m".to_owned(), Score(0.1 + 0.2, 3.0))]),
            tokens: 3,
            prompt_tokens: 2,
            gated: None,
            seconds: 0.25,
            detail: Value::Null,
            error: None,
        }
    }

    #[test]
    fn what_was_finished_before_a_kill_is_still_there_and_the_cut_line_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(&path, &header(1)).unwrap();
        log.add(record("one")).unwrap();
        log.add(record("two")).unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..60 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let mut log = Log::open(&path, &header(1)).unwrap();
            assert_eq!(log.records(), [record("one")]);
            assert!(log.is_finished("t", "s", "one") && !log.is_finished("t", "s", "two"));
            log.add(record("two")).unwrap();
            drop(log);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        assert_eq!(read(&path).unwrap(), (header(1), vec![record("one"), record("two")]));
    }

    #[test]
    fn another_runs_log_is_refused_with_what_is_different() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        drop(Log::open(&path, &header(1)).unwrap());
        let refusal = Log::open(&path, &header(2)).err().unwrap().to_string();
        assert!(refusal.contains("its seed is 1"), "{refusal}");
        for foreign in ["{\"line\":\"sample\"}\n", "mine", "{\"my\": 1}\n{\"my\": 2}"] {
            std::fs::write(&path, foreign).unwrap();
            assert!(matches!(Log::open(&path, &header(1)), Err(LogError::Line { line: 1, .. })));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
        }
    }

    #[test]
    fn what_failed_is_not_finished_and_its_last_answer_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(&path, &header(1)).unwrap();
        let failed = Record { error: Some("no memory".to_owned()), ..record("one") };
        log.add(failed.clone()).unwrap();
        log.add(record("two")).unwrap();
        drop(log);
        let mut log = Log::open(&path, &header(1)).unwrap();
        assert_eq!(log.records(), [failed, record("two")]);
        assert!(!log.is_finished("t", "s", "one") && log.is_finished("t", "s", "two"));
        assert_eq!(log.finished(), 1);
        log.add(record("one")).unwrap();
        assert!(log.is_finished("t", "s", "one") && log.finished() == 2);
        assert_eq!(read(&path).unwrap().1, [record("one"), record("two")]);
    }

    #[test]
    fn a_log_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let _log = Log::open(&path, &header(1)).unwrap();
        assert!(matches!(Log::open(&path, &header(1)), Err(LogError::Busy { .. })));
    }
}
