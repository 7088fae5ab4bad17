//! From the configuration to ensembles in memory.

use std::{
    collections::BTreeMap,
    io, iter,
    num::NonZero,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tutti::{
    config::{self, Config, DeviceConfig, EnsembleConfig, MemberConfig},
    engine::{Engine, EngineConfig},
    ensemble::{self, Ensemble, LoadedModel, MapOrigin, Member, PerplexityChange, Wanted},
    model::{Device, Pool},
    store::{self, Bars, Progress},
    tokenizer::Tokenizer,
};

use super::Files;

/// Everything that can be asked for by name: the ensembles, then each of their members alone.
fn named(config: &Config) -> Vec<EnsembleConfig> {
    let mut all = config.ensembles.clone();
    for member in config.ensembles.iter().flat_map(|ensemble| &ensemble.members) {
        if !all.iter().any(|known| known.name == member.model) {
            all.push(alone(&member.model));
        }
    }
    all
}

fn alone(model: &str) -> EnsembleConfig {
    EnsembleConfig::new(model, vec![MemberConfig::new(model, 1.0)])
}

/// Whether a model's name is a file or folder of the user's own, which needs no manifest.
fn is_path(name: &str) -> bool {
    name.contains(['/', '\\']) && Path::new(name).exists()
}

/// What is ready to run, each once, in the configuration's order.
pub(super) struct Loaded {
    pub(super) ensembles: Vec<(String, Arc<Ensemble>)>,
    /// What it took, the fetching of files not counted.
    pub(super) time: Duration,
    /// The size of each model's weights.
    pub(super) weights: BTreeMap<String, u64>,
}

/// Loads the named ones, or else the default ensemble and each of its members alone; fetches the
/// files that are missing.
pub(super) fn ensembles(config: &Config, names: &[&str], bars: &Bars) -> anyhow::Result<Loaded> {
    let mut wanted = named(config);
    let files = Files::open(config)?;
    for name in config.models.keys() {
        if !is_path(name) {
            store::find(&files.manifests, name)
                .with_context(|| format!("the configuration has `[model.{name}]`"))?;
        }
    }
    let default = with_members(config, &config.default_model);
    let names = if names.is_empty() { &default } else { names };
    for name in names {
        if wanted.iter().any(|known| known.name == *name) {
            continue;
        }
        check_is_model(name, config, &files)?;
        wanted.push(alone(name));
    }
    wanted.retain(|known| names.contains(&known.name.as_str()));
    // A member of weight 0 is never run, so it is neither fetched nor loaded for its ensemble.
    for ensemble in &mut wanted {
        ensemble.members.retain(|member| member.weight > 0.0);
    }
    let device = device(config)?;
    let bar = bars.bar();
    let found = fetch(config, &wanted, &files, &bar)?;
    let since = Instant::now();
    let pool = Pool::new(threads(config)?);
    let limit = config.engine.memory_limit_mb.map(|limit| limit.saturating_mul(1_000_000));
    let models = ensemble::load_models(found, &pool, &device, limit)?;
    let weights = models.iter().map(|(name, loaded)| (name.clone(), loaded.weight_bytes)).collect();
    for (name, loaded) in &models {
        if let Some(change) = loaded.change {
            bar.note(&told(name, loaded.weight_bytes, change));
        }
    }
    let maps = map_folder(config, &files.cache);
    let mut ensembles = Vec::new();
    for ensemble in &wanted {
        let (name, members) = (&ensemble.name, members(config, ensemble, &models));
        let map = maps.join(format!("{}.map", map_name(ensemble)));
        let composed = compose(name, members, &map, &bar).with_settings(&ensemble.fusion);
        ensembles.push((name.clone(), Arc::new(composed)));
    }
    let time = since.elapsed();
    bar.note(&format!("loaded in {:.1} s", time.as_secs_f64()));
    Ok(Loaded { ensembles, time, weights })
}

/// The tokenizers of the named models and of the members of the named ensembles, each once. A model
/// need be in no ensemble; weights are not read.
pub(super) fn tokenizers(
    config: &Config,
    names: &[&str],
    bars: &Bars,
) -> anyhow::Result<Vec<(String, Tokenizer)>> {
    let files = Files::open(config)?;
    let bar = bars.bar();
    let mut ids: Vec<&str> = Vec::new();
    for name in names {
        let members = match config.ensemble(name) {
            Some(ensemble) => ensemble.members.iter().map(|it| it.model.as_str()).collect(),
            None => {
                check_is_model(name, config, &files)?;
                vec![*name]
            }
        };
        for id in members {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    let load = |id: &str| Ok((id.to_owned(), ensemble::load_tokenizer(&path(id, &files, &bar)?)?));
    ids.into_iter().map(load).collect()
}

/// An ensemble and each of its members, by the names they can be asked for.
pub(super) fn with_members<'a>(config: &'a Config, name: &'a str) -> Vec<&'a str> {
    let members = config.ensemble(name).into_iter().flat_map(|ensemble| &ensemble.members);
    iter::once(name).chain(members.map(|member| member.model.as_str())).collect()
}

/// Loads what [`ensembles`] does and starts an engine with it.
pub(super) fn engine(config: &Config, names: &[&str], bars: &Bars) -> anyhow::Result<Engine> {
    start(&config.engine, ensembles(config, names, bars)?.ensembles)
}

/// Starts an engine, set as the configuration says.
pub(super) fn start(
    engine: &config::EngineConfig,
    ensembles: Vec<(String, Arc<Ensemble>)>,
) -> anyhow::Result<Engine> {
    let settings = EngineConfig {
        max_sequences: engine.max_sequences,
        queue: engine.queue,
        prefill_chunk: engine.prefill_chunk,
        kept_tokens: engine.kept_tokens,
        ..EngineConfig::default()
    };
    Engine::start(ensembles, settings).context("cannot start the engine")
}

/// What making a model's weights smaller came to.
fn told(name: &str, bytes: u64, change: PerplexityChange) -> String {
    let PerplexityChange { before, after, tokens } = change;
    let (megabytes, percent) = (bytes as f64 / 1e6, 100.0 * change.relative());
    format!(
        "{name}: quantized to q8_0, {megabytes:.1} MB; perplexity {before:.3} -> {after:.3} \
         ({percent:+.2} %) on {tokens} tokens"
    )
}

/// Where each model is that is needed, and how it is loaded.
fn fetch(
    config: &Config,
    wanted: &[EnsembleConfig],
    files: &Files,
    progress: &dyn Progress,
) -> anyhow::Result<BTreeMap<String, Wanted>> {
    let mut found = BTreeMap::new();
    let members = wanted.iter().flat_map(|it| it.members.iter().map(move |member| (it, member)));
    for (ensemble, MemberConfig { model, .. }) in members {
        if !found.contains_key(model) {
            let (own, all) = (config.models.get(model), &config.engine);
            let idle = own.and_then(|own| own.idle_unload_seconds);
            let idle = u64::from(idle.unwrap_or(all.idle_unload_seconds));
            let wanted = Wanted {
                path: match path(model, files, progress) {
                    Err(error) if ensemble.name != *model => {
                        let of = format!("the ensemble `{}` has `{model}`", ensemble.name);
                        return Err(error.context(of));
                    }
                    found => found?,
                },
                quantize: own.and_then(|own| own.quantize).unwrap_or(all.quantize),
                lazy: own.and_then(|own| own.lazy).unwrap_or(all.lazy),
                idle_unload: (idle > 0).then(|| Duration::from_secs(idle)),
            };
            found.insert(model.clone(), wanted);
        }
    }
    Ok(found)
}

fn check_is_model(name: &str, config: &Config, files: &Files) -> anyhow::Result<()> {
    if is_path(name) || store::find(&files.manifests, name).is_ok() {
        return Ok(());
    }
    if name.contains(['/', '\\']) {
        bail!("there is no file or folder `{name}`");
    }
    let is_here = Path::new(name).exists();
    let here = if is_here { format!("; what lies here is `./{name}`") } else { String::new() };
    let ensembles = config.ensembles.iter().map(|ensemble| ensemble.name.as_str());
    let models = files.manifests.iter().map(|manifest| manifest.id.as_str());
    let known: Vec<_> = ensembles.chain(models).collect();
    bail!("there is no ensemble or model `{name}`; there are: {}{here}", known.join(", "));
}

/// Where a model is, which may be its name.
fn path(model: &str, files: &Files, progress: &dyn Progress) -> anyhow::Result<PathBuf> {
    if is_path(model) {
        return Ok(PathBuf::from(model));
    }
    Ok(files.store.ensure(store::find(&files.manifests, model)?, progress)?)
}

/// Where models compute.
fn device(config: &Config) -> anyhow::Result<Device> {
    match config.engine.device {
        DeviceConfig::Cpu => Ok(Device::Cpu(config.engine.kv_cache)),
        DeviceConfig::Cuda(index) => Device::cuda(index),
        DeviceConfig::Metal => Device::metal(),
    }
    .context("cannot use `engine.device`")
}

/// How many threads compute.
pub(super) fn threads(config: &Config) -> io::Result<NonZero<usize>> {
    config.engine.threads.map_or_else(thread::available_parallelism, |threads| {
        NonZero::new(threads).ok_or_else(|| io::Error::other("no threads"))
    })
}

fn members(
    config: &Config,
    ensemble: &EnsembleConfig,
    models: &BTreeMap<String, LoadedModel>,
) -> Vec<Member> {
    let member = |member: &MemberConfig| {
        let LoadedModel { model, tokenizer, .. } = models[&member.model].clone();
        let of_model = config.models.get(&member.model).map(|model| &model.template_args);
        let switches = [of_model, Some(&ensemble.template_args), Some(&member.template_args)];
        // Of one name the last counts.
        let template_args = switches.into_iter().flatten().flatten();
        Member {
            primary: member.primary,
            temperature: member.temperature as f32,
            system: member.system.clone(),
            template_args: template_args.map(|(k, v)| (k.clone(), v.clone())).collect(),
            ..Member::new(member.model.clone(), model, tokenizer, member.weight as f32)
        }
    };
    ensemble.members.iter().map(member).collect()
}

/// A single model needs no map on the disk: its union is itself.
fn compose(name: &str, members: Vec<Member>, file: &Path, progress: &dyn Progress) -> Ensemble {
    if members.len() == 1 {
        return Ensemble::new(members);
    }
    let (ensemble, origin) = ensemble::load_ensemble(members, file);
    let (size, file) = (ensemble.union().size(), file.display());
    progress.note(&match origin {
        MapOrigin::File => format!("{name}: union of {size} pieces, from {file}"),
        MapOrigin::Built { because: None } => {
            format!("{name}: union of {size} pieces, built and kept in {file}")
        }
        MapOrigin::Built { because: Some(why) } => {
            format!("{name}: union of {size} pieces, built anew because of {file}: {why}")
        }
        MapOrigin::Unsaved { error } => {
            format!("{name}: union of {size} pieces, built; {file} cannot be written: {error}")
        }
    });
    ensemble
}

/// An ensemble of the user's own that is called as a built-in one leaves that one's map alone.
fn map_name(ensemble: &EnsembleConfig) -> String {
    fn models(ensemble: &EnsembleConfig) -> Vec<&str> {
        ensemble.members.iter().map(|member| member.model.as_str()).collect()
    }
    let name = &ensemble.name;
    let built_in = Config::default().ensembles.into_iter().find(|built_in| built_in.name == *name);
    match built_in.filter(|built_in| models(built_in) != models(ensemble)) {
        Some(_) => format!("{name}-own"),
        None => name.clone(),
    }
}

/// `vocab-maps` of the working directory if it is there, else of the cache.
fn map_folder(config: &Config, cache: &Path) -> PathBuf {
    const NAME: &str = "vocab-maps";
    match &config.paths.vocab_maps {
        Some(folder) => folder.clone(),
        None if Path::new(NAME).is_dir() => NAME.into(),
        None => cache.join(NAME),
    }
}
