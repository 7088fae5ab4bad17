//! One plan, written by an ensemble and by each of its members.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rusqlite::Connection;
use tutti::{
    engine::{GenerateRequest, Prompt},
    report::{
        MIN_SECTION_TOKENS, ReportRequest,
        compare::{CompareError, Compared, Comparison, Happens, Judged, Written, compare, load},
        export::Format,
        runs::{Runs, State},
    },
};

use super::{
    acts::{Act, acting, last_message},
    good_plan, is_plan, is_synthesis, own_section, request,
};
use crate::scripted::Scripted;

/// Each model says whose text it is; each finds every byte equally probable.
fn say(request: &GenerateRequest) -> Act {
    let model = &request.model;
    if let Prompt::Text(text) = &request.prompt {
        let from = request.logprobs.and_then(|told| told.prompt).expect("it is to be scored");
        return Act::Score(text[from..].to_owned(), if model == "alpha" { -1.0 } else { -2.0 });
    }
    match () {
        () if is_plan(request) => good_plan(),
        () if is_synthesis(request) => Act::say(format!("All of it, says {model}.")),
        () => Act::say(format!("The {} of the laws, as <{model}> sees it.", own_section(request))),
    }
}

fn engine() -> Arc<Scripted> {
    acting(|_, request| say(request))
}

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> (Self, Runs) {
        let folder = tempfile::tempdir().unwrap();
        let runs = Runs::open(folder.path()).unwrap();
        (Self(folder), runs)
    }
}

fn begun(runs: &Runs) -> String {
    runs.begin_comparison(request()).unwrap().id().to_owned()
}

async fn compared(engine: Arc<Scripted>, runs: &Runs, id: &str) -> Comparison {
    compare(engine, runs, id, &mut |_| ()).await.unwrap()
}

fn judged(entry: &Compared) -> &Judged {
    let Written::Report(judged) = &entry.outcome else { panic!("{entry:?}") };
    judged
}

#[tokio::test]
async fn members_write_on_the_ensembles_plan_with_its_seeds() {
    let (_desk, runs) = Desk::new();
    let (id, engine) = (begun(&runs), engine());
    let mut told = Vec::new();
    let mut listener = |happens: Happens<'_>| match happens {
        Happens::Begins { model, .. } => told.push(format!("{model} writes")),
        Happens::Scores { model } => told.push(format!("{model} reads")),
        Happens::Report(_) => {}
    };
    let comparison = compare(Arc::clone(&engine) as _, &runs, &id, &mut listener).await.unwrap();
    let order =
        ["duet writes", "alpha writes", "beta writes", "duet reads", "alpha reads", "beta reads"];
    assert_eq!(told, order);
    let models: Vec<_> = comparison.entries.iter().map(|entry| entry.model.as_str()).collect();
    assert_eq!(models, ["duet", "alpha", "beta"]);
    let asked = engine.seen();
    let of = |model: &str| -> BTreeSet<(u64, String)> {
        let chats = asked.iter().filter(|request| matches!(request.prompt, Prompt::Chat { .. }));
        let own = chats.filter(|request| request.model == model && !is_synthesis(request));
        own.map(|request| (request.sampling.seed, last_message(request).to_owned())).collect()
    };
    // The plan is asked for once; what the sections are asked is the same for all.
    assert_eq!(of("duet").len(), 4);
    assert!(
        of("alpha").len() == 3 && of("alpha") == of("beta") && of("duet").is_superset(&of("beta"))
    );
    for entry in &comparison.entries {
        let report = &judged(entry).report;
        assert_eq!(report.plan, comparison.plan);
        assert!(report.sections[1].text().unwrap().contains(&format!("<{}>", entry.model)));
        assert_eq!(runs.load(&entry.run).unwrap().summary.comparison.as_ref(), Some(&id));
    }
    assert_eq!(load(&runs, &id[..6]).unwrap(), comparison);
}

#[tokio::test]
async fn every_text_is_read_by_the_others_and_measured() {
    let (_desk, runs) = Desk::new();
    let id = begun(&runs);
    let comparison = compared(engine(), &runs, &id).await;
    let per_byte = |entry: usize| -> Vec<(&str, f64)> {
        let scores = &judged(&comparison.entries[entry]).scores;
        scores.iter().map(|scored| (scored.by.as_str(), scored.bits_per_byte.unwrap())).collect()
    };
    let bit = 1.0 / std::f64::consts::LN_2;
    for (entry, expected) in [
        [("alpha", bit), ("beta", 2.0 * bit)],
        [("duet", 2.0 * bit), ("beta", 2.0 * bit)],
        [("duet", 2.0 * bit), ("alpha", bit)],
    ]
    .into_iter()
    .enumerate()
    {
        for ((by, bits), (expected_by, expected)) in per_byte(entry).into_iter().zip(expected) {
            assert!(by == expected_by && (bits - expected).abs() < 1e-6, "{by} {bits}");
        }
    }
    let duet = judged(&comparison.entries[0]);
    // Headings are what the texts come after and are not scored.
    let bytes: usize = duet.report.parts().map(|part| part.text().unwrap().len()).sum();
    let scored: usize = duet.scores[0].parts.iter().map(|part| part.unwrap().bytes).sum();
    assert_eq!(scored, bytes);
    // Introduction, three sections, conclusion; "All of it, says duet." comes twice.
    assert_eq!(duet.measures.len(), 5);
    assert_eq!(duet.measures[4].shared, 1.0);
    assert!(duet.measures[1].shared == 0.0 && duet.measures[2].shared > 0.0);
    assert_eq!(duet.measures[1].language_kept, Some(true));
    assert_eq!((duet.measures[1].units, duet.measures[1].asked), (9, 30));
    assert_eq!((duet.measures[0].coverage, duet.measures[1].coverage), (None, Some(1.0)));
}

#[tokio::test]
async fn what_was_written_and_read_before_an_interruption_is_not_again() {
    let (_desk, runs) = Desk::new();
    let id = begun(&runs);
    let expected = {
        let (_desk, runs) = Desk::new();
        let id = begun(&runs);
        compared(engine(), &runs, &id).await
    };
    // Hangs in the last section of the second member.
    let hangs = acting(|_, request| match say(request) {
        Act::Say(text, _) if text.contains("Limits") && request.model == "beta" => {
            Act::SayThenHang(text)
        }
        act => act,
    });
    let mut ignore = |_: Happens<'_>| ();
    let work = compare(Arc::clone(&hangs) as _, &runs, &id, &mut ignore);
    assert!(tokio::time::timeout(Duration::from_millis(500), work).await.is_err());
    assert!(matches!(load(&runs, &id), Err(CompareError::Unfinished { .. })));
    let states: Vec<_> = runs.list().unwrap().iter().map(|run| run.state).collect();
    assert_eq!(states.iter().filter(|state| **state == State::Finished).count(), 2);
    let engine = engine();
    let comparison = compared(Arc::clone(&engine), &runs, &id).await;
    let chats = engine.seen().into_iter().filter(|r| matches!(r.prompt, Prompt::Chat { .. }));
    // The section that hung, the introduction and the conclusion.
    assert_eq!(chats.count(), 3);
    for (entry, expected) in comparison.entries.iter().zip(&expected.entries) {
        let (report, expected) = (&judged(entry).report, &judged(expected).report);
        assert_eq!(report.markdown(), expected.markdown());
    }
    let engine = acting(|_, _| Act::say("nothing is asked"));
    assert_eq!(compared(Arc::clone(&engine), &runs, &id).await, comparison);
    assert!(engine.seen().is_empty());
}

#[tokio::test]
async fn a_member_that_can_write_nothing_is_a_fact_and_no_end() {
    let (_desk, runs) = Desk::new();
    let id = begun(&runs);
    let silent = acting(|_, request| match say(request) {
        Act::Say(..) if request.model == "alpha" => Act::say(""),
        act => act,
    });
    let comparison = compared(silent, &runs, &id).await;
    let Written::Failed { reason } = &comparison.entries[1].outcome else { panic!("a report") };
    assert!(reason.contains("no section could be written"), "{reason}");
    assert_eq!(judged(&comparison.entries[2]).scores.len(), 2);
    let page = String::from_utf8(Format::Html.comparison(&comparison).unwrap()).unwrap();
    assert!(page.contains("alpha: no section could be written"), "{page}");
}

#[tokio::test]
async fn only_an_ensemble_is_compared_and_by_one_at_a_time() {
    let (_desk, runs) = Desk::new();
    let alone = ReportRequest { model: "alpha".to_owned(), ..request() };
    let id = runs.begin_comparison(alone).unwrap().id().to_owned();
    let error = compare(engine(), &runs, &id, &mut |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("`alpha` is one model alone"), "{error}");
    let plain = runs.begin(request()).unwrap().id().to_owned();
    let error = compare(engine(), &runs, &plain, &mut |_| ()).await.unwrap_err();
    assert!(matches!(error, CompareError::NotCompared { .. }), "{error}");
    let id = begun(&runs);
    let (mut ignore, mut too) = (|_: Happens<'_>| (), |_: Happens<'_>| ());
    let (one, other) = tokio::join!(
        compare(engine(), &runs, &id, &mut ignore),
        compare(engine(), &runs, &id, &mut too)
    );
    assert!(one.is_ok() && other.unwrap_err().to_string().contains("another process"));
}

#[tokio::test]
async fn the_page_has_all_texts_side_by_side_and_the_json_reads_back() {
    let (_desk, runs) = Desk::new();
    let id = begun(&runs);
    let comparison = compared(engine(), &runs, &id).await;
    let page = String::from_utf8(Format::Html.comparison(&comparison).unwrap()).unwrap();
    for outside in ["http:", "https:", "<link", "@import", "url(", " src=", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<article>").count(), 3 * 5);
    assert!(page.contains("The Data of the laws, as &lt;beta&gt; sees it."), "{page}");
    assert!(
        page.contains(
            "<th scope=\"row\">Bits per byte for alpha</th><td>1.443</td><td>its own</td>"
        ),
        "{page}"
    );
    let language = "<th scope=\"row\">In the plan's language</th>";
    assert!(page.contains(&format!("{language}<td>3 of 3 parts</td>")), "{page}");
    let Comparison { plan, mut entries, .. } = comparison.clone();
    for entry in &mut entries {
        if let Written::Report(judged) = &mut entry.outcome {
            judged.overall.language_told = 0;
        }
    }
    let untold = Comparison { plan, entries, ..comparison.clone() };
    let page = String::from_utf8(Format::Html.comparison(&untold).unwrap()).unwrap();
    assert!(page.contains(&format!("{language}<td>cannot be told</td>")), "{page}");
    let json = Format::Json.comparison(&comparison).unwrap();
    assert_eq!(serde_json::from_slice::<Comparison>(&json).unwrap(), comparison);
    let refused = Format::Docx.comparison(&comparison).unwrap_err().to_string();
    assert!(refused.contains("html or json and not as docx"), "{refused}");
}

#[tokio::test]
async fn a_store_from_before_comparisons_is_brought_to_have_them() {
    let (desk, runs) = Desk::new();
    let budget = ReportRequest { max_tokens: MIN_SECTION_TOKENS, ..request() };
    let id = runs.begin(budget).unwrap().id().to_owned();
    let db = Connection::open(desk.0.path().join("reports.db")).unwrap();
    db.execute_batch(
        "DROP TABLE score; ALTER TABLE run DROP COLUMN comparison; PRAGMA user_version = 1",
    )
    .unwrap();
    let runs = Runs::open(desk.0.path()).unwrap();
    assert_eq!(runs.list().unwrap()[0].id, id);
    let first = begun(&runs);
    compared(engine(), &runs, &first).await;
    // Those compared with a run that is deleted stay as they are.
    runs.delete(&first).unwrap();
    assert!(runs.list().unwrap().iter().all(|run| run.comparison.is_none()));
    assert_eq!(runs.list().unwrap().len(), 3);
}
