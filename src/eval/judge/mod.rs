//! Lets another model say which of two reports on one plan is better.
//!
//! Knows the records of a run; only [`Endpoint`] opens a socket. Each report of an ensemble is held
//! against each member's, twice, so that each stands first once. Where the judge does not say the
//! same both times, or not what it was asked, it is a tie: models like what stands first, or last
//! (Zheng et al. 2023, "Judging LLM-as-a-Judge", arXiv 2306.05685). They like what is long too, so
//! lengths stand beside the verdicts. What tells who wrote a report is taken off it before.
//!
//! Verdicts are kept in a [`Log`] of their own, a line for each answer of the judge.

mod endpoint;

use std::{collections::BTreeMap, fmt::Write};

use serde_json::json;

use super::{
    Role, Split,
    log::{Header, Log, LogError, MetricHeader, Record, Score, TaskHeader},
    stats::{self, Better, Paired, Part},
};

pub use endpoint::{Endpoint, EndpointError};

const QUESTION: &str = include_str!("question.md");
/// 1 if the judge prefers the ensemble's, 0 if the member's.
const PREFERRED: &str = "preferred";

#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the run has no reports of an ensemble and of a member on the same plan")]
    NoReports,
}

/// What the log of the verdicts is about: another judge or another question is another one.
pub fn header(run: &Header, model: &str) -> Header {
    let kind =
        format!("which of two reports is better, asked of {model} in both orders: {QUESTION}");
    let metric = MetricHeader {
        name: PREFERRED.to_owned(),
        is_share: true,
        lower_is_better: false,
        bound: false,
    };
    let judged = |task: &TaskHeader| TaskHeader {
        kind: format!("{}; {kind}", task.kind),
        metrics: vec![metric.clone()],
        ..task.clone()
    };
    Header { tasks: run.tasks.iter().map(judged).collect(), ..run.clone() }
}

/// Asks the judge what is not in the log yet. `observer` is told how many verdicts of how many are
/// there.
///
/// # Errors
/// If there is nothing to judge, the judge does not answer, or the log cannot be written.
pub fn judge(
    endpoint: &Endpoint,
    (run, records): (&Header, &[Record]),
    log: &mut Log,
    observer: &mut dyn FnMut(usize, usize),
) -> Result<(), JudgeError> {
    let questions = questions(run, records);
    if questions.is_empty() {
        return Err(JudgeError::NoReports);
    }
    for (done, question) in questions.iter().enumerate() {
        if !log.is_finished(&question.ours.task, &question.between(), &question.id()) {
            log.add(question.asked_of(endpoint)?)?;
        }
        observer(done + 1, questions.len());
    }
    Ok(())
}

/// Two reports in one order.
struct Question<'a> {
    ours: &'a Record,
    theirs: &'a Record,
    ours_first: bool,
}

fn questions<'a>(run: &Header, records: &'a [Record]) -> Vec<Question<'a>> {
    let role =
        |record: &Record| run.systems.iter().find(|s| s.name == record.system).map(|s| s.role);
    let reports = || records.iter().filter(|record| record.detail.get("plan").is_some());
    let mut questions = Vec::new();
    for ours in reports().filter(|record| role(record) == Some(Role::Ensemble)) {
        let same = |theirs: &&Record| {
            role(theirs) == Some(Role::Member)
                && (&theirs.task, &theirs.sample) == (&ours.task, &ours.sample)
                && theirs.detail["plan"] == ours.detail["plan"]
        };
        for theirs in reports().filter(same) {
            questions.extend([true, false].map(|ours_first| Question { ours, theirs, ours_first }));
        }
    }
    questions
}

impl Question<'_> {
    fn between(&self) -> String {
        format!("{} against {}", self.ours.system, self.theirs.system)
    }

    fn id(&self) -> String {
        format!("{} ({})", self.ours.sample, if self.ours_first { "first" } else { "second" })
    }

    fn asked_of(&self, endpoint: &Endpoint) -> Result<Record, EndpointError> {
        let (ours, theirs) = (self.ours.output.trim(), self.theirs.output.trim());
        let (a, b) = if self.ours_first { (ours, theirs) } else { (theirs, ours) };
        let prompt = fill(QUESTION, &[("topic", &self.ours.prompt), ("a", a), ("b", b)]);
        let said = endpoint.ask(&prompt)?;
        let preferred = match preference(&said) {
            None => 0.5,
            Some(first) => f64::from(u8::from(first == self.ours_first)),
        };
        let words = |text: &str| text.split_whitespace().count();
        Ok(Record {
            task: self.ours.task.clone(),
            system: self.between(),
            sample: self.id(),
            split: self.ours.split,
            group: String::new(),
            prompt,
            output: said,
            scores: BTreeMap::from([(PREFERRED.to_owned(), Score(preferred, 1.0))]),
            tokens: 0,
            prompt_tokens: 0,
            gated: None,
            seconds: 0.0,
            detail: json!({
                "report": self.ours.sample,
                "words": [words(ours), words(theirs)],
            }),
            error: None,
        })
    }
}

/// The values in the places that are named; one that looks like a place is left as it is.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = template.trim_end();
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').expect("the question closes its places");
        let value = values.iter().find(|(known, _)| *known == name);
        text += before;
        text += value.expect("the question has places for these only").1;
        rest = after;
    }
    text + rest
}

/// Whether the first (`Some(true)`) or the second is better; `None` if neither, or if it is not
/// told.
fn preference(said: &str) -> Option<bool> {
    let said = said.rsplit_once("</think>").map_or(said, |(_, said)| said);
    let words = said.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let filler = ["the", "answer", "report", "better", "is"];
    let mut words = words.skip_while(|word| filler.contains(&word.to_lowercase().as_str()));
    match (words.next()?, words.next()) {
        // "A report that" names none.
        ("A", Some(next)) if next.chars().all(char::is_lowercase) && next != "is" => None,
        ("A", _) => Some(true),
        ("B", _) => Some(false),
        _ => None,
    }
}

/// The verdicts as Markdown; empty while there are none in both orders.
pub fn table(header: &Header, verdicts: &[Record]) -> String {
    // By split, task and who is held against whom; then by report.
    let mut of: BTreeMap<(Split, &str, &str), BTreeMap<&str, Vec<&Record>>> = BTreeMap::new();
    for verdict in verdicts {
        let pair = of.entry((verdict.split, &verdict.task, &verdict.system)).or_default();
        pair.entry(verdict.detail["report"].as_str().unwrap_or_default())
            .or_default()
            .push(verdict);
    }
    let mut rows = Vec::new();
    for (key, reports) in &of {
        let both: Vec<&Vec<&Record>> = reports.values().filter(|both| both.len() == 2).collect();
        let ours: Vec<Part> = both.iter().map(|both| Part::one(verdict(both))).collect();
        let theirs: Vec<Part> = ours.iter().map(|part| Part::one(1.0 - part.value)).collect();
        rows.push((key, mean_words(&both), ours, theirs));
    }
    rows.retain(|(_, _, ours, _)| !ours.is_empty());
    if rows.is_empty() {
        return String::new();
    }
    let pairs: Vec<Paired<'_>> = rows
        .iter()
        .map(|(.., ours, theirs)| Paired { ours, theirs, better: Better::Higher, is_share: true })
        .collect();
    let compared = stats::compare(&pairs, header.seed);
    let mut text = "\nWhat a judge prefers, asked in both orders; where it does not say the same both \
                    times it is a tie. Words are the means of both reports.\n\n| reports | samples | | \
                    better | ties | worse | words | p | |\n|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (((split, task, between), [own, other], ours, _), comparison) in rows.iter().zip(compared) {
        let count = |value: f64| ours.iter().filter(|part| part.value == value).count();
        let split = if *split == Split::Dev { "dev" } else { "test" };
        writeln!(
            text,
            "| {task}, {split} | {} | {between} | {} | {} | {} | {own:.0} : {other:.0} | {:.3} | \
             **{}** |",
            ours.len(),
            count(1.0),
            count(0.5),
            count(0.0),
            comparison.adjusted_p,
            comparison.verdict
        )
        .expect("a string takes any text");
    }
    text
}

/// Of the two answers on two reports.
fn verdict(both: &[&Record]) -> f64 {
    let mut said = both.iter().filter_map(|record| Some(record.scores.get(PREFERRED)?.0));
    match (said.next(), said.next()) {
        (Some(one), Some(other)) if one == other => one,
        _ => 0.5,
    }
}

fn mean_words(both: &[&Vec<&Record>]) -> [f64; 2] {
    [0, 1].map(|at| {
        let words = both.iter().filter_map(|both| both[0].detail["words"][at].as_f64());
        words.sum::<f64>() / both.len().max(1) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_a_letter_and_not_an_article() {
        for first in ["A", " **A**\n", "A.", "Report A is better", "The better report is A", "A is"]
        {
            assert_eq!(preference(first), Some(true), "{first}");
        }
        for second in ["B", "Answer: B", "<think>A or B? A\nperhaps</think>\nB"] {
            assert_eq!(preference(second), Some(false), "{second}");
        }
        for none in ["tie", "Tie.", "", "A report should", "Both are good", "a", "C"] {
            assert_eq!(preference(none), None, "{none}");
        }
    }

    #[test]
    fn a_question_has_both_reports_whatever_is_in_them() {
        let filled = fill(QUESTION, &[("topic", "{a}"), ("a", "x {b} y"), ("b", "}{")]);
        assert!(filled.contains("this topic:\n{a}\n"), "{filled}");
        assert!(filled.contains("<report A>\nx {b} y\n</report A>"), "{filled}");
        assert!(filled.contains("<report B>\n}{\n</report B>") && filled.ends_with("or tie."));
    }
}
