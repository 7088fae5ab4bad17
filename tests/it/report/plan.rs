//! What a plan is held to, and how one that is not good is asked for again, mended, filled up, or
//! told to be short.

use llguidance::{Matcher, ParserFactory, api::TopLevelGrammar, toktrie::ApproximateTokEnv};
use serde_json::{Value, json};
use tutti::{
    constrain::Constraint,
    engine::{FinishReason, GenerateError, Prompt},
    report::{
        MAX_SECTIONS, PlanFault, Planned, ReportError, ReportEvent, ReportRequest,
        progress::Progress,
    },
    tokenizer::chat::Role,
};

use crate::scripted::Scripted;

use super::{
    acts::{Act, acting, last_message},
    closing, good_plan, is_plan, plan_of,
    progress::Screen,
    request, run, text_on, with_sections, written,
};

/// Sections as the planner names those a plan lacks.
fn more(names: &[&str]) -> Act {
    Act::say(json!({"sections": plan_of(names)["sections"]}).to_string())
}

fn exactly(sections: usize) -> ReportRequest {
    ReportRequest { sections: Some(sections), ..request() }
}

/// A planner that answers these, in order, the last one again and again.
fn planner(answers: Vec<Act>) -> std::sync::Arc<Scripted> {
    acting(move |number, request| {
        if is_plan(request) {
            answers[number.min(answers.len() - 1)].clone()
        } else {
            text_on(request)
        }
    })
}

fn planned(events: &[ReportEvent]) -> &Planned {
    let planned = events.iter().find_map(|event| match event {
        ReportEvent::Planned(planned) => Some(planned),
        _ => None,
    });
    planned.expect("there is a plan")
}

fn names(planned: &Planned) -> Vec<&str> {
    planned.plan.sections.iter().map(|section| section.name.as_str()).collect()
}

fn plan(names: &[&str]) -> Act {
    Act::say(plan_of(names).to_string())
}

#[tokio::test]
async fn the_plans_schema_is_one_and_accepts_what_the_planner_is_shown() {
    let engine = with_sections(|_, _| None);
    written(&engine).await;
    let asked = engine.seen();
    let Some(Constraint::JsonSchema(schema)) = &asked[0].constraint else { panic!("no schema") };
    assert!(jsonschema::meta::is_valid(schema));
    let schema = jsonschema::validator_for(schema).unwrap();
    let Prompt::Chat { messages, .. } = &asked[0].prompt else { panic!("no chat") };
    let shown: Vec<Value> = messages
        .iter()
        .filter(|message| message.role == Role::Assistant)
        .map(|message| serde_json::from_str(&message.content).unwrap())
        .collect();
    assert_eq!(shown.len(), 1);
    for plan in shown.iter().chain([&plan_of(&["a", "b", "c"])]) {
        assert!(schema.is_valid(plan), "{plan}");
    }
    for plan in [plan_of(&["a", "b"]), plan_of(&["a"; 7]), json!({"title": "a"}), json!([])] {
        assert!(!schema.is_valid(&plan), "{plan}");
    }
    assert!(!schema.is_valid(&plan_of(&["a", "b", &"c".repeat(61)])));
    assert!(asked[1..].iter().all(|request| request.constraint.is_none()));
}

#[tokio::test]
async fn the_plans_grammar_takes_a_plan_on_one_line_and_no_runaway_white_space() {
    let engine = with_sections(|_, _| None);
    written(&engine).await;
    let Some(Constraint::JsonSchema(schema)) = &engine.seen()[0].constraint else {
        panic!("no schema")
    };
    let bytes = ApproximateTokEnv::single_byte_env();
    let factory = ParserFactory::new_simple(&bytes).unwrap();
    let takes = |text: &str| {
        let grammar = TopLevelGrammar::from_json_schema(schema.clone());
        let mut matcher = Matcher::new(factory.create_parser(grammar));
        let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
        matcher.consume_tokens(&tokens).is_ok() && matcher.is_accepting().unwrap()
    };
    let plan = |name: &str| {
        let section = format!(r#"{{"name": "{name}", "description": "b"}}"#);
        format!(
            r#"{{"language": "English", "title": "数据", "sections": [{section}, {section}, {section}]}}"#
        )
    };
    assert!(takes(&plan(r#"a \"b\""#)));
    assert!(!takes(&plan(r"a\nb")), "an escape that spells a control character");
    assert!(!takes(&plan(&"a".repeat(61))));
    assert!(!takes(&plan("a").replace(": [", ": \n[")));
}

#[tokio::test]
async fn the_number_of_sections_asked_for_is_exact_in_the_schema() {
    let engine = acting(|_, request| {
        if is_plan(request) { Act::say(plan_of(&["One"]).to_string()) } else { text_on(request) }
    });
    let request = ReportRequest { sections: Some(1), ..request() };
    run(&engine, request).await.0.unwrap();
    let asked = engine.seen();
    let Some(Constraint::JsonSchema(schema)) = &asked[0].constraint else { panic!("no schema") };
    assert_eq!(schema["properties"]["sections"]["minItems"], 1);
    assert_eq!(schema["properties"]["sections"]["maxItems"], 1);
    assert!(last_message(&asked[0]).contains("Sections: 1\n"));
}

#[tokio::test]
async fn a_bad_plan_is_asked_for_again_naming_what_was_wrong() {
    let duplicate = PlanFault::Duplicate { name: "data".to_owned() };
    let count = PlanFault::Count { count: 2, bounds: 3..=6 };
    let cases = [
        (plan_of(&["Data", "data", "End"]).to_string(), duplicate),
        (plan_of(&["Data", "...", "End"]).to_string(), PlanFault::Nameless { number: 2 }),
        (plan_of(&["Data", "End"]).to_string(), count),
        (
            plan_of(&["a", "b", "c"]).to_string().replace("Scaling Laws", " \\n "),
            PlanFault::NoTitle,
        ),
    ];
    for (bad, fault) in cases {
        let engine = acting(move |number, request| match number {
            0 => Act::say(bad.clone()),
            1 => good_plan(),
            _ => text_on(request),
        });
        let (report, events) = run(&engine, request()).await;
        assert_eq!(report.unwrap().plan.sections[0].name, "Origins");
        let asked = engine.seen();
        assert!(last_message(&asked[1]).contains(&fault.to_string()));
        assert_ne!(asked[0].sampling.seed, asked[1].sampling.seed);
        assert!(events.contains(&ReportEvent::PlanRefused { fault: fault.clone() }));
        let planned = events.iter().find_map(|event| match event {
            ReportEvent::Planned(planned) => Some(planned),
            _ => None,
        });
        assert_eq!(planned.unwrap().refused, Some(fault));
        assert!(!planned.unwrap().mended);
    }
}

#[tokio::test]
async fn what_is_no_plan_is_asked_for_again() {
    let engine = acting(|number, request| match number {
        0 => Act::say("Here is my plan"),
        1 => good_plan(),
        _ => text_on(request),
    });
    let (report, events) = run(&engine, request()).await;
    assert!(report.is_ok());
    assert!(events.iter().any(|event| matches!(
        event,
        ReportEvent::PlanRefused { fault: PlanFault::Malformed { .. } }
    )));
}

#[tokio::test]
async fn two_bad_plans_make_one_of_their_usable_sections() {
    let engine = acting(|number, request| match number {
        0 => Act::say(plan_of(&["Data", "Costs", "DATA"]).to_string()),
        1 => Act::say(plan_of(&["Limits", "limits", "Data"]).to_string()),
        _ => text_on(request),
    });
    let (report, events) = run(&engine, request()).await;
    let names: Vec<_> = report.unwrap().sections.into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["Limits", "Data", "Costs"]);
    let mended = |event: &ReportEvent| matches!(event, ReportEvent::Planned(p) if p.mended);
    assert!(events.iter().any(mended));
}

#[tokio::test]
async fn two_plans_without_enough_sections_are_an_error() {
    let engine = acting(|_, _| Act::say(plan_of(&["Data", "data", "DATA"]).to_string()));
    let (report, events) = run(&engine, request()).await;
    let fault = PlanFault::Duplicate { name: "data".to_owned() };
    let error = ReportError::UnusablePlan { fault, asked: 5 };
    assert_eq!(report.unwrap_err(), error);
    let reason = error.to_string();
    assert_eq!(events.last(), Some(&ReportEvent::Failed { reason }));
    assert_eq!(engine.seen().len(), 5);
}

#[tokio::test]
async fn a_plan_that_does_not_end_names_its_budget() {
    let engine = acting(|_, _| Act::Say("{\"language\"".to_owned(), FinishReason::Length));
    let request = ReportRequest { plan_max_tokens: Some(300), ..request() };
    let error = run(&engine, request).await.0.unwrap_err();
    assert!(error.to_string().contains("did not end within 300 tokens"), "{error}");
    assert!(engine.seen().iter().all(|asked| asked.stop.max_tokens == Some(300)));
}

#[tokio::test]
async fn an_engine_that_fails_the_planner_fails_the_report() {
    let stopped = ReportError::Stopped;
    for act in [Act::SayThenDie("{".to_owned()), Act::Refuse(GenerateError::Stopped)] {
        let engine = acting(move |_, _| act.clone());
        assert_eq!(run(&engine, request()).await.0.unwrap_err(), stopped);
    }
}

#[tokio::test]
async fn the_sections_that_a_mended_plan_lacks_are_asked_for() {
    let bad = plan(&["Data", "data", "Costs", "DATA", "costs", "data"]);
    let engine = planner(vec![
        bad.clone(),
        bad,
        more(&["Data", "Limits", "limits", "..."]),
        Act::Say("{".to_owned(), FinishReason::Length),
        more(&["Origins", "1. Models", "Ethics"]),
    ]);
    let (report, events) = run(&engine, exactly(6)).await;
    let planned = planned(&events);
    assert_eq!(names(planned), ["Data", "Costs", "Limits", "Origins", "Models", "Ethics"]);
    assert!(planned.mended && planned.short_of.is_none());
    assert!(!closing(&report.unwrap()).contains("could be planned"));
    let asked = engine.seen();
    assert_eq!(asked.iter().filter(|request| is_plan(request)).count(), 5);
    for (number, lacking) in [(2, 4), (3, 3), (4, 3)] {
        let Some(Constraint::JsonSchema(schema)) = &asked[number].constraint else {
            panic!("no schema")
        };
        assert!(jsonschema::meta::is_valid(schema));
        let sections = &schema["properties"]["sections"];
        assert_eq!(
            (&sections["minItems"], &sections["maxItems"]),
            (&json!(lacking), &json!(lacking))
        );
        let question = last_message(&asked[number]);
        assert!(question.contains("- Data\n- Costs\n"), "{question}");
        assert!(question.contains(&format!("other names: {lacking}\n")), "{question}");
    }
    assert!(last_message(&asked[4]).contains("- Limits\n"));
    let short = PlanFault::Count { count: 3, bounds: 6..=6 };
    assert!(events.contains(&ReportEvent::PlanRefused { fault: short }));
}

#[tokio::test]
async fn a_plan_filled_up_draws_every_seed_once() {
    let names: Vec<_> = (0..MAX_SECTIONS).map(|n| format!("Part{n}x")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let bad = plan(&["Data"; MAX_SECTIONS]);
    let fill = [bad.clone(), bad, more(&["Data"]), more(&["Data"]), more(&names[1..])];
    let engine = acting(move |number, request| {
        // Every section is written twice.
        if is_plan(request) { fill[number].clone() } else { Act::say("") }
    });
    let (report, events) = run(&engine, exactly(MAX_SECTIONS)).await;
    assert!(matches!(report, Err(ReportError::NothingWritten { .. })));
    assert_eq!(planned(&events).plan.sections.len(), MAX_SECTIONS);
    let mut seeds: Vec<_> = engine.seen().iter().map(|r| r.sampling.seed).collect();
    assert_eq!(seeds.len(), 5 + 2 * MAX_SECTIONS);
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 5 + 2 * MAX_SECTIONS);
}

#[tokio::test]
async fn fewer_sections_than_asked_for_are_written_and_told() {
    let engine = planner(vec![
        plan(&["Data", "data", "DATA", "Costs"]),
        plan(&["Data", "data", "DATA", "Costs"]),
        more(&["costs", "Data"]),
    ]);
    let (report, events) = run(&engine, exactly(4)).await;
    let report = report.unwrap();
    assert_eq!(names(planned(&events)), ["Data", "Costs"]);
    assert_eq!((planned(&events).short_of, report.facts.short_of), (Some(4), Some(4)));
    let told = "Only 2 of the 4 sections asked for could be planned.";
    assert!(closing(&report).contains(told), "{}", closing(&report));
    assert_eq!(engine.seen().iter().filter(|request| is_plan(request)).count(), 5);
    let screen = Screen::default();
    let mut progress = Progress::lines(screen.clone());
    events.iter().for_each(|event| progress.observe(event));
    let shown = screen.shown();
    assert!(shown.contains("plan: only 2 of the 4 sections asked for could be"), "{shown}");
}

#[tokio::test]
async fn no_section_at_all_is_an_error_that_says_how_often_was_asked() {
    let engine = planner(vec![plan(&["...", "***"]), plan(&["...", "***"]), more(&["...", ""])]);
    let error = run(&engine, exactly(2)).await.0.unwrap_err();
    let fault = PlanFault::Nameless { number: 1 };
    assert_eq!(error, ReportError::UnusablePlan { fault, asked: 5 });
    assert!(error.to_string().contains("asked 5 times"), "{error}");
}

#[tokio::test]
async fn an_engine_that_fails_while_a_plan_is_filled_up_fails_the_report() {
    let bad = plan(&["Data", "data"]);
    let engine = planner(vec![bad.clone(), bad, Act::Refuse(GenerateError::Stopped)]);
    let error = run(&engine, exactly(2)).await.0.unwrap_err();
    assert_eq!(error, ReportError::Stopped);
}

/// The plan that the planner is shown.
fn example() -> Value {
    serde_json::from_str(include_str!("../../../src/report/prompts/plan_example.json")).unwrap()
}

#[tokio::test]
async fn the_example_handed_in_as_the_plan_is_refused() {
    let mut titled = plan_of(&["Data", "Costs", "Limits"]);
    titled["title"] = json!("the history of TEA.");
    let mut named = plan_of(&["Data", "Costs", "2. Trade routes"]);
    named["title"] = json!("Scaling");
    for (bad, text) in [
        (example(), "The History of Tea"),
        (titled, "the history of TEA."),
        (named, "Trade routes"),
    ] {
        let good = plan(&["Origins", "Data", "Limits"]);
        let engine = planner(vec![Act::say(bad.to_string()), good]);
        let (report, events) = run(&engine, request()).await;
        let fault = PlanFault::Copied { text: text.to_owned() };
        assert!(last_message(&engine.seen()[1]).contains(&fault.to_string()));
        assert_eq!(planned(&events).refused, Some(fault));
        assert_eq!(report.unwrap().plan.title, "Scaling Laws");
    }
}

#[tokio::test]
async fn a_planner_that_only_hands_in_the_example_has_its_sections_left_out() {
    let copied = Act::say(example().to_string());
    let engine =
        planner(vec![copied.clone(), copied, more(&["Tea Today", "Data", "Costs", "End"])]);
    let (report, events) = run(&engine, ReportRequest { topic: "x".to_owned(), ..request() }).await;
    assert_eq!(report.unwrap().plan.title, "x");
    assert_eq!(names(planned(&events)), ["Data", "Costs", "End"]);
    assert!(!last_message(&engine.seen()[2]).contains("Tea"));
}

#[tokio::test]
async fn a_report_on_tea_may_have_the_examples_plan() {
    let engine = planner(vec![Act::say(example().to_string())]);
    let topic = "How tea came to Europe".to_owned();
    let (report, events) = run(&engine, ReportRequest { topic, ..request() }).await;
    assert_eq!(report.unwrap().plan.title, "The History of Tea");
    assert_eq!(planned(&events).refused, None);
}
