//! Models in more than one file: split GGUF, and folders as Hugging Face's libraries save them.

use std::{collections::BTreeMap, fs, num::NonZeroUsize, path::Path, process::Command};

use candle_core::quantized::gguf_file::{self, Value as Metadata};
use serde_json::json;
use tutti::{
    ensemble::{load_model, load_models, open_model},
    gguf::Gguf,
    model::{Checkpoint, Decoder, Device, KvFormat, LanguageModel, Pool, Want},
    tokenizer::{
        TokenKind,
        chat::{Conversation, Message, Role},
    },
    vocab::TokenId,
};

use crate::{
    model::forward,
    tiny::{LLAMA, Tiny},
};

fn pool() -> Pool {
    Pool::new(NonZeroUsize::new(1).unwrap())
}

// Split GGUF.

pub(crate) const NAMES: [&str; 3] =
    ["tiny-00001-of-00003.gguf", "tiny-00002-of-00003.gguf", "tiny-00003-of-00003.gguf"];

/// As llama.cpp's `gguf-split` writes: the metadata in the first, tensors in all.
pub(crate) fn split(tiny: &Tiny, folder: &Path) {
    let number = |n: usize| Metadata::U16(u16::try_from(n).unwrap());
    for (index, tensors) in tiny.tensors.chunks(tiny.tensors.len().div_ceil(3)).enumerate() {
        let (count, no) = (number(3), number(index));
        let mut metadata = vec![("split.count", &count), ("split.no", &no)];
        if index == 0 {
            metadata.extend(tiny.metadata.iter().map(|(key, value)| (key.as_str(), value)));
        }
        let tensors: Vec<_> = tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
        let mut file = fs::File::create(folder.join(NAMES[index])).unwrap();
        gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    }
}

#[test]
fn a_split_model_is_the_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::new(&LLAMA);
    split(&tiny, folder.path());
    let (_file, whole) = tiny.write();
    let parts = Gguf::open(&folder.path().join(NAMES[0])).unwrap();
    let logits = |gguf: &Gguf| {
        let model = Decoder::from_gguf(gguf, &pool()).unwrap();
        forward(&model, &mut model.new_cache(), &[1, 2, 3].map(TokenId), Want::Last)
    };
    assert_eq!(logits(&parts), logits(&whole));
    let bytes = |gguf: &Gguf| Checkpoint::from_gguf(gguf).unwrap().weight_bytes();
    assert_eq!(bytes(&parts), bytes(&whole));
}

#[test]
fn a_split_model_that_is_not_whole_or_not_named_first_is_refused_by_file() {
    let folder = tempfile::tempdir().unwrap();
    split(&Tiny::new(&LLAMA), folder.path());
    let refusal = |name: &str| Gguf::open(&folder.path().join(name)).err().unwrap().to_string();
    let message = refusal(NAMES[1]);
    assert!(message.contains(NAMES[0]) && message.contains("file 2 of"), "{message}");
    fs::copy(folder.path().join(NAMES[0]), folder.path().join("other.gguf")).unwrap();
    assert!(refusal("other.gguf").contains("-00001-of-00003.gguf"));
    fs::remove_file(folder.path().join(NAMES[2])).unwrap();
    assert!(refusal(NAMES[0]).contains(NAMES[2]));
}

// Folders.

/// A tiny model of 101 logits with a tokenizer of 98 tokens: a mark, two ends, 95 characters.
pub(crate) fn folder() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/qwen2");
    for file in ["config.json", "model.safetensors"] {
        fs::write(copy.path().join(file), fs::read(from.join(file)).unwrap()).unwrap();
    }
    let mut vocab = serde_json::Map::new();
    for (id, byte) in (3..).zip(b' '..=b'~') {
        let spelled = if byte == b' ' { 'Ġ' } else { char::from(byte) };
        vocab.insert(spelled.to_string(), json!(id));
    }
    let special = |id: u32, content: &str| json!({ "id": id, "content": content, "special": true });
    let tokenizer = json!({
        "added_tokens": [special(0, "<|turn|>"), special(1, "<|other|>"), special(2, "<|done|>")],
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": false,
            "trim_offsets": true,
            "use_regex": true,
        },
        "post_processor": null,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    write(&copy, "tokenizer.json", &tokenizer.to_string());
    let template = "{% for m in messages %}<|turn|>old{% endfor %}";
    let config = json!({ "eos_token": "<|done|>", "chat_template": template });
    write(&copy, "tokenizer_config.json", &config.to_string());
    copy
}

fn write(folder: &tempfile::TempDir, file: &str, text: &str) {
    fs::write(folder.path().join(file), text).unwrap();
}

#[test]
fn a_folder_loads_with_its_own_template_and_stops() {
    let folder = folder();
    let said = [Message::new(Role::User, "hi")];
    let loaded = load_model(folder.path(), &pool(), &Device::default()).unwrap();
    assert_eq!(loaded.model.vocab_size(), 101);
    assert_eq!(loaded.tokenizer.render(Conversation::new(&said)).unwrap(), "<|turn|>old");
    // The model's configuration names 2, as the tokenizer's does.
    assert_eq!(loaded.tokenizer.stops(), [TokenId(2)]);

    // A template of its own goes before the configuration's, and a generation's ends are ends.
    let template = "{% for m in messages %}<|turn|>{{ m.content }}{% endfor %}";
    write(&folder, "chat_template.jinja", template);
    write(&folder, "generation_config.json", r#"{ "eos_token_id": [2, 1] }"#);
    let (_, tokenizer) = open_model(folder.path()).unwrap();
    assert_eq!(tokenizer.render(Conversation::new(&said)).unwrap(), "<|turn|>hi");
    assert_eq!(tokenizer.stops(), [TokenId(2), TokenId(1)]);
    assert_eq!(tokenizer.kind(TokenId(1)), Some(&TokenKind::Stop));
    let ids = [0, 3 + u32::from(b'h' - b' '), 3 + u32::from(b'i' - b' ')].map(TokenId);
    assert_eq!(tokenizer.chat(&said).unwrap(), ids);
}

#[test]
fn a_folder_without_a_tokenizer_or_with_a_wrong_stop_is_refused_by_file() {
    let refusal = |change: &dyn Fn(&tempfile::TempDir)| {
        let folder = folder();
        change(&folder);
        load_model(folder.path(), &pool(), &Device::default()).err().unwrap().to_string()
    };
    let gone = refusal(&|folder| fs::remove_file(folder.path().join("tokenizer.json")).unwrap());
    assert!(gone.contains("tokenizer.json"), "{gone}");
    let named =
        refusal(&|folder| write(folder, "generation_config.json", r#"{"eos_token_id": "x"}"#));
    assert!(named.contains("generation_config.json"), "{named}");
    let beyond =
        refusal(&|folder| write(folder, "generation_config.json", r#"{"eos_token_id": 98}"#));
    assert!(beyond.contains("98"), "{beyond}");
}

#[test]
fn models_that_do_not_fit_the_memory_are_refused_with_the_numbers() {
    let folder = folder();
    let paths = || BTreeMap::from([("tiny".to_owned(), folder.path().to_owned().into())]);
    let checkpoint = Checkpoint::from_folder(folder.path()).unwrap();
    // Two layers of two heads of 8, keys and values, 2 bytes each.
    assert_eq!(checkpoint.kv_bytes_a_token(KvFormat::F16), 2 * 2 * 8 * 2 * 2);
    let needed = checkpoint.weight_bytes() + checkpoint.kv_bytes_a_token(KvFormat::F16) * 256;
    let models = load_models(paths(), &pool(), &Device::default(), Some(needed)).unwrap();
    assert_eq!(models["tiny"].model.context_length(), 256);
    let error = load_models(paths(), &pool(), &Device::default(), Some(needed - 1)).err().unwrap();
    let weights = checkpoint.weight_bytes().div_ceil(1_000_000);
    let message = error.to_string();
    assert!(message.contains("tiny") && message.contains("memory_limit_mb"), "{message}");
    assert!(message.contains(&format!("({weights} of weights")), "{message}");
}

#[test]
fn a_path_works_as_a_models_name() {
    let (folder, cache) = (folder(), tempfile::tempdir().unwrap());
    let show = |name: &str| {
        Command::new(env!("CARGO_BIN_EXE_tutti"))
            .args(["vocab", "show", name])
            .env("TUTTI_CACHE", cache.path())
            .current_dir(cache.path())
            .output()
            .unwrap()
    };
    let shown = show(folder.path().to_str().unwrap());
    let text = String::from_utf8(shown.stdout).unwrap();
    let error = String::from_utf8(shown.stderr).unwrap();
    assert!(shown.status.success(), "{error}");
    assert!(text.contains("a union of 95 byte strings"), "{text}");

    let missing = show("./no-such-folder");
    assert!(!missing.status.success());
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.contains("./no-such-folder"), "{error}");
}
