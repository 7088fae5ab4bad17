//! Reports judged by a scripted model behind a local address.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tutti::{
    engine::Generate,
    eval::{
        Item, Sample, Split, System,
        judge::{self, Endpoint, EndpointError, JudgeError},
        log::{self, Header, Log, Record},
        run::{self, Plan},
        sample,
        task::{Kind, Reports, Task},
    },
    sampling::SamplingParams,
};

use crate::report::{
    acts::{Act, acting},
    good_plan, is_plan, is_synthesis, own_section,
};

/// A run of reports by an ensemble and its two members, as its log has it.
async fn run_of(topics: usize, folder: &Path) -> (Header, Vec<Record>) {
    let engine = acting(|_, request| {
        if is_plan(request) {
            return good_plan();
        }
        let what = if is_synthesis(request) { "it all" } else { own_section(request) };
        match request.model.as_str() {
            "duet" => Act::say(format!("All on {what}, told well.")),
            _ => Act::say(format!("Some of {what}.")),
        }
    });
    let sampling = SamplingParams { seed: 3, ..SamplingParams::default() };
    let reports = Reports::new("duet", 64, &sampling);
    let topic = |at: usize| Sample {
        id: format!("topic-{at}"),
        group: String::new(),
        item: Item::Topic(format!("Write on {at}.")),
    };
    let task = Task {
        name: "longwrite".to_owned(),
        kind: Kind::Report(reports),
        samples: sample::choose((0..topics).map(topic).collect(), None),
        sources: Vec::new(),
    };
    let duet = System::ensemble(&*engine, &engine.models()[0], None).unwrap();
    let plan = Plan {
        tasks: vec![task],
        systems: vec![System::member("alpha"), System::member("beta"), duet],
        copies: Vec::new(),
        checked: 0,
        models: Vec::new(),
        device: String::new(),
        seed: 3,
        at_once: 4,
    };
    let path = folder.join("log.jsonl");
    let mut log = Log::open(&path, &plan.header()).unwrap();
    run::run(engine, &plan, &mut log, &mut |_| {}).await.unwrap();
    drop(log);
    log::read(&path).unwrap()
}

/// What a judge says of a question, or the status it refuses with.
type Say = fn(usize, &str) -> Result<String, StatusCode>;

struct Judge {
    say: Say,
    asked: Mutex<Vec<Value>>,
}

/// A judge at an address of its own.
async fn judge_that(say: Say) -> (String, Arc<Judge>) {
    let judge = Arc::new(Judge { say, asked: Mutex::new(Vec::new()) });
    let answer = async |State(judge): State<Arc<Judge>>, Json(body): Json<Value>| {
        let question = body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
        let mut asked = judge.asked.lock().unwrap();
        let said = (judge.say)(asked.len(), &question)?;
        asked.push(body);
        Ok::<_, StatusCode>(Json(json!({ "choices": [{ "message": { "content": said } }] })))
    };
    let router =
        Router::new().route("/v1/chat/completions", post(answer)).with_state(judge.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, judge)
}

/// Asks the judge at `url`; how many verdicts there are then.
fn ask(
    url: &str,
    folder: &Path,
    (header, records): &(Header, Vec<Record>),
) -> Result<usize, JudgeError> {
    let endpoint = Endpoint::new(url, "wise", Some("secret".to_owned()));
    let header_of_verdicts = judge::header(header, endpoint.model());
    let mut log = Log::open(&folder.join("judge.jsonl"), &header_of_verdicts)?;
    tokio::task::block_in_place(|| {
        judge::judge(&endpoint, (header, records), &mut log, &mut |_, _| {})
    })?;
    Ok(log.records().len())
}

fn table(folder: &Path) -> String {
    let (header, verdicts) = log::read(&folder.join("judge.jsonl")).unwrap();
    judge::table(&header, &verdicts)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_judge_prefers_in_both_orders_is_better_and_it_is_not_told_whose_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_of(8, folder.path()).await;
    let (url, judge) = judge_that(|_, question| {
        let (a, b) = question.split_once("<report B>").unwrap();
        assert_ne!(a.contains("told well"), b.contains("told well"));
        Ok(if a.contains("told well") { "A" } else { "**B**" }.to_owned())
    })
    .await;
    // Two members, both orders.
    assert_eq!(ask(&url, folder.path(), &run).unwrap(), 8 * 2 * 2);
    let asked = judge.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 8 * 2 * 2);
    for body in &asked {
        let question = body["messages"][0]["content"].as_str().unwrap();
        for told in ["duet", "alpha", "beta", "seed", "Written by", "generator"] {
            assert!(!question.contains(told), "{told} in {question}");
        }
        assert!(question.contains("this topic:\nWrite on ") && question.contains("## Origins"));
        assert_eq!((&body["model"], &body["temperature"]), (&json!("wise"), &json!(0)));
    }
    let test = run.1.iter().filter(|r| r.split == Split::Test && r.system == "duet").count();
    assert!((1..8).contains(&test));
    let text = table(folder.path());
    let row = format!("| longwrite, test | {test} | duet against alpha | {test} | 0 | 0 |");
    assert!(text.contains(&row), "{row} in {text}");
    let row = format!("| longwrite, dev | {0} | duet against beta | {0} | 0 | 0 |", 8 - test);
    assert!(text.contains(&row), "{row} in {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_that_likes_what_stands_first_or_says_something_else_makes_ties() {
    for say in [|_, _: &str| Ok("A".to_owned()), |_, _: &str| Ok("Both are fine.".to_owned())] {
        let folder = tempfile::tempdir().unwrap();
        let run = run_of(4, folder.path()).await;
        let (url, _judge) = judge_that(say).await;
        ask(&url, folder.path(), &run).unwrap();
        let text = table(folder.path());
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("against")).collect();
        assert!(!rows.is_empty() && rows.iter().all(|row| row.contains("**not shown**")), "{text}");
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [samples, better, ties, worse] = [2, 4, 5, 6].map(|at| cells[at]);
            assert_eq!([better, ties, worse], ["0", samples, "0"], "{row}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_that_breaks_off_is_told_and_asked_the_rest_only() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_of(4, folder.path()).await;
    let (url, _judge) = judge_that(|number, _| match number {
        5 => Err(StatusCode::TOO_MANY_REQUESTS),
        _ => Ok("tie".to_owned()),
    })
    .await;
    let error = ask(&url, folder.path(), &run).unwrap_err();
    let JudgeError::Endpoint(EndpointError::Refused { status: 429, .. }) = &error else {
        panic!("{error}")
    };
    let (url, judge) = judge_that(|_, _| Ok("tie".to_owned())).await;
    assert_eq!(ask(&url, folder.path(), &run).unwrap(), 4 * 2 * 2);
    assert_eq!(judge.asked.lock().unwrap().len(), 4 * 2 * 2 - 5);

    // Another judge's verdicts are others.
    let other = Log::open(&folder.path().join("judge.jsonl"), &judge::header(&run.0, "dull"));
    assert!(matches!(other, Err(log::LogError::OtherRun { .. })));
    let nobody = ask("http://127.0.0.1:9/v1", tempfile::tempdir().unwrap().path(), &run);
    let nobody = nobody.unwrap_err().to_string();
    assert!(nobody.contains("http://127.0.0.1:9/v1/chat/completions"), "{nobody}");
    let none = (run.0.clone(), Vec::new());
    let none = ask(&url, tempfile::tempdir().unwrap().path(), &none).unwrap_err();
    assert!(matches!(none, JudgeError::NoReports), "{none}");
}
