//! A GGUF file, or the files of a split one: metadata and tensor directory, read with candle,
//! over memory maps.
//!
//! Knows neither models nor tokenizers; hands out typed metadata and raw tensor bytes.

use std::{
    io::Cursor,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use candle_core::quantized::gguf_file;

use crate::mapped::{self, TensorEntry};

mod alignment;

#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    #[error("cannot open {path}: {source}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a readable GGUF file: {reason}; pull or copy it again")]
    Malformed { path: PathBuf, reason: String },
    #[error(
        "{path} says that its tensors are aligned to 0 bytes (`general.alignment`); convert or \
         copy it again"
    )]
    Alignment { path: PathBuf },
    #[error(
        "{path} has tensors in a format that is not supported ({reason}), such as IQ, TQ or MXFP4; \
         use a file in Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, F16, BF16 or F32"
    )]
    Dtype { path: PathBuf, reason: String },
    #[error("{path} has no metadata `{key}`")]
    Missing { path: PathBuf, key: String },
    #[error("{path}: metadata `{key}` is not {expected}")]
    Kind { path: PathBuf, key: String, expected: &'static str },
    #[error("{path} has no tensor `{name}`")]
    NoTensor { path: PathBuf, name: String },
    #[error("{path} is file {number} of a model in {count} files; name the first, `{first}`")]
    NotFirst { path: PathBuf, number: usize, count: usize, first: String },
    #[error(
        "{path} is the first of {count} files, whose names end in `-00001-of-{count:05}.gguf` and \
         so on; give it back its name"
    )]
    SplitName { path: PathBuf, count: usize },
}

/// An open model: cheap to clone, the maps live as long as any clone.
#[derive(Clone)]
pub struct Gguf {
    path: PathBuf,
    /// The first has the metadata.
    files: Arc<[Part]>,
}

struct Part {
    path: PathBuf,
    content: gguf_file::Content,
    bytes: Bytes,
}

impl Gguf {
    /// Opens a file and, if it is the first of a split model (`name-00001-of-00003.gguf`), the
    /// others beside it.
    ///
    /// # Errors
    /// If one of them is missing or damaged, or the file is not the first.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let first = Part::open(path)?;
        let number = |key: &str| match first.content.metadata.get(key) {
            None => Ok(0),
            Some(value) => unsigned(value).ok_or_else(|| first.kind(key, WHOLE)),
        };
        // What llama.cpp's `gguf-split` writes, and how it names the files.
        let count = usize::try_from(number("split.count")?).unwrap_or(usize::MAX);
        let index = usize::try_from(number("split.no")?).unwrap_or(usize::MAX);
        let mut files = vec![first];
        if count > 1 {
            let names = split_names(path, index, count)?;
            for name in &names[1..] {
                files.push(Part::open(&path.with_file_name(name))?);
            }
        }
        Ok(Self { path: path.to_owned(), files: files.into() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All files, in order; one, if the model is not split.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|part| part.path.as_path())
    }

    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flat_map(|part| part.content.tensor_infos.keys().map(String::as_str))
    }

    /// # Errors
    /// If there is no such tensor, or it reaches past the end of the file.
    pub fn tensor(&self, name: &str) -> Result<TensorEntry, GgufError> {
        let found = self.files.iter().find_map(|part| {
            part.content.tensor_infos.get(name).map(|tensor_info| (part, tensor_info))
        });
        let (part, info) = found.ok_or_else(|| GgufError::NoTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })?;
        let dtype = info.ggml_dtype;
        let cut = || GgufError::Malformed {
            path: part.path.clone(),
            reason: format!("tensor `{name}` reaches past the end of the file"),
        };
        let dims = info.shape.dims().iter();
        let elements = dims.copied().try_fold(1, usize::checked_mul).ok_or_else(cut)?;
        let bytes =
            (elements / dtype.block_size()).checked_mul(dtype.type_size()).ok_or_else(cut)?;
        let start = usize::try_from(part.content.tensor_data_offset.saturating_add(info.offset))
            .map_err(|_| cut())?;
        let end =
            start.checked_add(bytes).filter(|&end| end <= part.bytes.len()).ok_or_else(cut)?;
        let bytes = part.bytes.slice(start..end);
        Ok(TensorEntry { dtype, shape: info.shape.dims().to_vec(), bytes })
    }

    /// The metadata's keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.files[0].content.metadata.keys().map(String::as_str)
    }

    pub fn has(&self, key: &str) -> bool {
        self.files[0].content.metadata.contains_key(key)
    }

    pub fn string(&self, key: &str) -> Result<&str, GgufError> {
        match self.value(key)? {
            gguf_file::Value::String(text) => Ok(text),
            _ => Err(self.kind(key, "a string")),
        }
    }

    /// Any whole number that is not negative.
    pub fn unsigned(&self, key: &str) -> Result<u64, GgufError> {
        unsigned(self.value(key)?).ok_or_else(|| self.kind(key, WHOLE))
    }

    pub fn float(&self, key: &str) -> Result<f32, GgufError> {
        self.value(key)?.to_f32().map_err(|_| self.kind(key, "a 32-bit float"))
    }

    pub fn boolean(&self, key: &str) -> Result<bool, GgufError> {
        self.value(key)?.to_bool().map_err(|_| self.kind(key, "true or false"))
    }

    pub fn strings(&self, key: &str) -> Result<Vec<&str>, GgufError> {
        let items = self.value(key)?.to_vec().map_err(|_| self.kind(key, "a list of strings"))?;
        items
            .iter()
            .map(|item| match item {
                gguf_file::Value::String(text) => Ok(text.as_str()),
                _ => Err(self.kind(key, "a list of strings")),
            })
            .collect()
    }

    pub fn integers(&self, key: &str) -> Result<Vec<i32>, GgufError> {
        let items = self.value(key)?.to_vec().map_err(|_| self.kind(key, "a list of integers"))?;
        items
            .iter()
            .map(|item| item.to_i32().map_err(|_| self.kind(key, "a list of 32-bit integers")))
            .collect()
    }

    pub fn floats(&self, key: &str) -> Result<Vec<f32>, GgufError> {
        let items = self.value(key)?.to_vec().map_err(|_| self.kind(key, "a list of floats"))?;
        items
            .iter()
            .map(|item| item.to_f32().map_err(|_| self.kind(key, "a list of 32-bit floats")))
            .collect()
    }

    fn value(&self, key: &str) -> Result<&gguf_file::Value, GgufError> {
        self.files[0]
            .content
            .metadata
            .get(key)
            .ok_or_else(|| GgufError::Missing { path: self.path.clone(), key: key.to_owned() })
    }

    fn kind(&self, key: &str, expected: &'static str) -> GgufError {
        self.files[0].kind(key, expected)
    }
}

/// Where in a file, which may be any of a split model's, its header ends, and where in it a tensor
/// lies if it is there. The file may be cut or blank after its header.
///
/// # Errors
/// If the header is not readable.
pub fn layout(path: &Path, tensor: &str) -> Result<(u64, Option<Range<u64>>), GgufError> {
    let Part { content, .. } = Part::open(path)?;
    let place = |info: &gguf_file::TensorInfo| {
        let (weights, bytes) = (info.ggml_dtype.block_size(), info.ggml_dtype.type_size());
        let elements = info.shape.dims().iter().copied().try_fold(1, usize::checked_mul)?;
        let start = content.tensor_data_offset.checked_add(info.offset)?;
        Some(start..start.checked_add((elements / weights).checked_mul(bytes)? as u64)?)
    };
    let found = content.tensor_infos.get(tensor).and_then(place);
    Ok((content.tensor_data_offset, found))
}

impl Part {
    fn open(path: &Path) -> Result<Self, GgufError> {
        let bytes = mapped::map(path)
            .map_err(|source| GgufError::Open { path: path.to_owned(), source })?;
        if alignment::stated(&bytes) == Some(0) {
            return Err(GgufError::Alignment { path: path.to_owned() });
        }
        let content = gguf_file::Content::read(&mut Cursor::new(&bytes[..])).map_err(|error| {
            // A backtrace may follow.
            let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
            let path = path.to_owned();
            match reason.contains("unknown dtype") {
                true => GgufError::Dtype { path, reason },
                false => GgufError::Malformed { path, reason },
            }
        })?;
        Ok(Self { path: path.to_owned(), content, bytes })
    }

    fn kind(&self, key: &str, expected: &'static str) -> GgufError {
        GgufError::Kind { path: self.path.clone(), key: key.to_owned(), expected }
    }
}

const WHOLE: &str = "a whole number of at least 0";

fn unsigned(value: &gguf_file::Value) -> Option<u64> {
    use gguf_file::Value::{I8, I16, I32, I64, U8, U16, U32, U64};
    match *value {
        U8(n) => Some(n.into()),
        U16(n) => Some(n.into()),
        U32(n) => Some(n.into()),
        U64(n) => Some(n),
        I8(n) => u64::try_from(n).ok(),
        I16(n) => u64::try_from(n).ok(),
        I32(n) => u64::try_from(n).ok(),
        I64(n) => u64::try_from(n).ok(),
        _ => None,
    }
}

/// The names of all files of a split model, of which `path` says it is number `index`.
fn split_names(path: &Path, index: usize, count: usize) -> Result<Vec<String>, GgufError> {
    let misnamed = || GgufError::SplitName { path: path.to_owned(), count };
    // Five digits are all that the names have room for.
    if count > 99_999 {
        return Err(misnamed());
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ending = |index: usize| format!("-{:05}-of-{count:05}.gguf", index + 1);
    let stem = name.strip_suffix(&ending(index)).ok_or_else(misnamed)?;
    let names: Vec<String> = (0..count).map(|index| format!("{stem}{}", ending(index))).collect();
    if index == 0 {
        return Ok(names);
    }
    let (path, first) = (path.to_owned(), names[0].clone());
    Err(GgufError::NotFirst { path, number: index + 1, count, first })
}
