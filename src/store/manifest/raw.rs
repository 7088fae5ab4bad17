//! A manifest as its file has it, and the checks that make it a [`Manifest`].

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Content, HubFile, Manifest, ModelFile, Source, StoreError, WheelPart};

/// One file as keys of the manifest's own, or several in a list.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawManifest {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<String>,
    licence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    source: Vec<RawSource>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<RawFile>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    file: String,
    size: u64,
    sha256: String,
    source: Vec<RawSource>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum RawSource {
    Local(PathBuf),
    Hub(HubFile),
    Wheels(Vec<WheelPart>),
}

/// Which field is wrong, and how.
type Wrong = (&'static str, String);

impl RawManifest {
    pub(super) fn check(self, stem: &str, folder: &Path) -> Result<Manifest, StoreError> {
        let wrong = |(field, reason): Wrong| StoreError::ManifestField {
            manifest: stem.to_owned(),
            field,
            reason,
        };
        if self.id != stem {
            let reason = format!("is `{}`, but the file is `{stem}.toml`", self.id);
            return Err(wrong(("id", reason)));
        }
        // It becomes a folder of the cache.
        if !is_plain(&self.id) {
            return Err(wrong(("id", format!("`{}` is not a plain name", self.id))));
        }
        let content = match (self.architecture, self.rows) {
            (Some(architecture), None) => Content::Model { architecture },
            (None, Some(rows)) => Content::Samples { rows },
            _ => {
                let reason = "must be there for a model, or `rows` for samples, and not both";
                return Err(wrong(("architecture", reason.to_owned())));
            }
        };
        let raw = match (self.file, self.size, self.sha256) {
            (None, None, None) if self.source.is_empty() => self.files,
            (Some(file), Some(size), Some(sha256)) if self.files.is_empty() => {
                vec![RawFile { file, size, sha256, source: self.source }]
            }
            _ => {
                let reason = "must be there with `size`, `sha256` and `source`, or in `files`";
                return Err(wrong(("file", reason.to_owned())));
            }
        };
        if raw.is_empty() {
            return Err(wrong(("files", "is an empty list".to_owned())));
        }
        let mut files: Vec<ModelFile> = Vec::with_capacity(raw.len());
        for file in raw {
            let file = file.check(folder).map_err(wrong)?;
            if files.iter().any(|other| other.name.eq_ignore_ascii_case(&file.name)) {
                return Err(wrong(("files", format!("has `{}` twice", file.name))));
            }
            files.push(file);
        }
        if let Some(open) = &self.open
            && !files.iter().any(|file| file.name == *open)
        {
            return Err(wrong(("open", format!("`{open}` is none of its files"))));
        }
        Ok(Manifest {
            id: self.id,
            name: self.name,
            content,
            licence: self.licence,
            files,
            open: self.open,
        })
    }
}

impl RawFile {
    fn check(self, folder: &Path) -> Result<ModelFile, Wrong> {
        // The name becomes a path in the cache.
        if !is_plain(&self.file) {
            return Err(("file", format!("`{}` is not a plain file name", self.file)));
        }
        if self.size == 0 {
            return Err(("size", "is 0".to_owned()));
        }
        let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if self.sha256.len() != 64 || !self.sha256.chars().all(hexadecimal) {
            let found = &self.sha256;
            return Err(("sha256", format!("`{found}` is not 64 lower-case hex digits")));
        }
        if self.source.is_empty() {
            return Err(("source", "is an empty list".to_owned()));
        }
        let sources = self.source.into_iter().map(|source| source.check(folder));
        let sources: Result<_, String> = sources.collect();
        Ok(ModelFile {
            name: self.file,
            size: self.size,
            sha256: self.sha256,
            sources: sources.map_err(|reason| ("source", reason))?,
        })
    }
}

/// Whether a name is one plain component of a path.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let plain = matches!(components.next(), Some(Component::Normal(_)));
    plain && components.next().is_none() && !name.contains(['/', '\\'])
}

impl From<Manifest> for RawManifest {
    fn from(manifest: Manifest) -> Self {
        let source = |source| match source {
            Source::Local(path) => RawSource::Local(path),
            Source::Hub(file) => RawSource::Hub(file),
            Source::Wheels(parts) => RawSource::Wheels(parts),
        };
        let file = |file: ModelFile| RawFile {
            file: file.name,
            size: file.size,
            sha256: file.sha256,
            source: file.sources.into_iter().map(source).collect(),
        };
        let (architecture, rows) = match manifest.content {
            Content::Model { architecture } => (Some(architecture), None),
            Content::Samples { rows } => (None, Some(rows)),
        };
        Self {
            id: manifest.id,
            name: manifest.name,
            architecture,
            rows,
            licence: manifest.licence,
            file: None,
            size: None,
            sha256: None,
            open: manifest.open,
            source: Vec::new(),
            files: manifest.files.into_iter().map(file).collect(),
        }
    }
}

impl RawSource {
    fn check(self, folder: &Path) -> Result<Source, String> {
        match self {
            Self::Local(path) => Ok(Source::Local(folder.join(path))),
            Self::Hub(hub) if hub.repo.split('/').filter(|part| !part.is_empty()).count() != 2 => {
                Err(format!("hub repo `{}` is not `owner/name`", hub.repo))
            }
            Self::Hub(hub) => Ok(Source::Hub(hub)),
            Self::Wheels(parts) if parts.is_empty() => Err("wheels is an empty list".to_owned()),
            Self::Wheels(parts) => {
                match parts.iter().find(|part| !names_one_version(&part.package)) {
                    Some(part) => Err(format!("`{}` is not `name==version`", part.package)),
                    None => Ok(Source::Wheels(parts)),
                }
            }
        }
    }
}

/// Whether `package` is `name==version` and nothing else: it becomes an argument of pip, where a
/// leading dash would be an option and an address would be fetched.
fn names_one_version(package: &str) -> bool {
    let Some((name, version)) = package.split_once("==") else { return false };
    let plain = |text: &str, also: &[char]| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(&c))
    };
    plain(name, &['-', '_', '.']) && plain(version, &['.', '+', '!'])
}
