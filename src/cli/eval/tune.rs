//! `tutti eval --tune weights`: finds weights and calibration temperatures of an ensemble.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, bail};
use tutti::{
    config::{Config, EnsembleConfig},
    engine::{FusionRequest, Generate, Rule, WeightsRequest},
    eval::{
        System,
        log::Log,
        run::Plan,
        task::{Kind, Task},
        tune::{self, Setting, Stage},
    },
    store::Bars,
};

use super::{Args, ask, load, plan, view::View};

/// The data set that is read if none is named, and how many of its samples.
pub(super) const SET: &str = "texts";
pub(super) const SAMPLES: usize = 120;

/// No probability is as large: the gate stays shut.
const NO_GATE: f64 = 2.0;

pub(super) fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    let folder = args.out.clone().unwrap_or_else(|| format!("tune-{}", args.suite()).into());
    let bars = Bars::stderr();
    let name = plan::ensemble(config, args.ensemble.as_deref())?;
    let mut set =
        config.ensemble(name).context("an ensemble is one of the configuration's")?.clone();
    // As it is loaded.
    set.members.retain(|member| member.weight > 0.0);
    let tasks = plan::tasks(config, args, name, &bars)?;
    let tasks = tasks.into_iter().map(masses).collect::<anyhow::Result<_>>()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let loaded = load::ensembles(config, &[name], &bars)?;
    let models = plan::models(config, name, &loaded, &bars)?;
    let engine = Arc::new(plan::engine(config, loaded)?);
    let plan = Plan {
        tasks,
        systems: vec![mean(&*engine, &set)?],
        copies: Vec::new(),
        checked: 0,
        models,
        seed: args.seed,
        device: plan::device(config),
        at_once: plan::at_once(config),
    };
    let mut log = Log::open(&folder.join("log.jsonl"), &plan.header())?;
    let mut view = View::begin(&plan, log.finished());
    ask(engine, &plan, &mut log, &mut view)?;
    drop(view);
    let weights: Vec<f64> = set.members.iter().map(|member| member.weight).collect();
    let stages = tune::tune(log.records(), &weights, args.seed)?;
    tell(&folder.join("tune.md"), &set, &stages)
}

/// Texts whose bits per byte are asked for, to be read member by member.
fn masses(mut task: Task) -> anyhow::Result<Task> {
    let Kind::BitsPerByte { bytes } = task.kind else {
        bail!(
            "`--tune` reads texts, and {} are none; name the task {SET}, or files of texts with \
               `--data` and `--kind bpb`",
            task.name
        );
    };
    task.kind = Kind::Masses { bytes };
    // Of the published texts, those that nobody wrote say nothing of what models are asked for.
    task.samples.retain(|sample| !sample.group.starts_with("Random"));
    Ok(task)
}

/// The ensemble with the rule and the weights that are tuned.
fn mean(engine: &dyn Generate, set: &EnsembleConfig) -> anyhow::Result<System> {
    let cards = engine.models();
    let card = cards.iter().find(|card| card.name == set.name).context("it was loaded")?;
    let weights = set.members.iter().map(|member| member.weight as f32).collect();
    let fusion = FusionRequest {
        rule: Some(Rule::Mean),
        weights: Some(WeightsRequest::InOrder(weights)),
        gate: Some(NO_GATE),
        ..FusionRequest::default()
    };
    let described = format!("{}; its mean, with fixed weights and no gate", card.fusion);
    Ok(System { fusion, described, ..System::ensemble(engine, card, None)? })
}

/// Writes and prints what was found, the last of it as a part of a configuration.
fn tell(path: &Path, set: &EnsembleConfig, stages: &[Stage]) -> anyhow::Result<()> {
    let names: Vec<String> = set.members.iter().map(|member| member.model.clone()).collect();
    let table = tune::table(stages, &names);
    let found = &stages.last().context("the setting that one begins with is one")?.setting;
    let text = format!(
        "Of the rule mean with fixed weights and without a gate:\n\n{table}\n\
         The last of these, for a tutti.toml:\n\n```toml\n{}```\n",
        with(set, found).to_toml()
    );
    fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(writeln!(io::stdout(), "\n{text}\n{}", path.display())?)
}

/// The ensemble with other weights and temperatures.
fn with(set: &EnsembleConfig, setting: &Setting) -> EnsembleConfig {
    let mut set = set.clone();
    let found = setting.weights.iter().zip(setting.factors());
    for (member, (weight, factor)) in set.members.iter_mut().zip(found) {
        member.weight = rounded(*weight);
        member.temperature = rounded(member.temperature * f64::from(factor));
    }
    set
}

/// Without the digits that scaling leaves.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}
