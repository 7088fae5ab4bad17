//! Model files on disk, fetched once by the store into its usual folder.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

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

/// The model's file by its manifest's id.
pub(crate) fn fetch(id: &str) -> PathBuf {
    static STORE: OnceLock<Store> = OnceLock::new();
    let store = STORE.get_or_init(|| Store::new(&cache(), Options::from_env()).unwrap());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["models", "tests/fixtures/models"];
    let manifests = folders.map(|folder| store::manifests(&root.join(folder)).unwrap()).concat();
    let manifest = store::find(&manifests, id).unwrap();
    store.ensure(manifest, &Bars::stderr().bar()).unwrap_or_else(|error| panic!("{error}"))
}

/// The store's usual folder.
pub(crate) fn cache() -> PathBuf {
    std::env::var_os("TUTTI_CACHE")
        .map_or_else(|| store::default_cache_dir().unwrap(), PathBuf::from)
}
