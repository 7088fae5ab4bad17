//! `tutti report` as a person meets it, as far as it needs no models.

use std::{fs, process::Output};

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tutti.toml"), "[paths]\ndata = \"kept\"\n").unwrap();
        Self(folder)
    }

    fn run(&self, args: &[&str]) -> Output {
        std::process::Command::new(env!("CARGO_BIN_EXE_tutti"))
            .current_dir(self.0.path())
            .arg("report")
            .args(args)
            .output()
            .unwrap()
    }

    /// The exit code and the standard error.
    fn refusal(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        assert!(output.stdout.is_empty(), "{args:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn a_wrong_command_line_is_2_and_a_report_that_cannot_be_is_1() {
    let desk = Desk::new();
    for wrong in [&[][..], &["a", "b"], &["a", "--plan-only", "--json"], &["list", "--seed", "1"]] {
        assert_eq!(desk.refusal(wrong).0, 2, "{wrong:?}");
    }
    let long = "x".repeat(50_000);
    for (refused, why) in [
        (&[" "][..], "the topic is empty"),
        (&[&long], "at most 8000"),
        (&["a", "--sections", "99"], "ask for 1 to 12"),
        (&["a", "--out", "a.exe"], "`exe` is no format"),
        (&["a", "--out", "no/where.md"], "there is no folder"),
        (&["a", "--plan", "none.json"], "cannot read none.json"),
        (&["show", "abc"], "there is no run `abc`"),
        (&["resume", "abc"], "there is no run `abc`"),
        (&["export", "abc", "--format", "html"], "there is no run `abc`"),
        (&["delete", "abc"], "there is no run `abc`"),
        // Not the command, but a report about lists.
        (&["--sections", "0", "--", "list"], "ask for 1 to 12"),
    ] {
        let (code, told) = desk.refusal(refused);
        assert!(code == 1 && told.contains(why), "{refused:?}: {code} {told}");
    }
    assert!(desk.run(&["list"]).status.success());
}

#[test]
fn a_plan_that_is_none_says_what_is_wrong_with_it() {
    let desk = Desk::new();
    let section = r#"{"name": "Data"}"#;
    for (plan, why) in [
        ("{", "not the JSON asked for: EOF"),
        (r#"{"title": "a", "sections": [], "author": "me"}"#, "unknown field `author`"),
        (r#"{"title": "a", "sections": []}"#, "the number of sections is 0 and not 1 to 12"),
        (&format!(r#"{{"title": "a", "sections": [{section}, {section}]}}"#), "named \"Data\""),
        (&format!(r#"{{"title": "--", "sections": [{section}]}}"#), "the title is empty"),
        (
            &format!(r#"{{"title": "{}", "sections": [{section}]}}"#, "a".repeat(501)),
            "501 characters is too long",
        ),
    ] {
        fs::write(desk.0.path().join("plan.json"), plan).unwrap();
        let (code, told) = desk.refusal(&["topic", "--plan", "plan.json"]);
        assert!(code == 1 && told.contains(why), "{plan}: {told}");
    }
}
