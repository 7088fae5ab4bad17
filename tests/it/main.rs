//! The integration tests, one binary.

#![allow(clippy::unwrap_used, reason = "a test panics to fail, its helpers too")]

mod adding;
mod bench;
mod boundaries;
mod damaged;
mod data_sets;
mod devices;
mod duet;
mod engine;
mod folder;
mod golden;
mod model;
mod npm;
mod real;
mod report;
mod scores;
mod scripted;
mod sentencepiece;
mod server;
mod store;
mod tiny;
mod tokenizer;
mod tokenizer_files;
