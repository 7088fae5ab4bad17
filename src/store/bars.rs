//! Progress for people: bars on a terminal, plain lines every tenth elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use indicatif::{DecimalBytes, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

use super::Progress;

const STYLE: &str =
    "{msg} {bar:24} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";

/// Several pieces of work at once, one [`Bar`] each.
#[derive(Clone)]
pub struct Bars {
    out: Out,
}

#[derive(Clone)]
enum Out {
    Bars(MultiProgress),
    Lines(Arc<Mutex<dyn Write + Send>>),
}

impl Bars {
    /// On the standard error: bars if it is a terminal, lines if not.
    pub fn stderr() -> Self {
        if io::stderr().is_terminal() {
            Self { out: Out::Bars(MultiProgress::new()) }
        } else {
            Self::lines(io::stderr())
        }
    }

    /// Plain lines.
    pub fn lines(out: impl Write + Send + 'static) -> Self {
        Self { out: Out::Lines(Arc::new(Mutex::new(out))) }
    }

    /// The progress of one piece of work after the other.
    pub fn bar(&self) -> Bar {
        Bar { out: self.out.clone(), task: Mutex::new(None) }
    }
}

/// One line of [`Bars`]. Its bar goes when it is dropped.
pub struct Bar {
    out: Out,
    task: Mutex<Option<Task>>,
}

struct Task {
    name: String,
    total: u64,
    since: Instant,
    /// Tenths told so far; `None` before the first bytes.
    tenths: Option<u64>,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// A line that stays, above the bars.
    fn say(&self, text: &str) {
        // What is told for comfort must not stop the work: a closed standard error is no failure.
        let _ = match &self.out {
            Out::Bars(bars) => bars.println(text),
            Out::Lines(out) => {
                let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(out, "{text}").and_then(|()| out.flush())
            }
        };
    }

    fn task(&self) -> MutexGuard<'_, Option<Task>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) -> Option<Task> {
        let task = self.task().take();
        if let Some(bar) = task.as_ref().and_then(|task| task.bar.as_ref()) {
            bar.finish_and_clear();
        }
        task
    }
}

impl Progress for Bar {
    fn started(&self, task: &str, total: u64) {
        self.clear();
        let bar = match &self.out {
            Out::Lines(_) => {
                self.say(&format!("{task}: {}", DecimalBytes(total)));
                None
            }
            Out::Bars(bars) => {
                let style = ProgressStyle::with_template(STYLE).expect("the template is sound");
                let bar = ProgressBar::new(total).with_style(style).with_message(task.to_owned());
                Some(bars.add(bar))
            }
        };
        let (name, since) = (task.to_owned(), Instant::now());
        *self.task() = Some(Task { name, total, since, tenths: None, bar });
    }

    fn reached(&self, bytes: u64) {
        let mut guard = self.task();
        let Some(task) = guard.as_mut() else { return };
        let tenths = bytes.saturating_mul(10) / task.total.max(1);
        let first = task.tenths.is_none();
        let before = task.tenths.unwrap_or(0);
        if first || tenths > before {
            task.tenths = Some(tenths);
        }
        if let Some(bar) = &task.bar {
            bar.set_position(bytes);
            if first {
                // What was there before is not speed.
                bar.reset_eta();
            }
        } else if tenths > before && tenths < 10 {
            let line = format!("{}: {}0 %", task.name, tenths);
            drop(guard);
            self.say(&line);
        }
    }

    fn finished(&self) {
        if let Some(task) = self.clear() {
            let (size, time) = (DecimalBytes(task.total), HumanDuration(task.since.elapsed()));
            self.say(&format!("{}: done, {size} in {time}", task.name));
        }
    }

    fn note(&self, text: &str) {
        self.say(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_once_a_tenth_and_notes_at_once() {
        let out = Shared::default();
        let bars = Bars::lines(out.clone());
        let bar = bars.bar();
        bar.started("tiny", 1000);
        for bytes in 350..=1000 {
            bar.reached(bytes);
        }
        bar.finished();
        bar.note("a note");
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("tiny: 1"), "{}", lines[0]);
        assert_eq!(lines[1..8].iter().map(|it| &it[6..8]).collect::<String>(), "30405060708090");
        assert!(lines[8].starts_with("tiny: done"), "{}", lines[8]);
        assert_eq!(lines[9..], ["a note"]);
    }
}
