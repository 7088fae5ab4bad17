//! A GGUF file: its metadata and tensor directory, read with candle, over one memory map.
//!
//! Knows neither models nor tokenizers; hands out typed metadata and raw tensor bytes.

use std::{
    fs::File,
    io::Cursor,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::quantized::{GgmlDType, gguf_file};
use memmap2::Mmap;

#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    #[error("cannot open {path}: {source}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a readable GGUF file: {reason}; pull or copy it again")]
    Malformed { path: PathBuf, reason: String },
    #[error("{path} has no metadata `{key}`")]
    Missing { path: PathBuf, key: String },
    #[error("{path}: metadata `{key}` is not {expected}")]
    Kind { path: PathBuf, key: String, expected: &'static str },
    #[error("{path} has no tensor `{name}`")]
    NoTensor { path: PathBuf, name: String },
}

/// An open file: cheap to clone, the map lives as long as any clone.
#[derive(Clone)]
pub struct Gguf {
    path: PathBuf,
    content: Arc<gguf_file::Content>,
    map: Arc<Mmap>,
}

/// Where one tensor lies: its type, shape (outermost first) and bytes of the map.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    pub dtype: GgmlDType,
    pub shape: Vec<usize>,
    pub range: Range<usize>,
}

impl Gguf {
    #[allow(unsafe_code, reason = "weights are memory-mapped, never copied")]
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let open = |source| GgufError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        // SAFETY: the store writes a model file under a temporary name and renames it when whole;
        // nothing in this program changes one in place.
        let map = unsafe { Mmap::map(&file) }.map_err(open)?;
        let content = gguf_file::Content::read(&mut Cursor::new(&map[..])).map_err(|error| {
            GgufError::Malformed { path: path.to_owned(), reason: error.to_string() }
        })?;
        Ok(Self { path: path.to_owned(), content: Arc::new(content), map: Arc::new(map) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file; [`TensorEntry::range`] indexes it.
    pub fn map(&self) -> &Arc<Mmap> {
        &self.map
    }

    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.content.tensor_infos.keys().map(String::as_str)
    }

    /// # Errors
    /// If there is no such tensor, or it reaches past the end of the file.
    pub fn tensor(&self, name: &str) -> Result<TensorEntry, GgufError> {
        let info = self.content.tensor_infos.get(name).ok_or_else(|| GgufError::NoTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })?;
        let dtype = info.ggml_dtype;
        let cut = || GgufError::Malformed {
            path: self.path.clone(),
            reason: format!("tensor `{name}` reaches past the end of the file"),
        };
        let elements = info.shape.elem_count();
        let bytes =
            (elements / dtype.block_size()).checked_mul(dtype.type_size()).ok_or_else(cut)?;
        let start = usize::try_from(self.content.tensor_data_offset.saturating_add(info.offset))
            .map_err(|_| cut())?;
        let end = start.checked_add(bytes).filter(|&end| end <= self.map.len()).ok_or_else(cut)?;
        Ok(TensorEntry { dtype, shape: info.shape.dims().to_vec(), range: start..end })
    }

    /// The metadata's keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.content.metadata.keys().map(String::as_str)
    }

    pub fn has(&self, key: &str) -> bool {
        self.content.metadata.contains_key(key)
    }

    pub fn string(&self, key: &str) -> Result<&str, GgufError> {
        match self.value(key)? {
            gguf_file::Value::String(text) => Ok(text),
            _ => Err(self.kind(key, "a string")),
        }
    }

    /// Any whole number that is not negative.
    pub fn unsigned(&self, key: &str) -> Result<u64, GgufError> {
        use gguf_file::Value::{I8, I16, I32, I64, U8, U16, U32, U64};
        match *self.value(key)? {
            U8(n) => Ok(n.into()),
            U16(n) => Ok(n.into()),
            U32(n) => Ok(n.into()),
            U64(n) => Ok(n),
            I8(n) if n >= 0 => Ok(n.unsigned_abs().into()),
            I16(n) if n >= 0 => Ok(n.unsigned_abs().into()),
            I32(n) if n >= 0 => Ok(n.unsigned_abs().into()),
            I64(n) if n >= 0 => Ok(n.unsigned_abs()),
            _ => Err(self.kind(key, "a whole number of at least 0")),
        }
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
        self.content
            .metadata
            .get(key)
            .ok_or_else(|| GgufError::Missing { path: self.path.clone(), key: key.to_owned() })
    }

    fn kind(&self, key: &str, expected: &'static str) -> GgufError {
        GgufError::Kind { path: self.path.clone(), key: key.to_owned(), expected }
    }
}
