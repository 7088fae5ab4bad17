//! `tutti models add`.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, bail};
use indicatif::DecimalBytes;
use tutti::{
    config::Config,
    ensemble::{self, BESIDE, Card},
    store::{
        self, Address, Bars, Content, Existing, Manifest, ModelFile, Progress, Source, Store,
        StoreError,
    },
};

use super::Files;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A GGUF file, the first of a split one, or a folder with `config.json`, `tokenizer.json` and
    /// weights in safetensors; or such of the Hugging Face Hub, as hf:OWNER/NAME,
    /// hf:OWNER/NAME@REVISION or hf:OWNER/NAME:FILE.gguf
    #[arg(value_name = "PATH|hf:OWNER/NAME")]
    model: String,
    /// What the model is to be called [default: the file's or folder's name]
    #[arg(long)]
    id: Option<String>,
    /// Take the place of a model that is called so already
    #[arg(long)]
    force: bool,
}

pub(super) fn run(config: &Config, files: &Files, args: &Args) -> anyhow::Result<()> {
    // Known before minutes are spent on sums; the writing itself looks again.
    let free = |id: String| {
        if config.ensemble(&id).is_some() {
            bail!("an ensemble is called `{id}`; name the model otherwise with `--id`");
        }
        if !args.force && store::find(&files.manifests, &id).is_ok() {
            return Err(StoreError::Taken { id }.into());
        }
        Ok(id)
    };
    let (out, bar) = (&mut io::stdout(), &Bars::stderr().bar());
    let (id, Found { card, files: found }) = match args.model.strip_prefix("hf:") {
        Some(address) => {
            let address = Address::parse(address)?;
            let id = free(args.id.clone().unwrap_or_else(|| name_of_repository(&address)))?;
            let found = on_the_hub(&files.store, &address, bar)
                .with_context(|| format!("cannot add {}", args.model))?;
            told(describe(&found.card, out))?;
            (id, found)
        }
        None => {
            // A path like `.` has a name only when it is resolved.
            let path = Path::new(&args.model).canonicalize();
            let path = path.with_context(|| format!("cannot find {}", args.model))?;
            let id = free(args.id.clone().map_or_else(|| name_of(&path), Ok)?)?;
            let card = Card::read(&path);
            let card = card.context("cannot add it")?;
            told(describe(&card, out))?;
            let measured = card.files.iter().map(|file| files.store.measure(file, bar));
            (id, Found { files: measured.collect::<Result<_, _>>()?, card })
        }
    };
    let first = card.first.as_ref().filter(|_| found.len() > 1);
    let manifest = Manifest {
        name: card.name.unwrap_or_else(|| id.clone()),
        id,
        content: Content::Model { architecture: card.architecture },
        licence: card.licence.unwrap_or_else(|| NOT_STATED.to_owned()),
        open: first.and_then(|path| path.file_name()?.to_str()).map(str::to_owned),
        files: found,
    };
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let written = store::write(&manifest, &files.folder, existing)?;
    Ok(writeln!(out, "added as `{}`: {}", manifest.id, written.display())?)
}

/// The model is added though nobody reads what it is.
fn told(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

/// A model, and its files for the manifest.
struct Found {
    card: Card,
    files: Vec<ModelFile>,
}

/// Reads the headers of weights and all of what is small.
fn on_the_hub(store: &Store, address: &Address, progress: &dyn Progress) -> anyhow::Result<Found> {
    let repository = store.repository(address)?;
    let listed = repository.model(address.file.as_deref(), &BESIDE)?;
    let folder = tempfile::tempdir()?;
    let mut files = Vec::new();
    for file in &listed {
        let path = folder.path().join(file.name());
        let read = |range| repository.read(file, range).map_err(io::Error::other);
        let is_weights = [".gguf", ".safetensors"].iter().any(|end| file.path.ends_with(end));
        let sources = vec![Source::Hub(repository.source(file))];
        files.push(match &file.sha256 {
            Some(sha256) if is_weights => {
                ensemble::sketch(&path, file.size, &read)?;
                let (name, sha256) = (file.name().to_owned(), sha256.clone());
                ModelFile { name, size: file.size, sha256, sources }
            }
            _ => {
                fs::write(&path, repository.read(file, 0..file.size)?)?;
                ModelFile { sources, ..store.measure(&path, progress)? }
            }
        });
    }
    let is_gguf = listed[0].path.ends_with(".gguf");
    let path = if is_gguf { folder.path().join(listed[0].name()) } else { folder.path().into() };
    let mut card = Card::read(&path)?;
    card.licence = card.licence.or_else(|| repository.licence().map(str::to_owned));
    Ok(Found { card, files })
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

/// The repository's name, or that of the file that is named in it.
fn name_of_repository(Address { repo, file, .. }: &Address) -> String {
    let name = match file {
        Some(file) => name_of(Path::new(file)).ok(),
        None => repo.split_once('/').map(|(_, name)| name.to_owned()),
    };
    name.unwrap_or_else(|| repo.clone())
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
