//! The weights of a folder as Hugging Face's libraries save them: one `model.safetensors`, or
//! several files named by `model.safetensors.index.json`, over memory maps.
//!
//! Knows neither models nor tokenizers; hands out raw tensor bytes by the names of the files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Component, Path, PathBuf},
};

use ::safetensors::{Dtype, SafeTensors};
use candle_core::quantized::GgmlDType;
use serde_json::Value;

use crate::mapped::{self, TensorEntry};

#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    #[error("cannot open {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "{folder} has neither `model.safetensors` nor `model.safetensors.index.json`; fetch the weights"
    )]
    NoWeights { folder: PathBuf },
    #[error("{path} is not readable: {reason}; fetch it again")]
    Malformed { path: PathBuf, reason: String },
    #[error(
        "{path}: tensor `{tensor}` is {dtype}, which is not supported; use weights in BF16, F16 or F32"
    )]
    Dtype { path: PathBuf, tensor: String, dtype: String },
}

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The names of the folder's weight files, sorted.
///
/// # Errors
/// If there are none, or the index cannot be read or names files outside the folder.
pub fn files(folder: &Path) -> Result<Vec<String>, SafetensorsError> {
    let path = folder.join(INDEX);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match folder.join(SINGLE).exists() {
                true => Ok(vec![SINGLE.to_owned()]),
                false => Err(SafetensorsError::NoWeights { folder: folder.to_owned() }),
            };
        }
        Err(source) => return Err(SafetensorsError::Open { path, source }),
    };
    let malformed = |reason: String| SafetensorsError::Malformed { path: path.clone(), reason };
    let index: Value =
        serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    let files: Option<BTreeSet<&str>> =
        index["weight_map"].as_object().and_then(|map| map.values().map(Value::as_str).collect());
    let files = files.filter(|files| !files.is_empty());
    let files = files.ok_or_else(|| malformed("it has no `weight_map` of files".to_owned()))?;
    let plain = |name: &str| {
        let mut parts = Path::new(name).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    };
    match files.iter().find(|name| !plain(name)) {
        Some(name) => Err(malformed(format!("`{name}` is not a plain file name"))),
        None => Ok(files.into_iter().map(str::to_owned).collect()),
    }
}

/// All tensors of the folder by name.
///
/// # Errors
/// If a file is missing or damaged, or a tensor is of a type that is not supported.
pub fn tensors(folder: &Path) -> Result<BTreeMap<String, TensorEntry>, SafetensorsError> {
    let mut found = BTreeMap::new();
    for file in files(folder)? {
        read(&folder.join(file), &mut found)?;
    }
    Ok(found)
}

fn read(path: &Path, found: &mut BTreeMap<String, TensorEntry>) -> Result<(), SafetensorsError> {
    let bytes = mapped::map(path)
        .map_err(|source| SafetensorsError::Open { path: path.to_owned(), source })?;
    let malformed = |reason: String| SafetensorsError::Malformed { path: path.to_owned(), reason };
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| malformed(error.to_string()))?;
    for (name, view) in tensors.iter() {
        let dtype = match view.dtype() {
            Dtype::F32 => GgmlDType::F32,
            Dtype::F16 => GgmlDType::F16,
            Dtype::BF16 => GgmlDType::BF16,
            other => {
                return Err(SafetensorsError::Dtype {
                    path: path.to_owned(),
                    tensor: name.to_owned(),
                    dtype: format!("{other:?}"),
                });
            }
        };
        let entry = TensorEntry {
            dtype,
            shape: view.shape().to_vec(),
            bytes: bytes.slice_ref(view.data()),
        };
        if found.insert(name.to_owned(), entry).is_some() {
            return Err(malformed(format!("tensor `{name}` is in another file too")));
        }
    }
    Ok(())
}
