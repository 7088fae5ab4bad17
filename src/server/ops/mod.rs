//! What operators see and set: keys, limits, logs, metrics, probes.
//!
//! Knows no wire type of the API but its errors.

mod access;
mod cors;
mod counted;
mod keys;
pub(super) mod metrics;
pub(super) mod probes;

pub use keys::ApiKeys;

pub(super) use access::{Record, watch};
pub(super) use cors::layer as cors;
pub(super) use counted::Counted;
pub(super) use keys::check as check_key;
pub(super) use metrics::{Metrics, expose};
pub(super) use probes::{health, ready, version};
