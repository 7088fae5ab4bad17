//! What a person sees while a report is written.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use indicatif::{ProgressDrawTarget, TermLike};
use tutti::{
    engine::GenerateError,
    report::{Done, ReportRequest, progress::Progress, write},
    sampling::SamplingParams,
};

use super::acts::{Act, acting, last_message};

/// All that was ever drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Screen(Arc<Mutex<String>>);

impl Screen {
    pub(super) fn shown(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        140
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap().push_str(&format!("{text}\n"));
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap().push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A report whose second section is a gap, shown by `progress`.
async fn show(mut progress: Progress) {
    let engine = acting(|number, request| match number {
        0 => Act::say("no plan"),
        1 => Act::say(
            r#"{"language": "English", "title": "Scaling Laws", "sections": [{"name": "数据", "description": ""},
                {"name": "Limits", "description": ""}]}"#,
        ),
        _ if last_message(request).contains("section \"Limits\"") => {
            Act::Refuse(GenerateError::Member {
                member: "alpha".to_owned(),
                reason: "no memory".to_owned(),
            })
        }
        _ => Act::say("Twelve letters"),
    });
    let request = ReportRequest {
        topic: "scaling laws".to_owned(),
        model: "alpha".to_owned(),
        sections: Some(2),
        plan: None,
        max_tokens: 32,
        retries: 1,
        plan_max_tokens: None,
        sampling: SamplingParams::default(),
    };
    write(engine, &request, Done::default(), &mut |event| progress.observe(&event)).await.unwrap();
}

#[tokio::test]
async fn lines_tell_the_plan_and_how_each_section_ended() {
    let screen = Screen::default();
    show(Progress::lines(screen.clone())).await;
    let shown = screen.shown();
    let mut rest = shown.as_str();
    for line in [
        "plan: at most 400 tokens\n",
        "plan: again, as the plan is not the JSON asked for",
        "plan: Scaling Laws, ",
        "  1. 数据\n  2. Limits\n",
        "section 1: at most 32 tokens\n",
        "section 2: again, as `alpha` failed: no memory\n",
    ] {
        let at = rest.find(line).unwrap_or_else(|| panic!("no {line:?} in {rest}"));
        rest = &rest[at + line.len()..];
    }
    for line in [
        "\nsection 1, 数据: done, 4 tokens in ",
        "\nsection 2, Limits: missing, as `alpha` failed: no memory, 0 tokens in ",
        "\nreport: ",
    ] {
        assert!(shown.contains(line), "no {line:?} in {shown}");
    }
    assert!(shown.ends_with(" tokens/s\n"));
}

#[tokio::test]
async fn bars_show_every_section_with_tokens_and_speed() {
    let screen = Screen::default();
    let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
    show(Progress::bars(target)).await;
    let shown = screen.shown();
    // Lines are padded to the width of the screen.
    let line = |start: &str, then: &str| {
        shown.match_indices(start).any(|(at, _)| {
            let rest = &shown[at + start.len()..];
            rest.chars().take(100).collect::<String>().contains(then)
        })
    };
    assert!(line("Scaling Laws", "2 sections"), "{shown}");
    assert!(line(" 1. 数据", "   3/32 tokens"), "{shown}");
    assert!(line(" 1. 数据", "tokens/s done"), "{shown}");
    assert!(line(" 2. Limits", "   0/32 tokens 0.0 tokens/s missing, as `alpha`"), "{shown}");
    assert!(line("Report", "4 of 4 parts"), "{shown}");
}
