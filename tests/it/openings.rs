//! How answers of members that see a space before every word begin.

use std::sync::Arc;

use serde_json::Value;
use tutti::{
    engine::{
        Engine, EngineConfig, Event, Generate, GenerateRequest, Logprobs, Prompt, StopConditions,
    },
    ensemble::{Ensemble, Member, Sequence},
    gguf::Gguf,
    model::LanguageModel,
    sampling::SamplingParams,
    tokenizer::{
        Algorithm, DummySpace, PreTokenizer, SpecToken, TokenRole, Tokenizer, TokenizerSpec,
        chat::{Conversation, Message, Role},
    },
    vocab::{Piece, TokenId},
};

use crate::{npm, real, sayer::Sayer, sentencepiece};

const WORDS: [&str; 6] = ["a", "b", " ", " a", " b", "?"];
const END: u32 = 6;

/// Says these tokens after whatever it reads that ends in `?`, then the end.
fn says(tokens: &[u32]) -> Arc<dyn LanguageModel> {
    let tokens = tokens.to_vec();
    Arc::new(Sayer::new(WORDS.len() + 1, move |read, logits| {
        let said = read.iter().rev().take_while(|token| token.0 != 5).count();
        logits[tokens.get(said).copied().unwrap_or(END) as usize] = 20.0;
    }))
}

fn tokenizer(algorithm: Algorithm) -> Arc<Tokenizer> {
    let words = WORDS.map(|word| SpecToken::new(word, TokenRole::Normal));
    let end = SpecToken::new("<end>", TokenRole::Control);
    let mut spec = TokenizerSpec::with(words.into_iter().chain([end]).collect(), algorithm);
    spec.stops = vec![TokenId(END)];
    spec.chat_template = Some("{{ messages[0].content }}".to_owned());
    Arc::new(Tokenizer::from_spec(spec).unwrap())
}

fn spaced(tokens: &[u32], weight: f32) -> Member {
    let scores = Some((0..=END).map(|id| -(id as f32)).collect());
    let algorithm = Algorithm::SentencePiece { scores, dummy_space: DummySpace::First };
    Member::new("spaced".to_owned(), says(tokens), tokenizer(algorithm), weight)
}

fn plain(tokens: &[u32], weight: f32) -> Member {
    let cut = Algorithm::ByteLevel { pre_tokenizer: PreTokenizer::Gpt2, ignore_merges: true };
    Member::new("plain".to_owned(), says(tokens), tokenizer(cut), weight)
}

/// The text, and the pieces that are told of it.
async fn said(members: Vec<Member>, prompt: Prompt) -> (String, Vec<String>) {
    let ensemble = Arc::new(Ensemble::new(members));
    let engine = Engine::start(vec![("e".to_owned(), ensemble)], EngineConfig::default()).unwrap();
    let request = GenerateRequest {
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        logprobs: Some(Logprobs::default()),
        stop: StopConditions { max_tokens: Some(9), ..StopConditions::default() },
        ..GenerateRequest::new("e", prompt)
    };
    let mut generation = engine.generate(request).unwrap();
    let (mut whole, mut told) = (String::new(), Vec::new());
    while let Some(event) = generation.next().await {
        match event {
            Event::Text { text, pieces, .. } => {
                whole.push_str(&text);
                // The end is told of too, and has no bytes.
                let pieces = pieces.iter().filter(|it| !it.bytes.is_empty());
                told.extend(pieces.map(|it| String::from_utf8(it.bytes.clone()).unwrap()));
            }
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    (whole, told)
}

fn asked() -> Prompt {
    Prompt::chat(vec![Message::new(Role::User, "a?")])
}

#[tokio::test]
async fn the_space_before_an_answers_first_word_is_not_shown_alone_or_in_a_union() {
    let expected = ("a b".to_owned(), vec!["a".to_owned(), " b".to_owned()]);
    assert_eq!(said(vec![spaced(&[3, 4], 1.0)], asked()).await, expected);
    let both = || vec![spaced(&[3, 4], 0.7), plain(&[0, 4], 0.3)];
    assert_eq!(said(both(), asked()).await, expected);
    let other = vec![spaced(&[3, 4], 0.3), plain(&[0, 4], 0.7)];
    assert_eq!(said(other, asked()).await, expected);
    // One that writes its spaces alone.
    let (text, _) = said(vec![spaced(&[2, 0, 4], 1.0)], asked()).await;
    assert_eq!(text, "a b");
}

/// Says the tokens of a text, as its tokenizer has them, and the end.
fn recites(name: &str, tokenizer: Tokenizer, text: &str) -> Member {
    let end = tokenizer.stops()[0];
    let tokens: Vec<_> = tokenizer.encode(text.as_bytes()).into_iter().chain([end]).collect();
    let model = Sayer::new(tokenizer.len(), move |read, logits| {
        let is_read = |count: &usize| read.ends_with(&tokens[..*count]);
        let said = (0..tokens.len()).rev().find(is_read).unwrap();
        logits[tokens[said].0 as usize] = 30.0;
    });
    Member::new(name.to_owned(), Arc::new(model), Arc::new(tokenizer), 0.5)
}

/// Each goes on only if it has read its own tokens.
#[tokio::test]
async fn a_real_vocabulary_with_spaces_and_one_without_agree_on_an_answers_first_word() {
    let members = || {
        let [file, config] = npm::tokenizer(sentencepiece::LLAMA2, sentencepiece::LLAMA2_SUM);
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        config["chat_template"] = "{{ bos_token }}[INST] {{ messages[0].content }} [/INST]".into();
        let config = config.to_string().into_bytes();
        let spaced = Tokenizer::from_json(&file, Some(&config)).unwrap();
        assert!(spaced.has_dummy_space());
        let plain = Tokenizer::from_gguf(&Gguf::open(&real::qwen()).unwrap()).unwrap();
        let text = "Hello world, how are you?";
        vec![recites("spaced", spaced, &format!(" {text}")), recites("plain", plain, text)]
    };
    let (text, told) = said(members(), asked()).await;
    assert_eq!(text, "Hello world, how are you?");
    assert_eq!(told, ["Hello", " world", ",", " how", " are", " you", "?"]);

    let ensemble = Ensemble::new(members());
    let question = [Message::new(Role::User, "a?")];
    let conversation = Conversation::new(&question);
    let prompts = ensemble.chat_prompts(conversation, ensemble.fusion()).unwrap();
    let params = SamplingParams::default();
    let mut sequence = Sequence::new(&ensemble, prompts, params, None).unwrap();
    let hello = ensemble.union().id(&Piece::Bytes(b"Hello".to_vec())).unwrap();
    let outlook = ensemble.outlook(&mut sequence).unwrap();
    assert!(outlook.mix[hello.0 as usize] > 0.999, "all of both members' mass");
}

#[tokio::test]
async fn other_members_and_texts_that_go_on_keep_their_spaces() {
    assert_eq!(said(vec![plain(&[3, 4], 1.0)], asked()).await.0, " a b");
    let text = || Prompt::Text("a?".to_owned());
    assert_eq!(said(vec![spaced(&[3, 4], 1.0)], text()).await.0, " a b");
}
