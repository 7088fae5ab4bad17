//! Who gets a place, in which order, and what a step reads.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tutti::{
    engine::{
        Engine, EngineConfig, Event, Generate, GenerateError, GenerateRequest, Generation, Prompt,
    },
    ensemble::{Ensemble, Member},
    model::{KvCache, LanguageModel, ModelError, Row},
    tokenizer::chat::{Message, Role},
    vocab::TokenId,
};

use super::{Mood, Toy, ask, engine, hog, listen, request, tokenizer};

#[tokio::test]
async fn dropping_a_generation_frees_its_place() {
    let engine = engine(EngineConfig { max_sequences: 1, ..Default::default() });
    let first = hog(&engine).await;
    let mut second = engine.generate(request(1)).unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(100), second.next()).await;
    assert!(waited.is_err(), "the only place is taken");
    drop(first);
    let said = tokio::time::timeout(Duration::from_secs(20), listen(second)).await.unwrap();
    assert_eq!(said, ask(&engine, request(1)).await);
}

#[tokio::test]
async fn more_requests_than_the_queue_holds_are_refused_until_there_is_room() {
    let engine = engine(EngineConfig { max_sequences: 1, queue: 2, ..Default::default() });
    let first = hog(&engine).await;
    let waiting = [engine.generate(request(1)).unwrap(), engine.generate(request(2)).unwrap()];
    let refused = engine.generate(request(3)).err();
    assert_eq!(refused, Some(GenerateError::QueueFull { waiting: 2 }));
    drop((first, waiting));
    // The places of the cancelled are seen to be free before long.
    for _ in 0..200 {
        if engine.generate(request(3)).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the queue stayed full");
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_nobody_up() {
    let engine = engine(EngineConfig { max_sequences: 2, ..Default::default() });
    let _unread = hog(&engine).await;
    for seed in 0..5 {
        ask(&engine, request(seed)).await.end.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_reads_nothing_loses_its_place_to_one_who_gets_no_other() {
    let patience = Duration::from_millis(100);
    let engine = engine(EngineConfig { max_sequences: 2, patience, ..Default::default() });
    let mut first = hog(&engine).await;
    tokio::time::sleep(3 * patience).await;
    // There is another place.
    ask(&engine, request(1)).await.end.unwrap();
    let mut second = hog(&engine).await;
    tokio::time::sleep(3 * patience).await;
    ask(&engine, request(1)).await.end.unwrap();
    let mut ends = Vec::new();
    for unread in [&mut first, &mut second] {
        let mut last = None;
        while let Some(event) = unread.next().await {
            last = Some(event);
        }
        ends.push(last.unwrap());
    }
    assert_eq!(ends[0], Event::Failed(GenerateError::Unread { seconds: 0 }));
    assert!(matches!(ends[1], Event::Finished { .. }), "one was enough: {:?}", ends[1]);
}

/// A model that writes down what it is asked to forward, call by call.
struct Watched {
    toy: Toy,
    calls: Calls,
}

pub(crate) struct Forwarded {
    /// The text begins with this; what the sequences of a test are told apart by.
    pub(crate) first: TokenId,
    pub(crate) held: usize,
    pub(crate) tokens: usize,
}

/// The rows of each call.
pub(crate) type Calls = Arc<Mutex<Vec<Vec<Forwarded>>>>;

impl LanguageModel for Watched {
    fn vocab_size(&self) -> usize {
        self.toy.vocab_size()
    }

    fn context_length(&self) -> usize {
        self.toy.context_length()
    }

    fn new_cache(&self) -> KvCache {
        self.toy.new_cache()
    }

    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        let forwarded = |row: &Row<'_>| Forwarded {
            first: *row.cache.tokens().first().unwrap_or(&row.tokens[0]),
            held: row.cache.tokens().len(),
            tokens: row.tokens.len(),
        };
        self.calls.lock().unwrap().push(rows.iter().map(forwarded).collect());
        // A text whose reader falls behind pauses; at a toy's speed any reader does at times.
        std::thread::sleep(Duration::from_millis(2));
        self.toy.forward(rows)
    }
}

/// An engine whose one model is watched.
pub(crate) fn watched(config: EngineConfig) -> (Engine, Calls) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let tokenizer = tokenizer(false);
    let toy = Toy { seed: 3, logits: tokenizer.len(), mood: Mood::Well };
    let model = Watched { toy, calls: calls.clone() };
    let member = Member::new("watched".to_owned(), Arc::new(model), tokenizer, 1.0);
    let ensemble = Arc::new(Ensemble::new(vec![member]));
    (Engine::start(vec![("duo".to_owned(), ensemble)], config).unwrap(), calls)
}

fn asking(content: &str, max_tokens: usize) -> GenerateRequest {
    let message = Message::new(Role::User, content);
    let mut request = request(1);
    request.prompt = Prompt::chat(vec![message]);
    request.stop.max_tokens = Some(max_tokens);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_grows_at_every_step_while_long_prompts_are_read_in_chunks() {
    const CHUNK: usize = 20;
    let (engine, calls) = watched(EngineConfig { prefill_chunk: CHUNK, ..Default::default() });
    // 'a' is token 0. It is the only one that writes while the others read.
    let mut writing = engine.generate(asking("ab", 390)).unwrap();
    writing.next().await.unwrap();
    let writing = tokio::spawn(listen_on(writing));
    let long = ["b", "c", " ", "["].map(|first| asking(&format!("{first}{}", "c1".repeat(150)), 1));
    let reading = long.map(|request| ask(&engine, request));
    let (written, read) = futures::join!(writing, futures::future::join_all(reading));
    let written = written.unwrap();
    assert!(read.iter().all(|said| said.end.is_ok()), "{read:?}");
    assert!(written > 80, "it has to write for as long as the others read: {written}");

    let calls = calls.lock().unwrap();
    let is_prompt = |row: &Forwarded| row.tokens > 1;
    let with_prompts: Vec<_> =
        calls[1..].iter().filter(|rows| rows.iter().any(is_prompt)).collect();
    // Four prompts of 301 tokens.
    assert!(with_prompts.len() >= 4 * 301 / CHUNK, "{}", with_prompts.len());
    for rows in with_prompts {
        let prompts: usize = rows.iter().filter(|row| is_prompt(row)).map(|row| row.tokens).sum();
        assert!(prompts <= CHUNK + 4 * 16, "a step reads {prompts} tokens of prompts");
        let long: usize = rows.iter().filter(|row| row.tokens > 16).map(|row| row.tokens).sum();
        assert!(long <= CHUNK, "a step reads {long} tokens of long prompts");
        assert!(rows.iter().any(|row| row.first == TokenId(0)), "the text that is written waits");
    }
    // First come, first served: a prompt is begun when those before it are read.
    let begun: Vec<TokenId> =
        calls.iter().flatten().filter(|row| row.held == 0).map(|row| row.first).collect();
    assert_eq!(begun, [0, 1, 2, 5, 6].map(TokenId));
}

/// The number of pieces a generation tells until its end.
async fn listen_on(mut generation: Generation) -> usize {
    let mut pieces = 0;
    while let Some(event) = generation.next().await {
        if let Event::Text { tokens, .. } = event {
            pieces += tokens;
        }
    }
    pieces
}

#[tokio::test]
async fn those_who_wait_get_in_in_the_order_they_came() {
    let (engine, calls) = watched(EngineConfig { max_sequences: 2, ..Default::default() });
    let asked = ["a", "bb", "c", " ", "[", "]", "1"].map(|content| {
        let generation = engine.generate(asking(content, 30)).unwrap();
        tokio::spawn(listen_on(generation))
    });
    for generation in asked {
        generation.await.unwrap();
    }
    let calls = calls.lock().unwrap();
    let begun: Vec<TokenId> =
        calls.iter().flatten().filter(|row| row.held == 0).map(|row| row.first).collect();
    assert_eq!(begun, [0, 1, 2, 5, 6, 7, 9].map(TokenId));
    assert!(calls.iter().all(|rows| rows.len() <= 2));
}
