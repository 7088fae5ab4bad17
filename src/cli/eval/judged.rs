//! Reports judged by another model, and what it said.

use std::path::Path;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use tutti::eval::{
    judge::{self, Endpoint},
    log::{self, Header, Log, Record},
    task::{Kind, Task},
};

use super::Args;

/// The judge's key.
const ENV_KEY: &str = "TUTTI_JUDGE_KEY";
/// What it said, beside the run's log.
const VERDICTS: &str = "judge.jsonl";

/// Refuses a judge that would have nothing to judge.
pub(super) fn check(args: &Args, tasks: &[Task]) -> anyhow::Result<()> {
    if args.judge.is_some() && !tasks.iter().any(|task| matches!(task.kind, Kind::Report(_))) {
        bail!("--judge is for reports, and none are asked for; name them with --task longwrite");
    }
    Ok(())
}

/// Asks the judge, if there is one, what it has not been asked.
pub(super) fn ask(
    args: &Args,
    folder: &Path,
    (header, records): (&Header, &[Record]),
) -> anyhow::Result<()> {
    let (Some(url), Some(model)) = (&args.judge, &args.judge_model) else { return Ok(()) };
    let key = std::env::var(ENV_KEY).ok().filter(|key| !key.trim().is_empty());
    let endpoint = Endpoint::new(url, model, key);
    let mut log = Log::open(&folder.join(VERDICTS), &judge::header(header, model))?;
    let style = ProgressStyle::with_template("{bar:24} {pos} of {len} verdicts, {eta} left");
    let bar = ProgressBar::new(0).with_style(style.expect("the template is sound"));
    let mut observer = |done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let judged = judge::judge(&endpoint, (header, records), &mut log, &mut observer);
    bar.finish_and_clear();
    Ok(judged?)
}

/// What the judge has said of the run in this folder, if one was asked.
pub(super) fn table(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join(VERDICTS);
    if !path.exists() {
        return Ok(String::new());
    }
    let (header, verdicts) = log::read(&path)?;
    Ok(judge::table(&header, &verdicts))
}
