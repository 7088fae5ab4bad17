//! Reads a tokenizer out of a folder as Hugging Face's libraries save it.
//!
//! `tokenizer.json` has the tokenizer, `tokenizer_config.json` its BOS, EOS and chat template,
//! `chat_template.jinja` the template where it has a file of its own, and `generation_config.json`
//! (else `config.json`) the tokens that end a text.

use std::{fs, io, path::Path};

use serde_json::Value;

use super::{TokenizerError, TokenizerSpec, from_json};
use crate::vocab::TokenId;

const TOKENIZER: &str = "tokenizer.json";
const TEMPLATE: &str = "chat_template.jinja";

pub(super) fn spec(folder: &Path) -> Result<TokenizerSpec, TokenizerError> {
    let missing = || TokenizerError::Json {
        file: TOKENIZER,
        reason: format!("it is not in {}", folder.display()),
    };
    let tokenizer = read(folder, TOKENIZER)?.ok_or_else(missing)?;
    let config = read(folder, "tokenizer_config.json")?;
    let mut spec = from_json::spec(&tokenizer, config.as_deref())?;
    if let Some(template) = read(folder, TEMPLATE)? {
        let template = String::from_utf8(template)
            .map_err(|error| TokenizerError::Json { file: TEMPLATE, reason: error.to_string() })?;
        spec.chat_template = Some(template);
    }
    for file in ["generation_config.json", "config.json"] {
        let stops = stops(folder, file)?;
        for id in &stops {
            if !spec.stops.contains(id) {
                spec.stops.push(*id);
            }
        }
        if !stops.is_empty() {
            break;
        }
    }
    Ok(spec)
}

/// What the file's `eos_token_id` says, one or a list.
fn stops(folder: &Path, file: &'static str) -> Result<Vec<TokenId>, TokenizerError> {
    let Some(bytes) = read(folder, file)? else { return Ok(Vec::new()) };
    let wrong = |reason: String| TokenizerError::Json { file, reason };
    let json: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let id = |id: &Value| {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        id.map(TokenId).ok_or_else(|| wrong("`eos_token_id` is no token id".to_owned()))
    };
    match &json["eos_token_id"] {
        Value::Null => Ok(Vec::new()),
        Value::Array(ids) => ids.iter().map(id).collect(),
        one => Ok(vec![id(one)?]),
    }
}

/// `None` if there is no such file.
fn read(folder: &Path, file: &'static str) -> Result<Option<Vec<u8>>, TokenizerError> {
    match fs::read(folder.join(file)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TokenizerError::Json { file, reason: error.to_string() }),
    }
}
