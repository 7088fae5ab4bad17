//! Weights that follow the text.

use super::*;

const FOLLOWING: [Weighting; 2] = [Weighting::Prompt, Weighting::Online];

fn following(members: Vec<Member>, weights: Weighting) -> Ensemble {
    Ensemble::new(members).with_settings(&Settings { weights, ..Settings::default() })
}

fn two(seed: u64) -> Vec<Member> {
    vec![member(seed, 0.6, SMALL), member(seed + 1, 0.4, LARGE)]
}

#[test]
fn copies_of_a_model_and_a_member_of_weight_zero_leave_it_that_model() {
    for weights in FOLLOWING {
        for seed in 0..20 {
            let one = plain(seed, LARGE, &sampled(seed), 30);
            let copies = following(vec![member(seed, 1.0, LARGE); 2], weights);
            assert_eq!(generate(&copies, &sampled(seed), 30), one);
            let silent = vec![member(seed, 1.0, LARGE), member(seed + 1, 0.0, SMALL)];
            assert_eq!(generate(&following(silent, weights), &sampled(seed), 30), one);
        }
    }
}

/// What a member needs for some of its tokens, each after all before it, in bits.
fn needed(member: &Member, tokens: &[TokenId], range: std::ops::Range<usize>) -> Vec<f64> {
    let (mut cache, mut logits) = (member.model.new_cache(), Vec::new());
    let row = Row { cache: &mut cache, tokens, want: Want::All, logits: &mut logits };
    member.model.forward(&mut [row]).unwrap();
    let bits = |at: usize| {
        let size = member.model.vocab_size();
        let said = &logits[(at - 1) * size..][..member.tokenizer.len()];
        let sum: f64 = said.iter().map(|&logit| f64::from(logit).exp()).sum();
        -(f64::from(said[tokens[at].0 as usize]).exp() / sum).log2()
    };
    range.map(bits).collect()
}

#[test]
fn every_token_a_member_holds_has_the_bits_that_a_cold_reading_gives() {
    let mut retokenized = 0;
    for gate in [None, Some(0.4)] {
        for seed in 0..30 {
            let settings = Settings { weights: Weighting::Online, gate, ..Settings::default() };
            let ensemble = Ensemble::new(two(seed)).with_settings(&settings);
            let mut sequence = start(&ensemble, &sampled(seed));
            for _ in 0..30 {
                if choose(&ensemble, &mut sequence) == ensemble.union().end() {
                    break;
                }
                // Asked for the next piece, all who are asked have caught up.
                let mut work = work(&ensemble, 1000);
                let mut left = vec![1000; 2];
                ensemble.ask(&mut [&mut sequence], &mut work, &mut left);
                for (state, member) in sequence.states.iter().zip(ensemble.members()) {
                    if state.ready {
                        let prompt = state.target.len() - state.text.tokens().len();
                        let expected = needed(member, &state.target, prompt..state.target.len());
                        let found = state.scores.bits();
                        assert_eq!(found.len(), expected.len());
                        for (found, expected) in found.iter().zip(expected) {
                            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
                        }
                    }
                }
            }
            retokenized += sequence.rolled_back(1);
        }
    }
    assert!(retokenized > 20, "{retokenized}");
}

#[test]
fn the_prompts_bits_are_those_of_what_the_user_said() {
    for seed in 0..20 {
        let ensemble = following(two(seed), Weighting::Prompt);
        let text = "ab c abc. a b c bc ab c";
        let mut sequence =
            Sequence::new(&ensemble, prompts(&ensemble, text), greedy(), None).unwrap();
        choose(&ensemble, &mut sequence);
        let mut rates = Vec::new();
        for (state, member) in sequence.states.iter().zip(ensemble.members()) {
            let tokens = member.tokenizer.encode(text.as_bytes());
            let expected = needed(member, &tokens, 1..tokens.len());
            let found = state.scores.bits();
            assert_eq!(found.len(), expected.len());
            let total = |bits: &[f64]| bits.iter().sum::<f64>();
            assert!((total(found) - total(&expected)).abs() < 1e-3);
            rates.push(total(found) / state.scored_bytes as f64);
        }
        let weights = sequence.weights();
        assert_eq!(weights[0] > 0.6, rates[0] < rates[1], "{weights:?} {rates:?}");
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}

#[test]
fn who_foresees_the_text_gains_weight_within_the_bounds() {
    let (mut sum, mut count) = (0.0, 0.0);
    for seed in 0..40 {
        let members = vec![member(seed, 0.7, LARGE), member(seed + 1, 0.3, SMALL)];
        let ensemble = following(members, Weighting::Online);
        let mut sequence = start(&ensemble, &sampled(seed));
        assert_eq!(sequence.weights(), [0.7, 0.3]);
        for _ in 0..60 {
            if choose(&ensemble, &mut sequence) == ensemble.union().end() {
                break;
            }
            let weights = sequence.weights();
            assert!(weights.iter().all(|weight| (0.0499..=0.9501).contains(weight)));
            (sum, count) = (sum + f64::from(weights[0]), count + 1.0);
        }
    }
    assert!(sum / count > 0.72, "{}", sum / count);
}

#[test]
fn what_is_told_of_a_piece_has_the_weights_of_its_place() {
    for weights in FOLLOWING {
        let ensemble = following(two(3), weights);
        let mut sequence =
            Sequence::new(&ensemble, prompts(&ensemble, "ab c abc. a b"), sampled(3), None)
                .unwrap();
        sequence.tell(Logprobs { members: true, ..Logprobs::default() });
        let mut moved = 0;
        for _ in 0..20 {
            if choose(&ensemble, &mut sequence) == ensemble.union().end() {
                break;
            }
            let score = sequence.take_score().unwrap();
            let mixed = score.members.iter().map(|vote| vote.weight * vote.probability.unwrap());
            assert!((mixed.sum::<f32>().ln() - score.logprob.unwrap()).abs() < 1e-4);
            moved += usize::from((score.members[0].weight - 0.6).abs() > 1e-3);
        }
        assert!(moved > 3, "{moved}");
    }
}

#[test]
fn followed_sequences_stepped_together_write_what_each_writes_alone() {
    let names = ["a.", "c c.", "b ab.", "c b. ab c abc"];
    for weights in FOLLOWING {
        for budget in [1, 3, 1000] {
            let ensemble = following(two(4), weights);
            let mut together: Vec<Sequence> =
                (0..).zip(names).map(|(seed, name)| section(&ensemble, name, seed)).collect();
            let mut chosen = vec![Vec::new(); names.len()];
            let mut work = Workspace::new(&ensemble, budget, 1000);
            let mut before = section(&ensemble, names[3], 9);
            choose(&ensemble, &mut before);
            work.prefixes.keep(before);
            for _ in 0..3000 {
                let mut running: Vec<&mut Sequence> = together.iter_mut().collect();
                for (ids, result) in chosen.iter_mut().zip(ensemble.step(&mut running, &mut work)) {
                    if let Step::Chose(id) = result.unwrap() {
                        ids.push(id);
                    }
                }
                if chosen.iter().all(|ids: &Vec<UnionId>| ids.len() >= 20) {
                    break;
                }
            }
            for ((seed, name), ids) in (0..).zip(names).zip(&chosen) {
                assert!(ids.len() >= 20, "sequence {seed} does not come on");
                let mut alone = section(&ensemble, name, seed);
                let expected: Vec<_> = ids.iter().map(|_| choose(&ensemble, &mut alone)).collect();
                assert_eq!(*ids, expected, "{weights}, {seed}, budget {budget}");
            }
        }
    }
}
