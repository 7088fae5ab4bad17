//! Tokens a second of one model: `cargo bench --bench decode -- [--threads N] FILE.gguf...`
//!
//! Each figure is the best of a few runs, since other processes only ever slow one down.
#![allow(clippy::print_stdout, reason = "the report of a benchmark")]

use std::{
    num::NonZeroUsize,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tutti::{
    gguf::Gguf,
    model::{Decoder, KvCache, LanguageModel, Pool, Row, Want},
    vocab::TokenId,
};

const RUNS: usize = 3;
const STEPS: usize = 24;

fn main() -> anyhow::Result<()> {
    let mut pool = Pool::with_all_cores();
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    // Kept, so that the resident memory is that of all models together.
    let mut models = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--threads" {
            let threads: NonZeroUsize = arguments.next().context("--threads needs one")?.parse()?;
            pool = Pool::new(threads);
            continue;
        }
        let start = Instant::now();
        let model = Decoder::from_gguf(&Gguf::open(Path::new(&argument))?, &pool)?;
        println!("{argument}: loaded in {:.0?}, {} threads", start.elapsed(), pool.threads());
        for length in [128, 512] {
            let time = best(|| prefill(&model, length));
            println!("  prefill {length:4}:  {:7.1} tok/s", per_second(length, time));
        }
        for batch in [1, 2, 4, 8] {
            let time = best(|| decode(&model, batch));
            println!("  decode x {batch}:     {:7.1} tok/s", per_second(batch * STEPS, time));
        }
        models.push(model);
        println!("  resident: {}", resident()?);
    }
    Ok(())
}

fn best(run: impl Fn() -> Duration) -> Duration {
    (0..RUNS).map(|_| run()).min().unwrap_or_default()
}

fn per_second(tokens: usize, time: Duration) -> f64 {
    tokens as f64 / time.as_secs_f64()
}

/// Ordinary tokens, no two prompts alike.
fn prompt(length: usize, salt: usize) -> Vec<TokenId> {
    (0..length).map(|i| TokenId((300 + (i * 7919 + salt * 104_729) % 20_000) as u32)).collect()
}

fn prefill(model: &Decoder, length: usize) -> Duration {
    let tokens = prompt(length, 0);
    let (mut cache, mut logits) = (model.new_cache(), Vec::new());
    let start = Instant::now();
    let row = Row { cache: &mut cache, tokens: &tokens, want: Want::Last, logits: &mut logits };
    model.forward(&mut [row]).expect("the prompt fits the context");
    start.elapsed()
}

/// Steps of one token for each of `batch` sequences of some 32 tokens.
fn decode(model: &Decoder, batch: usize) -> Duration {
    let mut sequences: Vec<(KvCache, Vec<f32>)> =
        (0..batch).map(|_| (model.new_cache(), Vec::new())).collect();
    let mut step = |tokens: &[Vec<TokenId>]| {
        let mut rows: Vec<Row<'_>> = sequences
            .iter_mut()
            .zip(tokens)
            .map(|((cache, logits), tokens)| Row { cache, tokens, want: Want::Last, logits })
            .collect();
        model.forward(&mut rows).expect("the sequences fit the context");
    };
    step(&(0..batch).map(|salt| prompt(32, salt)).collect::<Vec<_>>());
    let start = Instant::now();
    for at in 0..STEPS {
        step(&(0..batch).map(|salt| prompt(1, at * batch + salt)).collect::<Vec<_>>());
    }
    start.elapsed()
}

fn resident() -> anyhow::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no VmRSS")?;
    Ok(line.trim_start_matches("VmRSS:").trim().to_owned())
}
