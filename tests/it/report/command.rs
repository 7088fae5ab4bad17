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
    for (wrong, told) in [
        (&["Create", "a", "report"][..], "tutti report 'Create a report'"),
        (&["resum", "8edaa1c1"], "between quotes"),
        (&["--seed", "1", "list"], "tutti report -- list"),
    ] {
        let (code, error) = desk.refusal(wrong);
        assert!(code == 2 && error.contains(told), "{error}");
    }
    let long = "x".repeat(50_000);
    for (refused, why) in [
        (&[" "][..], "the topic is empty"),
        (&[&long], "at most 8000"),
        (&["a", "--sections", "99"], "ask for 1 to 12"),
        (&["a", "--out", "a.exe"], "`exe` is no format"),
        (&["a", "--out", "no/where.md"], "there is no folder"),
        (&["a", "--out", "-", "--json"], "standard output"),
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

#[cfg(unix)]
mod printing {
    use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc};

    use tutti::report::runs::Runs;

    use super::*;
    use crate::report::{request, with_sections};

    impl Desk {
        /// A finished report's id.
        async fn finished(&self) -> String {
            let session =
                Runs::open(&self.0.path().join("kept")).unwrap().begin(request()).unwrap();
            let id = session.id().to_owned();
            session
                .write(Arc::clone(&with_sections(|_, _| None)) as _, &mut |_, _| ())
                .await
                .unwrap();
            id
        }

        /// A program of this name that does this, and nothing else on the path but the system's.
        fn program(&self, name: &str, script: &str) {
            let folder = self.0.path().join("bin");
            fs::create_dir_all(&folder).unwrap();
            let file = folder.join(name);
            fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }

        /// The exit code and the standard error of an export as PDF.
        fn print(&self, id: &str) -> (i32, String) {
            let (bin, temporary) = (self.0.path().join("bin"), self.0.path().join("temporary"));
            fs::create_dir_all(&temporary).unwrap();
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_tutti"))
                .current_dir(self.0.path())
                .env("PATH", bin)
                .env("TMPDIR", &temporary)
                .args(["report", "export", id, "--out", "out.pdf"])
                .output()
                .unwrap();
            assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "files are left");
            (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
        }

        fn pdf(&self) -> String {
            fs::read_to_string(self.0.path().join("out.pdf")).unwrap()
        }
    }

    /// Puts the page it is given where the PDF is asked for.
    const CHROMIUM: &str = "[ \"$1\" = --version ] && exit
for a; do case $a in --print-to-pdf=*) pdf=${a#*=};; --*) ;; *) page=$a;; esac; done
printf '%%PDF-' >$pdf; while read -r line; do echo \"$line\"; done <$page >>$pdf";

    #[tokio::test]
    async fn a_kept_report_goes_to_the_output_or_to_a_file_of_its_format() {
        let desk = Desk::new();
        let id = desk.finished().await;
        let output = desk.run(&["export", &id, "--out", "-"]);
        assert!(String::from_utf8(output.stdout).unwrap().contains("# Scaling Laws"));
        assert!(!desk.0.path().join("-").exists());
        let (code, told) = desk.refusal(&["export", &id, "--format", "html", "--out", "x.md"]);
        assert!(code == 1 && told.contains("another format"), "{told}");
        assert!(desk.run(&["export", &id, "--format", "html", "--out", "x"]).status.success());
    }

    #[tokio::test]
    async fn a_pdf_is_the_page_as_the_first_printer_prints_it() {
        let desk = Desk::new();
        let id = desk.finished().await;
        desk.program("google-chrome", CHROMIUM);
        desk.program("weasyprint", "exit 1");
        let (code, told) = desk.print(&id);
        assert_eq!(code, 0, "{told}");
        assert!(desk.pdf().starts_with("%PDF-<!doctype html>"), "{}", desk.pdf());
    }

    #[tokio::test]
    async fn weasyprint_will_do() {
        let desk = Desk::new();
        let id = desk.finished().await;
        desk.program("weasyprint", "[ \"$1\" = --version ] || printf '%%PDF-%s' \"$1\" >$2");
        assert_eq!(desk.print(&id).0, 0);
        assert!(Path::new(desk.pdf().strip_prefix("%PDF-").unwrap()).ends_with("report.html"));
    }

    #[tokio::test]
    async fn a_browser_that_cannot_confine_itself_is_asked_without() {
        let desk = Desk::new();
        let id = desk.finished().await;
        let refuses = format!(
            "case \"$*\" in --version|*--no-sandbox*) ;; \
             *) echo 'Running as root without --no-sandbox is not supported.' >&2; exit 1;; esac\n{CHROMIUM}"
        );
        desk.program("chromium", &refuses);
        let (code, told) = desk.print(&id);
        assert_eq!(code, 0, "{told}");
    }

    #[tokio::test]
    async fn without_a_printer_it_says_what_to_install_and_leaves_the_old_file() {
        let desk = Desk::new();
        let id = desk.finished().await;
        fs::write(desk.0.path().join("out.pdf"), "old").unwrap();
        let (code, told) = desk.print(&id);
        assert!(code == 1 && told.contains("install chromium"), "{code} {told}");
        // One that is there and prints nothing says why.
        desk.program("chromium", "[ \"$1\" = --version ] || { echo 'no fonts' >&2; exit 3; }");
        let (code, told) = desk.print(&id);
        assert!(code == 1 && told.contains("chromium printed nothing: no fonts"), "{told}");
        assert_eq!(desk.pdf(), "old");
    }
}
