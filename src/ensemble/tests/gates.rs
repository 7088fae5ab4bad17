//! The gate, and members that lag behind.

use super::*;

fn gated(members: Vec<Member>, gate: f64) -> Ensemble {
    Ensemble::new(members).with_settings(&Settings { gate: Some(gate), ..Settings::default() })
}

/// Of two members the second is the primary; the count of tokens that the first has read.
fn pair(seed: u64) -> (Vec<Member>, Arc<Toy>) {
    let toy = Arc::new(Toy::new(seed + 1, SMALL.len() + 1, 1000));
    let other = Member { model: toy.clone(), ..member(seed + 1, 0.5, SMALL) };
    (vec![other, Member { primary: true, ..member(seed, 0.5, LARGE) }], toy)
}

#[test]
fn a_gate_of_zero_is_the_primary_alone_token_by_token() {
    for seed in 0..40 {
        let (members, other) = pair(seed);
        let ensemble = gated(members, 0.0);
        for params in [greedy(), sampled(seed)] {
            assert_eq!(generate(&ensemble, &params, 40), plain(seed, LARGE, &params, 40));
        }
        assert_eq!(other.read.load(Ordering::Relaxed), 0, "the other is never run");
    }
}

#[test]
fn a_gate_above_one_is_the_full_ensemble_bit_for_bit() {
    for seed in 0..40 {
        let (members, _) = pair(seed);
        let (full, never) = (Ensemble::new(members.clone()), gated(members, 1.01));
        for params in [greedy(), sampled(seed)] {
            assert_eq!(generate(&never, &params, 40), generate(&full, &params, 40));
        }
        assert_eq!(start(&never, &greedy()).gated(), None);
    }
}

/// The mass of the primary's most probable piece, with nothing read before.
fn surety(ensemble: &Ensemble, text: &[u8]) -> f64 {
    let primary = ensemble.members()[1].clone();
    let one = Ensemble::new(vec![Member { weight: 1.0, ..primary }]);
    let mut prompts = prompts(&one, "ab c");
    prompts.tokens[0].extend(one.members()[0].tokenizer.encode(text));
    let sequence = Sequence::new(&one, prompts, greedy(), None).unwrap();
    let (mix, _) = rules::mixed_in(&one, sequence);
    mix.into_iter().fold(0.0, f64::max)
}

/// What is chosen after `text` by members who have read nothing before.
fn cold(ensemble: &Ensemble, text: &[u8], sampler: &Sampler) -> UnionId {
    let mut prompts = prompts(ensemble, "ab c");
    for (tokens, member) in prompts.tokens.iter_mut().zip(ensemble.members()) {
        tokens.extend(member.tokenizer.encode(text));
    }
    let mut sequence = Sequence::new(ensemble, prompts, greedy(), None).unwrap();
    sequence.sampler = sampler.clone();
    choose(ensemble, &mut sequence)
}

#[test]
fn the_primary_decides_alone_just_where_it_is_sure_and_the_others_catch_up() {
    let (mut alone, mut together, mut lagging) = (0, 0, 0);
    for seed in 0..40 {
        const GATE: f64 = 0.4;
        let (members, other) = pair(seed);
        let full = Ensemble::new(members.clone());
        let first = Ensemble::new(vec![Member { weight: 1.0, ..members[1].clone() }]);
        let ensemble = gated(members, GATE);
        let mut sequence = start(&ensemble, &sampled(seed));
        for _ in 0..30 {
            let (text, sampler) = (sequence.text().to_vec(), sequence.sampler.clone());
            let (before, gated) = (other.read.load(Ordering::Relaxed), sequence.gated());
            let chosen = ensemble.union().piece(choose(&ensemble, &mut sequence));
            let read = other.read.load(Ordering::Relaxed) - before;
            if surety(&ensemble, &text) >= GATE {
                alone += 1;
                assert_eq!(sequence.gated(), gated.map(|gated| gated + 1));
                assert_eq!(read, 0, "the other does not run");
                assert_eq!(chosen, first.union().piece(cold(&first, &text, &sampler)));
            } else {
                together += 1;
                lagging += usize::from(read > 3);
                assert_eq!(sequence.gated(), gated);
                assert!(read > 0);
                assert_eq!(chosen, full.union().piece(cold(&full, &text, &sampler)));
            }
            if *chosen == Piece::End {
                break;
            }
        }
    }
    assert!(alone > 50 && together > 50 && lagging > 20, "{alone} {together} {lagging}");
}

#[test]
fn gated_sequences_stepped_together_write_what_each_writes_alone() {
    let texts = ["ab c", "abc ab c. a b c ab. abc abc", "abc ab c. a b c ab. abc c c", "c c c a"];
    for budget in [1, 3, 1000] {
        let (members, _) = pair(2);
        let ensemble = Ensemble::new(members);
        let open = |seed: usize| {
            let gate = [0.0, 0.3, 0.5, 2.0][seed % 4];
            let request = FusionRequest { gate: Some(gate), ..FusionRequest::default() };
            let prompts = ensemble.text_prompts(texts[seed / 4], ensemble.fuse(&request).unwrap());
            Sequence::new(&ensemble, prompts, sampled(seed as u64), None).unwrap()
        };
        let mut together: Vec<Sequence> = (0..16).map(open).collect();
        let mut chosen = vec![Vec::new(); together.len()];
        let mut work = work(&ensemble, budget);
        for _ in 0..4000 {
            let results = ensemble.step(&mut together.iter_mut().collect::<Vec<_>>(), &mut work);
            for (ids, result) in chosen.iter_mut().zip(results) {
                if let Step::Chose(id) = result.unwrap() {
                    ids.push(id);
                }
            }
            if chosen.iter().all(|ids: &Vec<UnionId>| ids.len() >= 20) {
                break;
            }
        }
        for (seed, ids) in chosen.iter().enumerate() {
            assert!(ids.len() >= 20, "sequence {seed} does not come on");
            let mut alone = open(seed);
            let expected: Vec<_> = ids.iter().map(|_| choose(&ensemble, &mut alone)).collect();
            assert_eq!(*ids, expected, "sequence {seed} with a budget of {budget}");
        }
    }
}

#[test]
fn a_gate_does_not_open_for_what_the_constraint_forbids() {
    let digits: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    let words: Vec<&str> =
        ["[", "]", ","].into_iter().chain(digits.iter().map(String::as_str)).collect();
    let schema = serde_json::json!({ "type": "array", "items": { "type": "integer" } });
    let constraint = Constraint::JsonSchema(schema);
    let (mut alone, mut together) = (0, 0);
    for seed in 0..20 {
        let members = vec![member(seed, 0.5, &words), member(seed + 1, 0.5, &words)];
        let ensemble = gated(members, 0.15);
        let prompts = prompts(&ensemble, "[");
        let mut sequence =
            Sequence::new(&ensemble, prompts, sampled(seed), Some(&constraint)).unwrap();
        for _ in 0..10 {
            let first = sequence.text().is_empty();
            let before = sequence.gated().unwrap();
            let chosen = choose(&ensemble, &mut sequence);
            let by_primary = sequence.gated().unwrap() > before;
            if first && by_primary {
                // Only a bracket may begin, so it was what the primary wanted.
                assert_eq!(ensemble.union().piece(chosen), &Piece::Bytes(b"[".to_vec()));
            }
            alone += usize::from(by_primary);
            together += usize::from(!by_primary);
            if sequence.is_complete() || chosen == ensemble.union().end() {
                break;
            }
        }
    }
    assert!(alone > 0 && together > 0, "{alone} {together}");
}

#[test]
fn another_takes_the_place_of_a_primary_that_fails_or_takes_no_part() {
    let mut members = vec![member(2, 0.5, SMALL), failures::broken(failures::Fault::Error, 9)];
    members[1].primary = true;
    let settings =
        Settings { gate: Some(0.3), on_failure: OnFailure::Continue, ..Settings::default() };
    let ensemble = Ensemble::new(members).with_settings(&settings);
    let mut sequence = start(&ensemble, &greedy());
    while sequence.warnings().is_empty() {
        assert_eq!(sequence.fusion.primary, 1);
        choose(&ensemble, &mut sequence);
    }
    choose(&ensemble, &mut sequence);
    assert_eq!(sequence.fusion.primary, 0);
    let members = Some(vec!["toy-2".to_owned()]);
    let fusion = ensemble.fuse(&FusionRequest { members, ..FusionRequest::default() }).unwrap();
    assert_eq!(fusion.primary, 0);
    for gate in [-0.5, f64::NAN] {
        let refused =
            ensemble.fuse(&FusionRequest { gate: Some(gate), ..FusionRequest::default() });
        assert_eq!(refused.unwrap_err().param(), "ensemble.gate");
    }
}
