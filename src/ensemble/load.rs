//! From files on the disk to an ensemble that can run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Ensemble, Member, vocabulary, weighted};
use crate::{
    gguf::{Gguf, GgufError},
    model::{self, Checkpoint, Decoder, Pool},
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
}

/// A model that any number of ensembles share.
#[derive(Clone)]
pub struct LoadedModel {
    pub model: Arc<Decoder>,
    pub tokenizer: Arc<Tokenizer>,
}

/// Loads a GGUF file, the first of several, or a folder of safetensors with its configuration and
/// tokenizer; the weights stay memory-mapped.
///
/// # Errors
/// If a file is missing, damaged, or of a kind that cannot be run right.
pub fn load_model(path: &Path, pool: &Pool) -> Result<LoadedModel, LoadError> {
    let (checkpoint, tokenizer) = open_model(path)?;
    let model = Decoder::new(&checkpoint, pool)?;
    Ok(LoadedModel { model: Arc::new(model), tokenizer: Arc::new(tokenizer) })
}

/// Opens what [`load_model`] loads.
///
/// # Errors
/// As [`load_model`].
pub fn open_model(path: &Path) -> Result<(Checkpoint, Tokenizer), LoadError> {
    let wrong = |source| LoadError::Tokenizer { path: path.to_owned(), source };
    if path.is_dir() {
        let checkpoint = Checkpoint::from_folder(path)?;
        return Ok((checkpoint, Tokenizer::from_folder(path).map_err(wrong)?));
    }
    let file = Gguf::open(path)?;
    let checkpoint = Checkpoint::from_gguf(&file)?;
    Ok((checkpoint, Tokenizer::from_gguf(&file).map_err(wrong)?))
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
    let vocabularies: Vec<_> = members.iter().map(vocabulary).collect();
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
