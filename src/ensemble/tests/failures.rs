//! Members that fail.

use super::*;

/// Ways to fail, once a text has grown to a few tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Error,
    Panic,
    NaN,
}

struct Broken {
    toy: Toy,
    fault: Fault,
    after: usize,
}

impl LanguageModel for Broken {
    fn vocab_size(&self) -> usize {
        self.toy.vocab_size()
    }

    fn context_length(&self) -> usize {
        self.toy.context_length()
    }

    fn new_cache(&self) -> KvCache {
        KvCache::default()
    }

    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        let bad = rows.iter().any(|row| row.cache.tokens().len() + row.tokens.len() > self.after);
        match self.fault {
            Fault::Error if bad => Err(ModelError::ContextFull { capacity: 1, wanted: 2 }),
            Fault::Panic if bad => panic!("a toy panics, as the test wants"),
            _ => {
                self.toy.forward(rows)?;
                for row in rows {
                    if row.cache.tokens().len() > self.after {
                        row.logits[1] = f32::NAN;
                    }
                }
                Ok(())
            }
        }
    }
}

pub(super) fn broken(fault: Fault, after: usize) -> Member {
    let mut broken = member(6, 0.5, LARGE);
    broken.model = Arc::new(Broken { toy: Toy::new(6, LARGE.len() + 1, 1000), fault, after });
    broken
}

const FAULTS: [Fault; 3] = [Fault::Error, Fault::Panic, Fault::NaN];

#[test]
fn a_member_that_fails_is_named_and_ends_the_text() {
    for fault in FAULTS {
        let ensemble = Ensemble::new(vec![member(2, 0.5, SMALL), broken(fault, 0)]);
        let mut sequence = start(&ensemble, &greedy());
        let mut work = work(&ensemble, 100);
        let error = ensemble.step(&mut [&mut sequence], &mut work).pop().unwrap().unwrap_err();
        assert!(error.to_string().contains("`toy-6`"), "{error}");
        assert!(sequence.warnings().is_empty());
    }
}

#[test]
fn a_text_goes_on_without_a_member_that_fails_if_it_may() {
    for fault in FAULTS {
        let mut ensemble = Ensemble::new(vec![member(2, 0.2, SMALL), broken(fault, 9)]);
        ensemble.fusion.on_failure = OnFailure::Continue;
        let mut sequence = start(&ensemble, &greedy());
        let mut warnings = Vec::new();
        for _ in 0..20 {
            let before = sequence.text().to_vec();
            let id = choose(&ensemble, &mut sequence);
            let told = sequence.warnings();
            warnings.extend(told.into_iter().map(|warning| (before.clone(), warning)));
            if id == ensemble.union().end() {
                break;
            }
        }
        let [(text, warning)] = &warnings[..] else { panic!("{fault:?}: {warnings:?}") };
        assert_eq!(warning.member, "toy-6");
        assert!(!text.is_empty() && sequence.text().len() > text.len(), "{fault:?}");
        // From there on it is what the other would go on with.
        let one = Ensemble::new(vec![member(2, 1.0, SMALL)]);
        let mut rest = one.text_prompts("ab c", one.fusion());
        rest.tokens[0].extend(member(2, 1.0, SMALL).tokenizer.encode(text));
        let mut rest = Sequence::new(&one, rest, greedy(), None).unwrap();
        while text.len() + rest.text().len() < sequence.text().len() {
            choose(&one, &mut rest);
        }
        assert_eq!([text, rest.text()].concat(), sequence.text(), "{fault:?}");
    }
}

#[test]
fn a_text_whose_members_have_all_failed_ends() {
    let mut ensemble = Ensemble::new(vec![broken(Fault::Error, 0), broken(Fault::NaN, 0)]);
    ensemble.fusion.on_failure = OnFailure::Continue;
    let mut sequence = start(&ensemble, &greedy());
    let result = ensemble.step(&mut [&mut sequence], &mut work(&ensemble, 100)).pop().unwrap();
    assert!(matches!(result, Err(StepError::Member { .. })), "{result:?}");
}

#[test]
fn texts_that_a_failing_member_was_not_reading_go_on() {
    let ensemble = Ensemble::new(vec![member(2, 0.5, SMALL), broken(Fault::Panic, 6)]);
    let mut short = start(&ensemble, &greedy());
    let with = |names: &[&str]| FusionRequest {
        members: Some(names.iter().map(|&name| name.to_owned()).collect()),
        ..FusionRequest::default()
    };
    let fusion = ensemble.fuse(&with(&["toy-2"])).unwrap();
    let without = ensemble.text_prompts("ab c ab c ab c", fusion);
    let mut without = Sequence::new(&ensemble, without, greedy(), None).unwrap();
    let long = prompts(&ensemble, "ab c ab c ab c");
    let mut long = Sequence::new(&ensemble, long, greedy(), None).unwrap();
    choose(&ensemble, &mut short);
    let mut all = [&mut without, &mut long];
    let results = ensemble.step(&mut all, &mut work(&ensemble, 100));
    assert!(matches!(results[0], Ok(Step::Chose(_))), "{results:?}");
    assert!(matches!(results[1], Err(StepError::Member { .. })), "{results:?}");
    choose(&ensemble, &mut short);
}

#[test]
fn members_agree_as_far_as_they_give_the_chosen_pieces_alike() {
    let copies = Ensemble::new(vec![member(2, 1.0, LARGE); 2]);
    let others = Ensemble::new(vec![member(2, 0.5, SMALL), member(3, 0.5, LARGE)]);
    for (ensemble, alike) in [(copies, true), (others, false)] {
        let mut sequence = start(&ensemble, &greedy());
        sequence.tell(Logprobs { members: true, ..Logprobs::default() });
        let (mut sum, mut steps) = (0.0, 0);
        for _ in 0..20 {
            let ended = choose(&ensemble, &mut sequence) == ensemble.union().end();
            let votes = sequence.take_score().unwrap().members;
            let given = |member: usize| f64::from(votes[member].probability.unwrap());
            let (first, second) = (given(0), given(1));
            (sum, steps) = (sum + 1.0 - (first - second).abs(), steps + 1);
            if ended {
                break;
            }
        }
        let Agreement { steps: counted, .. } = sequence.agreement();
        let rate = sequence.agreement().rate().unwrap();
        assert_eq!(counted, steps);
        assert!((rate - sum / steps as f64).abs() < 1e-5 && (rate == 1.0) == alike, "{rate}");
    }
    let one = Ensemble::new(vec![member(2, 1.0, LARGE)]);
    let mut sequence = start(&one, &greedy());
    choose(&one, &mut sequence);
    assert_eq!(sequence.agreement().rate(), None);
}
