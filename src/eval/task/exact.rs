//! A written answer whose last number is the right one.

use std::{collections::BTreeMap, sync::LazyLock};

use fancy_regex::Regex;
use serde_json::json;

use super::{Outcome, TaskError};
use crate::{
    engine::{FinishReason, Prompt},
    eval::{
        System,
        ask::{Asker, Writing},
        stats::Part,
    },
    sampling::SamplingParams,
    tokenizer::chat::{Message, Role},
};

/// What follows every question.
const HOW: &str = "Think step by step. End with a line `#### N`, where N is the answer alone.";

pub(super) async fn solve(
    asker: &Asker,
    system: &System,
    (question, answer): (&str, &str),
    max_tokens: usize,
) -> Result<Outcome, TaskError> {
    let prompt = format!("{}\n\n{HOW}", question.trim());
    let writing = Writing {
        prompt: Prompt::chat(vec![Message::new(Role::User, prompt.clone())]),
        max_tokens,
        stop: Vec::new(),
        constraint: None,
        sampling: greedy(),
    };
    let written = asker.write(system, writing).await?;
    Ok(Outcome {
        scores: BTreeMap::from([("right", Part::right(is_right(&written.text, answer)))]),
        prompt,
        tokens: written.usage.completion_tokens,
        prompt_tokens: written.usage.prompt_tokens,
        gated: written.usage.gated,
        detail: json!({ "answer": answer, "cut": written.reason == FinishReason::Length }),
        output: written.text,
    })
}

/// The most probable piece at each step.
pub(super) fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, ..SamplingParams::default() }
}

/// The last number of an output is the answer's; if the answer is none, its last line ends with it,
/// without regard to case and to what is neither letter nor digit around it.
fn is_right(output: &str, answer: &str) -> bool {
    if let Some(right) = number(answer) {
        return last_number(output) == Some(right);
    }
    let plain = |text: &str| text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let (last, answer) = (plain(output.trim().lines().last().unwrap_or("")), plain(answer));
    last.strip_suffix(&answer).is_some_and(|before| {
        !answer.is_empty() && before.chars().next_back().is_none_or(|c| !c.is_alphanumeric())
    })
}

/// A whole text as a number, which may have thousands separated and a sign of a currency.
fn number(text: &str) -> Option<f64> {
    let plain = |c: char| (!matches!(c, '$' | ',')).then_some(if c == '−' { '-' } else { c });
    let text: String = text.trim().chars().filter_map(plain).collect();
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A minus counts where nothing stands before it that it could be taken from, and a comma where
/// three digits follow.
fn last_number(text: &str) -> Option<f64> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        let sign = r"(?:(?<![\w)])[-−]\$?)?";
        let digits = r"(?:\d{1,3}(?:,\d{3})+(?![\d,]*\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+";
        Regex::new(&format!("{sign}(?:{digits})")).expect("the pattern is sound")
    });
    let found = NUMBER.find_iter(text).filter_map(Result::ok);
    found.filter_map(|found| number(found.as_str())).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_counts_however_it_is_written() {
        for (output, answer, expected) in [
            ("so 3 + 4 = 7\n#### 7", "7", true),
            ("It costs $1,234.50 in all.", "1234.5", true),
            ("#### -5", "-5", true),
            ("temperature: -5.", "-5", true),
            ("10-5", "5", true),
            ("7 apples, then 8", "7", false),
            ("#### 18.0", "18", true),
            ("#### .5", "0.5", true),
            ("#### \u{2212}5", "-5", true),
            ("-$5", "-5", true),
            ("1,2,3", "3", true),
            ("1,234,567 in all", "1234567", true),
            ("so 12,345.", "12345", true),
            ("1,2345", "2345", true),
            ("of 3.", "3", true),
            ("no number", "7", false),
            ("", "7", false),
        ] {
            assert_eq!(is_right(output, answer), expected, "{output:?} against {answer}");
        }
    }

    #[test]
    fn an_answer_in_words_ends_the_last_line() {
        assert!(is_right("I think\nThe capital is **Paris**.", "Paris"));
        assert!(is_right("paris", "Paris"));
        assert!(!is_right("Paris\nor London", "Paris"));
        assert!(!is_right("comparis", "Paris"));
        assert!(!is_right("anything", "?"));
    }
}
