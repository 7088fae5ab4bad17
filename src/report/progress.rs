//! Shows on a terminal, or in a log, how a report comes along.
//!
//! A listener to [`ReportEvent`]s and nothing else; where it draws is an argument.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{Facts, Lost, Outcome, Part, Planned, ReportEvent, Section, plan, synthesis};

const TICK: Duration = Duration::from_millis(200);
/// How often a log hears how far the writing is.
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR: &str = "{spinner} {prefix:<34!} [{bar:16}] {pos:>4}/{len} tokens {rate} {wide_msg}";
const COUNT: &str = "{spinner} {prefix:<34!} {pos:>4} tokens {rate} {wide_msg}";

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
            parts: BTreeMap::new(),
            all: ProgressBar::hidden(),
            pace: Pace::default(),
        }))
    }

    /// Lines, for what is no terminal: one for each thing that happens, and one every few seconds
    /// while text comes.
    pub fn lines(out: impl Write + Send + 'static) -> Self {
        Self(View::Lines(Lines::new(Box::new(out), LINE_EVERY)))
    }

    /// Of a run that is resumed, the events of its plan and finished sections come first.
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
    parts: BTreeMap<Part, ProgressBar>,
    /// Its position counts tokens, its length is not known.
    all: ProgressBar,
    pace: Pace,
}

impl Bars {
    fn observe(&mut self, event: &ReportEvent) {
        self.pace.observe(event);
        match event {
            ReportEvent::Started { .. } => {}
            ReportEvent::PlanStarted { max_tokens } => {
                self.plan = self.screen.add(bar(COUNT));
                self.plan.set_length(*max_tokens as u64);
                self.plan.set_prefix("Plan");
            }
            ReportEvent::PlanDelta { tokens, .. } => self.plan.inc(*tokens as u64),
            ReportEvent::PlanRefused { fault } => self.plan.set_message(format!("again: {fault}")),
            ReportEvent::Planned(planned) => self.begin(planned),
            ReportEvent::SectionStarted { part, max_tokens } => {
                let bar = self.of(*part);
                bar.reset_elapsed();
                bar.set_length(*max_tokens as u64);
            }
            ReportEvent::SectionDelta { part, tokens, .. } => {
                let bar = self.of(*part);
                bar.set_message("");
                bar.inc(*tokens as u64);
                self.all.inc(*tokens as u64);
                self.tell_done();
            }
            ReportEvent::SectionRetried { part, fault } => {
                let bar = self.of(*part);
                bar.set_position(0);
                bar.reset_elapsed();
                bar.set_message(format!("again: {fault}"));
            }
            ReportEvent::SectionFinished { part, section } => {
                self.of(*part).abandon_with_message(ending(section));
                self.tell_done();
            }
            ReportEvent::Queued { part, waiting } => {
                let bar = self.of(*part);
                bar.set_message(format!("waits behind {waiting} requests"));
            }
            ReportEvent::MemberLost { part, lost } => {
                self.of(*part).set_message(format!("goes on without {}", lost.member));
            }
            ReportEvent::Finished(_) => self.all.abandon(),
            ReportEvent::Failed { .. } => {
                for bar in self.parts.values().chain([&self.plan, &self.all]) {
                    if !bar.is_finished() {
                        bar.abandon_with_message("failed");
                    }
                }
            }
        }
    }

    fn begin(&mut self, planned: &Planned) {
        if planned.given {
            self.plan = self.screen.add(bar(COUNT));
        }
        self.plan.set_prefix(planned.plan.title.clone());
        // To finish would move the bar to its end; the position is the tokens.
        let sections = format!("{} sections", planned.plan.sections.len());
        self.plan.abandon_with_message(shortfall(planned).unwrap_or(sections));
        self.all = self.screen.add(bar(COUNT));
        self.all.set_prefix("Report");
        for (index, section) in planned.plan.sections.iter().enumerate() {
            let bar = self.of(Part::Section { index });
            bar.set_prefix(format!("{:>2}. {}", index + 1, section.name));
        }
        self.tell_done();
    }

    /// The part's bar; of all but the plan, above that of everything.
    fn of(&mut self, part: Part) -> ProgressBar {
        if part == Part::Plan {
            return self.plan.clone();
        }
        let new = || {
            let bar = self.screen.insert_before(&self.all, bar(BAR));
            bar.set_prefix(format!("    {}", name(part)));
            bar
        };
        self.parts.entry(part).or_insert_with(new).clone()
    }

    fn tell_done(&self) {
        let done = self.parts.values().filter(|bar| bar.is_finished()).count();
        let left = self.pace.left().map_or(String::new(), |left| format!(", {left}"));
        self.all.set_message(format!("{done} of {} parts{left}", self.parts.len()));
    }
}

fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template)
        .expect("the templates are constants and tests draw each")
        .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let rate = rate(state.pos() as usize, state.elapsed().as_secs_f64());
            // A bar that cannot be drawn has nowhere to say so.
            out.write_str(&rate).ok();
        });
    let bar = ProgressBar::no_length().with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}

/// How fast the parts are written, and what is left of their budgets.
#[derive(Default)]
struct Pace {
    /// Since when a part is written, its tokens so far and the most it can have.
    running: BTreeMap<Part, (Instant, usize, usize)>,
    /// The introduction and the conclusion are still to come.
    synthesis: bool,
}

impl Pace {
    fn observe(&mut self, event: &ReportEvent) {
        match event {
            ReportEvent::Planned(planned) => {
                self.synthesis = planned.plan.sections.len() > 1;
            }
            ReportEvent::SectionStarted { part, max_tokens } => {
                self.running.insert(*part, (Instant::now(), 0, *max_tokens));
                self.synthesis &= matches!(part, Part::Section { .. });
            }
            ReportEvent::SectionDelta { part, tokens, .. } => {
                if let Some((since, so_far, _)) = self.running.get_mut(part) {
                    // Reading the prompt is no measure of how fast it writes.
                    if *so_far == 0 {
                        *since = Instant::now();
                    }
                    *so_far += tokens;
                }
            }
            ReportEvent::SectionRetried { part, .. } => {
                if let Some((since, so_far, _)) = self.running.get_mut(part) {
                    (*since, *so_far) = (Instant::now(), 0);
                }
            }
            ReportEvent::SectionFinished { part, .. } => {
                self.running.remove(part);
            }
            _ => {}
        }
    }

    /// The longest that the rest can take at this pace, if no part is written again; `None` before
    /// there is a pace.
    fn left(&self) -> Option<String> {
        let running = || self.running.values().filter(|(_, tokens, _)| *tokens > 1);
        let tokens: usize = running().map(|(_, tokens, _)| tokens).sum();
        let seconds: f64 = running().map(|(since, ..)| since.elapsed().as_secs_f64()).sum();
        let longest = running().map(|(_, tokens, most)| most.saturating_sub(*tokens)).max()?;
        let later = if self.synthesis { synthesis::MAX_TOKENS } else { 0 };
        let left = (longest + later) as f64 * seconds / tokens as f64;
        Some(format!("at most {left:.0} s left"))
    }
}

struct Lines {
    out: Box<dyn Write + Send>,
    every: Duration,
    told: Instant,
    /// Since when the plan, or the sections, are being written, and the tokens since then.
    since: Instant,
    tokens: usize,
    sections: usize,
    done: usize,
    pace: Pace,
}

impl Lines {
    fn new(out: Box<dyn Write + Send>, every: Duration) -> Self {
        let (told, pace) = (Instant::now(), Pace::default());
        Self { out, every, told, since: told, tokens: 0, sections: 0, done: 0, pace }
    }

    fn observe(&mut self, event: &ReportEvent) -> io::Result<()> {
        self.pace.observe(event);
        match event {
            ReportEvent::Started { resumed: false, .. } => Ok(()),
            ReportEvent::Started { resumed: true, .. } => writeln!(self.out, "going on"),
            ReportEvent::PlanStarted { max_tokens } => {
                self.restart();
                writeln!(self.out, "plan: at most {max_tokens} tokens")
            }
            ReportEvent::PlanDelta { tokens, .. } => self.count(*tokens, "plan"),
            ReportEvent::PlanRefused { fault } => writeln!(self.out, "plan: again, as {fault}"),
            ReportEvent::Planned(planned) => self.begin(planned),
            ReportEvent::SectionStarted { part, max_tokens } => {
                writeln!(self.out, "{}: at most {max_tokens} tokens", name(*part))
            }
            ReportEvent::SectionDelta { tokens, .. } => {
                let mut what = format!("{} of {} sections written", self.done, self.sections);
                if let Some(left) = self.pace.left() {
                    what = format!("{what}, {left}");
                }
                self.count(*tokens, &what)
            }
            ReportEvent::SectionRetried { part, fault } => {
                writeln!(self.out, "{}: again, as {fault}", name(*part))
            }
            ReportEvent::SectionFinished { part, section } => {
                self.done += usize::from(matches!(part, Part::Section { .. }));
                let Section { name: heading, usage, seconds, .. } = section;
                let speed = speed(usage.completion_tokens, *seconds);
                let who = match part {
                    Part::Section { .. } => format!("{}, {heading}", name(*part)),
                    part => name(*part),
                };
                writeln!(self.out, "{who}: {}, {speed}", ending(section))
            }
            ReportEvent::Queued { part, waiting } => {
                writeln!(self.out, "{}: waits behind {waiting} requests", name(*part))
            }
            ReportEvent::MemberLost { part, lost: Lost { member, reason } } => {
                let part = name(*part);
                writeln!(self.out, "{part}: goes on without {member}, as {reason}")
            }
            ReportEvent::Finished(Facts { usage, seconds, .. }) => {
                writeln!(self.out, "report: {}", speed(usage.completion_tokens, *seconds))
            }
            // Whoever asked for the report says why there is none.
            ReportEvent::Failed { .. } => Ok(()),
        }
    }

    fn begin(&mut self, planned: &Planned) -> io::Result<()> {
        let title = &planned.plan.title;
        if planned.given {
            writeln!(self.out, "plan: {title}, as given")?;
        } else {
            let speed = speed(planned.usage.completion_tokens, planned.seconds);
            writeln!(self.out, "plan: {title}, {speed}")?;
        }
        if let Some(shortfall) = shortfall(planned) {
            writeln!(self.out, "plan: {shortfall}")?;
        }
        self.restart();
        self.sections = planned.plan.sections.len();
        for (number, section) in (1..).zip(&planned.plan.sections) {
            writeln!(self.out, "  {number}. {}", section.name)?;
        }
        Ok(())
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

fn name(part: Part) -> String {
    match part {
        Part::Plan => "plan".to_owned(),
        Part::Introduction => "introduction".to_owned(),
        Part::Section { index } => format!("section {}", index + 1),
        Part::Conclusion => "conclusion".to_owned(),
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
        Outcome::Gap { fault } => return format!("missing, as {fault}"),
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
