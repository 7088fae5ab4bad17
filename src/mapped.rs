//! Model files in memory: mapped, read-only, and cut into tensors.
//!
//! Knows neither formats nor models. The only `unsafe` code outside the kernels.

use std::{fs::File, io, path::Path};

use bytes::Bytes;
use candle_core::quantized::GgmlDType;
use memmap2::Mmap;

/// One tensor: its type, shape (outermost first) and bytes. Cheap to clone; the file stays mapped
/// as long as any of its tensors lives.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    pub dtype: GgmlDType,
    pub shape: Vec<usize>,
    pub bytes: Bytes,
}

/// The whole file, never copied.
///
/// # Errors
/// If it cannot be opened or mapped.
#[allow(unsafe_code, reason = "weights are memory-mapped, never copied")]
pub fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    // SAFETY: the store writes a model file under a temporary name and renames it when whole;
    // nothing in this program changes one in place.
    let map = unsafe { Mmap::map(&file) }?;
    Ok(Bytes::from_owner(map))
}
