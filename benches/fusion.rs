//! What the steps of the default models take beside the forwards, by rule: `cargo bench --bench
//! fusion -- [--rounds N]`
//!
//! Each round measures every rule once, in turn, so that other processes hit all. Figures are
//! medians; compare the ratios.
#![allow(clippy::print_stdout, reason = "the report of a benchmark")]
#![allow(dead_code, reason = "what the benchmarks share is more than this one needs")]

mod duet;

use std::time::Duration;

use anyhow::Context as _;
use tutti::{
    bench::{self, Lockstep, Plan, median},
    ensemble::{Rule, Settings},
    model::Pool,
    sampling::SamplingParams,
};

const RULES: [&str; 5] = ["mean", "power:0.5", "geometric", "max", "majority"];
/// Sequences that are stepped together.
const BATCHES: [usize; 2] = [1, 8];

fn main() -> anyhow::Result<()> {
    let mut rounds = 5;
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        anyhow::ensure!(argument == "--rounds", "`{argument}` is not known; there is --rounds N");
        rounds = arguments.next().context("a number is missing")?.parse()?;
        anyhow::ensure!(rounds > 0, "there is nothing to tell of no round");
    }
    let models = duet::models(&Pool::with_all_cores())?;
    let ensembles = RULES.map(|rule| {
        let rule: Rule = rule.parse().expect("the rules are written right");
        duet::ensemble(&models).with_settings(&Settings { rule, ..Settings::default() })
    });
    // As the configuration draws where nothing is said.
    let sampling = SamplingParams { temperature: 0.7, top_p: 0.95, ..SamplingParams::default() };
    let plan = Plan { sampling, ..Plan::full() };
    // By batch and rule, round by round.
    let mut figures = vec![[const { Vec::new() }; RULES.len()]; BATCHES.len()];
    for _ in 0..rounds {
        for (&batch, figures) in BATCHES.iter().zip(&mut figures) {
            for (ensemble, figures) in ensembles.iter().zip(figures) {
                figures.push(bench::lockstep(ensemble, batch, &plan)?);
            }
        }
    }
    for (batch, figures) in BATCHES.iter().zip(&figures) {
        println!("{batch} sequences   fusion, ms a step   of the mean's   beside the forwards");
        let first = median(figures[0].iter().map(fusion));
        for (rule, figures) in RULES.iter().zip(figures) {
            let fusion = median(figures.iter().map(fusion));
            let beside = median(figures.iter().map(beside));
            println!("  {rule:12} {fusion:19.3} {:15.2} {beside:19.2} %", fusion / first);
        }
    }
    Ok(())
}

/// Softmax, projection and rule, in milliseconds a step.
fn fusion(measured: &Lockstep) -> f64 {
    1000.0 * measured.times.mix.as_secs_f64() / measured.steps as f64
}

/// The share of the step that is not forwards, in percent.
fn beside(measured: &Lockstep) -> f64 {
    let forwards: Duration = measured.times.forward.iter().sum();
    100.0 * (1.0 - forwards.as_secs_f64() / measured.wall.as_secs_f64())
}
