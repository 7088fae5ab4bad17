//! Looks at reports that are kept.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::SystemTime,
};

use anyhow::bail;
use tutti::report::{
    Outcome, Part, compare,
    export::Format,
    runs::{Run, Runs, State},
};

use super::{
    WHOLE,
    write::{comparison_code, exit_code},
};
use crate::cli::place;

#[derive(clap::Args)]
pub(crate) struct ExportArgs {
    /// A report's id, or the beginning of it
    id: String,
    /// md, html, json, docx or pdf [default: what the file's name says, else md]
    #[arg(long)]
    format: Option<Format>,
    /// The document to write, `-` for the standard output [default: report.FORMAT,
    /// comparison.FORMAT]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The whole comparison that the report belongs to, as html or json
    #[arg(long)]
    compare: bool,
}

pub(super) fn list(runs: &Runs) -> anyhow::Result<u8> {
    let mut out = io::stdout().lock();
    for run in runs.list()? {
        let title = run.title.as_ref().unwrap_or(&run.topic);
        let (id, state, age) = (&run.id, word(run.state), age(run.created));
        writeln!(out, "{id}  {state:<11}  {age:>12}  {}  {}", run.model, one_line(title))?;
    }
    Ok(WHOLE)
}

pub(super) fn show(runs: &Runs, id: &str) -> anyhow::Result<u8> {
    let run = runs.load(id)?;
    let mut out = io::stdout().lock();
    let (summary, request) = (&run.summary, &run.request);
    writeln!(out, "report   {}", summary.id)?;
    writeln!(out, "state    {}, begun {}", word(summary.state), age(summary.created))?;
    writeln!(out, "topic    {}", one_line(&request.topic))?;
    writeln!(out, "model    {}, seed {}", request.model, request.sampling.seed)?;
    if let Some(first) = &summary.comparison {
        let of = if *first == summary.id { "its members" } else { first };
        writeln!(out, "compared with {of}")?;
    }
    if let Ok(report) = run.report() {
        let (tokens, seconds) = (report.facts.usage.completion_tokens, report.facts.seconds);
        let rate = tokens as f64 / seconds.max(f64::MIN_POSITIVE);
        writeln!(out, "written  {tokens} tokens in {seconds:.1} s, {rate:.1} tokens/s")?;
    }
    if let Some(failure) = &run.failure {
        writeln!(out, "failed   {failure}")?;
    }
    parts(&run, &mut out)?;
    if matches!(summary.state, State::Interrupted | State::Failed | State::Cancelled) {
        writeln!(out, "\n`tutti report resume {}` goes on with it", summary.id)?;
    }
    Ok(WHOLE)
}

fn parts(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let Some(planned) = run.done.planned() else { return Ok(()) };
    writeln!(out, "\n{}", planned.plan.title)?;
    let sections = planned.plan.sections.iter().enumerate();
    let planned = sections.map(|(index, section)| (Part::Section { index }, &section.name));
    let done =
        |part: Part| run.done.parts().find(|(of, _)| *of == part).map(|(_, section)| section);
    for (part, name) in planned {
        let how = match done(part).map(|section| (&section.outcome, section.usage)) {
            None => "to be written".to_owned(),
            Some((Outcome::Gap { fault }, _)) => format!("missing, as {fault}"),
            Some((Outcome::Written { at_limit, .. }, usage)) => {
                let limit = if *at_limit { ", at the token limit" } else { "" };
                format!("{} tokens{limit}", usage.completion_tokens)
            }
        };
        let Part::Section { index } = part else { continue };
        writeln!(out, "  {}. {name}: {how}", index + 1)?;
    }
    Ok(())
}

pub(super) fn export(runs: &Runs, args: &ExportArgs) -> anyhow::Result<u8> {
    let format = match (args.format, &args.out) {
        (Some(format), Some(out))
            if out.extension().is_some() && Format::of(out).is_ok_and(|of| of != format) =>
        {
            bail!(
                "{} ends as another format than --format says; leave one of them out",
                out.display()
            )
        }
        (Some(format), _) => format,
        (None, Some(out)) if !place::is_output(out) => Format::of(out)?,
        _ if args.compare => Format::Html,
        _ => Format::Md,
    };
    let (name, document, code) = if args.compare {
        let run = runs.load(&args.id)?.summary;
        let comparison = compare::load(runs, run.comparison.as_ref().unwrap_or(&run.id))?;
        ("comparison", format.comparison(&comparison)?, comparison_code(&comparison))
    } else {
        let report = runs.load(&args.id)?.report()?;
        ("report", format.document(&report)?, exit_code(&report))
    };
    let default = || format!("{name}.{}", format.extension()).into();
    let out = args.out.clone().unwrap_or_else(default);
    place::put(&document, &out)?;
    place::tell(&out)?;
    Ok(code)
}

fn word(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Interrupted => "interrupted",
        State::Finished => "finished",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    }
}

fn age(created: SystemTime) -> String {
    let seconds = created.elapsed().unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
