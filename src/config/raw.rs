//! `tutti.toml` as it is written. Every key is optional and no other key is allowed.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use toml::Table;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) default: Option<String>,
    pub(super) load: Option<Vec<String>>,
    pub(super) paths: Paths,
    pub(super) engine: Engine,
    pub(super) sampling: Sampling,
    pub(super) server: Server,
    pub(super) report: Report,
    pub(super) model: BTreeMap<String, Model>,
    pub(super) ensemble: Option<Vec<Ensemble>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Paths {
    pub(super) cache: Option<PathBuf>,
    pub(super) vocab_maps: Option<PathBuf>,
    pub(super) models: Option<PathBuf>,
    pub(super) data: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Engine {
    pub(super) device: Option<String>,
    pub(super) threads: Option<usize>,
    pub(super) max_sequences: Option<usize>,
    pub(super) queue: Option<usize>,
    pub(super) prefill_chunk: Option<usize>,
    pub(super) kept_tokens: Option<usize>,
    pub(super) kv_cache: Option<String>,
    pub(super) memory_limit_mb: Option<u64>,
    pub(super) quantize: Option<String>,
    pub(super) lazy: Option<bool>,
    pub(super) idle_unload_seconds: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sampling {
    pub(super) temperature: Option<f64>,
    pub(super) top_k: Option<usize>,
    pub(super) top_p: Option<f64>,
    pub(super) min_p: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Server {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) max_body_bytes: Option<usize>,
    pub(super) max_requests: Option<usize>,
    pub(super) max_tokens: Option<usize>,
    pub(super) api_keys_file: Option<PathBuf>,
    pub(super) cors_origins: Option<Vec<String>>,
    pub(super) strict_params: Option<bool>,
    pub(super) log_prompts: Option<bool>,
    pub(super) grace_seconds: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Report {
    pub(super) retries: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Model {
    pub(super) quantize: Option<String>,
    pub(super) lazy: Option<bool>,
    pub(super) idle_unload_seconds: Option<u32>,
    pub(super) template_args: Option<Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ensemble {
    pub(super) name: String,
    pub(super) members: Vec<Member>,
    pub(super) weights: Option<String>,
    pub(super) rule: Option<String>,
    pub(super) floor: Option<f64>,
    pub(super) gate: Option<f64>,
    pub(super) on_failure: Option<String>,
    pub(super) template_args: Option<Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    pub(super) model: String,
    pub(super) weight: Option<f64>,
    pub(super) role: Option<String>,
    pub(super) temperature: Option<f64>,
    pub(super) system: Option<String>,
    pub(super) template_args: Option<Table>,
}
