//! `tutti report`: writes one, or does something with those that are kept.

mod kept;
mod write;

use std::{env, process::ExitCode};

use clap::Subcommand;
use tutti::{
    config::Config,
    report::runs::{self, Runs},
};

use crate::cli;

pub(crate) use kept::ExportArgs;
pub(crate) use write::{NewArgs, ResumeArgs};

/// The whole report was written; clap's own 2 says that the command line was wrong.
const WHOLE: u8 = 0;
/// A report was written, and parts of it are missing.
const WITH_GAPS: u8 = 3;
/// Ctrl-C, as shells have it; the run can be resumed.
const INTERRUPTED: u8 = 130;
/// A signal to terminate, as shells have it.
const TERMINATED: u8 = 143;

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "A topic that is the name of a command comes after `--`: tutti report -- list\n\n\
        Exit codes: 0 the report is whole, 1 there is none, 2 the command line cannot be read, \
        3 the report has gaps, 130 and 143 a signal ended the run, which can be resumed"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    new: NewArgs,
}

#[derive(Subcommand)]
enum Command {
    /// List the reports that are kept, the newest first
    List,
    /// Show what is kept of a report, and how far it is
    Show {
        /// A report's id, or the beginning of it
        id: String,
    },
    /// Go on with a report that was interrupted; what is finished is not written again
    Resume(ResumeArgs),
    /// Write a kept report as a document
    Export(ExportArgs),
    /// Forget a report
    Delete {
        /// A report's id, or the beginning of it
        id: String,
    },
}

/// `program` is what was typed before the command, for what to type next.
pub(super) fn run(config: &Config, program: String, args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        None => write::new(config, program, args.new),
        Some(Command::List) => kept::list(&runs(config)?),
        Some(Command::Show { id }) => kept::show(&runs(config)?, &id),
        Some(Command::Resume(args)) => write::resume(config, program, &runs(config)?, args),
        Some(Command::Export(args)) => kept::export(&runs(config)?, &args),
        Some(Command::Delete { id }) => Ok(runs(config)?.delete(&id)?).map(|()| WHOLE),
    }
    .map(ExitCode::from)
}

/// The one topic, which was not meant as a command.
fn topic(mut words: Vec<String>) -> String {
    let topic = words.pop().unwrap_or_default();
    if !words.is_empty() {
        let whole = [words, vec![topic]].concat().join(" ");
        cli::refuse(format!(
            "a topic is one argument, so put it between quotes: tutti report {}",
            cli::quoted(&whole)
        ));
    }
    if Command::has_subcommand(&topic) && !env::args().any(|word| word == "--") {
        cli::refuse(format!(
            "`{topic}` is a command, which comes before all options: tutti report {topic}; a topic \
             that is called so comes after `--`: tutti report -- {topic}"
        ));
    }
    topic
}

/// The reports that are kept.
pub(super) fn runs(config: &Config) -> anyhow::Result<Runs> {
    let folder = match &config.paths.data {
        Some(folder) => folder.clone(),
        None => runs::default_folder()?,
    };
    Ok(Runs::open(&folder)?)
}
