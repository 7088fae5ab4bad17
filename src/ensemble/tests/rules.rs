//! The rules, and what a request may change of an ensemble's fusion.

use super::*;

/// Every rule, as it is written.
const RULES: [&str; 6] = ["mean", "power:0.5", "power:0.05", "geometric", "max", "majority"];

fn ruled(members: Vec<Member>, rule: &str) -> Ensemble {
    let mut ensemble = Ensemble::new(members);
    ensemble.fusion.rule = rule.parse().unwrap();
    ensemble
}

#[test]
fn the_identities_hold_for_every_rule() {
    for rule in RULES {
        let named = |seed: u64, text: &str, expected: &str| {
            assert_eq!(text, expected, "{rule} with seed {seed}");
        };
        for seed in 0..20 {
            for params in [greedy(), sampled(seed)] {
                let one = plain(seed, LARGE, &params, 40);
                let alone = ruled(vec![member(seed, 1.0, LARGE)], rule);
                named(seed, &generate(&alone, &params, 40), &one);
                for copies in 2..4 {
                    let copies = ruled(vec![member(seed, 1.0, LARGE); copies], rule);
                    named(seed, &generate(&copies, &params, 40), &one);
                }
                let silent = vec![member(seed, 0.3, LARGE), member(seed + 1, 0.0, SMALL)];
                named(seed, &generate(&ruled(silent, rule), &params, 40), &one);
                let two = vec![member(seed, 0.5, LARGE), member(seed + 1, 0.5, SMALL)];
                let reversed = two.iter().rev().cloned().collect();
                let [two, reversed] = [two, reversed].map(|members| ruled(members, rule));
                let text = generate(&two, &params, 40);
                named(seed, &text, &generate(&reversed, &params, 40));
            }
        }
    }
}

/// The mixture after the prompt, and each member's probability of each piece.
fn mixed(ensemble: &Ensemble) -> (Vec<f64>, Vec<Vec<f64>>) {
    mixed_in(ensemble, start(ensemble, &greedy()))
}

pub(super) fn mixed_in(ensemble: &Ensemble, mut sequence: Sequence) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut mixture = mix::Mixture::new(ensemble.union().size());
    for member in 0..ensemble.members().len() {
        ensemble.forward(member, &mut [&mut sequence], &mut 100, &Prefixes::new(0));
    }
    ensemble.listen(&mut sequence, &POOL);
    ensemble.mix(&sequence, &mut mixture, &POOL);
    let one = |(state, map): (&sequence::MemberState, &VocabMap)| {
        let mut one = vec![0.0; ensemble.union().size()];
        map.project_into(&state.probs, 1.0, &mut one);
        one.into_iter().map(f64::from).collect()
    };
    let ones = sequence.states.iter().zip(ensemble.maps()).map(one).collect();
    (mixture.masses().iter().map(|&mass| f64::from(mass)).collect(), ones)
}

/// What the rule's definition says, in 64 bits and not yet scaled.
fn defined(rule: Rule, weights: &[f64], ones: &[Vec<f64>]) -> Vec<f64> {
    let top = |one: &Vec<f64>| (0..one.len()).rev().max_by(|&a, &b| one[a].total_cmp(&one[b]));
    let votes = |piece| -> f64 {
        let for_it = weights.iter().zip(ones).filter(|(_, one)| top(one) == Some(piece));
        for_it.map(|(weight, _)| weight).sum()
    };
    let pieces = 0..ones[0].len();
    let elected = pieces.clone().max_by(|&a, &b| votes(a).total_cmp(&votes(b)));
    let mass = |piece: usize| {
        let all = || weights.iter().zip(ones).map(|(weight, one)| (weight, one[piece]));
        let mean: f64 = all().map(|(w, p)| w * p).sum();
        match rule {
            Rule::Mean => mean,
            Rule::Power { exponent, floor } => {
                let raised = all().map(|(w, p)| (w, p.max(f64::from(floor) * mean)));
                match f64::from(exponent) {
                    0.0 => raised.map(|(w, q)| q.powf(*w)).product(),
                    r => raised.map(|(w, q)| w * q.powf(r)).sum::<f64>().powf(1.0 / r),
                }
            }
            Rule::Max => all().map(|(w, p)| w * p).fold(0.0, f64::max),
            Rule::Majority => {
                let voters = weights.iter().zip(ones).filter(|(_, one)| top(one) == elected);
                voters.map(|(w, one)| w * one[piece]).sum()
            }
        }
    };
    pieces.map(mass).collect()
}

#[test]
fn every_rule_is_what_its_definition_says_with_a_mass_of_one() {
    for rule in RULES {
        for seed in 0..40 {
            let weights = [0.3, 0.5, 0.2];
            let words = [LARGE, SMALL, LARGE];
            let members = (0..3).map(|at: u8| {
                let (at, seed) = (usize::from(at), seed + u64::from(at));
                member(seed, weights[at], words[at])
            });
            let ensemble = ruled(members.collect(), rule);
            let (mix, ones) = mixed(&ensemble);
            let mass: f64 = mix.iter().sum();
            assert!((mass - 1.0).abs() < 1e-6, "{rule}: {mass}");
            let defined = defined(ensemble.fusion.rule, &weights.map(f64::from), &ones);
            let scale: f64 = defined.iter().sum();
            for (piece, (found, defined)) in mix.iter().zip(&defined).enumerate() {
                let expected = defined / scale;
                let near = 1e-5 * expected + 1e-9;
                assert!((found - expected).abs() < near, "{rule}, {piece}: {found} {expected}");
            }
            let end = ensemble.union().end().0 as usize;
            assert!(
                ones.iter().all(|one| one[end] > 0.0) && (rule == "majority" || mix[end] > 0.0)
            );
        }
    }
}

#[test]
fn a_floor_keeps_what_one_member_lacks_and_adds_nothing_where_all_agree() {
    let geometric = |floor: f64| {
        let mut ensemble = ruled(vec![member(3, 0.5, LARGE), member(4, 0.5, SMALL)], "geometric");
        ensemble.fusion.rule = ensemble.fusion.rule.with_floor(floor).unwrap();
        let (mix, _) = mixed(&ensemble);
        let lacked = ["ab", "bc", " a", "abc"].map(|word| {
            let piece = Piece::Bytes(word.as_bytes().to_vec());
            mix[ensemble.union().id(&piece).unwrap().0 as usize]
        });
        lacked.iter().sum::<f64>()
    };
    let [low, middle, high] = [1e-6, 0.01, 0.5].map(geometric);
    assert!(0.0 < low && low < middle && middle < high, "{low} {middle} {high}");
    assert!(low < 0.01 && high > 0.1, "{low} {high}");
}

#[test]
fn a_calibration_temperature_divides_the_logits() {
    for seed in 0..20 {
        let with = |temperature: f32| {
            let member = Member { temperature, ..member(seed, 1.0, LARGE) };
            mixed(&Ensemble::new(vec![member])).0
        };
        let (plain, flat) = (with(1.0), with(2.0));
        let roots: Vec<f64> = plain.iter().map(|p| p.sqrt()).collect();
        let sum: f64 = roots.iter().sum();
        for (found, root) in flat.iter().zip(roots) {
            assert!((found - root / sum).abs() < 1e-5, "{found} {root}");
        }
    }
}

#[test]
fn a_request_chooses_members_weights_and_rule() {
    let three = || vec![member(1, 0.5, SMALL), member(2, 0.25, LARGE), member(3, 0.25, LARGE)];
    let ensemble = Ensemble::new(three());
    let name = |name: &str| name.to_owned();
    let write = |request: &FusionRequest| {
        let prompts = ensemble.text_prompts("ab c", ensemble.fuse(request).unwrap());
        let mut sequence = Sequence::new(&ensemble, prompts, greedy(), None).unwrap();
        for _ in 0..30 {
            if choose(&ensemble, &mut sequence) == ensemble.union().end() {
                break;
            }
        }
        String::from_utf8(sequence.text().to_vec()).unwrap()
    };
    let other = |members: Vec<Member>, rule: &str| {
        generate(&ruled(members, rule), &greedy(), 30).replace('$', "")
    };
    let none = FusionRequest::default();
    assert_eq!(write(&none), other(three(), "mean"));
    let rule = Some("max".parse().unwrap());
    assert_eq!(write(&FusionRequest { rule, ..none.clone() }), other(three(), "max"));
    let members = Some(vec![name("toy-3"), name("toy-1")]);
    let two = vec![member(1, 0.5, SMALL), member(3, 0.25, LARGE)];
    assert_eq!(write(&FusionRequest { members, ..none.clone() }), other(two, "mean"));
    let members = Some(vec![name("toy-3")]);
    let alone = FusionRequest { members, ..none.clone() };
    assert_eq!(write(&alone), plain(3, LARGE, &greedy(), 30).replace('$', ""));
    let reweighed = || vec![member(1, 0.1, SMALL), member(2, 0.2, LARGE), member(3, 0.7, LARGE)];
    let weights = Some(WeightsRequest::InOrder(vec![1.0, 2.0, 7.0]));
    assert_eq!(write(&FusionRequest { weights, ..none.clone() }), other(reweighed(), "mean"));
    let named = vec![(name("toy-2"), 0.0), (name("toy-1"), 0.25)];
    let weights = Some(WeightsRequest::Named(named));
    let two = vec![member(1, 0.5, SMALL), member(3, 0.5, LARGE)];
    assert_eq!(write(&FusionRequest { weights, ..none.clone() }), other(two, "mean"));
}

#[test]
fn a_request_that_cannot_be_fused_is_refused_with_the_names() {
    let ensemble = Ensemble::new(vec![member(1, 0.5, SMALL), member(2, 0.5, LARGE)]);
    let none = FusionRequest::default();
    let name = |name: &str| name.to_owned();
    let weights = |weights| FusionRequest { weights: Some(weights), ..none.clone() };
    let cases = [
        (FusionRequest { members: Some(Vec::new()), ..none.clone() }, "members", "at least one"),
        (
            FusionRequest { members: Some(vec![name("toy-9")]), ..none.clone() },
            "members",
            "`toy-9`, which is no member; there are: toy-1, toy-2",
        ),
        (weights(WeightsRequest::InOrder(vec![1.0])), "weights", "1 weights for 2 members: toy-1"),
        (weights(WeightsRequest::InOrder(vec![1.0, -1.0])), "weights", "`toy-2` the weight -1"),
        (weights(WeightsRequest::InOrder(vec![0.0, 0.0])), "weights", "no member"),
        (weights(WeightsRequest::Named(vec![(name("x"), 1.0)])), "weights", "`x`"),
        (weights(WeightsRequest::Named(vec![(name("toy-1"), f32::NAN)])), "weights", "`toy-1`"),
    ];
    for (request, param, part) in cases {
        let refusal = ensemble.fuse(&request).unwrap_err();
        assert_eq!(refusal.param(), format!("ensemble.{param}"), "{refusal}");
        assert!(refusal.to_string().contains(part), "{refusal}");
    }
}
