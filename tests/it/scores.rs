//! Penalties, log-probabilities, raw prompts and limits, on toy models.

use tutti::{
    engine::{
        Engine, EngineConfig, Event, FinishReason, Generate, GenerateError, GenerateRequest,
        Generation, Logprobs, Piece, Prompt, ScoredPiece, StopConditions, UnionId,
    },
    sampling::{Penalties, SamplingParams},
};

use crate::engine::{engine, request};

struct Heard {
    text: String,
    prompt: Vec<ScoredPiece>,
    pieces: Vec<ScoredPiece>,
    reason: FinishReason,
    tokens: usize,
}

async fn listen(mut generation: Generation) -> Heard {
    let (mut text, mut prompt, mut told) = (String::new(), Vec::new(), Vec::new());
    while let Some(event) = generation.next().await {
        match event {
            Event::Started { .. } | Event::Warning { .. } => {}
            Event::Prompt { pieces } => prompt = pieces,
            Event::Text { text: more, pieces, .. } => {
                text += &more;
                told.extend(pieces);
            }
            Event::Finished { reason, usage } => {
                let tokens = usage.completion_tokens;
                return Heard { text, prompt, pieces: told, reason, tokens };
            }
            Event::Failed(error) => panic!("{error}"),
        }
    }
    panic!("a generation ends with an event");
}

async fn ask(engine: &Engine, request: GenerateRequest) -> Heard {
    listen(engine.generate(request).unwrap()).await
}

fn told(top: usize) -> Option<Logprobs> {
    Some(Logprobs { top, members: true, ..Logprobs::default() })
}

fn bytes(pieces: &[ScoredPiece]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.bytes.clone()).collect()
}

fn piece(engine: &Engine, text: &str) -> UnionId {
    engine.union("duo").unwrap().id(&Piece::Bytes(text.as_bytes().to_vec())).unwrap()
}

#[tokio::test]
async fn pieces_spell_the_text_and_are_scored_the_same_alone_and_among_others() {
    let engine = engine(EngineConfig { max_sequences: 6, prefill_chunk: 2, ..Default::default() });
    let scored = |seed: u64| {
        let stop = StopConditions {
            max_tokens: Some(40),
            strings: vec!["ca".into()],
            ..Default::default()
        };
        GenerateRequest { logprobs: told(3), stop, ..request(seed) }
    };
    let mut alone = Vec::new();
    for seed in 0..12 {
        alone.push(ask(&engine, scored(seed)).await);
    }
    let together = futures::future::join_all((0..12).map(|seed| ask(&engine, scored(seed)))).await;
    for (seed, (a, b)) in (0..).zip(alone.iter().zip(&together)) {
        assert_eq!((&a.text, &a.pieces), (&b.text, &b.pieces));
        // Toys write bytes that are no character too.
        assert_eq!(String::from_utf8_lossy(&bytes(&a.pieces)), a.text);
        let mut plain = scored(seed);
        plain.logprobs = None;
        assert_eq!(ask(&engine, plain).await.text, a.text, "telling changes nothing");
        for piece in &a.pieces {
            let score = &piece.score;
            assert!(score.logprob.unwrap() <= 0.0 && score.top.len() == 3);
            assert!(score.top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob));
            if let Some(same) = score.top.iter().find(|other| other.id == piece.id) {
                assert_eq!(Some(same.logprob), score.logprob);
            }
            // The mean of what the members gave is the fused probability.
            let mean: f32 =
                score.members.iter().map(|vote| vote.weight * vote.probability.unwrap()).sum();
            assert!((mean.ln() - score.logprob.unwrap()).abs() < 1e-4, "{piece:?}");
        }
    }
    assert!(alone.iter().any(|heard| heard.reason == FinishReason::Stop));
}

#[tokio::test]
async fn every_step_of_a_text_is_told_and_its_end_as_well() {
    let engine = engine(EngineConfig::default());
    let end = engine.union("duo").unwrap().end();
    let (mut ended, mut cut) = (0, 0);
    for seed in 0..40 {
        // One token, or many: a client that asks for one to score a prompt relies on it.
        let stop = StopConditions {
            max_tokens: Some(1 + usize::try_from(seed).unwrap()),
            ..Default::default()
        };
        let mut scored = GenerateRequest { logprobs: told(1), stop, ..request(seed) };
        scored.penalties.bias = vec![(end, 5.0)];
        let heard = ask(&engine, scored).await;
        assert_eq!(heard.pieces.len(), heard.tokens, "{}", heard.text);
        let is_end = heard.pieces.last().is_some_and(|piece| piece.id == end);
        assert_eq!(is_end, heard.reason == FinishReason::Stop);
        assert!(heard.pieces.iter().all(|piece| piece.score.logprob.is_some()));
        ended += usize::from(is_end);
        cut += usize::from(!is_end);
    }
    assert!(ended > 0 && cut > 0, "{ended} ended, {cut} were cut");
}

#[tokio::test]
async fn a_scored_prompt_gets_the_scores_that_generating_it_gave() {
    let engine = engine(EngineConfig::default());
    let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let begin = vec![piece(&engine, "c"), piece(&engine, "a")];
    let mut writing = GenerateRequest::new("duo", Prompt::Tokens(begin.clone()));
    writing.sampling = greedy.clone();
    writing.stop.max_tokens = Some(20);
    writing.logprobs =
        Some(Logprobs { top: 2, members: true, prompt: Some(0), ..Logprobs::default() });
    let written = ask(&engine, writing.clone()).await;
    assert_eq!(bytes(&written.prompt), b"ca");
    assert_eq!(written.prompt[0].score.logprob, None);
    assert!(written.prompt[1].score.logprob.is_some());

    let whole: Vec<UnionId> =
        begin.into_iter().chain(written.pieces.iter().map(|piece| piece.id)).collect();
    let mut reading = writing;
    reading.prompt = Prompt::Tokens(whole);
    reading.stop.max_tokens = Some(0);
    let read = ask(&engine, reading.clone()).await;
    assert_eq!((read.text.as_str(), read.reason, read.tokens), ("", FinishReason::Length, 0));
    assert_eq!(read.prompt[2..], written.pieces);
    // Only the end of it: the pieces that end after a byte.
    let from = bytes(&read.prompt[..9]).len();
    let mut end = reading.clone();
    end.logprobs.as_mut().unwrap().prompt = Some(from);
    assert_eq!(ask(&engine, end.clone()).await.prompt, read.prompt[9..]);
    end.logprobs.as_mut().unwrap().prompt = Some(usize::MAX);
    assert_eq!(ask(&engine, end).await.prompt, []);
    let ids = engine.tokenize("duo", "abc é, ab").unwrap();
    assert_eq!(engine.detokenize("duo", &ids).unwrap(), "abc é, ab".as_bytes());
}

#[tokio::test]
async fn a_text_is_not_ended_before_its_least_or_at_all_if_the_end_is_ignored() {
    let engine = engine(EngineConfig::default());
    let ended = |heard: &Heard| heard.reason == FinishReason::Stop;
    let mut early = 0;
    for seed in 0..60 {
        let end = engine.union("duo").unwrap().end();
        let penalties = Penalties { bias: vec![(end, 3.0)], ..Default::default() };
        let request = |seed| GenerateRequest { penalties: penalties.clone(), ..request(seed) };
        let plain = ask(&engine, request(seed)).await;
        early += usize::from(ended(&plain) && plain.tokens <= 30);
        let mut least = request(seed);
        least.stop.min_tokens = 30;
        assert!(ask(&engine, least).await.tokens > 30);
        let mut endless = request(seed);
        endless.stop.ignore_end = true;
        let heard = ask(&engine, endless).await;
        assert_eq!((heard.reason, heard.tokens), (FinishReason::Length, 60));
    }
    assert!(early > 0, "some text must end by itself");
}

#[tokio::test]
async fn penalties_and_bias_count_union_pieces() {
    let engine = engine(EngineConfig::default());
    let with = |penalties: Penalties| GenerateRequest { penalties, ..request(4) };
    let a = piece(&engine, "a");
    let only_a = Penalties { bias: vec![(a, 100.0)], ..Default::default() };
    assert_eq!(ask(&engine, with(only_a)).await.text, "a".repeat(60));
    let no_a = Penalties { bias: vec![(a, -100.0)], ..Default::default() };
    let mut without = with(no_a);
    without.logprobs = told(0);
    assert!(ask(&engine, without).await.pieces.iter().all(|piece| piece.id != a));
    // Each piece of the union once, before any comes again.
    let once = Penalties { presence: 2000.0, ..Default::default() };
    let mut all = with(once);
    all.stop.ignore_end = true;
    all.stop.max_tokens = Some(engine.union("duo").unwrap().size() - 1);
    all.logprobs = told(0);
    let mut ids: Vec<UnionId> =
        ask(&engine, all).await.pieces.iter().map(|piece| piece.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() + 2 > engine.union("duo").unwrap().size() - 1, "{ids:?}");
    let unknown = Penalties { bias: vec![(UnionId(999), 1.0)], ..Default::default() };
    let refused = engine.generate(with(unknown)).unwrap_err();
    assert!(matches!(refused, GenerateError::UnknownBias { id: UnionId(999), .. }), "{refused}");
}

#[tokio::test]
async fn a_prompt_that_cannot_be_scored_or_read_is_refused() {
    let engine = engine(EngineConfig::default());
    let end = engine.union("duo").unwrap().end();
    let refused = |prompt: Prompt| {
        let mut wrong = GenerateRequest::new("duo", prompt);
        wrong.logprobs = Some(Logprobs { prompt: Some(0), ..Logprobs::default() });
        engine.generate(wrong).unwrap_err()
    };
    let a = piece(&engine, "a");
    let chat = refused(request(0).prompt);
    assert!(chat.to_string().contains("conversation"), "{chat}");
    let inside = refused(Prompt::Tokens(vec![a, end]));
    assert!(matches!(inside, GenerateError::Prompt { .. }), "{inside}");
    let unspellable = refused(Prompt::Text("z".to_owned()));
    assert!(unspellable.to_string().contains("0x7a"), "{unspellable}");
    let long = refused(Prompt::Text("c".repeat(500)));
    assert!(matches!(long, GenerateError::PromptTooLong { .. }), "{long}");
    // The end comes first: the first piece is then scored as the beginning of a text.
    let mut begun = GenerateRequest::new("duo", Prompt::Tokens(vec![end, a]));
    begun.logprobs = Some(Logprobs { prompt: Some(0), ..Logprobs::default() });
    begun.stop.max_tokens = Some(0);
    let heard = ask(&engine, begun).await;
    assert!(heard.prompt.len() == 1 && heard.prompt[0].score.logprob.is_some());
}
