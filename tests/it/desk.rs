//! Commands as people type them, in a working directory of their own.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use candle_core::quantized::gguf_file::Value;
use tempfile::TempDir;

use crate::damaged;

/// A working directory with a cache of its own, and no default ensemble to be fetched.
pub(crate) struct Desk {
    pub(crate) folder: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.write("tutti.toml", "");
        desk
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    /// As `write`, for the model of [`damaged::small`].
    pub(crate) fn gguf(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        let mut tiny = damaged::small();
        tiny.set("general.name", Value::String("Tiny One".to_owned()));
        tiny.set("general.license", Value::String("mit".to_owned()));
        fs::copy(tiny.write().0.path(), &path).unwrap();
        path
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tutti"));
        command.args(words).env("TUTTI_CACHE", self.at("cache")).current_dir(self.folder.path());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command that works writes.
    pub(crate) fn out(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that is refused says.
    pub(crate) fn refusal(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}
