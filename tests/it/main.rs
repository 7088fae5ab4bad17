//! The integration tests, one binary.

mod real;
mod tokenizer;
mod tokenizer_files;
