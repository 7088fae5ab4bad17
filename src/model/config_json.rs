//! A model's shape out of Hugging Face's `config.json`, and what of it cannot be run.
//!
//! Names, defaults and meaning: the configuration classes of the `transformers` library for Llama,
//! Mistral, Qwen2 and Qwen3. Every key that changes what these models compute is read or refused;
//! the file has many others, which are for training and for other libraries.

use std::{f64::consts::TAU, path::Path};

use serde_json::Value;

use super::{
    LoadError,
    config::{
        Biases, Config, Heads, RopePairs, frequencies, rope_base, rope_factor, size, unsupported,
    },
};

pub(super) fn read(path: &Path, json: &Value) -> Result<Config, LoadError> {
    let keys = Keys { path, json };
    let family = keys.family()?;
    keys.refuse_what_is_not_done(family)?;
    let heads = keys.positive("num_attention_heads")?;
    let width = keys.positive("hidden_size")?;
    let head_dim = keys.or("head_dim", family.head_dim.unwrap_or(width / heads))?;
    let kv_heads = keys.or("num_key_value_heads", family.kv_heads.unwrap_or(heads))?;
    let names = ("num_key_value_heads", "head_dim");
    Heads { heads, kv_heads: (names.0, kv_heads), head_dim: (names.1, head_dim) }.check(path)?;
    let divisors = keys.divisors(head_dim / 2)?;
    let attention_bias = keys.boolean("attention_bias")?.unwrap_or(false);
    Ok(Config {
        layers: keys.positive("num_hidden_layers")?,
        width,
        hidden: keys.positive("intermediate_size")?,
        heads,
        kv_heads,
        head_dim,
        context_length: keys.positive("max_position_embeddings")?,
        norm_eps: keys.float(json, "rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope_pairs: RopePairs::Halves,
        frequencies: frequencies(keys.rope_base()?, &divisors),
        biases: Biases {
            qkv: family.model_type == "qwen2" || family.may_have_biases && attention_bias,
            output: family.may_have_biases && attention_bias,
            feed_forward: family.model_type == "llama"
                && keys.boolean("mlp_bias")?.unwrap_or(false),
        },
        head_norms: family.model_type == "qwen3",
    })
}

/// `Some` if the file says whether the output matrix is the embedding.
pub(super) fn tied(json: &Value) -> Option<bool> {
    json["tie_word_embeddings"].as_bool()
}

struct Family {
    model_type: &'static str,
    class: &'static str,
    /// Whether `attention_bias` is asked for at all.
    may_have_biases: bool,
    /// What holds where the key is missing, if not what the other numbers say.
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
}

const FAMILIES: [Family; 4] = [
    Family {
        model_type: "llama",
        class: "LlamaForCausalLM",
        may_have_biases: true,
        kv_heads: None,
        head_dim: None,
    },
    Family {
        model_type: "mistral",
        class: "MistralForCausalLM",
        may_have_biases: false,
        kv_heads: Some(8),
        head_dim: None,
    },
    Family {
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        may_have_biases: false,
        kv_heads: Some(32),
        head_dim: None,
    },
    Family {
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        may_have_biases: true,
        kv_heads: Some(32),
        head_dim: Some(128),
    },
];

struct Keys<'a> {
    path: &'a Path,
    json: &'a Value,
}

impl<'a> Keys<'a> {
    fn family(&self) -> Result<&'static Family, LoadError> {
        let name = self.json["model_type"].as_str().unwrap_or("none");
        let found = FAMILIES.iter().find(|family| family.model_type == name);
        let family = found.ok_or_else(|| LoadError::Architecture {
            path: self.path.to_owned(),
            architecture: name.to_owned(),
        })?;
        let class = self.json["architectures"][0].as_str();
        match class.filter(|class| *class != family.class) {
            Some(class) => Err(self.refuse("architectures", class.to_owned())),
            None => Ok(family),
        }
    }

    fn refuse_what_is_not_done(&self, family: &Family) -> Result<(), LoadError> {
        let json = self.json;
        let act = json["hidden_act"].as_str().unwrap_or("silu");
        if act != "silu" {
            return Err(self.refuse("hidden_act", act.to_owned()));
        }
        let key = "partial_rotary_factor";
        let factor = self.float(self.rope(), key)?.or(self.float(json, key)?);
        if let Some(factor) = factor.filter(|&factor| factor != 1.0) {
            return Err(self.refuse(key, format!("{factor}")));
        }
        for key in ["quantization_config", "num_experts", "num_local_experts"] {
            if !json[key].is_null() {
                return Err(self.refuse(key, json[key].to_string()));
            }
        }
        let layer_types = json["layer_types"].as_array();
        let other = layer_types.and_then(|types| types.iter().find(|t| *t != "full_attention"));
        if let Some(other) = other {
            return Err(self.refuse("layer_types", other.to_string()));
        }
        // Qwen's configurations name a window and say beside it that it is not used.
        let used = match family.model_type {
            "mistral" => true,
            _ => self.boolean("use_sliding_window")?.unwrap_or(false),
        };
        // Mistral's own default; it writes `null` for none.
        let unsaid = (family.model_type == "mistral").then_some(4096);
        let window = json.get("sliding_window").map_or(unsaid, serde_json::Value::as_u64);
        match window.filter(|_| used) {
            // A window that the whole context fits in is none.
            Some(window) if window < self.positive("max_position_embeddings")? as u64 => {
                Err(self.refuse("sliding_window", format!("{window}")))
            }
            _ => Ok(()),
        }
    }

    /// Since version 5 of `transformers` everything of the rotation is under one key, before it
    /// `rope_scaling` had the scaling alone.
    fn rope(&self) -> &'a Value {
        match &self.json["rope_parameters"] {
            Value::Null => &self.json["rope_scaling"],
            parameters => parameters,
        }
    }

    fn rope_base(&self) -> Result<f64, LoadError> {
        let base = self.float(self.rope(), "rope_theta")?.or(self.float(self.json, "rope_theta")?);
        let base = base.unwrap_or(10_000.0);
        rope_base(base).ok_or_else(|| self.refuse("rope_theta", format!("{base}")))
    }

    /// What each pair's frequency is divided by.
    fn divisors(&self, pairs: usize) -> Result<Vec<f64>, LoadError> {
        let rope = self.rope();
        let kind = rope["rope_type"].as_str().or(rope["type"].as_str()).unwrap_or("default");
        match kind {
            "default" => Ok(vec![1.0; pairs]),
            "linear" => Ok(vec![self.scale("factor")?; pairs]),
            "llama3" => {
                let scaling = Llama3 {
                    factor: self.scale("factor")?,
                    low: self.scale("low_freq_factor")?,
                    high: self.scale("high_freq_factor")?,
                    context: self.scale("original_max_position_embeddings")?,
                };
                if scaling.high <= scaling.low {
                    return Err(self.refuse("high_freq_factor", format!("{}", scaling.high)));
                }
                let plain = frequencies(self.rope_base()?, &vec![1.0; pairs]);
                Ok(plain.into_iter().map(|frequency| scaling.divisor(frequency)).collect())
            }
            other => Err(self.refuse("rope_scaling", other.to_owned())),
        }
    }

    /// A number of the scaling, which must be there and at least 1.
    fn scale(&self, key: &str) -> Result<f64, LoadError> {
        let value = self.float(self.rope(), key)?;
        value.and_then(rope_factor).ok_or_else(|| {
            self.refuse(key, value.map_or("missing".to_owned(), |value| value.to_string()))
        })
    }

    fn positive(&self, key: &str) -> Result<usize, LoadError> {
        let value = self.json[key].as_u64().and_then(size);
        value.ok_or_else(|| self.refuse(key, self.json[key].to_string()))
    }

    fn or(&self, key: &str, default: usize) -> Result<usize, LoadError> {
        if self.json[key].is_null() { Ok(default) } else { self.positive(key) }
    }

    fn float(&self, at: &Value, key: &str) -> Result<Option<f64>, LoadError> {
        match &at[key] {
            Value::Null => Ok(None),
            value => {
                let number = value.as_f64();
                number.map(Some).ok_or_else(|| self.refuse(key, value.to_string()))
            }
        }
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match &self.json[key] {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(*value)),
            value => Err(self.refuse(key, value.to_string())),
        }
    }

    fn refuse(&self, key: &str, value: String) -> LoadError {
        unsupported(self.path, key, value)
    }
}

/// The scaling of Llama 3.1: low frequencies are divided, high ones not, those between in part
/// (`rope_type` `llama3`, as in Meta's `llama-models` and in `transformers`).
struct Llama3 {
    factor: f64,
    low: f64,
    high: f64,
    /// What the model was trained on before, in tokens.
    context: f64,
}

impl Llama3 {
    fn divisor(&self, frequency: f64) -> f64 {
        let turns = self.context * frequency / TAU;
        let share = ((turns - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        // Frequencies are averaged, not divisors.
        1.0 / ((1.0 - share) / self.factor + share)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tiny() -> Value {
        json!({
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0,
        })
    }

    fn with(changes: &Value) -> Result<Config, LoadError> {
        let mut json = tiny();
        let changes = changes.as_object().unwrap().clone();
        json.as_object_mut().unwrap().extend(changes);
        read(Path::new("config.json"), &json)
    }

    #[test]
    fn what_would_change_the_result_is_refused_by_name() {
        for (changes, named) in [
            (json!({ "model_type": "gemma3" }), "gemma3"),
            (json!({ "architectures": ["LlamaForSequenceClassification"] }), "Classification"),
            (json!({ "hidden_act": "gelu" }), "gelu"),
            (json!({ "hidden_size": 0 }), "hidden_size"),
            (json!({ "num_key_value_heads": 3 }), "num_key_value_heads"),
            (json!({ "head_dim": 15 }), "head_dim"),
            (json!({ "head_dim": 1 << 30 }), "head_dim"),
            (
                json!({ "model_type": "mistral", "architectures": ["MistralForCausalLM"] }),
                "sliding_window",
            ),
            (json!({ "partial_rotary_factor": 0.5 }), "partial_rotary_factor"),
            (json!({ "quantization_config": { "quant_method": "awq" } }), "awq"),
            (json!({ "num_local_experts": 8 }), "num_local_experts"),
            (json!({ "layer_types": ["full_attention", "sliding_attention"] }), "sliding"),
            (json!({ "use_sliding_window": true, "sliding_window": 4096 }), "sliding_window"),
            (
                json!({
                    "model_type": "mistral",
                    "architectures": ["MistralForCausalLM"],
                    "sliding_window": 4096,
                }),
                "sliding_window",
            ),
            (json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0 } }), "yarn"),
            (json!({ "rope_scaling": { "type": "dynamic", "factor": 4.0 } }), "dynamic"),
            (json!({ "rope_scaling": { "rope_type": "longrope" } }), "longrope"),
            (json!({ "rope_scaling": { "rope_type": "llama3", "factor": 8.0 } }), "low_freq"),
            (json!({ "rope_parameters": { "rope_type": "yarn" } }), "yarn"),
            (json!({ "rope_theta": "large" }), "rope_theta"),
        ] {
            let error = with(&changes).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("config.json"), "{error}");
        }
    }

    #[test]
    fn windows_that_are_not_used_or_never_end_are_none() {
        for changes in [
            json!({ "use_sliding_window": false, "sliding_window": 4096 }),
            json!({ "sliding_window": 4096 }),
            json!({ "use_sliding_window": true, "sliding_window": 131_072 }),
        ] {
            assert_eq!(with(&changes).unwrap(), with(&json!({})).unwrap());
        }
        let mistral = json!({
            "model_type": "mistral",
            "architectures": ["MistralForCausalLM"],
            "sliding_window": null,
        });
        assert_eq!(with(&mistral).unwrap(), with(&json!({})).unwrap());
    }

    #[test]
    fn old_and_new_names_of_the_rotation_mean_the_same() {
        let scaling = json!({
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        let old = with(&json!({ "rope_scaling": scaling })).unwrap();
        let mut parameters = scaling;
        parameters["rope_theta"] = json!(500_000.0);
        let new = with(&json!({ "rope_parameters": parameters, "rope_theta": null })).unwrap();
        assert_eq!(old, new);
        let plain = with(&json!({})).unwrap().frequencies;
        assert_eq!(old.frequencies[0], plain[0]);
        assert_eq!(old.frequencies[7], plain[7] / 8.0);
    }
}
