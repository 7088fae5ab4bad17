//! A repository of the Hugging Face Hub, looked at from afar: the names, sizes and sums of its
//! files, which of them are a model, and parts of them.

use std::{io::Read, ops::Range, time::Duration};

use hf_hub::{Repo, RepoType, api::sync::ApiRepo};
use serde::Deserialize;
use ureq::{Agent, config::RedirectAuthHeaders, tls::TlsConfig};

use super::{HubFile, StoreError, hub::Hub};

/// What people write for a repository, and perhaps for one file of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `owner/name`.
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    pub file: Option<String>,
}

impl Address {
    /// What comes after `hf:`, as in `owner/name@revision:file`, the last two left out or not.
    ///
    /// # Errors
    /// If it is something else.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let (text, file) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let mut parts = repo.split('/');
        let plain = |part: Option<&str>| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            part.is_some_and(|part| !part.is_empty() && part != ".." && part.chars().all(allowed))
        };
        let named = plain(parts.next()) && plain(parts.next()) && parts.next().is_none();
        if !named || revision.is_empty() || file == Some("") {
            return Err(StoreError::Address { given: text.to_owned() });
        }
        let [repo, revision] = [repo, revision].map(str::to_owned);
        Ok(Self { repo, revision, file: file.map(str::to_owned) })
    }
}

/// A repository at one commit.
pub struct Repository {
    name: String,
    commit: String,
    licence: Option<String>,
    files: Vec<Listed>,
    /// For the addresses of its files.
    api: ApiRepo,
    agent: Agent,
    token: Option<String>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path in the repository.
    pub path: String,
    pub size: u64,
    /// The hub has sums of large files only.
    pub sha256: Option<String>,
}

impl Listed {
    /// Its path without folders.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// The hub's answer, as far as it is read.
#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(rename = "cardData")]
    card: Option<CardData>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

#[derive(Deserialize)]
struct CardData {
    license: Option<serde_json::Value>,
}

impl Repository {
    pub(super) fn ask(hub: &Hub, address: &Address) -> Result<Self, StoreError> {
        let Address { repo: name, revision, .. } = address;
        let wanted = |revision: &str| {
            Repo::with_revision(name.clone(), RepoType::Model, revision.to_owned())
        };
        let options = hub.options();
        let failed = |reason: String| StoreError::Repository { repo: name.clone(), reason };
        let api = hub.client(&std::env::temp_dir()).map_err(|error| failed(error.to_string()))?;
        let request = api.repo(wanted(revision)).info_request().query("blobs", "true");
        let limited = request.config().timeout_global(Some(options.answer_within)).build();
        let text = limited.call().and_then(|mut answer| answer.body_mut().read_to_string());
        let text = text.map_err(|error| match error {
            ureq::Error::StatusCode(status @ (401 | 403 | 404)) => {
                StoreError::NoRepository { repo: name.clone(), revision: revision.clone(), status }
            }
            ureq::Error::StatusCode(_) => failed(error.to_string()),
            error => StoreError::HubUnreachable {
                endpoint: api.repo(wanted(revision)).url(""),
                reason: error.to_string(),
            },
        })?;
        let info: Info = serde_json::from_str(&text)
            .map_err(|error| failed(format!("the hub's answer is not understood: {error}")))?;
        let listed = |sibling: Sibling| Listed {
            path: sibling.rfilename,
            size: sibling.size.unwrap_or(0),
            sha256: sibling.lfs.map(|lfs| lfs.sha256),
        };
        let licence = info.card.and_then(|card| card.license);
        Ok(Self {
            name: name.clone(),
            licence: licence.and_then(|licence| licence.as_str().map(str::to_owned)),
            files: info.siblings.into_iter().map(listed).collect(),
            api: api.repo(wanted(&info.sha)),
            agent: agent(options.answer_within, options.stalled_after),
            token: options.token.clone(),
            commit: info.sha,
        })
    }

    /// What its card says.
    pub fn licence(&self) -> Option<&str> {
        self.licence.as_deref()
    }

    /// Where a manifest says that a file is to be had: as it is now, whatever comes later.
    pub fn source(&self, file: &Listed) -> HubFile {
        let (repo, revision) = (self.name.clone(), self.commit.clone());
        HubFile { repo, file: file.path.clone(), revision }
    }

    /// The files of a model: of the GGUF file that is named, or that is the only one, with its
    /// parts; but if none is named and there are safetensors with a configuration, those, and what
    /// there is of `beside`.
    ///
    /// # Errors
    /// If there is no such file, no weights, or more than one choice.
    pub fn model(&self, named: Option<&str>, beside: &[&str]) -> Result<Vec<&Listed>, StoreError> {
        let find = |path: &str| self.files.iter().find(|file| file.path == path);
        let repo = || self.name.clone();
        let ggufs: Vec<&Listed> =
            self.files.iter().filter(|file| file.path.ends_with(".gguf")).collect();
        let firsts: Vec<&Listed> = ggufs
            .iter()
            .copied()
            .filter(|file| split(&file.path).is_none_or(|(_, number, _)| number == "00001"))
            .collect();
        let paths = |files: &[&Listed]| files.iter().map(|file| file.path.clone()).collect();
        if let Some(named) = named {
            let found = find(named).filter(|file| file.path.ends_with(".gguf"));
            let found = found.ok_or_else(|| StoreError::NoSuchFile {
                repo: repo(),
                file: named.to_owned(),
                known: paths(&firsts),
            })?;
            return Ok(parts(found, &ggufs));
        }
        let weights = |file: &&Listed| {
            let stem = file.path.strip_suffix(".safetensors");
            stem.is_some_and(|stem| stem == "model" || stem.starts_with("model-"))
        };
        let weights: Vec<&Listed> = self.files.iter().filter(weights).collect();
        if !weights.is_empty() && find("config.json").is_some() {
            return Ok(beside.iter().filter_map(|path| find(path)).chain(weights).collect());
        }
        match &firsts[..] {
            [] => Err(StoreError::NoWeights { repo: repo() }),
            [only] => Ok(parts(only, &ggufs)),
            several => Err(StoreError::SeveralModels { repo: repo(), files: paths(several) }),
        }
    }

    /// Some of a file's bytes.
    ///
    /// # Errors
    /// If the hub does not give them.
    pub fn read(&self, file: &Listed, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let failed = |reason: String| {
            let (repo, file) = (self.name.clone(), file.path.clone());
            StoreError::Hub { repo, file, reason }
        };
        let last = range.end.saturating_sub(1);
        let mut request = self.agent.get(self.api.url(&file.path));
        request = request.header("Range", format!("bytes={}-{last}", range.start));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut answer = request.call().map_err(|error| match error {
            ureq::Error::StatusCode(401 | 403) => StoreError::Gated { repo: self.name.clone() },
            error => failed(error.to_string()),
        })?;
        let (mut bytes, wanted) = (Vec::new(), range.end - range.start);
        // A server that knows no ranges sends the file from its beginning.
        let skipped = if answer.status() == 206 { 0 } else { range.start };
        let mut body = answer.body_mut().as_reader();
        std::io::copy(&mut body.by_ref().take(skipped), &mut std::io::sink())
            .and_then(|_| body.take(wanted).read_to_end(&mut bytes))
            .map_err(|error| failed(error.to_string()))?;
        if bytes.len() as u64 == wanted {
            Ok(bytes)
        } else {
            Err(failed(format!("{} bytes came of {wanted}", bytes.len())))
        }
    }
}

fn agent(answer_within: Duration, stalled_after: Duration) -> Agent {
    Agent::config_builder()
        .tls_config(TlsConfig::builder().build())
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .timeout_connect(Some(answer_within))
        .timeout_recv_response(Some(answer_within))
        // A part of a file comes in one body, which may take long as long as it comes.
        .timeout_per_read(Some(stalled_after))
        .build()
        .into()
}

/// Of a split file's path: what comes before the number, the number, and what comes after it.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let (before, of) = path.rsplit_once("-of-")?;
    let (stem, number) = before.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(of.strip_suffix(".gguf")?)).then_some((stem, number, of))
}

/// A file and, if it is one of a split model, the others.
fn parts<'a>(file: &'a Listed, all: &[&'a Listed]) -> Vec<&'a Listed> {
    let Some((stem, _, of)) = split(&file.path) else { return vec![file] };
    let is_part = |other: &&&Listed| {
        split(&other.path).is_some_and(|(its, _, its_of)| (its, its_of) == (stem, of))
    };
    let mut parts: Vec<&Listed> = all.iter().filter(is_part).copied().collect();
    parts.sort_by(|a, b| a.path.cmp(&b.path));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_repository_and_perhaps_a_revision_and_a_file() {
        let parsed = |text: &str| {
            let Address { repo, revision, file } = Address::parse(text).unwrap();
            (repo, revision, file)
        };
        let expected = |repo: &str, revision: &str, file: Option<&str>| {
            (repo.to_owned(), revision.to_owned(), file.map(str::to_owned))
        };
        assert_eq!(parsed("Qwen/Qwen3-0.6B"), expected("Qwen/Qwen3-0.6B", "main", None));
        assert_eq!(parsed("a/b@v1:c/d.gguf"), expected("a/b", "v1", Some("c/d.gguf")));
        assert_eq!(parsed("a/b:c.gguf"), expected("a/b", "main", Some("c.gguf")));
        for wrong in ["", "a", "a/b/c", "/b", "a/", "a/b@", "a/b:", "a b/c", "../b", "a/b?c"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_parts_of_a_split_file_belong_together() {
        let listed = |path: &str| Listed { path: path.to_owned(), size: 1, sha256: None };
        let names =
            ["b-00002-of-00002.gguf", "b-00001-of-00002.gguf", "a-00001-of-00002.gguf", "c.gguf"];
        let files: Vec<Listed> = names.iter().map(|name| listed(name)).collect();
        let all: Vec<&Listed> = files.iter().collect();
        assert_eq!(parts(all[0], &all), [all[1], all[0]]);
        assert_eq!(parts(all[3], &all), [all[3]]);
        assert_eq!(split("a-1-of-2.gguf"), None);
    }
}
