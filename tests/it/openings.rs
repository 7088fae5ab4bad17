//! How answers of members that see a space before every word begin.

use std::sync::Arc;

use tutti::{
    engine::{
        Engine, EngineConfig, Event, Generate, GenerateRequest, Logprobs, Prompt, StopConditions,
    },
    ensemble::{Ensemble, Member},
    model::{KvCache, LanguageModel, ModelError, Row, Want},
    sampling::SamplingParams,
    tokenizer::{
        Algorithm, DummySpace, PreTokenizer, SpecToken, TokenRole, Tokenizer, TokenizerSpec,
        chat::{Message, Role},
    },
    vocab::TokenId,
};

const WORDS: [&str; 6] = ["a", "b", " ", " a", " b", "?"];
const END: u32 = 6;

/// Says these tokens after whatever it reads that ends in `?`, then the end.
struct Says(Vec<u32>);

impl LanguageModel for Says {
    fn vocab_size(&self) -> usize {
        WORDS.len() + 1
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
            let said = row.cache.tokens().iter().rev().take_while(|token| token.0 != 5).count();
            let next = self.0.get(said).copied().unwrap_or(END);
            if row.want == Want::Last {
                row.logits.extend((0..=END).map(|id| if id == next { 20.0 } else { 0.0 }));
            }
        }
        Ok(())
    }
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
    Member::new("spaced".to_owned(), Arc::new(Says(tokens.into())), tokenizer(algorithm), weight)
}

fn plain(tokens: &[u32], weight: f32) -> Member {
    let cut = Algorithm::ByteLevel { pre_tokenizer: PreTokenizer::Gpt2, ignore_merges: true };
    Member::new("plain".to_owned(), Arc::new(Says(tokens.into())), tokenizer(cut), weight)
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
                told.extend(pieces.iter().map(|it| String::from_utf8(it.bytes.clone()).unwrap()));
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

#[tokio::test]
async fn other_members_and_texts_that_go_on_keep_their_spaces() {
    assert_eq!(said(vec![plain(&[3, 4], 1.0)], asked()).await.0, " a b");
    let text = || Prompt::Text("a?".to_owned());
    assert_eq!(said(vec![spaced(&[3, 4], 1.0)], text()).await.0, " a b");
}
