//! Writes a report, or the rest of one.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context, bail};
use indicatif::ProgressDrawTarget;
use tutti::{
    config::Config,
    engine::Engine,
    report::{
        MAX_SECTIONS, Plan, Report, ReportEvent, ReportRequest,
        compare::{self, Compared, Comparison, Happens, Written},
        export::Format,
        progress::Progress,
        runs::{Runs, Session},
    },
    sampling::SamplingParams,
    store::Bars,
};

use super::{INTERRUPTED, TERMINATED, WHOLE, WITH_GAPS};
use crate::cli::{self, load, place, serve};

#[derive(clap::Args)]
pub(crate) struct NewArgs {
    /// What the report is about, in any language
    #[arg(required = true)]
    topic: Vec<String>,
    #[command(flatten)]
    output: Output,
    #[arg(long, value_name = "N", help = format!("Exactly so many sections, 1 to {MAX_SECTIONS} [default: the planner chooses]"))]
    sections: Option<usize>,
    /// A plan to write as it is, as --plan-only prints one
    #[arg(long, value_name = "FILE", conflicts_with = "sections")]
    plan: Option<PathBuf>,
    /// Stop after the plan and print it; resume goes on with it, --plan with an edited one
    #[arg(long, conflicts_with_all = ["plan", "json", "out"])]
    plan_only: bool,
    /// The most tokens of a section
    #[arg(long, value_name = "N", default_value_t = 400)]
    max_tokens: usize,
    /// How often a section that fails, loops or does not end within its tokens is written again;
    /// each time may cost as much as the first [default: the configuration's]
    #[arg(long, value_name = "N")]
    retries: Option<usize>,
    /// The same seed gives the same report [default: a new one each time, told in the report]
    #[arg(long)]
    seed: Option<u64>,
    /// An ensemble, or one model alone [default: the configuration's]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Write it with the ensemble and with each of its members on the same plan, side by side
    #[arg(long, conflicts_with = "plan_only")]
    compare: bool,
}

#[derive(clap::Args)]
pub(crate) struct ResumeArgs {
    /// A report's id, or the beginning of it
    id: String,
    #[command(flatten)]
    output: Output,
}

#[derive(clap::Args)]
struct Output {
    /// The document to write, as .md, .html, .json, .docx or .pdf (a comparison: .html or .json),
    /// or - for the standard output; one that is there is replaced when the new one is complete
    /// [default: report.md, comparison.html]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Do not show how the report comes along
    #[arg(long, short)]
    quiet: bool,
    /// Print every event as a line of JSON instead
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// What was typed before the command.
    #[arg(skip)]
    program: String,
}

pub(super) fn new(config: &Config, program: String, mut args: NewArgs) -> anyhow::Result<u8> {
    args.output.program = program;
    let request = ReportRequest {
        topic: super::topic(args.topic),
        model: args.model.unwrap_or_else(|| config.default_model.clone()),
        sections: args.sections,
        plan: args.plan.as_deref().map(read_plan).transpose()?,
        max_tokens: args.max_tokens,
        retries: args.retries.unwrap_or(config.report.retries),
        plan_max_tokens: None,
        sampling: SamplingParams {
            seed: args.seed.unwrap_or_else(new_seed),
            ..config.sampling.clone()
        },
    };
    // All that can be refused is refused before anything is fetched or loaded.
    request.check()?;
    args.output.check(args.compare)?;
    let runs = super::runs(config)?;
    if args.compare {
        let models = compared(config, &request.model)?;
        let engine = load::engine(config, &models, &Bars::stderr())?;
        let id = runs.begin_comparison(request)?.id().to_owned();
        return compare(&runs, &id, engine, &args.output);
    }
    let engine = load::engine(config, &[&request.model], &Bars::stderr())?;
    let session = runs.begin(request)?;
    if args.plan_only {
        plan(session, engine, &args.output)
    } else {
        write(session, engine, &args.output)
    }
}

pub(super) fn resume(
    config: &Config,
    program: String,
    runs: &Runs,
    mut args: ResumeArgs,
) -> anyhow::Result<u8> {
    args.output.program = program;
    let run = runs.load(&args.id)?.summary;
    let is_compared = run.comparison.as_ref() == Some(&run.id);
    args.output.check(is_compared)?;
    if is_compared {
        let models = compared(config, &run.model)?;
        let engine = load::engine(config, &models, &Bars::stderr())?;
        return compare(runs, &run.id, engine, &args.output);
    }
    // Taken before the models are loaded, so that nobody loads them in vain.
    let session = runs.resume(&args.id)?;
    let engine = load::engine(config, &[&session.request().model], &Bars::stderr())?;
    write(session, engine, &args.output)
}

/// Writes what is not done of a run, and the document.
fn write(session: Session, engine: Engine, output: &Output) -> anyhow::Result<u8> {
    let id = session.id().to_owned();
    let mut view = output.view(&id);
    for event in session.done().events() {
        view.show(&event);
    }
    let mut listener = |_: u64, event: &ReportEvent| view.show(event);
    let ended = until_signal(session.write(Arc::new(engine), &mut listener))?;
    let report = match ended {
        Ok(report) => report,
        Err(signal) => return Ok(output.interrupted(&id, signal)),
    };
    output.write(&output.format(false)?.document(&report)?, false)?;
    Ok(exit_code(&report))
}

/// Writes what is not done of a comparison, and its document.
fn compare(runs: &Runs, id: &str, engine: Engine, output: &Output) -> anyhow::Result<u8> {
    let mut view = View::Nothing;
    let mut writer = String::new();
    let mut listener = |happens: Happens<'_>| match happens {
        Happens::Begins { model, id } => {
            view = output.view(&format!("{id} by {model}"));
            model.clone_into(&mut writer);
        }
        Happens::Report(event) => view.show_by(event, &writer),
        Happens::Scores { model } if !output.quiet && !output.json => {
            tell(&format!("{model} reads what the others wrote"));
        }
        Happens::Scores { .. } => {}
    };
    let work = compare::compare(Arc::new(engine), runs, id, &mut listener);
    let comparison = match until_signal(work)? {
        Ok(comparison) => comparison,
        Err(signal) => return Ok(output.interrupted(id, signal)),
    };
    output.write(&output.format(true)?.comparison(&comparison)?, true)?;
    Ok(comparison_code(&comparison))
}

/// The names of what a comparison needs; refused for a model alone before anything is loaded.
fn compared<'a>(config: &'a Config, model: &'a str) -> anyhow::Result<Vec<&'a str>> {
    let names = load::with_members(config, model);
    let members: Vec<String> = names[1..].iter().map(|&name| name.to_owned()).collect();
    compare::compared_models(model, &members)?;
    Ok(names)
}

/// Only plans, and prints the plan.
fn plan(session: Session, engine: Engine, output: &Output) -> anyhow::Result<u8> {
    let id = session.id().to_owned();
    let mut view = output.view(&id);
    let mut listener = |_: u64, event: &ReportEvent| view.show(event);
    match until_signal(session.plan(Arc::new(engine), &mut listener))? {
        Ok(planned) => {
            writeln!(io::stdout(), "{}", planned.plan.to_json())?;
            tell(&format!("go on with `{}`, or edit the plan and use --plan", output.again(&id)));
            Ok(WHOLE)
        }
        Err(signal) => Ok(output.interrupted(&id, signal)),
    }
}

/// The work's result, or the exit code of the signal that ended it.
fn until_signal<T, E: std::error::Error + Send + Sync + 'static>(
    work: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<Result<T, u8>> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        tokio::select! {
            result = work => Ok(Ok(result.context("no report")?)),
            signal = serve::signalled() => Ok(Err(match signal {
                serve::Signal::Interrupt => INTERRUPTED,
                serve::Signal::Terminate => TERMINATED,
            })),
        }
    })
}

pub(super) fn exit_code(report: &Report) -> u8 {
    if report.parts().any(|part| part.gap().is_some()) { WITH_GAPS } else { WHOLE }
}

/// A model that could write no report leaves a gap in the comparison.
pub(super) fn comparison_code(comparison: &Comparison) -> u8 {
    let code = |entry: &Compared| match &entry.outcome {
        Written::Report(judged) => exit_code(&judged.report),
        Written::Failed { .. } => WITH_GAPS,
    };
    comparison.entries.iter().map(code).max().unwrap_or(WHOLE)
}

impl Output {
    fn check(&self, is_comparison: bool) -> anyhow::Result<()> {
        self.format(is_comparison)?.check()?;
        if self.json && self.out.as_deref().is_some_and(place::is_output) {
            bail!("--json writes events to the standard output; name another file with --out");
        }
        place::check(self.file(is_comparison))
    }

    /// What to type so that a run goes on to the same document.
    fn again(&self, id: &str) -> String {
        let mut command = format!("{} report resume {id}", self.program);
        if let Some(out) = &self.out {
            command += &format!(" --out {}", cli::quoted(&out.display().to_string()));
        }
        command
    }

    fn interrupted(&self, id: &str, code: u8) -> u8 {
        tell(&format!("interrupted; `{}` goes on with it", self.again(id)));
        code
    }

    fn file(&self, is_comparison: bool) -> &Path {
        let usual = if is_comparison { "comparison.html" } else { "report.md" };
        self.out.as_deref().unwrap_or(Path::new(usual))
    }

    fn format(&self, is_comparison: bool) -> anyhow::Result<Format> {
        let file = self.file(is_comparison);
        let format = match is_comparison {
            true if place::is_output(file) => Format::Html,
            _ => Format::of(file)?,
        };
        if is_comparison {
            format.check_comparison()?;
        }
        Ok(format)
    }

    fn write(&self, document: &[u8], is_comparison: bool) -> anyhow::Result<()> {
        let file = self.file(is_comparison);
        place::put(document, file)?;
        if !self.json {
            place::tell(file)?;
        }
        Ok(())
    }

    fn view(&self, id: &str) -> View {
        if self.json {
            return View::Json;
        }
        if self.quiet {
            return View::Nothing;
        }
        tell(&format!("report {id}"));
        View::Progress(if io::stderr().is_terminal() {
            Progress::bars(ProgressDrawTarget::stderr())
        } else {
            Progress::lines(io::stderr())
        })
    }
}

/// Where events are shown.
enum View {
    Nothing,
    Progress(Progress),
    Json,
}

impl View {
    fn show(&mut self, event: &ReportEvent) {
        match self {
            Self::Nothing => {}
            Self::Progress(progress) => progress.observe(event),
            Self::Json => line(event),
        }
    }

    /// Shows an event of one of several reports.
    fn show_by(&mut self, event: &ReportEvent, model: &str) {
        match self {
            Self::Json => line(&By { model, event }),
            view => view.show(event),
        }
    }
}

/// An event and whose it is.
#[derive(serde::Serialize)]
struct By<'a> {
    model: &'a str,
    #[serde(flatten)]
    event: &'a ReportEvent,
}

fn line(event: &impl serde::Serialize) {
    let line = serde_json::to_string(event).expect("an event's keys are strings");
    // A report is not given up because nobody reads its events; it is kept.
    let _ = writeln!(io::stdout(), "{line}");
}

fn read_plan(file: &Path) -> anyhow::Result<Plan> {
    let json =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Plan::parse(&json).with_context(|| format!("{} is no plan", file.display()))
}

/// A seed that another run is unlikely to have; small enough to be typed again.
fn new_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos()) ^ (since.as_secs() & 0xFFFF)
}

/// Says something beside the output; if the standard error is closed there is no one to tell.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
