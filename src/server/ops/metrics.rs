//! Numbers for Prometheus, named as the field's other servers name them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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
    engine::{FinishReason, Generate, ModelCounters, Usage},
    server::{App, openapi::Refusals},
};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Seconds. Of small models a piece takes milliseconds, a report's section a minute.
const WAITS: [f64; 14] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0];
const PIECES: [f64; 12] = [0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5];

/// Everything that is counted outside the engine.
pub(in crate::server) struct Metrics {
    registry: Registry,
    first_token: Family<ModelLabel, Histogram, fn() -> Histogram>,
    between_tokens: Family<ModelLabel, Histogram, fn() -> Histogram>,
    generation: Family<ModelLabel, Histogram, fn() -> Histogram>,
    prompt_tokens: Family<ModelLabel, Counter>,
    generation_tokens: Family<ModelLabel, Counter>,
    finished: Family<FinishLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RequestLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabel {
    model_name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FinishLabels {
    model_name: String,
    finished_reason: &'static str,
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
            "Prompt tokens of ended generations, of the member that has most",
            self.prompt_tokens.clone(),
        );
        registry.register(
            "generation_tokens",
            "Fused steps of ended generations",
            self.generation_tokens.clone(),
        );
        registry.register(
            "request_success",
            "Generations that ended, by why they did",
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

/// The clock of one generation.
pub(in crate::server) struct Clock {
    metrics: Arc<Metrics>,
    label: ModelLabel,
    admitted: Instant,
    last_text: Option<Instant>,
}

impl Clock {
    pub(in crate::server) fn start(metrics: Arc<Metrics>, model: &str) -> Self {
        let label = ModelLabel { model_name: model.to_owned() };
        Self { metrics, label, admitted: Instant::now(), last_text: None }
    }

    /// A text came that took `tokens` steps.
    pub(in crate::server) fn text(&mut self, tokens: usize) {
        let now = Instant::now();
        match self.last_text.replace(now) {
            None => {
                let waited = (now - self.admitted).as_secs_f64();
                self.metrics.first_token.get_or_create(&self.label).observe(waited);
            }
            Some(last) => {
                let tokens = u32::try_from(tokens.max(1)).unwrap_or(u32::MAX);
                let each = ((now - last) / tokens).as_secs_f64();
                self.metrics.between_tokens.get_or_create(&self.label).observe(each);
            }
        }
    }

    pub(in crate::server) fn finished(&self, reason: FinishReason, usage: Usage) {
        let Metrics { generation, prompt_tokens, generation_tokens, finished, .. } = &*self.metrics;
        generation.get_or_create(&self.label).observe(self.admitted.elapsed().as_secs_f64());
        let add = |counter: &Family<ModelLabel, Counter>, tokens: usize| {
            counter.get_or_create(&self.label).inc_by(tokens as u64);
        };
        add(prompt_tokens, usage.prompt_tokens);
        add(generation_tokens, usage.completion_tokens);
        let model_name = self.label.model_name.clone();
        let finished_reason = match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        };
        finished.get_or_create(&FinishLabels { model_name, finished_reason }).inc();
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
