//! The HTTP API over a scripted engine.

mod client;
mod completions;
mod ensemble;
mod operations;
mod refusals;
mod reports;
mod routes;
mod socket;
mod streams;
