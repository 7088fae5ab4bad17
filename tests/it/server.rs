//! The HTTP API over a scripted engine.

mod client;
mod completions;
mod determinism;
mod ensemble;
mod operations;
mod raw;
mod refusals;
mod reports;
mod responses;
mod routes;
mod socket;
mod streams;
mod switches;
mod tools;
