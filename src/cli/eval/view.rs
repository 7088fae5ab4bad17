//! How a run comes along, for people.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use tutti::eval::{
    run::{Event, Plan},
    table,
};

/// A bar on a terminal, or else a line every tenth.
pub(super) struct View {
    bar: Option<ProgressBar>,
    tenths: usize,
}

const STYLE: &str = "{bar:24} {pos} of {len} answers{msg}";

impl View {
    /// `done` answers are there already.
    pub(super) fn begin(plan: &Plan, done: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(STYLE).expect("the template is sound");
            ProgressBar::new(plan.answers() as u64).with_style(style)
        });
        let view = Self { bar, tenths: done * 10 / plan.answers().max(1) };
        if done > 0 {
            view.say(&format!("going on after {done} of {} answers", plan.answers()));
        }
        view
    }

    pub(super) fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Answered { done, total, left } => self.answered(*done, *total, *left),
            Event::Tried { left: Some(left) } => {
                self.say(&format!("every task was tried; the rest takes about {}", human(*left)));
            }
            Event::Tried { left: None } => {}
            Event::Finished { task, header, records } => {
                let text = table::figures(header, records, task) + "\n";
                match &self.bar {
                    Some(bar) => bar.suspend(|| print(&text)),
                    None => print(&text),
                }
            }
        }
    }

    fn answered(&mut self, done: usize, total: usize, left: Option<Duration>) {
        let left = left.map_or_else(String::new, |left| format!(", about {} left", human(left)));
        if let Some(bar) = &self.bar {
            bar.set_message(left);
            bar.set_position(done as u64);
        } else if done * 10 / total.max(1) > self.tenths {
            self.tenths = done * 10 / total.max(1);
            self.say(&format!("{done} of {total} answers{left}"));
        }
    }

    /// A line that stays.
    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            // What is told for comfort must not stop the work.
            None => drop(writeln!(io::stderr(), "{line}")),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn human(time: Duration) -> String {
    HumanDuration(Duration::from_secs(time.as_secs())).to_string()
}

/// The run goes on if nobody reads its tables: they are in the log.
pub(super) fn print(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
}
