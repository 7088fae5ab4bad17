//! Ours against llama.cpp: `cargo bench --bench llama -- [--rounds N] [--threads N]`
//!
//! Runs `llama-bench` and `llama-batched-bench`, from the paths in `LLAMA_BENCH` and
//! `LLAMA_BATCHED_BENCH` or else from `PATH`, on the default models; without them it says so and
//! ends well. Each round measures everything once, ours and theirs in turn, so that other
//! processes hit both. Compare the ratios, not the speeds: of the medians, and of the best
//! rounds, which other processes disturb least.
#![allow(clippy::print_stdout, reason = "the report of a benchmark")]

mod duet;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use duet::Model;
use serde_json::Value;
use tutti::{
    bench::{self, Decode, Machine, Plan, median},
    ensemble::{Ensemble, LoadedModel},
    model::{LanguageModel, Pool},
};

const STEPS: usize = 64;
const BATCH: usize = 8;
/// In `llama-batched-bench` every sequence reads a prompt first.
const BATCH_PROMPT: usize = 16;
const BATCH_STEPS: usize = 32;
const PREFILL: [usize; 2] = [128, 512];

fn main() -> anyhow::Result<()> {
    let (mut rounds, mut threads) = (5, std::thread::available_parallelism()?);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let value: NonZeroUsize = arguments.next().context("a number is missing")?.parse()?;
        match argument.as_str() {
            "--rounds" => rounds = value.get(),
            "--threads" => threads = value,
            _ => bail!("`{argument}` is not known; there are --rounds N and --threads N"),
        }
    }
    let found = (
        binary("LLAMA_BENCH", "llama-bench")?,
        binary("LLAMA_BATCHED_BENCH", "llama-batched-bench")?,
    );
    let (Some(single), Some(batched)) = found else {
        println!(
            "nothing to compare with: name llama.cpp's binaries in LLAMA_BENCH and \
             LLAMA_BATCHED_BENCH, or have llama-bench and llama-batched-bench in the PATH"
        );
        return Ok(());
    };
    let bench = Comparison::load(Llama { single, batched, threads: threads.get() }, threads)?;
    println!("{}, {rounds} rounds, {}\n", Machine::here(threads.get()), load());
    let mut rows = Vec::new();
    let mut shares = Vec::new();
    for round in 0..rounds {
        bench.round(&mut rows, &mut shares)?;
        println!("round {} is done, {}", round + 1, load());
    }
    print(&rows);
    println!(
        "all but the forwards: median {:.2} % of the step, wanted: below 2 %",
        median(shares.iter().copied())
    );
    Ok(())
}

/// The path in a variable, or else the first of this name in `PATH`.
fn binary(variable: &str, name: &str) -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
        ensure!(path.is_file(), "{variable} names no file: {}", path.display());
        return Ok(Some(path));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file()))
}

/// How busy the machine is, where Linux tells.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load {}", load.split(' ').next().unwrap_or("unknown"))
}

/// One goal: tokens a second of both, round by round.
struct Row {
    what: String,
    ours: Vec<f64>,
    theirs: Vec<f64>,
    /// The ratio that is wanted.
    goal: f64,
}

fn add(rows: &mut Vec<Row>, what: &str, goal: f64, [ours, theirs]: [f64; 2]) {
    if let Some(row) = rows.iter_mut().find(|row| row.what == what) {
        row.ours.push(ours);
        row.theirs.push(theirs);
    } else {
        rows.push(Row { what: what.to_owned(), ours: vec![ours], theirs: vec![theirs], goal });
    }
}

fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
    println!(
        "\n{:width$}  {:>8}  {:>9}  {:>6}  {:>6}  {:>11}  {:>6}",
        "tokens/s", "tutti", "llama.cpp", "ratio", "goal", "", "best"
    );
    for Row { what, ours, theirs, goal } in rows {
        let [our, their] = [ours, theirs].map(|values| median(values.iter().copied()));
        let [our_best, their_best] =
            [ours, theirs].map(|values| values.iter().copied().fold(0.0, f64::max));
        let met = if our / their >= *goal { "met" } else { "not met" };
        println!(
            "{what:width$}  {our:8.1}  {their:9.1}  {:6.2}  {goal:6.2}  {met:>11}  {:6.2}",
            our / their,
            our_best / their_best
        );
    }
}

struct Comparison {
    llama: Llama,
    models: Vec<Model>,
    ensemble: Ensemble,
}

impl Comparison {
    fn load(llama: Llama, threads: NonZeroUsize) -> anyhow::Result<Self> {
        let pool = Pool::new(threads);
        let models = duet::models(&pool)?;
        for Model { loaded, .. } in &models {
            // llama.cpp's benchmarks begin with an uncounted run too.
            bench::prefill(&*loaded.model, 128)?;
        }
        let ensemble = duet::ensemble(&models);
        Ok(Self { llama, models, ensemble })
    }

    /// Everything once.
    fn round(&self, rows: &mut Vec<Row>, shares: &mut Vec<f64>) -> anyhow::Result<()> {
        let mut token_of_each = 0.0;
        for Model { name, path, loaded: LoadedModel { model, .. } } in &self.models {
            let mut model_rows = |what: &str, goal: f64, both| {
                add(rows, &format!("{name} {what}"), goal, both);
            };
            for length in PREFILL {
                let ours = length as f64 / bench::prefill(&**model, length)?.as_secs_f64();
                let theirs = self.llama.prefill(path, length)?;
                model_rows(&format!("prefill {length}"), 2.0, [ours, theirs]);
            }
            // llama-bench decodes from an empty context; ours has one token of it.
            let ours = decode(&**model, Decode { batch: 1, prompt: 1, steps: STEPS })?;
            let theirs = self.llama.decode(path)?;
            token_of_each += 1.0 / theirs;
            model_rows("decode", 1.2, [ours, theirs]);
            let what = Decode { batch: BATCH, prompt: BATCH_PROMPT, steps: BATCH_STEPS };
            let both = [decode(&**model, what)?, self.llama.decode_batch(path)?];
            model_rows(&format!("decode x {BATCH}"), 1.5, both);
        }
        let plan = Plan { prompt: 16, steps: STEPS, ..Plan::full() };
        let one = bench::lockstep(&self.ensemble, 1, &plan)?;
        let wall = one.wall.as_secs_f64();
        let speed = one.tokens as f64 / wall;
        let forwards: f64 = one.times.forward.iter().map(std::time::Duration::as_secs_f64).sum();
        shares.push(100.0 * (wall - forwards) / wall);
        add(rows, "ensemble, against a token of each", 1.0, [speed, 1.0 / token_of_each]);
        let plan = Plan { steps: BATCH_STEPS, ..plan };
        let many = bench::lockstep(&self.ensemble, BATCH, &plan)?;
        let many = many.tokens as f64 / many.wall.as_secs_f64();
        add(rows, "ensemble x 8, against ours x 1", 3.0, [many, speed]);
        Ok(())
    }
}

/// Tokens a second of all sequences together.
fn decode(model: &dyn LanguageModel, what: Decode) -> anyhow::Result<f64> {
    let time = bench::decode(model, what)?;
    Ok((what.batch * what.steps) as f64 / time.as_secs_f64())
}

/// llama.cpp's own benchmarks.
struct Llama {
    single: PathBuf,
    batched: PathBuf,
    threads: usize,
}

impl Llama {
    fn prefill(&self, model: &Path, length: usize) -> anyhow::Result<f64> {
        self.single(model, length, 0)
    }

    fn decode(&self, model: &Path) -> anyhow::Result<f64> {
        self.single(model, 0, STEPS)
    }

    /// Tokens a second of reading a prompt or of decoding; the other one is 0.
    fn single(&self, model: &Path, prompt: usize, steps: usize) -> anyhow::Result<f64> {
        let mut command = self.command(&self.single, model);
        command.args(["-p", &prompt.to_string(), "-n", &steps.to_string()]);
        let answer = json(command.args(["-r", "1", "-o", "json"]))?;
        answer[0]["avg_ts"].as_f64().with_context(|| format!("no speed in {answer}"))
    }

    fn decode_batch(&self, model: &Path) -> anyhow::Result<f64> {
        let mut command = self.command(&self.batched, model);
        command.args(["-npp", &BATCH_PROMPT.to_string(), "-ntg", &BATCH_STEPS.to_string()]);
        command.args(["-npl", &BATCH.to_string(), "-c", "1024", "--output-format", "jsonl"]);
        let answer = json(&mut command)?;
        answer["speed_tg"].as_f64().with_context(|| format!("no speed in {answer}"))
    }

    fn command(&self, program: &Path, model: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("-m").arg(model).args(["-t", &self.threads.to_string()]);
        command
    }
}

fn json(command: &mut Command) -> anyhow::Result<Value> {
    let program = command.get_program().to_owned();
    let output = command.stderr(Stdio::null()).stdin(Stdio::null()).output()?;
    ensure!(
        output.status.success(),
        "{} failed ({}); was it built for this machine?",
        program.display(),
        output.status
    );
    serde_json::from_slice(&output.stdout).context("llama.cpp did not answer in JSON")
}
