//! The store, through its public face, with tiny files: a hub on this machine, and pip on a folder
//! of wheels made here.

mod hub;
mod wheels;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::real;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tutti::store::{
    Content, Manifest, ModelFile, Options, Progress, Source, Status, Store, StoreError, WheelPart,
};

/// A folder for one test, with a store in it that reaches nothing outside.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.at("wheels")).unwrap();
        // Starting the real pip takes a second, so most tests use one that only copies.
        let (calls, delay, wheels) = (bench.at("calls"), bench.at("delay"), bench.at("wheels"));
        let copy = format!(
            "[ \"$1\" = --version ] && exit\n\
             echo \"$*\" >> '{calls}'\n\
             sleep \"$(cat '{delay}' 2>/dev/null || echo 0)\"\n\
             while [ $# -gt 1 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\n\
             cp '{wheels}'/\"${{1%%=*}}\"-*.whl \"$dest\"\n",
            calls = calls.display(),
            delay = delay.display(),
            wheels = wheels.display(),
        );
        fs::write(bench.at("pip.sh"), copy).unwrap();
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The real pip, which looks nowhere but in the bench's folder of wheels.
    fn real_pip(&self) -> Options {
        let find_links = format!("PIP_FIND_LINKS={}", self.at("wheels").display());
        let env = ["env", "PIP_CONFIG_FILE=/dev/null", "PIP_NO_INDEX=1", &find_links];
        let words = env.into_iter().chain(["python3", "-m", "pip"]);
        Options { pips: vec![words.map(str::to_owned).collect()], ..self.options() }
    }

    /// Options with the bench's pip, and a hub that refuses connections.
    fn options(&self) -> Options {
        let pip = vec!["sh".to_owned(), self.at("pip.sh").display().to_string()];
        let mut options = Options { pips: vec![pip], ..Options::default() };
        options.hub.endpoint = Some("http://127.0.0.1:1".to_owned());
        options
    }

    fn store(&self, options: Options) -> Store {
        Store::new(&self.at("cache"), options).unwrap()
    }

    /// What lies in the cache's model folder, less the locks.
    fn cached(&self) -> Vec<String> {
        self.cached_in("cache/models")
    }

    fn cached_in(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(folder)).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".lock")).collect();
        names.sort();
        names
    }

    /// The packages pip was asked to download.
    fn downloads(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.at("calls")).unwrap_or_default();
        let downloads = calls.lines().filter(|line| line.starts_with("download"));
        downloads.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    }

    /// Puts a wheel of `name` 1.0 with one member where pip finds it.
    fn wheel(&self, name: &str, member: &str, bytes: &[u8]) {
        let path = self.at("wheels").join(format!("{name}-1.0-py3-none-any.whl"));
        let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n");
        let wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n\
                     Tag: py3-none-any\n";
        for (file, content) in [
            (member.to_owned(), bytes),
            (format!("{name}-1.0.dist-info/METADATA"), metadata.as_bytes()),
            (format!("{name}-1.0.dist-info/WHEEL"), wheel.as_bytes()),
            (format!("{name}-1.0.dist-info/RECORD"), b"".as_slice()),
        ] {
            zip.start_file(file, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap();
    }
}

/// What a store told.
#[derive(Default)]
struct Told {
    notes: Mutex<Vec<String>>,
    reached: Mutex<Vec<u64>>,
    tasks: Mutex<Vec<String>>,
}

impl Progress for Told {
    fn started(&self, task: &str, _: u64) {
        self.tasks.lock().unwrap().push(task.to_owned());
        self.reached.lock().unwrap().clear();
    }

    fn reached(&self, bytes: u64) {
        self.reached.lock().unwrap().push(bytes);
    }

    fn finished(&self) {}

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

impl Told {
    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap().clone()
    }
}

fn manifest(id: &str, bytes: &[u8], sources: Vec<Source>) -> Manifest {
    Manifest {
        id: id.to_owned(),
        name: id.to_owned(),
        content: Content::Model { architecture: "none".to_owned() },
        licence: "Apache-2.0".to_owned(),
        files: vec![file(&format!("{id}.bin"), bytes, sources)],
        open: None,
    }
}

/// The manifest of a data set.
fn samples(id: &str, bytes: &[u8], sources: Vec<Source>) -> Manifest {
    let content = Content::Samples { rows: "any".to_owned() };
    Manifest { content, ..manifest(id, bytes, sources) }
}

fn file(name: &str, bytes: &[u8], sources: Vec<Source>) -> ModelFile {
    ModelFile {
        name: name.to_owned(),
        size: bytes.len() as u64,
        sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        sources,
    }
}

/// One source of wheels, `name==1.0` each, with the member `name/part.bin`.
fn wheels(names: &[&str]) -> Source {
    let part = |name: &&str| WheelPart {
        package: format!("{name}==1.0"),
        member: format!("{name}/part.bin"),
    };
    Source::Wheels(names.iter().map(part).collect())
}

/// Bytes without a pattern that a mix-up of parts would keep.
fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
}

#[test]
fn a_local_file_is_used_where_it_lies() {
    let bench = Bench::new();
    let path = bench.at("mine.bin");
    fs::write(&path, bytes(100)).unwrap();
    let manifest = manifest("tiny", &bytes(100), vec![Source::Local(path.clone())]);
    let store = bench.store(bench.options());
    let before = Status::Present { path: path.clone(), verified: false };
    assert_eq!(store.status(&manifest), before);
    let told = Told::default();
    assert_eq!(store.ensure(&manifest, &told).unwrap(), path);
    assert_eq!(store.status(&manifest), Status::Present { path: path.clone(), verified: true });
    assert_eq!(*told.reached.lock().unwrap(), [100], "read through once");
    told.reached.lock().unwrap().clear();
    assert_eq!(store.ensure(&manifest, &told).unwrap(), path);
    assert!(told.reached.lock().unwrap().is_empty(), "the sum is remembered");
}

#[test]
fn a_wrong_local_file_is_left_alone_and_the_next_source_is_used() {
    let bench = Bench::new();
    let path = bench.at("mine.bin");
    fs::write(&path, [0; 100]).unwrap();
    bench.wheel("part_a", "part_a/part.bin", &bytes(100));
    let sources = vec![Source::Local(path.clone()), wheels(&["part_a"])];
    let manifest = manifest("tiny", &bytes(100), sources);
    let told = Told::default();
    let found = bench.store(bench.options()).ensure(&manifest, &told).unwrap();
    assert_eq!(fs::read(found).unwrap(), bytes(100));
    assert_eq!(fs::read(&path).unwrap(), [0; 100]);
    let notes = told.notes().join("\n");
    for word in ["mine.bin", &manifest.files[0].sha256, "expected", "found"] {
        assert!(notes.contains(word), "{word} in {notes}");
    }
}

#[test]
fn a_damaged_file_of_the_cache_is_fetched_again() {
    let bench = Bench::new();
    bench.wheel("part_a", "part_a/part.bin", &bytes(100));
    let manifest = manifest("tiny", &bytes(100), vec![wheels(&["part_a"])]);
    fs::create_dir_all(bench.at("cache/models")).unwrap();
    fs::write(bench.at("cache/models/tiny.bin"), [0; 100]).unwrap();
    let told = Told::default();
    let path = bench.store(bench.options()).ensure(&manifest, &told).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes(100));
    assert!(told.notes()[0].contains("tiny.bin"), "{:?}", told.notes());
    let tasks = told.tasks.lock().unwrap();
    let checked = tasks.iter().filter(|task| task.starts_with("checking")).count();
    assert_eq!(checked, 1, "read through once: {tasks:?}");
}

#[test]
fn data_sets_are_had_like_models_and_lie_in_a_folder_of_their_own() {
    let bench = Bench::new();
    bench.wheel("part_a", "part_a/part.bin", &bytes(100));
    let manifest = samples("tiny", &bytes(100), vec![wheels(&["part_a"])]);
    let path = bench.store(bench.options()).ensure(&manifest, &Told::default()).unwrap();
    assert_eq!(path, bench.at("cache/data/tiny.bin"));
    assert_eq!(fs::read(path).unwrap(), bytes(100));
    assert_eq!((bench.cached(), bench.cached_in("cache/data")), (vec![], vec!["tiny.bin".into()]));
}

#[test]
fn when_nothing_works_every_source_says_why() {
    let bench = Bench::new();
    let hub = hub::source("tiny.bin");
    let sources = vec![Source::Local(bench.at("absent.bin")), hub, wheels(&["part_a"])];
    let manifest = manifest("tiny", &bytes(100), sources);
    let error = bench.store(bench.options()).ensure(&manifest, &Told::default()).unwrap_err();
    let text = error.to_string();
    let at = |word| text.find(word).unwrap_or_else(|| panic!("{word} in {text}"));
    assert!(at("absent.bin") < at("127.0.0.1:1") && at("127.0.0.1:1") < at("part_a==1.0"));
    assert!(text.starts_with("no source of tiny worked"), "{text}");
    assert!(bench.cached().is_empty(), "{:?}", bench.cached());
}

#[test]
fn two_at_once_fetch_once() {
    let bench = Bench::new();
    bench.wheel("part_a", "part_a/part.bin", &bytes(100));
    fs::write(bench.at("delay"), "0.5").unwrap();
    let manifest = manifest("tiny", &bytes(100), vec![wheels(&["part_a"])]);
    let told = Told::default();
    // Each has a store of its own, as two processes have: only the lock on the disk joins them.
    let run = || bench.store(bench.options()).ensure(&manifest, &told).unwrap();
    std::thread::scope(|scope| {
        let both = [scope.spawn(run), scope.spawn(run)];
        let paths = both.map(|one| one.join().unwrap());
        assert_eq!(paths[0], paths[1]);
        assert_eq!(fs::read(&paths[0]).unwrap(), bytes(100));
    });
    assert_eq!(bench.downloads(), ["part_a==1.0"]);
    let notes = told.notes();
    assert!(notes.len() == 1 && notes[0].contains("another process"), "{notes:?}");
}

#[test]
fn the_list_says_what_is_on_the_disk() {
    let bench = Bench::new();
    let store = bench.store(bench.options());
    bench.wheel("part_a", "part_a/part.bin", &bytes(60));
    let whole = manifest("whole", &bytes(60), vec![wheels(&["part_a"])]);
    let half = manifest("half", &bytes(120), vec![wheels(&["part_a", "part_b"])]);
    let none = manifest("none", &bytes(7), vec![wheels(&["part_b"])]);
    store.ensure(&whole, &Told::default()).unwrap();
    store.ensure(&half, &Told::default()).unwrap_err();
    assert_eq!(store.status(&half), Status::Partial(60));
    let mut out = Vec::new();
    tutti::store::list(&[whole, half, none], &store, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[1].starts_with("whole") && lines[1].contains("yes: "), "{text}");
    assert!(lines[1].contains("Apache-2.0"), "{text}");
    assert!(lines[2].starts_with("half") && lines[2].contains("50 %"), "{text}");
    assert!(lines[3].starts_with("none") && lines[3].ends_with("no"), "{text}");
}

#[test]
fn the_default_models_are_to_be_had() {
    for (path, size) in [(real::smollm2(), 98_362_432), (real::qwen(), 491_400_064)] {
        assert_eq!(fs::metadata(path).unwrap().len(), size);
    }
}

#[test]
fn the_cache_folder_follows_the_platform() {
    let folder = tutti::store::default_cache_dir().unwrap();
    assert!(folder.is_absolute() && folder.ends_with("tutti"), "{}", folder.display());
}

fn no_source(error: StoreError) -> Vec<StoreError> {
    match error {
        StoreError::NoSource { failures, .. } => failures.into_iter().map(|it| it.1).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn several_files_are_had_in_one_folder() {
    let bench = Bench::new();
    bench.wheel("part_a", "part_a/part.bin", &bytes(100));
    bench.wheel("part_b", "part_b/part.bin", &bytes(50));
    let files = vec![
        file("a.bin", &bytes(100), vec![wheels(&["part_a"])]),
        file("b.bin", &bytes(50), vec![wheels(&["part_b"])]),
    ];
    let all = Manifest { files, ..manifest("both", &[], Vec::new()) };
    let store = bench.store(bench.options());
    assert_eq!(store.status(&all), Status::Missing);
    let folder = store.ensure(&all, &Told::default()).unwrap();
    assert_eq!(folder, bench.at("cache/models/both"));
    assert_eq!(fs::read(folder.join("a.bin")).unwrap(), bytes(100));
    assert_eq!(fs::read(folder.join("b.bin")).unwrap(), bytes(50));
    assert_eq!(store.status(&all), Status::Present { path: folder.clone(), verified: true });
    let first = Manifest { open: Some("a.bin".to_owned()), ..all };
    assert_eq!(store.ensure(&first, &Told::default()).unwrap(), folder.join("a.bin"));
    fs::remove_file(folder.join("b.bin")).unwrap();
    assert_eq!(store.status(&first), Status::Partial(100));
}

#[test]
fn files_that_lie_apart_are_brought_together_and_left_where_they_are() {
    let bench = Bench::new();
    let (here, there) = (bench.at("here.bin"), bench.at("there/b.bin"));
    fs::create_dir(bench.at("there")).unwrap();
    fs::write(&here, bytes(100)).unwrap();
    fs::write(&there, bytes(50)).unwrap();
    let files = vec![
        file("a.bin", &bytes(100), vec![Source::Local(here.clone())]),
        file("b.bin", &bytes(50), vec![Source::Local(there.clone())]),
    ];
    let all = Manifest { files, ..manifest("both", &[], Vec::new()) };
    let folder = bench.store(bench.options()).ensure(&all, &Told::default()).unwrap();
    assert_eq!(fs::read(folder.join("a.bin")).unwrap(), bytes(100));
    assert_eq!(fs::read(folder.join("b.bin")).unwrap(), bytes(50));
    assert!(here.exists() && there.exists());
    // Again, now that they are together.
    assert_eq!(bench.store(bench.options()).ensure(&all, &Told::default()).unwrap(), folder);
}
