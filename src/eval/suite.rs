//! Which data sets are asked, how much of each, and how.
//!
//! Knows samples and sizes; where files are is their caller's business.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    Item, Sample,
    data::Rows,
    sample,
    sandbox::{Sandbox, SandboxError},
    task::{Frame, Kind, Reports, Source, Task},
};
use crate::sampling::SamplingParams;

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// A few samples of each: under ten minutes of two small models on two cores.
    Quick,
    /// All of each: hours.
    Full,
}

/// One data set of the suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// As the task and the data set's manifest are called.
    pub name: &'static str,
    /// How many samples the quick suite asks; of 0 only those who name the set.
    quick: usize,
}

/// The data set that comes with this program: instructions with schemas.
pub const SCHEMA: &str = "schema";
const SCHEMA_ROWS: &str = include_str!("../../eval/data/schema.jsonl");

/// All that suites ask, in their order: first what is scored, then what is written.
pub const SETS: [Set; 8] = [
    Set { name: "texts", quick: 32 },
    Set { name: "mmlu", quick: 60 },
    Set { name: "hellaswag", quick: 40 },
    Set { name: "truthfulqa", quick: 32 },
    Set { name: "gsm8k", quick: 16 },
    Set { name: "humaneval", quick: 16 },
    Set { name: SCHEMA, quick: 12 },
    Set { name: "longwrite", quick: 0 },
];

/// Of fewer samples none might be left to choose by.
pub const FEWEST: usize = 4;

impl Suite {
    /// Whether it asks a set that is not named.
    pub fn asks(self, set: Set) -> bool {
        self == Self::Full || set.quick > 0
    }

    /// How many of a set's samples are asked; `None` asks all.
    pub fn limit(self, set: Set) -> Option<usize> {
        (self == Self::Quick).then_some(set.quick.max(FEWEST))
    }

    /// Of how many test samples of each task two copies of a member are asked.
    pub fn checked(self) -> usize {
        match self {
            Self::Quick => 3,
            Self::Full => 25,
        }
    }

    /// How rows of this shape are asked; reports are planned by `planner` and drawn as `sampling`
    /// says.
    ///
    /// # Errors
    /// If they are programs, and there is no sandbox to run them in.
    pub fn kind(
        self,
        rows: Rows,
        (planner, sampling): (&str, &SamplingParams),
    ) -> Result<Kind, SandboxError> {
        let of = |quick: usize, full: usize| if self == Self::Quick { quick } else { full };
        Ok(match rows {
            Rows::Texts | Rows::Text => Kind::BitsPerByte { bytes: of(512, 2048) },
            Rows::HellaSwag => Kind::Choice(Frame::None),
            Rows::Mmlu | Rows::TruthfulQa | Rows::Arc | Rows::Choice => {
                Kind::Choice(Frame::Question)
            }
            Rows::Gsm8k | Rows::Exact => Kind::Exact { max_tokens: of(200, 400) },
            Rows::HumanEval => {
                Kind::Program { max_tokens: of(200, 400), sandbox: Sandbox::find()? }
            }
            Rows::LongWrite => Kind::Report(Reports::new(planner, of(160, 300), sampling)),
        })
    }

    /// The task of this program's own data set.
    pub fn schema(self) -> Task {
        let samples = SCHEMA_ROWS.lines().map(|line| {
            let row: SchemaRow = serde_json::from_str(line).expect("the rows are sound");
            let item = Item::Json { instruction: row.instruction, schema: row.schema.to_string() };
            Sample { id: row.id, group: String::new(), item }
        });
        Task {
            name: SCHEMA.to_owned(),
            kind: Kind::Json { max_tokens: if self == Self::Quick { 160 } else { 400 } },
            samples: samples.collect(),
            sources: vec![Source {
                name: "schema.jsonl".to_owned(),
                sha256: hex(&Sha256::digest(SCHEMA_ROWS)),
            }],
        }
    }
}

impl Task {
    /// With only so many of its samples; `None` leaves all.
    #[must_use]
    pub fn limited(self, limit: Option<usize>) -> Self {
        Self { samples: sample::choose(self.samples, limit), ..self }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quick => "quick",
            Self::Full => "full",
        })
    }
}

#[derive(Deserialize)]
struct SchemaRow {
    id: String,
    instruction: String,
    schema: serde_json::Value,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_of_ours_is_one_and_asks_for_something_of_its_own() {
        let samples = Suite::Full.schema().samples;
        assert!(samples.len() >= 24, "{}", samples.len());
        let mut ids: Vec<&str> = samples.iter().map(|sample| sample.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), samples.len());
        for Sample { id, item, .. } in &samples {
            let Item::Json { schema, .. } = item else { panic!("{id}") };
            let schema = serde_json::from_str(schema).unwrap();
            assert!(jsonschema::meta::is_valid(&schema), "{id}");
            let judge = jsonschema::validator_for(&schema).unwrap();
            let empty = [serde_json::json!({}), serde_json::json!([]), serde_json::json!("")];
            assert!(empty.iter().all(|empty| !judge.is_valid(empty)), "{id}");
        }
    }

    #[test]
    fn a_quick_task_asks_some_of_each_split() {
        let task = Suite::Quick.schema().limited(Some(12));
        let dev = task.samples.iter().filter(|s| s.split() == sample::Split::Dev).count();
        assert_eq!((task.samples.len(), dev), (12, 3));
    }
}
