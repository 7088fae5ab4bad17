//! The plan: asked for under a schema, checked, asked for once more, mended, filled up.

use std::{collections::HashSet, ops::RangeInclusive, time::Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    MAX_SECTIONS, Part, ReportError, ReportEvent, Run, Tokens,
    ask::{End, Question, ask},
    language::languages,
    markdown::{plain_line, same_words},
    prompts,
};
use crate::{constrain::Constraint, engine::GenerateError};

/// How often the planner is asked for the sections that a mended plan lacks.
const MORE: usize = 3;
/// The number of the first such generation, for its seed: the first that no section has.
const MORE_NUMBER: usize = 2 * (MAX_SECTIONS + 1);

/// The most characters of a language's name, a title, a section's name, and its description.
const LANGUAGE: usize = 20;
const TITLE: usize = 90;
const NAME: usize = 60;
const DESCRIPTION: usize = 160;
/// The most characters of any text of a plan that is given: every worker reads all names.
const LONGEST_GIVEN: usize = 500;

/// What the report says, in which order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What the planner calls the topic's language; may be empty.
    #[serde(default)]
    pub language: String,
    /// One line, not empty.
    pub title: String,
    /// With different names.
    pub sections: Vec<PlannedSection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedSection {
    /// One line, not empty.
    pub name: String,
    /// What the section is about; one line, may be empty.
    #[serde(default)]
    pub description: String,
}

/// A plan and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    pub plan: Plan,
    /// True if the plan came with the request.
    pub given: bool,
    /// Why the first answer was not used.
    pub refused: Option<PlanFault>,
    /// True if no answer was good as it was and the plan is made of the usable sections of all.
    pub mended: bool,
    /// The number of sections asked for, if fewer could be planned.
    pub short_of: Option<usize>,
    /// Of all answers.
    pub usage: Tokens,
    pub seconds: f64,
}

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum PlanFault {
    #[error("the plan did not end within {max_tokens} tokens")]
    Unfinished { max_tokens: usize },
    #[error("the plan is not the JSON asked for: {reason}")]
    Malformed { reason: String },
    #[error("a text of {characters} characters is too long, {most} are the most: {start}...")]
    TooLong { characters: usize, most: usize, start: String },
    #[error("the title is empty")]
    NoTitle,
    #[error("section {number} has no name")]
    Nameless { number: usize },
    #[error("two sections are named \"{name}\"")]
    Duplicate { name: String },
    #[error("\"{text}\" belongs to another report")]
    Copied { text: String },
    #[error("the number of sections is {count} and not {}", range(.bounds))]
    Count { count: usize, bounds: RangeInclusive<usize> },
}

/// An answer that cannot be used as it is, and its sections if it has any.
struct Refused {
    fault: PlanFault,
    draft: Option<Plan>,
}

/// Asks for a plan, and once more if it cannot be used; mends it if that is no better.
pub(super) async fn plan(run: &Run<'_>) -> Result<Planned, ReportError> {
    let started = Instant::now();
    let mut usage = Tokens::default();
    if let Some(plan) = &run.request.plan {
        let planned = Planned::given(plan.clone());
        run.tell(ReportEvent::Planned(planned.clone())).await;
        return Ok(planned);
    }
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
                    let plan = mend(drafts, second.fault, run, &mut usage).await?;
                    (plan, Some(first.fault), true)
                }
            }
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let short_of = run.request.sections.filter(|&asked| plan.sections.len() < asked);
    let planned = Planned { plan, given: false, refused, mended, short_of, usage, seconds };
    run.tell(ReportEvent::Planned(planned.clone())).await;
    Ok(planned)
}

async fn attempt(
    run: &Run<'_>,
    refused: Option<&PlanFault>,
    usage: &mut Tokens,
) -> Result<Result<Plan, Refused>, ReportError> {
    let bounds = run.request.section_bounds();
    let question = Question {
        part: Part::Plan,
        messages: prompts::plan(&run.request.topic, &bounds, refused),
        constraint: Some(Constraint::JsonSchema(schema(&run.request.topic, &bounds))),
        max_tokens: max_tokens(run),
        number: usize::from(refused.is_some()),
    };
    Ok(match answer(run, question, usage).await?.and_then(|json| Plan::parse(&json)) {
        Err(fault) => Err(Refused { fault, draft: None }),
        Ok(plan) => match plan.check(&bounds, &foreign(&run.request.topic)) {
            Ok(()) => Ok(plan),
            Err(fault) => Err(Refused { fault, draft: Some(plan) }),
        },
    })
}

/// The planner's whole answer.
async fn answer(
    run: &Run<'_>,
    question: Question,
    usage: &mut Tokens,
) -> Result<Result<String, PlanFault>, ReportError> {
    let max_tokens = question.max_tokens;
    let answer = ask(run, question).await;
    *usage += answer.usage;
    match answer.end {
        End::Failed(GenerateError::Stopped) => Err(ReportError::Stopped),
        End::Failed(error) => Err(ReportError::Plan(error)),
        End::Length => Ok(Err(PlanFault::Unfinished { max_tokens })),
        End::Stop | End::Looped => Ok(Ok(answer.text)),
    }
}

/// A plan of the usable sections of the drafts, in order; what they lack is asked for.
///
/// A number of sections asked for is what is wanted and not a condition: a report of most of them
/// that says so is better than none. `fault` is what is wrong with the last draft.
async fn mend(
    drafts: Vec<Plan>,
    fault: PlanFault,
    run: &Run<'_>,
    usage: &mut Tokens,
) -> Result<Plan, ReportError> {
    let Some(mut plan) = joined(drafts, run) else {
        return Err(ReportError::UnusablePlan { fault, asked: 2 });
    };
    let bounds = run.request.section_bounds();
    for number in MORE_NUMBER..MORE_NUMBER + MORE {
        let count = plan.sections.len();
        if count >= *bounds.start() {
            break;
        }
        let short = PlanFault::Count { count, bounds: bounds.clone() };
        run.tell(ReportEvent::PlanRefused { fault: short }).await;
        let found = more(run, &plan, number, usage).await?;
        plan.sections = usable([plan.sections, found].concat(), run);
    }
    let least = run.request.sections.map_or(*bounds.start(), |_| 1);
    if plan.sections.len() < least {
        return Err(ReportError::UnusablePlan { fault, asked: 2 + MORE });
    }
    Ok(plan)
}

/// Asks for the sections that the plan lacks. An answer that cannot be read has none.
async fn more(
    run: &Run<'_>,
    plan: &Plan,
    number: usize,
    usage: &mut Tokens,
) -> Result<Vec<PlannedSection>, ReportError> {
    let names: Vec<_> = plan.sections.iter().map(|section| section.name.clone()).collect();
    let lacking = run.request.section_bounds().start() - names.len();
    let question = Question {
        part: Part::Plan,
        messages: prompts::plan_more(&run.request.topic, names, lacking),
        constraint: Some(Constraint::JsonSchema(object(
            &json!({ "sections": sections_schema(&(lacking..=lacking)) }),
            &["sections"],
        ))),
        max_tokens: max_tokens(run),
        number,
    };
    let json = answer(run, question, usage).await?;
    let more = json.ok().and_then(|json| serde_json::from_str::<More>(&json).ok());
    Ok(more.into_iter().flat_map(|more| more.sections).map(PlannedSection::cleaned).collect())
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
    let language = match languages(topic) {
        Some(languages) => json!({"enum": languages}),
        None => text(LANGUAGE),
    };
    let properties = json!({
        "language": language,
        "title": text(TITLE),
        "sections": sections_schema(bounds),
    });
    object(&properties, &["language", "title", "sections"])
}

fn text(longest: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": longest})
}

fn sections_schema(bounds: &RangeInclusive<usize>) -> Value {
    json!({
        "type": "array",
        "minItems": bounds.start(),
        "maxItems": bounds.end(),
        "items": {
            "type": "object",
            "properties": { "name": text(NAME), "description": text(DESCRIPTION) },
            "required": ["name", "description"],
            "additionalProperties": false
        }
    })
}

/// The whole answer, see [`schema`].
fn object(properties: &Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
        "x-guidance": {
            "whitespace_flexible": false,
            "item_separator": ", ",
            "key_separator": ": ",
            "json_allowed_escapes": "\"\\"
        }
    })
}

/// Sections that a plan lacks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct More {
    sections: Vec<PlannedSection>,
}

impl Planned {
    fn given(plan: Plan) -> Self {
        let (usage, seconds) = (Tokens::default(), 0.0);
        let (refused, mended, short_of) = (None, false, None);
        Self { plan, given: true, refused, mended, short_of, usage, seconds }
    }
}

impl Plan {
    /// Reads a plan's JSON; every text becomes one line without Markdown's marks around it.
    /// What is to be said of a plan of a person's is [`Plan::check_given`]'s.
    pub fn parse(json: &str) -> Result<Self, PlanFault> {
        let plan: Self = serde_json::from_str(json)
            .map_err(|error| PlanFault::Malformed { reason: error.to_string() })?;
        Ok(plan.cleaned())
    }

    /// The plan with every text on one line, without Markdown's marks around it.
    pub fn cleaned(self) -> Self {
        Self {
            language: plain_line(&self.language),
            title: plain_line(&self.title),
            sections: self.sections.into_iter().map(PlannedSection::cleaned).collect(),
        }
    }

    /// The plan as JSON that a person can edit and [`Plan::parse`] reads.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts in structs can always be JSON")
    }

    /// What makes a plan that did not come from the planner unfit for a report.
    pub fn check_given(&self) -> Result<(), PlanFault> {
        self.check(&(1..=MAX_SECTIONS), &HashSet::new())?;
        let sections = self.sections.iter();
        let texts = sections.flat_map(|section| [&section.name, &section.description]);
        for text in texts.chain([&self.language, &self.title]) {
            let characters = text.chars().count();
            if characters > LONGEST_GIVEN {
                let start = text.chars().take(20).collect();
                return Err(PlanFault::TooLong { characters, most: LONGEST_GIVEN, start });
            }
        }
        Ok(())
    }

    fn check(
        &self,
        bounds: &RangeInclusive<usize>,
        foreign: &HashSet<String>,
    ) -> Result<(), PlanFault> {
        let count = self.sections.len();
        if !bounds.contains(&count) {
            return Err(PlanFault::Count { count, bounds: bounds.clone() });
        }
        if same_words(&self.title).is_empty() {
            return Err(PlanFault::NoTitle);
        }
        if foreign.contains(&same_words(&self.title)) {
            return Err(PlanFault::Copied { text: self.title.clone() });
        }
        let mut names = HashSet::new();
        for (number, section) in (1..).zip(&self.sections) {
            let words = same_words(&section.name);
            if words.is_empty() {
                return Err(PlanFault::Nameless { number });
            }
            if foreign.contains(&words) {
                return Err(PlanFault::Copied { text: section.name.clone() });
            }
            if !names.insert(words) {
                return Err(PlanFault::Duplicate { name: section.name.clone() });
            }
        }
        Ok(())
    }
}

impl PlannedSection {
    fn cleaned(self) -> Self {
        Self {
            name: without_number(&plain_line(&self.name)).to_owned(),
            description: plain_line(&self.description),
        }
    }
}

/// The title and the names of the example, which a small model hands in as its own plan, as
/// [`same_words`]; none if the topic may want them, as it has a word of the example's title.
fn foreign(topic: &str) -> HashSet<String> {
    let example = Plan::parse(prompts::example()).expect("a test reads the example as a plan");
    let words = |text: &str| -> HashSet<String> {
        let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
        // Every English topic may have these.
        words.filter(|word| !["", "the", "of"].contains(&word.as_str())).collect()
    };
    if !words(topic).is_disjoint(&words(&example.title)) {
        return HashSet::new();
    }
    let names = example.sections.iter().map(|section| same_words(&section.name));
    names.chain([same_words(&example.title)]).collect()
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

/// The drafts as one plan, if there are any; a missing title is the topic.
fn joined(drafts: Vec<Plan>, run: &Run<'_>) -> Option<Plan> {
    let topic = &run.request.topic;
    let mut no_title = foreign(topic);
    no_title.insert(String::new());
    let title = drafts
        .iter()
        .map(|draft| draft.title.clone())
        .find(|title| !no_title.contains(&same_words(title)))
        .unwrap_or_else(|| plain_line(topic));
    let language = drafts.first()?.language.clone();
    let sections = drafts.into_iter().flat_map(|draft| draft.sections).collect();
    Some(Plan { language, title, sections: usable(sections, run) })
}

/// The sections with a name of their own, in order, no more than are wanted.
fn usable(sections: Vec<PlannedSection>, run: &Run<'_>) -> Vec<PlannedSection> {
    let mut taken = foreign(&run.request.topic);
    taken.insert(String::new());
    let own = sections.into_iter().filter(|section| taken.insert(same_words(&section.name)));
    own.take(*run.request.section_bounds().end()).collect()
}

/// What is to be said of a plan with fewer sections than asked for.
pub(super) fn shortfall(planned: usize, asked: usize) -> String {
    format!("{planned} of the {asked} sections asked for could be planned")
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
        assert_eq!(
            plan.check(&(3..=6), &HashSet::new()),
            Err(PlanFault::Duplicate { name: "Scale".to_owned() })
        );
    }

    #[test]
    fn the_example_is_foreign_to_a_topic_without_its_words() {
        let foreign_to_all: HashSet<_> =
            ["thehistoryoftea", "originsinchina", "traderoutes", "teaandempire", "teatoday"]
                .map(str::to_owned)
                .into();
        for topic in ["x", "The rise of Rome", "steam engines", "缩放定律"] {
            assert_eq!(foreign(topic), foreign_to_all, "{topic}");
        }
        for topic in ["The history of Rome", "Is TEA healthy?", "tea"] {
            assert_eq!(foreign(topic), HashSet::new(), "{topic}");
        }
    }
}
