//! Manifests: what files are called, how long they are, their sums, and where they may be had.

mod raw;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StoreError, disk::cannot};
use raw::RawManifest;

/// The manifests that come with the program, so that an installed binary needs no folder.
const BUILT_IN: [(&str, &str); 3] = [
    ("smollm2-135m-instruct", include_str!("../../models/smollm2-135m-instruct.toml")),
    ("qwen2.5-coder-0.5b-instruct", include_str!("../../models/qwen2.5-coder-0.5b-instruct.toml")),
    ("qwen2.5-coder-1.5b-instruct", include_str!("../../models/qwen2.5-coder-1.5b-instruct.toml")),
];

/// The manifests of data sets that come with the program.
const BUILT_IN_SAMPLES: [(&str, &str); 7] = [
    ("gsm8k", include_str!("../../eval/data/gsm8k.toml")),
    ("hellaswag", include_str!("../../eval/data/hellaswag.toml")),
    ("humaneval", include_str!("../../eval/data/humaneval.toml")),
    ("longwrite", include_str!("../../eval/data/longwrite.toml")),
    ("mmlu", include_str!("../../eval/data/mmlu.toml")),
    ("texts", include_str!("../../eval/data/texts.toml")),
    ("truthfulqa", include_str!("../../eval/data/truthfulqa.toml")),
];

/// One model or data set: what people call it, and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The model's id in the configuration and on the API, or the data set's on the command line;
    /// the manifest's file stem.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// What is in the files, as far as it matters here.
    pub content: Content,
    /// The licence's SPDX name.
    pub licence: String,
    /// Its files, at least one; several are had in one folder.
    pub files: Vec<ModelFile>,
    /// Which of several files the model is opened by; without one it is their folder.
    pub open: Option<String>,
}

/// What a manifest's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A model's weights.
    Model {
        /// The family, as a note for people; the file itself says what it is.
        architecture: String,
    },
    /// Samples for evaluations.
    Samples {
        /// The name of the shape of its rows, for those who read them.
        rows: String,
    },
}

/// One file: its name, its size and sum, and where it may be had, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// The file's name on disk.
    pub name: String,
    /// The file's length in bytes.
    pub size: u64,
    /// The SHA-256 of the file, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Where the file may be had; the first that works is used.
    pub sources: Vec<Source>,
}

/// One place to have a file from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file on this machine, used where it lies.
    Local(PathBuf),
    /// A file of a repository on the Hugging Face Hub: a model's, or for samples a data set's.
    Hub(HubFile),
    /// Members of Python wheels, joined in this order.
    Wheels(Vec<WheelPart>),
}

impl Source {
    /// The word for the source in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Hub(_) => "hub",
            Self::Wheels(_) => "wheels",
        }
    }
}

/// A file of a repository on the Hugging Face Hub.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HubFile {
    /// `owner/name`.
    pub repo: String,
    /// The file's path in the repository.
    pub file: String,
    /// A branch, a tag or a commit.
    #[serde(default = "main_branch")]
    pub revision: String,
}

fn main_branch() -> String {
    "main".to_owned()
}

/// One member of one wheel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WheelPart {
    /// `name==version`.
    pub package: String,
    /// The member's path inside the wheel.
    pub member: String,
}

impl Manifest {
    /// Reads and checks one manifest. A relative local path is meant from `folder`; `stem` is the
    /// name of the manifest's file without `.toml`, which its id must be.
    pub fn parse(text: &str, stem: &str, folder: &Path) -> Result<Self, StoreError> {
        let raw: RawManifest = toml::from_str(text).map_err(|source| {
            StoreError::ManifestSyntax { manifest: stem.to_owned(), source: Box::new(source) }
        })?;
        raw.check(stem, folder)
    }

    /// The length of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The text that [`parse`](Self::parse) reads as this manifest.
    fn to_toml(&self) -> Result<String, StoreError> {
        let raw = RawManifest::from(self.clone());
        toml::to_string(&raw).map_err(|source| StoreError::ManifestUnwritable {
            manifest: self.id.clone(),
            reason: source.to_string(),
        })
    }
}

/// What becomes of a manifest that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new one is refused.
    Keep,
    /// The new one takes its place.
    Replace,
}

/// Writes a manifest to `folder`, where [`manifests`] finds it, as a whole or not at all.
///
/// # Errors
/// If its id is taken, there or by a built-in one, and `existing` stays; or if it is not one that
/// could be read again.
pub fn write(
    manifest: &Manifest,
    folder: &Path,
    existing: Existing,
) -> Result<PathBuf, StoreError> {
    let id = &manifest.id;
    let path = folder.join(format!("{id}.toml"));
    let taken = || StoreError::Taken { id: id.clone() };
    if existing == Existing::Keep && BUILT_IN.iter().any(|(built_in, _)| built_in == id) {
        return Err(taken());
    }
    let text = manifest.to_toml()?;
    Manifest::parse(&text, id, folder)?;
    fs::create_dir_all(folder).map_err(cannot("create", folder))?;
    let mut builder = tempfile::Builder::new();
    // Others may read it, as far as the user's mask lets them.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(cannot("create a file in", folder))?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(cannot("write", &path))?;
    let placed = match existing {
        Existing::Keep => file.persist_noclobber(&path),
        Existing::Replace => file.persist(&path),
    };
    match placed {
        Ok(_) => Ok(path),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(taken()),
        Err(error) => Err(cannot("write", &path)(error.error)),
    }
}

/// The built-in models' manifests and those of `folder` (`*.toml`), by id. A manifest of the folder
/// takes the place of the built-in one with its id. The folder need not exist; the local paths of
/// the built-in manifests are meant from it all the same.
pub fn manifests(folder: &Path) -> Result<Vec<Manifest>, StoreError> {
    let all = read_all(&BUILT_IN, folder)?;
    let stray = all.iter().find(|it| matches!(it.content, Content::Samples { .. }));
    match stray {
        Some(stray) => Err(missing(stray, "architecture")),
        None => Ok(all),
    }
}

/// The data sets' manifests, built in and of `folder`, as [`manifests`] finds the models'.
pub fn data_sets(folder: &Path) -> Result<Vec<Manifest>, StoreError> {
    let all = read_all(&BUILT_IN_SAMPLES, folder)?;
    let stray = all.iter().find(|it| matches!(it.content, Content::Model { .. }));
    match stray {
        Some(stray) => Err(missing(stray, "rows")),
        None => Ok(all),
    }
}

/// The error of a model's manifest among those of data sets, or the other way round.
pub(super) fn missing(stray: &Manifest, field: &'static str) -> StoreError {
    let reason = "is what a manifest of this folder needs".to_owned();
    StoreError::ManifestField { manifest: stray.id.clone(), field, reason }
}

fn read_all(built_in: &[(&str, &str)], folder: &Path) -> Result<Vec<Manifest>, StoreError> {
    let mut found = BTreeMap::new();
    for (stem, text) in built_in {
        found.insert((*stem).to_owned(), Manifest::parse(text, stem, folder)?);
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(found.into_values().collect());
        }
        Err(error) => return Err(cannot("list", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(cannot("list", folder))?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let (Some("toml"), Some(stem)) = (path.extension().and_then(|e| e.to_str()), stem) else {
            continue;
        };
        let text = fs::read_to_string(&path).map_err(cannot("read", &path))?;
        let manifest = Manifest::parse(&text, stem, folder);
        found.insert(stem.to_owned(), manifest.map_err(|error| error.in_file(&path))?);
    }
    Ok(found.into_values().collect())
}

/// The manifest with this id.
pub fn find<'a>(manifests: &'a [Manifest], id: &str) -> Result<&'a Manifest, StoreError> {
    manifests.iter().find(|manifest| manifest.id == id).ok_or_else(|| StoreError::UnknownModel {
        id: id.to_owned(),
        known: manifests.iter().map(|manifest| manifest.id.clone()).collect(),
    })
}

/// The data set with this id.
pub(super) fn find_data_set<'a>(
    data_sets: &'a [Manifest],
    id: &str,
) -> Result<&'a Manifest, StoreError> {
    data_sets.iter().find(|manifest| manifest.id == id).ok_or_else(|| StoreError::UnknownDataSet {
        id: id.to_owned(),
        known: data_sets.iter().map(|manifest| manifest.id.clone()).collect(),
    })
}
