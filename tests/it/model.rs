//! The decoder against llama.cpp's figures on the real models.

use std::{path::Path, sync::OnceLock};

use serde_json::Value;
use tutti::{
    gguf::Gguf,
    model::{Decoder, LanguageModel, Pool, Row, Want},
    vocab::TokenId,
};

use crate::real;

/// One prompt continued greedily by llama.cpp.
struct Case {
    prompt: Vec<TokenId>,
    tokens: Vec<TokenId>,
    /// The likeliest tokens and their log-probabilities before each of `tokens`.
    top: Vec<Vec<(usize, f64)>>,
}

fn cases(model: &str) -> Vec<Case> {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/greedy.json")).unwrap();
    let ids: Value =
        serde_json::from_str(&std::fs::read_to_string("/tmp/model/ids.json").unwrap()).unwrap();
    let token = |id: &Value| TokenId(u32::try_from(id.as_u64().unwrap()).unwrap());
    let tokens = |ids: &Value| ids.as_array().unwrap().iter().map(token).collect::<Vec<_>>();
    let list = fixture["models"][model].as_array().unwrap();
    list.iter()
        .zip(ids[model].as_array().unwrap())
        .map(|(case, ids)| Case {
            prompt: tokens(ids),
            tokens: tokens(&case["tokens"]),
            top: case["top5"]
                .as_array()
                .unwrap()
                .iter()
                .map(|top| {
                    let pair = |pair: &Value| {
                        (pair[0].as_u64().unwrap() as usize, pair[1].as_f64().unwrap())
                    };
                    top.as_array().unwrap().iter().map(pair).collect()
                })
                .collect(),
        })
        .collect()
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(Pool::with_all_cores)
}

fn load(path: &Path) -> Decoder {
    Decoder::from_gguf(&Gguf::open(path).unwrap(), pool()).unwrap()
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().fold(f32::NEG_INFINITY, |most, &logit| most.max(logit));
    let total: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit - most) - total.ln()).collect()
}

fn argmax(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap()
}

/// Follows llama.cpp's tokens and returns each position's disagreements in log-probability.
fn follow(model: &Decoder, case: &Case) -> Vec<(f64, f64)> {
    let mut cache = model.new_cache();
    let mut logits = Vec::new();
    let tokens = [&case.prompt[..], &case.tokens[..case.tokens.len() - 1]].concat();
    let row = Row { cache: &mut cache, tokens: &tokens, want: Want::All, logits: &mut logits };
    model.forward(&mut [row]).unwrap();
    let mut differences = Vec::new();
    let mut top = case.top.iter().peekable();
    let ours = logits.chunks(model.vocab_size()).skip(case.prompt.len() - 1);
    for (step, (logits, token)) in ours.zip(&case.tokens).enumerate() {
        let log = log_probabilities(logits);
        let choice = argmax(logits);
        // Where a character took several tokens there are figures for the last of them only.
        let whole = case.top.len() == case.tokens.len();
        let top = top.next_if(|top| whole || top[0].0 == token.0 as usize);
        if choice != token.0 as usize {
            let gap = top.map(|top| {
                top[0].1 - top.iter().find(|(id, _)| *id == choice).map_or(-99.0, |top| top.1)
            });
            println!("parting {step} {} vs {choice} gap {gap:?}", token.0);
        }
        differences
            .extend(top.into_iter().flatten().map(|&(id, theirs)| (theirs, log[id] - theirs)));
    }
    differences
}

#[test]
fn smollm2_follows_llama_cpp() {
    let model = load(&real::smollm2());
    let d: Vec<_> =
        cases("SmolLM2-135M-Instruct.Q4_1").iter().flat_map(|case| follow(&model, case)).collect();
    report(&d);
}

#[test]
fn qwen_follows_llama_cpp() {
    let model = load(&real::qwen());
    let d: Vec<_> = cases("qwen2.5-coder-0.5b-instruct-q4_k_m")
        .iter()
        .flat_map(|case| follow(&model, case))
        .collect();
    report(&d);
}

fn report(d: &[(f64, f64)]) {
    for floor in [-0.5, -1.0, -2.0, -4.0, -8.0, -99.0] {
        let e: Vec<f64> = d.iter().filter(|d| d.0 > floor).map(|d| d.1).collect();
        println!(
            "above {floor}: {} mean {:.4} bias {:.4} max {:.4}",
            e.len(),
            e.iter().map(|e| e.abs()).sum::<f64>() / e.len() as f64,
            e.iter().sum::<f64>() / e.len() as f64,
            e.iter().fold(0.0_f64, |m, e| m.max(e.abs()))
        );
    }
}

#[test]
fn exact() {
    for (path, exact, name) in [
        (real::smollm2(), "/tmp/model/smol32.gguf", "SmolLM2-135M-Instruct.Q4_1"),
        (real::qwen(), "/tmp/model/qwen32.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m"),
    ] {
        let ours = load(&path);
        let exact = load(Path::new(exact));
        let cases = cases(name);
        let a: Vec<_> = cases.iter().flat_map(|case| follow(&ours, case)).collect();
        let b: Vec<_> = cases.iter().flat_map(|case| follow(&exact, case)).collect();
        println!("ours - llama");
        report(&a);
        println!("exact - llama");
        report(&b);
        let c: Vec<_> = a.iter().zip(&b).map(|(a, b)| (a.0, a.1 - b.1)).collect();
        println!("ours - exact");
        report(&c);
    }
}
