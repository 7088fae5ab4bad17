//! One item of a data set, in one of the shapes that tasks know.
//!
//! Pure: text in, text out. Knows no model and no file.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a task asks about once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its own within its data set, and the same in every run: the split and the order are made
    /// from it.
    pub id: String,
    /// What it is counted among besides all: a subject, a kind of text. Empty for none.
    pub group: String,
    pub item: Item,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A text that models are to foresee.
    Text(String),
    /// A beginning or question as the data set has it, without any prompt around it, and what
    /// may follow or answer it.
    Choice { stem: String, choices: Vec<String>, answer: usize },
    /// A question whose answer ends with one right number or word, which is `answer`.
    Exact { question: String, answer: String },
    /// The beginning of a Python program, and what tests the function that it defines: a text
    /// that defines `check(candidate)`.
    Program { prompt: String, tests: String, entry_point: String },
    /// What to write as JSON, and the schema it has to keep.
    Json { instruction: String, schema: String },
    /// What to write at length, as one would ask for it.
    Topic(String),
}

/// Choices are made on one part of a data set and told of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Dev,
    Test,
}

/// One sample in so many is for choosing.
const DEV: u64 = 4;

impl Sample {
    pub fn split(&self) -> Split {
        if self.rank().is_multiple_of(DEV) { Split::Dev } else { Split::Test }
    }

    /// Where it stands in an order that is the same everywhere and has nothing to do with the
    /// data set's: the beginning of its id's SHA-256.
    pub fn rank(&self) -> u64 {
        let digest = Sha256::digest(self.id.as_bytes());
        u64::from_be_bytes(std::array::from_fn(|at| digest[at]))
    }
}

/// The first `limit` of each split, in the order of their ranks, dev first; `None` takes all.
/// So the samples of a short run are among those of a longer one.
pub fn choose(mut samples: Vec<Sample>, limit: Option<usize>) -> Vec<Sample> {
    samples.sort_by_cached_key(|sample| (sample.split(), sample.rank(), sample.id.clone()));
    if let Some(limit) = limit {
        let test = limit - limit / DEV as usize;
        let (mut dev_left, mut test_left) = (limit - test, test);
        samples.retain(|sample| {
            let left = match sample.split() {
                Split::Dev => &mut dev_left,
                Split::Test => &mut test_left,
            };
            let has_place = *left > 0;
            *left -= usize::from(has_place);
            has_place
        });
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: usize) -> Vec<Sample> {
        (0..count)
            .map(|at| Sample {
                id: format!("item-{at}"),
                group: String::new(),
                item: Item::Text("x".to_owned()),
            })
            .collect()
    }

    #[test]
    fn the_split_is_a_quarter_and_does_not_depend_on_the_order() {
        let dev = samples(4000).iter().filter(|sample| sample.split() == Split::Dev).count();
        assert!((900..1100).contains(&dev), "{dev}");
        let mut backwards = samples(100);
        backwards.reverse();
        assert_eq!(choose(backwards, Some(20)), choose(samples(100), Some(20)));
    }

    #[test]
    fn a_short_run_takes_samples_of_a_longer_one() {
        let (few, many) = (choose(samples(400), Some(40)), choose(samples(400), Some(120)));
        assert_eq!((few.len(), many.len()), (40, 120));
        assert!(few.iter().all(|sample| many.contains(sample)));
        assert_eq!(few.iter().filter(|sample| sample.split() == Split::Dev).count(), 10);
        assert_eq!(choose(samples(400), None).len(), 400);
    }
}
