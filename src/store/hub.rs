//! The Hugging Face Hub, through its own client, kept within time limits that the client lacks.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::disk::{self, Goal, cannot};
use super::{Content, HubFile, Progress, StoreError};

/// How the hub is reached. Proxies are the client's business: it reads the usual variables.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Another address than the client's own.
    pub endpoint: Option<String>,
    /// The user's token.
    pub token: Option<String>,
    /// The hub's cache on this machine, whose files are used where they lie.
    pub cache: Option<PathBuf>,
    /// A hub that has not answered by then is not reachable.
    pub answer_within: Duration,
    /// A download that has brought nothing for so long has failed.
    pub stalled_after: Duration,
    /// How many times a download that breaks off after some bytes is taken up.
    pub tries: u32,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            token: None,
            cache: None,
            answer_within: Duration::from_secs(8),
            stalled_after: Duration::from_secs(60),
            tries: 3,
        }
    }
}

impl HubOptions {
    /// `HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` as Hugging Face's own tools read them.
    pub(super) fn from_env() -> Self {
        let set = |name| {
            let value = std::env::var(name).ok()?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| {
            etcetera::home_dir().ok().map(|home| home.join(".cache").join("huggingface"))
        });
        let cache = home.map(|home| home.join("hub"));
        let token =
            set("HF_TOKEN").or_else(|| cache.clone().and_then(|cache| Cache::new(cache).token()));
        Self { endpoint: set("HF_ENDPOINT"), token, cache, ..Self::default() }
    }
}

pub(super) struct Hub {
    options: HubOptions,
    /// The hub's address and why it cannot be reached, once that is known: to ask again for the
    /// next model would only cost the time again.
    down: OnceLock<(String, String)>,
}

impl Hub {
    pub(super) fn new(options: HubOptions) -> Self {
        Self { options, down: OnceLock::new() }
    }

    /// The file in the hub's own cache on this machine.
    pub(super) fn cached(&self, file: &HubFile, goal: &Goal<'_>) -> Option<PathBuf> {
        let cache = Cache::new(self.options.cache.clone()?).repo(repo(file, goal));
        // A commit has a snapshot of its own; a branch has a note of its commit.
        let by_commit = cache.pointer_path(&file.revision).join(&file.file);
        Some(by_commit).filter(|path| path.exists()).or_else(|| cache.get(&file.file))
    }

    /// Brings the file and puts it in its place.
    pub(super) fn fetch(
        &self,
        file: &HubFile,
        goal: &Goal<'_>,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        if let Some((endpoint, reason)) = self.down.get() {
            let (endpoint, reason) = (endpoint.clone(), reason.clone());
            return Err(StoreError::HubUnreachable { endpoint, reason });
        }
        goal.check_room(goal.wanted.size.saturating_sub(bytes_so_far(goal)))?;
        // Killed between the last byte and the renaming; a wrong one is removed and fetched anew.
        if let Some(whole) = whole_part(goal)
            && check_and_place(goal, &whole, progress).is_ok()
        {
            return Ok(());
        }
        let api = self.client(&goal.hub()).map_err(|error| failed(file, goal, &error))?;
        self.check_metadata(&api, file, goal)?;
        let mut tries = 1;
        let path = loop {
            let before = bytes_so_far(goal);
            match self.download(&api, file, goal, progress) {
                Ok(path) => break path,
                Err(error @ StoreError::Hub { .. })
                    if tries < self.options.tries && bytes_so_far(goal) > before =>
                {
                    progress.note(&format!("{error}; taking it up again"));
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        };
        // The client's path is a link to the file.
        let path = fs::canonicalize(&path).map_err(cannot("find", &path))?;
        check_and_place(goal, &path, progress)
    }

    pub(super) fn options(&self) -> &HubOptions {
        &self.options
    }

    /// The client, which keeps its files below `cache`.
    pub(super) fn client(&self, cache: &Path) -> Result<Api, ApiError> {
        let mut builder = ApiBuilder::from_cache(Cache::new(cache.to_owned()))
            .with_progress(false)
            .with_token(self.options.token.clone());
        if let Some(endpoint) = &self.options.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        builder.build()
    }

    /// Asks whether the hub answers and has the file we want, before half a gigabyte is moved.
    fn check_metadata(&self, api: &Api, file: &HubFile, goal: &Goal<'_>) -> Result<(), StoreError> {
        let url = api.repo(repo(file, goal)).url(&file.file);
        let (say, hear) = mpsc::sync_channel(1);
        let asking = (api.clone(), url.clone());
        // The client has no time limits, so it is asked from a thread that can be left behind.
        thread::spawn(move || {
            let (api, url) = asking;
            let _ = say.send(api.metadata(&url));
        });
        let metadata = match hear.recv_timeout(self.options.answer_within) {
            Ok(Ok(metadata)) => metadata,
            Ok(Err(error)) if never_answered(&error) => {
                return Err(self.is_down(&url, file, error.to_string()));
            }
            Ok(Err(error)) => return Err(failed(file, goal, &error)),
            Err(_) => {
                let seconds = self.options.answer_within.as_secs();
                return Err(self.is_down(&url, file, format!("no answer in {seconds} s")));
            }
        };
        let wanted = goal.wanted;
        let path = || PathBuf::from(&url);
        let found = metadata.size() as u64;
        if found != wanted.size {
            return Err(StoreError::WrongSize { path: path(), expected: wanted.size, found });
        }
        // For a large file the tag is its sum.
        let tag = metadata.etag();
        let is_sum = tag.len() == 64 && tag.chars().all(|c| c.is_ascii_hexdigit());
        if is_sum && tag != wanted.sha256 {
            let (expected, found) = (wanted.sha256.clone(), tag.to_owned());
            return Err(StoreError::WrongSum { path: path(), expected, found });
        }
        Ok(())
    }

    fn is_down(&self, url: &str, file: &HubFile, reason: String) -> StoreError {
        let end = url.find(&format!("/{}/", file.repo)).unwrap_or(url.len());
        let endpoint = url[..end].to_owned();
        let (endpoint, reason) = self.down.get_or_init(|| (endpoint, reason)).clone();
        StoreError::HubUnreachable { endpoint, reason }
    }

    /// One attempt, going on from the bytes there are.
    fn download(
        &self,
        api: &Api,
        file: &HubFile,
        goal: &Goal<'_>,
        progress: &dyn Progress,
    ) -> Result<PathBuf, StoreError> {
        let (say, hear) = mpsc::sync_channel(64);
        let asking = (api.repo(repo(file, goal)), file.file.clone());
        thread::spawn(move || {
            let (repo, name) = asking;
            let outcome = repo.download_with_progress(&name, Words { say: say.clone() });
            let _ = say.send(Word::Done(outcome));
        });
        progress.started(&format!("{} from the hub", goal.wanted.name), goal.wanted.size);
        let path = self.listen(&hear, file, goal, progress)?;
        progress.finished();
        Ok(path)
    }

    fn listen(
        &self,
        hear: &Receiver<Word>,
        file: &HubFile,
        goal: &Goal<'_>,
        progress: &dyn Progress,
    ) -> Result<PathBuf, StoreError> {
        let mut done = 0;
        loop {
            let reason = match hear.recv_timeout(self.options.stalled_after) {
                Ok(Word::Begun) => {
                    done = 0;
                    continue;
                }
                Ok(Word::Bytes(n)) => {
                    done += n;
                    progress.reached(done);
                    continue;
                }
                Ok(Word::Done(Ok(path))) => return Ok(path),
                Ok(Word::Done(Err(error))) => return Err(failed(file, goal, &error)),
                // The client waits on and keeps the file to itself, so this process cannot go on.
                Err(RecvTimeoutError::Timeout) => {
                    return Err(StoreError::HubStalled {
                        repo: file.repo.clone(),
                        file: file.file.clone(),
                        seconds: self.options.stalled_after.as_secs(),
                    });
                }
                Err(RecvTimeoutError::Disconnected) => "the client gave up".to_owned(),
            };
            return Err(StoreError::Hub {
                repo: file.repo.clone(),
                file: file.file.clone(),
                reason,
            });
        }
    }
}

/// What the download's thread says.
enum Word {
    Begun,
    Bytes(u64),
    Done(Result<PathBuf, ApiError>),
}

/// The client's progress, sent on. A send fails only when nobody listens any more.
struct Words {
    say: SyncSender<Word>,
}

impl hf_hub::api::Progress for Words {
    fn init(&mut self, _: usize, _: &str) {
        let _ = self.say.send(Word::Begun);
    }

    fn update(&mut self, bytes: usize) {
        let _ = self.say.send(Word::Bytes(bytes as u64));
    }

    fn finish(&mut self) {}
}

/// How many bytes of the file the hub has brought so far.
pub(super) fn bytes_so_far(goal: &Goal<'_>) -> u64 {
    blobs(goal)
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|it| it.len())
        .max()
        .unwrap_or(0)
}

/// A download that has all its bytes, which the client would not know how to go on with.
fn whole_part(goal: &Goal<'_>) -> Option<PathBuf> {
    let size = goal.wanted.size;
    let whole = |path: &PathBuf| fs::metadata(path).is_ok_and(|it| it.len() >= size);
    blobs(goal).into_iter().find(whole)
}

/// The client's files in `<hub>/models--<owner>--<name>/blobs`, less its locks.
fn blobs(goal: &Goal<'_>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for repo in fs::read_dir(goal.hub()).into_iter().flatten().flatten() {
        for blob in fs::read_dir(repo.path().join("blobs")).into_iter().flatten().flatten() {
            let path = blob.path();
            if path.extension().is_none_or(|it| it != "lock") {
                found.push(path);
            }
        }
    }
    found
}

/// A wrong file is removed with all of the client's folder, so that it is not gone on with.
fn check_and_place(
    goal: &Goal<'_>,
    path: &Path,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    if let Err(error) = disk::check(path, goal.wanted, progress) {
        disk::remove_folder(&goal.hub())?;
        return Err(error);
    }
    File::open(path).and_then(|it| it.sync_all()).map_err(cannot("sync", path))?;
    goal.place(path)
}

fn repo(file: &HubFile, goal: &Goal<'_>) -> Repo {
    let kind = match goal.content {
        Content::Model { .. } => RepoType::Model,
        Content::Samples { .. } => RepoType::Dataset,
    };
    Repo::with_revision(file.repo.clone(), kind, file.revision.clone())
}

/// Whether the error came before any answer of the hub.
fn never_answered(error: &ApiError) -> bool {
    match error {
        ApiError::RequestError(error) => {
            !matches!(**error, ureq::Error::StatusCode(_) | ureq::Error::Http(_))
        }
        _ => false,
    }
}

fn failed(file: &HubFile, goal: &Goal<'_>, error: &ApiError) -> StoreError {
    if let ApiError::IoError(source) = error {
        let source = io::Error::from(source.kind());
        let error = goal.write_error(&goal.path, bytes_so_far(goal), source);
        if matches!(error, StoreError::DiskFull { .. }) {
            return error;
        }
    }
    let reason = error.to_string();
    StoreError::Hub { repo: file.repo.clone(), file: file.file.clone(), reason }
}
