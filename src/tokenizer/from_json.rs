//! Reads a tokenizer out of Hugging Face's `tokenizer.json` and `tokenizer_config.json`.
//!
//! Takes what byte-level BPE and `SentencePiece` BPE (the kind with byte fallback) need, and refuses
//! by name what would change ids and is not supported. The NFC normaliser of Qwen2's file is taken
//! note of and not applied (see the parent module).

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Algorithm, DummySpace, PreTokenizer, SpecToken, TokenRole, TokenizerError, TokenizerSpec,
    alphabet, sentencepiece,
};
use crate::vocab::TokenId;

#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: Value,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    special: bool,
}

#[derive(Deserialize)]
struct BpeModel {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    dropout: Option<f32>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// `"a b"` in older files, `["a", "b"]` in newer ones.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

#[derive(Default, Deserialize)]
struct ConfigFile {
    add_bos_token: Option<bool>,
    bos_token: Option<NamedToken>,
    eos_token: Option<NamedToken>,
    chat_template: Option<ChatTemplate>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NamedToken {
    Name(String),
    Full { content: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ChatTemplate {
    One(String),
    Several(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

pub(super) fn spec(
    tokenizer_json: &[u8],
    config_json: Option<&[u8]>,
) -> Result<TokenizerSpec, TokenizerError> {
    let file: TokenizerFile = read("tokenizer.json", tokenizer_json)?;
    let config: ConfigFile = match config_json {
        Some(bytes) => read("tokenizer_config.json", bytes)?,
        None => ConfigFile::default(),
    };
    let algorithm = algorithm(&file)?;
    let model = bpe_model(file.model)?;
    let ids: HashMap<&str, u32> = model
        .vocab
        .iter()
        .map(|(text, &id)| (text.as_str(), id))
        .chain(file.added_tokens.iter().map(|token| (token.content.as_str(), token.id)))
        .collect();
    let id = |named: Option<NamedToken>| match named {
        None => Ok(None),
        Some(NamedToken::Name(name) | NamedToken::Full { content: name }) => {
            ids.get(name.as_str()).map(|&id| Some(TokenId(id))).ok_or_else(|| {
                TokenizerError::Malformed { reason: format!("`{name}` is named but no token") }
            })
        }
    };
    let first = prompt_start(&file.post_processor).and_then(|name| ids.get(name));

    let spelling = match algorithm {
        Algorithm::ByteLevel { .. } => BYTE_LEVEL,
        Algorithm::SentencePiece { .. } => SENTENCEPIECE,
    };
    let tokens = tokens(&model.vocab, &file.added_tokens, &spelling)?;
    let mut spec = TokenizerSpec::with(tokens, algorithm);
    spec.bos = id(config.bos_token)?.or(first.map(|&id| TokenId(id)));
    spec.eos = id(config.eos_token)?;
    spec.add_bos = config.add_bos_token.unwrap_or(first.is_some());
    spec.stops.extend(spec.eos);
    spec.add_well_known_stops();
    spec.chat_template = config.chat_template.and_then(default_template);
    for merge in &model.merges {
        let (a, b) = match merge {
            Merge::Pair(a, b) => (a.as_str(), b.as_str()),
            Merge::Joined(text) => text.split_once(' ').ok_or_else(|| {
                let reason = format!("`{text}` is not a pair of tokens");
                TokenizerError::Merges { reason }
            })?,
        };
        spec.merges.push(((spelling.unspell)(a)?, (spelling.unspell)(b)?));
    }
    Ok(spec)
}

/// How the tokens of a kind are written down.
struct Spelling {
    unspell: fn(&str) -> Result<Vec<u8>, TokenizerError>,
    /// A token of the model's own vocabulary.
    token: fn(&str) -> Result<SpecToken, TokenizerError>,
    /// One that was added to it and is not special.
    added: fn(&str) -> SpecToken,
}

const BYTE_LEVEL: Spelling = Spelling {
    unspell: |text| {
        alphabet::unspell(text).ok_or_else(|| TokenizerError::Spelling { token: text.to_owned() })
    },
    token: |text| Ok(SpecToken::new((BYTE_LEVEL.unspell)(text)?, TokenRole::Normal)),
    added: |text| SpecToken::new(text, TokenRole::Added),
};

const SENTENCEPIECE: Spelling = Spelling {
    unspell: |text| Ok(sentencepiece::unspell(text).into_bytes()),
    token: |text| {
        Ok(match sentencepiece::byte(text) {
            Some(byte) => SpecToken::new([byte], TokenRole::Byte),
            None => SpecToken::new(sentencepiece::unspell(text), TokenRole::Normal),
        })
    },
    // Added tokens are looked for in the text as it comes, where no space is a `▁` yet: those with
    // one are found by merging alone.
    added: |text| {
        let role = if text.contains('▁') { TokenRole::Normal } else { TokenRole::Verbatim };
        SpecToken::new(sentencepiece::unspell(text), role)
    },
};

fn read<'a, T: Deserialize<'a>>(file: &'static str, bytes: &'a [u8]) -> Result<T, TokenizerError> {
    serde_json::from_slice(bytes)
        .map_err(|error| TokenizerError::Json { file, reason: error.to_string() })
}

fn algorithm(file: &TokenizerFile) -> Result<Algorithm, TokenizerError> {
    let ignore_merges = file.model["ignore_merges"] == true;
    if file.model["byte_fallback"] == true {
        if ignore_merges {
            let what = "SentencePiece BPE that ignores merges".to_owned();
            return Err(TokenizerError::Unsupported { what });
        }
        let dummy_space = dummy_space(&file.normalizer, &file.pre_tokenizer)?;
        return Ok(Algorithm::SentencePiece { scores: None, dummy_space });
    }
    match file.normalizer["type"].as_str() {
        None | Some("NFC") => {}
        Some(other) => {
            return Err(TokenizerError::Unsupported { what: format!("normalizer `{other}`") });
        }
    }
    Ok(Algorithm::ByteLevel { pre_tokenizer: pre_tokenizer(&file.pre_tokenizer)?, ignore_merges })
}

/// What `SentencePiece`'s own normaliser does is written in two places, and in different ways: all
/// of them write spaces as `▁`, and some put one before the text.
fn dummy_space(normalizer: &Value, pre_tokenizer: &Value) -> Result<DummySpace, TokenizerError> {
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    // It finds no space any more and does nothing.
    let idle = json!({
        "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
        "invert": false,
    });
    let both = json!({"type": "Sequence", "normalizers": [&prepend, &replace]});
    if *pre_tokenizer == Value::Null || *pre_tokenizer == idle {
        if *normalizer == both {
            return Ok(DummySpace::Every);
        }
        if *normalizer == replace {
            return Ok(DummySpace::Never);
        }
    }
    let metaspace = pre_tokenizer["type"] == "Metaspace"
        && pre_tokenizer["replacement"] == "▁"
        && pre_tokenizer["split"] == false;
    match (normalizer, pre_tokenizer["prepend_scheme"].as_str()) {
        (Value::Null, Some("first")) if metaspace => Ok(DummySpace::First),
        (Value::Null, Some("never")) if metaspace => Ok(DummySpace::Never),
        _ => Err(TokenizerError::Unsupported {
            what: format!("normalizer {normalizer} with pre-tokenizer {pre_tokenizer}"),
        }),
    }
}

fn bpe_model(model: Value) -> Result<BpeModel, TokenizerError> {
    // Files written before the key was have BPE.
    let kind = model["type"].as_str().unwrap_or("BPE");
    if kind != "BPE" {
        return Err(TokenizerError::Kind { kind: kind.to_owned() });
    }
    let model: BpeModel = serde_json::from_value(model).map_err(|error| TokenizerError::Json {
        file: "tokenizer.json",
        reason: error.to_string(),
    })?;
    let set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let unsupported = [
        (model.dropout.is_some_and(|p| p > 0.0), "dropout"),
        (set(&model.continuing_subword_prefix), "a continuing-subword prefix"),
        (set(&model.end_of_word_suffix), "an end-of-word suffix"),
    ];
    match unsupported.into_iter().find(|(used, _)| *used) {
        Some((_, what)) => Err(TokenizerError::Unsupported { what: what.to_owned() }),
        None => Ok(model),
    }
}

/// Known by its structure and, where it has one, its pattern.
fn pre_tokenizer(value: &Value) -> Result<PreTokenizer, TokenizerError> {
    let steps = match value["pretokenizers"].as_array() {
        Some(steps) => &steps[..],
        None => std::slice::from_ref(value),
    };
    let is = |step: &Value, kind: &str| step["type"] == kind;
    let byte_level = |step: &Value, splits: bool| {
        is(step, "ByteLevel")
            && step["add_prefix_space"] == false
            // The key came later than GPT-2's own file, and is true where absent.
            && step["use_regex"].as_bool().unwrap_or(true) == splits
    };
    let found = match steps {
        [one] if byte_level(one, true) => Some(PreTokenizer::Gpt2),
        [digits, bytes]
            if is(digits, "Digits")
                && digits["individual_digits"] == true
                && byte_level(bytes, true) =>
        {
            Some(PreTokenizer::SmolLm)
        }
        [split, bytes]
            if is(split, "Split")
                && split["behavior"] == "Isolated"
                && split["invert"] == false
                && byte_level(bytes, false) =>
        {
            let pattern = split["pattern"]["Regex"].as_str().unwrap_or_default();
            [PreTokenizer::Qwen2, PreTokenizer::Llama3]
                .into_iter()
                .find(|kind| kind.is_published(pattern))
        }
        _ => None,
    };
    found.ok_or_else(|| TokenizerError::PreTokenizer { found: value.to_string() })
}

/// Ids in no list are reserved. An added token hides the vocabulary's of the same id.
fn tokens(
    vocab: &HashMap<String, u32>,
    added: &[AddedToken],
    spelling: &Spelling,
) -> Result<Vec<SpecToken>, TokenizerError> {
    let added: BTreeMap<u32, &AddedToken> = added.iter().map(|token| (token.id, token)).collect();
    let last = vocab.values().chain(added.keys()).max();
    let count = last.map_or(0, |&last| last as usize + 1);
    // Real vocabularies have no gaps, or a few; a wild id must not fill the memory.
    if count > 2 * (vocab.len() + added.len()) {
        let reason = format!("{} tokens have ids up to {count}", vocab.len() + added.len());
        return Err(TokenizerError::Malformed { reason });
    }
    let mut tokens = vec![SpecToken::new("", TokenRole::Unused); count];
    let mut spelled: Vec<(&String, &u32)> = vocab.iter().collect();
    spelled.sort_unstable_by_key(|&(_, id)| id);
    for (text, &id) in spelled {
        if !added.contains_key(&id) {
            tokens[id as usize] = (spelling.token)(text)?;
        }
    }
    for token in added.values() {
        tokens[token.id as usize] = if token.special {
            SpecToken::new(token.content.as_str(), TokenRole::Control)
        } else {
            (spelling.added)(&token.content)
        };
    }
    Ok(tokens)
}

/// The special token a post-processor puts before every prompt, as Llama 3's does.
fn prompt_start(post_processor: &Value) -> Option<&str> {
    let steps = match post_processor["processors"].as_array() {
        Some(steps) => &steps[..],
        None => std::slice::from_ref(post_processor),
    };
    let template = steps.iter().find(|step| step["type"] == "TemplateProcessing")?;
    template["single"][0]["SpecialToken"]["id"].as_str()
}

fn default_template(template: ChatTemplate) -> Option<String> {
    match template {
        ChatTemplate::One(source) => Some(source),
        ChatTemplate::Several(named) => {
            named.into_iter().find(|one| one.name == "default").map(|one| one.template)
        }
    }
}
