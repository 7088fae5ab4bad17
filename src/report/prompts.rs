//! The messages sent to the models, from the files under `prompts/`.
//!
//! All workers' messages are the same up to the own section's name, so that an engine can share
//! the prefix. Every conversation brings its own system message, because the models' templates
//! would each add another one. The planner is shown a finished plan: a model of 135 million
//! parameters that only reads what a plan is gives all its sections one name.

use std::ops::RangeInclusive;

use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::{
    Part, SectionFault,
    plan::{Plan, PlanFault, range},
};
use crate::tokenizer::chat::{Message, Role};

const PLAN_SYSTEM: &str = include_str!("prompts/plan_system.md");
const PLAN: &str = include_str!("prompts/plan.md");
const PLAN_MORE: &str = include_str!("prompts/plan_more.md");
const SECTION_SYSTEM: &str = include_str!("prompts/section_system.md");
const SECTION: &str = include_str!("prompts/section.md");
const SYNTHESIS_SYSTEM: &str = include_str!("prompts/synthesis_system.md");
const SYNTHESIS: &str = include_str!("prompts/synthesis.md");

/// A topic, its number of sections, and the plan as the schema wants it.
const EXAMPLE: (&str, &str, &str) =
    ("The history of tea", "4", include_str!("prompts/plan_example.json"));

/// The planner's conversation; `refused` is what was wrong with its first answer.
pub(super) fn plan(
    topic: &str,
    bounds: &RangeInclusive<usize>,
    refused: Option<&PlanFault>,
) -> Vec<Message> {
    after_example(plan_question(topic, &range(bounds), refused.map(PlanFault::to_string)))
}

/// The planner's conversation about `count` sections that the plan lacks, beside those there are.
pub(super) fn plan_more(topic: &str, names: Vec<String>, count: usize) -> Vec<Message> {
    let topic = topic.trim();
    after_example(message(Role::User, PLAN_MORE, context! { topic, names, count }))
}

/// The JSON of the plan that the planner is shown.
pub(super) fn example() -> &'static str {
    EXAMPLE.2.trim_end()
}

fn after_example(question: Message) -> Vec<Message> {
    let (topic, count, _) = EXAMPLE;
    vec![
        message(Role::System, PLAN_SYSTEM, context! {}),
        plan_question(topic, count, None),
        Message::new(Role::Assistant, example()),
        question,
    ]
}

fn plan_question(topic: &str, count: &str, refused: Option<String>) -> Message {
    let topic = topic.trim();
    message(Role::User, PLAN, context! { topic, count, refused })
}

/// What a worker is told beside the plan.
pub(super) struct Told<'a> {
    /// The most tokens of the section.
    pub(super) budget: usize,
    /// What was wrong with its first text.
    pub(super) retried: Option<&'a SectionFault>,
}

/// The number of words that fits a budget of tokens: English has about 1.3 tokens a word, and
/// lists, names and numbers have more. In tens, as people say it.
pub(super) fn words(budget: usize) -> usize {
    (budget * 6 / 100 * 10).max(10)
}

/// What the worker of section `index` is told.
pub(super) fn section(topic: &str, plan: &Plan, index: usize, told: &Told<'_>) -> Vec<Message> {
    let names: Vec<_> = plan.sections.iter().map(|section| section.name.clone()).collect();
    let own = &plan.sections[index];
    let values = context! {
        topic => topic.trim(),
        language => plan.language.clone(),
        title => plan.title.clone(),
        names,
        words => words(told.budget),
        name => own.name.clone(),
        description => own.description.clone(),
        note => told.retried.and_then(SectionFault::note),
    };
    vec![message(Role::System, SECTION_SYSTEM, context! {}), message(Role::User, SECTION, values)]
}

/// What the writers of the introduction and the conclusion are told; `digest` are the sections'
/// names and what is shown of their texts.
pub(super) fn synthesis(
    topic: &str,
    plan: &Plan,
    digest: &[(String, String)],
    part: Part,
    retried: Option<&SectionFault>,
) -> Vec<Message> {
    let digest: Vec<_> =
        digest.iter().map(|(name, text)| vec![name.clone(), text.clone()]).collect();
    let values = context! {
        topic => topic.trim(),
        language => plan.language.clone(),
        title => plan.title.clone(),
        digest,
        part => if part == Part::Introduction { "introduction" } else { "conclusion" },
        note => retried.and_then(SectionFault::note),
    };
    let (system, user) = (SYNTHESIS_SYSTEM, SYNTHESIS);
    vec![message(Role::System, system, context! {}), message(Role::User, user, values)]
}

fn message(role: Role, template: &str, values: Value) -> Message {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let content = environment
        .render_str(template, values)
        .expect("the prompts are files of this crate, and tests render each");
    Message::new(role, content.trim_end())
}
