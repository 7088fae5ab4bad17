//! Files of samples: JSON lines, plain or in gzip, in the shapes that data sets come in.
//!
//! Reads the one file it is given. Knows no manifest and no network: whoever calls has the file.

mod rows;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use flate2::read::MultiGzDecoder;

use super::Sample;

/// The shape of a file's rows: what a data set's manifest calls `rows`, and what `--kind` names for
/// files of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// `question`, whose end lists the answers as `A. ` to `D. ` and asks `Answer:`, and the letter
    /// that is right as `answer`.
    Mmlu,
    /// `text` and its kind as `type`.
    Texts,
    /// `task_id`, `prompt`, `test` and `entry_point`.
    HumanEval,
    /// `id`, `prompt` and the number that is right as `expected`.
    Gsm8k,
    /// `id`, `activity_label`, `ctx`, `endings` and `expected_index`.
    HellaSwag,
    /// `id`, `question`, `choices` and `expected_index`.
    TruthfulQa,
    /// `prompt` and its `type`.
    LongWrite,
    /// The AI2 Reasoning Challenge as it is published, and as the Hugging Face Hub has it: `id`,
    /// the question, its choices with `text` and `label`, and the label that is right as
    /// `answerKey`.
    Arc,
    /// One's own: `question`, `choices` and the index of the right one, from 0, as `answer`. These
    /// and the next two may have an `id` and a `group`; other fields are not read.
    Choice,
    /// One's own: `question` and `answer`.
    Exact,
    /// One's own: `text`.
    Text,
}

/// All shapes, by the names they are called by.
const NAMES: [(&str, Rows); 11] = [
    ("mmlu", Rows::Mmlu),
    ("texts", Rows::Texts),
    ("humaneval", Rows::HumanEval),
    ("gsm8k", Rows::Gsm8k),
    ("hellaswag", Rows::HellaSwag),
    ("truthfulqa", Rows::TruthfulQa),
    ("longwrite", Rows::LongWrite),
    ("arc", Rows::Arc),
    ("mc", Rows::Choice),
    ("exact", Rows::Exact),
    ("bpb", Rows::Text),
];

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = NAMES.iter().find(|(_, rows)| rows == self).expect("every shape is listed");
        f.write_str(name)
    }
}

impl FromStr for Rows {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|&(_, rows)| rows).ok_or_else(|| DataError::UnknownRows {
            name: name.to_owned(),
            known: NAMES.iter().map(|(known, _)| *known).collect(),
        })
    }
}

/// Why a file's samples are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No shape is called so.
    #[error("no rows are called `{name}`; known are {}", known.join(", "))]
    UnknownRows {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// The file cannot be read, or is neither text nor text in gzip.
    #[error("cannot read samples from {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A row is not what this shape says.
    #[error("{}, line {line}{}: {reason}", path.display(), in_field(field))]
    Row {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The field, as far as one can be named; else empty.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file has no rows.
    #[error("{} has no samples", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

fn in_field(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!(", field `{field}`") }
}

/// All samples of a file, in its order.
///
/// # Errors
/// On the first row that is not as the shape says: a data set is read whole or not at all.
pub fn load(rows: Rows, path: &Path) -> Result<Vec<Sample>, DataError> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let text = read(path).map_err(io)?;
    let mut samples: Vec<Sample> = Vec::new();
    let mut ids = std::collections::HashSet::new();
    for (index, text) in text.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let line = index + 1;
        let sample = rows::sample(rows, text, line).map_err(|(field, reason)| DataError::Row {
            path: path.to_owned(),
            line,
            field,
            reason,
        })?;
        if !ids.insert(sample.id.clone()) {
            let reason = format!("`{}` was there before", sample.id);
            let (path, field) = (path.to_owned(), "id".to_owned());
            return Err(DataError::Row { path, line, field, reason });
        }
        samples.push(sample);
    }
    if samples.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    Ok(samples)
}

/// The first bytes of a file in gzip (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    if bytes.starts_with(&GZIP) {
        let packed = std::mem::take(&mut bytes);
        MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes)?;
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests;
