//! Prompts that are scored: read ahead, or piece after piece.

use super::*;

/// What is told of the pieces that end after byte `from`, with the sequence's own way of reading
/// or, `one_by_one`, piece after piece.
fn read(ensemble: &Ensemble, text: &[u8], from: usize, one_by_one: bool) -> Vec<(UnionId, Score)> {
    let mut sequences = vec![reading(ensemble, text, from)];
    if one_by_one {
        sequences[0].states.iter_mut().for_each(|state| state.ahead = None);
    }
    read_all(ensemble, &mut sequences, 7);
    sequences[0].take_read()
}

fn reading(ensemble: &Ensemble, text: &[u8], from: usize) -> Sequence {
    let pieces = ensemble.pieces_of(text, &ensemble.fusion()).unwrap();
    let prompts = ensemble.scored_prompts(&pieces, from, ensemble.fusion()).unwrap();
    let mut sequence = Sequence::new(ensemble, prompts, greedy(), None).unwrap();
    let told = Logprobs { top: 2, members: true, prompt: Some(from), ..Logprobs::default() };
    sequence.tell(told);
    sequence
}

fn read_all(ensemble: &Ensemble, sequences: &mut [Sequence], prefill: usize) {
    let mut work = work(ensemble, prefill);
    while !sequences.iter().all(Sequence::has_read) {
        let mut left: Vec<&mut Sequence> =
            sequences.iter_mut().filter(|sequence| !sequence.has_read()).collect();
        for result in ensemble.step(&mut left, &mut work) {
            assert_eq!(result.unwrap(), Step::Prefill);
        }
    }
}

/// Words that the two tokenizers cut at different places.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    let letter = |at: usize| {
        (seed, at).hash(&mut hasher);
        b"abcabc ."[(hasher.finish() % 8) as usize]
    };
    (0..length).map(letter).collect()
}

fn ensembles(seed: u64) -> Vec<Ensemble> {
    let two = || vec![member(seed, 0.6, SMALL), member(seed + 1, 0.4, LARGE)];
    let turned = || vec![member(seed, 0.6, LARGE), member(seed + 1, 0.4, SMALL)];
    let alike = || vec![member(seed, 0.6, LARGE), member(seed + 1, 0.4, LARGE)];
    let mut ensembles = vec![Ensemble::new(vec![member(seed, 1.0, LARGE)]), Ensemble::new(alike())];
    for members in [two(), turned()] {
        for (gate, weights, rule) in [
            (None, Weighting::Fixed, Rule::Mean),
            (Some(0.35), Weighting::Fixed, Rule::Mean),
            (None, Weighting::Prompt, Rule::Mean),
            (None, Weighting::Online, Rule::Max),
            (Some(0.35), Weighting::Online, Rule::Mean),
        ] {
            let settings = Settings { gate, weights, rule, ..Settings::default() };
            ensembles.push(Ensemble::new(members.clone()).with_settings(&settings));
        }
    }
    ensembles
}

#[test]
fn reading_ahead_gives_the_scores_that_reading_piece_after_piece_gives() {
    for seed in 0..6 {
        let text = text(seed, 150);
        for ensemble in ensembles(seed) {
            let whole = read(&ensemble, &text, 0, true);
            assert_eq!(read(&ensemble, &text, 0, false), whole);
            for from in [1, 70, 141, 149] {
                let told = read(&ensemble, &text, from, false);
                assert!(!told.is_empty() && told.len() <= whole.len());
                // Weights that follow the text may then follow more of it.
                if ensemble.fusion().weighting == Weighting::Fixed && from > 1 {
                    assert_eq!(told, whole[whole.len() - told.len()..]);
                }
                assert_eq!(told, read(&ensemble, &text, from, true));
            }
            assert_eq!(read(&ensemble, &text, 150, false), []);
        }
    }
}

#[test]
fn texts_that_are_scored_together_get_what_they_get_alone() {
    for ensemble in ensembles(3) {
        let texts: Vec<Vec<u8>> = (0..4).map(|seed| text(seed, 60)).collect();
        let mut together: Vec<Sequence> =
            texts.iter().map(|text| reading(&ensemble, text, 20)).collect();
        read_all(&ensemble, &mut together, 40);
        for (sequence, text) in together.iter_mut().zip(&texts) {
            assert_eq!(sequence.take_read(), read(&ensemble, text, 20, true));
        }
    }
}

#[test]
fn what_is_written_after_a_scored_prompt_is_what_is_written_after_the_prompt() {
    for seed in 0..10 {
        let ensemble = Ensemble::new(vec![member(seed, 0.6, SMALL), member(seed + 1, 0.4, LARGE)]);
        let text = text(seed, 90);
        let mut plain = Sequence::new(
            &ensemble,
            prompts(&ensemble, std::str::from_utf8(&text).unwrap()),
            sampled(seed),
            None,
        )
        .unwrap();
        let pieces = ensemble.pieces_of(&text, &ensemble.fusion()).unwrap();
        let scored = ensemble.scored_prompts(&pieces, 30, ensemble.fusion()).unwrap();
        let mut scored = Sequence::new(&ensemble, scored, sampled(seed), None).unwrap();
        assert_eq!(choose(&ensemble, &mut scored), choose(&ensemble, &mut plain));
        assert_eq!(scored.prompt_tokens(), plain.prompt_tokens());
    }
}

#[test]
fn four_ends_of_one_text_read_its_beginning_once_and_their_tokens_once() {
    let toys = [Arc::new(Toy::new(4, 10, 1000)), Arc::new(Toy::new(6, 6, 1000))];
    let words = [LARGE, SMALL];
    let of = |index: usize| {
        let model: Arc<dyn LanguageModel> = toys[index].clone();
        Member::new(format!("toy-{index}"), model, tokenizer(words[index]), 0.5)
    };
    let ensemble = Ensemble::new(vec![of(0), of(1)]);
    // No end joins the beginning's last token.
    let mut ends: Vec<Sequence> = ["a.", " bca.", "..", "cc."]
        .map(|end| [text(1, 200).as_slice(), b" .", end.as_bytes()].concat())
        .iter()
        .map(|text| reading(&ensemble, text, 202))
        .collect();
    let beginning: Vec<usize> = ends[0].states.iter().map(|state| state.target.len()).collect();
    let mut work = Workspace::new(&ensemble, 64, 1000);
    while !ends.is_empty() {
        ensemble.step(&mut ends.iter_mut().collect::<Vec<_>>(), &mut work);
        for ended in ends.extract_if(.., |sequence| sequence.has_read()) {
            work.prefixes.keep(ended);
        }
    }
    for (index, toy) in toys.iter().enumerate() {
        let read = toy.read.load(Ordering::Relaxed);
        assert!(read < beginning[index] + 40, "{read} of {}", beginning[index]);
    }
}

#[test]
fn what_comes_after_a_text_that_is_passed_is_as_probable_as_after_a_prompt() {
    // Those that follow the text follow what is passed as well.
    for weights in [Weighting::Fixed, Weighting::Prompt] {
        let settings = Settings { weights, ..Settings::default() };
        for seed in 0..10 {
            let members = vec![member(seed, 0.6, SMALL), member(seed + 1, 0.4, LARGE)];
            let ensemble = Ensemble::new(members).with_settings(&settings);
            // Nothing joins a full stop, so what was passed stays as a prompt does.
            let text = [text(seed, 90).as_slice(), b"."].concat();
            let prompts = ensemble.text_prompts(&text, ensemble.fusion());
            let mut writing = Sequence::new(&ensemble, prompts, greedy(), None).unwrap();
            writing.tell(Logprobs { members: true, ..Logprobs::default() });
            let mut written = Vec::new();
            while written.len() < 5 {
                let next = choose(&ensemble, &mut writing);
                if next == ensemble.union().end() {
                    break;
                }
                written.push((next, writing.take_score().unwrap()));
            }
            let mut pieces = ensemble.pieces_of(&text, &ensemble.fusion()).unwrap();
            pieces.extend(written.iter().map(|(next, _)| *next));
            let prompts = ensemble.scored_prompts(&pieces, text.len(), ensemble.fusion()).unwrap();
            let mut scored = Sequence::new(&ensemble, prompts, greedy(), None).unwrap();
            scored.tell(Logprobs {
                members: true,
                prompt: Some(text.len()),
                ..Logprobs::default()
            });
            read_all(&ensemble, std::slice::from_mut(&mut scored), 7);
            assert_eq!(scored.take_read(), written, "{weights}");
        }
    }
}

#[test]
fn weights_that_follow_the_prompt_stay_whatever_comes_after_it() {
    let settings = Settings { weights: Weighting::Prompt, ..Settings::default() };
    for seed in 0..10 {
        let members = vec![member(seed, 0.6, SMALL), member(seed + 1, 0.4, LARGE)];
        let ensemble = Ensemble::new(members).with_settings(&settings);
        // One member's last token of what is passed becomes another with what is scored.
        let text = [text(seed, 40).as_slice(), b" ab", b"cabcab"].concat();
        let read = read(&ensemble, &text, 43, false);
        let weights = |score: &Score| [score.members[0].weight, score.members[1].weight];
        let first = weights(&read[0].1);
        assert!(first != [0.6, 0.4] && read.iter().all(|(_, score)| weights(score) == first));
    }
}

#[test]
fn a_piece_that_a_member_cannot_spell_is_passed_and_what_is_nothing_to_it_is_refused() {
    let mute = ["a", "b", " ", "."];
    for words in [[SMALL, &mute[..]], [&mute[..], SMALL]] {
        let members = vec![member(1, 0.5, words[0]), member(2, 0.5, words[1])];
        let ensemble = Ensemble::new(members);
        for (text, told) in [("ca", 2), ("ccca", 4), ("ccab", 4), ("acb", 3)] {
            let read = read(&ensemble, text.as_bytes(), 0, false);
            assert_eq!(read.len(), told, "{text}");
            let unknown = text.bytes().take_while(|&byte| byte == b'c').count() + 1;
            let is_known = |(_, score): &(UnionId, Score)| score.logprob.is_some();
            assert_eq!(
                read.iter().position(is_known),
                (unknown < told).then_some(unknown),
                "{text}"
            );
        }
        let pieces = ensemble.pieces_of(b"cc", &ensemble.fusion()).unwrap();
        let prompts = ensemble.scored_prompts(&pieces, 0, ensemble.fusion()).unwrap();
        let refused = Sequence::new(&ensemble, prompts, greedy(), None).err();
        assert!(matches!(refused, Some(StartError::Empty { .. })), "{refused:?}");
    }
}

#[test]
fn pieces_that_a_member_cannot_hold_are_refused_and_a_row_too_long_is_its_own_failure() {
    let of = |seed: u64, context: usize| {
        let model = Arc::new(Toy::new(seed, LARGE.len() + 1, context));
        Member::new(format!("toy-{seed}"), model, tokenizer(LARGE), 0.5)
    };
    let alone = Ensemble::new(vec![of(2, 20)]);
    let letter = |text: &str| alone.union().id(&Piece::Bytes(text.as_bytes().to_vec())).unwrap();
    let pieces = |count: usize| [letter("a"), letter("b")].repeat(count);
    // As a whole text these would be ten tokens.
    let start = |pieces: &[UnionId]| {
        let prompts = alone.scored_prompts(pieces, 0, alone.fusion()).unwrap();
        Sequence::new(&alone, prompts, greedy(), None)
    };
    assert!(start(&pieces(10)).is_ok());
    let refused = start(&[&pieces(10)[..], &[letter("a")]].concat()).err();
    let told = Some((21, 20));
    assert_eq!(
        refused.map(|error| match error {
            StartError::PromptTooLong { prompt_tokens, context_length, .. } => {
                (prompt_tokens, context_length)
            }
            other => panic!("{other}"),
        }),
        told
    );

    let (mut long, mut short) = (start(&pieces(9)).unwrap(), start(&pieces(3)).unwrap());
    long.states[0].target = vec![TokenId(0); 21];
    let mut work = work(&alone, 100);
    let results = alone.step(&mut [&mut long, &mut short], &mut work);
    assert!(matches!(results[0], Err(StepError::Member { .. })), "{:?}", results[0]);
    assert!(results[1].is_ok());
}
