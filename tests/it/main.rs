//! The integration tests, one binary.

#![allow(clippy::unwrap_used, reason = "a test tells what broke by panicking")]

mod real;
mod report;
mod report_file;
mod report_progress;
mod scripted;
