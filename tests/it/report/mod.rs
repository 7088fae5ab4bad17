//! Every path of the report pipeline, on a scripted generator.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::Barrier;
use tutti::{
    constrain::Constraint,
    engine::{Agreement, Event, FinishReason, GenerateError, GenerateRequest, Prompt, Usage},
    report::{
        Done, Lost, MAX_TOPIC_BYTES, Part, Report, ReportError, ReportEvent, ReportRequest, Tokens,
        write,
    },
    sampling::SamplingParams,
};

pub(crate) mod acts;
mod command;
mod compare;
mod export;
mod file;
mod plan;
mod progress;
mod runs;
mod sections;
mod whole;

use crate::scripted::{PROMPT_TOKENS, Scripted, Step};
use acts::{Act, acting, last_message};

const TOPIC: &str = "Create a report on LLM scaling laws";

fn request() -> ReportRequest {
    ReportRequest {
        topic: TOPIC.to_owned(),
        model: "duet".to_owned(),
        sections: None,
        plan: None,
        max_tokens: 64,
        retries: 1,
        plan_max_tokens: None,
        sampling: SamplingParams { seed: 7, ..SamplingParams::default() },
    }
}

fn plan_of(names: &[&str]) -> Value {
    let section = |name: &&str| json!({"name": name, "description": format!("All on {name}.")});
    json!({"language": "English", "title": "Scaling Laws", "sections": names.iter().map(section).collect::<Vec<_>>()})
}

pub(crate) fn good_plan() -> Act {
    Act::say(plan_of(&["Origins", "Data", "Limits"]).to_string())
}

pub(crate) fn is_plan(request: &GenerateRequest) -> bool {
    request.constraint.is_some()
}

fn is_of(request: &GenerateRequest, name: &str) -> bool {
    !is_plan(request) && !is_synthesis(request) && own_section(request) == name
}

/// The name of the section a worker is asked for.
pub(crate) fn own_section(request: &GenerateRequest) -> &str {
    let (_, own) = last_message(request).split_once("Write the section \"").unwrap();
    own.split_once('"').unwrap().0
}

/// True for the introduction and the conclusion.
pub(crate) fn is_synthesis(request: &GenerateRequest) -> bool {
    ["\nWrite the introduction:", "\nWrite the conclusion:"]
        .iter()
        .any(|asked| last_message(request).contains(asked))
}

/// What belongs to the report and is none of its sections.
const SYNTHESIS: &str = "What they are all about.";

pub(crate) fn text_on(request: &GenerateRequest) -> Act {
    if is_synthesis(request) {
        return Act::say(SYNTHESIS);
    }
    Act::say(format!("What is known of {}.", own_section(request)))
}

/// A generator with the good plan, whose sections come of `section`, given the section's name and
/// whether it is asked for again.
fn with_sections(
    section: impl Fn(&str, bool) -> Option<Act> + Send + Sync + 'static,
) -> Arc<Scripted> {
    let seen = Mutex::new(Vec::new());
    acting(move |_, request| {
        if is_plan(request) {
            return good_plan();
        }
        if is_synthesis(request) {
            return text_on(request);
        }
        let name = own_section(request).to_owned();
        let mut seen = seen.lock().unwrap();
        let again = seen.contains(&name);
        seen.push(name.clone());
        section(&name, again).unwrap_or_else(|| text_on(request))
    })
}

async fn run(
    engine: &Arc<Scripted>,
    request: ReportRequest,
) -> (Result<Report, ReportError>, Vec<ReportEvent>) {
    let mut events = Vec::new();
    let mut observer = |event| events.push(event);
    let writing = write(Arc::clone(engine) as _, &request, Done::default(), &mut observer);
    let result =
        tokio::time::timeout(Duration::from_secs(20), writing).await.expect("the report hangs");
    assert_eq!(engine.running(), 0, "a generation outlives its report");
    (result, events)
}

async fn written(engine: &Arc<Scripted>) -> Report {
    run(engine, request()).await.0.unwrap()
}

/// The document's title and sections, without what stands around them.
fn body(report: &Report) -> String {
    let document = report.markdown();
    let (_, body) = document.split_once("\n---\n\n# ").unwrap();
    let (body, _) = body.rsplit_once("\n---\n\n*Written by").unwrap();
    let Some((title, rest)) = body.split_once("\n**Contents**") else {
        return format!("# {body}");
    };
    let (_, rest) = rest.split_once(&format!("\n## Introduction\n\n{SYNTHESIS}\n")).unwrap();
    let (sections, conclusion) = rest.rsplit_once("\n## Conclusion\n\n").unwrap();
    assert_eq!(conclusion, format!("{SYNTHESIS}\n"));
    format!("# {title}{sections}")
}

fn closing(report: &Report) -> String {
    report.markdown().rsplit_once("\n---\n\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_report_is_its_title_and_its_sections_in_the_plans_order() {
    let engine = with_sections(|name, _| {
        // The first sections end last.
        let pause = ["Limits", "Data", "Origins"].iter().position(|n| *n == name).unwrap() as u64;
        let text = Act::say(format!("All of {name}."));
        Some(Act::Late(Duration::from_millis(80 * pause), Box::new(text)))
    });
    let (report, events) = run(&engine, request()).await;
    let report = report.unwrap();
    assert_eq!(
        body(&report),
        "# Scaling Laws\n\n## Origins\n\nAll of Origins.\n\n## Data\n\nAll of Data.\n\n\
         ## Limits\n\nAll of Limits.\n"
    );
    let ended: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            ReportEvent::SectionFinished { part: Part::Section { index }, .. } => Some(*index),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [2, 1, 0]);
    assert!(matches!(events.last(), Some(ReportEvent::Finished(_))));
}

#[tokio::test]
async fn the_facts_are_those_of_all_generations() {
    let engine = with_sections(|_, _| None);
    let (report, events) = run(&engine, request()).await;
    let report = report.unwrap();
    let told: usize = events
        .iter()
        .map(|event| match event {
            ReportEvent::PlanDelta { tokens, .. } | ReportEvent::SectionDelta { tokens, .. } => {
                *tokens
            }
            _ => 0,
        })
        .sum();
    // One more for the end of the plan, of each section and of what is made of them.
    let usage = Tokens {
        prompt_tokens: 6 * PROMPT_TOKENS,
        completion_tokens: told + 6,
        ..Tokens::default()
    };
    assert_eq!(report.facts.usage, usage);
    assert_eq!(report.facts.members, ["alpha", "beta"]);
    let closing = closing(&report);
    let start = format!("*Written by `duet` (`alpha`, `beta`), seed 7: {} tokens.*\n", told + 6);
    assert_eq!(closing, start);
}

#[tokio::test]
async fn the_workers_write_at_the_same_time() {
    let barrier = Arc::new(Barrier::new(3));
    let engine = with_sections(move |name, _| {
        // Nobody says anything before all three have been asked.
        Some(Act::Meet(Arc::clone(&barrier), Box::new(Act::say(format!("All of {name}.")))))
    });
    assert_eq!(written(&engine).await.sections.len(), 3);
}

#[tokio::test]
async fn a_seeded_report_asks_the_same_whatever_the_timing() {
    let sorted = |engine: &Scripted| {
        let mut asked: Vec<_> = engine.seen().iter().map(|r| format!("{r:?}")).collect();
        asked.sort();
        asked
    };
    let quick = with_sections(|_, _| None);
    let slow = with_sections(|name, _| {
        let pause = Duration::from_millis(if name == "Origins" { 20 } else { 1 });
        Some(Act::Late(pause, Box::new(Act::say(format!("What is known of {name}.")))))
    });
    assert_eq!(body(&written(&quick).await), body(&written(&slow).await));
    assert_eq!(sorted(&quick), sorted(&slow));
    let mut seeds: Vec<_> = quick.seen().iter().map(|r| r.sampling.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 6, "each generation draws its own");

    let other = with_sections(|_, _| None);
    let mut reseeded = request();
    reseeded.sampling.seed = 8;
    run(&other, reseeded).await.0.unwrap();
    assert!(other.seen().iter().all(|request| !seeds.contains(&request.sampling.seed)));
}

#[tokio::test]
async fn a_member_that_is_lost_is_told_and_stays_in_the_facts() {
    let reason = "no memory".to_owned();
    let warning = Event::Warning { member: "beta".to_owned(), reason: reason.clone() };
    let engine = Scripted::new(move |request| {
        if !is_of(request, "Data") {
            return if is_plan(request) { good_plan() } else { text_on(request) }.steps();
        }
        let agreement = Agreement { steps: 2, millionths: 1_300_000 };
        let usage = Usage { completion_tokens: 3, agreement, ..Usage::default() };
        let finished = Event::Finished { reason: FinishReason::Stop, usage };
        Ok([warning.clone(), Event::text("Data is.", 2), finished].map(Step::Send).to_vec())
    });
    let (report, events) = run(&engine, request()).await;
    let report = report.unwrap();
    let lost = Lost { member: "beta".to_owned(), reason };
    let part = Part::Section { index: 1 };
    assert!(events.contains(&ReportEvent::MemberLost { part, lost: lost.clone() }));
    assert_eq!(report.sections[1].lost, [lost]);
    assert!(closing(&report).contains("1 part finished without a member."));
    let agreement = report.sections[1].usage.agreement.unwrap();
    assert!((agreement.mean - 0.65).abs() < 1e-6 && agreement.tokens == 2, "{agreement:?}");
    assert_eq!(report.facts.usage.agreement, Some(agreement));
    let markdown = report.markdown();
    assert!(markdown.contains("\nagreement: 0.650\n"), "{markdown}");
}

#[tokio::test]
async fn dropping_the_report_cancels_all_its_generations() {
    let engine = with_sections(|name, _| Some(Act::SayThenHang(format!("All of {name} and"))));
    let mut ignore = |_| ();
    let request = request();
    let writing = write(Arc::clone(&engine) as _, &request, Done::default(), &mut ignore);
    let waited = tokio::time::timeout(Duration::from_millis(50), writing).await;
    assert!(waited.is_err() && engine.seen().len() == 4);
    tokio::time::timeout(Duration::from_secs(20), async {
        while engine.running() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a generation goes on for nobody");
}

#[tokio::test]
async fn a_report_can_be_written_on_a_task_of_its_own() {
    let engine = with_sections(|_, _| None);
    let task =
        tokio::spawn(async move { write(engine, &request(), Done::default(), &mut |_| ()).await });
    assert_eq!(task.await.unwrap().unwrap().sections.len(), 3);
}

#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let refused = Mutex::new(0);
    let engine = with_sections(move |name, _| {
        let mut refused = refused.lock().unwrap();
        (name == "Data" && *refused < 2).then(|| {
            *refused += 1;
            Act::Refuse(GenerateError::QueueFull { waiting: 4 })
        })
    });
    let (report, events) = run(&engine, request()).await;
    let report = report.unwrap();
    assert_eq!(report.sections[1].retried, None);
    let queued = ReportEvent::Queued { part: Part::Section { index: 1 }, waiting: 4 };
    assert_eq!(events.iter().filter(|event| **event == queued).count(), 2);
}

#[tokio::test]
async fn a_topic_in_any_script_reaches_the_models_and_the_document_whole() {
    for (topic, language, title, name) in [
        ("大语言模型的缩放定律", "Chinese", "缩放定律", "数据"),
        ("قوانين التحجيم للنماذج اللغوية", "Arabic", "قوانين التحجيم", "البيانات"),
    ] {
        let plan = json!({"language": language, "title": title, "sections": [{"name": name, "description": ""}]});
        let engine =
            acting(
                move |_, request| {
                    if is_plan(request) { Act::say(plan.to_string()) } else { text_on(request) }
                },
            );
        let request = ReportRequest { topic: topic.to_owned(), sections: Some(1), ..request() };
        let report = run(&engine, request).await.0.unwrap();
        let expected = format!("# {title}\n\n## {name}\n\nWhat is known of {name}.\n");
        assert_eq!(body(&report), expected);
        let asked = engine.seen();
        assert!(asked.iter().all(|asked| last_message(asked).contains(topic)));
        assert!(last_message(&asked[1]).contains(&format!("Write in {language}.")));
        // The planner cannot take the topic for English.
        let Some(Constraint::JsonSchema(schema)) = &asked[0].constraint else {
            panic!("no schema")
        };
        assert_eq!(schema["properties"]["language"]["enum"][0], language);
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_met_asks_nobody() {
    let engine = with_sections(|_, _| None);
    let cases = [
        (ReportRequest { topic: " \n".to_owned(), ..request() }, ReportError::EmptyTopic),
        (
            ReportRequest { topic: "x".repeat(MAX_TOPIC_BYTES + 1), ..request() },
            ReportError::TopicTooLong { bytes: MAX_TOPIC_BYTES + 1 },
        ),
        (ReportRequest { sections: Some(0), ..request() }, ReportError::SectionCount { asked: 0 }),
        (
            ReportRequest { sections: Some(13), ..request() },
            ReportError::SectionCount { asked: 13 },
        ),
        (ReportRequest { max_tokens: 15, ..request() }, ReportError::SectionBudget { asked: 15 }),
        (ReportRequest { retries: 10, ..request() }, ReportError::Retries { asked: 10 }),
        (
            ReportRequest { model: "trio".to_owned(), ..request() },
            ReportError::Plan(GenerateError::UnknownModel {
                name: "trio".to_owned(),
                available: ["duet", "alpha", "beta"].map(str::to_owned).to_vec(),
            }),
        ),
    ];
    for (request, expected) in cases {
        let (result, events) = run(&engine, request).await;
        assert_eq!(result.unwrap_err(), expected);
        assert_eq!(events, [ReportEvent::Failed { reason: expected.to_string() }]);
    }
    assert!(engine.seen().is_empty());
}

#[tokio::test]
async fn the_prompts_are_those_of_the_snapshot() {
    let engine = acting(|number, request| match number {
        0 => Act::say(plan_of(&["Data", "data", "End"]).to_string()),
        1 => good_plan(),
        _ if is_of(request, "Data") && !last_message(request).contains("empty") => Act::say(""),
        _ => text_on(request),
    });
    written(&engine).await;
    let mut shown = String::new();
    for request in engine.seen() {
        let Prompt::Chat { messages, .. } = &request.prompt else { panic!("no chat") };
        for message in messages {
            shown += &format!("<{:?}>\n{}\n", message.role, message.content);
        }
        shown += "----\n";
    }
    assert_eq!(shown, include_str!("../../fixtures/report_prompts.txt"));
}

#[tokio::test]
async fn the_workers_prompts_differ_only_at_their_end() {
    let engine = with_sections(|_, _| None);
    written(&engine).await;
    let asked = engine.seen();
    let heads: Vec<_> = asked
        .iter()
        .filter(|request| !is_plan(request) && !is_synthesis(request))
        .map(|request| {
            last_message(request).split_once("Write the section \"").unwrap().0.to_owned()
        })
        .collect();
    assert_eq!(heads.len(), 3);
    assert!(heads.iter().all(|head| *head == heads[0] && head.contains("- Limits")));
}
