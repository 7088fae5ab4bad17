//! A report's six sections at the same time against one after the other:
//! `cargo bench --bench sections`
//!
//! Both are written by one engine with the default models at the same weight, on one plan, in turn, with
//! the same budgets; what is compared is the time from the first section's start to the last one's
//! end. Sections end where the models end them, so the tokens of both are told beside their times.
#![allow(clippy::print_stdout, reason = "the report of a benchmark")]
#![allow(dead_code, reason = "what the benchmarks share is more than this one needs")]

mod duet;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tutti::{
    bench::median,
    engine::{Engine, EngineConfig},
    model::Pool,
    report::{Done, Part, Plan, PlannedSection, ReportEvent, ReportRequest, write},
    sampling::SamplingParams,
};

const ROUNDS: usize = 3;
/// Long enough that reading the prompts is little of it.
const MAX_TOKENS: usize = 96;
const SECTIONS: [&str; 6] = ["Origins", "Methods", "Data", "Results", "Costs", "Limits"];

fn main() -> anyhow::Result<()> {
    let pool = Pool::with_all_cores();
    let ensemble = Arc::new(duet::ensemble(&duet::models(&pool)?));
    let runtime = tokio::runtime::Runtime::new()?;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (at, (how, max_sequences)) in [("together", 8), ("in turn", 1)].into_iter().enumerate()
        {
            let config = EngineConfig { max_sequences, ..EngineConfig::default() };
            let engine =
                Arc::new(Engine::start(vec![("duet".to_owned(), ensemble.clone())], config)?);
            let (tokens, time) = runtime.block_on(sections(engine, round as u64))?;
            let rate = tokens as f64 / time.as_secs_f64();
            println!(
                "{how:>9}: {tokens} tokens in {:.1} s, {rate:.1} tokens/s",
                time.as_secs_f64()
            );
            times[at].push(rate);
        }
    }
    let [together, in_turn] = times.map(median);
    println!("together {:.2} times as fast, medians of {ROUNDS}", together / in_turn);
    Ok(())
}

/// The tokens of the six sections, and the time from the first one's start to the last one's end.
async fn sections(engine: Arc<Engine>, seed: u64) -> anyhow::Result<(usize, Duration)> {
    let section = |name: &str| PlannedSection { name: name.to_owned(), description: String::new() };
    let request = ReportRequest {
        topic: "Scaling laws of language models".to_owned(),
        model: "duet".to_owned(),
        sections: None,
        plan: Some(Plan {
            language: "English".to_owned(),
            title: "Scaling Laws".to_owned(),
            sections: SECTIONS.map(section).to_vec(),
        }),
        max_tokens: MAX_TOKENS,
        retries: 0,
        plan_max_tokens: None,
        sampling: SamplingParams {
            temperature: 0.7,
            top_p: 0.95,
            seed,
            ..SamplingParams::default()
        },
    };
    let (mut started, mut ended, mut tokens) = (None, None, 0);
    let mut observer = |event| match event {
        ReportEvent::SectionStarted { part: Part::Section { .. }, .. } => {
            started.get_or_insert_with(Instant::now);
        }
        ReportEvent::SectionFinished { part: Part::Section { .. }, section } => {
            tokens += section.usage.completion_tokens;
            ended = Some(Instant::now());
        }
        _ => {}
    };
    write(engine, &request, Done::default(), &mut observer).await?;
    let (started, ended) = started.zip(ended).context("sections were written")?;
    Ok((tokens, ended - started))
}
