//! The decoder against `transformers` on tiny random checkpoints of every family and variant
//! (`tests/fixtures/make_tiny.py` makes them), from safetensors and written as GGUF.

use std::{
    f64::consts::TAU,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file::Value as Metadata},
};
use serde_json::Value;
use tutti::{
    model::{Checkpoint, Decoder, LanguageModel, Pool, Want},
    safetensors,
    vocab::TokenId,
};

use crate::{
    model::{argmax, assert_cuts_do_not_matter, forward},
    tiny::Tiny,
};

const VARIANTS: [&str; 10] = [
    "llama2",
    "llama3",
    "llama31",
    "llama_linear",
    "llama_biases",
    "mistral",
    "qwen2",
    "qwen2_untied",
    "qwen3",
    "qwen3_untied",
];

/// The most that a logit may differ: the reference computes in 64 bits, we in 32 with keys and
/// values of 16, and its logits are written to four places. They are spread over -8 to 8.
const TOLERANCE: f64 = 0.02;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny").join(name)
}

fn json(name: &str, file: &str) -> Value {
    serde_json::from_slice(&fs::read(folder(name).join(file)).unwrap()).unwrap()
}

fn pool() -> Pool {
    Pool::new(NonZeroUsize::new(2).unwrap())
}

fn ids(list: &Value) -> Vec<TokenId> {
    let id = |id: &Value| TokenId(u32::try_from(id.as_u64().unwrap()).unwrap());
    list.as_array().unwrap().iter().map(id).collect()
}

fn floats(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// The prompt's logits, and the answer, led along the golden one.
fn assert_is_golden(name: &str, model: &Decoder) {
    let golden = json(name, "golden.json");
    let prompt = ids(&golden["prompt"]);
    let mut cache = model.new_cache();
    let found = forward(model, &mut cache, &prompt, Want::All);
    let expected: Vec<f64> = golden["logits"].as_array().unwrap().iter().flat_map(floats).collect();
    assert_eq!(found.len(), expected.len(), "{name}");
    let differences = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs());
    let largest = differences.fold(0.0, f64::max);
    assert!(largest < TOLERANCE, "{name}: {largest}");

    let mut logits = found[found.len() - model.vocab_size()..].to_vec();
    let answer = ids(&golden["answer"]);
    let mut compared = 0;
    for (&token, gap) in answer.iter().zip(floats(&golden["gaps"])) {
        // A choice that could go either way is not held against it.
        if gap >= 2.0 * TOLERANCE {
            assert_eq!(argmax(&logits), token.0 as usize, "{name}: after {compared}");
            compared += 1;
        }
        logits = forward(model, &mut cache, &[token], Want::Last);
    }
    assert!(compared > 10, "{name}: too much of the answer is close to call");
}

#[test]
fn every_family_in_safetensors_says_what_transformers_says() {
    for name in VARIANTS {
        let checkpoint = Checkpoint::from_folder(&folder(name)).unwrap();
        let model = Decoder::new(&checkpoint, &pool()).unwrap();
        assert_is_golden(name, &model);
        assert_cuts_do_not_matter(&checkpoint, 61);
    }
}

#[test]
fn every_family_in_gguf_says_what_transformers_says() {
    for name in VARIANTS {
        let (_file, gguf) = as_gguf(name).write();
        let checkpoint = Checkpoint::from_gguf(&gguf).unwrap();
        let model = Decoder::new(&checkpoint, &pool()).unwrap();
        assert_is_golden(name, &model);
        assert_cuts_do_not_matter(&checkpoint, 61);
    }
}

/// Written as llama.cpp's converter does.
fn as_gguf(name: &str) -> Tiny {
    let config = json(name, "config.json");
    let model_type = config["model_type"].as_str().unwrap();
    let architecture = if model_type == "mistral" { "llama" } else { model_type };
    let mut tiny = Tiny { metadata: Vec::new(), tensors: Vec::new() };
    tiny.set("general.architecture", Metadata::String(architecture.to_owned()));
    let number = |key: &str| u32::try_from(config[key].as_u64().unwrap()).unwrap();
    let rope = &config["rope_parameters"];
    let width = number("hidden_size");
    let heads = number("num_attention_heads");
    let kv_heads = number("num_key_value_heads");
    let head_dim = config["head_dim"].as_u64().map_or(width / heads, |d| u32::try_from(d).unwrap());
    let mut set = |key: &str, value: Metadata| tiny.set(&format!("{architecture}.{key}"), value);
    for (key, value) in [
        ("block_count", number("num_hidden_layers")),
        ("context_length", number("max_position_embeddings")),
        ("embedding_length", width),
        ("feed_forward_length", number("intermediate_size")),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv_heads),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
        ("rope.dimension_count", head_dim),
        ("vocab_size", number("vocab_size")),
    ] {
        set(key, Metadata::U32(value));
    }
    let float = |value: &Value| Metadata::F32(value.as_f64().unwrap() as f32);
    set("attention.layer_norm_rms_epsilon", float(&config["rms_norm_eps"]));
    set("rope.freq_base", float(&rope["rope_theta"]));
    match rope["rope_type"].as_str().unwrap() {
        "default" => {}
        "linear" => {
            set("rope.scaling.type", Metadata::String("linear".to_owned()));
            set("rope.scaling.factor", float(&rope["factor"]));
        }
        "llama3" => tiny.add("rope_freqs.weight", &llama3_divisors(rope, head_dim)),
        other => panic!("{other}"),
    }
    for (name, entry) in safetensors::tensors(&folder(name)).unwrap() {
        let dtype = match (entry.shape.len(), entry.dtype) {
            (1, _) => GgmlDType::F32,
            (_, dtype) => dtype,
        };
        let mut values = numbers(&entry.bytes, entry.dtype);
        let heads = if name.contains("q_proj") { heads } else { kv_heads };
        if architecture == "llama" && (name.contains("q_proj") || name.contains("k_proj")) {
            let cols = entry.shape.get(1).copied().unwrap_or(1);
            values = interleaved(&values, heads as usize, cols);
        }
        let tensor = Tensor::from_vec(values, entry.shape.clone(), &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, dtype).unwrap();
        tiny.tensors.push((gguf_name(&name), tensor));
    }
    tiny
}

/// The formula of llama.cpp's `convert_hf_to_gguf.py`.
fn llama3_divisors(rope: &Value, head_dim: u32) -> Vec<f32> {
    let number = |key: &str| rope[key].as_f64().unwrap();
    let (low, high) = (number("low_freq_factor"), number("high_freq_factor"));
    let context = number("original_max_position_embeddings");
    let divisor = |pair: u32| {
        let wavelength = TAU * number("rope_theta").powf(f64::from(2 * pair) / f64::from(head_dim));
        if wavelength < context / high {
            1.0
        } else if wavelength > context / low {
            number("factor") as f32
        } else {
            let smooth = (context / wavelength - low) / (high - low);
            (1.0 / ((1.0 - smooth) / number("factor") + smooth)) as f32
        }
    };
    let divisors: Vec<f32> = (0..head_dim / 2).map(divisor).collect();
    let between = divisors.iter().filter(|&&divisor| divisor > 1.0 && divisor < 8.0).count();
    assert!(between > 0 && divisors[0] == 1.0, "{divisors:?}");
    divisors
}

/// The two halves of each head become neighbours.
fn interleaved(values: &[f32], heads: usize, cols: usize) -> Vec<f32> {
    let head_dim = values.len() / cols / heads;
    let row = |head: usize, at: usize| {
        let at = at / 2 + at % 2 * (head_dim / 2);
        &values[(head * head_dim + at) * cols..][..cols]
    };
    (0..heads).flat_map(|head| (0..head_dim).flat_map(move |at| row(head, at))).copied().collect()
}

fn numbers(bytes: &[u8], dtype: GgmlDType) -> Vec<f32> {
    let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
    match dtype {
        GgmlDType::F32 => {
            bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        }
        GgmlDType::F16 => bytes.chunks(2).map(|b| half::f16::from_bits(pair(b)).to_f32()).collect(),
        _ => bytes.chunks(2).map(|b| half::bf16::from_bits(pair(b)).to_f32()).collect(),
    }
}

fn gguf_name(name: &str) -> String {
    let mut name = name.to_owned();
    for (theirs, ours) in [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ] {
        name = name.replace(theirs, ours);
    }
    name
}

// What a folder may lack, and what is refused.

fn copy(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::write(copy.path().join(path.file_name().unwrap()), fs::read(&path).unwrap()).unwrap();
    }
    copy
}

fn refusal(folder: &Path) -> String {
    let opened = Checkpoint::from_folder(folder);
    opened.and_then(|checkpoint| Decoder::new(&checkpoint, &pool())).err().unwrap().to_string()
}

#[test]
fn a_folder_that_lacks_something_is_refused_by_the_files_own_names() {
    let without = |file: &str| {
        let copy = copy("qwen2_untied");
        fs::remove_file(copy.path().join(file)).unwrap();
        refusal(copy.path())
    };
    assert!(without("config.json").contains("config.json"));
    assert!(without("model.safetensors.index.json").contains("model.safetensors.index.json"));
    let shard = "model-00002-of-00004.safetensors";
    assert!(without(shard).contains(shard));

    let copy = copy("qwen2_untied");
    let cut = copy.path().join(shard);
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    let message = refusal(copy.path());
    assert!(message.contains(shard), "{message}");
}

#[test]
fn a_configuration_that_is_not_the_weights_own_is_refused_by_tensor() {
    let with = |name: &str, key: &str, value: Value| {
        let copy = copy(name);
        let mut config = json(name, "config.json");
        config[key] = value;
        fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
        refusal(copy.path())
    };
    for (message, named) in [
        (with("qwen2", "tie_word_embeddings", false.into()), "lm_head.weight"),
        (with("llama_biases", "mlp_bias", false.into()), "model.layers.0.mlp.down_proj.bias"),
        (with("llama2", "attention_bias", true.into()), "model.layers.0.self_attn.q_proj.bias"),
        (with("qwen3", "num_hidden_layers", 1.into()), "model.layers.1."),
        (with("qwen3", "num_hidden_layers", 3.into()), "model.layers.2."),
        (with("qwen3", "head_dim", 8.into()), "self_attn.q_proj.weight"),
    ] {
        assert!(message.contains(named), "{message}");
    }
}
