//! The data sets whose manifests come with the program, fetched as a user's are.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use tutti::{
    eval::{
        Item, Sample, data,
        sandbox::{Limits, Outcome, Sandbox},
        task::{Problem, program},
    },
    store::{self, Bars, Options, Store},
};

use crate::real;

/// The samples of a data set by its manifest's id, and their file.
pub(crate) fn samples(id: &str) -> (Vec<Sample>, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("eval/data");
    let data_sets = store::data_sets(&folder).unwrap();
    let store = Store::new(&real::cache(), Options::from_env()).unwrap();
    let found = store.ensure_samples(&data_sets, id, &Bars::stderr().bar());
    let (path, rows) = found.unwrap_or_else(|error| panic!("{error}"));
    let samples = data::load(rows.parse().unwrap(), &path);
    (samples.unwrap_or_else(|error| panic!("{error}")), path)
}

/// How many samples each group has.
fn groups(samples: &[Sample]) -> BTreeMap<&str, usize> {
    let mut groups = BTreeMap::new();
    for sample in samples {
        *groups.entry(&*sample.group).or_default() += 1;
    }
    groups
}

#[test]
fn the_true_files_are_read_whole() {
    for (id, count) in [
        ("gsm8k", 100),
        ("hellaswag", 100),
        ("humaneval", 164),
        ("longwrite", 120),
        ("mmlu", 1000),
        ("texts", 400),
        ("truthfulqa", 100),
    ] {
        let (samples, _) = samples(id);
        assert_eq!(samples.len(), count, "{id}");
        for sample in samples {
            match &sample.item {
                Item::Choice { stem, choices, .. } => {
                    assert!(!stem.is_empty() && !choices.contains(&String::new()), "{sample:?}");
                    assert!(id != "mmlu" || choices.len() == 4, "{sample:?}");
                }
                Item::Exact { answer, .. } => {
                    answer.parse::<i64>().unwrap_or_else(|_| panic!("{sample:?}"));
                }
                Item::Program { prompt, entry_point, tests } => {
                    assert!(prompt.contains(&format!("def {entry_point}(")), "{sample:?}");
                    assert!(tests.contains("def check("), "{sample:?}");
                }
                Item::Topic(topic) => assert!(!topic.trim().is_empty()),
                Item::Text(text) => assert!(!text.is_empty(), "{sample:?}"),
                Item::Json { .. } => panic!("{sample:?}"),
            }
        }
    }
}

#[test]
fn the_texts_are_of_eight_kinds() {
    let (texts, _) = samples("texts");
    let groups = groups(&texts);
    assert_eq!((groups.len(), groups.values().max()), (8, Some(&50)), "{groups:?}");
    assert!(groups.contains_key("wikipedia"), "{groups:?}");
}

/// HumanEval's own solutions, by the sample's id.
fn solutions(path: &Path) -> BTreeMap<String, String> {
    let rows = BufReader::new(GzDecoder::new(File::open(path).unwrap())).lines();
    let solution = |row: String| {
        let row: serde_json::Value = serde_json::from_str(&row).unwrap();
        let text = |field: &str| row[field].as_str().unwrap().to_owned();
        (text("task_id"), text("canonical_solution"))
    };
    rows.map(|row| solution(row.unwrap())).collect()
}

#[test]
fn the_programs_of_those_who_know_pass_and_empty_ones_fail() {
    // Where there is no sandbox it is refused, which its own tests look at.
    let Ok(sandbox) = Sandbox::find() else { return };
    let (samples, path) = samples("humaneval");
    let solutions = solutions(&path);
    let (mut completed, mut empty) = (0, 0);
    for (number, sample) in samples.iter().enumerate() {
        let Item::Program { prompt, tests, entry_point } = &sample.item else { panic!() };
        let solution = &solutions[&sample.id];
        let passes = |completion| {
            let program = program(&Problem { prompt, tests, entry_point }, completion);
            sandbox.run(&program, &Limits::default()).unwrap() == Outcome::Passed
        };
        completed += u32::from(passes(solution));
        // A tenth of a second each: not all of them twice.
        if number % 8 == 0 {
            empty += u32::from(passes("    pass"));
        }
    }
    assert_eq!((completed, empty), (164, 0));
}
