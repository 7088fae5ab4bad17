//! `tutti models add`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use indicatif::DecimalBytes;
use tutti::{
    config::Config,
    ensemble::Card,
    store::{self, Bars, Content, Existing, Manifest, StoreError},
};

use super::Files;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A GGUF file, the first of a split one, or a folder with `config.json`, `tokenizer.json` and
    /// weights in safetensors
    path: PathBuf,
    /// What the model is to be called [default: the file's or folder's name]
    #[arg(long)]
    id: Option<String>,
    /// Take the place of a model that is called so already
    #[arg(long)]
    force: bool,
}

pub(super) fn run(config: &Config, files: &Files, args: &Args) -> anyhow::Result<()> {
    // A path like `.` has a name only when it is resolved.
    let path = args.path.canonicalize();
    let path = path.with_context(|| format!("cannot find {}", args.path.display()))?;
    let id = match &args.id {
        Some(id) => id.clone(),
        None => name_of(&path)?,
    };
    if config.ensembles.iter().any(|ensemble| ensemble.name == id) {
        bail!("an ensemble is called `{id}`; name the model otherwise with `--id`");
    }
    // Known before minutes are spent on sums; the writing itself looks again.
    if !args.force && store::find(&files.manifests, &id).is_ok() {
        return Err(StoreError::Taken { id }.into());
    }
    let card = Card::read(&path).with_context(|| format!("cannot add {}", path.display()))?;
    let mut out = io::stdout();
    describe(&card, &mut out)?;
    let bar = Bars::stderr().bar();
    let measured = card.files.iter().map(|file| files.store.measure(file, &bar));
    let measured = measured.collect::<Result<Vec<_>, _>>()?;
    let first = card.first.as_ref().filter(|_| measured.len() > 1);
    let manifest = Manifest {
        name: card.name.unwrap_or_else(|| id.clone()),
        id,
        content: Content::Model { architecture: card.architecture },
        licence: card.licence.unwrap_or_else(|| NOT_STATED.to_owned()),
        open: first.and_then(|path| path.file_name()?.to_str()).map(str::to_owned),
        files: measured,
    };
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let written = store::write(&manifest, &files.folder, existing)?;
    Ok(writeln!(out, "added as `{}`: {}", manifest.id, written.display())?)
}

const NOT_STATED: &str = "not stated";

/// What a file or folder calls its model: without the ending, nor the number of a split file.
fn name_of(path: &Path) -> anyhow::Result<String> {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let name = name.and_then(|name| name.to_str()).with_context(|| {
        format!("{} has no name for a model; give it one with `--id`", path.display())
    })?;
    let split = name.rfind("-00001-of-").filter(|_| !path.is_dir());
    Ok(name[..split.unwrap_or(name.len())].to_owned())
}

fn describe(card: &Card, out: &mut impl Write) -> io::Result<()> {
    let (weights, cache) = (card.weight_bytes, card.cache_bytes);
    let stops = card.stops.iter().map(|(id, name)| format!("{name} ({})", id.0));
    let stops: Vec<_> = stops.collect();
    let size: u64 =
        card.files.iter().filter_map(|file| file.metadata().ok()).map(|it| it.len()).sum();
    let template =
        if card.template { "yes" } else { "none: it goes on with texts, but takes no chats" };
    let stops = match &stops[..] {
        [] => "none: its texts end at the token limit only".to_owned(),
        stops => stops.join(", "),
    };
    let lines = [
        ("name", card.name.clone().unwrap_or_else(|| NOT_STATED.to_owned())),
        ("architecture", card.architecture.clone()),
        ("parameters", format!("{:.1} million", card.parameters as f64 / 1e6)),
        ("context", format!("{} tokens", card.context_length)),
        ("tokenizer", format!("{}, {} tokens", card.tokenizer, card.tokens)),
        ("chat template", template.to_owned()),
        ("stops", stops),
        ("licence", card.licence.clone().unwrap_or_else(|| NOT_STATED.to_owned())),
        (
            "memory",
            format!(
                "{}: {} of weights, {} for one full context",
                DecimalBytes(weights + cache),
                DecimalBytes(weights),
                DecimalBytes(cache)
            ),
        ),
        ("files", format!("{}, {}", card.files.len(), DecimalBytes(size))),
    ];
    for (what, text) in lines {
        writeln!(out, "{what:14} {text}")?;
    }
    Ok(())
}
