//! `tutti models add hf:...` against a hub on this machine that answers as the real one does: a list
//! of files with sizes, and sums of the large ones; then ranges of them.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    damaged,
    desk::Desk,
    folder::{self, NAMES},
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// One repository, `owner/name`.
struct Hub {
    endpoint: String,
    /// The bytes of weights that were sent, by file.
    sent: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Hub {
    /// Files of it are for some only if `gated`.
    fn new(files: BTreeMap<String, Vec<u8>>, gated: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let hub = Self { endpoint, sent: Arc::default() };
        let sent = hub.sent.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is no concern of the hub.
                let _ = answer(stream.unwrap(), &files, gated, &sent);
            }
        });
        hub
    }

    fn add(&self, desk: &Desk, words: &[&str]) -> (bool, String) {
        let mut command = desk.command(&["models", "add"]);
        let output = command.args(words).env("HF_ENDPOINT", &self.endpoint).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

fn is_large(name: &str) -> bool {
    name.ends_with(".gguf") || name.ends_with(".safetensors")
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn info(files: &BTreeMap<String, Vec<u8>>) -> Value {
    let sibling = |(name, bytes): (&String, &Vec<u8>)| {
        let mut sibling = json!({ "rfilename": name, "size": bytes.len(), "blobId": "b" });
        if is_large(name) {
            sibling["lfs"] = json!({ "sha256": sum(bytes), "size": bytes.len() });
        }
        sibling
    };
    let siblings: Vec<Value> = files.iter().map(sibling).collect();
    json!({ "id": "owner/name", "sha": COMMIT, "siblings": siblings, "cardData": { "license": "mit" } })
}

fn answer(
    mut stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    gated: bool,
    sent: &Mutex<BTreeMap<String, usize>>,
) -> std::io::Result<()> {
    let lines: Vec<String> = BufReader::new(&stream)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let path = lines[0].split(' ').nth(1).unwrap().to_owned();
    let range = lines.iter().find_map(|line| {
        let (key, value) = line.split_once(": bytes=")?;
        let (from, to) = value.split_once('-')?;
        key.eq_ignore_ascii_case("range").then(|| (from.to_owned(), to.to_owned()))
    });
    let mut reply = |status: &str, headers: &str, body: &[u8]| {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)
    };
    if path.starts_with("/api/models/owner/name/revision/main?blobs=true") {
        return reply("200 OK", "", info(files).to_string().as_bytes());
    }
    let file = path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/"));
    let Some((name, bytes)) = file.and_then(|name| Some((name, files.get(name)?))) else {
        return reply("404 Not Found", "", b"");
    };
    if gated {
        return reply("403 Forbidden", "", b"");
    }
    let (from, to) = range.unwrap();
    let from: usize = from.parse().unwrap();
    let to = to.parse().map_or(bytes.len(), |to: usize| to + 1);
    if is_large(name) {
        *sent.lock().unwrap().entry(name.to_owned()).or_default() += to - from;
    }
    let tag = sum(bytes);
    let headers = format!(
        "Content-Range: bytes {from}-{}/{}\r\nETag: \"{tag}\"\r\nX-Linked-ETag: \"{tag}\"\r\n\
         X-Repo-Commit: {COMMIT}\r\n",
        to - 1,
        bytes.len()
    );
    reply("206 Partial Content", &headers, &bytes[from..to])
}

/// A folder's files, its weights behind some that are never read.
fn safetensors() -> BTreeMap<String, Vec<u8>> {
    let folder = folder::folder();
    let mut files = BTreeMap::from([("README.md".to_owned(), b"a card".to_vec())]);
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        files.insert(name, fs::read(path).unwrap());
    }
    files
}

fn gguf() -> Vec<u8> {
    fs::read(damaged::small().write().0.path()).unwrap()
}

/// What a manifest leads to: the model is fetched by it, and runs.
fn runs(hub: &Hub, desk: &Desk, name: &str) {
    let mut command = desk.command(&["inspect", "the", "--next", "--json", "--model", name]);
    let output = command.env("HF_ENDPOINT", &hub.endpoint).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(String::from_utf8(output.stdout).unwrap().contains(name));
}

#[test]
fn a_folder_of_safetensors_is_described_by_its_headers_and_runs_later() {
    let (files, desk) = (safetensors(), Desk::new());
    let weights = files["model.safetensors"].clone();
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let hub = Hub::new(files, false);
    let (fine, said) = hub.add(&desk, &["hf:owner/name"]);
    assert!(fine, "{said}");
    for words in ["qwen2", "mit", "256 tokens", "<|done|> (2)", "added as `name`"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(hub.sent.lock().unwrap()["model.safetensors"], header);
    let manifest = fs::read_to_string(desk.at("models/name.toml")).unwrap();
    assert!(manifest.contains(&sum(&weights)) && manifest.contains(COMMIT), "{manifest}");
    runs(&hub, &desk, "name");
    let taken = hub.add(&desk, &["hf:owner/name"]);
    assert!(!taken.0 && taken.1.contains("--id"), "{}", taken.1);
}

#[test]
fn a_gguf_file_is_taken_if_it_is_the_only_one_or_named_with_all_its_parts() {
    let desk = Desk::new();
    let one = Hub::new(BTreeMap::from([("sub/mine.Q8_0.gguf".to_owned(), gguf())]), false);
    let (fine, said) = one.add(&desk, &["hf:owner/name"]);
    assert!(fine && said.contains("20 tokens") && said.contains("added as `name`"), "{said}");
    runs(&one, &desk, "name");

    let parts = tempfile::tempdir().unwrap();
    folder::split(&damaged::small(), parts.path());
    let mut files = BTreeMap::from([("other.gguf".to_owned(), gguf())]);
    for name in NAMES {
        files.insert(name.to_owned(), fs::read(parts.path().join(name)).unwrap());
    }
    let several = Hub::new(files, false);
    let (fine, said) = several.add(&desk, &["hf:owner/name", "--id", "x"]);
    assert!(!fine && said.contains("has 2 GGUF files") && said.contains("other.gguf"), "{said}");
    let (fine, said) = several.add(&desk, &["hf:owner/name:absent.gguf"]);
    assert!(!fine && said.contains("absent.gguf") && said.contains(NAMES[0]), "{said}");
    let (fine, said) = several.add(&desk, &[&format!("hf:owner/name:{}", NAMES[0])]);
    assert!(fine && said.contains("added as `tiny`"), "{said}");
    runs(&several, &desk, "tiny");
}

#[test]
fn what_cannot_be_had_is_told_with_a_way_out_and_nothing_is_written() {
    let desk = Desk::new();
    let mut weights = safetensors();
    weights.remove("model.safetensors");
    let mut config = safetensors();
    config.insert("config.json".to_owned(), br#"{"model_type": "mamba"}"#.to_vec());
    let nobody = Hub { endpoint: "http://127.0.0.1:1".to_owned(), sent: Arc::default() };
    for (hub, name, words) in [
        (Hub::new(safetensors(), false), "owner/other", ["owner/other", "HF_TOKEN"]),
        (Hub::new(safetensors(), true), "owner/name", ["terms", "HF_TOKEN"]),
        (Hub::new(weights, false), "owner/name", ["neither", "model.safetensors"]),
        (Hub::new(config, false), "owner/name", ["mamba", "not supported"]),
        (nobody, "owner/name", ["127.0.0.1:1", "not reachable"]),
        (Hub::new(safetensors(), false), "name", ["hf:name", "OWNER/NAME"]),
    ] {
        let (fine, said) = hub.add(&desk, &[&format!("hf:{name}")]);
        assert!(!fine && words.iter().all(|word| said.contains(word)), "{name}: {said}");
    }
    assert!(!desk.at("models").exists());
}
