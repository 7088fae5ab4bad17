//! Shows on a terminal, or in a log, how a report comes along.
//!
//! A listener to [`ReportEvent`]s and nothing else; where it draws is an argument.

use std::{
    fmt,
    io::{self, Write},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{Facts, Outcome, Planned, ReportEvent, Section, plan};

const TICK: Duration = Duration::from_millis(200);
/// How often a log hears how far the writing is.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A view of a report being written; hand it every event with [`Progress::observe`].
pub struct Progress(View);

enum View {
    Bars(Bars),
    Lines(Lines),
}

impl Progress {
    /// Bars that move, for a terminal: one for the plan, one a section, one for everything.
    pub fn bars(target: ProgressDrawTarget) -> Self {
        Self(View::Bars(Bars {
            screen: MultiProgress::with_draw_target(target),
            plan: ProgressBar::hidden(),
            sections: Vec::new(),
            all: ProgressBar::hidden(),
        }))
    }

    /// Lines, for what is no terminal: one for each thing that happens, and one every few seconds
    /// while text comes.
    pub fn lines(out: impl Write + Send + 'static) -> Self {
        Self(View::Lines(Lines::new(Box::new(out), LINE_EVERY)))
    }

    pub fn observe(&mut self, event: &ReportEvent) {
        match &mut self.0 {
            View::Bars(bars) => bars.observe(event),
            // A report is not given up because nobody can read how it comes along.
            View::Lines(lines) => drop(lines.observe(event)),
        }
    }
}

struct Bars {
    screen: MultiProgress,
    plan: ProgressBar,
    sections: Vec<ProgressBar>,
    /// Its position counts tokens, its length is not known.
    all: ProgressBar,
}

impl Bars {
    fn observe(&mut self, event: &ReportEvent) {
        match event {
            ReportEvent::PlanStarted { max_tokens } => {
                self.plan = self.add("{spinner} {prefix:<34!} {pos:>4} tokens {rate} {wide_msg}");
                self.plan.set_length(*max_tokens as u64);
                self.plan.set_prefix("Plan");
            }
            ReportEvent::PlanDelta { tokens, .. } => self.plan.inc(*tokens as u64),
            ReportEvent::PlanRefused { fault } => self.plan.set_message(format!("again: {fault}")),
            ReportEvent::Planned(planned) => {
                self.plan.set_prefix(planned.plan.title.clone());
                // To finish would move the bar to its end; the position is the tokens.
                let sections = format!("{} sections", planned.plan.sections.len());
                self.plan.abandon_with_message(shortfall(planned).unwrap_or(sections));
                for (number, section) in (1..).zip(&planned.plan.sections) {
                    let bar = self.add(
                        "{spinner} {prefix:<34!} [{bar:16}] {pos:>4}/{len} tokens {rate} {wide_msg}",
                    );
                    bar.set_prefix(format!("{number:>2}. {}", section.name));
                    self.sections.push(bar);
                }
                self.all = self.add("{spinner} {prefix:<34!} {pos:>4} tokens {rate} {wide_msg}");
                self.all.set_prefix("Report");
                self.tell_done();
            }
            ReportEvent::SectionStarted { index, max_tokens } => {
                self.sections[*index].reset_elapsed();
                self.sections[*index].set_length(*max_tokens as u64);
            }
            ReportEvent::SectionDelta { index, tokens, .. } => {
                self.sections[*index].set_message("");
                self.sections[*index].inc(*tokens as u64);
                self.all.inc(*tokens as u64);
            }
            ReportEvent::SectionRetried { index, fault } => {
                self.sections[*index].set_position(0);
                self.sections[*index].reset_elapsed();
                self.sections[*index].set_message(format!("again: {fault}"));
            }
            ReportEvent::SectionFinished { index, section } => {
                self.sections[*index].abandon_with_message(ending(section));
                self.tell_done();
            }
            ReportEvent::Queued { index, waiting } => {
                let bar = index.map_or(&self.plan, |index| &self.sections[index]);
                bar.set_message(format!("waits behind {waiting} requests"));
            }
            ReportEvent::Finished(_) => self.all.abandon(),
            ReportEvent::Failed(_) => {
                for bar in self.sections.iter().chain([&self.plan, &self.all]) {
                    if !bar.is_finished() {
                        bar.abandon_with_message("failed");
                    }
                }
            }
        }
    }

    fn add(&self, template: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(template)
            .expect("the templates are constants and tests draw each")
            .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
                let rate = rate(state.pos() as usize, state.elapsed().as_secs_f64());
                // A bar that cannot be drawn has nowhere to say so.
                out.write_str(&rate).ok();
            });
        let bar = self.screen.add(ProgressBar::no_length().with_style(style));
        bar.enable_steady_tick(TICK);
        bar
    }

    fn tell_done(&self) {
        let done = self.sections.iter().filter(|bar| bar.is_finished()).count();
        self.all.set_message(format!("{done} of {} sections", self.sections.len()));
    }
}

struct Lines {
    out: Box<dyn Write + Send>,
    every: Duration,
    told: Instant,
    /// Since when the plan, or the sections, are being written, and the tokens since then.
    since: Instant,
    tokens: usize,
    names: Vec<String>,
    done: usize,
}

impl Lines {
    fn new(out: Box<dyn Write + Send>, every: Duration) -> Self {
        let now = Instant::now();
        Self { out, every, told: now, since: now, tokens: 0, names: Vec::new(), done: 0 }
    }

    fn observe(&mut self, event: &ReportEvent) -> io::Result<()> {
        match event {
            ReportEvent::PlanStarted { max_tokens } => {
                self.restart();
                writeln!(self.out, "plan: at most {max_tokens} tokens")
            }
            ReportEvent::PlanDelta { tokens, .. } => self.count(*tokens, "plan"),
            ReportEvent::PlanRefused { fault } => writeln!(self.out, "plan: again, as {fault}"),
            ReportEvent::Planned(planned) => {
                let tokens = planned.usage.completion_tokens;
                let speed = speed(tokens, planned.seconds);
                writeln!(self.out, "plan: {}, {speed}", planned.plan.title)?;
                if let Some(shortfall) = shortfall(planned) {
                    writeln!(self.out, "plan: {shortfall}")?;
                }
                self.restart();
                self.names = planned.plan.sections.iter().map(|s| s.name.clone()).collect();
                for (number, name) in (1..).zip(&self.names) {
                    writeln!(self.out, "  {number}. {name}")?;
                }
                Ok(())
            }
            ReportEvent::SectionStarted { index, max_tokens } => {
                writeln!(self.out, "section {}: at most {max_tokens} tokens", index + 1)
            }
            ReportEvent::SectionDelta { tokens, .. } => {
                let what = format!("{} of {} sections written", self.done, self.names.len());
                self.count(*tokens, &what)
            }
            ReportEvent::SectionRetried { index, fault } => {
                writeln!(self.out, "section {}: again, as {fault}", index + 1)
            }
            ReportEvent::SectionFinished { index, section } => {
                self.done += 1;
                let Section { name, usage, seconds, .. } = section;
                let speed = speed(usage.completion_tokens, *seconds);
                writeln!(self.out, "section {}, {name}: {}, {speed}", index + 1, ending(section))
            }
            ReportEvent::Queued { index, waiting } => {
                let who = index.map_or("plan".to_owned(), |index| format!("section {}", index + 1));
                writeln!(self.out, "{who}: waits behind {waiting} requests")
            }
            ReportEvent::Finished(Facts { usage, seconds, .. }) => {
                writeln!(self.out, "report: {}", speed(usage.completion_tokens, *seconds))
            }
            // Whoever asked for the report says why there is none.
            ReportEvent::Failed(_) => Ok(()),
        }
    }

    fn restart(&mut self) {
        self.told = Instant::now();
        self.since = self.told;
        self.tokens = 0;
    }

    fn count(&mut self, tokens: usize, what: &str) -> io::Result<()> {
        self.tokens += tokens;
        if self.told.elapsed() < self.every {
            return Ok(());
        }
        self.told = Instant::now();
        let speed = speed(self.tokens, self.since.elapsed().as_secs_f64());
        writeln!(self.out, "{what}: {speed}")
    }
}

fn shortfall(planned: &Planned) -> Option<String> {
    let asked = planned.short_of?;
    Some(format!("only {}", plan::shortfall(planned.plan.sections.len(), asked)))
}

fn ending(section: &Section) -> String {
    let ending = match &section.outcome {
        Outcome::Written { at_limit: false, .. } => "done",
        Outcome::Written { at_limit: true, .. } => "done, at the token limit",
        Outcome::Gap(fault) => return format!("missing, as {fault}"),
    };
    let again = if section.retried.is_some() { ", written again" } else { "" };
    format!("{ending}{again}")
}

fn speed(tokens: usize, seconds: f64) -> String {
    format!("{tokens} tokens in {seconds:.1} s, {}", rate(tokens, seconds))
}

fn rate(tokens: usize, seconds: f64) -> String {
    let rate = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
    format!("{rate:.1} tokens/s")
}
