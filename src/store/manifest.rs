//! Manifests: what files are called, how long they are, their sums, and where they may be had.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StoreError, disk::cannot};

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

/// One file as keys of the manifest's own, or several in a list.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
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
    fn check(self, stem: &str, folder: &Path) -> Result<Manifest, StoreError> {
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
        let kinds: Vec<_> = manifest.files[0].sources.iter().map(Source::kind).collect();
        assert_eq!(kinds, ["local", "hub", "wheels"]);
        assert_eq!(
            manifest.files[0].sources[0],
            Source::Local(PathBuf::from("folder/sub/tiny.bin"))
        );
        let Source::Hub(hub) = &manifest.files[0].sources[1] else {
            panic!("the second is the hub")
        };
        assert_eq!(hub.revision, "main");
    }

    #[test]
    fn what_a_manifest_may_not_say_is_refused_by_name() {
        for (from, to, word) in [
            ("id = \"tiny\"", "id = \"other\"", "other"),
            ("architecture = \"none\"", "", "architecture"),
            ("architecture = \"none\"", "architecture = \"none\"\nrows = \"x\"", "rows"),
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

    const FILES: &str = r#"
        id = "tiny"
        name = "Tiny"
        architecture = "none"
        licence = "Apache-2.0"
        open = "b.bin"
        [[files]]
        file = "a.bin"
        size = 3
        sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        source = [{ local = "sub/a.bin" }]
        [[files]]
        file = "b.bin"
        size = 4
        sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        source = [{ hub = { repo = "owner/name", file = "b.bin" } }]
    "#;

    #[test]
    fn a_manifest_of_several_files_is_checked_file_by_file() {
        let manifest = parse(FILES).unwrap();
        assert_eq!((manifest.files.len(), manifest.size()), (2, 7));
        for (from, to, word) in [
            ("open = \"b.bin\"", "open = \"c.bin\"", "c.bin"),
            ("file = \"b.bin\"\n", "file = \"A.bin\"\n", "twice"),
            ("file = \"b.bin\"\n", "file = \"../b.bin\"\n", "../b.bin"),
            ("open =", "size = 1\nopen =", "`file`"),
            ("size = 4", "size = 0", "size"),
        ] {
            let text = FILES.replacen(from, to, 1);
            assert_ne!(text, FILES, "{from} is in the text");
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("tiny"), "{to}: {error}");
        }
    }

    #[test]
    fn a_written_manifest_is_read_again_and_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        for text in [FILES, TINY] {
            let manifest = Manifest::parse(text, "tiny", &models).unwrap();
            let path = write(&manifest, &models, Existing::Replace).unwrap();
            assert_eq!(path, models.join("tiny.toml"));
            assert_eq!(find(&manifests(&models).unwrap(), "tiny").unwrap(), &manifest);
            let other = Manifest { name: "other".to_owned(), ..manifest.clone() };
            let error = write(&other, &models, Existing::Keep).unwrap_err();
            assert!(matches!(&error, StoreError::Taken { id } if id == "tiny"), "{error}");
            assert_eq!(find(&manifests(&models).unwrap(), "tiny").unwrap(), &manifest);
        }
        let tiny = Manifest::parse(TINY, "tiny", &models).unwrap();
        let built_in = Manifest { id: "smollm2-135m-instruct".to_owned(), ..tiny.clone() };
        write(&built_in, &models, Existing::Keep).unwrap_err();
        let outside = Manifest { id: "../tiny".to_owned(), ..tiny };
        write(&outside, &models, Existing::Keep).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_built_in_manifests_are_sound_without_a_folder() {
        let found = manifests(Path::new("no such folder")).unwrap();
        let ids: Vec<_> = found.iter().map(|manifest| manifest.id.as_str()).collect();
        assert_eq!(
            ids,
            ["qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct", "smollm2-135m-instruct"]
        );
        assert_eq!(find(&found, "smollm2-135m-instruct").unwrap().size(), 98_362_432);
    }

    #[test]
    fn the_built_in_data_sets_are_sound_and_models_are_none_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let found = data_sets(folder.path()).unwrap();
        assert_eq!(found.len(), BUILT_IN_SAMPLES.len());
        let mmlu = find_data_set(&found, "mmlu").unwrap();
        assert_eq!(mmlu.content, Content::Samples { rows: "mmlu".to_owned() });
        let error = find_data_set(&found, "nothing").unwrap_err().to_string();
        assert!(error.contains("nothing") && error.contains("truthfulqa"), "{error}");

        fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
        let error = data_sets(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tiny") && error.contains("`rows`"), "{error}");
        let samples = TINY.replacen("architecture = \"none\"", "rows = \"mmlu\"", 1);
        fs::write(folder.path().join("tiny.toml"), samples).unwrap();
        find_data_set(&data_sets(folder.path()).unwrap(), "tiny").unwrap();
        let error = manifests(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tiny") && error.contains("`architecture`"), "{error}");
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
        assert_eq!(find(&found, id).unwrap().files[0].name, "tiny.bin");
        let error = find(&found, "nobody").unwrap_err().to_string();
        assert!(error.contains("nobody") && error.contains("tiny"), "{error}");
    }
}
