//! Takes a model's tensors out of its checkpoint by name and shape, and sees that none is left
//! over.

use std::{collections::BTreeSet, path::Path};

use bytes::Bytes;
use candle_core::{
    Device, Tensor,
    quantized::{QMatMul, ggml_file::qtensor_from_ggml},
};

use super::{
    LoadError,
    checkpoint::Checkpoint,
    kernels::{self, Dtype, Weights},
};
use crate::mapped::TensorEntry;

/// A matrix that stays as it is in the mapped file.
pub(super) struct Matrix {
    dtype: Dtype,
    shape: [usize; 2],
    bytes: Bytes,
}

impl Matrix {
    pub(super) fn weights(&self) -> Weights<'_> {
        Weights::new(self.dtype, self.shape, &self.bytes)
    }

    pub(super) fn rows(&self) -> usize {
        self.shape[0]
    }

    /// A copy on a device, in the form it has in the file; plain numbers are widened.
    pub(super) fn on(&self, device: &Device) -> candle_core::Result<QMatMul> {
        let dims = self.shape.to_vec();
        match self.dtype.quantized() {
            Some(dtype) => {
                QMatMul::from_qtensor(qtensor_from_ggml(dtype, &self.bytes, dims, device)?)
            }
            None => {
                let mut values = vec![0.0; self.shape[0] * self.shape[1]];
                for (row, out) in values.chunks_exact_mut(self.shape[1]).enumerate() {
                    kernels::dequantize(self.weights(), row, out);
                }
                Ok(QMatMul::Tensor(Tensor::from_vec(values, dims, device)?))
            }
        }
    }
}

pub(super) struct Tensors<'c> {
    checkpoint: &'c Checkpoint,
    unused: BTreeSet<&'c str>,
}

impl<'c> Tensors<'c> {
    pub(super) fn new(checkpoint: &'c Checkpoint) -> Self {
        let unused = checkpoint.tensors.keys().map(String::as_str).collect();
        Self { checkpoint, unused }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.unused.contains(name)
    }

    /// A matrix of any supported type; its rows are the outputs.
    pub(super) fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Matrix, LoadError> {
        let entry = self.take(name, &shape)?;
        matrix(&self.checkpoint.path, &self.checkpoint.naming.of(name), shape, entry)
    }

    /// A matrix whose number of rows is whatever the file says.
    pub(super) fn table(&mut self, name: &str, cols: usize) -> Result<Matrix, LoadError> {
        let rows = self.find(name)?.shape.first().copied().unwrap_or(0);
        self.matrix(name, [rows, cols])
    }

    /// A short tensor, as plain numbers.
    pub(super) fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let entry = self.take(name, &[length])?;
        let name = self.checkpoint.naming.of(name);
        let row = matrix(&self.checkpoint.path, &name, [1, length], entry)?;
        let mut values = vec![0.0; length];
        kernels::dequantize(row.weights(), 0, &mut values);
        Ok(values)
    }

    /// # Errors
    /// If the file has a tensor that was not taken: the model is not what it was taken for.
    pub(super) fn finish(self) -> Result<(), LoadError> {
        match self.unused.first() {
            Some(tensor) => Err(LoadError::UnknownTensor {
                path: self.checkpoint.path.clone(),
                tensor: self.checkpoint.naming.of(tensor),
            }),
            None => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Result<&'c TensorEntry, LoadError> {
        self.checkpoint.tensors.get(name).ok_or_else(|| LoadError::NoTensor {
            path: self.checkpoint.path.clone(),
            tensor: self.checkpoint.naming.of(name),
        })
    }

    fn take(&mut self, name: &str, expected: &[usize]) -> Result<&'c TensorEntry, LoadError> {
        let entry = self.find(name)?;
        if entry.shape != expected || expected.contains(&0) {
            return Err(LoadError::Shape {
                path: self.checkpoint.path.clone(),
                tensor: self.checkpoint.naming.of(name),
                found: entry.shape.clone(),
                expected: expected.to_vec(),
            });
        }
        self.unused.remove(name);
        Ok(entry)
    }
}

/// The tensor as `shape` numbers of a type there are kernels for.
pub(super) fn matrix(
    path: &Path,
    name: &str,
    shape: [usize; 2],
    entry: &TensorEntry,
) -> Result<Matrix, LoadError> {
    let refuse = || LoadError::Dtype {
        path: path.to_owned(),
        tensor: name.to_owned(),
        dtype: format!("{:?}", entry.dtype),
        cols: shape[1],
    };
    let dtype = Dtype::new(entry.dtype).ok_or_else(refuse)?;
    let (weights, bytes) = dtype.block();
    let size = (shape[1] / weights * bytes).checked_mul(shape[0]);
    if !shape[1].is_multiple_of(weights) || size != Some(entry.bytes.len()) {
        return Err(refuse());
    }
    Ok(Matrix { dtype, shape, bytes: entry.bytes.clone() })
}
