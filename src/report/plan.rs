//! The plan: asked for under a schema, checked, asked for once more, mended.

use std::{collections::HashSet, ops::RangeInclusive, time::Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ReportError, ReportEvent, Run, add,
    ask::{End, Question, Speaker, ask},
    language::languages,
    markdown::{plain_line, same_words},
    prompts,
};
use crate::{constrain::Constraint, engine::Usage};

/// The most characters of a language's name, a title, a section's name, and its description.
const LANGUAGE: usize = 20;
const TITLE: usize = 90;
const NAME: usize = 60;
const DESCRIPTION: usize = 160;

/// What the report says, in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the planner calls the topic's language; may be empty.
    pub language: String,
    /// One line, not empty.
    pub title: String,
    /// With different names.
    pub sections: Vec<PlannedSection>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSection {
    /// One line, not empty.
    pub name: String,
    /// What the section is about; one line, may be empty.
    pub description: String,
}

/// A plan and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub plan: Plan,
    /// Why the first answer was not used.
    pub refused: Option<PlanFault>,
    /// True if no answer was good as it was and the plan is made of the usable sections of both.
    pub mended: bool,
    /// Of both answers.
    pub usage: Usage,
    pub seconds: f64,
}

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    #[error("the plan did not end within {max_tokens} tokens")]
    Unfinished { max_tokens: usize },
    #[error("the plan is not the JSON asked for: {reason}")]
    Malformed { reason: String },
    #[error("the title is empty")]
    NoTitle,
    #[error("section {number} has no name")]
    Nameless { number: usize },
    #[error("two sections are named \"{name}\"")]
    Duplicate { name: String },
    #[error("the number of sections is {count} and not {}", range(.bounds))]
    Count { count: usize, bounds: RangeInclusive<usize> },
}

/// An answer that cannot be used as it is, and its sections if it has any.
struct Refused {
    fault: PlanFault,
    draft: Option<Plan>,
}

/// Asks for a plan, and once more if it cannot be used.
pub(super) async fn plan(run: &Run<'_>) -> Result<Planned, ReportError> {
    let started = Instant::now();
    let mut usage = Usage::default();
    run.tell(ReportEvent::PlanStarted { max_tokens: max_tokens(run) }).await;
    let (plan, refused, mended) = match attempt(run, None, &mut usage).await? {
        Ok(plan) => (plan, None, false),
        Err(first) => {
            run.tell(ReportEvent::PlanRefused { fault: first.fault.clone() }).await;
            match attempt(run, Some(&first.fault), &mut usage).await? {
                Ok(plan) => (plan, Some(first.fault), false),
                Err(second) => {
                    let drafts: Vec<_> =
                        [second.draft, first.draft].into_iter().flatten().collect();
                    let plan = mend(&drafts, run)
                        .ok_or(ReportError::UnusablePlan { fault: second.fault })?;
                    (plan, Some(first.fault), true)
                }
            }
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let planned = Planned { plan, refused, mended, usage, seconds };
    run.tell(ReportEvent::Planned(planned.clone())).await;
    Ok(planned)
}

async fn attempt(
    run: &Run<'_>,
    refused: Option<&PlanFault>,
    usage: &mut Usage,
) -> Result<Result<Plan, Refused>, ReportError> {
    let bounds = run.request.section_bounds();
    let max_tokens = max_tokens(run);
    let question = Question {
        speaker: Speaker::Planner,
        messages: prompts::plan(&run.request.topic, &bounds, refused),
        constraint: Some(Constraint::JsonSchema(schema(&run.request.topic, &bounds))),
        max_tokens,
        number: usize::from(refused.is_some()),
    };
    let answer = ask(run, question).await;
    add(usage, answer.usage);
    Ok(match answer.end {
        End::Failed(error) => return Err(ReportError::Plan(error)),
        End::Length => Err(Refused { fault: PlanFault::Unfinished { max_tokens }, draft: None }),
        End::Stop | End::Looped => match Plan::parse(&answer.text) {
            Err(fault) => Err(Refused { fault, draft: None }),
            Ok(plan) => match plan.check(&bounds) {
                Ok(()) => Ok(plan),
                Err(fault) => Err(Refused { fault, draft: Some(plan) }),
            },
        },
    })
}

/// The budget asked for, or what a plan needs whose texts are as long as the schema allows, at
/// about one and a half characters a token (Chinese; English has three times as many).
fn max_tokens(run: &Run<'_>) -> usize {
    run.request.plan_max_tokens.unwrap_or_else(|| 100 + 150 * run.request.section_bounds().end())
}

/// The JSON schema of a plan with so many sections.
///
/// The language comes first, because a small model that has named it keeps it, and only those that
/// the topic's script allows can be named: Qwen2.5-Coder-0.5B, shown an English plan, plans a
/// report on a Spanish topic in English if it names no language, and on a Chinese one even then.
///
/// Every text is bounded, so a model that cannot stop is closed by the schema. `x-guidance` is
/// for the engine's grammar (llguidance) and no part of JSON Schema: the plan comes on one line,
/// where free white space would let a small model write line breaks to the end of its budget, and
/// escapes are left out, where `\u` would let it spell characters out in six tokens each.
fn schema(topic: &str, bounds: &RangeInclusive<usize>) -> Value {
    let text = |longest: usize| json!({"type": "string", "minLength": 1, "maxLength": longest});
    let language = match languages(topic) {
        Some(languages) => json!({"enum": languages}),
        None => text(LANGUAGE),
    };
    json!({
        "type": "object",
        "properties": {
            "language": language,
            "title": text(TITLE),
            "sections": {
                "type": "array",
                "minItems": bounds.start(),
                "maxItems": bounds.end(),
                "items": {
                    "type": "object",
                    "properties": { "name": text(NAME), "description": text(DESCRIPTION) },
                    "required": ["name", "description"],
                    "additionalProperties": false
                }
            }
        },
        "required": ["language", "title", "sections"],
        "additionalProperties": false,
        "x-guidance": {
            "whitespace_flexible": false,
            "item_separator": ", ",
            "key_separator": ": ",
            "json_allowed_escapes": "\"\\"
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanWire {
    language: String,
    title: String,
    sections: Vec<SectionWire>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SectionWire {
    name: String,
    description: String,
}

impl Plan {
    /// Reads a plan's JSON; every text becomes one line without Markdown's marks around it.
    fn parse(json: &str) -> Result<Self, PlanFault> {
        let wire: PlanWire = serde_json::from_str(json)
            .map_err(|error| PlanFault::Malformed { reason: error.to_string() })?;
        Ok(Self {
            language: plain_line(&wire.language),
            title: plain_line(&wire.title),
            sections: wire
                .sections
                .into_iter()
                .map(|section| PlannedSection {
                    name: without_number(&plain_line(&section.name)).to_owned(),
                    description: plain_line(&section.description),
                })
                .collect(),
        })
    }

    fn check(&self, bounds: &RangeInclusive<usize>) -> Result<(), PlanFault> {
        let count = self.sections.len();
        if !bounds.contains(&count) {
            return Err(PlanFault::Count { count, bounds: bounds.clone() });
        }
        if same_words(&self.title).is_empty() {
            return Err(PlanFault::NoTitle);
        }
        let mut names = HashSet::new();
        for (number, section) in (1..).zip(&self.sections) {
            let words = same_words(&section.name);
            if words.is_empty() {
                return Err(PlanFault::Nameless { number });
            }
            if !names.insert(words) {
                return Err(PlanFault::Duplicate { name: section.name.clone() });
            }
        }
        Ok(())
    }
}

/// The name without a list's number before it, which the document's order gives anyway and which
/// would make a worker go on counting.
fn without_number(name: &str) -> &str {
    let rest = name.trim_start_matches(|c: char| c.is_ascii_digit());
    if rest.len() == name.len() {
        return name;
    }
    match rest.strip_prefix(['.', ')', ':', '\u{3001}']) {
        // `3.5 billion` is no number of a list.
        Some(name) if !name.starts_with(|c: char| c.is_ascii_digit()) => name.trim_start(),
        _ => name,
    }
}

/// The usable sections of the drafts in order, if there are enough; a missing title is the topic.
fn mend(drafts: &[Plan], run: &Run<'_>) -> Option<Plan> {
    let bounds = run.request.section_bounds();
    let mut names = HashSet::from([String::new()]);
    let sections: Vec<_> = drafts
        .iter()
        .flat_map(|draft| &draft.sections)
        .filter(|section| names.insert(same_words(&section.name)))
        .take(*bounds.end())
        .cloned()
        .collect();
    let title = drafts
        .iter()
        .map(|draft| draft.title.clone())
        .find(|title| !same_words(title).is_empty())
        .unwrap_or_else(|| plain_line(&run.request.topic));
    let language = drafts.first()?.language.clone();
    (sections.len() >= *bounds.start()).then_some(Plan { language, title, sections })
}

pub(super) fn range(bounds: &RangeInclusive<usize>) -> String {
    match (bounds.start(), bounds.end()) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_list_are_no_part_of_a_name() {
        for (name, expected) in [
            ("1. Introduction", "Introduction"),
            ("12) Results", "Results"),
            ("3: Method", "Method"),
            ("2、方法", "方法"),
            ("4.", ""),
            ("2026 and after", "2026 and after"),
            ("3.5 billion people", "3.5 billion people"),
            ("Results of 2026.", "Results of 2026."),
        ] {
            assert_eq!(without_number(name), expected, "{name}");
        }
    }

    #[test]
    fn names_that_differ_by_their_number_only_are_the_same() {
        let section = |name: &str| json!({"name": name, "description": "d"});
        let json = json!({
            "language": "English",
            "title": "t",
            "sections": [section("1. Scale"), section("2. Data"), section("3. Scale")],
        });
        let plan = Plan::parse(&json.to_string()).unwrap();
        assert_eq!(plan.check(&(3..=6)), Err(PlanFault::Duplicate { name: "Scale".to_owned() }));
    }
}
