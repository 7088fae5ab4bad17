//! Weights that follow how well each member foresees the text.
//!
//! What a member is worth for a text shows in how many bits it needs for it, counted per **byte**,
//! as its tokens are not another's. With `d_i` bits that member `i` has needed more than the best,
//! its weight is its configured one times `2^(-RATE d_i)`, scaled to sum to 1, and none is below
//! [`LEAST`]: a logistic of the difference where there are two.
//!
//! - *Prompt*: `d_i` is from the bits per byte of the last [`SCORED`] bytes of what the user said
//!   (of a raw prompt: of the prompt), for as many bytes as there are, up to [`WINDOW`]. They are
//!   read with a look at each position's logits, and are never taken over from another text. A
//!   user's text that a template changes is not scored; the weights are then the configured ones.
//! - *Online*: `d_i` is from the text so far, cut where all members' tokens meet. Each member's
//!   bits are summed segment by segment, and at each segment what came before counts for
//!   [`DECAY`] of itself. A token that re-tokenization put in the place of others is scored anew,
//!   so the bits are always those of the tokens that the member holds; a member that lagged behind
//!   is scored when it catches up.
//!
//! Everything is a function of the prompt and the text alone. The figures of the online rule are a
//! measurement of this pair of models on running text (bits per byte 0.976 where the best fixed
//! weights had 0.983): decay 0.97 a segment, rate 0.05, clamped from 0.05.

use std::{fmt, ops::Range, str::FromStr};

use super::{Sequence, sequence::MemberState};

/// Where the weights come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weighting {
    /// They are the configured ones.
    #[default]
    Fixed,
    /// From how many bits a byte each member needs for what the user said.
    Prompt,
    /// From how many bits each member has needed for the text so far.
    Online,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is `{given}`; it must be fixed, prompt or online")]
pub struct WeightingError {
    given: String,
}

impl FromStr for Weighting {
    type Err = WeightingError;

    fn from_str(text: &str) -> Result<Self, WeightingError> {
        match text {
            "fixed" => Ok(Self::Fixed),
            "prompt" => Ok(Self::Prompt),
            "online" => Ok(Self::Online),
            given => Err(WeightingError { given: given.to_owned() }),
        }
    }
}

impl fmt::Display for Weighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed => "fixed",
            Self::Prompt => "prompt",
            Self::Online => "online",
        })
    }
}

/// Of a bit.
const RATE: f64 = 0.05 * std::f64::consts::LOG2_E;
const DECAY: f64 = 0.97;
const LEAST: f64 = 0.05;
/// Bytes, about what the decay lets count: 33 segments of four or five.
const WINDOW: usize = 150;
/// Bytes.
const SCORED: usize = 256;

/// The bits that a member's tokens have cost, each against what came before it.
#[derive(Debug)]
pub(super) struct Scores {
    /// Of the member's tokens, which are scored.
    range: Range<usize>,
    /// One a token of the range, as far as they are known.
    bits: Vec<f64>,
}

impl Scores {
    pub(super) fn none() -> Self {
        Self { range: usize::MAX..usize::MAX, bits: Vec::new() }
    }

    pub(super) fn of(range: Range<usize>) -> Self {
        Self { range, bits: Vec::new() }
    }

    /// The first token, of so many, that is to be scored and is not.
    pub(super) fn next(&self, tokens: usize) -> Option<usize> {
        let next = self.range.start.checked_add(self.bits.len())?;
        (next < self.range.end.min(tokens)).then_some(next)
    }

    #[cfg(test)]
    pub(super) fn bits(&self) -> &[f64] {
        &self.bits
    }

    /// No text before this token may be taken over from another.
    pub(super) fn start(&self) -> usize {
        self.range.start
    }

    /// Tokens from this one on are others now. Of a prompt the bits stay what they were.
    pub(super) fn forget(&mut self, token: usize) {
        if self.range.end == usize::MAX {
            self.bits.truncate(token.saturating_sub(self.range.start));
        }
    }

    /// What token number `token` cost, if that is the next that is asked for.
    pub(super) fn note(&mut self, token: usize, probability: f32) {
        if self.next(token + 1) == Some(token) {
            self.bits.push(-log2(probability));
        }
    }
}

/// The tokens of a prompt, given as the bytes of each, that lie in the last bytes of `text` where
/// that stands last; empty if it does not stand there.
pub(super) fn scored<'t>(tokens: impl Iterator<Item = &'t [u8]>, text: &[u8]) -> Range<usize> {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    for token in tokens {
        starts.push(bytes.len());
        bytes.extend_from_slice(token);
    }
    starts.push(bytes.len());
    let text = text.trim_ascii();
    let found = (!text.is_empty())
        .then(|| bytes.windows(text.len()).rposition(|window| window == text))
        .flatten();
    let Some(at) = found else { return 0..0 };
    let (from, to) = (at + text.len().saturating_sub(SCORED), at + text.len());
    // Nothing comes before the first token to foresee it by. Marks of the template, which have no
    // bytes, may stand at either end.
    let mut first = starts.partition_point(|&start| start < from).max(1);
    let mut end = starts.partition_point(|&start| start < to).max(first);
    while first < end && starts[first] == starts[first + 1] {
        first += 1;
    }
    if first < end && starts[end] > to {
        end -= 1;
    }
    first..end
}

impl Sequence {
    /// The weights at this place of the text, of all members.
    pub(super) fn weights(&self) -> Vec<f32> {
        let active: Vec<usize> = self.fusion.active().collect();
        let bits = match self.fusion.weighting {
            Weighting::Fixed => None,
            Weighting::Prompt => self.prompt_bits(&active),
            Weighting::Online => Some(self.text_bits(&active)),
        };
        let Some(bits) = bits else { return self.fusion.weights.clone() };
        let best = bits.iter().copied().fold(f64::INFINITY, f64::min);
        let weigh = |(&member, bits): (&usize, &f64)| {
            f64::from(self.fusion.weights[member]) * exp2(-RATE * (bits - best))
        };
        let raw: Vec<f64> = active.iter().zip(&bits).map(weigh).collect();
        let sum: f64 = raw.iter().sum();
        // With many members the least is less, so that there is something left to share.
        let least = LEAST.min(0.5 / raw.len() as f64);
        let most = 1.0 - least * (raw.len() - 1) as f64;
        let held: Vec<f64> = raw.iter().map(|raw| (raw / sum).clamp(least, most)).collect();
        let sum: f64 = held.iter().sum();
        let mut weights = vec![0.0; self.fusion.weights.len()];
        for (member, held) in active.into_iter().zip(held) {
            weights[member] = (held / sum) as f32;
        }
        weights
    }

    /// What each needed for the user's text, in bits of a window; `None` if it is not in all.
    fn prompt_bits(&self, active: &[usize]) -> Option<Vec<f64>> {
        let of = |&member: &usize| {
            let state = &self.states[member];
            let bytes = state.scored_bytes;
            (bytes > 0).then(|| (state.scores.bits.iter().sum::<f64>() / bytes as f64, bytes))
        };
        let all = active.iter().map(of).collect::<Option<Vec<(f64, usize)>>>()?;
        let bytes = all.iter().map(|&(_, bytes)| bytes).min()?.min(WINDOW);
        Some(all.into_iter().map(|(bits_a_byte, _)| bits_a_byte * bytes as f64).collect())
    }

    /// What each has needed for the text so far, older segments fading.
    fn text_bits(&self, active: &[usize]) -> Vec<f64> {
        let starts = |member: usize| self.states[member].starts();
        let is_start = |member: usize, at: &usize| {
            let (own_space, text) = (self.states[member].own_space, &self.states[member].text);
            text.starts().binary_search_by_key(at, |start| start.saturating_sub(own_space)).is_ok()
        };
        let is_border = |at: &usize| active.iter().all(|&member| is_start(member, at));
        let mut borders: Vec<usize> = starts(active[0]).filter(is_border).collect();
        borders.dedup();
        let faded = |&member: &usize| {
            let MemberState { prompt, scores, .. } = &self.states[member];
            let starts = starts(member).skip(scores.start() - prompt);
            let mut left = starts.zip(&scores.bits).peekable();
            let mut sum = 0.0;
            for end in borders.iter().skip(1).copied().chain([usize::MAX]) {
                sum *= DECAY;
                while let Some((_, bits)) = left.next_if(|(start, _)| *start < end) {
                    sum += bits;
                }
            }
            sum
        };
        active.iter().map(faded).collect()
    }
}

/// To about 1e-9, by arithmetic alone, so that it is the same everywhere; at most 126 bits.
fn log2(x: f32) -> f64 {
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let exponent = f64::from((bits >> 23) as u16) - 127.0;
    let mantissa = f64::from(f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000));
    // Twice the inverse hyperbolic tangent; its argument is at most a third.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let t = s * s;
    let series = (0..10).rev().fold(0.0, |sum, n| sum * t + 1.0 / f64::from(2 * n + 1));
    exponent + 2.0 * std::f64::consts::LOG2_E * s * series
}

/// 2^x for a negative `x`, likewise.
fn exp2(x: f64) -> f64 {
    let whole = x.max(-1000.0).floor();
    let r = (x.max(-1000.0) - whole) * std::f64::consts::LN_2;
    let series = (1..16).rev().fold(1.0, |sum, n| 1.0 + sum * r / f64::from(n));
    let exponent = (whole as i64 + 1023).cast_unsigned();
    series * f64::from_bits(exponent << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_and_logarithms_are_those_of_the_library() {
        for i in 1..2000 {
            let x = i as f32 / 2000.0;
            assert!((log2(x) - f64::from(x).log2()).abs() < 1e-8, "{x}");
            let y = -f64::from(x) * 40.0;
            assert!((exp2(y) / y.exp2() - 1.0).abs() < 1e-12, "{y}");
        }
        assert_eq!((log2(1.0), exp2(0.0), log2(0.0)), (0.0, 1.0, -126.0));
    }

    #[test]
    fn the_tokens_of_the_users_last_text_are_found() {
        let tokens = |words: &[&'static str]| -> Vec<&'static [u8]> {
            words.iter().map(|word| word.as_bytes()).collect()
        };
        let prompt = tokens(&["", "user", "\n", "ab", " c", "d", "", "bot"]);
        let range = |text: &str| scored(prompt.iter().copied(), text.as_bytes());
        assert_eq!(range("ab cd"), 3..6);
        let marked = tokens(&["x", "", "ab", "", "y"]);
        assert_eq!(scored(marked.iter().copied(), b"ab"), 2..3);
        assert_eq!(range("b dc"), 0..0);
        assert_eq!(range("b cd"), 4..6);
        assert_eq!(range("b c"), 4..5);
        assert_eq!(range(""), 0..0);
        let long = "x".repeat(SCORED + 10);
        let letters = vec!["x".as_bytes(); long.len()];
        assert_eq!(scored(letters.into_iter(), long.as_bytes()), 10..SCORED + 10);
    }

    #[test]
    fn a_weighting_is_written_as_it_is_read() {
        for text in ["fixed", "prompt", "online"] {
            assert_eq!(text.parse::<Weighting>().unwrap().to_string(), text);
        }
        let refusal = "free".parse::<Weighting>().unwrap_err().to_string();
        assert!(refusal.contains("`free`; it must be fixed, prompt or online"), "{refusal}");
    }
}
