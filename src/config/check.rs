//! The raw file into the checked [`Config`].

use std::path::{Path, PathBuf};

use super::{
    Config, ConfigError, DeviceConfig, EngineConfig, EnsembleConfig, MemberConfig, ModelConfig,
    Paths, ReportSettings, ServerSettings, args, raw,
};
use crate::{
    ensemble::{OnFailure, Rule, Settings, Weighting, WeightingError},
    model::{KvFormat, Quantize, QuantizeError},
    report::MAX_RETRIES,
    sampling::SamplingParams,
};

/// Of requests, each of which may hold a body of the largest size, of places and of tokens.
const MOST: usize = 1 << 20;

/// A key and what is wrong with its value.
pub(super) struct Problem {
    key: String,
    problem: String,
}

pub(super) fn check(raw: raw::File, file: &Path) -> Result<Config, ConfigError> {
    checked(raw, file.parent().unwrap_or(Path::new(""))).map_err(|Problem { key, problem }| {
        ConfigError::Invalid { file: file.to_path_buf(), key, problem }
    })
}

/// Relative paths start at `folder`.
fn checked(raw: raw::File, folder: &Path) -> Result<Config, Problem> {
    let defaults = Config::default();
    let ensembles = match raw.ensemble {
        Some(raw) => ensembles(raw, folder)?,
        None => defaults.ensembles,
    };
    Ok(Config {
        default_model: default_model(raw.default.map(|name| resolved(name, folder)), &ensembles)?,
        load: raw.load.into_iter().flatten().map(|name| resolved(name, folder)).collect(),
        paths: paths(raw.paths, folder)?,
        engine: engine(&raw.engine, &defaults.engine)?,
        sampling: sampling(&raw.sampling, &defaults.sampling)?,
        server: server(raw.server, defaults.server, folder)?,
        report: report(&raw.report, &defaults.report)?,
        models: raw
            .model
            .into_iter()
            .map(|(name, raw)| model(resolved(name, folder), raw))
            .collect::<Result<_, _>>()?,
        ensembles,
    })
}

fn paths(raw: raw::Paths, folder: &Path) -> Result<Paths, Problem> {
    let resolve = |key: &str, path: Option<PathBuf>| match path {
        Some(path) if path.as_os_str().is_empty() => {
            Err(problem(key, "is empty; name a folder or leave the key out"))
        }
        path => Ok(path.map(|path| folder.join(path))),
    };
    Ok(Paths {
        cache: resolve("paths.cache", raw.cache)?,
        vocab_maps: resolve("paths.vocab_maps", raw.vocab_maps)?,
        models: resolve("paths.models", raw.models)?,
        data: resolve("paths.data", raw.data)?,
    })
}

fn engine(raw: &raw::Engine, defaults: &EngineConfig) -> Result<EngineConfig, Problem> {
    let at_least_one = |key: &str, value: Option<usize>, default| match value {
        Some(value) if !(1..=MOST).contains(&value) => {
            let reason = format!("is {value}; it must be between 1 and {MOST}");
            Err(problem(key, reason))
        }
        value => Ok(value.unwrap_or(default)),
    };
    Ok(EngineConfig {
        device: raw.device.as_deref().map_or(Ok(defaults.device), device)?,
        threads: raw.threads.map_or(defaults.threads, |threads| (threads > 0).then_some(threads)),
        max_sequences: at_least_one(
            "engine.max_sequences",
            raw.max_sequences,
            defaults.max_sequences,
        )?,
        queue: at_least_one("engine.queue", raw.queue, defaults.queue)?,
        prefill_chunk: at_least_one(
            "engine.prefill_chunk",
            raw.prefill_chunk,
            defaults.prefill_chunk,
        )?,
        kept_tokens: raw.kept_tokens.unwrap_or(defaults.kept_tokens),
        kv_cache: kv_cache(raw, defaults.kv_cache)?,
        memory_limit_mb: raw.memory_limit_mb.filter(|&limit| limit > 0),
        quantize: quantize(raw.quantize.as_deref(), "engine")?.unwrap_or(defaults.quantize),
        lazy: raw.lazy.unwrap_or(defaults.lazy),
        idle_unload_seconds: raw.idle_unload_seconds.unwrap_or(defaults.idle_unload_seconds),
    })
}

fn quantize(raw: Option<&str>, at: &str) -> Result<Option<Quantize>, Problem> {
    let parsed = raw.map(str::parse).transpose();
    parsed.map_err(|error: QuantizeError| problem(format!("{at}.quantize"), error.to_string()))
}

fn kv_cache(raw: &raw::Engine, default: KvFormat) -> Result<KvFormat, Problem> {
    let key = "engine.kv_cache";
    match raw.kv_cache.as_deref() {
        None => Ok(default),
        Some("f16") => Ok(KvFormat::F16),
        Some("q8") if raw.device.as_deref().is_some_and(|device| device != "cpu") => {
            Err(problem(key, "is q8, which only the device `cpu` keeps; it must be f16"))
        }
        Some("q8") => Ok(KvFormat::Q8),
        Some(other) => Err(problem(key, format!("is `{other}`; it must be f16 or q8"))),
    }
}

fn device(name: &str) -> Result<DeviceConfig, Problem> {
    let (kind, index) = name.split_once(':').map_or((name, None), |(a, b)| (a, Some(b)));
    match (kind, index.map(str::parse)) {
        ("cpu", None) => Ok(DeviceConfig::Cpu),
        ("cuda", None) => Ok(DeviceConfig::Cuda(0)),
        ("cuda", Some(Ok(index))) => Ok(DeviceConfig::Cuda(index)),
        ("metal", None) => Ok(DeviceConfig::Metal),
        _ => {
            let reason = format!("is {name:?}; use \"cpu\", \"cuda\", \"cuda:1\" or \"metal\"");
            Err(problem("engine.device", reason))
        }
    }
}

fn sampling(raw: &raw::Sampling, defaults: &SamplingParams) -> Result<SamplingParams, Problem> {
    let within = |key: &str, value: Option<f64>, high: f64, default: f32| match value {
        None => Ok(default),
        Some(value) if (0.0..=high).contains(&value) => Ok(value as f32),
        Some(value) => Err(problem(key, format!("is {value}; it must be between 0 and {high}"))),
    };
    let top_p = within("sampling.top_p", raw.top_p, 1.0, defaults.top_p)?;
    if top_p == 0.0 {
        return Err(problem("sampling.top_p", "is 0; it must be greater, and 1 turns it off"));
    }
    Ok(SamplingParams {
        temperature: within("sampling.temperature", raw.temperature, 2.0, defaults.temperature)?,
        top_k: raw.top_k.map_or(defaults.top_k, |k| (k > 0).then_some(k)),
        top_p,
        min_p: within("sampling.min_p", raw.min_p, 1.0, defaults.min_p)?,
        seed: defaults.seed,
    })
}

fn server(
    raw: raw::Server,
    defaults: ServerSettings,
    folder: &Path,
) -> Result<ServerSettings, Problem> {
    let host = raw.host.unwrap_or(defaults.host);
    if host.trim().is_empty() {
        return Err(problem("server.host", "is empty; \"0.0.0.0\" listens on every interface"));
    }
    let max_body_bytes = raw.max_body_bytes.unwrap_or(defaults.max_body_bytes);
    if max_body_bytes == 0 {
        return Err(problem("server.max_body_bytes", "is 0, which would refuse every request"));
    }
    let max_requests = raw.max_requests.unwrap_or(defaults.max_requests);
    if !(1..=MOST).contains(&max_requests) {
        let reason = format!("is {max_requests}; it must be between 1 and {MOST}");
        return Err(problem("server.max_requests", reason));
    }
    if raw.api_keys_file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
        let reason = "is empty; name a file or leave the key out";
        return Err(problem("server.api_keys_file", reason));
    }
    Ok(ServerSettings {
        host,
        port: raw.port.unwrap_or(defaults.port),
        max_body_bytes,
        max_requests,
        max_tokens: raw.max_tokens.map_or(defaults.max_tokens, |most| (most > 0).then_some(most)),
        api_keys_file: raw.api_keys_file.map(|file| folder.join(file)),
        cors_origins: origins(raw.cors_origins.unwrap_or(defaults.cors_origins))?,
        strict_params: raw.strict_params.unwrap_or(defaults.strict_params),
        log_prompts: raw.log_prompts.unwrap_or(defaults.log_prompts),
        grace_seconds: raw.grace_seconds.unwrap_or(defaults.grace_seconds),
    })
}

/// An origin is what browsers send: a scheme, a host, perhaps a port, and no path.
fn origins(origins: Vec<String>) -> Result<Vec<String>, Problem> {
    for (index, origin) in origins.iter().enumerate() {
        let host = origin.split_once("://").map(|(_, host)| host).unwrap_or_default();
        let visible = origin.bytes().all(|byte| byte.is_ascii_graphic());
        if origin != "*" && (host.is_empty() || host.contains('/') || !visible) {
            let reason = format!("is `{origin}`; write it as \"https://example.org\", or \"*\"");
            return Err(problem(format!("server.cors_origins[{index}]"), reason));
        }
    }
    Ok(origins)
}

fn report(raw: &raw::Report, defaults: &ReportSettings) -> Result<ReportSettings, Problem> {
    let retries = raw.retries.unwrap_or(defaults.retries);
    if retries > MAX_RETRIES {
        let reason = format!("is {retries}; it must be between 0 and {MAX_RETRIES}");
        return Err(problem("report.retries", reason));
    }
    Ok(ReportSettings { retries })
}

fn model(name: String, raw: raw::Model) -> Result<(String, ModelConfig), Problem> {
    let at = format!("model.{name}");
    let quantize = quantize(raw.quantize.as_deref(), &at)?;
    let template_args = args::read(raw.template_args, &at)?;
    let raw::Model { lazy, idle_unload_seconds, .. } = raw;
    Ok((name, ModelConfig { quantize, lazy, idle_unload_seconds, template_args }))
}

fn ensembles(raw: Vec<raw::Ensemble>, folder: &Path) -> Result<Vec<EnsembleConfig>, Problem> {
    if raw.is_empty() {
        return Err(problem("ensemble", "is empty; leave it out for the default ensemble"));
    }
    let numbered = raw.into_iter().enumerate();
    let ensembles = numbered
        .map(|(index, raw)| ensemble(raw, &format!("ensemble[{index}]"), folder))
        .collect::<Result<Vec<_>, _>>()?;
    for (index, EnsembleConfig { name, .. }) in ensembles.iter().enumerate() {
        let key = format!("ensemble[{index}].name");
        if ensembles[..index].iter().any(|earlier| &earlier.name == name) {
            return Err(problem(key, format!("is `{name}`, as an earlier ensemble's")));
        }
        if members(&ensembles).any(|member| &member.model == name) {
            return Err(problem(key, format!("is `{name}`, which is a member's id")));
        }
    }
    Ok(ensembles)
}

fn ensemble(raw: raw::Ensemble, at: &str, folder: &Path) -> Result<EnsembleConfig, Problem> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if raw.name.is_empty() || !raw.name.chars().all(is_plain) {
        let reason = format!("is {:?}; use letters, digits, `-`, `_` and `.`", raw.name);
        return Err(problem(format!("{at}.name"), reason));
    }
    if raw.members.is_empty() {
        return Err(problem(format!("{at}.members"), "is empty; an ensemble needs a member"));
    }
    let mut members = Vec::with_capacity(raw.members.len());
    for (index, raw) in raw.members.into_iter().enumerate() {
        let at = format!("{at}.members[{index}]");
        let member = member(raw, &at, folder)?;
        if member.primary && members.iter().any(|earlier: &MemberConfig| earlier.primary) {
            return Err(problem(format!("{at}.role"), "is `primary`, as an earlier member's"));
        }
        members.push(member);
    }
    normalise(&mut members, at)?;
    let settings = Settings {
        rule: rule(raw.rule, raw.floor, at)?,
        weights: weighting(raw.weights.as_deref(), at)?,
        gate: gate(raw.gate, at)?,
        on_failure: on_failure(raw.on_failure.as_deref(), at)?,
    };
    let template_args = args::read(raw.template_args, at)?;
    Ok(EnsembleConfig { name: raw.name, members, fusion: settings, template_args })
}

fn member(raw: raw::Member, at: &str, folder: &Path) -> Result<MemberConfig, Problem> {
    let raw::Member { model, weight, role, temperature, system, template_args } = raw;
    if model.is_empty() {
        return Err(problem(format!("{at}.model"), "is empty"));
    }
    let weight = weight.unwrap_or(1.0);
    if !weight.is_finite() || weight < 0.0 {
        let reason = format!("is {weight}; it must be a number and not negative");
        return Err(problem(format!("{at}.weight"), reason));
    }
    let primary = match role.as_deref() {
        None => false,
        Some("primary") if weight > 0.0 => true,
        Some("primary") => {
            let reason = "is `primary`, but a member of weight 0 is never run; give it a weight";
            return Err(problem(format!("{at}.role"), reason));
        }
        Some(other) => {
            let reason = format!("is `{other}`; it must be primary, or left out");
            return Err(problem(format!("{at}.role"), reason));
        }
    };
    let temperature = temperature.unwrap_or(1.0);
    if !(0.1..=10.0).contains(&temperature) {
        let reason = format!(
            "is {temperature}; it must be from 0.1, where a member is as good as certain of \
             everything, to 10, where it hardly has a preference"
        );
        return Err(problem(format!("{at}.temperature"), reason));
    }
    if system.as_ref().is_some_and(|system| system.trim().is_empty()) {
        return Err(problem(format!("{at}.system"), "is empty; leave it out"));
    }
    let template_args = args::read(template_args, at)?;
    let model = resolved(model, folder);
    Ok(MemberConfig { model, weight, primary, temperature, system, template_args })
}

fn rule(raw: Option<String>, floor: Option<f64>, at: &str) -> Result<Rule, Problem> {
    let rule = match raw {
        None => Rule::default(),
        Some(rule) => rule
            .parse::<Rule>()
            .map_err(|error| problem(format!("{at}.rule"), error.to_string()))?,
    };
    let with = |floor| rule.with_floor(floor);
    floor.map_or(Ok(rule), with).map_err(|error| problem(format!("{at}.floor"), error.to_string()))
}

fn weighting(raw: Option<&str>, at: &str) -> Result<Weighting, Problem> {
    let parsed = raw.map_or(Ok(Weighting::default()), str::parse);
    parsed.map_err(|error: WeightingError| problem(format!("{at}.weights"), error.to_string()))
}

fn gate(raw: Option<f64>, at: &str) -> Result<Option<f64>, Problem> {
    match raw {
        Some(gate) if !gate.is_finite() || gate < 0.0 => {
            let reason = format!("is {gate}; it must be a probability, above 1 the gate is off");
            Err(problem(format!("{at}.gate"), reason))
        }
        gate => Ok(gate),
    }
}

fn on_failure(raw: Option<&str>, at: &str) -> Result<OnFailure, Problem> {
    match raw {
        None | Some("end") => Ok(OnFailure::End),
        Some("continue") => Ok(OnFailure::Continue),
        Some(other) => {
            let reason = format!("is `{other}`; it must be end or continue");
            Err(problem(format!("{at}.on_failure"), reason))
        }
    }
}

/// Weights that add up to 1 but for rounding are left as they are, so that what was printed
/// reads back the same.
fn normalise(members: &mut [MemberConfig], at: &str) -> Result<(), Problem> {
    let sum: f64 = members.iter().map(|member| member.weight).sum();
    if sum == 0.0 || !sum.is_finite() {
        let reason = format!("have weights that add up to {sum}; give one a usual weight");
        return Err(problem(format!("{at}.members"), reason));
    }
    if (sum - 1.0).abs() > 1e-9 {
        for member in members {
            member.weight /= sum;
        }
    }
    Ok(())
}

fn default_model(raw: Option<String>, ensembles: &[EnsembleConfig]) -> Result<String, Problem> {
    let names = || ensembles.iter().map(|ensemble| ensemble.name.as_str());
    let name = raw.or_else(|| names().next().map(str::to_owned)).unwrap_or_default();
    let is_member = || members(ensembles).any(|member| member.model == name);
    if is_path(&name) || names().any(|known| known == name) || is_member() {
        return Ok(name);
    }
    let reason = format!(
        "is `{name}`, which is no ensemble here and no member of one; there are: {} (ensembles of \
         one's own take the place of the built-in ones)",
        names().collect::<Vec<_>>().join(", ")
    );
    Err(problem("default", reason))
}

fn is_path(model: &str) -> bool {
    model.contains(['/', '\\'])
}

/// A model that is named by its path, which starts at `folder` as all paths do.
fn resolved(model: String, folder: &Path) -> String {
    match is_path(&model) {
        true => folder.join(&model).to_str().map(str::to_owned).unwrap_or(model),
        false => model,
    }
}

fn members(ensembles: &[EnsembleConfig]) -> impl Iterator<Item = &MemberConfig> {
    ensembles.iter().flat_map(|ensemble| &ensemble.members)
}

pub(super) fn problem(key: impl Into<String>, problem: impl Into<String>) -> Problem {
    Problem { key: key.into(), problem: problem.into() }
}
