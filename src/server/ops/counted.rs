//! An engine whose generations are counted, whoever asks for them: a request, or a report.

use std::{sync::Arc, time::Instant};

use super::metrics::{FinishLabels, Metrics, ModelLabel, PerModel};
use crate::engine::{
    Counters, Event, FinishReason, Generate, GenerateError, GenerateRequest, Generation, ModelCard,
    Prompt, UnionId, UnionVocab, Usage,
};

pub(in crate::server) struct Counted {
    engine: Arc<dyn Generate>,
    metrics: Arc<Metrics>,
}

impl Counted {
    pub(in crate::server) fn new(engine: Arc<dyn Generate>, metrics: Arc<Metrics>) -> Self {
        Self { engine, metrics }
    }
}

impl Generate for Counted {
    fn models(&self) -> Vec<ModelCard> {
        self.engine.models()
    }

    fn counters(&self) -> Counters {
        self.engine.counters()
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, GenerateError> {
        let mut clock = Clock::start(self.metrics.clone(), &request.model);
        let generation = self.engine.generate(request)?;
        clock.running = true;
        Ok(generation.watched(move |event| clock.hear(event)))
    }

    fn union(&self, model: &str) -> Result<&UnionVocab, GenerateError> {
        self.engine.union(model)
    }

    fn tokenize(&self, model: &str, text: &str) -> Result<Vec<UnionId>, GenerateError> {
        self.engine.tokenize(model, text)
    }

    fn count_tokens(&self, model: &str, prompt: &Prompt) -> Result<usize, GenerateError> {
        self.engine.count_tokens(model, prompt)
    }

    fn detokenize(&self, model: &str, ids: &[UnionId]) -> Result<Vec<u8>, GenerateError> {
        self.engine.detokenize(model, ids)
    }
}

/// One generation on its way. Dropped before its end it was cancelled.
struct Clock {
    metrics: Arc<Metrics>,
    label: ModelLabel,
    admitted: Instant,
    last_text: Option<Instant>,
    /// Steps that have been counted.
    counted: usize,
    running: bool,
}

impl Clock {
    fn start(metrics: Arc<Metrics>, model: &str) -> Self {
        let (label, admitted) = (ModelLabel { model_name: model.to_owned() }, Instant::now());
        Self { metrics, label, admitted, last_text: None, counted: 0, running: false }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::Started { prompt_tokens } => {
                self.add(&self.metrics.prompt_tokens, *prompt_tokens);
            }
            Event::Text { tokens, .. } => self.text(*tokens),
            Event::Finished { reason, usage } => self.finished(*reason, *usage),
            Event::Failed(_) => self.end("error"),
            Event::Prompt { .. } | Event::Warning { .. } => {}
        }
    }

    /// A text came that took `tokens` steps.
    fn text(&mut self, tokens: usize) {
        self.counted += tokens;
        self.add(&self.metrics.generation_tokens, tokens);
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

    fn finished(&mut self, reason: FinishReason, usage: Usage) {
        let took = self.admitted.elapsed().as_secs_f64();
        self.metrics.generation.get_or_create(&self.label).observe(took);
        // Steps without a text of their own, such as the end.
        let untold = usage.completion_tokens.saturating_sub(self.counted);
        self.add(&self.metrics.generation_tokens, untold);
        if let Some(cached) = usage.cached_tokens {
            self.add(&self.metrics.prefix_queries, usage.prompt_tokens);
            self.add(&self.metrics.prefix_hits, cached);
        }
        self.end(match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        });
    }

    fn end(&mut self, finished_reason: &'static str) {
        if std::mem::take(&mut self.running) {
            let model_name = self.label.model_name.clone();
            let labels = FinishLabels { model_name, finished_reason };
            self.metrics.finished.get_or_create(&labels).inc();
        }
    }

    fn add(&self, counter: &PerModel, tokens: usize) {
        counter.get_or_create(&self.label).inc_by(tokens as u64);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.end("abort");
    }
}
