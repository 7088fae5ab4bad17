//! Texts under a constraint, within their budgets.

use tutti::{
    constrain::Constraint,
    engine::{EngineConfig, FinishReason, Generate, GenerateError, GenerateRequest, Logprobs},
};

use super::{CONTEXT, Said, ask, engine, request};

#[tokio::test]
async fn a_constraint_is_met_and_then_the_text_ends() {
    let engine = engine(EngineConfig::default());
    let schema = serde_json::json!({
        "type": "array", "items": { "enum": [1, 2, 12] }, "minItems": 3, "maxItems": 5,
    });
    for seed in 0..20 {
        let mut constrained = request(seed);
        constrained.constraint = Some(Constraint::JsonSchema(schema.clone()));
        let said = ask(&engine, constrained).await;
        let value: Vec<u32> = serde_json::from_str(&said.text).unwrap();
        assert!((3..=5).contains(&value.len()), "{value:?}");
        assert_eq!(said.end.unwrap().0, FinishReason::Stop);
    }
}

/// Two lists of two, in 13 pieces at least: `[[1,1],[1,1]]`.
fn lists() -> serde_json::Value {
    serde_json::json!({
        "type": "array", "minItems": 2,
        "items": { "type": "array", "items": { "enum": [1, 2, 12, 121_212] }, "minItems": 2 },
    })
}

fn listing(seed: u64, max_tokens: Option<usize>) -> GenerateRequest {
    let mut listing = request(seed);
    listing.constraint = Some(Constraint::JsonSchema(lists()));
    listing.stop.max_tokens = max_tokens;
    listing
}

fn is_whole(said: &Said) -> bool {
    let value: Vec<Vec<u32>> = serde_json::from_str(&said.text).unwrap();
    value.len() >= 2 && value.iter().all(|list| list.len() >= 2)
}

#[tokio::test]
async fn a_constrained_text_closes_within_its_budget_whatever_is_asked_beside() {
    let engine = engine(EngineConfig::default());
    let closing = engine.tokenize("duo", "]").unwrap()[0];
    for max_tokens in 13..40 {
        let seed = max_tokens as u64;
        let plain = listing(seed, Some(max_tokens));
        let mut least = listing(seed, Some(max_tokens));
        least.stop.min_tokens = 1000;
        let mut banned = listing(seed, Some(max_tokens));
        banned.penalties.bias = vec![(closing, -1000.0)];
        let mut scored = listing(seed, Some(max_tokens));
        scored.logprobs = Some(Logprobs { top: 3, ..Logprobs::default() });
        let mut gated = listing(seed, Some(max_tokens));
        gated.fusion.gate = Some(0.3);
        for request in [plain, least, banned, scored, gated] {
            let said = ask(&engine, request.clone()).await;
            assert!(is_whole(&said), "{}", said.text);
            let (reason, usage) = said.end.clone().unwrap();
            assert_eq!(reason, FinishReason::Stop);
            assert!(usage.completion_tokens <= max_tokens);
            if !request.penalties.bias.is_empty() {
                assert_eq!(usage.completion_tokens, max_tokens, "it goes on for as long as it may");
            }
            assert_eq!(ask(&engine, request).await, said);
        }
    }
}

#[tokio::test]
async fn a_budget_that_nothing_fits_is_refused_at_once() {
    let engine = engine(EngineConfig::default());
    for budget in 0..13 {
        let refused = engine.generate(listing(0, Some(budget))).unwrap_err();
        assert_eq!(refused, GenerateError::Budget { least: 13, budget });
    }
}

#[tokio::test]
async fn a_constrained_text_closes_before_the_end_of_the_context() {
    let engine = engine(EngineConfig::default());
    let closing = engine.tokenize("duo", "]").unwrap()[0];
    for seed in 0..4 {
        let mut endless = listing(seed, None);
        endless.penalties.bias = vec![(closing, -1000.0)];
        let said = ask(&engine, endless).await;
        assert!(is_whole(&said) && said.text.len() > CONTEXT / 2, "{}", said.text);
        assert_eq!(said.end.unwrap().0, FinishReason::Stop);
    }
}
