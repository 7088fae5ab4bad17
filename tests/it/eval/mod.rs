//! The evaluation's machinery on toy models.

mod command;
mod judged;
mod probability;
mod runs;
mod tuning;
mod written;

use std::sync::Arc;

use tutti::{
    engine::{Engine, EngineConfig, Generate},
    ensemble::{Ensemble, Member, Settings},
    eval::System,
};

use crate::engine::two_members;

/// The two toys together, each alone, and two of each.
fn engine(settings: &Settings) -> Arc<Engine> {
    let members = two_members();
    let duo = Ensemble::new(members.clone()).with_settings(settings);
    let mut models = vec![("duo".to_owned(), duo)];
    for member in members {
        let copies: Vec<Member> = vec![member.clone(), member.clone()];
        models.push((format!("2 x {}", member.name), Ensemble::new(copies)));
        models.push((member.name.clone(), Ensemble::new(vec![member])));
    }
    let models = models.into_iter().map(|(name, model)| (name, Arc::new(model))).collect();
    Arc::new(Engine::start(models, EngineConfig::default()).unwrap())
}

fn duo(engine: &Engine) -> System {
    System::ensemble(engine, &engine.models()[0], None).unwrap()
}
