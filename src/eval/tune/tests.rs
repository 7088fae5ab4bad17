use serde_json::json;

use super::*;
use crate::sampling::split_mix;

/// A draw from 0 to 1.
fn unit(seed: u64, number: u64) -> f64 {
    split_mix(seed, number) as f64 / u64::MAX as f64
}

/// A distribution over as many as there are logits, at a temperature.
fn softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    scaled(&logits.iter().map(|logit| (logit / temperature).exp()).collect::<Vec<_>>())
}

/// Logits of a member after a history, over a vocabulary of four bytes.
fn logits(member: u64, place: u64) -> Vec<f64> {
    (0..4).map(|byte| 6.0 * unit(member, 4 * place + byte)).collect()
}

/// A text of so many bytes drawn from a mixture of two members, the second of whom is really at a
/// higher temperature than it says.
fn record(number: u64, weight: f64, temperature: f64) -> Record {
    let mut pieces = Vec::new();
    for place in 0..60 {
        let at = 1000 * number + place;
        let members = [logits(1, at), logits(2, at)];
        let truth = [softmax(&members[0], 1.0), softmax(&members[1], temperature)];
        let (mut draw, mut byte) = (unit(3 + number, place), 0);
        loop {
            draw -= weight * truth[0][byte] + (1.0 - weight) * truth[1][byte];
            if draw < 0.0 || byte == 3 {
                break;
            }
            byte += 1;
        }
        let given = |logits: &Vec<f64>| {
            let at = |&factor: &f32| softmax(logits, f64::from(factor))[byte].ln();
            TEMPERATURE_FACTORS.iter().map(at).collect::<Vec<_>>()
        };
        pieces.push(json!([1, members.iter().map(given).collect::<Vec<_>>()]));
    }
    told(number, &[pieces])
}

fn told(number: u64, readings: &[Vec<serde_json::Value>]) -> Record {
    let split = if number.is_multiple_of(2) { "dev" } else { "test" };
    serde_json::from_value(json!({
        "task": "texts", "system": "duo", "sample": number.to_string(), "split": split,
        "prompt": "", "output": "", "scores": {}, "tokens": 0, "prompt_tokens": 0, "seconds": 0.0,
        "detail": { "readings": readings },
    }))
    .unwrap()
}

fn records(weight: f64, temperature: f64) -> Vec<Record> {
    (0..80).map(|number| record(number, weight, temperature)).collect()
}

#[test]
fn the_weights_that_texts_were_drawn_with_are_found() {
    let stages = tune(&records(0.3, 1.0), &[0.8, 0.2], 1).unwrap();
    let [begun, weighed, calibrated] = &stages[..] else { panic!("{stages:?}") };
    assert_eq!(begun.setting, Setting::of(&[4.0, 1.0]));
    let weight = weighed.setting.weights[0];
    assert!((weight - 0.3).abs() < 0.08, "{weight}");
    assert!(weighed.dev < begun.dev && weighed.test.value < begun.test.value);
    assert_eq!(weighed.against.unwrap().verdict, stats::Verdict::Better);
    assert!(calibrated.dev <= weighed.dev);
    assert!(calibrated.setting.factors().all(|factor| (0.7..=1.5).contains(&factor)));
}

#[test]
fn no_other_weight_is_better_on_the_texts_it_was_found_on() {
    for (weight, readings) in [(0.3, 1), (0.6, 2)] {
        let text = |number| {
            let record = record(number, weight, 1.0);
            let mut text = Text::read(&record, 2).unwrap();
            if readings == 2 {
                // A second way over the text, by pieces of two bytes that only one member has.
                for start in (0..60).step_by(2) {
                    let ln = -1.0 - 2.0 * unit(9, start);
                    let masses = [ln, f64::NEG_INFINITY];
                    let masses = masses.map(|ln| vec![ln; TEMPERATURE_FACTORS.len()]).to_vec();
                    let start = usize::try_from(start).unwrap();
                    text.edges.push(Given { start, end: start + 2, masses });
                }
                text.edges.sort_by_key(|edge| (edge.start, edge.end));
            }
            text
        };
        let texts: Vec<Text> = (0..20).map(text).collect();
        let found = best_weights(&texts, &Setting::of(&[1.0, 1.0]));
        let least = bits_per_byte(&texts, &found);
        for hundredth in 0..=100 {
            let other = f64::from(hundredth) / 100.0;
            let bits = bits_per_byte(&texts, &Setting::of(&[other, 1.0 - other]));
            assert!(bits >= least - 1e-5, "{other}: {bits} against {least}");
        }
    }
}

#[test]
fn a_member_that_is_too_sure_is_calmed() {
    // It has most of the weight: what a member of little weight says is lost in the noise.
    let stages = tune(&records(0.15, 1.75), &[0.5, 0.5], 1).unwrap();
    let factors: Vec<f32> = stages[2].setting.factors().collect();
    assert!((1.5..=2.0).contains(&factors[1]), "{factors:?}");
    assert!(stages[2].dev < stages[1].dev && stages[2].test.value < stages[0].test.value);
    let names = ["a".to_owned(), "b".to_owned()];
    let table = table(&stages, &names);
    let last = table.lines().last().unwrap();
    assert!(last.contains(&format!("temperature x {}", factors[1])), "{table}");
    assert!(table.lines().nth(2).unwrap().contains("a 0.50; b 0.50 |"), "{table}");
}

#[test]
fn a_member_that_only_harms_gets_no_weight() {
    let harmful = |number: u64| {
        let piece = |_| json!([1, [vec![-1.0; 11], vec![-9.0; 11]]]);
        told(number, &[(0..5).map(piece).collect()])
    };
    let records: Vec<Record> = (0..4).map(harmful).collect();
    let stages = tune(&records, &[0.5, 0.5], 1).unwrap();
    assert_eq!(stages[1].setting.weights, [1.0, 0.0]);
    assert!((stages[1].dev - 1.0 / std::f64::consts::LN_2).abs() < 1e-12);
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let of = |split: u64| (0..10).map(|n| record(2 * n + split, 0.5, 1.0)).collect::<Vec<_>>();
    for (split, name) in [(0, "test"), (1, "dev")] {
        let error = tune(&of(split), &[0.5, 0.5], 1).unwrap_err().to_string();
        assert!(error.contains(&format!("no text of the {name} split")), "{error}");
    }
    let error = tune(&of(0), &[1.0; 3], 1).unwrap_err().to_string();
    assert!(error.contains("3 members") && error.contains("byte 0"), "{error}");
    let mut other = of(0);
    other[0].detail = json!({ "readings": 1 });
    assert!(matches!(tune(&other, &[0.5, 0.5], 1), Err(TuneError::Record { .. })));
}
