//! `tutti bench`.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use tutti::{
    bench::{self, Load, Machine, Plan},
    config::Config,
    store::{Bars, Progress},
};

use super::load;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// An ensemble, or one model alone; may be given again [default: the default ensemble and its members]
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// Write the figures as JSON too; `-` writes them to the output instead of the tables
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure ensembles with these thresholds of the gate too, and without
    #[arg(long, value_name = "P,P", value_delimiter = ',', value_parser = threshold)]
    gate: Vec<f64>,
    /// One short round, for a first impression
    #[arg(long)]
    quick: bool,
}

pub(super) fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    let names: Vec<&str> = args.model.iter().map(String::as_str).collect();
    let bars = Bars::stderr();
    let loaded = load::ensembles(config, &names, &bars)?;
    let plan = Plan {
        prefill_chunk: config.engine.prefill_chunk,
        gates: args.gate.clone(),
        sampling: config.sampling.clone(),
        ..if args.quick { Plan::quick() } else { Plan::full() }
    };
    let machine = Machine::here(load::threads(config)?.get());
    let bar = bars.bar();
    let mut report = bench::run(machine, &loaded.ensembles, &plan, &|text| bar.note(text))?;
    report.load =
        Some(Load { seconds: loaded.time.as_secs_f64(), files: loaded.weights.values().sum() });
    let json = || serde_json::to_string_pretty(&report).map(|json| json + "\n");
    let mut out = io::stdout();
    match args.json.as_deref() {
        Some(file) if file == Path::new("-") => Ok(out.write_all(json()?.as_bytes())?),
        Some(file) => {
            report.write(&mut out)?;
            fs::write(file, json()?).with_context(|| format!("cannot write {}", file.display()))
        }
        None => Ok(report.write(&mut out)?),
    }
}

fn threshold(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(gate) if (0.0..).contains(&gate) => Ok(gate),
        _ => Err("a threshold is a probability, from 0".to_owned()),
    }
}
