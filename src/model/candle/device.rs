//! Where models compute, and why they cannot there.

use std::sync::Arc;

use super::CandleDecoder;
use crate::model::{Decoder, KvFormat, LanguageModel};

/// Where models compute.
#[derive(Clone, Debug)]
pub enum Device {
    /// On this machine's processor, with the kernels of this crate, keys and values kept so.
    Cpu(KvFormat),
    /// With candle's.
    Candle(candle_core::Device),
}

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "this program was built without {name}; build it with `cargo build --release --features {feature}`, or compute on the `cpu`"
    )]
    NotBuilt { name: &'static str, feature: &'static str },
    #[error(
        "cannot compute on {name}: {reason}; compute on the `cpu`, or on a machine that has it"
    )]
    Unavailable { name: String, reason: String },
    #[error("the weights cannot be brought to the device: {reason}")]
    Weights { reason: String },
}

impl Default for Device {
    fn default() -> Self {
        Self::Cpu(KvFormat::default())
    }
}

impl Device {
    /// How keys and values are kept there.
    pub fn kv_format(&self) -> KvFormat {
        match self {
            Self::Cpu(format) => *format,
            Self::Candle(_) => KvFormat::F16,
        }
    }

    /// An NVIDIA card by its number.
    ///
    /// # Errors
    /// If the program was built without CUDA, or there is no such card.
    pub fn cuda(index: usize) -> Result<Self, DeviceError> {
        if !cfg!(feature = "cuda") {
            return Err(DeviceError::NotBuilt { name: "CUDA", feature: "cuda" });
        }
        Self::of(candle_core::Device::new_cuda(index), || format!("the CUDA device {index}"))
    }

    /// The graphics processor of a Mac.
    ///
    /// # Errors
    /// If the program was built without Metal, or there is none.
    pub fn metal() -> Result<Self, DeviceError> {
        if !cfg!(feature = "metal") {
            return Err(DeviceError::NotBuilt { name: "Metal", feature: "metal" });
        }
        Self::of(candle_core::Device::new_metal(0), || "Metal".to_owned())
    }

    fn of(
        found: candle_core::Result<candle_core::Device>,
        name: impl FnOnce() -> String,
    ) -> Result<Self, DeviceError> {
        match found {
            Ok(device) => Ok(Self::Candle(device)),
            Err(error) => {
                Err(DeviceError::Unavailable { name: name(), reason: first_line(&error) })
            }
        }
    }

    /// Brings a model that was read to where it is to compute.
    ///
    /// # Errors
    /// If it does not fit there.
    pub fn place(&self, decoder: Decoder) -> Result<Arc<dyn LanguageModel>, DeviceError> {
        match self {
            Self::Cpu(format) => Ok(Arc::new(decoder.with_kv_format(*format))),
            Self::Candle(device) => match CandleDecoder::new(decoder, device) {
                Ok(model) => Ok(Arc::new(model)),
                Err(error) => Err(DeviceError::Weights { reason: first_line(&error) }),
            },
        }
    }
}

/// Candle's errors may carry a backtrace.
pub(super) fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
