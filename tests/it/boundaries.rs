//! Holds the arrows between the modules, as `src/lib.rs` draws them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each module, the modules of this crate it may use, and the crates it may not.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    (
        "config",
        &["report", "sampling", "ensemble", "model", "tokenizer"],
        &["axum", "tokio", "candle_core"],
    ),
    ("store", &[], &["candle_core", "axum", "tokio"]),
    ("mapped", &[], &["tokenizers", "axum", "tokio", "safetensors"]),
    ("gguf", &["mapped"], &["tokenizers", "axum", "tokio"]),
    ("safetensors", &["mapped"], &["tokenizers", "axum", "tokio"]),
    ("tokenizer", &["gguf", "vocab"], &["candle_core", "axum", "tokio"]),
    ("isa", &[], &["candle_core", "axum", "tokio", "std::thread", "std::io"]),
    ("sampling", &["isa", "vocab"], &["candle_core", "axum", "tokio", "std::time", "std::thread"]),
    (
        "model",
        &["gguf", "isa", "mapped", "safetensors", "vocab"],
        &["tokenizers", "axum", "tokio", "serde"],
    ),
    ("vocab", &["isa"], &["candle_core", "axum", "tokio", "serde", "std::thread", "std::io"]),
    ("constrain", &["vocab", "sampling"], &["candle_core", "axum", "tokio"]),
    (
        "ensemble",
        &["isa", "model", "vocab", "sampling", "tokenizer", "constrain", "gguf", "safetensors"],
        &["axum", "tokio", "serde", "candle_core"],
    ),
    (
        "engine",
        &["ensemble", "constrain", "sampling", "tokenizer", "vocab"],
        &["axum", "serde", "candle_core"],
    ),
    (
        "inspect",
        &["ensemble", "tokenizer", "vocab"],
        &["axum", "tokio", "candle_core", "tokenizers", "std::fs"],
    ),
    (
        "bench",
        &["ensemble", "model", "vocab", "sampling"],
        &["axum", "tokio", "candle_core", "tokenizers"],
    ),
    ("report", &["engine", "sampling", "tokenizer", "constrain"], &["axum", "candle_core"]),
    (
        "eval",
        &["report", "engine", "sampling", "tokenizer", "constrain"],
        &["axum", "candle_core", "tokenizers", "clap"],
    ),
    (
        "server",
        &["report", "engine", "sampling", "tokenizer", "constrain"],
        &["candle_core", "tokenizers", "llguidance"],
    ),
];

#[test]
fn no_module_uses_what_it_may_not() {
    let mut wrong = Vec::new();
    for &(module, allowed, forbidden) in ARROWS {
        for (path, source) in sources(module) {
            let used = used_modules(&source);
            let beyond =
                used.iter().filter(|used| *used != module && !allowed.contains(&used.as_str()));
            wrong.extend(beyond.map(|used| format!("{} uses crate::{used}", path.display())));
            for krate in forbidden {
                if source.lines().map(code).any(|line| names(line, krate)) {
                    wrong.push(format!("{} uses {krate}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_its_arrows() {
    let modules: BTreeSet<String> = fs::read_to_string(root().join("lib.rs"))
        .unwrap()
        .lines()
        .map(|line| line.strip_prefix("pub ").unwrap_or(line))
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    let listed: BTreeSet<String> = ARROWS.iter().map(|(module, ..)| (*module).to_owned()).collect();
    assert_eq!(modules, listed);
}

#[test]
fn only_the_tokenizer_uses_the_tokenizers_crate_and_only_three_places_are_unsafe() {
    for (path, source) in all_sources() {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        let code: Vec<&str> = source.lines().map(code).collect();
        if code.iter().any(|line| names(line, "tokenizers")) {
            assert!(name.starts_with("tokenizer/"), "{name} uses the tokenizers crate");
        }
        if code.iter().any(|line| line.contains("unsafe ") || line.contains("unsafe{")) {
            let may =
                ["mapped.rs", "isa.rs"].contains(&&*name) || name.starts_with("model/kernels");
            assert!(may, "{name} has unsafe code");
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                found.push((path, source));
            }
        }
    }
    found
}

/// The files of a module, without what stands in its test modules.
fn sources(module: &str) -> Vec<(PathBuf, String)> {
    let (file, folder) = (root().join(format!("{module}.rs")), root().join(module));
    let of_module = |path: &Path| path == file || path.starts_with(&folder);
    all_sources()
        .into_iter()
        .filter(|(path, _)| of_module(path) && !path.ends_with("tests.rs"))
        .map(|(path, source)| {
            let end = source.find("#[cfg(test)]\nmod tests {").unwrap_or(source.len());
            (path, source[..end].to_owned())
        })
        .collect()
}

/// The line without its comment and what it quotes.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
        !part(before) && (after == Some(':') || (line.contains("use ") && after == Some(';')))
    })
}

/// The first segments after `crate::`, in plain paths and in braces.
fn used_modules(source: &str) -> BTreeSet<String> {
    let code: String = source.lines().map(code).collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(list) => used.extend(top_level(list).iter().filter_map(|item| segment(item))),
            None => used.extend(segment(rest)),
        }
    }
    used
}

/// The items of a `{...}` list, which has lost its first brace.
fn top_level(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0;
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                items.last_mut().unwrap().push(c);
            }
        }
    }
    items
}

fn segment(path: &str) -> Option<String> {
    let name: String =
        path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn the_reader_of_sources_sees_what_it_should() {
    let source = "use crate::{a::{X, y::Z}, b, c::d};\nfn f() { crate::e::g(); } // crate::no\n";
    let expected = ["a", "b", "c", "e"].map(str::to_owned);
    assert_eq!(used_modules(source), BTreeSet::from(expected));
    assert!(names("use tokio::sync::mpsc;", "tokio"));
    assert!(!names("use tokio_stream::Stream;", "tokio"));
    assert!(!names("let tokenizers = 3;", "tokenizers"));
}
