//! `tutti bench`.

use std::{io, path::PathBuf};

use anyhow::bail;
use tutti::{
    bench::{self, Load, Machine, Plan},
    config::Config,
    store::{Bars, Progress},
};

use super::{load, place};

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
    args.json.as_deref().map(place::check).transpose()?;
    let asked = if names.is_empty() { vec![config.default_model.as_str()] } else { names.clone() };
    let has_several = |name: &str| config.ensemble(name).is_some_and(|it| it.members.len() > 1);
    if !args.gate.is_empty() && !asked.into_iter().any(has_several) {
        bail!("--gate is for ensembles, and none is measured");
    }
    let loaded = load::ensembles(config, &names, &bars)?;
    let plan = Plan {
        prefill_chunk: config.engine.prefill_chunk,
        gates: args.gate.clone(),
        sampling: config.sampling.clone(),
        ..if args.quick { Plan::quick() } else { Plan::full() }
    };
    let machine = Machine::here(load::threads(config)?.get());
    let bar = bars.bar();
    let mut figures = bench::run(machine, &loaded.ensembles, &plan, &|text| bar.note(text))?;
    figures.load =
        Some(Load { seconds: loaded.time.as_secs_f64(), files: loaded.weights.values().sum() });
    if let Some(out) = &args.json {
        let json = serde_json::to_string_pretty(&figures)? + "\n";
        place::put(json.as_bytes(), out)?;
        if place::is_output(out) {
            return Ok(());
        }
    }
    Ok(figures.write(&mut io::stdout())?)
}

fn threshold(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(gate) if (0.0..=1.0).contains(&gate) => Ok(gate),
        _ => Err("a threshold is a probability, from 0 to 1".to_owned()),
    }
}
