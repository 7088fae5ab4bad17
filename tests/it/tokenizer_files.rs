//! Tokenizers from `tokenizer.json`, and the files that are refused.

use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value as Metadata};
use serde_json::{Value, json};
use tutti::{
    gguf::Gguf,
    tokenizer::{TokenKind, Tokenizer, TokenizerError},
    vocab::TokenId,
};

use crate::{
    real,
    tokenizer::{BOTH, QWEN, SMOLLM2, fixture, user},
};

const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

fn split_by(pattern: &str) -> Value {
    let split = json!({
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false
    });
    json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
}

fn digits() -> Value {
    let digits = json!({"type": "Digits", "individual_digits": true});
    json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]})
}

/// The two files Hugging Face would have for the vocabulary of a GGUF file; merges as pairs or
/// joined by a space.
fn json_of(path: &Path, pre_tokenizer: &Value, pairs: bool) -> (Vec<u8>, Vec<u8>) {
    let gguf = Gguf::open(path).unwrap();
    let tokens = gguf.strings("tokenizer.ggml.tokens").unwrap();
    let types = gguf.integers("tokenizer.ggml.token_type").unwrap();
    let of_type = |wanted: &[i32]| -> Vec<(usize, &str)> {
        let all = tokens.iter().zip(&types).enumerate();
        all.filter(|(_, (_, kind))| wanted.contains(kind))
            .map(|(id, (text, _))| (id, *text))
            .collect()
    };
    let vocab: serde_json::Map<String, Value> =
        of_type(&[1]).into_iter().map(|(id, text)| (text.to_owned(), json!(id))).collect();
    let added: Vec<Value> = of_type(&[3, 4])
        .into_iter()
        .map(|(id, text)| json!({"id": id, "content": text, "special": types[id] == 3}))
        .collect();
    let merges: Vec<Value> = gguf
        .strings("tokenizer.ggml.merges")
        .unwrap()
        .into_iter()
        .map(|text| if pairs { json!(text.split(' ').collect::<Vec<_>>()) } else { json!(text) })
        .collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": pre_tokenizer,
        "post_processor": byte_level(false),
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "vocab": vocab, "merges": merges},
    });
    let config = json!({
        "add_bos_token": false,
        "eos_token": {"content": "<|im_end|>"},
        "bos_token": null,
        "chat_template": gguf.string("tokenizer.chat_template").unwrap(),
    });
    (serde_json::to_vec(&tokenizer).unwrap(), serde_json::to_vec(&config).unwrap())
}

#[test]
fn a_vocabulary_reads_the_same_from_json_as_from_gguf() {
    for (name, path, pre_tokenizer, pairs) in [
        (SMOLLM2, real::smollm2(), digits(), false),
        (QWEN, real::qwen(), split_by(QWEN2_PATTERN), true),
    ] {
        let gguf = &BOTH[name];
        let (tokenizer, config) = json_of(&path, &pre_tokenizer, pairs);
        let json = Tokenizer::from_json(&tokenizer, Some(&config)).unwrap();
        for case in fixture("tokenize.json")["models"][name].as_array().unwrap() {
            let text = case["text"].as_str().unwrap().as_bytes();
            assert_eq!(json.encode(text), gguf.encode(text), "{name}: {case}");
        }
        for id in (0..).map(TokenId).take(json.len()) {
            assert_eq!(json.kind(id), gguf.kind(id), "{name}: {id:?}");
        }
        assert_eq!(json.stops(), gguf.stops());
        let messages = [user("Hi <|im_end|> there, it's 2026")];
        assert_eq!(json.chat(&messages), gguf.chat(&messages));
    }
}

/// Three tokens, `<s>` and `</s>`, and what a test puts in another's place.
fn small_json(key: &str, value: Value) -> Result<Tokenizer, TokenizerError> {
    let mut file = json!({
        "added_tokens": [
            {"id": 3, "content": "<s>", "special": true},
            {"id": 4, "content": "</s>", "special": true},
            {"id": 6, "content": "<tool>", "special": false},
        ],
        "pre_tokenizer": byte_level(true),
        "model": {"vocab": {"1": 0, "2": 1, "12": 2}, "merges": ["1 2"]},
    });
    *file.pointer_mut(key).unwrap() = value;
    Tokenizer::from_json(&serde_json::to_vec(&file).unwrap(), None)
}

fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text.as_bytes()).into_iter().map(|id| id.0).collect()
}

#[test]
fn pre_tokenizers_are_known_by_their_structure() {
    for (pre_tokenizer, ids) in [
        (byte_level(true), vec![2, 0]),
        (digits(), vec![0, 1, 0]),
        (split_by(QWEN2_PATTERN), vec![0, 1, 0]),
        (split_by(LLAMA3_PATTERN), vec![2, 0]),
    ] {
        let tokenizer = small_json("/pre_tokenizer", pre_tokenizer.clone()).unwrap();
        assert_eq!(tokens(&tokenizer, "121"), ids, "{pre_tokenizer}");
    }
}

#[test]
fn tokens_of_json_have_the_kinds_the_file_gives_them() {
    let model = json!({"vocab": {"1": 0, "2": 1, "12": 2}, "merges": [], "ignore_merges": true});
    let tokenizer = small_json("/model", model).unwrap();
    assert_eq!(tokens(&tokenizer, "12"), [2]);
    assert_eq!(tokenizer.stops(), [TokenId(4)]);
    assert_eq!(tokenizer.kind(TokenId(3)), Some(&TokenKind::Control));
    assert_eq!(tokenizer.kind(TokenId(5)), Some(&TokenKind::Control), "an id nobody lists");
    assert_eq!(tokenizer.bytes(TokenId(6)), Some(&b"<tool>"[..]));
    assert_eq!(tokenizer.len(), 7);
}

#[test]
fn the_post_processor_says_what_a_prompt_begins_with() {
    let file = json!({
        "added_tokens": [{"id": 1, "content": "<s>", "special": true}],
        "pre_tokenizer": split_by(LLAMA3_PATTERN),
        "post_processor": {"type": "Sequence", "processors": [
            byte_level(false),
            {"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
            ]},
        ]},
        "model": {"type": "BPE", "vocab": {"1": 0}, "merges": []},
    });
    let tokenizer = Tokenizer::from_json(&serde_json::to_vec(&file).unwrap(), None).unwrap();
    assert_eq!(tokenizer.prompt(b"1"), [TokenId(1), TokenId(0)]);
}

#[test]
fn what_json_asks_for_and_is_not_supported_is_refused_by_name() {
    let prefixed = json!({"type": "ByteLevel", "add_prefix_space": true});
    for (key, value, named) in [
        ("/pre_tokenizer", json!({"type": "Metaspace"}), "Metaspace"),
        ("/pre_tokenizer", Value::Null, "null"),
        ("/pre_tokenizer", prefixed, "\"add_prefix_space\":true"),
        ("/pre_tokenizer", split_by("a+"), "a+"),
        ("/model", json!({"type": "Unigram", "vocab": []}), "tokenizer kind `Unigram`"),
        ("/model/vocab", json!({"▁a": 0}), "`▁a`"),
        ("/model/vocab", json!({"1": 0, "2": 4_000_000_000_u32}), "4000000001"),
        ("/model/merges", json!(["12"]), "`12`"),
        ("/model/merges", json!([["1", "1"]]), "`11`"),
    ] {
        let error = small_json(key, value.clone()).unwrap_err().to_string();
        assert!(error.contains(named), "{value}: {error}");
    }
    let fallback = json!({"byte_fallback": true, "vocab": {}, "merges": []});
    let error = small_json("/model", fallback).unwrap_err();
    assert!(error.to_string().contains("normalizer null with pre-tokenizer"), "{error}");
    let error = Tokenizer::from_json(b"{", None).unwrap_err();
    assert!(matches!(error, TokenizerError::Json { .. }), "{error}");
}

/// What reading a GGUF file of these metadata alone says.
fn gguf_error(metadata: &[(&str, Metadata)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let metadata: Vec<(&str, &Metadata)> =
        metadata.iter().map(|(key, value)| (*key, value)).collect();
    gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &metadata, &[]).unwrap();
    Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap_err().to_string()
}

#[test]
fn what_gguf_asks_for_and_is_not_supported_is_refused_by_name() {
    let text = |text: &str| Metadata::String(text.to_owned());
    let kind = gguf_error(&[("tokenizer.ggml.model", text("t5"))]);
    assert_eq!(
        kind,
        "tokenizer kind `t5` is not supported; byte-level BPE (`gpt2`) and SentencePiece BPE \
         (`llama`) are"
    );

    let byte_level = ("tokenizer.ggml.model", text("gpt2"));
    let missing = gguf_error(std::slice::from_ref(&byte_level));
    assert!(missing.contains("tokenizer.ggml.pre"), "{missing}");
    let pre = gguf_error(&[byte_level.clone(), ("tokenizer.ggml.pre", text("tekken"))]);
    assert_eq!(
        pre,
        "pre-tokenizer `tekken` is not supported; `qwen2`, `smollm`, `llama-bpe` and `gpt-2` are"
    );
    let types = gguf_error(&[
        byte_level,
        ("tokenizer.ggml.pre", text("qwen2")),
        ("tokenizer.ggml.tokens", Metadata::Array(vec![text("a")])),
        ("tokenizer.ggml.token_type", Metadata::Array(vec![Metadata::I32(6)])),
    ]);
    assert!(types.contains("token `a` is of type 6"), "{types}");
}
