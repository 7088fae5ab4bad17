//! `tutti bench`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::bail;
use tutti::{
    bench::{self, Load, Machine, Plan},
    config::{Config, EnsembleConfig},
    report,
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
    let to_output = args.json.as_deref() == Some(Path::new("-"));
    let file = args.json.as_deref().filter(|_| !to_output);
    file.map(report::check_destination).transpose()?;
    let asked = if names.is_empty() { vec![config.default_model.as_str()] } else { names.clone() };
    let is_asked = |ensemble: &&EnsembleConfig| asked.contains(&ensemble.name.as_str());
    let has_several =
        config.ensembles.iter().filter(is_asked).any(|ensemble| ensemble.members.len() > 1);
    if !args.gate.is_empty() && !has_several {
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
    let json = serde_json::to_string_pretty(&figures)? + "\n";
    if to_output {
        return Ok(io::stdout().write_all(json.as_bytes())?);
    }
    if let Some(file) = file {
        report::write_document(file, json.as_bytes())?;
    }
    Ok(figures.write(&mut io::stdout())?)
}

fn threshold(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(gate) if (0.0..=1.0).contains(&gate) => Ok(gate),
        _ => Err("a threshold is a probability, from 0 to 1".to_owned()),
    }
}
