//! The default models, for benchmarks.

#[path = "../../tests/it/real.rs"]
#[allow(clippy::unwrap_used, reason = "made for tests, which panic to fail")]
mod real;

use std::path::{Path, PathBuf};

use tutti::{
    ensemble::{self, Ensemble, LoadedModel, Member},
    model::{Device, Pool},
};

pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) loaded: LoadedModel,
}

pub(crate) fn models(pool: &Pool) -> anyhow::Result<Vec<Model>> {
    let paths = [("smollm2-135m", real::smollm2()), ("qwen2.5-0.5b", real::qwen())];
    let load = |(name, path): (&'static str, PathBuf)| {
        let loaded = ensemble::load_model(&path, pool, &Device::default())?;
        Ok(Model { name, path, loaded })
    };
    paths.into_iter().map(load).collect()
}

/// Both models at the same weight.
pub(crate) fn ensemble(models: &[Model]) -> Ensemble {
    let member = |model: &Model| {
        let LoadedModel { model: weights, tokenizer, .. } = model.loaded.clone();
        Member::new(model.name.to_owned(), weights, tokenizer, 0.5)
    };
    let map = Path::new(env!("CARGO_MANIFEST_DIR")).join("vocab-maps/duet.map");
    ensemble::load_ensemble(models.iter().map(member).collect(), &map).0
}
