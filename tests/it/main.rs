//! The integration tests, one binary.

mod real;
mod scripted;
mod server;
