//! `tutti eval`: whether an ensemble is better than its members.

mod judged;
mod plan;
mod tune;
mod view;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use tutti::{
    config::Config,
    engine::{Engine, Rule, WeightsRequest},
    eval::{
        Variants,
        data::Rows,
        log::{self, Header, Log, Record},
        pictures, run,
        suite::{FEWEST, SETS, Set, Suite},
        summary, table,
    },
    store::Bars,
};

use super::load;
use view::View;

#[derive(clap::Args)]
#[command(after_help = "\
A run that was interrupted goes on where it was if the same command is given again; what is \
finished is not asked twice. The folder of a run holds log.jsonl (every answer), table.md and \
pictures, which `--from` makes again from the log.")]
pub(crate) struct Args {
    /// How much is asked: `quick` takes minutes, `full` hours
    #[arg(value_enum, default_value_t = SuiteName::Quick)]
    suite: SuiteName,
    /// The ensemble that is held against its members [default: the configuration's default model]
    #[arg(long, value_name = "NAME")]
    ensemble: Option<String>,
    #[arg(long, value_name = "TASK,TASK", value_delimiter = ',', help = tasks_help())]
    task: Vec<String>,
    /// A file of your own instead, as JSON lines; with --kind
    #[arg(long, value_name = "FILE", requires = "kind", conflicts_with = "task")]
    data: Option<PathBuf>,
    /// What its rows are: mc (question, choices, answer from 0), exact (question, answer), bpb
    /// (text), or the shape of a published data set: mmlu, arc, hellaswag, truthfulqa, gsm8k,
    /// humaneval, texts, longwrite
    #[arg(long, value_name = "KIND", requires = "data")]
    kind: Option<Rows>,
    /// The most samples of each task, a quarter of them to choose by; at least 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(FEWEST as i64..))]
    limit: Option<u32>,
    /// Only the quarter of the samples to choose settings by; the others are then still unseen
    #[arg(long)]
    dev: bool,
    /// The ensemble with these rules too (mean, power:R, geometric, max, majority)
    #[arg(long, value_name = "RULE,RULE", value_delimiter = ',', value_parser = rule)]
    rule: Vec<Rule>,
    /// With these weights too: one for each member in order, as 0.4:0.6, or prompt, or online
    #[arg(long, value_name = "W:W,W:W", value_delimiter = ',', value_parser = weights)]
    weights: Vec<WeightsRequest>,
    /// With these thresholds of the gate too; of several of these three all combinations are run
    #[arg(long, value_name = "P,P", value_delimiter = ',', value_parser = gate)]
    gate: Vec<f64>,
    /// Find weights, and a calibration temperature for each member, under which texts take the
    /// fewest bits per byte, from one reading of them: of `texts`, or what --task or --data names
    #[arg(long, value_enum, conflicts_with_all = ["rule", "weights", "gate", "dev"])]
    tune: Option<Tune>,
    /// Of all that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder of the run [default: eval-SUITE, eval-SUITE-dev or tune-SUITE]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Let another model say which reports are better: the OpenAI-compatible address before
    /// /chat/completions; also with --from
    #[arg(long, value_name = "URL", requires = "judge_model", conflicts_with = "tune")]
    judge: Option<String>,
    /// What the judge is called there; its key is the environment's TUTTI_JUDGE_KEY
    #[arg(long, value_name = "NAME", requires = "judge")]
    judge_model: Option<String>,
    /// Make table and pictures again from the log of a run, and ask no model of ours
    #[arg(long, value_name = "LOG", conflicts_with_all = ["suite", "ensemble", "task", "data", "limit",
        "dev", "rule", "weights", "gate", "tune", "seed", "out"])]
    from: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum SuiteName {
    Quick,
    Full,
}

#[derive(Clone, Copy, ValueEnum)]
enum Tune {
    Weights,
}

impl Args {
    fn suite(&self) -> Suite {
        match self.suite {
            SuiteName::Quick => Suite::Quick,
            SuiteName::Full => Suite::Full,
        }
    }

    /// Whether a data set is asked.
    fn asks(&self, set: Set) -> bool {
        match (&self.task[..], self.tune) {
            ([], None) => self.suite().asks(set),
            ([], Some(Tune::Weights)) => set.name == tune::SET,
            (names, _) => names.iter().any(|name| name == set.name),
        }
    }

    /// How many samples of it.
    fn limit(&self, set: Set) -> Option<usize> {
        let of_suite = self.suite().limit(set);
        let usual = of_suite.map(|of_suite| self.tune.map_or(of_suite, |_| tune::SAMPLES));
        self.limit.map(|limit| limit as usize).or(usual)
    }

    fn variants(&self) -> Variants {
        Variants {
            rules: self.rule.clone(),
            weights: self.weights.clone(),
            gates: self.gate.clone(),
        }
    }
}

pub(super) fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    if let Some(path) = &args.from {
        let (header, records) = log::read(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let judged = judged::ask(args, folder, (&header, &records));
        tell(folder, &header, &records)?;
        return judged;
    }
    if let Some(Tune::Weights) = args.tune {
        return tune::run(config, args);
    }
    let usual = || format!("eval-{}{}", args.suite(), if args.dev { "-dev" } else { "" });
    let folder = args.out.clone().unwrap_or_else(|| usual().into());
    let bars = Bars::stderr();
    // All that can be refused is refused before models are loaded.
    let name = plan::ensemble(config, args.ensemble.as_deref())?;
    plan::check_variants(config, args, name)?;
    let tasks = plan::tasks(config, args, name, &bars)?;
    judged::check(args, &tasks)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let loaded = load::ensembles(config, &[name], &bars)?;
    let models = plan::models(config, name, &loaded, &bars)?;
    let engine = Arc::new(plan::engine(config, loaded)?);
    let plan = plan::plan(config, args, &*engine, (name, tasks, models))?;
    let header = plan.header();
    let mut log = Log::open(&folder.join("log.jsonl"), &header)?;
    if !args.dev {
        view::print(&(table::detectable(&plan) + "\n"));
    }
    let mut view = View::begin(&plan, log.finished());
    ask(engine, &plan, &mut log, &mut view)?;
    drop(view);
    let judged = judged::ask(args, &folder, (&header, log.records()));
    tell(&folder, &header, log.records())?;
    judged
}

fn ask(
    engine: Arc<Engine>,
    plan: &run::Plan,
    log: &mut Log,
    view: &mut View,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let mut observer = |event: run::Event<'_>| view.show(&event);
    Ok(runtime.block_on(run::run(engine, plan, log, &mut observer))?)
}

/// Writes and prints what a log shows.
fn tell(folder: &Path, header: &Header, records: &[Record]) -> anyhow::Result<()> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let text = table::markdown(header, records) + &judged::table(folder)?;
    write("table.md", &text)?;
    for (name, picture) in pictures::of(header, records)? {
        write(&name, &picture)?;
    }
    writeln!(io::stdout(), "\n{text}")?;
    writeln!(io::stdout(), "{}", folder.join("table.md").display())?;
    if summary::checks(header, records).iter().any(|check| !check.different.is_empty()) {
        bail!("copies of a member are not that member (see the table): no figure can be trusted");
    }
    Ok(())
}

fn tasks_help() -> String {
    let names: Vec<&str> = SETS.iter().map(|set| set.name).collect();
    format!("Only these of the tasks: {} (reports)", names.join(", "))
}

fn rule(text: &str) -> Result<Rule, String> {
    text.parse().map_err(|error| format!("the rule {error}"))
}

fn weights(text: &str) -> Result<WeightsRequest, String> {
    if let Ok(way) = text.parse() {
        return Ok(WeightsRequest::By(way));
    }
    let weights: Result<Vec<f32>, _> = text.split(':').map(str::parse).collect();
    match weights {
        Ok(weights) if weights.iter().all(|&weight| weight > 0.0 && weight.is_finite()) => {
            Ok(WeightsRequest::InOrder(weights))
        }
        _ => Err("it must be numbers above 0 with colons between, prompt or online; a member of \
                  weight 0 is the others alone"
            .to_owned()),
    }
}

fn gate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(gate) if gate > 0.0 => Ok(gate),
        _ => Err("it must be above 0; at 0 the ensemble is its primary member alone".to_owned()),
    }
}

/// Names that are not among those that are known.
fn unknown(what: &str, name: &str, known: &[&str]) -> anyhow::Error {
    anyhow::anyhow!("there is no {what} `{name}`; there are: {}", known.join(", "))
}
