//! Sections that go wrong: written again, cut where they end, or told as a gap.

use std::sync::{Arc, Mutex};

use tutti::{
    engine::{FinishReason, GenerateError},
    report::{
        Outcome, Part, ReportError, ReportEvent, ReportRequest, SectionFault, export::Format,
    },
};

use super::{
    acts::{Act, last_message},
    body, closing, is_of, request, run, with_sections, written,
};
use crate::scripted::{PROMPT_TOKENS, Scripted};

#[tokio::test]
async fn a_section_that_goes_wrong_is_written_again_with_another_seed() {
    let failed =
        GenerateError::Member { member: "beta".to_owned(), reason: "no memory".to_owned() };
    let cases = [
        (
            Act::SayThenFail("Half of".to_owned(), failed.clone()),
            SectionFault::Failed { reason: failed.to_string() },
        ),
        (Act::Refuse(failed.clone()), SectionFault::Failed { reason: failed.to_string() }),
        (
            Act::Say("a word and a word that never ends ".repeat(3), FinishReason::Length),
            SectionFault::Unfinished { max_tokens: 64 },
        ),
        (Act::say("## Data\n\n***"), SectionFault::Empty),
        (Act::say(""), SectionFault::Empty),
    ];
    for (bad, fault) in cases {
        let engine =
            with_sections(move |name, again| (name == "Data" && !again).then(|| bad.clone()));
        let (report, events) = run(&engine, request()).await;
        let report = report.unwrap();
        assert_eq!(report.sections[1].retried.as_ref(), Some(&fault));
        assert!(body(&report).contains("## Data\n\nWhat is known of Data.\n\n"));
        assert!(closing(&report).contains("1 part written again."));
        assert!(
            events
                .contains(&ReportEvent::SectionRetried { part: Part::Section { index: 1 }, fault })
        );
        let mut asked = engine.seen();
        asked.retain(|request| is_of(request, "Data"));
        assert_eq!(asked.len(), 2);
        assert_ne!(asked[0].sampling.seed, asked[1].sampling.seed);
    }
}

#[tokio::test]
async fn a_section_that_loops_is_cancelled_and_told_so() {
    let engine = with_sections(|name, again| {
        // It would never end by itself.
        let text = "Data is data. ".repeat(60);
        (name == "Data" && !again).then_some(Act::SayThenHang(text))
    });
    let report = written(&engine).await;
    assert_eq!(report.sections[1].retried, Some(SectionFault::Loops));
    assert!(matches!(report.sections[1].outcome, Outcome::Written { .. }));
    let asked = engine.seen();
    let again = asked.iter().filter(|r| is_of(r, "Data")).nth(1).unwrap();
    assert!(last_message(again).contains("repeated itself"));
}

#[tokio::test]
async fn a_section_that_fails_twice_is_a_visible_gap() {
    let engine = with_sections(|name, _| {
        let error =
            GenerateError::Member { member: "beta".to_owned(), reason: "no\nmemory".to_owned() };
        (name == "Data").then_some(Act::SayThenFail("Some".to_owned(), error))
    });
    let report = written(&engine).await;
    assert_eq!(
        body(&report),
        "# Scaling Laws\n\n## Origins\n\nWhat is known of Origins.\n\n## Data\n\n\
         > This section could not be written: `beta` failed: no memory.\n\n\
         ## Limits\n\nWhat is known of Limits.\n"
    );
    assert!(closing(&report).contains("1 part written again. 1 part missing."));
    // What the failed texts cost is not forgotten.
    assert_eq!(report.sections[1].usage.completion_tokens, 2);
    assert_eq!(report.sections[1].usage.prompt_tokens, 2 * PROMPT_TOKENS);
}

#[tokio::test]
async fn a_report_of_gaps_only_is_an_error() {
    let engine = with_sections(|_, _| Some(Act::say("")));
    let error = run(&engine, request()).await.0.unwrap_err();
    assert_eq!(error, ReportError::NothingWritten { fault: SectionFault::Empty });
}

/// A generator whose section "Data" says `texts`, one a try; those with a mark were not ended by
/// their budget.
fn cut_off(texts: &'static [&'static str]) -> Arc<Scripted> {
    let tried = Mutex::new(0);
    with_sections(move |name, _| {
        (name == "Data").then(|| {
            let mut tried = tried.lock().unwrap();
            *tried += 1;
            let text = texts[*tried - 1];
            match text.strip_suffix('^') {
                Some(whole) => Act::say(whole),
                None => Act::Say(text.to_owned(), FinishReason::Length),
            }
        })
    })
}

const ENDS_HERE: &str = "This section ends here: its budget of 64 tokens was spent.";

#[tokio::test]
async fn a_section_that_does_not_end_within_its_budget_is_written_again_and_told_so() {
    let engine = cut_off(&["The data matter as much as size. They are not", "They matter.^"]);
    let report = written(&engine).await;
    let section = &report.sections[1];
    assert_eq!(section.text(), Some("They matter."));
    assert_eq!(section.retried, Some(SectionFault::Unfinished { max_tokens: 64 }));
    assert!(closing(&report).contains("1 part written again."));
    assert!(!report.markdown().contains("ends here"));
    let asked = engine.seen();
    let asked: Vec<_> = asked.iter().filter(|request| is_of(request, "Data")).collect();
    assert_eq!(asked.len(), 2);
    assert!(last_message(asked[1]).contains("Your last answer was too long."));
    assert_ne!(asked[0].sampling.seed, asked[1].sampling.seed);
}

#[tokio::test]
async fn a_section_that_never_ends_within_its_budget_says_so_where_its_longest_text_ends() {
    let texts =
        ["The data matter. They are", "The data matter as much as size. And", "So it is. A"];
    for (first, second) in [(0, 1), (1, 0), (2, 1)] {
        let said: &'static [_] = Box::leak(Box::new([texts[first], texts[second]]));
        let report = written(&cut_off(said)).await;
        let Outcome::Written { text, tidied, at_limit } = &report.sections[1].outcome else {
            panic!("a gap")
        };
        assert_eq!(
            (text.as_str(), tidied.cuts, *at_limit),
            ("The data matter as much as size.", 1, true)
        );
        assert!(body(&report).contains(&format!("as size.\n\n*{ENDS_HERE}*\n\n## Limits")));
        assert!(
            closing(&report).contains("1 part ended at the token limit. 1 part written again.")
        );
        assert!(report.markdown().contains("\nended_at_the_token_limit: 1\n"));
        let html = String::from_utf8(Format::Html.document(&report).unwrap()).unwrap();
        assert!(html.contains(&format!("<p class=\"gap\" role=\"note\">{ENDS_HERE}</p>")));
    }
}

#[tokio::test]
async fn a_text_that_goes_wrong_does_not_take_the_place_of_one_that_is_only_cut() {
    for (first, second) in [("The data matter. They", "^"), ("^", "The data matter. They")] {
        let said: &'static [_] = Box::leak(Box::new([first, second]));
        let report = written(&cut_off(said)).await;
        assert_eq!(report.sections[1].text(), Some("The data matter."));
        assert_eq!(report.sections[1].gap(), None);
    }
}

#[tokio::test]
async fn a_text_without_a_whole_sentence_is_the_last_choice_and_ends_visibly() {
    let endless = "a word and a word that never ends";
    let report = written(&cut_off(&["Short one. A", "a word and a word that never ends"])).await;
    assert_eq!(report.sections[1].text(), Some("Short one."));
    let report = written(&cut_off(&["a word and a word that never ends", "a word and a"])).await;
    assert!(body(&report).contains(&format!("{endless} …\n\n*{ENDS_HERE}*\n")));
}

#[tokio::test]
async fn what_ran_on_into_another_section_was_not_ended_by_its_budget() {
    let report = written(&cut_off(&["The data matter.\n\n## Limits\n\nThey are"])).await;
    assert_eq!(report.sections[1].text(), Some("The data matter."));
    assert_eq!(report.sections[1].retried, None);
    assert!(!report.markdown().contains("ends here"));
}

#[tokio::test]
async fn a_section_is_tried_as_often_as_is_asked_for_each_time_with_another_seed() {
    for (retries, tries) in [(0, 1), (2, 3), (9, 4)] {
        let engine = cut_off(&["One. And", "Two. And", "Three. And", "Four.^"]);
        let report = run(&engine, ReportRequest { retries, ..request() }).await.0.unwrap();
        let is_whole = tries == 4;
        assert_eq!(report.markdown().contains(ENDS_HERE), !is_whole);
        assert_eq!(report.sections[1].retried.is_some(), retries > 0);
        let mut asked = engine.seen();
        asked.retain(|request| is_of(request, "Data"));
        assert_eq!(asked.len(), tries);
        let mut seeds: Vec<_> = engine.seen().iter().map(|asked| asked.sampling.seed).collect();
        let all = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), all, "each generation draws its own");
    }
    let engine = with_sections(|name, _| (name == "Data").then(|| Act::say("")));
    let report = run(&engine, ReportRequest { retries: 0, ..request() }).await.0.unwrap();
    assert_eq!(report.sections[1].gap(), Some(&SectionFault::Empty));
}
