//! From files on the disk to an ensemble that can run.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Ensemble, Member, PerplexityChange, pieces, weighted};
use crate::{
    gguf::{Gguf, GgufError},
    model::{
        self, Checkpoint, Decoder, Device, DeviceError, LanguageModel, ModelError, Pool, Quantize,
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
    #[error("cannot measure what smaller weights of {path} cost: {source}")]
    Measure { path: PathBuf, source: ModelError },
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
}

impl From<PathBuf> for Wanted {
    /// As it is.
    fn from(path: PathBuf) -> Self {
        Self { path, quantize: Quantize::None }
    }
}

/// Loads several models, by name, on one pool of threads.
///
/// They are refused before any is loaded if `limit` bytes, or what memory the system says is
/// available, cannot hold all their weights and one full context of each. Weights are mapped, so
/// they could do with less, at the speed of the disk; more full contexts than one at a time take
/// more.
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
        opened.push((name, wanted, checkpoint, tokenizer));
    }
    let cache = |c: &Checkpoint| c.kv_bytes_a_token(device.kv_format()) * c.context_length() as u64;
    let sizes = opened.iter().map(|(_, wanted, c, _)| c.weight_bytes_as(wanted.quantize));
    let weights: u64 = sizes.sum();
    let caches: u64 = opened.iter().map(|(.., checkpoint, _)| cache(checkpoint)).sum();
    if let Some(available) = limit.or_else(available_memory)
        && weights + caches > available
    {
        let names: Vec<&str> = opened.iter().map(|(name, ..)| name.as_str()).collect();
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        return Err(LoadError::Memory {
            models: names.join(", "),
            needed: megabytes(weights + caches),
            weights: megabytes(weights),
            caches: megabytes(caches),
            available: available / 1_000_000,
        });
    }
    opened
        .into_iter()
        .map(|(name, wanted, checkpoint, tokenizer)| {
            Ok((name, place(&wanted, (checkpoint, tokenizer), pool, device)?))
        })
        .collect()
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
    place(&path.to_owned().into(), open_model(path)?, pool, device)
}

fn place(
    Wanted { path, quantize }: &Wanted,
    (checkpoint, tokenizer): (Checkpoint, Tokenizer),
    pool: &Pool,
    device: &Device,
) -> Result<LoadedModel, LoadError> {
    let decoder = |checkpoint: &Checkpoint| -> Result<Arc<dyn LanguageModel>, LoadError> {
        let placed = device.place(Decoder::new(checkpoint, pool)?);
        placed.map_err(|source| LoadError::Device { path: path.clone(), source })
    };
    let mut model = decoder(&checkpoint)?;
    let mut weight_bytes = checkpoint.weight_bytes();
    let mut change = None;
    if weight_bytes != checkpoint.weight_bytes_as(*quantize) {
        let smaller = checkpoint.quantized(*quantize, pool)?;
        let before = std::mem::replace(&mut model, decoder(&smaller)?);
        let measured = PerplexityChange::measure(&*before, &*model, &tokenizer);
        change =
            Some(measured.map_err(|source| LoadError::Measure { path: path.clone(), source })?);
        weight_bytes = smaller.weight_bytes();
    }
    Ok(LoadedModel { model, tokenizer: Arc::new(tokenizer), weight_bytes, change })
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
