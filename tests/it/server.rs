//! The HTTP API over a scripted engine.

mod cancel;
mod client;
mod closing;
mod completions;
mod determinism;
mod ensemble;
mod golden;
mod mistyped;
mod operations;
mod raw;
mod refusals;
mod reports;
mod responses;
mod routes;
#[cfg(unix)]
mod sigterm;
mod socket;
mod streams;
mod switches;
mod tools;
