//! The hub, played by a small server on this machine that answers as the real one does: a
//! redirect with the file's tag and commit, and ranges of the file behind it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tutti::store::{HubFile, Options, Source, Status, StoreError};

use super::{Bench, Told, bytes, manifest, no_source, samples, wheels};

/// What the hub has and does.
#[derive(Clone, Default)]
struct Play {
    content: Vec<u8>,
    /// The repository is a data set's.
    data_set: bool,
    /// The file's tag; for large files the real hub's is the sum.
    tag: String,
    /// The connection breaks after so many bytes of each of the first downloads.
    breaks: Vec<usize>,
    /// Accepts and says nothing.
    silent: bool,
    /// Keeps a connection open instead of breaking it.
    holds: bool,
}

struct Hub {
    endpoint: String,
    play: Arc<Mutex<Play>>,
    /// The `Range` of each request for the file itself, and each `Authorization`.
    ranges: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<String>>>,
}

pub(super) fn source(file: &str) -> Source {
    let (repo, file) = ("owner/name".to_owned(), file.to_owned());
    Source::Hub(HubFile { repo, file, revision: "main".to_owned() })
}

impl Hub {
    fn new(play: Play) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let hub = Self {
            endpoint,
            play: Arc::new(Mutex::new(play)),
            ranges: Arc::default(),
            tokens: Arc::default(),
        };
        let (play, ranges, tokens) = (hub.play.clone(), hub.ranges.clone(), hub.tokens.clone());
        let endpoint = hub.endpoint.clone();
        thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if play.lock().unwrap().silent {
                    kept.push(stream);
                } else {
                    // A client that goes away is no concern of the hub.
                    let held = play.lock().unwrap().holds.then(|| stream.try_clone().unwrap());
                    kept.extend(held);
                    let _ = answer(stream, &endpoint, &play, &ranges, &tokens);
                }
            }
        });
        hub
    }

    fn options(&self, bench: &Bench) -> Options {
        let mut options = bench.options();
        options.hub.endpoint = Some(self.endpoint.clone());
        options.hub.tries = 1;
        options
    }

    /// The ranges asked for beyond the first byte, which only asks for the size.
    fn downloads(&self) -> Vec<String> {
        let ranges = self.ranges.lock().unwrap();
        ranges.iter().filter(|range| *range != "bytes=0-0").cloned().collect()
    }
}

type Log = Mutex<Vec<String>>;

fn answer(
    mut stream: TcpStream,
    endpoint: &str,
    play: &Mutex<Play>,
    ranges: &Log,
    tokens: &Log,
) -> std::io::Result<()> {
    let mut lines = Vec::new();
    for line in BufReader::new(&stream).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let path = lines[0].split(' ').nth(1).unwrap().to_owned();
    let header = |name: &str| {
        let found = lines.iter().find_map(|line| {
            line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name))
        });
        found.map(|(_, value)| value.to_owned())
    };
    let mut play = play.lock().unwrap();
    let reply = |status: &str, headers: &str| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n")
    };
    let repo = if play.data_set { "/datasets/owner/name" } else { "/owner/name" };
    if path == format!("{repo}/resolve/main/tiny.bin") {
        tokens.lock().unwrap().extend(header("Authorization"));
        let headers = format!(
            "Location: {endpoint}/bucket/tiny\r\nX-Repo-Commit: c0ffee\r\n\
             X-Linked-ETag: \"{}\"\r\nContent-Length: 0\r\n",
            play.tag
        );
        return stream.write_all(reply("302 Found", &headers).as_bytes());
    }
    if path != "/bucket/tiny" {
        return stream.write_all(reply("404 Not Found", "Content-Length: 0\r\n").as_bytes());
    }
    let range = header("Range").unwrap();
    ranges.lock().unwrap().push(range.clone());
    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let from: usize = from.parse().unwrap();
    let size = play.content.len();
    let to = to.parse().map_or(size, |to: usize| to + 1);
    let headers = format!(
        "Content-Range: bytes {from}-{}/{size}\r\nContent-Length: {}\r\nETag: \"bucket\"\r\n",
        to - 1,
        to - from
    );
    stream.write_all(reply("206 Partial Content", &headers).as_bytes())?;
    let mut body = &play.content.clone()[from..to];
    if range != "bytes=0-0" && !play.breaks.is_empty() {
        body = &body[..play.breaks.remove(0)];
    }
    stream.write_all(body)
}

fn play(content: &[u8]) -> Play {
    Play { content: content.to_vec(), tag: "tag".to_owned(), ..Play::default() }
}

#[test]
fn a_file_comes_from_the_hub_and_is_on_the_disk_once() {
    let bench = Bench::new();
    let content = bytes(300_000);
    let manifest = manifest("tiny", &content, vec![source("tiny.bin")]);
    let hub = Hub::new(Play { tag: manifest.files[0].sha256.clone(), ..play(&content) });
    let mut options = hub.options(&bench);
    options.hub.token = Some("secret".to_owned());
    let store = bench.store(options);
    let told = Told::default();
    let path = store.ensure(&manifest, &told).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_file(), "not a link into another folder");
    assert!(fs::read(&path).unwrap() == content);
    assert_eq!(bench.cached(), ["tiny.bin"]);
    assert_eq!(hub.downloads(), ["bytes=0-"]);
    assert!(hub.tokens.lock().unwrap().iter().all(|token| token == "Bearer secret"));
    assert!(!hub.tokens.lock().unwrap().is_empty());
    assert_eq!(told.reached.lock().unwrap().last(), Some(&300_000));
    store.ensure(&manifest, &told).unwrap();
    assert_eq!(hub.downloads().len(), 1, "the second time asks nobody");
    assert!(matches!(store.status(&manifest), Status::Present { verified: true, .. }));
}

#[test]
fn samples_come_from_the_hubs_data_sets() {
    let bench = Bench::new();
    let content = bytes(1000);
    let manifest = samples("tiny", &content, vec![source("tiny.bin")]);
    let hub = Hub::new(Play { data_set: true, ..play(&content) });
    let path = bench.store(hub.options(&bench)).ensure(&manifest, &Told::default()).unwrap();
    assert!(fs::read(path).unwrap() == content);
    let absent = Hub::new(play(&content));
    let other = samples("other", &bytes(100), vec![source("tiny.bin")]);
    let error = bench.store(absent.options(&bench)).ensure(&other, &Told::default()).unwrap_err();
    assert!(matches!(no_source(error)[..], [StoreError::Hub { .. }]), "a model's is not asked for");
}

#[test]
fn a_file_with_another_content_is_refused_and_the_next_source_is_used() {
    let bench = Bench::new();
    bench.wheel("part_a", "part_a/part.bin", &bytes(100));
    let manifest = manifest("tiny", &bytes(100), vec![source("tiny.bin"), wheels(&["part_a"])]);
    let hub = Hub::new(play(&[0; 100]));
    let told = Told::default();
    let path = bench.store(hub.options(&bench)).ensure(&manifest, &told).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes(100));
    assert_eq!(bench.cached(), ["tiny.bin"], "the wrong file is gone");
    let notes = told.notes().join("\n");
    let zeros = "cd00e292c5970d3c5e2f0ffa5171e555bc46bfc4faddfb4a418b6840b86e79a3";
    assert!(notes.contains(&manifest.files[0].sha256) && notes.contains(zeros), "{notes}");
}

#[test]
fn a_file_with_another_size_or_tag_is_refused_before_it_is_moved() {
    for content in [bytes(101), bytes(100)] {
        let bench = Bench::new();
        let manifest = manifest("tiny", &bytes(100), vec![source("tiny.bin")]);
        let tag = "0".repeat(64);
        let hub = Hub::new(Play { tag: tag.clone(), ..play(&content) });
        let store = bench.store(hub.options(&bench));
        match &no_source(store.ensure(&manifest, &Told::default()).unwrap_err())[..] {
            [StoreError::WrongSize { expected: 100, found: 101, .. }] => {}
            [StoreError::WrongSum { found, .. }] => assert_eq!(*found, tag),
            other => panic!("{other:?}"),
        }
        assert!(hub.downloads().is_empty());
    }
}

#[test]
fn a_file_that_the_hub_does_not_have_is_named() {
    let bench = Bench::new();
    let hub = Hub::new(play(&bytes(100)));
    let manifest = manifest("tiny", &bytes(100), vec![source("absent.bin")]);
    let told = Told::default();
    let error = bench.store(hub.options(&bench)).ensure(&manifest, &told).unwrap_err();
    let [StoreError::Hub { repo, file, reason }] = &no_source(error)[..] else { panic!() };
    assert_eq!((repo.as_str(), file.as_str()), ("owner/name", "absent.bin"));
    assert!(reason.contains("404"), "{reason}");
}

#[test]
fn a_hub_that_cannot_be_reached_is_asked_once_and_said_once() {
    let silent = Hub::new(Play { silent: true, ..Play::default() });
    let refusing = "http://127.0.0.1:1".to_owned();
    for endpoint in [refusing, silent.endpoint.clone()] {
        let bench = Bench::new();
        let mut options = bench.options();
        options.hub.endpoint = Some(endpoint.clone());
        options.hub.answer_within = Duration::from_millis(300);
        let store = bench.store(options);
        let told = Told::default();
        for name in ["part_a", "part_b"] {
            bench.wheel(name, &format!("{name}/part.bin"), &bytes(100));
            let sources = vec![source("tiny.bin"), wheels(&[name])];
            let begun = Instant::now();
            store.ensure(&manifest(name, &bytes(100), sources), &told).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        let notes = told.notes();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains(&endpoint), "{notes:?}");
    }
}

#[test]
fn a_broken_off_download_goes_on_where_it_stopped() {
    let bench = Bench::new();
    let content = bytes(100_000);
    let hub = Hub::new(Play { breaks: vec![40_000], ..play(&content) });
    let manifest = manifest("tiny", &content, vec![source("tiny.bin")]);
    let error = bench.store(hub.options(&bench)).ensure(&manifest, &Told::default()).unwrap_err();
    assert!(matches!(no_source(error)[..], [StoreError::Hub { .. }]));
    let store = bench.store(hub.options(&bench));
    assert_eq!(store.status(&manifest), Status::Partial(40_000));
    let path = store.ensure(&manifest, &Told::default()).unwrap();
    assert!(fs::read(path).unwrap() == content);
    assert_eq!(hub.downloads(), ["bytes=0-", "bytes=40000-"]);
    assert_eq!(bench.cached(), ["tiny.bin"]);
}

#[test]
fn a_download_that_keeps_breaking_off_is_taken_up_a_few_times() {
    let bench = Bench::new();
    let content = bytes(100_000);
    let hub = Hub::new(Play { breaks: vec![40_000, 20_000], ..play(&content) });
    let mut options = hub.options(&bench);
    options.hub.tries = 3;
    let manifest = manifest("tiny", &content, vec![source("tiny.bin")]);
    let path = bench.store(options).ensure(&manifest, &Told::default()).unwrap();
    assert!(fs::read(path).unwrap() == content);
    assert_eq!(hub.downloads(), ["bytes=0-", "bytes=40000-", "bytes=60000-"]);
}

#[test]
fn a_download_that_stands_still_is_given_up() {
    let bench = Bench::new();
    let hub = Hub::new(Play { breaks: vec![4000], holds: true, ..play(&bytes(10_000)) });
    let mut options = hub.options(&bench);
    (options.hub.stalled_after, options.hub.tries) = (Duration::from_millis(300), 3);
    let manifest = manifest("tiny", &bytes(10_000), vec![source("tiny.bin")]);
    let error = bench.store(options).ensure(&manifest, &Told::default()).unwrap_err();
    assert!(matches!(no_source(error)[..], [StoreError::HubStalled { .. }]));
    assert_eq!(hub.downloads(), ["bytes=0-"]);
}

#[test]
fn a_beginning_that_is_too_long_is_fetched_anew() {
    let bench = Bench::new();
    let content = bytes(1000);
    let blobs = bench.at("cache/models/tiny.bin.hub/models--owner--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join("tag.part"), bytes(1001)).unwrap();
    let hub = Hub::new(play(&content));
    let manifest = manifest("tiny", &content, vec![source("tiny.bin")]);
    let path = bench.store(hub.options(&bench)).ensure(&manifest, &Told::default()).unwrap();
    assert!(fs::read(path).unwrap() == content);
}

#[test]
fn a_download_killed_after_its_last_byte_is_whole() {
    let bench = Bench::new();
    let content = bytes(1000);
    let blobs = bench.at("cache/models/tiny.bin.hub/models--owner--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join("tag.part"), &content).unwrap();
    let hub = Hub::new(play(&content));
    let manifest = manifest("tiny", &content, vec![source("tiny.bin")]);
    let path = bench.store(hub.options(&bench)).ensure(&manifest, &Told::default()).unwrap();
    assert!(fs::read(path).unwrap() == content);
    assert!(hub.downloads().is_empty());
}

#[test]
fn a_file_in_the_hubs_own_cache_is_used_where_it_lies() {
    for revision in ["main", "c0ffee"] {
        let bench = Bench::new();
        let repo = bench.at("hf/hub/models--owner--name");
        fs::create_dir_all(repo.join("snapshots/c0ffee")).unwrap();
        fs::create_dir_all(repo.join("refs")).unwrap();
        fs::write(repo.join("refs/main"), "c0ffee").unwrap();
        fs::write(repo.join("snapshots/c0ffee/tiny.bin"), bytes(100)).unwrap();
        let mut options = bench.options();
        options.hub.cache = Some(bench.at("hf/hub"));
        let file = HubFile {
            repo: "owner/name".to_owned(),
            file: "tiny.bin".to_owned(),
            revision: revision.to_owned(),
        };
        let manifest = manifest("tiny", &bytes(100), vec![Source::Hub(file)]);
        let path = bench.store(options).ensure(&manifest, &Told::default()).unwrap();
        assert_eq!(path, repo.join("snapshots/c0ffee/tiny.bin"));
    }
}
