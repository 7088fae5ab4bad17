//! Runs on the disk: nothing is lost, nothing is written twice, nobody writes what another does.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use rusqlite::Connection;
use tutti::{
    engine::{FinishReason, GenerateError, GenerateRequest},
    report::{
        Done, Report, ReportError, ReportEvent, ReportRequest,
        runs::{Runs, RunsError, SessionError, State},
        write,
    },
};

use crate::scripted::Scripted;

use super::{
    acts::{Act, acting, last_message},
    good_plan, is_plan, is_synthesis, own_section, request, text_on,
};

/// Every text depends on the seed, one section is empty at first, one ends at its budget both times.
fn seeded() -> Arc<Scripted> {
    acting(|_, request| {
        if is_plan(request) {
            return good_plan();
        }
        let seed = request.sampling.seed;
        if is_synthesis(request) {
            return Act::say(format!("With the seed {seed}."));
        }
        match own_section(request) {
            "Data" if !last_message(request).contains("empty") => Act::say("## Data"),
            "Limits" => {
                let text = format!("The seed of it is {seed}. And so");
                Act::Say(text, FinishReason::Length)
            }
            name => Act::say(format!("{name} has the seed {seed}.")),
        }
    })
}

async fn undisturbed() -> Report {
    write(seeded(), &request(), Done::default(), &mut |_| ()).await.unwrap()
}

fn open(folder: &Path) -> Runs {
    Runs::open(folder).unwrap()
}

/// Writes a run to its end; its id.
async fn finished(runs: &Runs) -> String {
    let session = runs.begin(request()).unwrap();
    let id = session.id().to_owned();
    session.write(seeded(), &mut |_, _| ()).await.unwrap();
    id
}

/// The run as it was after its first `count` events, under another id.
fn cut_after(folder: &Path, id: &str, count: u64) -> String {
    let cut = format!("{id}x{count}");
    let db = Connection::open(folder.join("reports.db")).unwrap();
    db.execute(
        "INSERT INTO run SELECT ?1, created, request, 'open', NULL, NULL FROM run WHERE id = ?2",
        [&cut, id],
    )
    .unwrap();
    db.execute(
        "INSERT INTO event SELECT ?1, number, at, kind, body FROM event WHERE run = ?2 AND number <= ?3",
        (&cut, id, count.cast_signed()),
    )
    .unwrap();
    cut
}

/// What a worker is asked, for comparing.
fn shown(request: &GenerateRequest) -> String {
    format!("{} {}", request.sampling.seed, last_message(request))
}

#[tokio::test]
async fn a_run_resumed_after_any_event_gives_the_undisturbed_document_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(folder.path());
    let expected = undisturbed().await.markdown();
    let id = finished(&runs).await;
    let all = runs.entries(&id, 0).unwrap();
    assert!(all.len() > 20 && matches!(all.last().unwrap().event, ReportEvent::Finished(_)));
    for count in 0..all.len() as u64 {
        let cut = cut_after(folder.path(), &id, count);
        let kept = runs.load(&cut).unwrap();
        assert_eq!(kept.summary.state, State::Interrupted);
        let done = kept.done.parts().count();
        let engine = seeded();
        let session = runs.resume(&cut).unwrap();
        let report = session.write(Arc::clone(&engine) as _, &mut |_, _| ()).await.unwrap();
        assert_eq!(report.markdown(), expected, "after {count} events");
        assert_eq!(runs.load(&cut).unwrap().report().unwrap().markdown(), expected);
        // Five parts, of which two are written twice, and the plan.
        let asked: BTreeSet<_> = engine.seen().iter().map(shown).collect();
        assert_eq!(asked.len(), engine.seen().len());
        let twice = kept.done.parts().filter(|(_, part)| part.retried.is_some()).count();
        let plan = usize::from(kept.done.planned().is_none());
        assert_eq!(asked.len(), plan + 7 - done - twice, "after {count} events");
    }
}

#[tokio::test]
async fn what_is_kept_is_what_was_told_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(folder.path());
    let session = runs.begin(request()).unwrap();
    let id = session.id().to_owned();
    let mut told = Vec::new();
    let report =
        session.write(seeded(), &mut |number, event| told.push((number, event.clone()))).await;
    let entries = runs.entries(&id, 0).unwrap();
    let kept: Vec<_> = entries.into_iter().map(|entry| (entry.number, entry.event)).collect();
    assert_eq!(kept, told);
    assert_eq!(kept.iter().map(|(number, _)| *number).collect::<Vec<_>>(), {
        (1..=kept.len() as u64).collect::<Vec<_>>()
    });
    let after = runs.entries(&id, 7).unwrap();
    assert_eq!((after[0].number, after.len()), (8, kept.len() - 7));
    let run = runs.load(&id).unwrap();
    assert_eq!(run.request, request());
    let mut loaded = run.report().unwrap();
    loaded.facts.seconds = report.as_ref().unwrap().facts.seconds;
    assert_eq!(loaded, report.unwrap());
}

#[tokio::test]
async fn a_run_that_is_being_written_is_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (open(folder.path()), open(folder.path()));
    let session = here.begin(request()).unwrap();
    let id = session.id().to_owned();
    assert_eq!(there.list().unwrap()[0].state, State::Running);
    assert!(matches!(there.resume(&id), Err(RunsError::Taken { .. })));
    assert!(matches!(there.delete(&id), Err(RunsError::Taken { .. })));
    drop(session);
    assert_eq!(there.list().unwrap()[0].state, State::Interrupted);
    let session = there.resume(&id).unwrap();
    assert!(matches!(here.resume(&id), Err(RunsError::Taken { .. })));
    session.write(seeded(), &mut |_, _| ()).await.unwrap();
    assert_eq!(here.list().unwrap()[0].state, State::Finished);
    assert!(matches!(here.resume(&id), Err(RunsError::Finished { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_runs_on_one_store_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let expected = undisturbed().await.markdown();
    let writers = (0..6).map(|_| {
        let path = path.clone();
        tokio::spawn(async move { finished(&open(&path)).await })
    });
    let ids = futures::future::join_all(writers).await;
    let runs = open(&path);
    assert_eq!(runs.list().unwrap().len(), 6);
    for id in ids {
        assert_eq!(runs.load(&id.unwrap()).unwrap().report().unwrap().markdown(), expected);
    }
}

#[tokio::test]
async fn a_failed_run_keeps_what_it_has_and_can_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(folder.path());
    let session = runs.begin(request()).unwrap();
    let id = session.id().to_owned();
    let stops = acting(|_, request| {
        if is_plan(request) {
            good_plan()
        } else if own_section(request) == "Limits" {
            Act::Late(std::time::Duration::from_millis(30), Box::new(Act::SayThenDie("x".into())))
        } else {
            text_on(request)
        }
    });
    let error = session.write(stops, &mut |_, _| ()).await.unwrap_err();
    assert!(matches!(error, SessionError::Report(ReportError::Stopped)));
    let run = runs.load(&id).unwrap();
    assert_eq!(run.summary.state, State::Failed);
    assert_eq!(run.failure, Some(ReportError::Stopped.to_string()));
    assert_eq!(run.done.parts().count(), 2);
    assert!(matches!(run.report(), Err(RunsError::Unfinished { .. })));
    let report = runs.resume(&id).unwrap().write(seeded(), &mut |_, _| ()).await.unwrap();
    assert_eq!(report.sections.len(), 3);
    assert_eq!(runs.load(&id).unwrap().failure, None);
}

#[tokio::test]
async fn a_gap_that_the_engine_is_to_blame_for_is_written_when_the_run_goes_on() {
    let failed = || GenerateError::Member { member: "alpha".into(), reason: "no memory".into() };
    let folder = tempfile::tempdir().unwrap();
    let runs = open(folder.path());
    let session = runs.begin(request()).unwrap();
    let id = session.id().to_owned();
    let fails = acting(move |_, request| match () {
        () if is_plan(request) => good_plan(),
        () => Act::Refuse(failed()),
    });
    session.write(fails, &mut |_, _| ()).await.unwrap_err();
    assert_eq!(runs.load(&id).unwrap().done.parts().count(), 3);
    let report = runs.resume(&id).unwrap().write(seeded(), &mut |_, _| ()).await.unwrap();
    assert_eq!(report.markdown(), undisturbed().await.markdown());
}

#[tokio::test]
async fn a_plan_alone_is_kept_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(folder.path());
    let session = runs.begin(request()).unwrap();
    let id = session.id().to_owned();
    let engine = seeded();
    let planned = session.plan(Arc::clone(&engine) as _, &mut |_, _| ()).await.unwrap();
    assert_eq!((planned.plan.title.as_str(), engine.seen().len()), ("Scaling Laws", 1));
    assert_eq!(runs.list().unwrap()[0].title.as_deref(), Some("Scaling Laws"));
    let report = runs.resume(&id).unwrap().write(seeded(), &mut |_, _| ()).await.unwrap();
    let expected = undisturbed().await;
    assert_eq!(report.markdown(), expected.markdown());
    // The same plan given by a person gives the same sections.
    let given = ReportRequest { plan: Some(planned.plan), ..request() };
    let report = write(seeded(), &given, Done::default(), &mut |_| ()).await.unwrap();
    let texts = |report: &Report| report.parts().map(|p| p.outcome.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&report), texts(&expected));
}

#[tokio::test]
async fn a_run_is_found_by_the_beginning_of_its_id_and_can_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(folder.path());
    let id = finished(&runs).await;
    assert_eq!(runs.find(&id[..4]).unwrap(), id);
    cut_after(folder.path(), &id, 3);
    let ambiguous = runs.load(&id[..4]).unwrap_err().to_string();
    assert!(ambiguous.contains("2 runs"), "{ambiguous}");
    for unknown in ["", "zz", "*", "../x"] {
        assert!(matches!(runs.load(unknown), Err(RunsError::Unknown { .. })), "{unknown}");
    }
    runs.delete(&format!("{id}x3")).unwrap();
    runs.delete(&id).unwrap();
    assert!(runs.list().unwrap().is_empty() && runs.entries(&id, 0).unwrap().is_empty());
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path());
    let db = Connection::open(folder.path().join("reports.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    let error = Runs::open(folder.path()).unwrap_err();
    assert!(matches!(error, RunsError::Newer { found: 99, .. }), "{error}");
}

#[test]
fn a_folder_that_cannot_be_is_told_with_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Runs::open(&file.join("under")).unwrap_err().to_string();
    assert!(error.contains("paths.data"), "{error}");
}

#[tokio::test]
async fn a_run_is_not_gone_on_with_by_models_that_are_set_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let runs = open(folder.path());
    let id = finished(&runs).await;
    let cut = cut_after(folder.path(), &id, 9);
    let db = Connection::open(folder.path().join("reports.db")).unwrap();
    let changed = db
        .execute(
            "UPDATE event SET body = replace(body, 'rule mean', 'rule max') WHERE run = ?1",
            [&cut],
        )
        .unwrap();
    assert!(changed > 0);
    let engine = seeded();
    let session = runs.resume(&cut).unwrap();
    let error = session.write(Arc::clone(&engine) as _, &mut |_, _| ()).await.unwrap_err();
    let SessionError::Report(ReportError::OtherModels { then, now }) = error else {
        panic!("{error}")
    };
    assert!(then.ends_with("rule max") && now.ends_with("rule mean"));
    assert!(engine.seen().is_empty());
}
