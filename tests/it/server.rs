//! The HTTP API over a scripted engine.

mod client;
mod completions;
mod operations;
mod refusals;
mod routes;
mod socket;
mod streams;
