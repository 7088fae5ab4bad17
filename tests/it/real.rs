//! The default models on disk, fetched once by the store into its usual folder.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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

fn fetch(id: &str) -> PathBuf {
    static STORE: OnceLock<Store> = OnceLock::new();
    let store = STORE.get_or_init(|| {
        let folder = match std::env::var_os("TUTTI_CACHE") {
            Some(folder) => PathBuf::from(folder),
            None => store::default_cache_dir().unwrap(),
        };
        Store::new(&folder, Options::from_env()).unwrap()
    });
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let manifests = store::manifests(&models).unwrap();
    let manifest = store::find(&manifests, id).unwrap();
    store.ensure(manifest, &Bars::stderr().bar()).unwrap_or_else(|error| panic!("{error}"))
}
