//! An engine whose requests are all fused in one system's way.
//!
//! Knows [`Generate`] only. It is for what asks an engine by itself and knows no ways to fuse: the
//! report pipeline.

use std::sync::Arc;

use super::System;
use crate::engine::{
    FusionRequest, Generate, GenerateError, GenerateRequest, Generation, ModelCard, Prompt,
    UnionId, UnionVocab,
};

pub(super) struct Fused {
    engine: Arc<dyn Generate>,
    model: String,
    fusion: FusionRequest,
    described: String,
}

impl Fused {
    pub(super) fn new(engine: Arc<dyn Generate>, system: &System) -> Self {
        let System { model, fusion, described, .. } = system.clone();
        Self { engine, model, fusion, described }
    }
}

impl Generate for Fused {
    fn models(&self) -> Vec<ModelCard> {
        let fused = |card: ModelCard| match card.name == self.model {
            true => ModelCard { fusion: self.described.clone(), ..card },
            false => card,
        };
        self.engine.models().into_iter().map(fused).collect()
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, GenerateError> {
        self.engine.generate(GenerateRequest { fusion: self.fusion.clone(), ..request })
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
}
