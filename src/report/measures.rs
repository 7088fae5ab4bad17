//! What can be said of a report's parts without a judge. Pure: texts in, numbers out.
//!
//! Lengths, n-grams and coverage count *units*: a word where words are set apart by spaces, a
//! character where they are not (Chinese, Japanese, Thai). Code is left out of all but the
//! structure.

use std::collections::HashSet;

use pulldown_cmark::{Event, Parser, Tag};
use serde::{Deserialize, Serialize};

use super::{Plan, Report, Section, language, markdown::prose, prompts, synthesis};

/// The length of the sequences of units that are looked for again.
const N: usize = 4;
/// Shorter words say little of what a section is about.
const SHORTEST: usize = 4;
/// Words that begin alike are taken for the same: "scaling" and "scales".
const STEM: usize = 5;

/// A part of a report in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Units of its text; 0 of a part that is missing.
    pub units: usize,
    /// The number of words that its writer was told not to exceed.
    pub asked: usize,
    /// The budget ended it.
    pub at_limit: bool,
    /// The share of its sequences of four units that it had said before.
    pub repeated: f64,
    /// The share of its sequences of four units that an earlier part has said.
    pub shared: f64,
    pub structure: Structure,
    /// Whether it is in the plan's language; `None` if that cannot be told.
    pub language_kept: Option<bool>,
    /// The share of what its name and its description in the plan are about that its text speaks
    /// of; `None` of an introduction or a conclusion, which are in no plan.
    pub coverage: Option<f64>,
}

/// How often each element of Markdown is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Structure {
    pub paragraphs: usize,
    pub headings: usize,
    pub list_items: usize,
    pub tables: usize,
    pub code_blocks: usize,
}

/// The measures of all parts of a report, in the document's order; `max_tokens` is what each
/// section was allowed.
pub fn measures(report: &Report, max_tokens: usize) -> Vec<Measures> {
    let mut said = HashSet::new();
    let first = usize::from(report.introduction.is_some());
    let part = |(at, part): (usize, &Section)| {
        let planned = at.checked_sub(first).and_then(|index| report.plan.sections.get(index));
        let budget = if planned.is_some() { max_tokens } else { synthesis_budget(max_tokens) };
        let Some(text) = part.text() else {
            return Measures { asked: prompts::words(budget), ..Measures::default() };
        };
        let units = units(&prose(text));
        let (repeated, shared) = repetition(&units, &mut said);
        let about = planned.map(|section| format!("{} {}", section.name, section.description));
        Measures {
            units: units.len(),
            asked: prompts::words(budget),
            at_limit: part.is_at_limit(),
            repeated,
            shared,
            structure: structure(text),
            language_kept: language::is_kept(&report.plan.language, &prose(text)),
            coverage: about.map(|about| coverage(&about, &units)),
        }
    };
    report.parts().enumerate().map(part).collect()
}

fn synthesis_budget(max_tokens: usize) -> usize {
    max_tokens.min(synthesis::MAX_TOKENS)
}

/// What the measures of a report's parts come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overall {
    pub units: usize,
    pub asked: usize,
    /// Over all sequences, so that long parts count for more.
    pub repeated: f64,
    pub shared: f64,
    pub structure: Structure,
    /// Of `language_told` parts whose language could be told.
    pub language_kept: usize,
    pub language_told: usize,
    /// The mean of the plan's sections; one that is missing covers nothing.
    pub coverage: f64,
}

impl Overall {
    pub fn of(parts: &[Measures], plan: &Plan) -> Self {
        let sequences = |part: &Measures| part.units.saturating_sub(N - 1) as f64;
        let all = parts.iter().map(sequences).sum::<f64>().max(1.0);
        let share = |of: fn(&Measures) -> f64| {
            parts.iter().map(|part| of(part) * sequences(part)).sum::<f64>() / all
        };
        let count = |of: fn(&Structure) -> usize| {
            parts.iter().map(|part| of(&part.structure)).sum::<usize>()
        };
        let told = || parts.iter().filter_map(|part| part.language_kept);
        Self {
            units: parts.iter().map(|part| part.units).sum(),
            asked: parts.iter().map(|part| part.asked).sum(),
            repeated: share(|part| part.repeated),
            shared: share(|part| part.shared),
            structure: Structure {
                paragraphs: count(|structure| structure.paragraphs),
                headings: count(|structure| structure.headings),
                list_items: count(|structure| structure.list_items),
                tables: count(|structure| structure.tables),
                code_blocks: count(|structure| structure.code_blocks),
            },
            language_kept: told().filter(|kept| *kept).count(),
            language_told: told().count(),
            coverage: parts.iter().filter_map(|part| part.coverage).sum::<f64>()
                / plan.sections.len().max(1) as f64,
        }
    }
}

/// Words in small letters, and the characters of scripts that set no words apart.
fn units(text: &str) -> Vec<String> {
    let mut units = Vec::new();
    let mut word = String::new();
    for c in text.chars().flat_map(char::to_lowercase).chain([' ']) {
        let alone = language::is_unspaced(c);
        if c.is_alphanumeric() && !alone {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            units.push(std::mem::take(&mut word));
        }
        if alone {
            units.push(c.to_string());
        }
    }
    units
}

/// The shares of sequences that were said before: in the text itself, and in what is `said`, to
/// which they are added.
fn repetition(units: &[String], said: &mut HashSet<Vec<String>>) -> (f64, f64) {
    let mut own = HashSet::new();
    let (mut all, mut again, mut shared) = (0_usize, 0_usize, 0_usize);
    for sequence in units.windows(N) {
        all += 1;
        again += usize::from(!own.insert(sequence.to_vec()));
        shared += usize::from(said.contains(sequence));
    }
    said.extend(own);
    let share = |count: usize| count as f64 / all.max(1) as f64;
    (share(again), share(shared))
}

fn structure(text: &str) -> Structure {
    let mut structure = Structure::default();
    for event in Parser::new_ext(text, super::export::options()) {
        let Event::Start(tag) = event else { continue };
        match tag {
            Tag::Paragraph => structure.paragraphs += 1,
            Tag::Heading { .. } => structure.headings += 1,
            Tag::Item => structure.list_items += 1,
            Tag::Table(_) => structure.tables += 1,
            Tag::CodeBlock(_) => structure.code_blocks += 1,
            _ => {}
        }
    }
    structure
}

/// The share of what `about` names that the units name too; 1 if it names nothing.
fn coverage(about: &str, said: &[String]) -> f64 {
    let topics = |units: &[String]| -> HashSet<String> {
        let says = |unit: &&String| {
            unit.chars().count() >= SHORTEST || unit.chars().any(language::is_unspaced)
        };
        units.iter().filter(says).map(|unit| unit.chars().take(STEM).collect()).collect()
    };
    let (wanted, said) = (topics(&units(about)), topics(said));
    if wanted.is_empty() {
        1.0
    } else {
        wanted.intersection(&said).count() as f64 / wanted.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_words_or_characters() {
        assert_eq!(units("It's 3 GPUs."), ["it", "s", "3", "gpus"]);
        assert_eq!(units("缩放 laws的"), ["缩", "放", "laws", "的"]);
        assert!(units("").is_empty());
    }

    #[test]
    fn what_was_said_before_is_counted_within_and_across() {
        let mut said = HashSet::new();
        let first = units("one two three four five one two three four");
        // Six sequences, of which the last was the first.
        assert_eq!(repetition(&first, &mut said), (1.0 / 6.0, 0.0));
        let second = units("zero one two three four nine");
        assert_eq!(repetition(&second, &mut said), (0.0, 1.0 / 3.0));
        assert_eq!(repetition(&units("too short"), &mut said), (0.0, 0.0));
    }

    #[test]
    fn a_text_covers_what_its_plan_names_by_the_beginnings_of_words() {
        let said = units("Scaling of models is cheap.");
        assert_eq!(coverage("The scale of a model, its costs", &said), 1.0 / 3.0);
        assert_eq!(coverage("Scalings, models", &said), 1.0);
        assert_eq!(coverage("to be", &said), 1.0);
        assert_eq!(coverage("缩放", &units("放大")), 0.5);
    }

    #[test]
    fn elements_are_counted() {
        let text = "One.\n\n### Two\n\n- a\n- b\n\n| a |\n|---|\n| 1 |\n\n```\nx\n```\n";
        let expected =
            Structure { paragraphs: 1, headings: 1, list_items: 2, tables: 1, code_blocks: 1 };
        assert_eq!(structure(text), expected);
    }
}
