//! Text to token ids and back, from GGUF metadata or `tokenizer.json`; chat templates.
//!
//! Knows no union and no tensors; the only user of the `tokenizers` crate.

pub mod chat;
