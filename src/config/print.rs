//! A [`Config`] as a commented `tutti.toml`.

use std::path::Path;

use toml::Value;

use super::{
    Config, EngineConfig, EnsembleConfig, MemberConfig, ModelConfig, Paths, ReportSettings,
    ServerSettings, args,
};
use crate::{
    ensemble::{OnFailure, Settings},
    sampling::SamplingParams,
    tokenizer::chat::TemplateArgs,
};

pub(super) fn to_toml(config: &Config) -> String {
    let mut sections = vec![
        format!(
            "# What is used when no model is named: an ensemble, or a member alone.\n\
             default = {}\n\
             # What `tutti serve` loads: ensembles, each with its members, and models alone. Empty:\n\
             # the default.\n\
             load = [{}]\n",
            quoted(&config.default_model),
            config.load.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "),
        ),
        paths(&config.paths),
        engine(&config.engine),
        sampling(&config.sampling),
        server(&config.server),
        report(&config.report),
    ];
    if config.models.is_empty() {
        sections.push(
            "# [model.NAME] is what is set of one model, wherever it is a member:\n\
             # quantize = \"q8_0\"\n\
             # lazy = true\n\
             # idle_unload_seconds = 600\n\
             # template_args = { enable_thinking = false }\n"
                .to_owned(),
        );
    }
    sections.extend(config.models.iter().map(model));
    sections.extend(config.ensembles.iter().map(ensemble));
    sections.join("\n")
}

fn paths(Paths { cache, vocab_maps, models, data }: &Paths) -> String {
    format!(
        "# Relative paths start at this file's folder.\n\
         [paths]\n\
         # Where model files are kept. Left out: the platform's cache folder.\n\
         {}\n\
         # Where union vocabularies are kept. Left out: `vocab-maps` of the working directory if\n\
         # it is there, else of the cache folder.\n\
         {}\n\
         # A folder of manifests and model files beside the built-in ones. Left out: `models`.\n\
         {}\n\
         # Where reports are kept. Left out: `tutti` of the platform's data folder.\n\
         {}\n",
        optional_path("cache", cache.as_deref()),
        optional_path("vocab_maps", vocab_maps.as_deref()),
        optional_path("models", models.as_deref()),
        optional_path("data", data.as_deref()),
    )
}

fn engine(engine: &EngineConfig) -> String {
    let EngineConfig {
        device,
        threads,
        max_sequences,
        queue,
        prefill_chunk,
        kept_tokens,
        kv_cache,
        memory_limit_mb,
        quantize,
        lazy,
        idle_unload_seconds,
    } = engine;
    let memory_limit_mb = memory_limit_mb.unwrap_or(0);
    let threads = threads.unwrap_or(0);
    let device = quoted(&device.to_string());
    format!(
        "[engine]\n\
         # \"cpu\", or \"cuda\", \"cuda:1\" ... or \"metal\" in a program built with that feature. Only on\n\
         # the cpu are seeded results the same bits whatever else is running.\n\
         device = {device}\n\
         # Threads that compute; 0 is one a core.\n\
         threads = {threads}\n\
         # Sequences that run at once.\n\
         max_sequences = {max_sequences}\n\
         # Requests that may wait for a place; more are refused.\n\
         queue = {queue}\n\
         # The most prompt tokens of one forward.\n\
         prefill_chunk = {prefill_chunk}\n\
         # Tokens of ended texts that each ensemble keeps read, for texts that begin alike; 0\n\
         # keeps none.\n\
         kept_tokens = {kept_tokens}\n\
         # How keys and values are kept: \"f16\"; \"q8\" takes 53 % of the memory\n\
         # (6.5 instead of 12.3 MB per 1000 tokens of the 0.5B model), and moves log-probabilities\n\
         # of single tokens by 0.1 in the mean and the perplexity by 1 %.\n\
         kv_cache = \"{kv_cache}\"\n\
         # Models that need more megabytes, weights and one full context each, are not loaded; 0 is\n\
         # what is free.\n\
         memory_limit_mb = {memory_limit_mb}\n\
         # \"q8_0\" makes weights in 16 or 32 bits smaller while they are loaded, and tells what that\n\
         # costs in perplexity; \"none\" leaves them. Weights that are quantized already stay.\n\
         quantize = \"{quantize}\"\n\
         # Load models when they are first asked for; who asks waits.\n\
         lazy = {lazy}\n\
         # Give weights back that were not used for so many seconds; 0 never.\n\
         idle_unload_seconds = {idle_unload_seconds}\n"
    )
}

fn sampling(sampling: &SamplingParams) -> String {
    let SamplingParams { temperature, top_k, top_p, min_p, seed: _ } = sampling;
    let top_k = top_k.unwrap_or(0);
    format!(
        "# For requests that leave a field out.\n\
         [sampling]\n\
         # 0 always takes the most probable piece.\n\
         temperature = {temperature:?}\n\
         # Keep this many of the most probable pieces; 0 keeps all.\n\
         top_k = {top_k}\n\
         # Keep the most probable pieces up to this mass; 1.0 keeps all.\n\
         top_p = {top_p:?}\n\
         # Keep pieces of at least this share of the most probable one's mass; 0.0 keeps all.\n\
         min_p = {min_p:?}\n"
    )
}

fn server(server: &ServerSettings) -> String {
    let ServerSettings { port, max_body_bytes, max_requests, grace_seconds, .. } = server;
    let ServerSettings { strict_params, log_prompts, .. } = server;
    let host = quoted(&server.host);
    let max_tokens = server.max_tokens.unwrap_or(0);
    let api_keys_file = optional_path("api_keys_file", server.api_keys_file.as_deref());
    let cors_origins = Value::from(server.cors_origins.clone());
    format!(
        "[server]\n\
         host = {host}\n\
         # 0 takes any free port.\n\
         port = {port}\n\
         # Larger request bodies are refused.\n\
         max_body_bytes = {max_body_bytes}\n\
         # Requests that are answered at once, those in the queue included; more are refused.\n\
         max_requests = {max_requests}\n\
         # The most tokens of a chat's answer that names no limit; 0 goes on to the end of the\n\
         # context.\n\
         max_tokens = {max_tokens}\n\
         # A file of API keys, one a line; the environment's TUTTI_API_KEYS adds more, between\n\
         # commas. Without any everybody may ask.\n\
         {api_keys_file}\n\
         # Origins whose web pages may ask, such as \"https://example.org\"; \"*\" is all.\n\
         cors_origins = {cors_origins}\n\
         # Refuse requests with fields that are not used; else `x-ignored-params` names them.\n\
         strict_params = {strict_params}\n\
         # Put prompts into the log.\n\
         log_prompts = {log_prompts}\n\
         # How long running requests may go on after a shutdown signal.\n\
         grace_seconds = {grace_seconds}\n"
    )
}

fn report(ReportSettings { retries }: &ReportSettings) -> String {
    format!(
        "[report]\n\
         # How often a section that fails, loops or does not end within its tokens is written\n\
         # again; each time may cost as much as the first. At most 9.\n\
         retries = {retries}\n"
    )
}

fn model((name, model): (&String, &ModelConfig)) -> String {
    let ModelConfig { quantize, lazy, idle_unload_seconds, template_args } = model;
    let lazy = lazy.map_or("# lazy = true".to_owned(), |lazy| format!("lazy = {lazy}"));
    let idle = idle_unload_seconds.map_or("# idle_unload_seconds = 600".to_owned(), |seconds| {
        format!("idle_unload_seconds = {seconds}")
    });
    let quantize = match quantize {
        Some(quantize) => format!("quantize = \"{quantize}\""),
        None => "# quantize = \"q8_0\"".to_owned(),
    };
    format!(
        "# What is set of one model, wherever it is a member.\n\
         [model.{}]\n\
         # These three in place of the engine's.\n\
         {quantize}\n\
         {lazy}\n\
         {idle}\n\
         {}\n",
        quoted(name),
        template_switches(template_args),
    )
}

/// The key with its values, or as an example.
fn template_switches(args: &TemplateArgs) -> String {
    let (mark, args) = if args.is_empty() {
        ("# ", "{ enable_thinking = false }".to_owned())
    } else {
        ("", args::print(args))
    };
    format!(
        "# Switches of the chat templates' own; a member's own go before these, and a request's\n\
         # `chat_template_kwargs` before all.\n\
         {mark}template_args = {args}"
    )
}

pub(super) fn ensemble(ensemble: &EnsembleConfig) -> String {
    let Settings { rule, weights, gate, on_failure } = &ensemble.fusion;
    let floor = match rule.floor() {
        // Of the shortest digits that give the same 32 bits.
        Some(floor) => format!("floor = {floor:?}"),
        None => "# floor = 0.01".to_owned(),
    };
    let gate = gate.map_or("# gate = 0.9".to_owned(), |gate| format!("gate = {gate:?}"));
    let on_failure = match on_failure {
        OnFailure::End => "end",
        OnFailure::Continue => "continue",
    };
    format!(
        "# Models that write together under one name; only the ratio of the weights counts. A\n\
         # member may also have `role = \"primary\"` (for the gate; left out, the first is),\n\
         # `temperature = 1.5` (its logits are divided by it: calms one that is too sure),\n\
         # `system = \"...\"`, which it alone is told, and `template_args` of its own.\n\
         [[ensemble]]\n\
         name = {}\n\
         members = [\n{}]\n\
         # \"fixed\", or moved from there by how well each foresees the text: that of the \"prompt\", or\n\
         # what has been written, \"online\".\n\
         weights = \"{weights}\"\n\
         # How their probabilities become one: mean, power:R with R 0 or from 0.05 to 1,\n\
         # geometric, max or majority.\n\
         rule = \"{rule}\"\n\
         # For power:R and geometric: a member's probability counts as at least this share of the\n\
         # mean.\n\
         {floor}\n\
         # Where the primary's first choice has at least this probability, it decides alone. At 0\n\
         # the others never run. Left out: all run at every step.\n\
         {gate}\n\
         # When a member fails: \"end\" the text with an error, or \"continue\" without it.\n\
         on_failure = \"{on_failure}\"\n\
         {}\n",
        quoted(&ensemble.name),
        ensemble.members.iter().map(member).collect::<String>(),
        template_switches(&ensemble.template_args),
    )
}

fn member(member: &MemberConfig) -> String {
    let MemberConfig { model, weight, primary, temperature, system, template_args } = member;
    let mut keys = format!("model = {}, weight = {weight:?}", quoted(model));
    if *primary {
        keys.push_str(", role = \"primary\"");
    }
    if *temperature != 1.0 {
        keys.push_str(&format!(", temperature = {temperature:?}"));
    }
    if let Some(system) = system {
        keys.push_str(&format!(", system = {}", quoted(system)));
    }
    if !template_args.is_empty() {
        keys.push_str(&format!(", template_args = {}", args::print(template_args)));
    }
    format!("    {{ {keys} }},\n")
}

fn optional_path(key: &str, value: Option<&Path>) -> String {
    match value {
        Some(value) => format!("{key} = {}", path(value)),
        None => format!("# {key} = \"...\""),
    }
}

/// A path that is not Unicode cannot stand in a TOML file.
fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
