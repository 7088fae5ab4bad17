//! The integration tests, one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod real;
mod tokenizer;
mod tokenizer_files;
