//! The default pair, on its real weights: the identities every ensemble keeps, and its union.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use tutti::{
    constrain::Constraint,
    ensemble::{
        Ensemble, LoadedModel, Logprobs, MapOrigin, Member, Sequence, Step, Workspace,
        load_ensemble, load_model,
    },
    model::{Device, Pool, Row, Want},
    sampling::{Sampler, SamplingParams},
    tokenizer::chat::{Conversation, Message, Role},
    vocab::{Piece, TokenId, UnionId, VocabSummary},
};

use crate::real;

/// SmolLM2 and Qwen2.5-Coder, loaded once for all tests.
fn models() -> &'static [LoadedModel; 2] {
    static MODELS: OnceLock<[LoadedModel; 2]> = OnceLock::new();
    MODELS.get_or_init(|| {
        let pool = Pool::new(std::thread::available_parallelism().unwrap());
        [real::smollm2(), real::qwen()]
            .map(|path| load_model(&path, &pool, &Device::default()).unwrap())
    })
}

fn member(index: usize, weight: f32) -> Member {
    let LoadedModel { model, tokenizer, .. } = models()[index].clone();
    Member::new(["smollm2", "qwen"][index].to_owned(), model, tokenizer, weight)
}

pub(crate) fn duet() -> Arc<Ensemble> {
    static DUET: OnceLock<Arc<Ensemble>> = OnceLock::new();
    DUET.get_or_init(|| Arc::new(Ensemble::new(vec![member(0, 0.5), member(1, 0.5)]))).clone()
}

fn ask(question: &str) -> Vec<Message> {
    vec![Message::new(Role::User, question)]
}

fn start(ensemble: &Ensemble, question: &str, params: &SamplingParams) -> Sequence {
    let prompts =
        ensemble.chat_prompts(Conversation::new(&ask(question)), ensemble.fusion()).unwrap();
    Sequence::new(ensemble, prompts, params.clone(), None).unwrap()
}

fn choose(ensemble: &Ensemble, sequence: &mut Sequence) -> UnionId {
    let mut work = Workspace::new(ensemble, 512, 0);
    loop {
        let result = ensemble.step(&mut [&mut *sequence], &mut work).pop().unwrap();
        if let Step::Chose(id) = result.unwrap() {
            return id;
        }
    }
}

fn write(ensemble: &Ensemble, sequence: &mut Sequence, steps: usize) -> String {
    for _ in 0..steps {
        if choose(ensemble, sequence) == ensemble.union().end() {
            break;
        }
    }
    String::from_utf8_lossy(sequence.text()).into_owned()
}

fn sampled(seed: u64) -> SamplingParams {
    SamplingParams { seed, temperature: 0.8, top_p: 0.95, ..SamplingParams::default() }
}

#[test]
fn the_union_of_the_pair_has_the_size_counted_outside() {
    let duet = duet();
    let summary = VocabSummary::new(duet.union(), duet.maps(), 0);
    assert_eq!(summary.common, 39_234);
    assert_eq!(summary.union, 161_546);
}

#[test]
fn the_committed_map_is_what_a_rebuild_gives() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("vocab-maps/duet.map");
    let folder = tempfile::tempdir().unwrap();
    let rebuilt = folder.path().join("duet.map");
    let pair = || vec![member(0, 0.5), member(1, 0.5)];
    let (fresh, origin) = load_ensemble(pair(), &rebuilt);
    assert!(matches!(origin, MapOrigin::Built { because: None }), "{origin:?}");
    assert_eq!(std::fs::read(&committed).unwrap(), std::fs::read(&rebuilt).unwrap());
    let (read, origin) = load_ensemble(pair(), &committed);
    assert!(matches!(origin, MapOrigin::File), "{origin:?}");
    assert_eq!(read.union(), fresh.union());
    assert_eq!(read.maps(), fresh.maps());
}

#[test]
fn a_stale_map_is_built_anew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep/duet.map");
    let members = vec![member(0, 1.0), member(1, 1.0)];
    load_ensemble(members.clone(), &file);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (_, origin) = load_ensemble(members.clone(), &file);
    assert!(matches!(origin, MapOrigin::Built { because: Some(_) }), "{origin:?}");
    assert!(matches!(load_ensemble(members, &file).1, MapOrigin::File));
}

#[test]
fn every_member_holds_the_canonical_tokens_of_the_text_at_every_step() {
    let duet = duet();
    let mut sequence =
        start(&duet, "Make a markdown table of three years and their numbers.", &sampled(3));
    for _ in 0..48 {
        if choose(&duet, &mut sequence) == duet.union().end() {
            break;
        }
        for (index, member) in duet.members().iter().enumerate() {
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
    assert!(sequence.text().len() > 20, "{:?}", sequence.text());
}

/// The model without any ensemble: its own tokens, appended one by one.
fn plain(index: usize, params: &SamplingParams, steps: usize) -> Vec<u8> {
    let LoadedModel { model, tokenizer, .. } = &models()[index];
    let mut pieces: Vec<(Piece, TokenId)> = (0..)
        .map(TokenId)
        .take(tokenizer.len())
        .filter_map(|id| Some((Piece::Bytes(tokenizer.bytes(id)?.to_vec()), id)))
        .collect();
    pieces.sort();
    let (mut sampler, mut cache) = (Sampler::new(params.clone()), model.new_cache());
    let (mut logits, mut text) = (Vec::new(), Vec::new());
    let mut tokens = tokenizer.chat(&ask("Why is the sky blue?")).unwrap();
    for _ in 0..steps {
        let row = Row { cache: &mut cache, tokens: &tokens, want: Want::Last, logits: &mut logits };
        model.forward(&mut [row]).unwrap();
        let logit = |id: &TokenId| logits[id.0 as usize];
        let stops = tokenizer.stops();
        let max = pieces.iter().map(|(_, id)| id).chain(stops).map(logit).fold(f32::MIN, f32::max);
        let mut probs: Vec<f32> = pieces.iter().map(|(_, id)| (logit(id) - max).exp()).collect();
        probs.push(stops.iter().map(|id| (logit(id) - max).exp()).sum());
        match pieces.get(sampler.sample(&probs).unwrap()) {
            Some((Piece::Bytes(bytes), id)) => {
                text.extend_from_slice(bytes);
                tokens = vec![*id];
            }
            _ => break,
        }
    }
    text
}

#[test]
fn one_member_and_copies_of_it_are_that_model() {
    for params in [SamplingParams { temperature: 0.0, ..sampled(0) }, sampled(1)] {
        let expected = plain(0, &params, 24);
        for copies in 1..3 {
            let ensemble = Ensemble::new(vec![member(0, 1.0); copies]);
            let mut sequence = start(&ensemble, "Why is the sky blue?", &params);
            write(&ensemble, &mut sequence, 24);
            assert_eq!(sequence.text(), expected, "{copies} copies");
        }
    }
}

#[test]
fn a_member_of_weight_zero_changes_nothing() {
    let texts = [vec![member(0, 1.0)], vec![member(0, 0.7), member(1, 0.0)]].map(|members| {
        let ensemble = Ensemble::new(members);
        write(&ensemble, &mut start(&ensemble, "Tell me a story.", &sampled(5)), 16)
    });
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn sequences_stepped_together_and_read_in_chunks_write_what_each_writes_alone() {
    let duet = duet();
    let questions = ["Name a colour.", "List the prime numbers up to twenty, one a line."];
    let alone: Vec<String> = questions
        .iter()
        .map(|question| write(&duet, &mut start(&duet, question, &sampled(9)), 12))
        .collect();
    let mut together: Vec<Sequence> =
        questions.iter().map(|question| start(&duet, question, &sampled(9))).collect();
    let mut work = Workspace::new(&duet, 17, 0);
    let mut ended = [false; 2];
    let mut steps = [0; 2];
    while ended.contains(&false) {
        let mut running: Vec<(usize, &mut Sequence)> =
            together.iter_mut().enumerate().filter(|(index, _)| !ended[*index]).collect();
        let indices: Vec<usize> = running.iter().map(|(index, _)| *index).collect();
        let mut sequences: Vec<&mut Sequence> =
            running.iter_mut().map(|(_, sequence)| &mut **sequence).collect();
        for (index, result) in indices.into_iter().zip(duet.step(&mut sequences, &mut work)) {
            if let Step::Chose(id) = result.unwrap() {
                steps[index] += 1;
                ended[index] = id == duet.union().end() || steps[index] == 12;
            }
        }
    }
    for (sequence, alone) in together.iter().zip(&alone) {
        assert_eq!(String::from_utf8_lossy(sequence.text()), *alone);
    }
}

#[test]
fn a_schema_holds_on_the_real_pair() {
    let duet = duet();
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "city": { "type": "string", "maxLength": 20 },
            "population": { "type": "integer", "minimum": 0, "maximum": 99_999_999 },
        },
        "required": ["city", "population"],
        "additionalProperties": false,
    });
    let question = ask("The largest city of Japan, as JSON.");
    let prompts = duet.chat_prompts(Conversation::new(&question), duet.fusion()).unwrap();
    let constraint = Constraint::JsonSchema(schema.clone());
    let mut sequence = Sequence::new(&duet, prompts, sampled(2), Some(&constraint)).unwrap();
    for _ in 0..80 {
        if sequence.is_complete() || choose(&duet, &mut sequence) == duet.union().end() {
            break;
        }
    }
    let value: serde_json::Value = serde_json::from_slice(sequence.text()).unwrap();
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&value), "{value}");
}

#[test]
fn a_text_that_is_scored_has_the_scores_that_writing_it_gave() {
    let begin = "Question: How many chairs stand at 12 tables, 4 each?\nAnswer:";
    let told = Logprobs { top: 3, members: true, ..Logprobs::default() };
    for ensemble in [duet(), Arc::new(Ensemble::new(vec![member(0, 1.0)]))] {
        let prompts = ensemble.text_prompts(begin, ensemble.fusion());
        let mut writing = Sequence::new(&ensemble, prompts, sampled(7), None).unwrap();
        writing.tell(told);
        let mut written = Vec::new();
        for _ in 0..40 {
            let id = choose(&ensemble, &mut writing);
            if id == ensemble.union().end() {
                break;
            }
            written.push((id, writing.take_score().unwrap()));
        }
        assert!(written.len() > 10);
        let mut pieces = ensemble.pieces_of(begin.as_bytes(), &ensemble.fusion()).unwrap();
        pieces.extend(written.iter().map(|(id, _)| *id));
        let prompts = ensemble.scored_prompts(&pieces, begin.len(), ensemble.fusion()).unwrap();
        let mut reading = Sequence::new(&ensemble, prompts, sampled(0), None).unwrap();
        reading.tell(told);
        let (mut work, mut steps) = (Workspace::new(&ensemble, 512, 0), 0);
        while !reading.has_read() {
            ensemble.step(&mut [&mut reading], &mut work).pop().unwrap().unwrap();
            steps += 1;
        }
        assert_eq!(reading.take_read(), written);
        assert!(steps < written.len(), "{steps} steps for {}", written.len());
    }
}
