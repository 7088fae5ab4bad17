//! Whether an ensemble is better than its members, on what, and what that costs.
//!
//! Knows [`Generate`](crate::engine::Generate) and [`report`](crate::report), and nothing below
//! them; no sockets, no model files, no configuration. Nothing that serves needs it.
//!
//! A *task* is samples, a solver that asks a model about each, and a scorer of what it answers.

pub mod ask;
pub mod lattice;
pub mod log;
pub mod run;
pub mod sample;
pub mod stats;
pub mod summary;
mod system;
pub mod table;
pub mod task;

pub use sample::{Item, Sample, Split};
pub use system::{Role, System, Variants};
