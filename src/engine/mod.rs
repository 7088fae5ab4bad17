//! The thread that owns all ensembles and sequences, behind the [`Generate`] trait.
//!
//! Knows no HTTP and no wire types.

mod request;

pub use request::{
    Event, FinishReason, Generate, GenerateError, GenerateRequest, Generation, ModelCard, Prompt,
    StopConditions, Usage,
};
