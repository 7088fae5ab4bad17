//! Whether an ensemble is better than its members, on what, and what that costs.
//!
//! Knows [`Generate`](crate::engine::Generate) and [`report`](crate::report), and nothing below
//! them; no sockets but the judge's, no model files, no configuration. Nothing that serves needs it.
//!
//! A *task* is samples, a solver that asks a model about each, and a scorer of what it answers.
//!
//! | module | does |
//! |---|---|
//! | [`sample`] | one item of a data set, the split into dev and test, the choice of a few |
//! | [`data`] | files of samples |
//! | [`system`](System) | what is compared: members, ensembles, other ways to fuse one |
//! | [`ask`] | scores texts and writes them, through the engine |
//! | `fused` | lets a report be written by an ensemble fused in another way |
//! | [`lattice`] | the probability of a text under an ensemble: what it is and what is computed |
//! | [`task`] | how samples are asked and scored |
//! | [`sandbox`] | runs such a program where it can do no harm |
//! | [`suite`] | which data sets are asked, how much of each, and how |
//! | [`run`] | every system on the same samples, in which order |
//! | [`judge`] | another model says which of two reports is better |
//! | [`log`] | keeps what is finished, for a run that goes on and for all that is told of it |
//! | [`summary`] | figures, verdicts and costs from a log |
//! | [`stats`] | intervals, tests, what a number of samples can show |
//! | [`tune`] | finds weights and temperatures in what members gave to texts |
//! | [`table`], [`pictures`] | all that as text and as pictures |
//! | [`plot`] | draws a picture |

pub mod ask;
pub mod data;
mod fused;
pub mod judge;
pub mod lattice;
pub mod log;
pub mod pictures;
pub mod plot;
pub mod run;
pub mod sample;
pub mod sandbox;
pub mod stats;
pub mod suite;
pub mod summary;
mod system;
pub mod table;
pub mod task;
pub mod tune;

pub use sample::{Item, Sample, Split};
pub use system::{Role, System, Variants};
