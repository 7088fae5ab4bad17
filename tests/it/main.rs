//! The integration tests, one binary.

#![allow(clippy::unwrap_used, reason = "a test panics to fail, its helpers too")]

mod adding;
mod adding_hub;
mod bench;
mod boundaries;
mod closing;
mod composed;
mod damaged;
mod data_sets;
mod desk;
mod devices;
mod duet;
mod engine;
mod eval;
mod folder;
mod golden;
mod model;
mod npm;
mod openings;
mod real;
mod report;
mod resting;
mod sayer;
mod scores;
mod scripted;
mod sentencepiece;
mod server;
mod store;
mod templates;
mod tiny;
mod tokenizer;
mod tokenizer_files;
