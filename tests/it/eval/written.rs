//! Tasks whose answers are written, on a scripted engine.

use std::sync::Arc;

use tutti::{
    engine::{Generate, Rule},
    eval::{
        Item, Sample, System, Variants,
        ask::Asker,
        sandbox::Sandbox,
        task::{Kind, Outcome, Reports, Task, TaskError},
    },
    sampling::SamplingParams,
};

use crate::{
    report::{
        acts::{Act, acting},
        good_plan, is_plan, is_synthesis, own_section, text_on,
    },
    scripted::Scripted,
};

async fn solve(
    engine: &Arc<Scripted>,
    kind: Kind,
    system: &System,
    item: Item,
) -> Result<Outcome, TaskError> {
    let sample = Sample { id: "one".to_owned(), group: String::new(), item };
    let task =
        Task { name: "task".to_owned(), kind, samples: vec![sample.clone()], sources: Vec::new() };
    let asker = Asker::new(Arc::clone(engine) as Arc<dyn Generate>, 4);
    task.solve(&asker, system, &sample).await
}

fn score(outcome: &Outcome, metric: &str) -> f64 {
    outcome.scores[metric].value
}

#[tokio::test]
async fn every_system_writes_a_report_on_the_plan_of_the_ensemble() {
    let engine = acting(|_, request| {
        if is_plan(request) {
            good_plan()
        } else if request.model == "alpha" && !is_synthesis(request) {
            Act::say("It goes round and round and round and round and round and round again.")
        } else if is_synthesis(request) {
            text_on(request)
        } else {
            Act::say(format!("All on {}, told once by a few plain words.", own_section(request)))
        }
    });
    let sampling = SamplingParams { seed: 3, ..SamplingParams::default() };
    let reports = Reports::new("duet", 64, &sampling);
    let kind = || Kind::Report(reports.clone());
    let topic = || Item::Topic("Scaling".to_owned());
    let duet = System::ensemble(&*engine, &engine.models()[0], None).unwrap();
    let ours = solve(&engine, kind(), &duet, topic()).await.unwrap();
    let theirs = solve(&engine, kind(), &System::member("alpha"), topic()).await.unwrap();
    assert_eq!(ours.detail["plan"], theirs.detail["plan"]);
    let seen = engine.seen();
    let plans: Vec<_> = seen.iter().filter(|request| is_plan(request)).collect();
    assert!(plans.len() == 1 && plans[0].model == "duet", "one plan for all");
    assert!(seen.iter().any(|request| request.model == "alpha"));
    assert!(score(&ours, "coverage") > score(&theirs, "coverage"), "{ours:?} {theirs:?}");
    assert!(score(&ours, "said again") < score(&theirs, "said again"), "{ours:?} {theirs:?}");
    assert!(theirs.output.contains("round and round") && theirs.tokens > 0);

    // Another way to fuse writes on the same plan; only what it writes itself is fused so.
    let variants = Variants { rules: vec![Rule::Max], ..Variants::default() };
    let variant = &duet.variants(&variants)[0];
    let before = engine.seen().len();
    let other = solve(&engine, kind(), variant, topic()).await.unwrap();
    assert_eq!(other.detail["plan"], ours.detail["plan"]);
    // It says the same, so the answers are the same: nothing in them says whose they are.
    assert_eq!(other.output, ours.output);
    let asked = engine.seen();
    let asked = &asked[before..];
    assert!(asked.len() > 3);
    for request in asked {
        assert_eq!((request.model.as_str(), request.fusion.rule), ("duet", Some(Rule::Max)));
    }
}

#[tokio::test]
async fn of_a_report_whose_language_cannot_be_told_it_is_not_said_to_be_another() {
    let engine = acting(|_, request| match is_plan(request) {
        true => good_plan(),
        false => Act::say("Zyx wvu 12."),
    });
    let reports = Reports::new("duet", 64, &SamplingParams::default());
    let topic = Item::Topic("Scaling".to_owned());
    let outcome =
        solve(&engine, Kind::Report(reports), &System::member("alpha"), topic).await.unwrap();
    assert_eq!(outcome.scores.get("language kept"), None);
    assert_eq!(outcome.scores.len(), 3);
}

#[tokio::test]
async fn a_program_is_right_if_its_tests_pass() {
    let sandbox = match Sandbox::find() {
        Ok(sandbox) => sandbox,
        Err(error) => {
            assert!(std::env::var_os("TUTTI_TEST_SANDBOX").is_none(), "{error}");
            return;
        }
    };
    for (answer, passes) in
        [("    return a + b\n", 1.0), ("    return a - b\n", 0.0), ("    while True: pass", 0.0)]
    {
        let engine = acting(move |_, _| Act::say(answer));
        let kind = Kind::Program { max_tokens: 20, sandbox: sandbox.clone() };
        let item = Item::Program {
            prompt: "def add(a, b):\n".to_owned(),
            tests: "def check(candidate):\n    assert candidate(2, 3) == 5\n".to_owned(),
            entry_point: "add".to_owned(),
        };
        let outcome = solve(&engine, kind, &System::member("alpha"), item).await.unwrap();
        assert_eq!(score(&outcome, "passes"), passes, "{answer}: {}", outcome.detail);
        assert!(engine.seen()[0].stop.strings.contains(&"\ndef".to_owned()));
    }
}

#[tokio::test]
async fn json_is_judged_as_it_was_written_with_the_constraint_and_without() {
    let engine = acting(|_, request| match request.constraint {
        Some(_) => Act::say(r#"{"n": 1}"#),
        None => Act::say("Sure! {\"n\": 1}"),
    });
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#;
    let item = |schema: &str| Item::Json {
        instruction: "Give a number.".to_owned(),
        schema: schema.to_owned(),
    };
    let alpha = System::member("alpha");
    let kind = Kind::Json { max_tokens: 20 };
    let outcome = solve(&engine, kind.clone(), &alpha, item(schema)).await.unwrap();
    assert_eq!(score(&outcome, "valid, constrained"), 1.0);
    assert_eq!(score(&outcome, "valid, free"), 0.0);
    let none = solve(&engine, kind.clone(), &alpha, item("{")).await.unwrap_err();
    assert!(matches!(none, TaskError::Schema { .. }), "{none}");
    let wrong = solve(&engine, kind, &alpha, Item::Text("x".to_owned())).await.unwrap_err();
    assert!(wrong.to_string().contains("a text"), "{wrong}");
}

#[tokio::test]
async fn an_exact_answer_is_asked_greedily_and_its_last_number_counts() {
    let engine = acting(|_, _| Act::say("6 times 3\n#### 18"));
    let item =
        |answer: &str| Item::Exact { question: "How many?".to_owned(), answer: answer.to_owned() };
    let alpha = System::member("alpha");
    for (answer, right) in [("18", 1.0), ("6", 0.0)] {
        let kind = Kind::Exact { max_tokens: 30 };
        let outcome = solve(&engine, kind, &alpha, item(answer)).await.unwrap();
        assert_eq!(score(&outcome, "right"), right);
    }
    assert!(engine.seen().iter().all(|request| request.sampling.temperature == 0.0));
}
