//! Whether an ensemble is better than its members, on what, and what that costs.
//!
//! Knows [`Generate`](crate::engine::Generate) and [`report`](crate::report), and nothing below
//! them; no sockets, no model files, no configuration. Nothing that serves needs it.
//!
//! A *task* is samples, a solver that asks a model about each, and a scorer of what it answers.

pub mod data;
pub mod program;
pub mod sample;
pub mod sandbox;
pub mod stats;

pub use sample::{Item, Sample, Split};
