//! Reads a tokenizer out of GGUF metadata (`tokenizer.ggml.*`, `tokenizer.chat_template`).
//!
//! Key names and token types: the GGUF specification and llama.cpp's `llama-vocab.cpp`.

use super::{
    Algorithm, DummySpace, MergePair, PreTokenizer, SpecToken, TokenRole, TokenizerError,
    TokenizerSpec, alphabet, sentencepiece,
};
use crate::{gguf::Gguf, vocab::TokenId};

pub(super) fn spec(gguf: &Gguf) -> Result<TokenizerSpec, TokenizerError> {
    let (mut spec, bos_by_default) = match gguf.string("tokenizer.ggml.model")? {
        "gpt2" => byte_level(gguf)?,
        "llama" => (sentencepiece(gguf)?, true),
        other => return Err(TokenizerError::Kind { kind: other.to_owned() }),
    };
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
    spec.add_bos = flag(gguf, "tokenizer.ggml.add_bos_token", bos_by_default)?;
    if gguf.has("tokenizer.chat_template") {
        spec.chat_template = Some(gguf.string("tokenizer.chat_template")?.to_owned());
    }
    Ok(spec)
}

/// With whether a prompt begins with BOS if the file does not say it, as llama.cpp has it.
fn byte_level(gguf: &Gguf) -> Result<(TokenizerSpec, bool), TokenizerError> {
    let pre_tokenizer = pre_tokenizer(gguf.string("tokenizer.ggml.pre")?)?;
    let llama3 = pre_tokenizer == PreTokenizer::Llama3;
    let algorithm = Algorithm::ByteLevel { pre_tokenizer, ignore_merges: llama3 };
    let tokens = tokens(gguf, |text, kind| match kind {
        1 => alphabet::unspell(text)
            .map(|bytes| SpecToken::new(bytes, TokenRole::Normal))
            .ok_or_else(|| TokenizerError::Spelling { token: text.to_owned() }),
        4 => Ok(SpecToken::new(text, TokenRole::Added)),
        _ => other_token(text, kind, "byte-level BPE"),
    })?;
    let mut spec = TokenizerSpec::with(tokens, algorithm);
    spec.merges = merges(gguf)?;
    Ok((spec, llama3))
}

/// User-defined pieces are text, as the `sentencepiece` library takes them.
fn sentencepiece(gguf: &Gguf) -> Result<TokenizerSpec, TokenizerError> {
    if flag(gguf, "tokenizer.ggml.remove_extra_whitespaces", false)? {
        let what = "extra spaces to be removed from its input".to_owned();
        return Err(TokenizerError::Unsupported { what });
    }
    let tokens = tokens(gguf, |text, kind| match kind {
        1 => Ok(SpecToken::new(sentencepiece::unspell(text), TokenRole::Normal)),
        4 => Ok(SpecToken::new(sentencepiece::unspell(text), TokenRole::Verbatim)),
        6 => sentencepiece::byte(text)
            .map(|byte| SpecToken::new([byte], TokenRole::Byte))
            .ok_or_else(|| TokenizerError::Malformed {
                reason: format!("byte token `{text}` names no byte"),
            }),
        _ => other_token(text, kind, "SentencePiece BPE"),
    })?;
    let scores = Some(gguf.floats("tokenizer.ggml.scores")?);
    let spaced = flag(gguf, "tokenizer.ggml.add_space_prefix", true)?;
    let dummy_space = if spaced { DummySpace::Every } else { DummySpace::Never };
    Ok(TokenizerSpec::with(tokens, Algorithm::SentencePiece { scores, dummy_space }))
}

fn other_token(text: &str, kind: i32, model: &str) -> Result<SpecToken, TokenizerError> {
    match kind {
        2 | 3 => Ok(SpecToken::new(text, TokenRole::Control)),
        5 => Ok(SpecToken::new(text, TokenRole::Unused)),
        _ => Err(TokenizerError::Malformed {
            reason: format!("token `{text}` is of type {kind}, which {model} has not"),
        }),
    }
}

fn flag(gguf: &Gguf, key: &str, default: bool) -> Result<bool, TokenizerError> {
    if gguf.has(key) { Ok(gguf.boolean(key)?) } else { Ok(default) }
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

fn tokens(
    gguf: &Gguf,
    token: impl Fn(&str, i32) -> Result<SpecToken, TokenizerError>,
) -> Result<Vec<SpecToken>, TokenizerError> {
    let texts = gguf.strings("tokenizer.ggml.tokens")?;
    let types = gguf.integers("tokenizer.ggml.token_type")?;
    if texts.len() != types.len() {
        let reason = format!("{} tokens have {} types", texts.len(), types.len());
        return Err(TokenizerError::Malformed { reason });
    }
    texts.into_iter().zip(types).map(|(text, kind)| token(text, kind)).collect()
}

fn merges(gguf: &Gguf) -> Result<Vec<MergePair>, TokenizerError> {
    gguf.strings("tokenizer.ggml.merges")?.into_iter().map(merge).collect()
}

/// A merge is written as two spellings with a space between.
fn merge(text: &str) -> Result<MergePair, TokenizerError> {
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
