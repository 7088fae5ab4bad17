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
    bench::{self, Decode},
    gguf::Gguf,
    model::{Decoder, KvFormat, ModelError, Pool},
};

const RUNS: usize = 3;
const STEPS: usize = 24;
/// A prompt whose keys and values take longer to read than many weights.
const LONG: usize = 1500;

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
        let mut model = Decoder::from_gguf(&Gguf::open(Path::new(&argument))?, &pool)?;
        println!("{argument}: loaded in {:.0?}, {} threads", start.elapsed(), pool.threads());
        for length in [128, 512] {
            let time = best(|| bench::prefill(&model, length))?;
            println!("  prefill {length:4}:  {:7.1} tok/s", per_second(length, time));
        }
        for batch in [1, 2, 4, 8] {
            let what = Decode { batch, prompt: 32, steps: STEPS };
            let time = best(|| bench::decode(&model, what))?;
            println!("  decode x {batch}:     {:7.1} tok/s", per_second(batch * STEPS, time));
        }
        // In turn, so that other processes hit both.
        let mut times = [Duration::MAX; 2];
        for _ in 0..RUNS {
            for (format, time) in [KvFormat::F16, KvFormat::Q8].into_iter().zip(&mut times) {
                model = model.with_kv_format(format);
                let what = Decode { batch: 1, prompt: LONG, steps: STEPS };
                *time = bench::decode(&model, what)?.min(*time);
            }
        }
        let [f16, q8] = times.map(|time| per_second(STEPS, time));
        println!(
            "  after {LONG} tokens: {f16:.1} tok/s with keys and values in 16 bits, {q8:.1} in 8 \
             bits, ratio {:.2}",
            q8 / f16
        );
        models.push(model);
        println!("  resident: {}", resident()?);
    }
    Ok(())
}

fn best(run: impl Fn() -> Result<Duration, ModelError>) -> Result<Duration, ModelError> {
    (0..RUNS).try_fold(Duration::MAX, |best, _| Ok(best.min(run()?)))
}

fn per_second(tokens: usize, time: Duration) -> f64 {
    tokens as f64 / time.as_secs_f64()
}

fn resident() -> anyhow::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no VmRSS")?;
    Ok(line.trim_start_matches("VmRSS:").trim().to_owned())
}
