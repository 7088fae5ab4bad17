//! A model's files, opened: what it is, and where its tensors lie.
//!
//! GGUF and safetensors become the same here: one [`Config`], and tensors under the names that
//! GGUF has for them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{KvFormat, LoadError, config::Config, config_gguf, config_json};
use crate::{gguf::Gguf, mapped::TensorEntry, safetensors};

/// What a model is loaded from. Its weights are mapped, not read.
#[derive(Clone)]
pub struct Checkpoint {
    pub(super) path: PathBuf,
    architecture: String,
    pub(super) config: Config,
    /// By their names in GGUF; one that has none there is under its own.
    pub(super) tensors: BTreeMap<String, TensorEntry>,
    pub(super) naming: Naming,
}

/// What a tensor is called in the files that the model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Gguf,
    HuggingFace,
}

impl Checkpoint {
    /// # Errors
    /// If the file needs something this decoder does not do, by name.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, LoadError> {
        let config = config_gguf::read(gguf)?;
        let mut tensors = BTreeMap::new();
        // The configuration has the divisors.
        for name in gguf.tensor_names().filter(|&name| name != config_gguf::DIVISORS) {
            tensors.insert(name.to_owned(), gguf.tensor(name)?);
        }
        let architecture = gguf.string("general.architecture")?.to_owned();
        let path = gguf.path().to_owned();
        Ok(Self { path, architecture, config, tensors, naming: Naming::Gguf })
    }

    /// Opens a folder with `config.json` and weights in safetensors.
    ///
    /// # Errors
    /// If a file is missing or damaged, or needs something this decoder does not do, by name.
    pub fn from_folder(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join("config.json");
        let text = fs::read(&path)
            .map_err(|source| LoadError::Unreadable { path: path.clone(), source })?;
        let json: Value = serde_json::from_slice(&text).map_err(|error| LoadError::Malformed {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let config = config_json::read(&path, &json)?;
        let mut tensors: BTreeMap<String, TensorEntry> = safetensors::tensors(folder)?
            .into_iter()
            // Constants that early checkpoints of Llama carry along.
            .filter(|(name, _)| !name.ends_with(".rotary_emb.inv_freq"))
            .map(|(name, entry)| (gguf_name(&name).unwrap_or(name), entry))
            .collect();
        match config_json::tied(&json) {
            // A copy of the embedding, which the model does not read.
            Some(true) => drop(tensors.remove(OUTPUT)),
            Some(false) if !tensors.contains_key(OUTPUT) => {
                return Err(LoadError::NoTensor {
                    path: folder.to_owned(),
                    tensor: Naming::HuggingFace.of(OUTPUT),
                });
            }
            _ => {}
        }
        let (path, naming) = (folder.to_owned(), Naming::HuggingFace);
        let architecture = json["model_type"].as_str().unwrap_or_default().to_owned();
        Ok(Self { path, architecture, config, tensors, naming })
    }

    /// The family, as the files name it.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The bytes of all weights.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.values().map(|entry| entry.bytes.len() as u64).sum()
    }

    /// The bytes that keys and values of one token take.
    pub fn kv_bytes_a_token(&self, format: KvFormat) -> u64 {
        let Config { layers, head_dim, .. } = self.config;
        2 * layers as u64 * format.bytes(self.config.kv_width(), head_dim) as u64
    }

    pub fn context_length(&self) -> usize {
        self.config.context_length
    }

    /// How many numbers the model has learnt.
    pub fn parameters(&self) -> u64 {
        let count = |entry: &TensorEntry| entry.shape.iter().map(|&n| n as u64).product::<u64>();
        self.tensors.values().map(count).sum()
    }
}

pub(super) const OUTPUT: &str = "output.weight";

impl Naming {
    /// The name in the files of what GGUF calls `name`.
    pub(super) fn of(self, name: &str) -> String {
        let translated = match self {
            Self::Gguf => None,
            Self::HuggingFace => hugging_face_name(name),
        };
        translated.unwrap_or_else(|| name.to_owned())
    }
}

const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    (OUTPUT, "lm_head.weight"),
];

/// Of a layer, without `.weight` or `.bias`.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

fn gguf_name(name: &str) -> Option<String> {
    if let Some((gguf, _)) = WHOLE.iter().find(|(_, theirs)| *theirs == name) {
        return Some((*gguf).to_owned());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let (part, _) = PARTS.iter().find(|(_, theirs)| *theirs == part)?;
    Some(format!("blk.{layer}.{part}.{kind}"))
}

fn hugging_face_name(name: &str) -> Option<String> {
    if let Some((_, theirs)) = WHOLE.iter().find(|(gguf, _)| *gguf == name) {
        return Some((*theirs).to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = rest.split_once('.')?;
    let (_, part) = PARTS.iter().find(|(gguf, _)| *gguf == part)?;
    Some(format!("model.layers.{layer}.{part}.{kind}"))
}
