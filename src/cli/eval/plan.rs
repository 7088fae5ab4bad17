//! From arguments and configuration to what is run.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use tutti::{
    config::{Config, EngineConfig},
    engine::{Engine, Generate, ModelCard, WeightsRequest},
    ensemble::{Ensemble, Member},
    eval::{
        Split, System,
        data::{self, Rows},
        log::ModelHeader,
        run::Plan,
        sandbox::SandboxError,
        suite::{FEWEST, SCHEMA, SETS, Set},
        task::{Kind, Source, Task},
    },
    sampling::SamplingParams,
    store::{self, Bars},
};

use super::{Args, load, unknown};
use crate::cli::Files;

/// The name of the ensemble that is evaluated.
pub(super) fn ensemble<'a>(config: &'a Config, name: Option<&'a str>) -> anyhow::Result<&'a str> {
    let name = name.unwrap_or(&config.default_model);
    let known = || config.ensembles.iter().filter(|ensemble| ensemble.members.len() > 1);
    if known().any(|ensemble| ensemble.name == name) {
        return Ok(name);
    }
    let names: Vec<&str> = known().map(|ensemble| ensemble.name.as_str()).collect();
    Err(unknown("ensemble of several members", name, &names))
}

/// What is asked. Fetches what is not on the disk.
pub(super) fn tasks(
    config: &Config,
    args: &Args,
    ensemble: &str,
    bars: &Bars,
) -> anyhow::Result<Vec<Task>> {
    let mut tasks = of_all_splits(config, args, ensemble, bars)?;
    for task in &mut tasks {
        let count = |split| task.samples.iter().filter(|sample| sample.split() == split).count();
        let (dev, test) = (count(Split::Dev), count(Split::Test));
        if dev + test < FEWEST || test == 0 || args.dev && dev == 0 {
            bail!(
                "of the {} samples of {} {dev} are to choose by and {test} to tell of, which their \
                 ids decide; give more",
                dev + test,
                task.name
            );
        }
        if args.dev {
            task.samples.retain(|sample| sample.split() == Split::Dev);
        }
    }
    Ok(tasks)
}

/// Refuses variants that the ensemble could not be fused in, and the same one twice.
pub(super) fn check_variants(config: &Config, args: &Args, ensemble: &str) -> anyhow::Result<()> {
    let members: Vec<&str> = config
        .ensemble(ensemble)
        .into_iter()
        .flat_map(|set| &set.members)
        .filter(|member| member.weight > 0.0)
        .map(|member| member.model.as_str())
        .collect();
    for weights in &args.weights {
        if let WeightsRequest::InOrder(weights) = weights
            && weights.len() != members.len()
        {
            bail!(
                "`--weights` has {} for `{ensemble}`, which has {} members: {}; there is a colon \
                 between the weights of one variant, a comma between variants",
                weights.iter().map(f32::to_string).collect::<Vec<_>>().join(":"),
                members.len(),
                members.join(", ")
            );
        }
    }
    twice("rule", &args.rule)?;
    twice("weights", &args.weights)?;
    twice("gate", &args.gate)
}

fn twice<T: PartialEq>(flag: &str, given: &[T]) -> anyhow::Result<()> {
    let again = given.iter().enumerate().find(|(at, one)| given[..*at].contains(one));
    if let Some((at, _)) = again {
        bail!("variant {} of `--{flag}` was there before", at + 1);
    }
    Ok(())
}

fn of_all_splits(
    config: &Config,
    args: &Args,
    ensemble: &str,
    bars: &Bars,
) -> anyhow::Result<Vec<Task>> {
    let files = Files::open(config)?;
    let suite = args.suite();
    let sampling = SamplingParams { seed: args.seed, ..config.sampling.clone() };
    let kind = |rows| suite.kind(rows, (ensemble, &sampling));
    if let (Some(path), Some(rows)) = (&args.data, args.kind) {
        let samples = data::load(rows, path)?;
        let file = files.store.measure(path, &bars.bar())?;
        let source = Source { name: file.name.clone(), sha256: file.sha256 };
        let kind = kind(rows)?;
        let task = Task { name: file.name, kind, samples, sources: vec![source] };
        return Ok(vec![task.limited(args.limit.map(|limit| limit as usize))]);
    }
    let names: Vec<&str> = SETS.iter().map(|set| set.name).collect();
    if let Some(stray) = args.task.iter().find(|task| !names.contains(&task.as_str())) {
        return Err(unknown("task", stray, &names));
    }
    let wanted = |set: &&Set| args.asks(**set);
    let task = |set: &Set| {
        let task = if set.name == SCHEMA {
            suite.schema()
        } else {
            published(&files, set.name, bars, &kind)?
        };
        Ok(task.limited(args.limit(*set)))
    };
    SETS.iter().filter(wanted).map(task).collect()
}

/// A data set with a manifest.
fn published(
    files: &Files,
    name: &str,
    bars: &Bars,
    kind: &dyn Fn(Rows) -> Result<Kind, SandboxError>,
) -> anyhow::Result<Task> {
    let data_sets = store::data_sets(Path::new("eval/data"))?;
    let (path, rows) = files.store.ensure_samples(&data_sets, name, &bars.bar())?;
    let rows = rows.parse()?;
    let kind = kind(rows).with_context(|| format!("cannot run the task {name}"))?;
    let sums = store::find(&data_sets, name)?.files.iter();
    let sources = sums.map(|file| Source { name: file.name.clone(), sha256: file.sha256.clone() });
    Ok(Task {
        name: name.to_owned(),
        kind,
        samples: data::load(rows, &path)?,
        sources: sources.collect(),
    })
}

/// What the members' weights are.
pub(super) fn models(
    config: &Config,
    ensemble: &str,
    loaded: &load::Loaded,
    bars: &Bars,
) -> anyhow::Result<Vec<ModelHeader>> {
    let files = Files::open(config)?;
    let members = load::with_members(config, ensemble).into_iter().skip(1);
    let header = |name: &str| {
        let files = match store::find(&files.manifests, name) {
            Ok(manifest) => manifest.files.clone(),
            Err(_) => local(Path::new(name))?
                .iter()
                .map(|file| files.store.measure(file, &bars.bar()))
                .collect::<Result<_, _>>()?,
        };
        let source = |file: store::ModelFile| Source { name: file.name, sha256: file.sha256 };
        let weight_bytes = loaded.weights.get(name).copied().unwrap_or(0);
        Ok(ModelHeader {
            name: name.to_owned(),
            files: files.into_iter().map(source).collect(),
            weight_bytes,
        })
    };
    members.map(header).collect()
}

/// The files of a model that is named by its path.
fn local(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let read = || format!("cannot list {}", path.display());
    let mut files = Vec::new();
    for entry in path.read_dir().with_context(read)? {
        files.push(entry.with_context(read)?.path());
    }
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// An engine with an ensemble, each of its members alone, and two of each; the weights are in memory
/// once. A member alone is told what it is told in the ensemble, and speaks as it does by itself.
pub(super) fn engine(config: &Config, loaded: load::Loaded) -> anyhow::Result<Engine> {
    let mut ensembles = loaded.ensembles;
    let members: Vec<Member> =
        ensembles.iter().flat_map(|(_, ensemble)| ensemble.members()).cloned().collect();
    for member in members {
        if ensembles.iter().any(|(known, _)| *known == member.name) {
            continue;
        }
        let alone = Member { weight: 1.0, temperature: 1.0, primary: false, ..member };
        let two = Ensemble::new(vec![alone.clone(), alone.clone()]);
        ensembles.push((copies_of(&alone.name), Arc::new(two)));
        ensembles.push((alone.name.clone(), Arc::new(Ensemble::new(vec![alone]))));
    }
    // More are asked than run, so that all places are taken at any time; and the place of one that
    // has ended is free a moment after its last event.
    let queue = config.engine.queue.max(2 * at_once(config));
    load::start(&EngineConfig { queue, ..config.engine.clone() }, ensembles)
}

/// How many requests the engine has at the same time.
pub(super) fn at_once(config: &Config) -> usize {
    2 * config.engine.max_sequences
}

/// What models compute on, in one line.
pub(super) fn device(config: &Config) -> String {
    format!("{}, keys and values in {}", config.engine.device, config.engine.kv_cache)
}

fn copies_of(member: &str) -> String {
    format!("2 x {member}")
}

pub(super) fn plan(
    config: &Config,
    args: &Args,
    engine: &dyn Generate,
    (name, tasks, models): (&str, Vec<Task>, Vec<ModelHeader>),
) -> anyhow::Result<Plan> {
    let cards = engine.models();
    let Some(card) = cards.iter().find(|card| card.name == name) else {
        bail!("`{name}` was not loaded");
    };
    let set = config.ensemble(name);
    let primary = set.into_iter().flat_map(|set| &set.members).find(|member| member.primary);
    let ensemble = System::ensemble(engine, card, primary.map(|member| member.model.as_str()))?;
    let alone: Vec<&ModelCard> =
        cards.iter().filter(|card| card.members == [card.name.as_str()]).collect();
    let member =
        |card: &&ModelCard| System { described: card.fusion.clone(), ..System::member(&card.name) };
    let mut systems: Vec<System> = alone.iter().map(member).collect();
    let variants = ensemble.variants(&args.variants());
    systems.push(ensemble);
    systems.extend(variants);
    Ok(Plan {
        tasks,
        systems,
        copies: alone.iter().map(|it| System::copies(&copies_of(&it.name), &it.name)).collect(),
        checked: args.suite().checked(),
        models,
        seed: args.seed,
        device: device(config),
        at_once: at_once(config),
    })
}
