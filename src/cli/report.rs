//! `tutti report`.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context;
use indicatif::ProgressDrawTarget;
use tutti::{
    config::Config,
    report::{self, MAX_SECTIONS, ReportRequest, progress::Progress},
    sampling::SamplingParams,
    store::Bars,
};

use super::load;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the report is about, in any language
    topic: String,
    /// The document to write; one that is there is replaced when the new one is complete
    #[arg(long, value_name = "FILE", default_value = "report.md")]
    out: PathBuf,
    #[arg(long, value_name = "N", help = format!("Exactly so many sections, 1 to {MAX_SECTIONS} [default: the planner chooses]"))]
    sections: Option<usize>,
    /// The most tokens of a section
    #[arg(long, value_name = "N", default_value_t = 400)]
    max_tokens: usize,
    /// The same seed gives the same report [default: a new one each time, told in the report]
    #[arg(long)]
    seed: Option<u64>,
    /// An ensemble, or one model alone [default: the configuration's]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

pub(super) fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let request = ReportRequest {
        topic: args.topic,
        model: args.model.unwrap_or_else(|| config.default_model.clone()),
        sections: args.sections,
        max_tokens: args.max_tokens,
        plan_max_tokens: None,
        sampling: SamplingParams {
            seed: args.seed.unwrap_or_else(new_seed),
            ..config.sampling.clone()
        },
    };
    // All that can be refused is refused before anything is fetched or loaded.
    request.check()?;
    report::check_destination(&args.out)?;
    let engine = Arc::new(load::engine(config, &[&request.model], &Bars::stderr())?);
    let mut progress = if io::stderr().is_terminal() {
        Progress::bars(ProgressDrawTarget::stderr())
    } else {
        Progress::lines(io::stderr())
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let written = runtime
        .block_on(report::write(engine, request, &mut |event| progress.observe(&event)))
        .context("no report")?;
    report::write_document(&args.out, &written.markdown())?;
    Ok(writeln!(io::stdout(), "{}", args.out.display())?)
}

/// A seed that another run is unlikely to have; small enough to be typed again.
fn new_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos()) ^ (since.as_secs() & 0xFFFF)
}
