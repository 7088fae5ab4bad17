use std::io::Write;

use super::*;
use crate::eval::Item;

fn file(text: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text).unwrap();
    file
}

/// The samples of these rows.
#[track_caller]
fn samples(rows: Rows, text: &str) -> Vec<Sample> {
    load(rows, file(text.as_bytes()).path()).unwrap_or_else(|error| panic!("{error}"))
}

fn choice(stem: &str, choices: &[&str], answer: usize) -> Item {
    let choices = choices.iter().map(|&choice| choice.to_owned()).collect();
    Item::Choice { stem: stem.to_owned(), choices, answer }
}

#[test]
fn examination_questions_lose_their_lists_and_letters() {
    let rows = r#"
{"question": "Which is even?\n\nA. 1\nB. 2\nC. 3\nD. 5\nAnswer:", "answer": "B"}

{"question": "Read:\nA. x\nB. y\nWhich?\nA. both\nB. none\nC. A. alone\nD. B, then\nA\nAnswer:", "answer": "D"}"#;
    let found = samples(Rows::Mmlu, rows);
    assert_eq!(found[0].item, choice("Which is even?", &["1", "2", "3", "5"], 1));
    let stem = "Read:\nA. x\nB. y\nWhich?";
    let choices = ["both", "none", "A. alone", "B, then\nA"];
    assert_eq!(found[1].item, choice(stem, &choices, 3));
    assert_eq!([&found[0].id, &found[1].id], ["2", "4"], "lines are counted from 1, as they stand");
}

#[test]
fn texts_are_grouped_by_their_kind() {
    let rows = r#"{"text": "x = 1\n", "type": "code", "length": "6"}"#;
    let expected =
        Sample { id: "1".into(), group: "code".into(), item: Item::Text("x = 1\n".into()) };
    assert_eq!(samples(Rows::Texts, rows), [expected]);
}

#[test]
fn programs_are_read_from_gzip_too() {
    let row = r#"{"task_id": "T/0", "prompt": "def f():\n", "entry_point": "f",
        "canonical_solution": "    return 1\n", "test": "def check(candidate): ..."}"#
        .replace('\n', "");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(row.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let expected = Sample {
        id: "T/0".into(),
        group: String::new(),
        item: Item::Program {
            prompt: "def f():\n".into(),
            tests: "def check(candidate): ...".into(),
            entry_point: "f".into(),
        },
    };
    let expected = [expected];
    assert_eq!(samples(Rows::HumanEval, &row), expected);
    assert_eq!(load(Rows::HumanEval, file(&packed).path()).unwrap(), expected);
    let cut = load(Rows::HumanEval, file(&packed[..packed.len() - 9]).path()).unwrap_err();
    assert!(matches!(cut, DataError::Io { .. }), "{cut}");
}

#[test]
fn problems_have_one_number_as_their_answer() {
    let rows = r#"{"id": "a", "source": "s", "prompt": "1 + 1?", "expected": "2"}"#;
    let item = Item::Exact { question: "1 + 1?".into(), answer: "2".into() };
    assert_eq!(samples(Rows::Gsm8k, rows)[0].item, item);
}

#[test]
fn scenes_begin_with_their_activity_and_lose_the_marks() {
    let rows = r#"{"id": "a", "activity_label": "Rowing", "ctx": "A boat [header] How [title] It leaks. he",
        "endings": [" swims [step] home.", "sinks [he"], "expected_index": 1}"#
        .replace('\n', "");
    let expected = choice("Rowing: A boat How. It leaks. he", &["swims home.", "sinks [he"], 1);
    assert_eq!(samples(Rows::HellaSwag, &rows)[0].item, expected);
}

#[test]
fn answers_that_always_come_first_are_shuffled_by_the_samples_name() {
    let row = |id: usize| {
        format!(
            r#"{{"id": "t{id}", "question": "?", "choices": ["a", "b", "c"], "expected_index": 0}}"#
        )
    };
    let text: Vec<String> = (0..60).map(row).collect();
    let found = samples(Rows::TruthfulQa, &text.join("\n"));
    let mut places = [0; 3];
    for sample in &found {
        let Item::Choice { choices, answer, .. } = &sample.item else { panic!("{sample:?}") };
        assert_eq!(choices[*answer], "a");
        let mut sorted = choices.clone();
        sorted.sort();
        assert_eq!(sorted, ["a", "b", "c"]);
        places[*answer] += 1;
    }
    assert!(places.iter().all(|&count| count > 8), "{places:?}");
    assert_eq!(samples(Rows::TruthfulQa, &text[7..9].join("\n")), found[7..9]);
}

#[test]
fn long_writing_tasks_are_topics_of_a_kind() {
    let rows = r#"{"prompt": "Write 300 words about rain", "type": "Essay", "length": 300}"#;
    let item = Item::Topic("Write 300 words about rain".into());
    assert_eq!(
        samples(Rows::LongWrite, rows),
        [Sample { id: "1".into(), group: "Essay".into(), item }]
    );
}

#[test]
fn both_forms_of_the_reasoning_challenge_are_the_same_samples() {
    let published =
        r#"{"id": "q", "question": {"stem": "Hot?", "choices": [{"text": "ice", "label": "1"},
        {"text": "fire", "label": "2"}]}, "answerKey": "2"}"#
            .replace('\n', "");
    let hub = r#"{"id": "q", "question": "Hot?", "choices": {"text": ["ice", "fire"],
        "label": ["1", "2"]}, "answerKey": "2"}"#
        .replace('\n', "");
    assert_eq!(samples(Rows::Arc, &published)[0].item, choice("Hot?", &["ice", "fire"], 1));
    assert_eq!(samples(Rows::Arc, &published), samples(Rows::Arc, &hub));
}

#[test]
fn ones_own_rows_may_have_names_and_groups() {
    let rows = r#"{"id": "x", "group": "g", "question": "?", "choices": ["a", "b"], "answer": 1}
        {"question": "!", "choices": ["a", "b"], "answer": 0, "seen": true}"#;
    let found = samples(Rows::Choice, rows);
    assert_eq!((&*found[0].id, &*found[0].group), ("x", "g"));
    assert_eq!((&*found[1].id, &*found[1].group), ("2", ""));
    assert_eq!(found[1].item, choice("!", &["a", "b"], 0));
    let exact = samples(Rows::Exact, r#"{"question": "?", "answer": "yes"}"#);
    assert_eq!(exact[0].item, Item::Exact { question: "?".into(), answer: "yes".into() });
    assert_eq!(samples(Rows::Text, r#"{"text": "abc"}"#)[0].item, Item::Text("abc".into()));
}

#[test]
fn a_wrong_row_is_named_by_file_line_and_field() {
    for (rows, row, field, words) in [
        (
            Rows::Mmlu,
            r#"{"question": "?\nA. 1\nB. 2\nC. 3\nAnswer:", "answer": "A"}"#,
            "question",
            "`D. `",
        ),
        (
            Rows::Mmlu,
            r#"{"question": "?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:", "answer": "E"}"#,
            "answer",
            "`E`",
        ),
        (Rows::Mmlu, r#"{"question": 7, "answer": "E"}"#, "question", "expected a string"),
        (Rows::Texts, r#"{"text": "a"}"#, "", "missing field `type`"),
        (Rows::Texts, "[", "", "EOF"),
        (
            Rows::HellaSwag,
            r#"{"id": "a", "activity_label": "", "ctx": "", "endings": ["a", 1], "expected_index": 0}"#,
            "endings[1]",
            "expected a string",
        ),
        (
            Rows::TruthfulQa,
            r#"{"id": "a", "question": "", "choices": ["a", "b"], "expected_index": 2}"#,
            "expected_index",
            "0 to 1",
        ),
        (
            Rows::Choice,
            r#"{"question": "", "choices": ["a"], "answer": 0}"#,
            "choices",
            "at least 2",
        ),
        (
            Rows::Choice,
            r#"{"question": "", "choices": ["a", "b"], "answer": -1}"#,
            "",
            "expected usize",
        ),
        (Rows::Arc, r#"{"id": "", "question": "?", "answerKey": "A"}"#, "choices", "missing"),
        (
            Rows::Arc,
            r#"{"id": "", "question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C"}"#,
            "answerKey",
            "A, B",
        ),
        (Rows::LongWrite, r#"{"prompt": " ", "type": ""}"#, "prompt", "is empty"),
        (Rows::Text, r#"{"text": ""}"#, "text", "empty"),
    ] {
        let file = file(format!("\n{row}\n").as_bytes());
        let error = load(rows, file.path()).unwrap_err();
        let text = error.to_string();
        let DataError::Row { line: 2, field: found, .. } = &error else { panic!("{text}") };
        assert_eq!(found, field, "{text}");
        assert!(text.contains(words) && text.contains(&*file.path().to_string_lossy()), "{text}");
    }
}

#[test]
fn a_file_without_samples_or_with_one_twice_is_refused() {
    let empty = load(Rows::Exact, file(b"\n \n").path()).unwrap_err();
    assert!(matches!(empty, DataError::Empty { .. }), "{empty}");
    let row = r#"{"id": "x", "question": "?", "answer": "yes"}"#;
    let twice = load(Rows::Exact, file(format!("{row}\n{row}").as_bytes()).path()).unwrap_err();
    assert!(twice.to_string().contains("line 2, field `id`: `x`"), "{twice}");
    let latin = load(Rows::Exact, file(b"\xe9").path()).unwrap_err();
    assert!(latin.to_string().contains("cannot read samples"), "{latin}");
    load(Rows::Exact, Path::new("no such file")).unwrap_err();
}

#[test]
fn every_shape_is_found_by_its_name() {
    for (name, rows) in NAMES {
        assert_eq!((name.parse::<Rows>().unwrap(), rows.to_string()), (rows, name.to_owned()));
    }
    let error = "arcs".parse::<Rows>().unwrap_err().to_string();
    assert!(error.contains("`arcs`") && error.contains("arc, mc"), "{error}");
}
