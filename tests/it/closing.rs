//! Schemas closed within a budget, over the union of two real vocabularies.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};
use tutti::{
    constrain::{ConstrainError, Constraint},
    ensemble::{Ensemble, Member, Sequence, Step, Workspace},
    gguf::Gguf,
    sampling::SamplingParams,
    tokenizer::Tokenizer,
};

use crate::sayer::Sayer;

/// Says anything, and never that the text is over.
fn noise(path: &Path, weight: f32) -> Member {
    let tokenizer = Arc::new(Tokenizer::from_gguf(&Gguf::open(path).unwrap()).unwrap());
    let model = Sayer::new(tokenizer.len(), |read, logits| {
        // splitmix64's steps (Steele, Lea and Flood 2014).
        let mut state = read.len() as u64;
        logits.fill_with(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed >> 32) % 1000) as f32 / 100.0
        });
    });
    Member::new(path.display().to_string(), Arc::new(model), tokenizer, weight)
}

/// The vocabularies of the default pair, and models that say anything.
pub(crate) fn noisy() -> Ensemble {
    Ensemble::new(vec![noise(&crate::real::smollm2(), 0.4), noise(&crate::real::qwen(), 0.6)])
}

/// What is written in at most so many pieces.
fn write(ensemble: &Ensemble, constraint: &Constraint, budget: usize) -> Result<Value, usize> {
    let prompts = ensemble.text_prompts("Hello", ensemble.fusion());
    let mut sequence =
        Sequence::new(ensemble, prompts, SamplingParams::default(), Some(constraint)).unwrap();
    match sequence.at_most(budget) {
        Ok(()) => {}
        Err(ConstrainError::Budget { least, .. }) => return Err(least),
        Err(error) => panic!("{error}"),
    }
    let mut work = Workspace::new(ensemble, 512, 0);
    let (mut pieces, mut ended) = (0, false);
    while !ended {
        let step = ensemble.step(&mut [&mut sequence], &mut work).pop().unwrap().unwrap();
        if let Step::Chose(id) = step {
            pieces += 1;
            ended = sequence.is_complete() || id == ensemble.union().end();
        }
    }
    assert!(pieces <= budget, "{pieces} pieces of {budget}");
    Ok(serde_json::from_slice(sequence.text()).unwrap())
}

#[test]
fn whatever_two_real_vocabularies_write_is_whole_within_its_budget() {
    let ensemble = noisy();
    let section = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "description": { "type": "string" } },
        "required": ["name", "description"],
        "additionalProperties": false,
    });
    let sections = json!({ "type": "array", "minItems": 2, "items": section });
    let plan = json!({
        "type": "object",
        "properties": { "title": { "type": "string" }, "sections": sections },
        "required": ["title", "sections"],
        "additionalProperties": false,
    });
    let person = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 3 },
            "age": { "type": "integer", "minimum": 0 },
            "email": { "type": "string", "format": "email" },
            "tags": { "type": "array", "items": { "type": "string" } },
        },
        "required": ["name", "age"],
    });
    for schema in [plan, person] {
        let validator = jsonschema::validator_for(&schema).unwrap();
        let constraint = Constraint::JsonSchema(schema);
        let least = write(&ensemble, &constraint, 0).unwrap_err();
        for budget in 1..least {
            assert_eq!(write(&ensemble, &constraint, budget), Err(least), "in {budget}");
        }
        for budget in [least, least + 1, least + 2, 40] {
            let value = write(&ensemble, &constraint, budget).unwrap();
            assert!(validator.is_valid(&value), "{value}");
        }
    }
}
