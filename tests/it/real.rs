//! The default models on disk.

use std::path::PathBuf;

/// SmolLM2-135M-Instruct Q4_1.
pub(crate) fn smollm2() -> PathBuf {
    PathBuf::from("/work/models/SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// Qwen2.5-Coder-0.5B-Instruct Q4_K_M.
pub(crate) fn qwen() -> PathBuf {
    PathBuf::from("/work/models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf")
}
