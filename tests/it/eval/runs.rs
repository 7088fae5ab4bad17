//! Whole runs: resumed, checked, told.

use std::{fs, path::Path, sync::Arc};

use tutti::{
    engine::Generate,
    ensemble::Settings,
    eval::{
        Item, Role, Sample, Split, System, Variants,
        log::{self, Log, Record},
        run::{self, Event, Plan},
        sample, summary, table,
        task::{Frame, Kind, Task},
    },
};

use super::{duo, engine};

fn task(name: &str, kind: Kind, items: impl Iterator<Item = Item>) -> Task {
    let samples = items
        .enumerate()
        .map(|(at, item)| Sample {
            id: format!("{name}-{at}"),
            group: ["even", "odd"][at % 2].to_owned(),
            item,
        })
        .collect();
    Task { name: name.to_owned(), kind, samples: sample::choose(samples, None), sources: vec![] }
}

/// Words that the toys can spell, another for each number.
fn words(number: usize) -> String {
    let word = |at: usize| ["ab", "c", "bca", "é", "1,2"][(number / 5_usize.pow(at as u32)) % 5];
    [word(0), word(1), word(2)].join(" ")
}

fn plan(engine: &dyn Generate, system: System) -> Plan {
    let mut variants = Variants { gates: vec![0.5], ..Variants::default() };
    variants.rules.push("geometric".parse().unwrap());
    let mut systems = vec![System::member("toy-1"), System::member("toy-2"), system];
    systems.extend(systems[2].variants(&variants));
    assert!(engine.models().len() == 5 && systems.len() == 4);
    let choice = |at: usize| Item::Choice {
        stem: words(at),
        choices: vec![words(at + 1), words(at + 2), "c".to_owned()],
        answer: at % 3,
    };
    let json = |at: usize| Item::Json {
        instruction: format!("{} [", words(at)),
        schema: r#"{"type":"array","items":{"enum":[1,2]},"maxItems":2}"#.to_owned(),
    };
    Plan {
        tasks: vec![
            task("texts", Kind::BitsPerByte { bytes: 12 }, (0..40).map(words).map(Item::Text)),
            task("choices", Kind::Choice(Frame::None), (0..30).map(choice)),
            task(
                "numbers",
                Kind::Exact { max_tokens: 12 },
                (0..12).map(|at| Item::Exact { question: words(at), answer: "2".to_owned() }),
            ),
            task("json", Kind::Json { max_tokens: 30 }, (0..6).map(json)),
        ],
        systems,
        copies: ["toy-1", "toy-2"].map(|name| System::copies(&format!("2 x {name}"), name)).into(),
        checked: 4,
        models: Vec::new(),
        device: String::new(),
        seed: 7,
        at_once: 8,
    }
}

/// Runs a plan with a log at `path`; how many answers were asked for.
async fn go(path: &Path, engine: &Arc<tutti::engine::Engine>, plan: &Plan) -> usize {
    let mut log = Log::open(path, &plan.header()).unwrap();
    let (mut asked, mut last) = (0, 0);
    let mut observer = |event: Event<'_>| {
        if let Event::Answered { done, total, left } = event {
            asked += 1;
            assert!(done <= total && done > last, "{done} of {total}");
            last = done;
            assert!(left.is_none_or(|left| left.as_secs_f64().is_finite()));
        }
    };
    run::run(Arc::clone(engine) as Arc<dyn Generate>, plan, &mut log, &mut observer).await.unwrap();
    asked
}

/// What does not depend on the clock, in an order that does not either.
fn lasting(mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        record.seconds = 0.0;
    }
    records.sort_by_key(|r| (r.task.clone(), r.system.clone(), r.sample.clone()));
    records
}

#[tokio::test]
async fn a_run_that_was_killed_goes_on_and_asks_nothing_twice() {
    let engine = engine(&Settings::default());
    let plan = plan(&*engine, duo(&engine));
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.jsonl");
    let all = go(&whole, &engine, &plan).await;
    assert_eq!(all, (40 + 30 + 12 + 6) * 4 + 4 * 4);
    assert_eq!(go(&whole, &engine, &plan).await, 0, "a finished run asks nothing");
    let (header, records) = log::read(&whole).unwrap();
    assert_eq!((records.len(), &header), (all, &plan.header()));

    let bytes = fs::read(&whole).unwrap();
    for kept in [3, 50, 98] {
        let cut = folder.path().join("cut.jsonl");
        fs::write(&cut, &bytes[..bytes.len() * kept / 100]).unwrap();
        let before = log::read(&cut).unwrap().1.len();
        assert_eq!(go(&cut, &engine, &plan).await, all - before);
        let resumed = log::read(&cut).unwrap().1;
        assert_eq!(lasting(resumed), lasting(records.clone()), "{kept} % were kept");
    }
}

#[tokio::test]
async fn a_log_shows_every_figure_and_two_copies_are_the_best_member() {
    let engine = engine(&Settings::default());
    let plan = plan(&*engine, duo(&engine));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    go(&path, &engine, &plan).await;
    let (header, mut records) = log::read(&path).unwrap();
    assert!(
        summary::failures(&records).next().is_none(),
        "{:?}",
        summary::failures(&records).next()
    );

    let figures = summary::figures(&header, &records);
    let names: Vec<(&str, &str)> =
        figures.iter().map(|figure| (&*figure.task, &*figure.metric.name)).collect();
    let expected = [
        ("texts", "bits per byte"),
        ("choices", "right, per byte"),
        ("choices", "right, sum"),
        ("numbers", "right"),
        ("json", "valid, constrained"),
        ("json", "valid, free"),
    ];
    assert_eq!(names, expected);
    for figure in &figures {
        assert_eq!(figure.rows.len(), 4);
        let task = plan.tasks.iter().find(|task| task.name == figure.task).unwrap();
        let test = task.samples.iter().filter(|sample| sample.split() == Split::Test).count();
        assert_eq!(figure.samples, test);
        for row in &figure.rows {
            assert_eq!(row.against.is_some(), row.role == Role::Ensemble);
            assert_eq!(row.is_bound, row.role == Role::Ensemble && figure.task == "texts");
        }
    }
    assert!(figures[1].chance.is_some_and(|chance| (chance - 1.0 / 3.0).abs() < 1e-12));
    let constrained: Vec<f64> = figures[4].rows.iter().map(|row| row.figure.value).collect();
    assert_eq!(constrained, [1.0; 4]);

    let checks = summary::checks(&header, &records);
    assert_eq!(checks.len(), 4);
    assert!(checks.iter().all(|check| check.samples > 0 && check.different.is_empty()));
    let costs = summary::costs(&header, &records);
    assert_eq!(costs.len(), 4 * 4);
    assert!(costs.iter().all(|cost| cost.tokens > 0 && cost.seconds > 0.0));
    let gated: Vec<&summary::Cost> =
        costs.iter().filter(|cost| cost.system.contains("gate")).collect();
    assert!(gated.iter().all(|cost| cost.gate_rate.is_some_and(|rate| rate < 1.0)));
    assert!(gated.iter().any(|cost| cost.gate_rate > Some(0.0) && cost.forwards[1].1 < 1.0));

    let text = table::markdown(&header, &records);
    assert_eq!(text.matches("Check: 2 x toy-").count(), 4, "{text}");
    assert!(text.contains("| texts, bits per byte |") && text.contains("≤ "), "{text}");
    assert!(text.contains("| duo, rule geometric, gate 0.5 |"), "{text}");
    for task in &plan.tasks {
        assert!(table::figures(&header, &records, &task.name).contains(&task.name));
    }

    // A copy that says something else is told.
    let copy = records.iter_mut().find(|record| record.system.starts_with("2 x")).unwrap();
    copy.output.push('!');
    let sample = copy.sample.clone();
    let text = table::markdown(&header, &records);
    assert!(text.contains("**Check failed**") && text.contains(&sample), "{text}");
}

#[tokio::test]
async fn a_sample_that_cannot_be_answered_is_told_and_counts_for_nobody() {
    let engine = engine(&Settings::default());
    let mut plan = plan(&*engine, duo(&engine));
    plan.tasks.truncate(1);
    let unspellable = Sample {
        id: "unspellable".to_owned(),
        group: "odd".to_owned(),
        item: Item::Text("xyz".to_owned()),
    };
    assert_eq!(unspellable.split(), Split::Test);
    // Among those that every task is tried with.
    plan.tasks[0].samples.insert(15, unspellable);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    assert_eq!(go(&path, &engine, &plan).await, plan.answers(), "each once");
    assert_eq!(go(&path, &engine, &plan).await, 4, "what failed, once more");
    let (header, records) = log::read(&path).unwrap();
    let failed: Vec<&str> =
        summary::failures(&records).map(|(record, _)| record.sample.as_str()).collect();
    assert_eq!(failed, ["unspellable"; 4]);
    let test = plan.tasks[0].samples.iter().filter(|sample| sample.split() == Split::Test).count();
    assert_eq!(summary::figures(&header, &records)[0].samples, test - 1);
    let text = table::markdown(&header, &records);
    assert!(text.contains("4 answers have no score") && text.contains("0x78"), "{text}");
}

#[tokio::test]
async fn what_no_system_can_be_asked_ends_the_run() {
    let engine = engine(&Settings::default());
    let mut plan = plan(&*engine, duo(&engine));
    plan.systems.push(System { model: "nobody".to_owned(), ..duo(&engine) });
    plan.systems[4].name = "nobody".to_owned();
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(&folder.path().join("log.jsonl"), &plan.header()).unwrap();
    let engine = engine as Arc<dyn Generate>;
    let error = run::run(engine, &plan, &mut log, &mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("there is no model `nobody`"), "{error}");
}
