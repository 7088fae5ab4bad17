//! First pieces of answers where one member sees a space before every word.

use super::*;

/// Tokens of both; a space before a word is a token of its own or part of it.
const WORDS: &[&str] = &["a", "b", " ", " a", "?", "\n", " c"];
/// The last is no token of the others.
const MORE: &[&str] = &["a", "b", " ", " a", "?", "\n", "c"];

fn chatty(name: &str, words: &[&str], algorithm: Algorithm, logits: Vec<f32>) -> Member {
    let normal = words.iter().map(|&word| SpecToken::new(word, TokenRole::Normal));
    let end = SpecToken::new("<end>", TokenRole::Control);
    let mut spec = TokenizerSpec::with(normal.chain([end]).collect(), algorithm);
    spec.stops = vec![TokenId(u32::try_from(words.len()).unwrap())];
    spec.chat_template = Some("{{ messages[0].content }}".to_owned());
    let tokenizer = Arc::new(Tokenizer::from_spec(spec).unwrap());
    Member::new(name.to_owned(), Arc::new(Always(logits)), tokenizer, 0.5)
}

fn spaced(logits: &[f32]) -> Member {
    let scores = Some((0..=WORDS.len()).map(|id| -(id as f32)).collect());
    let algorithm = Algorithm::SentencePiece { scores, dummy_space: DummySpace::First };
    chatty("spaced", WORDS, algorithm, logits.to_vec())
}

fn other(logits: &[f32]) -> Member {
    let cut = Algorithm::ByteLevel { pre_tokenizer: PreTokenizer::Gpt2, ignore_merges: true };
    chatty("other", MORE, cut, logits.to_vec())
}

/// Says the same whatever it reads: the logarithms of these shares.
struct Always(Vec<f32>);

impl LanguageModel for Always {
    fn vocab_size(&self) -> usize {
        self.0.len()
    }

    fn context_length(&self) -> usize {
        100
    }

    fn new_cache(&self) -> KvCache {
        KvCache::default()
    }

    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        for row in rows {
            row.cache.append(row.tokens);
            row.logits.clear();
            let count = match row.want {
                Want::Nothing => 0,
                Want::Last => 1,
                Want::All => row.tokens.len(),
            };
            for _ in 0..count {
                row.logits.extend(self.0.iter().map(|share| share.max(1e-30).ln()));
            }
        }
        Ok(())
    }
}

/// `spaced` says ` a`, some `a` and ` c`; `other` says `c`, some ` a` and `b`.
fn pair() -> Ensemble {
    Ensemble::new(vec![
        spaced(&[0.1, 0.0, 0.1, 0.5, 0.0, 0.0, 0.3, 0.0]),
        other(&[0.0, 0.2, 0.0, 0.3, 0.0, 0.0, 0.5, 0.0]),
    ])
}

fn asked(ensemble: &Ensemble, text: &str, weighting: Weighting) -> Sequence {
    let fusion = ensemble.fuse(&FusionRequest {
        weights: Some(WeightsRequest::By(weighting)),
        ..FusionRequest::default()
    });
    let messages = [Message::new(Role::User, text)];
    let prompts = ensemble.chat_prompts(Conversation::new(&messages), fusion.unwrap()).unwrap();
    Sequence::new(ensemble, prompts, greedy(), None).unwrap()
}

fn read(ensemble: &Ensemble, sequence: &Sequence) -> Vec<Vec<String>> {
    let spelt = |member: usize| {
        let tokenizer = &ensemble.members()[member].tokenizer;
        let text = |&token: &TokenId| tokenizer.bytes(token).unwrap().to_vec();
        let tokens = sequence.tokens(member).iter();
        tokens.map(|token| String::from_utf8(text(token)).unwrap()).collect()
    };
    (0..ensemble.members().len()).map(spelt).collect()
}

fn mass(ensemble: &Ensemble, masses: &[f32], piece: &str) -> f32 {
    let id = ensemble.union().id(&Piece::Bytes(piece.as_bytes().to_vec())).unwrap();
    masses[id.0 as usize]
}

#[test]
fn a_word_and_the_same_after_a_space_are_one_first_piece() {
    let ensemble = pair();
    let mut sequence = asked(&ensemble, "a?", Weighting::Fixed);
    let outlook = ensemble.outlook(&mut sequence).unwrap();
    for (piece, expected) in
        [("a", 0.45), (" a", 0.0), ("c", 0.4), (" c", 0.0), ("b", 0.1), (" ", 0.05)]
    {
        let found = mass(&ensemble, &outlook.mix, piece);
        assert!((found - expected).abs() < 1e-6, "{piece:?}: {found}");
    }
    choose(&ensemble, &mut sequence);
    // Words of the text are told apart by their spaces.
    let outlook = ensemble.outlook(&mut sequence).unwrap();
    for (piece, expected) in [("a", 0.05), (" a", 0.4), ("c", 0.25), (" c", 0.15)] {
        let found = mass(&ensemble, &outlook.mix, piece);
        assert!((found - expected).abs() < 1e-6, "{piece:?}: {found}");
    }
}

#[test]
fn each_member_reads_the_first_word_as_it_sees_words() {
    let ensemble = pair();
    let mut sequence = asked(&ensemble, "a?", Weighting::Fixed);
    assert!(sequence.drops_space());
    choose(&ensemble, &mut sequence);
    assert_eq!(sequence.text(), b"a");
    assert_eq!(read(&ensemble, &sequence), [[" a"], ["a"]]);
    choose(&ensemble, &mut sequence);
    assert_eq!(sequence.text(), b"a a");
    assert_eq!(read(&ensemble, &sequence), [[" a", " a"], ["a", " a"]]);

    // White space at the prompt's end stands for the space.
    let mut sequence = asked(&ensemble, "a?\n", Weighting::Fixed);
    choose(&ensemble, &mut sequence);
    assert_eq!(read(&ensemble, &sequence), [["a"], ["a"]]);
}

#[test]
fn every_members_tokens_spell_the_answer_after_its_own_space_at_every_step() {
    let mut spaces = 0;
    for (seed, gate) in (0..40).flat_map(|seed| [None, Some(0.3)].map(|gate| (seed, gate))) {
        let toy = |seed| Arc::new(Toy::new(seed, WORDS.len() + 1, 1000));
        let (mut first, mut second) = (other(&[]), spaced(&[]));
        (first.model, second.model) = (toy(seed), toy(seed + 100));
        let settings = Settings { gate, weights: Weighting::Online, ..Settings::default() };
        let ensemble = Ensemble::new(vec![first, second]).with_settings(&settings);
        let mut sequence = asked(&ensemble, "a?", Weighting::Online);
        sequence.sampler = Sampler::new(sampled(seed));
        for _ in 0..15 {
            if choose(&ensemble, &mut sequence) == ensemble.union().end() {
                break;
            }
            for (index, member) in ensemble.members().iter().enumerate() {
                let own_space = &b" "[..sequence.states[index].own_space];
                let text = [own_space, sequence.text()].concat();
                assert_eq!(sequence.tokens(index), member.tokenizer.encode(&text));
                let space = usize::from(index == 1);
                assert_eq!(own_space.len(), space, "{:?}", member.name);
                spaces += space;
            }
        }
    }
    assert!(spaces > 100, "{spaces}");
}

#[test]
fn a_space_alone_is_the_beginning_of_the_word_of_the_member_that_sees_it() {
    let lone = spaced(&[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let ensemble = Ensemble::new(vec![lone, other(&[0.2, 0.3, 0.1, 0.0, 0.0, 0.0, 0.3, 0.1])]);
    let mut sequence = asked(&ensemble, "a?", Weighting::Online);
    choose(&ensemble, &mut sequence);
    assert_eq!(sequence.text(), b"");
    assert_eq!(read(&ensemble, &sequence), [vec![" "], vec![]]);
    // What follows stands as it is written.
    choose(&ensemble, &mut sequence);
    assert_eq!(sequence.text(), b" ");
    assert_eq!(read(&ensemble, &sequence), [vec![" ", " "], vec![" "]]);
}

#[test]
fn a_text_that_goes_on_and_one_under_a_constraint_keep_their_spaces() {
    let ensemble = pair();
    let mut text = Sequence::new(&ensemble, prompts(&ensemble, "a?"), greedy(), None).unwrap();
    let id = choose(&ensemble, &mut text);
    assert_eq!(*ensemble.union().piece(id), Piece::Bytes(b" a".to_vec()));
    assert_eq!(read(&ensemble, &text), [[" a"], [" a"]]);

    let messages = [Message::new(Role::User, "a?")];
    let prompts = ensemble.chat_prompts(Conversation::new(&messages), ensemble.fusion()).unwrap();
    let constraint = Constraint::Regex(" (a|c)".to_owned());
    let mut held = Sequence::new(&ensemble, prompts, greedy(), Some(&constraint)).unwrap();
    assert!(!held.drops_space());
    choose(&ensemble, &mut held);
    assert_eq!(held.text(), b" a");
}

#[test]
fn copies_of_a_model_that_sees_spaces_are_that_model() {
    let one = || spaced(&[0.3, 0.0, 0.0, 0.3, 0.0, 0.0, 0.4, 0.0]);
    for copies in 1..3 {
        let ensemble = Ensemble::new(vec![one(); copies]);
        let mut sequence = asked(&ensemble, "a?", Weighting::Fixed);
        let id = choose(&ensemble, &mut sequence);
        assert_eq!(*ensemble.union().piece(id), Piece::Bytes(b" c".to_vec()));
    }
}

#[test]
fn weights_that_follow_the_text_see_where_words_meet_under_the_space() {
    let members = [
        spaced(&[0.1, 0.0, 0.1, 0.5, 0.0, 0.0, 0.3, 0.0]),
        other(&[0.1, 0.2, 0.0, 0.3, 0.0, 0.0, 0.4, 0.0]),
    ];
    let ensemble = Ensemble::new(members.into());
    let mut sequence = asked(&ensemble, "a?", Weighting::Online);
    let mut bits = [0.0_f64; 2];
    // The one that sees a space wrote ` a` each time.
    for said in [[0.5_f64, 0.1], [0.5, 0.3], [0.5, 0.3]] {
        choose(&ensemble, &mut sequence);
        bits = [0, 1].map(|member| bits[member] * 0.97 - said[member].log2());
    }
    assert_eq!(sequence.text(), b"a a a");
    let shares = bits.map(|bits| (-0.05 * bits).exp());
    let expected = shares[0] / (shares[0] + shares[1]);
    let found = f64::from(sequence.weights()[0]);
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
}
