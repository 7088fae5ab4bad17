//! From files on the disk to an ensemble that can run.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Ensemble, Member, PerplexityChange, pieces, weighted};
use crate::{
    gguf::{Gguf, GgufError},
    model::{
        self, Checkpoint, Decoder, Device, DeviceError, LanguageModel, Lazy, Loaded, Loader,
        ModelError, Pool, Quantize, Room,
    },
    tokenizer::{Tokenizer, TokenizerError},
    vocab::{MapError, UnionVocab},
};

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    File(#[from] GgufError),
    #[error("cannot read the tokenizer of {path}: {source}")]
    Tokenizer { path: PathBuf, source: TokenizerError },
    #[error(transparent)]
    Model(#[from] model::LoadError),
    #[error(
        "{models} need {needed} MB ({weights} of weights, {caches} for one full context each), there \
         are {available}; name fewer or smaller ones, or raise `engine.memory_limit_mb`"
    )]
    Memory { models: String, needed: u64, weights: u64, caches: u64, available: u64 },
    #[error("cannot run {path}: {source}")]
    Run { path: PathBuf, source: ModelError },
    #[error("cannot place {path}: {source}")]
    Device { path: PathBuf, source: DeviceError },
}

/// A model that any number of ensembles share.
#[derive(Clone)]
pub struct LoadedModel {
    pub model: Arc<dyn LanguageModel>,
    pub tokenizer: Arc<Tokenizer>,
    /// What its weights take.
    pub weight_bytes: u64,
    /// What making them smaller cost, if that was asked for.
    pub change: Option<PerplexityChange>,
}

/// What is to be loaded, and how.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub path: PathBuf,
    pub quantize: Quantize,
    /// Not before it is first needed.
    pub lazy: bool,
    /// Given back when it was not used for so long.
    pub idle_unload: Option<Duration>,
}

impl From<PathBuf> for Wanted {
    /// As it is.
    fn from(path: PathBuf) -> Self {
        Self { path, quantize: Quantize::None, lazy: false, idle_unload: None }
    }
}

/// Loads several models, by name, on one pool of threads.
///
/// They are refused before any is loaded if `limit` bytes, or what memory the system says is
/// available, cannot hold all their weights and one full context of each. Weights are mapped, so
/// they could do with less, at the speed of the disk; more full contexts than one at a time take
/// more. With a `limit`, what weights and keys and values take together never exceeds it: a forward
/// that would need more is refused. Lazy models are each measured as if it alone joined the others.
///
/// # Errors
/// As [`load_model`], and for want of memory.
pub fn load_models(
    wanted: BTreeMap<String, Wanted>,
    pool: &Pool,
    device: &Device,
    limit: Option<u64>,
) -> Result<BTreeMap<String, LoadedModel>, LoadError> {
    let mut opened = Vec::new();
    for (name, wanted) in wanted {
        let (checkpoint, tokenizer) = open_model(&wanted.path)?;
        opened.push(Opened { name, wanted, checkpoint, tokenizer });
    }
    let (later, now): (Vec<_>, Vec<_>) = opened.into_iter().partition(|it| it.wanted.lazy);
    let all_now: Vec<&Opened> = now.iter().collect();
    let available = limit.or_else(available_memory);
    fit(&all_now, device, available)?;
    for one in &later {
        fit(&[&all_now[..], &[one]].concat(), device, available)?;
    }
    let place = Place { pool: pool.clone(), device: device.clone(), room: Room::new(limit), limit };
    let load =
        |one: Opened| Ok((one.name, load(&one.wanted, one.checkpoint, one.tokenizer, &place)?));
    now.into_iter().chain(later).map(load).collect()
}

/// A model whose headers were read.
struct Opened {
    name: String,
    wanted: Wanted,
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
}

/// Refuses models whose weights and one full context each are more than is available.
fn fit(models: &[&Opened], device: &Device, available: Option<u64>) -> Result<(), LoadError> {
    let weights: u64 =
        models.iter().map(|it| it.checkpoint.weight_bytes_as(it.wanted.quantize)).sum();
    let caches: u64 = models.iter().map(|it| cache_bytes(&it.checkpoint, device)).sum();
    let Some(available) = available.filter(|available| weights + caches > *available) else {
        return Ok(());
    };
    let names: Vec<&str> = models.iter().map(|it| it.name.as_str()).collect();
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    Err(LoadError::Memory {
        models: names.join(", "),
        needed: megabytes(weights + caches),
        weights: megabytes(weights),
        caches: megabytes(caches),
        available: available / 1_000_000,
    })
}

/// Of one full context.
fn cache_bytes(checkpoint: &Checkpoint, device: &Device) -> u64 {
    checkpoint.kv_bytes_a_token(device.kv_format()) * checkpoint.context_length() as u64
}

/// What Linux says could be had without swapping; `None` where it says nothing.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Loads a GGUF file, the first of several, or a folder of safetensors with its configuration and
/// tokenizer; on the processor the weights stay memory-mapped.
///
/// # Errors
/// If a file is missing, damaged, of a kind that cannot be run right, or too large for the device.
pub fn load_model(path: &Path, pool: &Pool, device: &Device) -> Result<LoadedModel, LoadError> {
    let (checkpoint, tokenizer) = open_model(path)?;
    let (pool, device) = (pool.clone(), device.clone());
    let place = Place { pool, device, room: Room::new(None), limit: None };
    load(&path.to_owned().into(), checkpoint, tokenizer, &place)
}

/// Where models compute, and in what memory.
#[derive(Clone)]
struct Place {
    pool: Pool,
    device: Device,
    room: Arc<Room>,
    limit: Option<u64>,
}

fn load(
    wanted: &Wanted,
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    place: &Place,
) -> Result<LoadedModel, LoadError> {
    let tokenizer = Arc::new(tokenizer);
    let weight_bytes = checkpoint.weight_bytes_as(wanted.quantize);
    if !wanted.lazy && wanted.idle_unload.is_none() {
        let (model, change) = weights(wanted, checkpoint, place, Some(&tokenizer))?;
        return Ok(LoadedModel { model, tokenizer, weight_bytes, change });
    }
    // Once loaded and dropped, it is known to be sound, and what being smaller costs it.
    let (like, change) = weights(wanted, checkpoint, place, Some(&tokenizer))?;
    let (own, place) = (wanted.clone(), place.clone());
    let loader: Loader = Arc::new(move || again(&own, &place));
    let mut model = Lazy::new(&*like, wanted.idle_unload, loader);
    if !wanted.lazy {
        model = model.loaded(like);
    }
    Ok(LoadedModel { model: Arc::new(model), tokenizer, weight_bytes, change })
}

/// Loads weights that were given back, or not yet kept, if there is memory for them now.
fn again(wanted: &Wanted, place: &Place) -> Loaded {
    let load = || -> Result<Arc<dyn LanguageModel>, LoadError> {
        let (checkpoint, tokenizer) = open_model(&wanted.path)?;
        let name = wanted.path.display().to_string();
        let one = Opened { name, wanted: wanted.clone(), checkpoint, tokenizer };
        if place.limit.is_none() {
            fit(&[&one], &place.device, available_memory())?;
        }
        Ok(weights(wanted, one.checkpoint, place, None)?.0)
    };
    load().map_err(|error| ModelError::NotLoaded { reason: error.to_string() })
}

/// With a tokenizer, what making them smaller costs is measured.
fn weights(
    Wanted { path, quantize, .. }: &Wanted,
    checkpoint: Checkpoint,
    Place { pool, device, room, .. }: &Place,
    measure: Option<&Tokenizer>,
) -> Result<(Arc<dyn LanguageModel>, Option<PerplexityChange>), LoadError> {
    let failed = |source| LoadError::Run { path: path.clone(), source };
    let place = |decoder: Decoder| {
        let placed = device.place(decoder);
        placed.map_err(|source| LoadError::Device { path: path.clone(), source })
    };
    let kept = |checkpoint: &Checkpoint| -> Result<Arc<dyn LanguageModel>, LoadError> {
        place(Decoder::new(checkpoint, pool)?.within(room).map_err(failed)?)
    };
    if checkpoint.weight_bytes() == checkpoint.weight_bytes_as(*quantize) {
        return Ok((kept(&checkpoint)?, None));
    }
    let before = measure.map(|_| place(Decoder::new(&checkpoint, pool)?)).transpose()?;
    let model = kept(&checkpoint.quantized(*quantize, pool)?)?;
    let measured = measure
        .zip(before)
        .map(|(tokenizer, before)| PerplexityChange::measure(&*before, &*model, tokenizer));
    let change = measured.transpose().map_err(failed)?;
    Ok((model, change))
}

/// Opens what [`load_model`] loads.
///
/// # Errors
/// As [`load_model`].
pub fn open_model(path: &Path) -> Result<(Checkpoint, Tokenizer), LoadError> {
    if path.is_dir() {
        return Ok((Checkpoint::from_folder(path)?, load_tokenizer(path)?));
    }
    let file = Gguf::open(path)?;
    let tokenizer = Tokenizer::from_gguf(&file).map_err(unreadable(path))?;
    Ok((Checkpoint::from_gguf(&file)?, tokenizer))
}

/// The tokenizer alone of what [`load_model`] loads.
///
/// # Errors
/// If it is missing, damaged, or of a kind that is not supported.
pub fn load_tokenizer(path: &Path) -> Result<Tokenizer, LoadError> {
    let tokenizer = if path.is_dir() {
        Tokenizer::from_folder(path)
    } else {
        Tokenizer::from_gguf(&Gguf::open(path)?)
    };
    tokenizer.map_err(unreadable(path))
}

fn unreadable(path: &Path) -> impl FnOnce(TokenizerError) -> LoadError {
    |source| LoadError::Tokenizer { path: path.to_owned(), source }
}

/// Where an ensemble's union map came from.
#[derive(Debug)]
pub enum MapOrigin {
    /// Out of the file, which fits.
    File,
    /// Built, and written to the file for the next time.
    Built { because: Option<MapError> },
    /// Built, but the file could not be written.
    Unsaved { error: io::Error },
}

/// Composes an ensemble; takes its union map from `map_file` if that fits the members'
/// tokenizers, else builds it and writes the file anew.
///
/// # Panics
/// As [`Ensemble::new`].
pub fn load_ensemble(members: Vec<Member>, map_file: &Path) -> (Ensemble, MapOrigin) {
    let members = weighted(members);
    let vocabularies: Vec<_> = members.iter().map(pieces).collect();
    let prints: Vec<_> = members.iter().map(|member| member.tokenizer.fingerprint()).collect();
    let because = match fs::read(map_file) {
        Ok(file) => match UnionVocab::from_file(&file, &vocabularies, &prints) {
            Ok((union, maps)) => {
                return (Ensemble::with_union(members, union, maps), MapOrigin::File);
            }
            Err(error) => Some(error),
        },
        Err(_) => None,
    };
    let (union, maps) = UnionVocab::build(&vocabularies);
    let origin = match write(map_file, &union.to_file(&maps, &prints)) {
        Ok(()) => MapOrigin::Built { because },
        Err(error) => MapOrigin::Unsaved { error },
    };
    (Ensemble::with_union(members, union, maps), origin)
}

/// Writes a file as a whole or not at all.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    // Others may read it, as far as the user's mask lets them.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    io::Write::write_all(&mut file, content)?;
    file.persist(path)?;
    Ok(())
}
