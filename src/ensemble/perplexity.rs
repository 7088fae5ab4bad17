//! What making a model's weights smaller costs, measured on a few lines.

use crate::{
    model::{LanguageModel, ModelError, Row, Want},
    tokenizer::Tokenizer,
    vocab::TokenId,
};

/// Prose, numbers and code, some 160 tokens. It was written for this and is in no training data.
const TEXT: &str = "\
The ferry left the east landing at ten past six, as it did every morning except Sunday, and Marta \
was on it because she had missed the one before. She sat on the bench by the engine, where it was \
warm, and unfolded the letter for the third time.

| month | boats | people |
|---|---:|---:|
| May | 9 | 4,120 |
| June | 11 | 6,873 |

```python
def fare(age, zone=1):
    \"\"\"What a ticket costs, in cents.\"\"\"
    if age < 6:
        return 0
    return 250 + 80 * (zone - 1)
```

Whoever travels with a bicycle pays for it too, unless it is folded.
";

/// Positions whose logits are asked for at once.
const AT_ONCE: usize = 32;

/// How well a model foresaw the lines before its weights were made smaller, and after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerplexityChange {
    pub before: f64,
    pub after: f64,
    /// How many were foreseen.
    pub tokens: usize,
}

impl PerplexityChange {
    pub(super) fn measure(
        before: &dyn LanguageModel,
        after: &dyn LanguageModel,
        tokenizer: &Tokenizer,
    ) -> Result<Self, ModelError> {
        let mut tokens = tokenizer.prompt(TEXT.as_bytes());
        tokens.truncate(before.context_length());
        Ok(Self {
            before: perplexity(before, &tokens)?,
            after: perplexity(after, &tokens)?,
            tokens: tokens.len().saturating_sub(1),
        })
    }

    /// As a share of what it was.
    pub fn relative(self) -> f64 {
        self.after / self.before - 1.0
    }
}

/// Of each token but the first, after those before it.
fn perplexity(model: &dyn LanguageModel, tokens: &[TokenId]) -> Result<f64, ModelError> {
    let (mut cache, mut logits) = (model.new_cache(), Vec::new());
    let (mut sum, mut next) = (0.0, 1);
    for tokens_now in tokens.chunks(AT_ONCE) {
        let row =
            Row { cache: &mut cache, tokens: tokens_now, want: Want::All, logits: &mut logits };
        model.forward(&mut [row])?;
        for logits in logits.chunks_exact(model.vocab_size()) {
            if let Some(token) = tokens.get(next) {
                let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
                sum += total.ln() - f64::from(logits[token.0 as usize] - most);
            }
            next += 1;
        }
    }
    Ok((sum / tokens.len().saturating_sub(1).max(1) as f64).exp())
}
