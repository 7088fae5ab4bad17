//! `tutti eval` as people type it, with tiny models and data of one's own.

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::{adding::text, desk::Desk, folder};

/// A desk with an ensemble of two tiny models and a file of short texts.
fn desk(texts: usize) -> (Desk, tempfile::TempDir) {
    let desk = Desk::new();
    let folder = folder::folder();
    desk.out(&["models", "add", text(folder.path()), "--id", "left"]);
    desk.gguf("tiny.gguf");
    desk.out(&["models", "add", "tiny.gguf", "--id", "tiny"]);
    desk.write(
        "tutti.toml",
        "default = \"both\"\n\n[[ensemble]]\nname = \"both\"\nmembers = [{ model = \"left\" }, \
         { model = \"tiny\" }]\n",
    );
    let words = ["the", "in", "the in", "inn", "thin", "then"];
    let rows = (0..texts).map(|at| format!("{{\"text\": \"{}\"}}\n", words[at % words.len()]));
    desk.write("texts.jsonl", &rows.collect::<String>());
    (desk, folder)
}

const COMMAND: [&str; 7] = ["eval", "quick", "--data", "texts.jsonl", "--kind", "bpb", "--out=run"];

/// The samples in the log, by system and id.
fn finished(desk: &Desk) -> Vec<String> {
    let log = fs::read_to_string(desk.at("run/log.jsonl")).unwrap_or_default();
    let whole = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    let samples = whole.filter(|line: &serde_json::Value| line["line"] == "sample");
    samples.map(|line| format!("{} {}", line["system"], line["sample"])).collect()
}

#[test]
fn a_run_of_ones_own_texts_leaves_a_log_a_table_and_pictures_and_can_be_told_again() {
    let (desk, _folder) = desk(12);
    let mut command = COMMAND.to_vec();
    command.push("--rule=geometric");
    let out = desk.out(&command);
    for part in ["texts.jsonl, bits per byte", "both, rule geometric", "≤ ", "best on dev"] {
        assert!(out.contains(part), "no `{part}` in {out}");
    }
    let table = fs::read_to_string(desk.at("run/table.md")).unwrap();
    assert!(out.contains(&table) && table.contains("Check: 2 x "), "{table}");
    for picture in ["texts-jsonl-bits-per-byte.svg", "agreement.svg"] {
        let svg = fs::read_to_string(desk.at("run").join(picture)).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("both"), "{picture}");
    }
    let agreement = fs::read_to_string(desk.at("run/agreement.svg")).unwrap();
    assert!(!agreement.contains("2 x "), "copies always agree");
    let log = fs::read(desk.at("run/log.jsonl")).unwrap();
    fs::remove_file(desk.at("run/table.md")).unwrap();
    desk.out(&["eval", "--from", "run/log.jsonl"]);
    assert_eq!(fs::read_to_string(desk.at("run/table.md")).unwrap(), table);
    // Again: all is there, and nothing is asked.
    desk.out(&command);
    assert_eq!(fs::read(desk.at("run/log.jsonl")).unwrap(), log);

    let other = desk.refusal(&COMMAND);
    assert!(other.contains("is of another run") && other.contains("geometric"), "{other}");
    let judge = ["--judge=http://127.0.0.1:9/v1", "--judge-model=wise"];
    let unjudged = desk.refusal(&[&COMMAND[..], &judge].concat());
    assert!(unjudged.contains("--task longwrite"), "{unjudged}");
    let unjudged = desk.refusal(&[&["eval", "--from", "run/log.jsonl"], &judge[..]].concat());
    assert!(unjudged.contains("no reports"), "{unjudged}");
    desk.out(&["eval", "--from", "run/log.jsonl"]);
    assert_eq!(fs::read_to_string(desk.at("run/table.md")).unwrap(), table);
    let none = desk.refusal(&["eval", "--ensemble", "tiny"]);
    assert!(none.contains("`tiny`; there are: ") && none.contains("both"), "{none}");
    let task = desk.refusal(&["eval", "--task", "sums"]);
    assert!(task.contains("`sums`") && task.contains("hellaswag"), "{task}");
}

#[test]
fn settings_are_chosen_on_samples_that_no_figure_is_told_of() {
    let (desk, _folder) = desk(40);
    let mut command = COMMAND.to_vec();
    command.extend(["--rule=geometric", "--dev"]);
    let out = desk.out(&command);
    assert!(out.contains("| both, rule geometric | ≤ ") && out.contains("mean rank"), "{out}");
    assert!(!out.contains("against the best member"), "{out}");
    let log = fs::read_to_string(desk.at("run/log.jsonl")).unwrap();
    let asked = log.matches("\"split\":\"dev\"").count();
    assert!(asked > 0 && asked % 4 == 0, "{asked} answers of two members and two ways to fuse");
    assert!(!log.contains("\"split\":\"test\""), "{log}");
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_asked() {
    let (desk, _folder) = desk(40);
    let refused = |more: &str| desk.refusal(&[&COMMAND[..], &[more]].concat());
    for more in ["--weights=0.4", "--weights=0.4:0.2:0.4"] {
        let told = refused(more);
        assert!(told.contains("2 members: left, tiny") && told.contains("colon"), "{told}");
    }
    for more in ["--gate=0.5,0.5", "--rule=max,mean,max", "--weights=1:2,1:2"] {
        assert!(refused(more).contains("was there before"), "{more}");
    }
    // Of the first lines none is to choose by.
    desk.write("texts.jsonl", &"{\"text\": \"the\"}\n".repeat(5));
    let few = refused("--dev");
    assert!(few.contains("of the 5 samples of texts.jsonl 0 are to choose by"), "{few}");
    desk.write("texts.jsonl", &"{\"text\": \"the\"}\n".repeat(3));
    assert!(desk.refusal(&COMMAND).contains("give more"));
    assert!(!desk.at("run").exists());
}

#[test]
fn samples_that_are_too_few_to_choose_by_are_told_of_and_held_against_nobody() {
    let (desk, _folder) = desk(5);
    let out = desk.out(&COMMAND);
    assert!(out.contains("Of texts.jsonl no sample is one to choose the best member by"), "{out}");
    assert!(out.contains("| texts.jsonl, bits per byte | 5 |") && !out.contains("best on dev"));
}

#[test]
fn a_setting_of_a_member_or_of_the_ensemble_makes_another_run() {
    let (desk, _folder) = desk(12);
    desk.out(&COMMAND);
    let with = |ensemble: &str, member: &str| {
        desk.write(
            "tutti.toml",
            &format!(
                "default = \"both\"\n\n[[ensemble]]\nname = \"both\"\n{ensemble}\nmembers = [\
                 {{ model = \"left\"{member} }}, {{ model = \"tiny\" }}]\n"
            ),
        );
    };
    for (ensemble, member, told) in [
        ("weights = \"online\"", "", "weights online"),
        ("", ", temperature = 1.5", "temperature 1.5"),
        ("", ", system = \"Be brief.\"", "(system #"),
        ("rule = \"geometric\"\nfloor = 0.02", "", "floor 0.02"),
    ] {
        with(ensemble, member);
        let refused = desk.refusal(&COMMAND);
        assert!(refused.contains("is of another run") && refused.contains(told), "{refused}");
    }
    with("", "");
    assert!(desk.run(&COMMAND).status.success());
}

#[test]
fn a_run_that_is_killed_goes_on_and_asks_no_sample_twice() {
    let (desk, _folder) = desk(200);
    let mut running =
        desk.command(&COMMAND).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while finished(&desk).len() < 20
        && begun.elapsed() < Duration::from_secs(60)
        && running.try_wait().unwrap().is_none()
    {
        thread::sleep(Duration::from_millis(2));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    let before = finished(&desk);
    let all = 200 * 3 + 3;
    assert!((20..all).contains(&before.len()), "{} of {all} were finished", before.len());
    let output = desk.run(&COMMAND);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("going on after"), "{said}");
    let mut after = finished(&desk);
    assert!(after.starts_with(&before) && after.len() == all, "{} of {all}", after.len());
    after.sort_unstable();
    after.dedup();
    assert_eq!(after.len(), all, "each once");
}

#[test]
fn weights_are_found_from_one_reading_and_told_as_a_part_of_a_configuration() {
    let (desk, _folder) = desk(60);
    let command = ["eval", "--tune=weights", "--data", "texts.jsonl", "--kind", "bpb", "--out=run"];
    let out = desk.out(&command);
    let told = fs::read_to_string(desk.at("run/tune.md")).unwrap();
    assert!(out.contains(&told), "{out}");
    for part in ["| as it is set | left 0.50; tiny 0.50 |", "weights and temperatures", "| test |"]
    {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    // Again: nothing is read again, and the same is found.
    let log = fs::read(desk.at("run/log.jsonl")).unwrap();
    assert_eq!(finished(&desk).len(), 60, "each text is read once");
    assert_eq!(desk.out(&command), out);
    assert_eq!(fs::read(desk.at("run/log.jsonl")).unwrap(), log);
    let other = desk.refusal(&["eval", "--tune=weights", "--task", "gsm8k", "--out=other"]);
    assert!(other.contains("gsm8k") && other.contains("--kind bpb"), "{other}");
    // What is suggested can be used as it stands.
    let (_, rest) = told.split_once("```toml\n").unwrap();
    let (fragment, _) = rest.split_once("```").unwrap();
    desk.write("tutti.toml", &format!("default = \"both\"\n{fragment}"));
    let config = desk.out(&["config"]);
    let members: Vec<&str> = fragment.lines().filter(|line| line.contains("{ model = ")).collect();
    assert!(members.len() == 2 && members.iter().all(|line| config.contains(line)), "{config}");
}
