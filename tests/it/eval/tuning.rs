//! Weights and temperatures from stored masses.

use std::sync::Arc;

use tutti::{
    engine::{Engine, EngineConfig, FusionRequest, Generate, TEMPERATURE_FACTORS, WeightsRequest},
    ensemble::{Ensemble, Member, Settings},
    eval::{
        Item, Sample, Split, System,
        ask::Asker,
        log::Log,
        run::{self, Plan},
        task::{Kind, Task},
        tune,
    },
};

use super::{duo, engine};
use crate::engine::two_members;

fn texts() -> Vec<String> {
    (0..40)
        .map(|at| format!("{}ab c{}, b", ["", "a", "cb "][at % 3], "12 a".repeat(at % 4)))
        .collect()
}

/// The records of what each member gives each piece.
async fn records(engine: &Arc<Engine>) -> Vec<tutti::eval::log::Record> {
    let sample = |(at, text): (usize, String)| Sample {
        id: format!("text-{at}"),
        group: String::new(),
        item: Item::Text(text),
    };
    let task = Task {
        name: "texts".to_owned(),
        kind: Kind::Masses { bytes: 12 },
        samples: texts().into_iter().enumerate().map(sample).collect(),
        sources: Vec::new(),
    };
    let plan = Plan {
        tasks: vec![task],
        systems: vec![duo(engine)],
        copies: Vec::new(),
        checked: 0,
        models: Vec::new(),
        device: String::new(),
        seed: 1,
        at_once: 8,
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let mut log = Log::open(&path, &plan.header()).unwrap();
    run::run(engine.clone(), &plan, &mut log, &mut |_| {}).await.unwrap();
    drop(log);
    // As they lie on the disk.
    tutti::eval::log::read(&path).unwrap().1
}

/// The same from the models themselves, under a setting of their own.
async fn asked(weights: &[f64], factors: [f32; 2], split: Split) -> f64 {
    let mut members: Vec<Member> = two_members();
    for (member, factor) in members.iter_mut().zip(factors) {
        member.temperature *= factor;
    }
    let mut models = vec![("duo".to_owned(), Ensemble::new(members.clone()))];
    models.extend(members.into_iter().map(|it| (it.name.clone(), Ensemble::new(vec![it]))));
    let models = models.into_iter().map(|(name, model)| (name, Arc::new(model))).collect();
    let engine = Arc::new(Engine::start(models, EngineConfig::default()).unwrap());
    let weights = weights.iter().map(|&weight| weight as f32).collect();
    let system = System {
        fusion: FusionRequest {
            weights: Some(WeightsRequest::InOrder(weights)),
            ..FusionRequest::default()
        },
        ..System::ensemble(&*engine, &engine.models()[0], None).unwrap()
    };
    let asker = Asker::new(engine, 8);
    let (mut bits, mut bytes) = (0.0, 0.0);
    for (at, text) in texts().into_iter().enumerate() {
        let id = format!("text-{at}");
        let sample = Sample { id, group: String::new(), item: Item::Text(String::new()) };
        if sample.split() == split {
            let text = &text[..text.len().min(12)];
            let scored = asker.score(&system, "", text).await.unwrap();
            bits -= scored.logprob / std::f64::consts::LN_2;
            bytes += scored.bytes as f64;
        }
    }
    bits / bytes
}

#[tokio::test]
async fn what_is_found_gives_the_models_what_is_told() {
    let engine = engine(&Settings::default());
    let records = records(&engine).await;
    let stages = tune::tune(&records, &[0.5, 0.5], 1).unwrap();
    for stage in &stages {
        let factors: Vec<f32> = stage.setting.factors().collect();
        let factors = [factors[0], factors[1]];
        let dev = asked(&stage.setting.weights, factors, Split::Dev).await;
        let test = asked(&stage.setting.weights, factors, Split::Test).await;
        assert!((stage.dev - dev).abs() < 1e-4, "{}: {} and {dev}", stage.name, stage.dev);
        assert!((stage.test.value - test).abs() < 1e-4, "{}: {test}", stage.name);
    }
    assert!(stages[1].dev <= stages[0].dev && stages[2].dev < stages[1].dev, "{stages:?}");
    let found = stages[2].setting.factors().any(|factor| factor != 1.0);
    assert!(found && TEMPERATURE_FACTORS.contains(&1.0), "the toys are calibrated by no chance");
    // Again from the same log the same comes out.
    assert_eq!(tune::tune(&records, &[0.5, 0.5], 1).unwrap(), stages);
}
