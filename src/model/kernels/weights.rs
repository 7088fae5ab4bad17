//! A matrix as it lies in the file.

use candle_core::quantized::GgmlDType;

/// The formats there are kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl Dtype {
    pub(crate) fn new(dtype: GgmlDType) -> Option<Self> {
        Some(match dtype {
            GgmlDType::F32 => Self::F32,
            GgmlDType::F16 => Self::F16,
            GgmlDType::BF16 => Self::Bf16,
            GgmlDType::Q4_0 => Self::Q4_0,
            GgmlDType::Q4_1 => Self::Q4_1,
            GgmlDType::Q5_0 => Self::Q5_0,
            GgmlDType::Q5_1 => Self::Q5_1,
            GgmlDType::Q8_0 => Self::Q8_0,
            GgmlDType::Q2K => Self::Q2K,
            GgmlDType::Q3K => Self::Q3K,
            GgmlDType::Q4K => Self::Q4K,
            GgmlDType::Q5K => Self::Q5K,
            GgmlDType::Q6K => Self::Q6K,
            _ => return None,
        })
    }

    /// Candle's name for it, unless it is of plain numbers.
    pub(crate) fn quantized(self) -> Option<GgmlDType> {
        Some(match self {
            Self::F32 | Self::F16 | Self::Bf16 => return None,
            Self::Q4_0 => GgmlDType::Q4_0,
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q5_0 => GgmlDType::Q5_0,
            Self::Q5_1 => GgmlDType::Q5_1,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q2K => GgmlDType::Q2K,
            Self::Q3K => GgmlDType::Q3K,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q5K => GgmlDType::Q5K,
            Self::Q6K => GgmlDType::Q6K,
        })
    }

    /// How many weights share how many bytes.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }
}

/// `rows` of `cols` weights, row after row.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub(super) dtype: Dtype,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> Weights<'a> {
    /// # Panics
    /// If a row is not whole blocks or `bytes` is not `rows` of them: the kernels rely on it.
    pub(crate) fn new(dtype: Dtype, shape: [usize; 2], bytes: &'a [u8]) -> Self {
        let [rows, cols] = shape;
        let weights = Self { dtype, rows, cols, bytes };
        assert!(cols.is_multiple_of(dtype.block().0), "a row is whole blocks");
        assert_eq!(bytes.len(), rows * weights.row_bytes(), "as many bytes as the shape says");
        weights
    }

    pub(super) fn row_bytes(self) -> usize {
        let (weights, bytes) = self.dtype.block();
        self.cols / weights * bytes
    }

    pub(super) fn row(self, row: usize) -> &'a [u8] {
        let length = self.row_bytes();
        &self.bytes[row * length..][..length]
    }
}
