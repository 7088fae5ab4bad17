use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Config, ConfigError, DeviceConfig, EnsembleConfig, MemberConfig};
use crate::{
    ensemble::{OnFailure, Rule, Settings, Weighting},
    model::{KvFormat, Quantize},
    tokenizer::chat::TemplateArgs,
};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("tutti.toml"))
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn no_env(_: &str) -> Option<String> {
    None
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn the_default_ensemble_is_the_duet() {
    let config = Config::default();
    assert_eq!(config.default_model, "duet");
    let members: Vec<_> =
        config.ensembles[0].members.iter().map(|m| (m.model.as_str(), m.weight)).collect();
    assert_eq!(members, [("smollm2-135m-instruct", 0.2), ("qwen2.5-coder-0.5b-instruct", 0.8)]);
}

const FULL: &str = r#"
default = "trio"
load = ["trio"]
[paths]
cache = "/var/cache/\"odd\" name"
vocab_maps = "maps"
models = "../more"
data = "kept"
[engine]
device = "cpu"
threads = 3
max_sequences = 4
queue = 5
prefill_chunk = 6
kept_tokens = 7
kv_cache = "q8"
memory_limit_mb = 8
quantize = "q8_0"
lazy = true
idle_unload_seconds = 60
[sampling]
temperature = 0.1
top_k = 40
top_p = 0.3
min_p = 0.05
[server]
host = "0.0.0.0"
port = 9
max_body_bytes = 1000
max_requests = 11
max_tokens = 12
api_keys_file = "keys.txt"
cors_origins = ["https://a.example:8443", "http://localhost:3000"]
strict_params = true
log_prompts = true
grace_seconds = 2
[report]
retries = 3
[model."a/b.gguf"]
quantize = "none"
lazy = false
idle_unload_seconds = 0
template_args = { enable_thinking = false, since = 2024-07-26, "odd \"name\"" = [1, { x = 0.5 }] }
[[ensemble]]
name = "trio"
members = [{ model = "a", weight = 1 }, { model = "b", weight = 1.5 }, { model = "a", weight = 0.7 }]
[[ensemble]]
name = "alone"
members = [
    { model = "c", role = "primary", temperature = 1.5, system = "Say \"hm\".\nThen\tgo on." },
    { model = "d", template_args = { style = "a\nb" } },
]
weights = "online"
rule = "power:0.5"
floor = 0.125
gate = 0.75
on_failure = "continue"
template_args = { enable_thinking = true }
"#;

#[test]
fn every_key_is_read() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.default_model, "trio");
    assert_eq!(config.load, ["trio"]);
    assert_eq!(config.engine.memory_limit_mb, Some(8));
    assert_eq!(config.paths.cache, Some(PathBuf::from("/var/cache/\"odd\" name")));
    assert_eq!(config.paths.vocab_maps, Some(PathBuf::from("maps")));
    assert_eq!(config.paths.models, Some(PathBuf::from("../more")));
    assert_eq!(config.paths.data, Some(PathBuf::from("kept")));
    let engine = &config.engine;
    assert_eq!(engine.device, DeviceConfig::Cpu);
    assert_eq!(
        (
            engine.threads,
            engine.max_sequences,
            engine.queue,
            engine.prefill_chunk,
            engine.kept_tokens
        ),
        (Some(3), 4, 5, 6, 7)
    );
    assert_eq!((engine.kv_cache, engine.quantize), (KvFormat::Q8, Quantize::Q8_0));
    assert_eq!((engine.lazy, engine.idle_unload_seconds), (true, 60));
    let own = &config.models["a/b.gguf"];
    let settings = (own.quantize, own.lazy, own.idle_unload_seconds);
    assert_eq!(settings, (Some(Quantize::None), Some(false), Some(0)));
    let sampling = &config.sampling;
    assert_eq!(
        (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p),
        (0.1, Some(40), 0.3, 0.05)
    );
    let server = &config.server;
    assert_eq!(
        (server.host.as_str(), server.port, server.max_body_bytes, server.grace_seconds),
        ("0.0.0.0", 9, 1000, 2)
    );
    assert_eq!((server.max_requests, server.max_tokens), (11, Some(12)));
    assert_eq!(server.api_keys_file, Some(PathBuf::from("keys.txt")));
    assert_eq!(server.cors_origins, ["https://a.example:8443", "http://localhost:3000"]);
    assert!(server.strict_params && server.log_prompts);
    assert_eq!(config.report.retries, 3);
    assert_eq!(config.ensembles.len(), 2);
    assert_eq!(config.ensembles[0].members[0].weight, 1.0 / 3.2);
    assert_eq!(config.ensembles[0].fusion, Settings::default());
    let args = |json: serde_json::Value| -> TemplateArgs { serde_json::from_value(json).unwrap() };
    let switches = json!({
        "enable_thinking": false,
        "since": "2024-07-26",
        "odd \"name\"": [1, { "x": 0.5 }],
    });
    assert_eq!(config.models["a/b.gguf"].template_args, args(switches));
    let EnsembleConfig { members, fusion, template_args, .. } = &config.ensembles[1];
    assert_eq!(*template_args, args(json!({ "enable_thinking": true })));
    let system = Some("Say \"hm\".\nThen\tgo on.".to_owned());
    let first =
        MemberConfig { primary: true, temperature: 1.5, system, ..MemberConfig::new("c", 0.5) };
    let template_args = args(json!({ "style": "a\nb" }));
    assert_eq!(members[..], [first, MemberConfig { template_args, ..MemberConfig::new("d", 0.5) }]);
    let rule = Rule::Power { exponent: 0.5, floor: 0.125 };
    let expected = Settings {
        rule,
        weights: Weighting::Online,
        gate: Some(0.75),
        on_failure: OnFailure::Continue,
    };
    assert_eq!(*fusion, expected);
}

#[test]
fn weights_add_up_to_one() {
    let config = parse(FULL).unwrap();
    let weights: Vec<f64> = config.ensembles[0].members.iter().map(|m| m.weight).collect();
    for (weight, expected) in weights.iter().zip([1.0 / 3.2, 1.5 / 3.2, 0.7 / 3.2]) {
        assert!((weight - expected).abs() < 1e-12, "{weights:?}");
    }
}

#[test]
fn a_device_has_a_name_and_perhaps_a_number() {
    let device = |name: &str| {
        parse(&format!("[engine]\ndevice = \"{name}\"")).map(|config| config.engine.device)
    };
    assert_eq!(device("cpu").unwrap(), DeviceConfig::Cpu);
    assert_eq!(device("cuda").unwrap(), DeviceConfig::Cuda(0));
    assert_eq!(device("cuda:12").unwrap(), DeviceConfig::Cuda(12));
    assert_eq!(device("metal").unwrap(), DeviceConfig::Metal);
    for name in ["", "gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "metal:1"] {
        let error = device(name).unwrap_err().to_string();
        assert!(error.contains("engine.device") && error.contains(&format!("{name:?}")), "{error}");
    }
}

#[test]
fn what_is_printed_parses_back_to_the_same() {
    for config in [Config::default(), parse(FULL).unwrap()] {
        let printed = config.to_toml();
        assert_eq!(parse(&printed).unwrap(), config, "{printed}");
    }
}

#[test]
fn every_key_is_printed() {
    let printed = parse(FULL).unwrap().to_toml();
    for line in FULL.lines().filter_map(|line| line.split_once(" = ")) {
        assert!(printed.lines().any(|l| l.starts_with(&format!("{} = ", line.0))), "{line:?}");
    }
    let defaults = Config::default().to_toml();
    for line in ["threads = 0", "top_p = 0.95", "port = 8080", "# cache = \"...\""] {
        assert!(defaults.lines().any(|l| l == line), "{line} in {defaults}");
    }
}

#[test]
fn an_ensemble_of_the_file_replaces_the_default_one() {
    let config = parse("[[ensemble]]\nname = \"solo\"\nmembers = [{ model = \"a\" }]\n").unwrap();
    assert_eq!(config.default_model, "solo");
    assert_eq!(config.ensembles.len(), 1);
}

#[test]
fn a_member_alone_may_be_the_default() {
    let config = parse("default = \"qwen2.5-coder-0.5b-instruct\"").unwrap();
    assert_eq!(config.default_model, "qwen2.5-coder-0.5b-instruct");
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() {
    for (text, key, line) in [
        ("\ndefualt = \"duet\"\n", "defualt", "line 2"),
        ("[server]\nport = 1\nprot = 2\n", "prot", "line 3"),
        ("[[ensemble]]\nname=\"a\"\nmembers=[{model=\"b\", wait=1}]", "wait", "line 3"),
    ] {
        let refusal = refusal(text);
        for part in ["tutti.toml", &format!("unknown field `{key}`"), line] {
            assert!(refusal.contains(part), "{part} in {refusal}");
        }
    }
}

#[test]
fn a_value_out_of_range_is_named_with_file_and_key() {
    let ensemble = |members: &str| format!("[[ensemble]]\nname = \"e\"\nmembers = [{members}]");
    let cases = [
        ("default = \"nobody\"".to_owned(), "default"),
        ("[paths]\ncache = \"\"".to_owned(), "paths.cache"),
        ("[engine]\nmax_sequences = 0".to_owned(), "engine.max_sequences"),
        ("[engine]\nqueue = 0".to_owned(), "engine.queue"),
        ("[engine]\nprefill_chunk = 0".to_owned(), "engine.prefill_chunk"),
        ("[engine]\nkv_cache = \"q4\"".to_owned(), "engine.kv_cache"),
        ("[engine]\nkv_cache = \"q8\"\ndevice = \"metal\"".to_owned(), "engine.kv_cache"),
        ("[engine]\nquantize = \"q8_1\"".to_owned(), "engine.quantize"),
        ("[model.a]\nquantize = \"q8_k\"".to_owned(), "model.a.quantize"),
        ("[sampling]\ntemperature = 2.5".to_owned(), "sampling.temperature"),
        ("[sampling]\ntemperature = nan".to_owned(), "sampling.temperature"),
        ("[sampling]\ntop_p = 0".to_owned(), "sampling.top_p"),
        ("[sampling]\nmin_p = -0.1".to_owned(), "sampling.min_p"),
        ("[server]\nhost = \" \"".to_owned(), "server.host"),
        ("[server]\nmax_body_bytes = 0".to_owned(), "server.max_body_bytes"),
        ("[report]\nretries = 10".to_owned(), "report.retries"),
        ("[engine]\nmax_sequences = 99999999".to_owned(), "engine.max_sequences"),
        ("[engine]\nqueue = 9223372036854775807".to_owned(), "engine.queue"),
        ("[server]\nmax_requests = 0".to_owned(), "server.max_requests"),
        ("[server]\nmax_requests = 99999999".to_owned(), "server.max_requests"),
        ("[server]\napi_keys_file = \"\"".to_owned(), "server.api_keys_file"),
        ("[server]\ncors_origins = [\"*\", \"example.org\"]".to_owned(), "server.cors_origins[1]"),
        ("[server]\ncors_origins = [\"http://a.example/\"]".to_owned(), "server.cors_origins[0]"),
        ("ensemble = []".to_owned(), "ensemble"),
        ("[model.a.template_args]\ntools = 1".to_owned(), "model.a.template_args.tools"),
        (
            ensemble("{ model = \"a\", template_args = { messages = [] } }"),
            "ensemble[0].members[0].template_args.messages",
        ),
        (ensemble(""), "ensemble[0].members"),
        (ensemble("{ model = \"\" }"), "ensemble[0].members[0].model"),
        (
            ensemble("{ model = \"a\" }, { model = \"b\", weight = -1 }"),
            "ensemble[0].members[1].weight",
        ),
        (ensemble("{ model = \"a\", weight = inf }"), "ensemble[0].members[0].weight"),
        (ensemble("{ model = \"a\", weight = 0 }"), "ensemble[0].members"),
        (ensemble("{ model = \"a\", role = \"second\" }"), "ensemble[0].members[0].role"),
        (
            ensemble("{ model = \"a\" }, { model = \"b\", weight = 0, role = \"primary\" }"),
            "ensemble[0].members[1].role",
        ),
        (
            ensemble(
                "{ model = \"a\", role = \"primary\" }, { model = \"b\", role = \"primary\" }",
            ),
            "ensemble[0].members[1].role",
        ),
        (ensemble("{ model = \"a\", temperature = 0 }"), "ensemble[0].members[0].temperature"),
        (ensemble("{ model = \"a\", system = \" \" }"), "ensemble[0].members[0].system"),
        (ensemble("{ model = \"a\" }") + "\nrule = \"median\"", "ensemble[0].rule"),
        (ensemble("{ model = \"a\" }") + "\nfloor = 0.1", "ensemble[0].floor"),
        (ensemble("{ model = \"a\" }") + "\nrule = \"geometric\"\nfloor = 2", "ensemble[0].floor"),
        (ensemble("{ model = \"a\" }") + "\nweights = \"free\"", "ensemble[0].weights"),
        (ensemble("{ model = \"a\" }") + "\ngate = -0.5", "ensemble[0].gate"),
        (ensemble("{ model = \"a\" }") + "\non_failure = \"stop\"", "ensemble[0].on_failure"),
        (ensemble("{ model = \"e\" }"), "ensemble[0].name"),
        (ensemble("{ model = \"a\" }").replace("\"e\"", "\"e/f\""), "ensemble[0].name"),
        (
            [ensemble("{ model = \"a\" }"), ensemble("{ model = \"b\" }")].join("\n"),
            "ensemble[1].name",
        ),
    ];
    for (text, key) in cases {
        let refusal = refusal(&text);
        assert!(refusal.starts_with(&format!("tutti.toml: `{key}` ")), "{text}\n{refusal}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_line() {
    let refusal = refusal("[server]\nport = 99999\n");
    assert!(refusal.contains("line 2") && refusal.contains("99999"), "{refusal}");
}

#[test]
fn the_named_file_goes_before_the_environments() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("flag.toml");
    let env = folder.path().join("env.toml");
    std::fs::write(&flag, "[server]\nport = 1\n[paths]\nvocab_maps = \"maps\"").unwrap();
    std::fs::write(&env, "[server]\nport = 2").unwrap();
    let set = |name: &str| (name == super::ENV_FILE).then(|| env.display().to_string());

    let config = Config::load(Some(&flag), &set).unwrap();
    assert_eq!(config.server.port, 1);
    assert_eq!(config.paths.vocab_maps, Some(folder.path().join("maps")));
    assert_eq!(Config::load(None, &set).unwrap().server.port, 2);
}

#[test]
fn the_environments_cache_goes_before_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    std::fs::write(&file, "[paths]\ncache = \"here\"").unwrap();
    let set = |name: &str| (name == super::ENV_CACHE).then(|| "/there".to_owned());
    let cache = |env| Config::load(Some(&file), env).unwrap().paths.cache;
    assert_eq!(cache(&no_env), Some(folder.path().join("here")));
    assert_eq!(cache(&set), Some(PathBuf::from("/there")));
}

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let error = Config::load(Some(Path::new("not/there.toml")), &no_env).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("not/there.toml"), "{error}");
}
