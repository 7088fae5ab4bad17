//! Small models of random weights, written as GGUF files.

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file, gguf_file::Value},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;
use tempfile::NamedTempFile;
use tutti::gguf::Gguf;

/// What the file will say; tests change it before writing.
pub(crate) struct Tiny {
    pub(crate) metadata: Vec<(String, Value)>,
    pub(crate) tensors: Vec<(String, QTensor)>,
}

pub(crate) struct Shape {
    pub(crate) architecture: &'static str,
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) context: u32,
    pub(crate) vocab: usize,
    /// Taken in turn.
    pub(crate) dtypes: &'static [GgmlDType],
}

/// Odd numbers of everything, blocks of 32 and plain numbers.
pub(crate) const LLAMA: Shape = Shape {
    architecture: "llama",
    layers: 3,
    width: 96,
    hidden: 160,
    heads: 6,
    kv_heads: 2,
    context: 300,
    vocab: 77,
    dtypes: &[
        GgmlDType::Q4_0,
        GgmlDType::Q8_0,
        GgmlDType::F16,
        GgmlDType::Q5_0,
        GgmlDType::F32,
        GgmlDType::Q4_1,
        GgmlDType::Q5_1,
    ],
};

/// Blocks of 256, biases, one head for all queries.
pub(crate) const QWEN2: Shape = Shape {
    architecture: "qwen2",
    layers: 2,
    width: 256,
    hidden: 512,
    heads: 4,
    kv_heads: 1,
    context: 300,
    vocab: 301,
    dtypes: &[GgmlDType::Q4K, GgmlDType::Q6K, GgmlDType::Q5K, GgmlDType::BF16],
};

impl Tiny {
    pub(crate) fn new(shape: &Shape) -> Self {
        let Shape { architecture, layers, width, hidden, heads, kv_heads, .. } = *shape;
        let number = |value: usize| Value::U32(u32::try_from(value).unwrap());
        let metadata = [
            ("block_count", number(layers)),
            ("context_length", Value::U32(shape.context)),
            ("embedding_length", number(width)),
            ("feed_forward_length", number(hidden)),
            ("attention.head_count", number(heads)),
            ("attention.head_count_kv", number(kv_heads)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("rope.freq_base", Value::F32(10_000.0)),
        ];
        let mut tiny = Self {
            metadata: vec![(
                "general.architecture".to_owned(),
                Value::String(architecture.to_owned()),
            )],
            tensors: Vec::new(),
        };
        let named = metadata.map(|(key, value)| (format!("{architecture}.{key}"), value));
        tiny.metadata.extend(named);

        let kv_width = kv_heads * (width / heads);
        let mut random = Random { rng: Pcg32::seed_from_u64(7), dtypes: shape.dtypes, made: 0 };
        let mut add = |name: String, tensor: QTensor| tiny.tensors.push((name, tensor));
        add("token_embd.weight".to_owned(), random.matrix(shape.vocab, width));
        add("output_norm.weight".to_owned(), random.vector(width, 1.0));
        for layer in 0..layers {
            let mut add = |part: &str, tensor| add(format!("blk.{layer}.{part}"), tensor);
            add("attn_norm.weight", random.vector(width, 1.0));
            add("ffn_norm.weight", random.vector(width, 1.0));
            add("attn_q.weight", random.matrix(width, width));
            add("attn_k.weight", random.matrix(kv_width, width));
            add("attn_v.weight", random.matrix(kv_width, width));
            add("attn_output.weight", random.matrix(width, width));
            add("ffn_gate.weight", random.matrix(hidden, width));
            add("ffn_up.weight", random.matrix(hidden, width));
            add("ffn_down.weight", random.matrix(width, hidden));
            if architecture == "qwen2" {
                add("attn_q.bias", random.vector(width, 0.0));
                add("attn_k.bias", random.vector(kv_width, 0.0));
                add("attn_v.bias", random.vector(kv_width, 0.0));
            }
        }
        tiny
    }

    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.metadata.retain(|(name, _)| name != key);
        self.metadata.push((key.to_owned(), value));
    }

    pub(crate) fn add(&mut self, name: &str, values: &[f32]) {
        self.tensors.push((name.to_owned(), vector(values.to_vec())));
    }

    pub(crate) fn write(&self) -> (NamedTempFile, Gguf) {
        let mut file = NamedTempFile::new().unwrap();
        let metadata: Vec<(&str, &Value)> =
            self.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<(&str, &QTensor)> =
            self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut file, &metadata, &tensors).unwrap();
        let gguf = Gguf::open(file.path()).unwrap();
        (file, gguf)
    }
}

struct Random {
    rng: Pcg32,
    dtypes: &'static [GgmlDType],
    made: usize,
}

impl Random {
    fn matrix(&mut self, rows: usize, cols: usize) -> QTensor {
        let dtype = self.dtypes[self.made % self.dtypes.len()];
        self.made += 1;
        let scale = 2.0 / (cols as f32).sqrt();
        let values: Vec<f32> =
            (0..rows * cols).map(|_| scale * self.rng.random_range(-1.0..1.0)).collect();
        let tensor = Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap();
        QTensor::quantize(&tensor, dtype).unwrap()
    }

    fn vector(&mut self, length: usize, centre: f32) -> QTensor {
        let values: Vec<f32> =
            (0..length).map(|_| centre + self.rng.random_range(-0.3..0.3)).collect();
        vector(values)
    }
}

fn vector(values: Vec<f32>) -> QTensor {
    let length = values.len();
    let tensor = Tensor::from_vec(values, length, &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
}
