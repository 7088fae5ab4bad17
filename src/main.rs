//! The command line: arguments in, one match on the subcommand, an exit code out.

mod cli;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// What is logged unless `RUST_LOG` says otherwise: problems, and a line for each request.
const LOG: &str = "warn,tutti::server=info";

fn main() -> ExitCode {
    let usual = || EnvFilter::new(LOG);
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let filter = asked.map_or_else(usual, |text| {
        EnvFilter::try_new(&text).unwrap_or_else(|error| {
            tell(&format!("RUST_LOG is not used: {error}\n"));
            usual()
        })
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        // Whoever reads the output has enough of it.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {}\n", in_full(&error)));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    // Only the command's own writing: what broke deeper down comes inside another error.
    let own = error.downcast_ref::<std::io::Error>();
    own.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// An error and its causes, but none that the text before it has told already.
fn in_full(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}

/// Writes to the standard error; if that is closed there is no one to tell.
fn tell(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}
