//! Models on candle's devices, of which every machine has the CPU one, against the decoder.

use std::num::NonZeroUsize;

use candle_core::quantized::GgmlDType;
use tutti::{
    gguf::Gguf,
    model::{Decoder, Device, DeviceError, KvCache, LanguageModel, ModelError, Pool, Row, Want},
    tokenizer::Tokenizer,
    vocab::TokenId,
};

use crate::{
    model::{forward, in_a_batch, tokens},
    real,
    tiny::{LLAMA, QWEN2, Shape, Tiny},
};

fn decoder(gguf: &Gguf) -> Decoder {
    Decoder::from_gguf(gguf, &Pool::new(NonZeroUsize::new(2).unwrap())).unwrap()
}

fn on_candle(gguf: &Gguf) -> std::sync::Arc<dyn LanguageModel> {
    Device::Candle(candle_core::Device::Cpu).place(decoder(gguf)).unwrap()
}

/// The largest difference, and the mean one, relative to the spread of the logits.
fn apart(a: &[f32], b: &[f32]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let count = a.len() as f64;
    let mean = a.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let spread = (a.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count).sqrt();
    let differences = || a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()) / spread);
    (differences().fold(0.0, f64::max), differences().sum::<f64>() / count)
}

fn assert_alike(gguf: &Gguf, count: usize, (largest, mean): (f64, f64)) {
    let (own, other) = (decoder(gguf), on_candle(gguf));
    assert_eq!(own.vocab_size(), other.vocab_size());
    assert_eq!(own.context_length(), other.context_length());
    let text = tokens(count, 1, own.vocab_size());
    let expected = forward(&own, &mut own.new_cache(), &text, Want::All);
    let found = forward(&*other, &mut other.new_cache(), &text, Want::All);
    let found = apart(&expected, &found);
    assert!(found.0 < largest && found.1 < mean, "{found:?}");
}

#[test]
fn plain_weights_give_the_decoders_logits_up_to_16_bit_keys() {
    let dtypes = &[GgmlDType::F32, GgmlDType::BF16, GgmlDType::F16];
    for shape in [Shape { dtypes, ..LLAMA }, Shape { dtypes, ..QWEN2 }] {
        assert_alike(&Tiny::new(&shape).write().1, 70, (0.01, 0.001));
    }
}

#[test]
fn heads_are_normalised_as_the_decoder_does() {
    let dtypes = &[GgmlDType::F32];
    let mut tiny = Tiny::new(&Shape { architecture: "qwen3", dtypes, ..QWEN2 });
    let wave = |from: f32| (0..64).map(|i| 1.0 + (from + i as f32).sin() / 2.0).collect();
    for layer in 0..2 {
        for (part, from) in [("q", 0.0), ("k", 1.0)] {
            let values: Vec<f32> = wave(from);
            tiny.add(&format!("blk.{layer}.attn_{part}_norm.weight"), &values);
        }
    }
    assert_alike(&tiny.write().1, 40, (0.01, 0.001));
}

/// Both round activations, in blocks of other sizes: on random weights that adds up.
#[test]
fn quantized_weights_give_the_decoders_logits_up_to_8_bit_activations() {
    // Candle's CPU kernels need an even number of blocks.
    let llama = Shape { width: 192, hidden: 320, ..LLAMA };
    for shape in [llama, QWEN2] {
        assert_alike(&Tiny::new(&shape).write().1, 70, (0.3, 0.05));
    }
}

#[test]
fn smollm2_gives_the_decoders_logits_up_to_8_bit_activations() {
    let gguf = Gguf::open(&real::smollm2()).unwrap();
    let text = b"A duet is a piece of music for two. Both read the same page, and each listens to \
        what the other one plays; the parts may cross, but they end together.";
    let text = Tokenizer::from_gguf(&gguf).unwrap().encode(text);
    let (own, other) = (decoder(&gguf), on_candle(&gguf));
    let expected = forward(&own, &mut own.new_cache(), &text, Want::All);
    let found = forward(&*other, &mut other.new_cache(), &text, Want::All);
    let (largest, mean) = apart(&expected, &found);
    // Found: 0.25 and 0.030. Candle rounds as we do, but elsewhere.
    assert!(largest < 0.4 && mean < 0.045, "{largest} {mean}");
    let likeliest = |logits: &[f32]| -> Vec<usize> {
        let most = |logits: &[f32]| {
            (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap()
        };
        logits.chunks(own.vocab_size()).map(most).collect()
    };
    let pairs = likeliest(&expected).into_iter().zip(likeliest(&found));
    let same = pairs.filter(|(a, b)| a == b).count();
    assert!(same * 10 >= text.len() * 9, "{same} of {}", text.len());
}

#[test]
fn calls_batches_copies_and_rollbacks_matter_to_rounding_only() {
    let dtypes = &[GgmlDType::F32];
    for shape in [Shape { dtypes, ..LLAMA }, Shape { dtypes, ..QWEN2 }] {
        let (_file, gguf) = Tiny::new(&shape).write();
        let model = &*on_candle(&gguf);
        let vocab = model.vocab_size();
        let text = tokens(137, 1, vocab);
        let whole = forward(model, &mut model.new_cache(), &text, Want::All);
        let last = &whole[136 * vocab..];
        let assert_same = |found: &[f32], expected: &[f32], what: &str| {
            let (largest, _) = apart(expected, found);
            assert!(largest < 1e-4, "{what}: {largest}");
        };

        for chunk in [1, 7, 30] {
            let mut cache = model.new_cache();
            let chunks: Vec<f32> = text
                .chunks(chunk)
                .flat_map(|chunk| forward(model, &mut cache, chunk, Want::All))
                .collect();
            assert_same(&chunks, &whole, "in chunks");
            assert_eq!(cache.tokens(), text);
        }

        let mut cache = model.new_cache();
        assert!(forward(model, &mut cache, &text[..68], Want::Nothing).is_empty());
        let mut begun = cache.beginning(50).unwrap();
        forward(model, &mut cache, &tokens(45, 5, vocab), Want::Nothing);
        let mut copy = cache.clone();
        for (cache, held) in [(&mut cache, 68), (&mut begun, 50), (&mut copy, 68)] {
            let rest = cache.sync(&text);
            assert_eq!(rest, &text[held..]);
            assert_same(&forward(model, cache, rest, Want::Last), last, "after a rollback");
        }

        let logits = in_a_batch(model, &text);
        assert_same(&logits[1], last, "in a batch");
        assert_same(&logits[3], &whole, "in a batch");
        assert_eq!((logits[0].len(), logits[2].len()), (3 * vocab, 0));
    }
}

#[test]
fn a_bad_row_is_refused_before_any_cache_is_touched() {
    let dtypes = &[GgmlDType::F32];
    let (_file, gguf) = Tiny::new(&Shape { dtypes, ..LLAMA }).write();
    let (own, model) = (decoder(&gguf), on_candle(&gguf));
    let refused = |model: &dyn LanguageModel, cache: &mut KvCache, tokens: &[TokenId]| {
        let mut good = model.new_cache();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let one = [TokenId(1)];
        let result = model.forward(&mut [
            Row { cache: &mut good, tokens: &one, want: Want::Last, logits: &mut first },
            Row { cache, tokens, want: Want::Last, logits: &mut second },
        ]);
        assert!(good.tokens().is_empty());
        result.unwrap_err()
    };
    let text = tokens(301, 1, 77);
    let error = refused(&*model, &mut model.new_cache(), &text);
    assert!(matches!(error, ModelError::ContextFull { capacity: 300, wanted: 301 }), "{error}");
    let error = refused(&*model, &mut model.new_cache(), &[TokenId(77)]);
    assert!(matches!(error, ModelError::TokenOutOfRange { token: 77, vocab_size: 77 }), "{error}");
    // Either kind of model has caches of its own.
    let error = refused(&*model, &mut own.new_cache(), &text[..2]);
    assert!(matches!(error, ModelError::ForeignCache { .. }), "{error}");
    let error = refused(&own, &mut model.new_cache(), &text[..2]);
    assert!(matches!(error, ModelError::ForeignCache { .. }), "{error}");
    forward(&*model, &mut model.new_cache(), &text[..300], Want::Last);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda_says_how_to_get_it() {
    let error = Device::cuda(0).unwrap_err();
    assert!(matches!(error, DeviceError::NotBuilt { feature: "cuda", .. }), "{error}");
    assert!(error.to_string().contains("cargo build --release --features cuda"), "{error}");
}

#[cfg(not(feature = "metal"))]
#[test]
fn a_build_without_metal_says_how_to_get_it() {
    let error = Device::metal().unwrap_err();
    assert!(error.to_string().contains("cargo build --release --features metal"), "{error}");
}
