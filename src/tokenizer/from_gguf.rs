//! Reads a tokenizer out of GGUF metadata (`tokenizer.ggml.*`, `tokenizer.chat_template`).
//!
//! Key names and token types: the GGUF specification and llama.cpp's `llama-vocab.cpp`.

use super::{
    MergePair, PreTokenizer, SpecToken, TokenRole, TokenizerError, TokenizerSpec, alphabet,
};
use crate::{gguf::Gguf, vocab::TokenId};

pub(super) fn spec(gguf: &Gguf) -> Result<TokenizerSpec, TokenizerError> {
    let model = gguf.string("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(TokenizerError::Kind { kind: model.to_owned() });
    }
    let pre_tokenizer = pre_tokenizer(gguf.string("tokenizer.ggml.pre")?)?;
    let mut spec = TokenizerSpec::new(tokens(gguf)?, pre_tokenizer);
    spec.merges = merges(gguf)?;
    spec.ignore_merges = pre_tokenizer == PreTokenizer::Llama3;
    for key in STOP_KEYS {
        if let Some(id) = id(gguf, key)?
            && !spec.stops.contains(&id)
        {
            spec.stops.push(id);
        }
    }
    spec.add_well_known_stops();
    spec.bos = id(gguf, "tokenizer.ggml.bos_token_id")?;
    spec.eos = id(gguf, "tokenizer.ggml.eos_token_id")?;
    spec.add_bos = if gguf.has("tokenizer.ggml.add_bos_token") {
        gguf.boolean("tokenizer.ggml.add_bos_token")?
    } else {
        // llama.cpp's default for files written before the key was.
        pre_tokenizer == PreTokenizer::Llama3
    };
    if gguf.has("tokenizer.chat_template") {
        spec.chat_template = Some(gguf.string("tokenizer.chat_template")?.to_owned());
    }
    Ok(spec)
}

const STOP_KEYS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

fn pre_tokenizer(name: &str) -> Result<PreTokenizer, TokenizerError> {
    match name {
        "gpt-2" | "gpt2" => Ok(PreTokenizer::Gpt2),
        "smollm" => Ok(PreTokenizer::SmolLm),
        "qwen2" => Ok(PreTokenizer::Qwen2),
        "llama-bpe" | "llama3" | "llama-v3" => Ok(PreTokenizer::Llama3),
        _ => Err(TokenizerError::PreTokenizer { found: name.to_owned() }),
    }
}

fn tokens(gguf: &Gguf) -> Result<Vec<SpecToken>, TokenizerError> {
    let texts = gguf.strings("tokenizer.ggml.tokens")?;
    let types = gguf.integers("tokenizer.ggml.token_type")?;
    if texts.len() != types.len() {
        let reason = format!("{} tokens have {} types", texts.len(), types.len());
        return Err(TokenizerError::Malformed { reason });
    }
    let token = |(text, kind): (&str, i32)| match kind {
        1 => alphabet::unspell(text)
            .map(|bytes| SpecToken::new(bytes, TokenRole::Normal))
            .ok_or_else(|| TokenizerError::Spelling { token: text.to_owned() }),
        2 | 3 => Ok(SpecToken::new(text, TokenRole::Control)),
        4 => Ok(SpecToken::new(text, TokenRole::Added)),
        5 => Ok(SpecToken::new(text, TokenRole::Unused)),
        _ => Err(TokenizerError::Malformed {
            reason: format!("token `{text}` is of type {kind}, which byte-level BPE has not"),
        }),
    };
    texts.into_iter().zip(types).map(token).collect()
}

fn merges(gguf: &Gguf) -> Result<Vec<MergePair>, TokenizerError> {
    gguf.strings("tokenizer.ggml.merges")?.into_iter().map(merge).collect()
}

/// A merge is written as two spellings with a space between.
pub(super) fn merge(text: &str) -> Result<MergePair, TokenizerError> {
    text.split_once(' ')
        .and_then(|(a, b)| Some((alphabet::unspell(a)?, alphabet::unspell(b)?)))
        .ok_or_else(|| TokenizerError::Merges {
            reason: format!("`{text}` is not a pair of tokens"),
        })
}

fn id(gguf: &Gguf, key: &str) -> Result<Option<TokenId>, TokenizerError> {
    if !gguf.has(key) {
        return Ok(None);
    }
    let id = gguf.unsigned(key)?;
    let id = u32::try_from(id).map_err(|_| TokenizerError::Malformed {
        reason: format!("`{key}` is {id}, which no token id can be"),
    })?;
    Ok(Some(TokenId(id)))
}
