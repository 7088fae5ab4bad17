//! What an ensemble gives to texts is a proper distribution, and what is computed of it is at most
//! that.

use std::{collections::BTreeMap, sync::Arc};

use tutti::{
    engine::{
        Engine, Event, FusionRequest, Generate, GenerateRequest, Logprobs, Piece, Prompt, Rule,
        StopConditions, UnionId, Weighting, WeightsRequest,
    },
    ensemble::Settings,
    eval::{System, ask::Asker},
};

use super::{duo, engine};

/// Texts up to so many bytes are summed over.
const LONGEST: usize = 3;

/// The whole distribution over pieces after some, which are read one by one.
async fn after(
    engine: &Engine,
    (model, fusion): (&str, &FusionRequest),
    pieces: &[UnionId],
) -> BTreeMap<UnionId, f64> {
    let union = engine.union(model).unwrap();
    // What comes next is told with the piece that came, whichever that is.
    let any = union.id(&Piece::Bytes(b"a".to_vec())).unwrap();
    let mut prompt = vec![union.end()];
    prompt.extend(pieces);
    prompt.push(any);
    let request = GenerateRequest {
        stop: StopConditions { max_tokens: Some(0), ..StopConditions::default() },
        logprobs: Some(Logprobs { top: union.size(), prompt: Some(0), ..Logprobs::default() }),
        fusion: fusion.clone(),
        ..GenerateRequest::new(model, Prompt::Tokens(prompt))
    };
    let mut generation = engine.generate(request).unwrap();
    while let Some(event) = generation.next().await {
        match event {
            Event::Prompt { pieces } => {
                let top = pieces.into_iter().next_back().unwrap().score.top;
                return top.iter().map(|next| (next.id, f64::from(next.logprob).exp())).collect();
            }
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    panic!("no prompt was told");
}

/// The probability that each text is written on the way, summed over all ways to write it, and
/// what ended or jumped over [`LONGEST`].
async fn all_texts(
    engine: &Engine,
    (model, fusion): (&str, &FusionRequest),
) -> (BTreeMap<Vec<u8>, f64>, f64) {
    let union = engine.union(model).unwrap();
    let mut alpha = BTreeMap::from([(Vec::new(), 1.0)]);
    let mut left = 0.0;
    for length in 0..LONGEST {
        let texts: Vec<(Vec<u8>, f64)> = alpha
            .iter()
            .filter(|(text, _): &(&Vec<u8>, _)| text.len() == length)
            .map(|(text, mass)| (text.clone(), *mass))
            .collect();
        for (text, mass) in texts {
            let single: Vec<UnionId> =
                text.iter().map(|&byte| union.id(&Piece::Bytes(vec![byte])).unwrap()).collect();
            let next = after(engine, (model, fusion), &single).await;
            let sum: f64 = next.values().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{sum} after {text:?}");
            for (id, probability) in next {
                let Piece::Bytes(bytes) = union.piece(id) else {
                    left += mass * probability;
                    continue;
                };
                let longer = [text.as_slice(), bytes].concat();
                if longer.len() > LONGEST {
                    left += mass * probability;
                } else {
                    *alpha.entry(longer).or_insert(0.0) += mass * probability;
                }
            }
        }
    }
    (alpha, left)
}

fn fusions() -> Vec<FusionRequest> {
    let plain = FusionRequest::default;
    let mut all: Vec<FusionRequest> = ["mean", "power:0.5", "geometric", "max", "majority"]
        .map(|rule| FusionRequest { rule: Some(rule.parse::<Rule>().unwrap()), ..plain() })
        .into();
    all.push(FusionRequest { gate: Some(0.4), ..plain() });
    let weights = Some(WeightsRequest::By(Weighting::Online));
    all.push(FusionRequest { weights, ..plain() });
    let weights = Some(WeightsRequest::InOrder(vec![0.2, 0.8]));
    all.push(FusionRequest { weights, gate: Some(0.6), ..plain() });
    all
}

#[tokio::test]
async fn the_texts_of_every_fusion_have_probabilities_that_sum_to_1() {
    let engine = engine(&Settings::default());
    let (mut less, mut all) = (0, 0);
    for fusion in fusions() {
        let (alpha, left) = all_texts(&engine, ("duo", &fusion)).await;
        let whole: f64 =
            alpha.iter().filter(|(text, _)| text.len() == LONGEST).map(|(_, mass)| mass).sum();
        assert!((whole + left - 1.0).abs() < 1e-5, "{whole} + {left} under {fusion:?}");

        // What is computed is at most that, and all of it where no piece is left out.
        let asker = Asker::new(Arc::clone(&engine) as Arc<dyn Generate>, 8);
        let system = System { fusion, ..duo(&engine) };
        for (text, mass) in &alpha {
            let Ok(text) = std::str::from_utf8(text) else { continue };
            if text.is_empty() {
                continue;
            }
            let scored = asker.score(&system, "", text).await.unwrap();
            let found = scored.logprob.exp();
            assert!(found <= mass * (1.0 + 1e-4), "{text:?}: {found} of {mass}");
            less += usize::from(found < mass * 0.999);
            all += usize::from(found > mass * 0.9999);
        }
    }
    assert!(all > 5000 && less > 0, "{all} whole, {less} bounds");
}

#[tokio::test]
async fn what_comes_next_depends_on_the_bytes_before_and_not_on_how_they_were_cut() {
    let engine = engine(&Settings::default());
    let union = engine.union("duo").unwrap();
    let id = |bytes: &[u8]| union.id(&Piece::Bytes(bytes.to_vec())).unwrap();
    let cuts: [Vec<&[u8]>; 4] = [
        vec![b"c", b"a", b"b", b"c", b" ", b"a"],
        vec![b"c", b"ab", b"c", b" a"],
        vec![b"c", b"a", b"bc", b" ", b"a"],
        vec![b"c", b"ab", b"c", b" ", b"a"],
    ];
    for fusion in fusions() {
        let mut found = Vec::new();
        for cut in &cuts {
            let pieces: Vec<UnionId> = cut.iter().map(|bytes| id(bytes)).collect();
            found.push(after(&engine, ("duo", &fusion), &pieces).await);
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{fusion:?}");
    }
}

#[tokio::test]
async fn a_member_scores_its_own_tokens_and_a_context_divides_out() {
    let engine = engine(&Settings::default());
    let asker = Asker::new(Arc::clone(&engine) as Arc<dyn Generate>, 8);
    for name in ["toy-1", "toy-2"] {
        let system = System::member(name);
        let text = "abc é, ab";
        let tokens = engine.tokenize(name, text).unwrap();
        let mut product = 0.0;
        for at in 0..tokens.len() {
            let next = after(&engine, (name, &FusionRequest::default()), &tokens[..at]).await;
            product += next[&tokens[at]].ln();
        }
        let scored = asker.score(&system, "", text).await.unwrap();
        assert!((scored.logprob - product).abs() < 1e-4, "{} {product}", scored.logprob);
        assert_eq!((scored.pieces, scored.bytes), (tokens.len(), text.len()));
        assert_eq!(scored.readings.len(), 1);

        // The first token of a context is not scored, for nothing comes before it.
        let rest = asker.score(&system, "abc é", ", ab").await.unwrap();
        assert!(rest.logprob > scored.logprob && rest.logprob < 0.0);
        assert_eq!(rest.prompt_tokens + rest.pieces, tokens.len());
    }
}
