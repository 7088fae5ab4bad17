//! Numbers for Prometheus. Where vLLM has one of the same meaning it is called so, with `tutti_`
//! for its `vllm:`; https://docs.vllm.ai/en/stable/usage/metrics/ lists those.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{Method, header},
    response::IntoResponse,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    encoding::{EncodeLabelSet, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    engine::{Generate, ModelCounters},
    server::{App, openapi::Refusals},
};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Seconds. Of small models a piece takes milliseconds, a report's section a minute.
const WAITS: [f64; 14] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0];
const PIECES: [f64; 12] = [0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5];

pub(super) type PerModel = Family<ModelLabel, Counter>;

/// Everything that is counted outside the engine.
pub(in crate::server) struct Metrics {
    registry: Registry,
    pub(super) first_token: Family<ModelLabel, Histogram, fn() -> Histogram>,
    pub(super) between_tokens: Family<ModelLabel, Histogram, fn() -> Histogram>,
    pub(super) generation: Family<ModelLabel, Histogram, fn() -> Histogram>,
    pub(super) prompt_tokens: PerModel,
    pub(super) generation_tokens: PerModel,
    pub(super) prefix_queries: PerModel,
    pub(super) prefix_hits: PerModel,
    pub(super) finished: Family<FinishLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RequestLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ModelLabel {
    pub(super) model_name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct FinishLabels {
    pub(super) model_name: String,
    pub(super) finished_reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    path: String,
    status: u16,
}

fn waits() -> Histogram {
    Histogram::new(WAITS)
}

fn pieces() -> Histogram {
    Histogram::new(PIECES)
}

impl Metrics {
    pub(in crate::server) fn new(engine: Arc<dyn Generate>) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tutti"),
            first_token: Family::new_with_constructor(waits),
            between_tokens: Family::new_with_constructor(pieces),
            generation: Family::new_with_constructor(waits),
            prompt_tokens: Family::default(),
            generation_tokens: Family::default(),
            prefix_queries: Family::default(),
            prefix_hits: Family::default(),
            finished: Family::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(waits),
        };
        metrics.register();
        metrics.registry.register_collector(Box::new(OfEngine(engine)));
        metrics
    }

    fn register(&mut self) {
        let (registry, seconds) = (&mut self.registry, || Unit::Seconds);
        registry.register_with_unit(
            "time_to_first_token",
            "From admission to the first text, the prompt's reading included",
            seconds(),
            self.first_token.clone(),
        );
        registry.register_with_unit(
            "inter_token_latency",
            "Between one text and the next, by the fused steps between them",
            seconds(),
            self.between_tokens.clone(),
        );
        registry.register_with_unit(
            "e2e_request_latency",
            "From admission to the end of a generation",
            seconds(),
            self.generation.clone(),
        );
        registry.register(
            "prompt_tokens",
            "Prompt tokens of generations that have begun, of the member that has most",
            self.prompt_tokens.clone(),
        );
        registry.register("generation_tokens", "Fused steps", self.generation_tokens.clone());
        registry.register(
            "prefix_cache_queries",
            "Prompt tokens of ended generations",
            self.prefix_queries.clone(),
        );
        registry.register(
            "prefix_cache_hits",
            "Those of them that a text with the same beginning had read before",
            self.prefix_hits.clone(),
        );
        registry.register(
            "request_success",
            "Generations that ended, by why they did: stop, length, error, or abort by the client",
            self.finished.clone(),
        );
        registry.register("http_requests", "Requests that ended", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "From a request's head to the end of its answer's body",
            seconds(),
            self.durations.clone(),
        );
    }

    pub(super) fn answered(&self, method: &Method, path: &str, status: u16, took: Duration) {
        // Methods are free words, and each would be a series of its own.
        let known = [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS];
        let method = if known.contains(method) { method.as_str() } else { "other" };
        let labels = RequestLabels { method: method.to_owned(), path: path.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

/// What the engine counts, read when it is asked for.
struct OfEngine(Arc<dyn Generate>);

impl std::fmt::Debug for OfEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the engine's counters")
    }
}

impl Collector for OfEngine {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let counters = self.0.counters();
        for (name, help, value) in [
            ("num_requests_running", "Generations that have a place", counters.running),
            ("num_requests_waiting", "Generations that wait for a place", counters.waiting),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let members = || {
            let of_model = counters.models.iter();
            of_model.flat_map(|model| model.members.iter().map(move |m| (&model.name, m)))
        };
        let label = |model: &String, member: &String| {
            [("model_name", model.clone()), ("member", member.clone())]
        };
        let help = "In a member's forward passes";
        let kind = ConstCounter::new(0.0).metric_type();
        let unit = Unit::Seconds;
        let mut family = encoder.encode_descriptor("member_forward", help, Some(&unit), kind)?;
        for (model, member) in members() {
            let value = ConstCounter::new(member.forward.as_secs_f64());
            value.encode(family.encode_family(&label(model, &member.name))?)?;
        }
        let help = "Tokens of a member that re-tokenization took back";
        let mut family = encoder.encode_descriptor("rollback_tokens", help, None, kind)?;
        for (model, member) in members() {
            let value = ConstCounter::new(member.rolled_back);
            value.encode(family.encode_family(&label(model, &member.name))?)?;
        }
        let help = "Generations that a member failed";
        let mut family = encoder.encode_descriptor("member_failures", help, None, kind)?;
        for (model, member) in members() {
            let value = ConstCounter::new(member.failures);
            value.encode(family.encode_family(&label(model, &member.name))?)?;
        }
        let kind = ConstGauge::new(0.0).metric_type();
        let mut rates = |name: &str, help: &str, rate: fn(&ModelCounters) -> Option<f64>| {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for model in &counters.models {
                if let Some(rate) = rate(model) {
                    let label = [("model_name", model.name.clone())];
                    ConstGauge::new(rate).encode(family.encode_family(&label)?)?;
                }
            }
            Ok(())
        };
        let help = "Share of the steps of ended generations that a gate left to one member";
        rates("gate_rate", help, |model| {
            (model.steps > 0).then(|| model.gated as f64 / model.steps as f64)
        })?;
        let help = "How near the members' probabilities of chosen pieces were, from 0 to 1";
        rates("agreement", help, |model| model.agreement.rate())
    }
}

/// `GET /metrics`.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "OpenMetrics", body = String,
            content_type = "application/openmetrics-text"),
        Refusals,
    )
)]
pub(in crate::server) async fn expose(State(app): State<App>) -> impl IntoResponse {
    let mut body = String::new();
    text::encode(&mut body, &app.metrics.registry).expect("a string takes every text");
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], body)
}
