//! What a model's files say about it, before anything is computed with it.

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
};

use super::load::{LoadError, open_model};
use crate::{
    gguf::Gguf,
    model::{self, Decoder, KvFormat, Pool},
    safetensors,
    vocab::TokenId,
};

/// What is to be known about a model that can be run.
#[derive(Clone, Debug)]
pub struct Card {
    /// The family, as the files name it.
    pub architecture: String,
    /// What its makers call it, if the files say so.
    pub name: Option<String>,
    /// As the files name it, if they do.
    pub licence: Option<String>,
    pub parameters: u64,
    /// In tokens.
    pub context_length: usize,
    pub weight_bytes: u64,
    /// What keys and values of one full context take.
    pub cache_bytes: u64,
    /// How text becomes tokens, for people.
    pub tokenizer: String,
    /// The number of ids.
    pub tokens: usize,
    /// Whether there is a chat template.
    pub template: bool,
    /// The tokens that end a text, and how templates write them.
    pub stops: Vec<(TokenId, String)>,
    /// All files that it is loaded from.
    pub files: Vec<PathBuf>,
    /// Which of several files is named to load it; without one their folder is.
    pub first: Option<PathBuf>,
}

impl Card {
    /// Reads the headers of what [`load_model`](super::load_model) loads.
    ///
    /// # Errors
    /// As that.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let (checkpoint, tokenizer) = open_model(path)?;
        // Only this finds out whether each tensor is there and of the right shape.
        Decoder::new(&checkpoint, &Pool::new(NonZero::<usize>::MIN))?;
        let says = if path.is_dir() { of_folder(path)? } else { of_gguf(path)? };
        let context_length = checkpoint.context_length();
        let names = tokenizer.stop_names().iter().cloned();
        Ok(Self {
            architecture: checkpoint.architecture().to_owned(),
            name: says.name,
            licence: says.licence,
            parameters: checkpoint.parameters(),
            context_length,
            weight_bytes: checkpoint.weight_bytes(),
            cache_bytes: checkpoint.kv_bytes_a_token(KvFormat::default()) * context_length as u64,
            tokenizer: tokenizer.algorithm().to_owned(),
            tokens: tokenizer.len(),
            template: tokenizer.has_template(),
            stops: tokenizer.stops().iter().copied().zip(names).collect(),
            files: says.files,
            first: says.first,
        })
    }
}

/// What the two kinds of files say each in their own way.
struct Says {
    name: Option<String>,
    licence: Option<String>,
    files: Vec<PathBuf>,
    first: Option<PathBuf>,
}

fn of_gguf(path: &Path) -> Result<Says, LoadError> {
    let gguf = Gguf::open(path)?;
    let text = |key: &str| {
        let text = gguf.string(key).ok().map(str::trim).filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    Ok(Says {
        name: text("general.name"),
        licence: text("general.license"),
        files: gguf.paths().map(Path::to_owned).collect(),
        first: Some(path.to_owned()),
    })
}

/// What is read of a folder beside its weights, where it is there.
pub const BESIDE: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

fn of_folder(folder: &Path) -> Result<Says, LoadError> {
    let weights = safetensors::files(folder).map_err(model::LoadError::from)?;
    let beside = BESIDE.map(|name| folder.join(name)).into_iter().filter(|path| path.exists());
    let readme = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    Ok(Says {
        name: None,
        licence: front_matter(&readme, "license").map(str::to_owned),
        files: beside.chain(weights.iter().map(|name| folder.join(name))).collect(),
        first: None,
    })
}

/// A plain value in the block of YAML that a model card on the Hugging Face Hub begins with.
fn front_matter<'a>(readme: &'a str, key: &str) -> Option<&'a str> {
    let mut lines = readme.lines();
    lines.next().filter(|line| line.trim_end() == "---")?;
    let value = lines
        .take_while(|line| line.trim_end() != "---")
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(value.trim().trim_matches(['"', '\''])).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_read_from_the_front_matter_only() {
        let card = "---\nlanguage:\n- en\nlicense: \"apache-2.0\"\n---\n# Tiny\n";
        assert_eq!(front_matter(card, "license"), Some("apache-2.0"));
        for none in [
            "",
            "license: mit\n",
            "---\nlicense:\n---\n",
            "---\nlicense_name: mit\n---\nlicense: mit\n",
        ] {
            assert_eq!(front_matter(none, "license"), None, "{none}");
        }
    }
}
