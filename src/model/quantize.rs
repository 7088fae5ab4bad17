//! Weights made smaller while a model is loaded.

use std::str::FromStr;

use bytes::Bytes;
use candle_core::quantized::GgmlDType;

use super::{
    LoadError, Pool,
    checkpoint::Checkpoint,
    kernels::{self, Dtype},
    tensors::matrix,
};
use crate::mapped::TensorEntry;

/// What becomes of weights that are 16- or 32-bit floats; others stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quantize {
    #[default]
    None,
    /// 8-bit integers with a 16-bit scale for each 32 of them.
    Q8_0,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is `{given}`; it must be q8_0, or none")]
pub struct QuantizeError {
    given: String,
}

impl FromStr for Quantize {
    type Err = QuantizeError;

    fn from_str(text: &str) -> Result<Self, QuantizeError> {
        match text {
            "none" => Ok(Self::None),
            "q8_0" => Ok(Self::Q8_0),
            given => Err(QuantizeError { given: given.to_owned() }),
        }
    }
}

impl std::fmt::Display for Quantize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Q8_0 => "q8_0",
        })
    }
}

/// Rows that a thread takes on at once.
const ROWS: usize = 64;

impl Checkpoint {
    /// What its weights take when they are quantized so.
    pub fn weight_bytes_as(&self, quantize: Quantize) -> u64 {
        let bytes = |entry: &TensorEntry| match quantize {
            Quantize::Q8_0 if is_plain_matrix(entry) => {
                let (weights, bytes) = Dtype::Q8_0.block();
                entry.shape.iter().product::<usize>() / weights * bytes
            }
            _ => entry.bytes.len(),
        };
        self.tensors.values().map(|entry| bytes(entry) as u64).sum()
    }

    /// The same model, smaller; norms and biases stay, and what is quantized already.
    ///
    /// # Errors
    /// If a tensor is not of the size that its shape says.
    pub fn quantized(mut self, quantize: Quantize, pool: &Pool) -> Result<Self, LoadError> {
        if quantize == Quantize::None {
            return Ok(self);
        }
        for (name, entry) in self.tensors.iter_mut().filter(|(_, entry)| is_plain_matrix(entry)) {
            let shape = [entry.shape[0], entry.shape[1]];
            let plain = matrix(&self.path, &self.naming.of(name), shape, entry)?;
            entry.bytes = q8_0(plain.weights(), shape, pool);
            entry.dtype = GgmlDType::Q8_0;
        }
        Ok(self)
    }
}

fn is_plain_matrix(entry: &TensorEntry) -> bool {
    let plain = matches!(entry.dtype, GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16);
    let (weights, _) = Dtype::Q8_0.block();
    plain && matches!(entry.shape[..], [_, cols] if cols > 0 && cols.is_multiple_of(weights))
}

fn q8_0(plain: kernels::Weights<'_>, [rows, cols]: [usize; 2], pool: &Pool) -> Bytes {
    let (weights, bytes) = Dtype::Q8_0.block();
    let row_bytes = cols / weights * bytes;
    let mut out = vec![0; rows * row_bytes];
    let mut tasks: Vec<&mut [u8]> = out.chunks_mut(ROWS * row_bytes).collect();
    pool.for_each(&mut tasks, |task, out| {
        let mut numbers = vec![0.0; cols];
        for (row, out) in (task * ROWS..).zip(out.chunks_exact_mut(row_bytes)) {
            kernels::dequantize(plain, row, &mut numbers);
            let blocks = numbers.chunks_exact(weights).zip(out.chunks_exact_mut(bytes));
            for (numbers, block) in blocks {
                let (scale, integers) = kernels::quantize_group(numbers);
                let (head, rest) = block.split_at_mut(2);
                head.copy_from_slice(&scale.to_le_bytes());
                for (place, integer) in rest.iter_mut().zip(integers) {
                    *place = integer.cast_unsigned();
                }
            }
        }
    });
    out.into()
}
