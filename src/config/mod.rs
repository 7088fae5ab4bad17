//! One optional `tutti.toml` and a few environment variables into one checked [`Config`].
//!
//! Read once, at start-up, by `main`. Knows of other modules only what can be set: the sampling
//! parameters, the ways of fusing and of keeping keys, values and weights, the switches of chat
//! templates. Does not look whether models or folders exist.

mod args;
mod check;
mod print;
mod raw;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    ensemble::Settings,
    model::{KvFormat, Quantize},
    report::USUAL_RETRIES,
    sampling::SamplingParams,
    tokenizer::chat::TemplateArgs,
};

/// Where the file is looked for when nobody names one.
pub const FILE_NAME: &str = "tutti.toml";
/// Names a file as `--config` does.
pub const ENV_FILE: &str = "TUTTI_CONFIG";
/// Goes before `paths.cache`.
pub const ENV_CACHE: &str = "TUTTI_CACHE";

/// Everything that can be set, checked. Its default is what holds without any file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What commands use when no model is named: an ensemble, or a member alone.
    pub default_model: String,
    /// What `tutti serve` loads: ensembles, each with its members, and models alone; empty is the
    /// default.
    pub load: Vec<String>,
    pub paths: Paths,
    pub engine: EngineConfig,
    /// For requests that leave a field out. The seed is not a setting.
    pub sampling: SamplingParams,
    pub server: ServerSettings,
    pub report: ReportSettings,
    /// What is set of single models, by the names they are loaded by.
    pub models: BTreeMap<String, ModelConfig>,
    /// At least one; names are unique and none is a member's.
    pub ensembles: Vec<EnsembleConfig>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Paths {
    /// Where model files are kept; `None` is the platform's cache folder.
    pub cache: Option<PathBuf>,
    /// Where union vocabularies are kept; `None` is `vocab-maps` of the working directory if it
    /// is there, else of the cache.
    pub vocab_maps: Option<PathBuf>,
    /// A folder of manifests beside the built-in ones; `None` is `models`.
    pub models: Option<PathBuf>,
    /// Where reports are kept while and after they are written; `None` is `tutti` of the
    /// platform's data folder.
    pub data: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    pub device: DeviceConfig,
    /// Threads that compute; `None` is one a core.
    pub threads: Option<usize>,
    /// Sequences that run at once.
    pub max_sequences: usize,
    /// Requests that may wait for a place.
    pub queue: usize,
    /// The most prompt tokens of one forward.
    pub prefill_chunk: usize,
    /// The most tokens of ended texts that each ensemble keeps read; 0 keeps none.
    pub kept_tokens: usize,
    /// How every model keeps keys and values.
    pub kv_cache: KvFormat,
    /// The most memory, in MB, that models may be loaded into; `None` is what is free.
    pub memory_limit_mb: Option<u64>,
    /// How models' weights are made smaller while they are loaded.
    pub quantize: Quantize,
    /// Models are loaded when they are first asked for.
    pub lazy: bool,
    /// Weights that were not used for so many seconds are given back; 0 never.
    pub idle_unload_seconds: u32,
}

/// Where models compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceConfig {
    Cpu,
    /// An NVIDIA card by its number.
    Cuda(usize),
    /// The graphics processor of a Mac.
    Metal,
}

impl fmt::Display for DeviceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// An address or a host name.
    pub host: String,
    /// 0 takes any free port.
    pub port: u16,
    pub max_body_bytes: usize,
    /// Requests that are answered at once, those that wait in the engine's queue included.
    pub max_requests: usize,
    /// The most tokens of a chat's answer that names no limit; `None` is the end of the context.
    pub max_tokens: Option<usize>,
    /// A file of API keys, one a line.
    pub api_keys_file: Option<PathBuf>,
    /// Origins whose web pages may ask, `*` for all.
    pub cors_origins: Vec<String>,
    /// Requests with fields that are not used are refused.
    pub strict_params: bool,
    /// Prompts go to the log.
    pub log_prompts: bool,
    /// Seconds that running requests may go on after the shutdown signal.
    pub grace_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSettings {
    /// How often a section that goes wrong or is not finished is written again.
    pub retries: usize,
}

/// What is set of one model, wherever it is a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelConfig {
    /// Of this and the next two, `None` is the engine's.
    pub quantize: Option<Quantize>,
    pub lazy: Option<bool>,
    pub idle_unload_seconds: Option<u32>,
    pub template_args: TemplateArgs,
}

/// Models that write together under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleConfig {
    pub name: String,
    /// At least one. The same model may stand here more than once.
    pub members: Vec<MemberConfig>,
    /// How what they say becomes one.
    pub fusion: Settings,
    /// These go before those of its models.
    pub template_args: TemplateArgs,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MemberConfig {
    /// The id of a manifest.
    pub model: String,
    /// Not negative; those of one ensemble add up to 1.
    pub weight: f64,
    /// It decides alone where the gate lets it; at most one of an ensemble, the first if none is.
    pub primary: bool,
    /// Its logits are divided by this; greater than 0.
    pub temperature: f64,
    /// What it alone is told, before the conversation's own system message.
    pub system: Option<String>,
    /// These go before those of the ensemble.
    pub template_args: TemplateArgs,
}

impl MemberConfig {
    pub fn new(model: &str, weight: f64) -> Self {
        let template_args = TemplateArgs::new();
        let model = model.to_owned();
        Self { model, weight, primary: false, temperature: 1.0, system: None, template_args }
    }
}

impl EnsembleConfig {
    /// Fused as ensembles are by default.
    pub fn new(name: &str, members: Vec<MemberConfig>) -> Self {
        let (fusion, template_args) = (Settings::default(), TemplateArgs::new());
        Self { name: name.to_owned(), members, fusion, template_args }
    }

    /// As a part of a `tutti.toml`, with comments.
    pub fn to_toml(&self) -> String {
        print::ensemble(self)
    }
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}; name a file that is there, or none", .file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    /// Not TOML, an unknown key, or a value of the wrong type; the source has line and column.
    #[error("{}: {source}`tutti config` prints every key with its default", .file.display())]
    Malformed { file: PathBuf, source: Box<toml::de::Error> },
    #[error("{}: `{key}` {problem}", .file.display())]
    Invalid { file: PathBuf, key: String, problem: String },
}

impl Config {
    /// The ensemble of this name.
    pub fn ensemble(&self, name: &str) -> Option<&EnsembleConfig> {
        self.ensembles.iter().find(|ensemble| ensemble.name == name)
    }

    /// Reads `path`, else the file that the environment names, else `tutti.toml` of the working
    /// directory if there is one, else nothing.
    pub fn load(
        path: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let set = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let named = path.map(Path::to_path_buf).or_else(|| set(ENV_FILE));
        let mut config = match named {
            Some(file) => Self::read(&file)?,
            None if Path::new(FILE_NAME).exists() => Self::read(Path::new(FILE_NAME))?,
            None => Self::default(),
        };
        if let Some(cache) = set(ENV_CACHE) {
            config.paths.cache = Some(cache);
        }
        Ok(config)
    }

    /// Every model's weights are made smaller in this way, whatever is set.
    pub fn quantize_all(&mut self, quantize: Quantize) {
        self.engine.quantize = quantize;
        for model in self.models.values_mut() {
            model.quantize = None;
        }
    }

    fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_path_buf(), source })?;
        Self::parse(&text, file)
    }

    /// `file` is named by errors, and relative paths in the text start at its folder.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let raw = toml::from_str(text).map_err(|source| ConfigError::Malformed {
            file: file.to_path_buf(),
            source: Box::new(source),
        })?;
        check::check(raw, file)
    }

    /// Every effective value as a commented `tutti.toml`.
    ///
    /// Saved in the working directory it parses to the same configuration.
    pub fn to_toml(&self) -> String {
        print::to_toml(self)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_model: "duet".to_owned(),
            load: Vec::new(),
            paths: Paths { cache: None, vocab_maps: None, models: None, data: None },
            engine: EngineConfig {
                device: DeviceConfig::Cpu,
                threads: None,
                max_sequences: 8,
                queue: 64,
                prefill_chunk: 128,
                kept_tokens: 4096,
                kv_cache: KvFormat::default(),
                memory_limit_mb: None,
                quantize: Quantize::None,
                lazy: false,
                idle_unload_seconds: 0,
            },
            sampling: SamplingParams {
                temperature: 0.7,
                top_k: None,
                top_p: 0.95,
                min_p: 0.0,
                seed: 0,
            },
            server: ServerSettings {
                host: "127.0.0.1".to_owned(),
                port: 8080,
                max_body_bytes: 8 << 20,
                max_requests: 256,
                max_tokens: None,
                api_keys_file: None,
                cors_origins: Vec::new(),
                strict_params: false,
                log_prompts: false,
                grace_seconds: 10,
            },
            report: ReportSettings { retries: USUAL_RETRIES },
            models: BTreeMap::new(),
            ensembles: vec![
                // The larger follows instructions, counts and programs; the smaller is the
                // better one of plain prose. Chosen on dev samples (eval/RESULTS.md): at 0.4 the
                // smaller one spoils programs, and at 0.2 texts still take fewer bits per byte
                // than they do of either. No gate: where the smaller one is sure enough of itself to
                // go alone, programs and sums are lost.
                EnsembleConfig::new(
                    "duet",
                    vec![
                        MemberConfig::new("smollm2-135m-instruct", 0.2),
                        MemberConfig::new("qwen2.5-coder-0.5b-instruct", 0.8),
                    ],
                ),
                EnsembleConfig::new(
                    "trio",
                    vec![
                        MemberConfig::new("smollm2-135m-instruct", 0.2),
                        MemberConfig::new("qwen2.5-coder-0.5b-instruct", 0.3),
                        MemberConfig::new("qwen2.5-coder-1.5b-instruct", 0.5),
                    ],
                ),
            ],
        }
    }
}

#[cfg(test)]
mod tests;
