//! Model files with damage of every kind: whatever comes, an error or a model that can be used.

use std::{fs, num::NonZeroUsize};

use candle_core::quantized::{GgmlDType, gguf_file::Value};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;
use tempfile::NamedTempFile;
use tutti::{
    gguf::Gguf,
    model::{Decoder, LanguageModel, Pool, Row, Want},
    tokenizer::Tokenizer,
    vocab::TokenId,
};

use crate::tiny::{Shape, Tiny};

pub(crate) const SMALL: Shape = Shape {
    architecture: "qwen2",
    layers: 1,
    width: 32,
    hidden: 64,
    heads: 2,
    kv_heads: 1,
    context: 20,
    vocab: 230,
    dtypes: &[GgmlDType::Q8_0, GgmlDType::Q4_1, GgmlDType::F16],
};

/// A model with a tokenizer of single characters and a few joined ones.
pub(crate) fn small() -> Tiny {
    of(&SMALL)
}

/// The same of a shape with as many tokens.
pub(crate) fn of(shape: &Shape) -> Tiny {
    let mut tiny = Tiny::new(shape);
    let text = |text: &str| Value::String(text.to_owned());
    let texts = |texts: &[String]| Value::Array(texts.iter().map(|each| text(each)).collect());
    // Of the alphabet of byte-level BPE, those that are themselves.
    let mut tokens: Vec<String> =
        ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').map(String::from).collect();
    tokens.extend(["Ġ", "Ċ", "th", "the", "in", "<|im_end|>"].map(str::to_owned));
    tokens.resize_with(SMALL.vocab, || "<|unused|>".to_owned());
    for (n, token) in tokens.iter_mut().enumerate().skip(194) {
        *token = format!("<|unused{n}|>");
    }
    let kind = |(n, _): (usize, &String)| Value::I32(if n < 193 { 1 } else { 3 });
    let kinds = Value::Array(tokens.iter().enumerate().map(kind).collect());
    tiny.set("tokenizer.ggml.model", text("gpt2"));
    tiny.set("tokenizer.ggml.pre", text("qwen2"));
    tiny.set("tokenizer.ggml.tokens", texts(&tokens));
    tiny.set("tokenizer.ggml.token_type", kinds);
    tiny.set("tokenizer.ggml.merges", texts(&["t h", "th e", "i n"].map(str::to_owned)));
    tiny.set("tokenizer.ggml.eos_token_id", Value::U32(193));
    tiny.set("tokenizer.chat_template", text("{% for m in messages %}{{ m.content }}{% endfor %}"));
    tiny.set("general.alignment", Value::U32(32));
    tiny
}

fn whole() -> Vec<u8> {
    fs::read(small().write().0.path()).unwrap()
}

/// Reads a file as a model and, where that works, runs what came out. Says whether it did.
fn runs(bytes: &[u8], pool: &Pool) -> bool {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let Ok(gguf) = Gguf::open(file.path()) else { return false };
    let tokenizer = Tokenizer::from_gguf(&gguf);
    if let Ok(tokenizer) = &tokenizer {
        let tokens = tokenizer.encode("The theme within, ×\n".as_bytes());
        assert!(tokens.iter().all(|token| (token.0 as usize) < tokenizer.len()));
    }
    let Ok(model) = Decoder::from_gguf(&gguf, pool) else { return false };
    let (mut cache, mut logits) = (model.new_cache(), Vec::new());
    let tokens = [TokenId(0), TokenId(7), TokenId(3)];
    let row = Row { cache: &mut cache, tokens: &tokens, want: Want::All, logits: &mut logits };
    model.forward(&mut [row]).is_ok() && tokenizer.is_ok()
}

/// Damages a file in one to three places, most often in what describes it: that is most of its
/// first part.
fn damage(file: &[u8], described: usize, rng: &mut Pcg32) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..described.min(bytes.len()));
        match rng.random_range(0..6) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            // A length or a number that is a lie.
            2 | 3 => {
                const LIES: [u64; 10] = [
                    0,
                    1,
                    0xff,
                    0xffff,
                    0x7fff_ffff,
                    0xffff_ffff,
                    1 << 32,
                    1 << 60,
                    i64::MAX as u64,
                    u64::MAX,
                ];
                let lie = LIES[rng.random_range(0..10)].to_le_bytes();
                let length = [1, 4, 8][rng.random_range(0..3)];
                let end = (at + length).min(bytes.len());
                bytes[at..end].copy_from_slice(&lie[..end - at]);
            }
            4 => {
                let end = (at + rng.random_range(1..40)).min(bytes.len());
                let piece: Vec<u8> = bytes.drain(at..end).collect();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => bytes.truncate(rng.random_range(1..=bytes.len())),
        }
    }
    bytes
}

#[test]
fn a_damaged_file_is_an_error_or_a_model_and_never_a_panic() {
    let pool = Pool::new(NonZeroUsize::MIN);
    let file = whole();
    assert!(runs(&file, &pool), "the file is whole before it is damaged");
    let weights = file.len() - 20_000.min(file.len() / 2);
    let mut ran = 0;
    for seed in 0..1500 {
        let mut rng = Pcg32::seed_from_u64(seed);
        let damaged = damage(&file, weights, &mut rng);
        ran += usize::from(runs(&damaged, &pool));
    }
    assert!((1..1500).contains(&ran), "{ran} of 1500 still ran");
}

#[test]
fn every_beginning_of_a_file_is_refused() {
    let pool = Pool::new(NonZeroUsize::MIN);
    let file = whole();
    for length in (0..file.len()).step_by(97) {
        assert!(!runs(&file[..length], &pool), "{length} of {} bytes", file.len());
    }
}

/// Replaces the only number of this kind after a key.
fn with_number(file: &[u8], key: &str, number: &[u8]) -> Vec<u8> {
    let at = file.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
    let from = at + key.len() + 4;
    let mut file = file.to_vec();
    file[from..from + number.len()].copy_from_slice(number);
    file
}

#[test]
fn lies_that_once_were_a_panic_are_refused() {
    let pool = Pool::new(NonZeroUsize::MIN);
    let file = whole();
    // A matrix of 2^63 times 4 numbers.
    let shape = [4_u64.to_le_bytes(), (1_u64 << 63).to_le_bytes()].concat();
    assert!(!runs(&with_number(&file, "blk.0.attn_q.weight", &shape), &pool));
}

#[test]
fn an_alignment_of_nothing_is_refused_by_name_behind_values_of_any_kind() {
    let texts = ["a", "bc"].map(|text| Value::String(text.to_owned())).to_vec();
    let others = [
        Value::U8(1),
        Value::I16(-1),
        Value::F32(0.5),
        Value::Bool(true),
        Value::U64(1 << 40),
        Value::Array(vec![Value::F64(0.5), Value::F64(1.5)]),
        Value::Array(vec![Value::Array(texts.clone()), Value::Array(texts)]),
    ];
    for alignment in [Value::U8(32), Value::I16(32), Value::U32(32)] {
        let mut tiny = small();
        for (n, other) in others.iter().enumerate() {
            tiny.set(&format!("other.{n}"), other.clone());
        }
        tiny.set("general.alignment", alignment);
        let file = NamedTempFile::new().unwrap();
        let whole = fs::read(tiny.write().0.path()).unwrap();
        fs::write(file.path(), with_number(&whole, "general.alignment", &[0])).unwrap();
        let refused = || {
            let error = Gguf::open(file.path()).err().unwrap().to_string();
            assert!(error.contains("aligned to 0 bytes (`general.alignment`)"), "{error}");
        };
        refused();
        let mut turned = fs::read(file.path()).unwrap();
        turned[..4].reverse();
        fs::write(file.path(), turned).unwrap();
        refused();
    }
}
