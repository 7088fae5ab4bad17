//! The benchmark's machinery on toy models. Nothing here looks at how long anything takes.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tutti::{
    bench::{self, BenchError, Decode, Machine, Plan},
    ensemble::{Ensemble, Member},
    model::{KvCache, LanguageModel, ModelError, Row, Want},
    sampling::SamplingParams,
    tokenizer::{PreTokenizer, SpecToken, TokenRole, Tokenizer, TokenizerSpec},
    vocab::TokenId,
};

/// Ends a text after a few tokens: the end is likely where the history's length divides by `end`.
struct Toy {
    logits: usize,
    context: usize,
    end: usize,
    read: AtomicUsize,
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

    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        for row in rows {
            let wanted = row.cache.tokens().len() + row.tokens.len();
            if wanted > self.context {
                return Err(ModelError::ContextFull { capacity: self.context, wanted });
            }
            self.read.fetch_add(row.tokens.len(), Ordering::Relaxed);
            row.cache.append(row.tokens);
            row.logits.clear();
            if row.want == Want::Last {
                row.logits.resize(self.logits, 0.0);
                let ends = row.cache.tokens().len().is_multiple_of(self.end);
                row.logits[self.logits - 1] = if ends { 50.0 } else { -50.0 };
            }
        }
        Ok(())
    }
}

fn tokenizer() -> Arc<Tokenizer> {
    let normal = ["a", "b", "c", " "].map(|word| SpecToken::new(word, TokenRole::Normal));
    let end = SpecToken::new("<end>", TokenRole::Control);
    let tokens = normal.into_iter().chain([end]).collect();
    let mut spec = TokenizerSpec::new(tokens, PreTokenizer::Gpt2);
    spec.stops = vec![TokenId(4)];
    Arc::new(Tokenizer::from_spec(spec).unwrap())
}

fn toy(end: usize) -> Arc<Toy> {
    Arc::new(Toy { logits: 5, context: 600, end, read: AtomicUsize::new(0) })
}

fn ensemble(models: &[&Arc<Toy>]) -> Arc<Ensemble> {
    let member = |(index, model): (usize, &&Arc<Toy>)| {
        let model: Arc<dyn LanguageModel> = Arc::clone(model) as _;
        Member::new(format!("toy-{index}"), model, tokenizer(), 0.5)
    };
    Arc::new(Ensemble::new(models.iter().enumerate().map(member).collect()))
}

fn plan() -> Plan {
    Plan {
        rounds: 2,
        prefill: vec![16, 64, 4000],
        batches: vec![1, 3],
        prompt: 20,
        steps: 15,
        shared: 200,
        gates: vec![0.0, 1.5],
        ..Plan::full()
    }
}

#[test]
fn a_gate_is_measured_beside_none() {
    let report = bench::run(
        Machine::here(1),
        &[("pair".to_owned(), ensemble(&[&toy(1000), &toy(9)]))],
        &plan(),
        &|_| {},
    );
    let gates = &report.unwrap().ensembles[0].gates;
    let found: Vec<_> = gates.iter().map(|at| (at.gate, at.gate_rate)).collect();
    assert_eq!(found, [(None, 0.0), (Some(0.0), 1.0), (Some(1.5), 0.0)]);
    assert!(gates[1].tokens_per_second > 0.0);
    assert_eq!([gates[0].same, gates[2].same], [1.0; 2], "as without a gate");
    assert!(gates[1].same < 1.0, "the primary alone says something else");
}

#[test]
fn a_report_has_every_figure_and_all_are_positive() {
    let (first, second) = (toy(7), toy(1000));
    let subjects = [
        ("pair".to_owned(), ensemble(&[&first, &second])),
        ("alone".to_owned(), ensemble(&[&first])),
    ];
    let said = RefCell::new(Vec::new());
    let say = |text: &str| said.borrow_mut().push(text.to_owned());
    let report = bench::run(Machine::here(1), &subjects, &plan(), &say).unwrap();
    let expected = ["round 1 of 2: alone", "round 1 of 2: pair"];
    assert_eq!(said.borrow()[..2], expected);
    assert_eq!(said.borrow().len(), 4);

    assert!(!report.machine.instructions.is_empty());
    assert!(report.machine.cores >= 1);
    assert_eq!(report.memory.is_some(), cfg!(target_os = "linux"));
    assert!(
        report.memory.is_none_or(|memory| 0 < memory.resident && memory.resident <= memory.peak)
    );
    let [alone] = &report.models[..] else { panic!("{report:?}") };
    // A prompt of 4000 tokens does not fit.
    let lengths: Vec<usize> = alone.prefill.iter().map(|speed| speed.tokens).collect();
    assert_eq!((alone.name.as_str(), lengths), ("alone", vec![16, 64]));
    assert_eq!(alone.decode.iter().map(|speed| speed.batch).collect::<Vec<_>>(), [1, 3]);
    let [pair] = &report.ensembles[..] else { panic!("{report:?}") };
    assert_eq!(pair.members, ["toy-0", "toy-1"]);
    assert!(pair.first_token.prompt_tokens >= 200);
    let mut figures = vec![pair.first_token.cold_ms, pair.first_token.shared_ms];
    figures.push(pair.first_token.ratio);
    figures.extend(alone.prefill.iter().map(|speed| speed.tokens_per_second));
    figures.extend(alone.decode.iter().map(|speed| speed.tokens_per_second));
    for step in &pair.lockstep {
        let names: Vec<&str> = step.parts.iter().map(|part| part.name.as_str()).collect();
        let expected =
            ["toy-0 forward", "toy-1 forward", "fusion", "choice", "commitment", "other"];
        assert_eq!(names, expected);
        figures.extend([step.tokens_per_second, step.step_ms]);
        figures.extend(step.parts[..5].iter().flat_map(|part| [part.ms, part.percent]));
    }
    assert!(figures.iter().all(|figure| figure.is_finite() && *figure > 0.0), "{report:#?}");
}

#[test]
fn every_step_counts_one_token_a_sequence_also_where_texts_end() {
    for end in [2, 7, 1000] {
        let model = toy(end);
        let ensemble = ensemble(&[&model, &model]);
        for batch in [1, 3] {
            let measured = bench::lockstep(&ensemble, batch, &plan()).unwrap();
            assert_eq!((measured.steps, measured.tokens), (15, 15 * batch), "end {end}");
            assert!(measured.times.total() <= measured.wall);
        }
    }
}

#[test]
fn the_second_request_does_not_read_what_it_shares_with_the_first() {
    let model = toy(1000);
    let measured = bench::first_token(&ensemble(&[&model]), &plan()).unwrap();
    let read = model.read.load(Ordering::Relaxed);
    assert!(measured.prompt_tokens >= 200);
    assert!(read >= measured.prompt_tokens && read < measured.prompt_tokens + 32, "{read}");
}

#[test]
fn decoding_forwards_the_prompts_and_one_token_a_step() {
    let model = toy(1000);
    bench::decode(&*model, Decode { batch: 3, prompt: 10, steps: 4 }).unwrap();
    assert_eq!(model.read.load(Ordering::Relaxed), 3 * (10 + 4));
    bench::prefill(&*model, 100).unwrap();
    assert_eq!(model.read.load(Ordering::Relaxed), 42 + 100);
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let always = toy(1);
    let sampling = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let plan = Plan { sampling, ..plan() };
    let error = bench::lockstep(&ensemble(&[&always]), 1, &plan).unwrap_err();
    assert!(matches!(error, BenchError::OnlyEnds { .. }), "{error}");
    let error = bench::prefill(&*always, 601).unwrap_err();
    assert!(matches!(error, ModelError::ContextFull { capacity: 600, wanted: 601 }), "{error}");
    let plan = Plan { prompt: 700, ..plan };
    let error = bench::lockstep(&ensemble(&[&toy(1000)]), 1, &plan).unwrap_err();
    assert!(matches!(error, BenchError::Start(_)), "{error}");
}
