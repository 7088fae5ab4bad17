//! The identities every ensemble keeps, on toy models whose logits hash the whole history, so
//! that any mistake with a cache changes the output.
//!
//! ```text
//! id      0  1  2  3  4   5   6    7        8      9
//! SMALL   a  b  c  ␣  .   <end>
//! LARGE   a  b  c  ␣  .   ab  bc  ␣a  abc  <end>     merges a+b, b+c, ␣+a, ab+c
//! PADDED  LARGE, and two logits more than it has tokens
//! ```

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroUsize,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

mod calibration;
mod failures;
mod gates;
mod opening;
mod reading;
mod rules;
mod weights;

use super::*;
use crate::{
    constrain::Constraint,
    model::{KvCache, ModelError, Pool, Row, Want},
    sampling::{Sampler, SamplingParams},
    tokenizer::{Algorithm, DummySpace, PreTokenizer, SpecToken, TokenRole, TokenizerSpec},
    vocab::UnionId,
};

/// Several sequences are chosen for at once.
static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(NonZeroUsize::new(3).unwrap()));

struct Toy {
    seed: u64,
    logits: usize,
    context: usize,
    /// Tokens forwarded so far.
    read: AtomicUsize,
}

impl Toy {
    fn new(seed: u64, logits: usize, context: usize) -> Self {
        Self { seed, logits, context, read: AtomicUsize::new(0) }
    }
}

impl LanguageModel for Toy {
    fn vocab_size(&self) -> usize {
        self.logits
    }

    fn context_length(&self) -> usize {
        self.context
    }

    fn new_cache(&self) -> KvCache {
        KvCache::default()
    }

    fn pool(&self) -> Option<&Pool> {
        Some(&POOL)
    }

    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        for row in rows {
            self.read.fetch_add(row.tokens.len(), Ordering::Relaxed);
            row.logits.clear();
            for (at, &token) in row.tokens.iter().enumerate() {
                row.cache.append(&[token]);
                let is_last = at + 1 == row.tokens.len();
                if row.want == Want::All || row.want == Want::Last && is_last {
                    row.logits.extend((0..self.logits).map(|id| {
                        let mut hasher = DefaultHasher::new();
                        (self.seed, row.cache.tokens(), id).hash(&mut hasher);
                        (hasher.finish() % 10_000) as f32 / 2_000.0
                    }));
                }
            }
        }
        Ok(())
    }
}

const SMALL: &[&str] = &["a", "b", "c", " ", "."];
const LARGE: &[&str] = &["a", "b", "c", " ", ".", "ab", "bc", " a", "abc"];

fn tokenizer(words: &[&str]) -> Arc<Tokenizer> {
    let normal = words.iter().map(|&word| SpecToken::new(word, TokenRole::Normal));
    let end = SpecToken::new("<end>", TokenRole::Control);
    let mut spec = TokenizerSpec::new(normal.chain([end]).collect(), PreTokenizer::Gpt2);
    spec.stops = vec![TokenId(u32::try_from(words.len()).unwrap())];
    let merges = [("a", "b"), ("b", "c"), (" ", "a"), ("ab", "c")];
    spec.merges = merges
        .iter()
        .filter(|(left, right)| words.contains(&format!("{left}{right}").as_str()))
        .map(|(left, right)| (left.as_bytes().to_vec(), right.as_bytes().to_vec()))
        .collect();
    Arc::new(Tokenizer::from_spec(spec).unwrap())
}

fn member(seed: u64, weight: f32, words: &[&str]) -> Member {
    let padding = if seed % 2 == 1 { 2 } else { 0 };
    let model = Arc::new(Toy::new(seed, words.len() + 1 + padding, 1000));
    Member::new(format!("toy-{seed}"), model, tokenizer(words), weight)
}

fn sampled(seed: u64) -> SamplingParams {
    SamplingParams { seed, ..SamplingParams::default() }
}

fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, ..SamplingParams::default() }
}

/// Under the ensemble's own fusion.
fn prompts(ensemble: &Ensemble, text: &str) -> Prompts {
    ensemble.text_prompts(text, ensemble.fusion())
}

fn start(ensemble: &Ensemble, params: &SamplingParams) -> Sequence {
    let prompts = prompts(ensemble, "ab c");
    Sequence::new(ensemble, prompts, params.clone(), None).unwrap()
}

/// Keeps nothing.
fn work(ensemble: &Ensemble, prefill: usize) -> Workspace {
    Workspace::new(ensemble, prefill, 0)
}

/// Steps until a piece is chosen.
fn choose(ensemble: &Ensemble, sequence: &mut Sequence) -> UnionId {
    loop {
        let result = ensemble.step(&mut [&mut *sequence], &mut work(ensemble, 4)).pop().unwrap();
        if let Step::Chose(id) = result.unwrap() {
            return id;
        }
    }
}

/// What an ensemble writes in at most `steps` steps; the end shows as `$`.
fn generate(ensemble: &Ensemble, params: &SamplingParams, steps: usize) -> String {
    let mut sequence = start(ensemble, params);
    for _ in 0..steps {
        if choose(ensemble, &mut sequence) == ensemble.union().end() {
            return String::from_utf8(sequence.text().to_vec()).unwrap() + "$";
        }
    }
    String::from_utf8(sequence.text().to_vec()).unwrap()
}

/// The model without any ensemble: its own tokens, appended one by one. Pieces are offered to the
/// sampler in byte order, the end last, as a union of one does.
fn plain(seed: u64, words: &[&str], params: &SamplingParams, steps: usize) -> String {
    let Member { model, tokenizer, .. } = member(seed, 1.0, words);
    let mut order: Vec<usize> = (0..words.len()).collect();
    order.sort_by_key(|&id| words[id]);
    order.push(words.len());
    let mut sampler = Sampler::new(params.clone());
    let (mut cache, mut logits, mut text) = (model.new_cache(), Vec::new(), String::new());
    let mut tokens = tokenizer.encode(b"ab c");
    for _ in 0..steps {
        let row = Row { cache: &mut cache, tokens: &tokens, want: Want::Last, logits: &mut logits };
        model.forward(&mut [row]).unwrap();
        let max = order.iter().map(|&id| logits[id]).fold(f32::MIN, f32::max);
        let probs: Vec<f32> = order.iter().map(|&id| (logits[id] - max).exp()).collect();
        let token = order[sampler.sample(&probs).unwrap()];
        let Some(word) = words.get(token) else { return text + "$" };
        text.push_str(word);
        tokens = vec![TokenId(u32::try_from(token).unwrap())];
    }
    text
}

#[test]
fn an_outlook_is_what_the_next_step_draws_from_and_changes_nothing() {
    let ensemble = Ensemble::new(vec![member(1, 1.0, SMALL), member(2, 2.0, LARGE)]);
    let (mut looked, mut other) = (start(&ensemble, &greedy()), start(&ensemble, &greedy()));
    for _ in 0..5 {
        let outlook = ensemble.outlook(&mut looked).unwrap();
        let sum: f32 = outlook.mix.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        let own: Vec<&Vec<f32>> = outlook.members.iter().flatten().collect();
        for (piece, &mass) in outlook.mix.iter().enumerate() {
            let mean = own[0][piece] / 3.0 + own[1][piece] * 2.0 / 3.0;
            assert!((mass - mean).abs() < 1e-6, "{mass} {mean}");
        }
        let chosen = choose(&ensemble, &mut looked);
        assert!(outlook.mix.iter().all(|&mass| mass <= outlook.mix[chosen.0 as usize]));
        assert_eq!(chosen, choose(&ensemble, &mut other));
    }
}

#[test]
fn of_two_tokens_of_a_piece_the_one_that_text_is_encoded_to_is_committed() {
    let byte = |name: u8| SpecToken::new([name], TokenRole::Byte);
    let tokens = vec![byte(b'a'), SpecToken::new("a", TokenRole::Normal), byte(b'b')];
    let scores = Some(vec![0.0; tokens.len()]);
    let algorithm = Algorithm::SentencePiece { scores, dummy_space: DummySpace::Never };
    let tokenizer = Tokenizer::from_spec(TokenizerSpec::with(tokens, algorithm)).unwrap();
    let model = Arc::new(Toy::new(1, 3, 100));
    let ensemble = Ensemble::new(vec![Member::new("sp".to_owned(), model, tokenizer.into(), 1.0)]);
    let id = |text: &[u8]| ensemble.union().id(&Piece::Bytes(text.to_vec())).unwrap().0 as usize;
    assert_eq!(ensemble.tokens(0)[id(b"a")], Some(TokenId(1)));
    assert_eq!(ensemble.tokens(0)[id(b"b")], Some(TokenId(2)));
}

#[test]
fn one_member_is_that_model_token_by_token() {
    for seed in 0..40 {
        let one = Ensemble::new(vec![member(seed, 1.0, LARGE)]);
        for params in [greedy(), sampled(seed)] {
            assert_eq!(generate(&one, &params, 40), plain(seed, LARGE, &params, 40));
        }
    }
}

#[test]
fn copies_of_a_model_are_that_model() {
    for seed in 0..40 {
        for copies in 2..4 {
            let ensemble = Ensemble::new(vec![member(seed, 1.0, LARGE); copies]);
            for params in [greedy(), sampled(seed)] {
                assert_eq!(generate(&ensemble, &params, 40), plain(seed, LARGE, &params, 40));
            }
        }
    }
}

#[test]
fn a_member_of_weight_zero_changes_nothing() {
    for seed in 0..40 {
        let one = Ensemble::new(vec![member(seed, 1.0, LARGE)]);
        let two = Ensemble::new(vec![member(seed, 1.0, LARGE), member(seed + 1, 0.0, SMALL)]);
        assert_eq!(generate(&one, &sampled(seed), 40), generate(&two, &sampled(seed), 40));
    }
}

#[test]
fn the_order_of_the_members_changes_nothing() {
    for seed in 0..40 {
        let members = vec![member(seed, 0.5, LARGE), member(seed + 1, 0.5, SMALL)];
        let reversed = members.iter().rev().cloned().collect();
        let [a, b] = [Ensemble::new(members), Ensemble::new(reversed)];
        assert_eq!(generate(&a, &sampled(seed), 40), generate(&b, &sampled(seed), 40));
    }
}

#[test]
fn every_member_holds_the_canonical_tokens_of_the_text_at_every_step() {
    let mut rolled_back = 0;
    for seed in 0..40 {
        let ensemble = Ensemble::new(vec![member(seed, 0.5, SMALL), member(seed + 1, 0.5, LARGE)]);
        let mut sequence = start(&ensemble, &sampled(seed));
        for _ in 0..40 {
            if choose(&ensemble, &mut sequence) == ensemble.union().end() {
                break;
            }
            for (index, member) in ensemble.members().iter().enumerate() {
                assert_eq!(sequence.tokens(index), member.tokenizer.encode(sequence.text()));
                let bytes: Vec<u8> = sequence
                    .tokens(index)
                    .iter()
                    .flat_map(|&token| member.tokenizer.bytes(token).unwrap())
                    .copied()
                    .collect();
                assert_eq!(bytes, sequence.text());
            }
        }
        rolled_back += sequence.rolled_back(1);
        assert_eq!(sequence.rolled_back(0), 0, "single letters never change");
    }
    assert!(rolled_back > 0, "the vocabularies must force re-tokenization");
}

#[test]
fn warm_caches_choose_what_cold_caches_choose() {
    for seed in 0..40 {
        let ensemble = Ensemble::new(vec![member(seed, 0.5, SMALL), member(seed + 1, 0.5, LARGE)]);
        let mut warm = start(&ensemble, &sampled(seed));
        for _ in 0..30 {
            let mut cold = start(&ensemble, &sampled(seed));
            cold.sampler = warm.sampler.clone();
            for (cold, warm) in cold.states.iter_mut().zip(&warm.states) {
                cold.target.clone_from(&warm.target);
            }
            let chosen = choose(&ensemble, &mut warm);
            assert_eq!(choose(&ensemble, &mut cold), chosen);
            if chosen == ensemble.union().end() {
                break;
            }
        }
    }
}

#[test]
fn sequences_stepped_together_write_what_each_writes_alone() {
    for budget in [1, 3, 1000] {
        let ensemble = Ensemble::new(vec![member(1, 0.5, SMALL), member(2, 0.5, LARGE)]);
        let texts =
            ["a", "ab c ab c ab c ab c ab c ab c ab c ab c", "c c c c c c c c c c c c c c c c c"];
        let open = |seed: usize| {
            let tokens = prompts(&ensemble, texts[seed]);
            Sequence::new(&ensemble, tokens, sampled(seed as u64), None).unwrap()
        };
        let mut together: Vec<Sequence> = (0..3).map(open).collect();
        let mut chosen = vec![Vec::new(); 3];
        let mut work = work(&ensemble, budget);
        while chosen.iter().any(|ids: &Vec<UnionId>| ids.len() < 20) {
            let results = ensemble.step(&mut together.iter_mut().collect::<Vec<_>>(), &mut work);
            for (ids, result) in chosen.iter_mut().zip(results) {
                if let Step::Chose(id) = result.unwrap() {
                    ids.push(id);
                }
            }
        }
        for (seed, ids) in chosen.iter().enumerate() {
            let mut alone = open(seed);
            let expected: Vec<_> = ids.iter().map(|_| choose(&ensemble, &mut alone)).collect();
            assert_eq!(*ids, expected, "sequence {seed} with a budget of {budget}");
        }
    }
}

#[test]
fn a_constraint_holds_whatever_the_members_would_have_said() {
    let digits: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    let words: Vec<&str> = ["{", "}", "[", "]", ",", "\""]
        .into_iter()
        .chain(digits.iter().map(String::as_str))
        .collect();
    let ensemble = Ensemble::new(vec![member(2, 0.5, &words), member(4, 0.5, &words[2..])]);
    let schema = serde_json::json!({
        "type": "array",
        "items": { "type": "integer", "minimum": 0, "maximum": 99 },
        "minItems": 2,
        "maxItems": 4,
    });
    for seed in 0..20 {
        let constraint = Constraint::JsonSchema(schema.clone());
        let prompts = prompts(&ensemble, "[");
        let mut sequence =
            Sequence::new(&ensemble, prompts, sampled(seed), Some(&constraint)).unwrap();
        while !sequence.is_complete() {
            if choose(&ensemble, &mut sequence) == ensemble.union().end() {
                break;
            }
        }
        let numbers: Vec<u32> = serde_json::from_slice(sequence.text()).unwrap();
        assert!(
            (2..=4).contains(&numbers.len()) && numbers.iter().all(|&n| n < 100),
            "{numbers:?}"
        );
    }
}

#[test]
fn a_sequence_is_full_when_a_member_can_read_no_more() {
    let mut small = member(0, 0.5, SMALL);
    small.model = Arc::new(Toy::new(0, SMALL.len() + 1, 12));
    let ensemble = Ensemble::new(vec![small, member(1, 0.5, LARGE)]);
    assert_eq!(ensemble.context_length(), 12);
    let mut sequence = start(&ensemble, &sampled(3));
    while !sequence.is_full() {
        assert!(sequence.states[0].target.len() <= 12);
        choose(&ensemble, &mut sequence);
    }
    let long = prompts(&ensemble, "abcabcabcabcabc");
    let refused = Sequence::new(&ensemble, long, greedy(), None).err();
    assert!(matches!(
        refused,
        Some(StartError::PromptTooLong { prompt_tokens: 15, context_length: 12, .. })
    ));
}

/// Two toy members whose count of forwarded tokens can be read.
fn counted() -> (Ensemble, [Arc<Toy>; 2]) {
    let toys = [
        Arc::new(Toy::new(2, SMALL.len() + 1, 1000)),
        Arc::new(Toy::new(4, LARGE.len() + 1, 1000)),
    ];
    let mut members = vec![member(2, 0.5, SMALL), member(4, 0.5, LARGE)];
    for (member, toy) in members.iter_mut().zip(&toys) {
        member.model = toy.clone();
    }
    (Ensemble::new(members), toys)
}

const OUTLINE: &str = "abc ab c. a b c ab. abc abc c a. b ab c abc. c c ab a b. ";

fn section(ensemble: &Ensemble, name: &str, seed: u64) -> Sequence {
    let prompts = prompts(ensemble, &format!("{OUTLINE}{name}"));
    Sequence::new(ensemble, prompts, sampled(seed), None).unwrap()
}

#[test]
fn what_several_texts_begin_with_is_read_once() {
    let names = ["a.", "c c.", "b ab.", "c b."];
    let alone: Vec<UnionId> = (0..)
        .zip(names)
        .map(|(seed, name)| {
            let (ensemble, _) = counted();
            choose(&ensemble, &mut section(&ensemble, name, seed))
        })
        .collect();
    for budget in [3, 1000] {
        let (ensemble, toys) = counted();
        let mut sequences: Vec<Sequence> =
            (0..).zip(names).map(|(seed, name)| section(&ensemble, name, seed)).collect();
        let mut chosen = vec![None; names.len()];
        let mut work = work(&ensemble, budget);
        while chosen.contains(&None) {
            let mut running: Vec<&mut Sequence> = sequences.iter_mut().collect();
            let results = ensemble.step(&mut running, &mut work);
            for (chosen, result) in chosen.iter_mut().zip(results) {
                if let Step::Chose(id) = result.unwrap() {
                    chosen.get_or_insert(id);
                }
            }
        }
        let chosen: Vec<UnionId> = chosen.into_iter().flatten().collect();
        assert_eq!(chosen, alone, "with a budget of {budget}");
        for toy in toys {
            let (read, once) = (toy.read.load(Ordering::Relaxed), OUTLINE.len());
            assert!(read < once + names.len() * 12, "{read} tokens for {once} bytes");
        }
    }
}

#[test]
fn a_text_that_has_ended_is_not_read_again_while_it_is_kept() {
    let (ensemble, toys) = counted();
    let mut keeping = Workspace::new(&ensemble, 1000, 200);
    let mut first = section(&ensemble, "a.", 1);
    let expected = choose(&ensemble, &mut first);
    keeping.prefixes.keep(first);
    let before = toys[0].read.load(Ordering::Relaxed);
    let mut again = section(&ensemble, "a.", 1);
    let result = ensemble.step(&mut [&mut again], &mut keeping).pop().unwrap();
    assert_eq!(result.unwrap(), Step::Chose(expected));
    assert_eq!(toys[0].read.load(Ordering::Relaxed) - before, 1, "only the last token");

    // Other texts push it out.
    for seed in 0..4 {
        let mut other = section(&ensemble, &"c".repeat(80), seed);
        choose(&ensemble, &mut other);
        keeping.prefixes.keep(other);
    }
    let mut forgetful = work(&ensemble, 1000);
    forgetful.prefixes.keep(again);
    let before = toys[0].read.load(Ordering::Relaxed);
    let mut third = section(&ensemble, "a.", 1);
    ensemble.step(&mut [&mut third], &mut forgetful);
    assert!(toys[0].read.load(Ordering::Relaxed) - before > OUTLINE.len(), "nothing was kept");
}
