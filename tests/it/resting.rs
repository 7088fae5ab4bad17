//! Models that are loaded when they are first asked for and given back when they are idle, and memory
//! that is limited.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tutti::{
    engine::{
        Engine, EngineConfig, Event, Generate, GenerateError, GenerateRequest, Generation, Prompt,
        StopConditions,
    },
    ensemble::{Ensemble, LoadedModel, Member, Wanted, load_models},
    model::{Device, Lazy, Loader, ModelError, Pool},
    server::{ServerConfig, router},
};

use crate::folder;

/// The tiny model of a folder, whose loading is counted, and waits until it may.
struct Counted {
    loads: Arc<AtomicUsize>,
    may: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
    ensemble: Arc<Ensemble>,
    /// Of the same lazy model.
    second: Arc<Ensemble>,
    other: Arc<Ensemble>,
}

fn loaded(limit: Option<u64>) -> Result<LoadedModel, String> {
    let folder = folder::folder();
    let wanted: Wanted = folder.path().to_owned().into();
    let pool = Pool::new(NonZeroUsize::MIN);
    let wanted = BTreeMap::from([("tiny".to_owned(), wanted)]);
    let models = load_models(wanted, &pool, &Device::default(), limit);
    models.map_err(|error| error.to_string()).map(|mut models| models.remove("tiny").unwrap())
}

fn counted(idle: Option<Duration>) -> Counted {
    let LoadedModel { model, tokenizer, .. } = loaded(None).unwrap();
    let (loads, may) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let fails = Arc::new(AtomicBool::new(false));
    let (count, open, broken, own) = (loads.clone(), may.clone(), fails.clone(), model.clone());
    let loader: Loader = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        while !open.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        match broken.load(Ordering::SeqCst) {
            true => Err(ModelError::NotLoaded { reason: "the disk is gone".to_owned() }),
            false => Ok(own.clone()),
        }
    });
    let lazy = Arc::new(Lazy::new(&*model, idle, loader));
    let member = |name: &str| Member::new(name.to_owned(), lazy.clone(), tokenizer.clone(), 1.0);
    let ensemble = Arc::new(Ensemble::new(vec![member("a"), member("b")]));
    let second = Arc::new(Ensemble::new(vec![member("a")]));
    let plain = Member::new("plain".to_owned(), model, tokenizer.clone(), 1.0);
    let other = Arc::new(Ensemble::new(vec![plain]));
    Counted { loads, may, fails, ensemble, second, other }
}

fn engine(counted: &Counted) -> Engine {
    let Counted { ensemble, second, other, .. } = counted;
    let models = [("lazy", ensemble), ("plain", other), ("second", second)];
    let models = models.map(|(name, ensemble)| (name.to_owned(), ensemble.clone()));
    let config = EngineConfig { max_sequences: 2, ..EngineConfig::default() };
    Engine::start(models.into(), config).unwrap()
}

fn ask(engine: &Engine, model: &str) -> Generation {
    ask_for(engine, model, 5)
}

fn ask_for(engine: &Engine, model: &str, pieces: usize) -> Generation {
    let stop = StopConditions { max_tokens: Some(pieces), ignore_end: true, ..Default::default() };
    let request = GenerateRequest {
        stop,
        ..GenerateRequest::new(model, Prompt::Text("hello there".to_owned()))
    };
    engine.generate(request).unwrap()
}

async fn text(mut generation: Generation) -> Result<String, GenerateError> {
    let mut whole = String::new();
    while let Some(event) = generation.next().await {
        match event {
            Event::Text { text, .. } => whole += &text,
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
    Ok(whole)
}

fn is_loaded(engine: &Engine) -> bool {
    engine.models()[0].loaded
}

#[tokio::test]
async fn a_lazy_model_is_loaded_once_at_the_first_request_and_others_do_not_wait() {
    let counted = counted(None);
    counted.may.store(false, Ordering::SeqCst);
    let engine = engine(&counted);
    assert!(!is_loaded(&engine) && engine.models()[1].loaded);
    // More than there are places for.
    let waiting: Vec<Generation> = (0..4).map(|_| ask(&engine, "lazy")).collect();
    let expected = text(ask(&engine, "plain")).await.unwrap();
    assert!(!is_loaded(&engine));
    counted.may.store(true, Ordering::SeqCst);
    for generation in waiting {
        assert_eq!(text(generation).await.unwrap(), expected, "two copies are the model");
    }
    assert_eq!(counted.loads.load(Ordering::SeqCst), 1);
    assert!(is_loaded(&engine));
}

#[tokio::test]
async fn a_stream_has_comments_while_its_model_is_loaded() {
    let counted = counted(None);
    counted.may.store(false, Ordering::SeqCst);
    let config = ServerConfig { keep_alive: Duration::from_millis(20), ..ServerConfig::default() };
    let app = router(Arc::new(engine(&counted)), config);
    let body = r#"{ "model": "lazy", "prompt": "hello there", "max_tokens": 5, "stream": true }"#;
    let request = Request::post("/v1/completions").header("content-type", "application/json");
    let mut stream = app.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let mut told = String::new();
    while told.matches(": keep-alive\n\n").count() < 3 {
        let data = stream.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        told += std::str::from_utf8(&data).unwrap();
    }
    assert!(!told.contains("data:") && counted.loads.load(Ordering::SeqCst) == 1, "{told}");
    counted.may.store(true, Ordering::SeqCst);
    let rest = stream.into_body().collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"), "{rest:?}");
}

#[tokio::test]
async fn an_idle_model_is_given_back_and_loaded_again_when_it_is_asked_for() {
    let counted = counted(Some(Duration::from_millis(50)));
    let engine = engine(&counted);
    let first = text(ask(&engine, "lazy")).await.unwrap();
    for _ in 0..200 {
        if !is_loaded(&engine) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!is_loaded(&engine), "idle for seconds");
    assert_eq!(text(ask(&engine, "lazy")).await.unwrap(), first);
    assert_eq!(counted.loads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn two_ensembles_on_one_lazy_model_load_it_once() {
    let counted = counted(None);
    counted.may.store(false, Ordering::SeqCst);
    let engine = engine(&counted);
    let [first, second] = ["lazy", "second"].map(|name| ask(&engine, name));
    let expected = text(ask(&engine, "plain")).await.unwrap();
    counted.may.store(true, Ordering::SeqCst);
    assert_eq!(text(first).await.unwrap(), expected);
    assert_eq!(text(second).await.unwrap(), expected);
    assert_eq!(counted.loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_model_that_one_ensemble_still_writes_with_is_not_given_back_for_another() {
    let idle = Duration::from_millis(50);
    let counted = counted(Some(idle));
    let engine = engine(&counted);
    // Nobody reads it: it stops in the middle, for longer than the model may idle.
    let unread = ask_for(&engine, "second", 150);
    text(ask(&engine, "lazy")).await.unwrap();
    tokio::time::sleep(12 * idle).await;
    assert!(is_loaded(&engine));
    let expected = text(ask_for(&engine, "plain", 150)).await.unwrap();
    assert_eq!(text(unread).await.unwrap(), expected);
    assert_eq!(counted.loads.load(Ordering::SeqCst), 1);
    for _ in 0..200 {
        if !is_loaded(&engine) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!is_loaded(&engine), "nobody uses it");
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_fails_its_request_and_is_tried_again() {
    let counted = counted(None);
    counted.fails.store(true, Ordering::SeqCst);
    let engine = engine(&counted);
    let error = text(ask(&engine, "lazy")).await.unwrap_err().to_string();
    assert!(error.contains("the disk is gone"), "{error}");
    counted.fails.store(false, Ordering::SeqCst);
    text(ask(&engine, "lazy")).await.unwrap();
}

#[tokio::test]
async fn a_text_that_needs_more_than_the_limit_ends_with_an_error_and_the_next_is_written() {
    let needed = loaded(None).unwrap().weight_bytes + 256 * 128;
    assert!(loaded(Some(needed - 1)).is_err(), "not even one context fits");
    let LoadedModel { model, tokenizer, .. } = loaded(Some(needed)).unwrap();
    let member = Member::new("tiny".to_owned(), model, tokenizer, 1.0);
    let ensemble = Arc::new(Ensemble::new(vec![member]));
    let engine =
        Engine::start(vec![("tiny".to_owned(), ensemble)], EngineConfig::default()).unwrap();
    let long = |letter: &str| {
        let request = GenerateRequest {
            stop: StopConditions { max_tokens: Some(3), ..StopConditions::default() },
            ..GenerateRequest::new("tiny", Prompt::Text(letter.repeat(200)))
        };
        engine.generate(request).unwrap()
    };
    // Each alone fits; several at once do not.
    let together: Vec<Generation> = ["a", "b", "c", "d"].into_iter().map(long).collect();
    let mut refused = 0;
    for generation in together {
        if let Err(error) = text(generation).await {
            assert!(error.to_string().contains("memory_limit_mb"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 0);
    text(ask(&engine, "tiny")).await.unwrap();
}
