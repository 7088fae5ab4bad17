//! The engine on toy models: many requests at once, stops, cancels, failures.

mod constrained;
mod scheduling;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tutti::{
    constrain::Constraint,
    engine::{
        Engine, EngineConfig, Event, FinishReason, Generate, GenerateError, GenerateRequest,
        Generation, Prompt, StopConditions, Usage,
    },
    ensemble::{Ensemble, Member, OnFailure, Settings},
    model::{KvCache, LanguageModel, ModelError, Row, Want},
    sampling::SamplingParams,
    tokenizer::{
        PreTokenizer, SpecToken, TokenRole, Tokenizer, TokenizerSpec,
        chat::{Message, Role},
    },
    vocab::TokenId,
};

pub(crate) use self::scheduling::{Calls, watched};

/// Logits hash the whole history; the end of the text is made rare.
struct Toy {
    seed: u64,
    logits: usize,
    mood: Mood,
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Fails when a text says `c`.
    Fails,
    /// Panics there.
    Panics,
}

const CONTEXT: usize = 400;
/// The token of `c` in every toy vocabulary.
const C: TokenId = TokenId(2);

impl LanguageModel for Toy {
    fn vocab_size(&self) -> usize {
        self.logits
    }

    fn context_length(&self) -> usize {
        CONTEXT
    }

    fn new_cache(&self) -> KvCache {
        KvCache::default()
    }

    fn forward(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        let said_c = rows.iter().any(|row| row.tokens.contains(&C));
        match self.mood {
            Mood::Fails if said_c => {
                return Err(ModelError::ContextFull { capacity: 1, wanted: 2 });
            }
            Mood::Panics if said_c => panic!("a toy panics, as the test wants"),
            _ => {}
        }
        for row in rows {
            row.logits.clear();
            for (at, token) in row.tokens.iter().enumerate() {
                row.cache.append(std::slice::from_ref(token));
                let is_last = at + 1 == row.tokens.len();
                if row.want == Want::Nothing || row.want == Want::Last && !is_last {
                    continue;
                }
                row.logits.extend((0..self.logits).map(|id| {
                    let mut hasher = DefaultHasher::new();
                    (self.seed, row.cache.tokens(), id).hash(&mut hasher);
                    let rare = if id + 1 == self.logits { 5.0 } else { 0.0 };
                    (hasher.finish() % 10_000) as f32 / 2_000.0 - rare
                }));
            }
        }
        Ok(())
    }
}

/// `a b c é` in bytes, joined pieces if `large`, JSON's signs, and the end.
pub(crate) fn tokenizer(large: bool) -> Arc<Tokenizer> {
    let mut words: Vec<&[u8]> =
        vec![b"a", b"b", b"c", b"\xc3", b"\xa9", b" ", b"[", b"]", b",", b"1", b"2"];
    let mut merges: Vec<(&[u8], &[u8])> = Vec::new();
    if large {
        words.extend([&b"ab"[..], b"bc", b"\xc3\xa9", b" a"]);
        merges.extend([(&b"a"[..], &b"b"[..]), (b"b", b"c"), (b"\xc3", b"\xa9"), (b" ", b"a")]);
    }
    let normal = words.iter().map(|&word| SpecToken::new(word, TokenRole::Normal));
    let end = SpecToken::new("<end>", TokenRole::Control);
    let mut spec = TokenizerSpec::new(normal.chain([end]).collect(), PreTokenizer::Gpt2);
    spec.stops = vec![TokenId(u32::try_from(words.len()).unwrap())];
    spec.merges = merges.into_iter().map(|(left, right)| (left.to_vec(), right.to_vec())).collect();
    spec.chat_template = Some(
        "{% for m in messages %}{% if m.content == 'b' %}{{ raise_exception('no b') }}{% endif %}\
         {{ m.content }}{% endfor %}"
            .to_owned(),
    );
    Arc::new(Tokenizer::from_spec(spec).unwrap())
}

fn member(seed: u64, large: bool, mood: Mood) -> Member {
    let tokenizer = tokenizer(large);
    let model = Toy { seed, logits: tokenizer.len(), mood };
    Member::new(format!("toy-{seed}"), Arc::new(model), tokenizer, 0.5)
}

fn ensemble(mood: Mood) -> Arc<Ensemble> {
    Arc::new(Ensemble::new(vec![member(1, false, Mood::Well), member(2, true, mood)]))
}

/// Two toys of different vocabularies, of which the second has longer pieces.
pub(crate) fn two_members() -> Vec<Member> {
    vec![member(1, false, Mood::Well), member(2, true, Mood::Well)]
}

pub(crate) fn engine(config: EngineConfig) -> Engine {
    let models = [("duo", Mood::Well), ("fails", Mood::Fails), ("panics", Mood::Panics)];
    let mut models: Vec<_> = models.map(|(name, mood)| (name.to_owned(), ensemble(mood))).into();
    let settings = Settings { on_failure: OnFailure::Continue, ..Settings::default() };
    let goes_on = Arc::into_inner(ensemble(Mood::Panics)).unwrap().with_settings(&settings);
    models.push(("goes on".to_owned(), Arc::new(goes_on)));
    Engine::start(models, config).unwrap()
}

fn say(content: &str) -> Prompt {
    Prompt::chat(vec![Message::new(Role::User, content)])
}

pub(crate) fn request(seed: u64) -> GenerateRequest {
    GenerateRequest {
        sampling: SamplingParams { seed, ..SamplingParams::default() },
        stop: StopConditions { max_tokens: Some(60), ..StopConditions::default() },
        ..GenerateRequest::new("duo", say("ab a"))
    }
}

#[derive(Debug, PartialEq)]
struct Said {
    text: String,
    end: Result<(FinishReason, Usage), GenerateError>,
    /// Members that were lost on the way.
    warned: Vec<String>,
}

async fn listen(mut generation: Generation) -> Said {
    let mut text = String::new();
    let (mut tokens_told, mut warned) = (0, Vec::new());
    while let Some(event) = generation.next().await {
        match event {
            Event::Started { prompt_tokens } => assert!(prompt_tokens > 0 && text.is_empty()),
            Event::Prompt { .. } => assert!(text.is_empty()),
            Event::Text { text: more, tokens, .. } => {
                assert!(!more.is_empty());
                text += &more;
                tokens_told += tokens;
            }
            Event::Finished { reason, usage } => {
                assert!(tokens_told <= usage.completion_tokens);
                assert!(usage.cached_tokens.is_some_and(|cached| cached < usage.prompt_tokens));
                // All else is the same whatever else was asked.
                let usage = Usage { cached_tokens: None, ..usage };
                assert!(generation.next().await.is_none(), "the end is the last event");
                return Said { text, end: Ok((reason, usage)), warned };
            }
            Event::Warning { member, .. } => warned.push(member),
            Event::Failed(error) => return Said { text, end: Err(error), warned },
        }
    }
    panic!("a generation ends with an event, after {text:?}");
}

async fn ask(engine: &Engine, request: GenerateRequest) -> Said {
    let generation = engine.generate(request).unwrap();
    tokio::time::timeout(Duration::from_secs(20), listen(generation)).await.unwrap()
}

/// A request whose reader reads nothing, so that it keeps its place; it has begun.
async fn hog(engine: &Engine) -> Generation {
    let mut endless = request(0);
    endless.stop.max_tokens = None;
    let mut generation = engine.generate(endless).unwrap();
    generation.next().await.unwrap();
    generation
}

#[tokio::test]
async fn many_requests_at_once_say_what_each_says_alone() {
    let engine = engine(EngineConfig { max_sequences: 5, prefill_chunk: 2, ..Default::default() });
    let mut alone = Vec::new();
    for seed in 0..12 {
        alone.push(ask(&engine, request(seed)).await);
    }
    let together = (0..12).map(|seed| ask(&engine, request(seed)));
    assert_eq!(futures::future::join_all(together).await, alone);
    assert!(alone.iter().any(|said| said.text.contains('é')), "a character of two pieces");
    assert!(alone.iter().any(|said| said.text != alone[0].text));
}

#[tokio::test]
async fn max_tokens_is_the_number_of_fused_steps() {
    let engine = engine(EngineConfig::default());
    let mut short = request(3);
    short.stop.max_tokens = Some(4);
    let said = ask(&engine, short).await;
    let (reason, usage) = said.end.unwrap();
    let Usage { prompt_tokens, completion_tokens, gated, agreement, .. } = usage;
    assert_eq!((reason, prompt_tokens), (FinishReason::Length, 4));
    assert_eq!((completion_tokens, gated, agreement.steps), (4, None, 4));
}

#[tokio::test]
async fn the_end_of_the_context_ends_the_text() {
    let engine = engine(EngineConfig::default());
    for seed in 0..40 {
        let mut endless = request(seed);
        endless.stop.max_tokens = None;
        let said = ask(&engine, endless).await;
        let (reason, usage) = said.end.unwrap();
        if reason == FinishReason::Length {
            // A step more than what the member that splits finest can still read.
            assert_eq!(usage.completion_tokens.min(CONTEXT - 4 + 1), usage.completion_tokens);
            return;
        }
    }
    panic!("no text came to the end of the context");
}

#[tokio::test]
async fn stop_strings_end_the_text_and_are_no_part_of_it() {
    let engine = engine(EngineConfig::default());
    let mut stopped = 0;
    for seed in 0..20 {
        let whole = ask(&engine, request(seed)).await.text;
        for stop in ["ca", "é", "aab"] {
            let mut with_stop = request(seed);
            with_stop.stop.strings = vec![stop.to_owned(), "never".to_owned()];
            let said = ask(&engine, with_stop).await;
            match whole.find(stop) {
                Some(at) => {
                    assert_eq!(said.text, whole[..at], "{stop} in {whole}");
                    assert_eq!(said.end.unwrap().0, FinishReason::Stop);
                    stopped += 1;
                }
                None => assert_eq!(said.text, whole),
            }
        }
    }
    assert!(stopped > 10, "{stopped}");
}

/// The tokens of a prompt, and how many of them were not read.
async fn cached(engine: &Engine, prompt: Prompt, members: &[&str]) -> (usize, usize) {
    let mut short = request(1);
    short.prompt = prompt;
    short.stop.max_tokens = Some(1);
    short.fusion.members = Some(members.iter().map(|&name| name.to_owned()).collect());
    let mut generation = engine.generate(short).unwrap();
    while let Some(event) = generation.next().await {
        if let Event::Finished { usage, .. } = event {
            return (usage.prompt_tokens, usage.cached_tokens.unwrap());
        }
    }
    panic!("a generation ends");
}

#[tokio::test]
async fn what_another_text_had_read_of_a_prompt_is_told_as_cached() {
    let engine = engine(EngineConfig::default());
    let (both, begins) = (["toy-1", "toy-2"], "ab".repeat(20));
    assert_eq!(cached(&engine, say(&begins), &both).await, (40, 0));
    assert_eq!(cached(&engine, say(&begins), &both).await, (40, 39), "all but the last is kept");
    let on = begins.clone() + "cc";
    assert_eq!(cached(&engine, say(&on), &both).await, (42, 40));
    assert_eq!(cached(&engine, say(&begins), &["toy-2"]).await, (20, 19), "in its own tokens");
    assert_eq!(cached(&engine, say(&on.replace('a', "c")), &both).await, (42, 0));
    assert_eq!(cached(&engine, say("ab"), &both).await, (2, 0));
}

#[tokio::test]
async fn a_member_that_fails_or_panics_ends_its_requests_and_the_engine_goes_on() {
    let engine = engine(EngineConfig::default());
    for model in ["fails", "panics"] {
        let mut failing = request(5);
        failing.model = model.to_owned();
        failing.prompt = say("ac");
        let said = ask(&engine, failing).await;
        let Err(GenerateError::Member { member, .. }) = said.end else { panic!("{said:?}") };
        assert_eq!(member, "toy-2");
        ask(&engine, request(1)).await.end.unwrap();
    }
}

#[tokio::test]
async fn a_request_goes_on_without_a_member_that_panics_if_it_may() {
    let engine = engine(EngineConfig::default());
    let mut losing = request(5);
    losing.model = "goes on".to_owned();
    losing.prompt = say("ac");
    let mut without = losing.clone();
    without.fusion.members = Some(vec!["toy-1".to_owned()]);
    let (lost, without) = (ask(&engine, losing).await, ask(&engine, without).await);
    assert_eq!(lost.warned, ["toy-2"]);
    assert!(lost.end.is_ok() && without.warned.is_empty());
    // Lost while it read the prompt, it has said nothing.
    assert_eq!(lost.text, without.text);
    ask(&engine, request(1)).await.end.unwrap();
}

#[tokio::test]
async fn the_gate_of_a_request_is_counted() {
    let engine = engine(EngineConfig::default());
    let gated = |gate| {
        let mut gated = request(5);
        gated.fusion.gate = gate;
        gated
    };
    let rate = |said: &Said| said.end.as_ref().unwrap().1.gate_rate();
    let [none, off, half, always] = [None, Some(2.0), Some(0.3), Some(0.0)].map(gated);
    let none = ask(&engine, none).await;
    assert_eq!(rate(&none), None);
    assert_eq!(ask(&engine, off).await, none);
    let half = rate(&ask(&engine, half).await).unwrap();
    assert!(0.0 < half && half < 1.0, "{half}");
    assert_eq!(rate(&ask(&engine, always).await), Some(1.0));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_at_once() {
    let engine = engine(EngineConfig::default());
    let refused = |change: &dyn Fn(&mut GenerateRequest)| {
        let mut wrong = request(0);
        change(&mut wrong);
        engine.generate(wrong).unwrap_err()
    };
    let unknown = refused(&|wrong| wrong.model = "solo".to_owned());
    assert!(unknown.to_string().contains("duo, fails, panics, goes on"), "{unknown}");
    let template = refused(&|wrong| wrong.prompt = say("b"));
    assert!(matches!(template, GenerateError::Template { .. }), "{template}");
    assert!(template.to_string().contains("no b"), "{template}");
    for prompt in [say(""), Prompt::Text(String::new())] {
        let empty = refused(&|wrong| wrong.prompt = prompt.clone());
        assert!(matches!(empty, GenerateError::Prompt { .. }), "{empty}");
        assert!(empty.to_string().contains("the prompt is empty"), "{empty}");
    }
    let long = refused(&|wrong| wrong.prompt = say(&"abc".repeat(150)));
    let member = "toy-1".to_owned();
    let (prompt_tokens, context_length) = (450, CONTEXT);
    assert_eq!(long, GenerateError::PromptTooLong { member, prompt_tokens, context_length });
    let stranger = refused(&|wrong| wrong.fusion.members = Some(vec!["solo".to_owned()]));
    assert!(matches!(stranger, GenerateError::Fusion { .. }), "{stranger}");
    assert!(stranger.to_string().contains("there are: toy-1, toy-2"), "{stranger}");
    let schema = Constraint::JsonSchema(serde_json::json!({"type": "strang"}));
    let constraint = refused(&|wrong| wrong.constraint = Some(schema.clone()));
    assert!(matches!(constraint, GenerateError::Constraint { .. }), "{constraint}");
}

#[tokio::test]
async fn an_engine_that_is_dropped_ends_every_stream() {
    let engine = engine(EngineConfig { max_sequences: 1, ..Default::default() });
    let mut endless = request(0);
    endless.stop.max_tokens = None;
    let running = engine.generate(endless).unwrap();
    let waiting = engine.generate(request(1)).unwrap();
    drop(engine);
    let ends = futures::future::join(listen(running), listen(waiting)).await;
    // The first may have come to its end before the engine was dropped.
    assert!(ends.0.end.is_ok() || ends.0.end == Err(GenerateError::Stopped));
    assert!(ends.1.end.is_ok() || ends.1.end == Err(GenerateError::Stopped));
}

#[tokio::test]
async fn what_an_engine_did_is_counted_by_model_and_member() {
    let engine = engine(EngineConfig { max_sequences: 1, ..EngineConfig::default() });
    let mut lost = 0;
    for seed in 0..8 {
        ask(&engine, request(seed)).await;
        let goes_on = GenerateRequest { model: "goes on".to_owned(), ..request(seed) };
        lost += ask(&engine, goes_on).await.warned.len() as u64;
    }
    let running = hog(&engine).await;
    let waiting = engine.generate(request(1)).unwrap();
    let counters = engine.counters();
    assert_eq!((counters.running, counters.waiting), (1, 1));
    let names: Vec<&str> = counters.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["duo", "fails", "panics", "goes on"]);
    let members = &counters.models[0].members;
    assert_eq!([members[0].name.as_str(), members[1].name.as_str()], ["toy-1", "toy-2"]);
    assert!(members.iter().all(|member| !member.forward.is_zero()));
    assert_eq!(members[0].rolled_back, 0, "single letters never change");
    assert!(members[1].rolled_back > 0, "joined ones do");
    assert!(counters.models[1].members.iter().all(|member| member.forward.is_zero()));
    let failures = |member: usize| counters.models[3].members[member].failures;
    assert!(lost > 0 && (failures(0), failures(1)) == (0, lost), "{lost}");
    assert!(counters.models[0].agreement.rate().is_some_and(|rate| rate < 1.0));
    drop((running, waiting));
}
