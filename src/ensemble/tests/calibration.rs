//! What is told of other calibration temperatures.

use super::*;

/// What is told of the pieces of a text that is read piece by piece.
fn told(members: Vec<Member>) -> Vec<Score> {
    let ensemble = Ensemble::new(members);
    let id = |text: &str| ensemble.union().id(&Piece::Bytes(text.as_bytes().to_vec())).unwrap();
    let scored = ["b", "abc", " a", "c", ".", "ab"].map(id).to_vec();
    let prompts = Prompts { scored, ..prompts(&ensemble, "ab c") };
    let mut sequence = Sequence::new(&ensemble, prompts, greedy(), None).unwrap();
    sequence.tell(Logprobs {
        members: true,
        calibrated: true,
        prompt: Some(0),
        ..Logprobs::default()
    });
    while !sequence.has_read() {
        let step = ensemble.step(&mut [&mut sequence], &mut work(&ensemble, 4)).pop().unwrap();
        assert_eq!(step.unwrap(), Step::Prefill);
    }
    sequence.take_read().into_iter().map(|(_, score)| score).collect()
}

#[test]
fn what_is_told_of_a_temperature_is_what_a_member_of_that_temperature_gives() {
    let members = |factor: f32| {
        let mut two = vec![member(3, 0.6, LARGE), member(4, 0.4, SMALL)];
        (two[0].temperature, two[1].temperature) = (1.3 * factor, factor);
        two
    };
    let grid = told(members(1.0));
    for (at, factor) in TEMPERATURE_FACTORS.into_iter().enumerate() {
        for (grid, there) in grid.iter().zip(told(members(factor))) {
            for (given, vote) in grid.calibrated.iter().zip(&there.members) {
                let expected = vote.probability.unwrap();
                assert!((given[at].exp() - expected).abs() < 1e-5, "{factor}: {given:?}");
                assert_eq!(given[at] == f32::NEG_INFINITY, expected == 0.0);
            }
        }
    }
    let lacking = grid.iter().filter(|score| score.calibrated[1][0] == f32::NEG_INFINITY).count();
    assert_eq!((grid.len(), lacking), (6, 3), "`abc`, ` a` and `ab` are none of the small one's");
}
