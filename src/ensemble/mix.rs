//! The rules: several distributions over one union vocabulary become one.
//!
//! Pure: maps and f32 slices. Knows no model, no text and no request.
//!
//! `p_i(u)` is the mass that member `i` gives to the piece `u`: the sum over its tokens of these
//! bytes, its stop tokens for `End`, and 0 if it has none. `w_i` are the weights, summing to 1,
//! and `m(u) = sum of w_i p_i(u)`. What a rule gives is scaled to a mass of 1.
//!
//! - *Mean*: `m(u)` (GaC, arXiv 2406.12585).
//! - *Power mean* of an exponent `r` from 0 to 1: `(sum of w_i q_i(u)^r)^(1/r)`, for `r = 0` the
//!   geometric mean `product of q_i(u)^w_i` (logarithmic pooling). As a member that has no token
//!   for a piece gives it nothing, a plain product would take every piece from the mixture that
//!   not all members share. Hence the floor `f`: `q_i(u) = max(p_i(u), f m(u))`. It is a share of
//!   the mean, and not a number, so that the many pieces that nobody wants get nothing from it,
//!   and where all members agree it changes nothing.
//! - *Max*: the largest `w_i p_i(u)`.
//! - *Majority* of tops: each member votes, with its weight, for its most probable piece. The
//!   piece with most votes wins; between equals the one of more mass in `m`, then the first in
//!   byte order. The result is the mean over those who voted for it. So the most probable piece is
//!   the elected one, what is sampled is what its voters would say, and copies of one model are
//!   that model.
//!
//! For `n` copies of one distribution the mean and the majority are it but for the rounding of the
//! weighted sum, max likewise, and power means to about 1e-5 of each probability.

use super::Rule;
use crate::{
    sampling::power,
    vocab::{UnionId, VocabMap},
};

/// One member's say in a mixture.
#[derive(Clone, Copy)]
pub(super) struct Voice<'a> {
    /// One for each logit; tokens that stand for no piece carry no mass.
    pub(super) probs: &'a [f32],
    pub(super) map: &'a VocabMap,
    /// Above 0; those of one mixture sum to 1.
    pub(super) weight: f32,
}

/// A distribution over the union, and the room that making it needs.
pub(super) struct Mixture {
    pub(super) mix: Vec<f32>,
    mean: Vec<f32>,
    one: Vec<f32>,
}

/// Votes closer than this are equal: weights are rounded.
const EQUAL_VOTES: f32 = 1e-6;

impl Mixture {
    pub(super) fn new(size: usize) -> Self {
        Self { mix: vec![0.0; size], mean: vec![0.0; size], one: vec![0.0; size] }
    }

    /// Makes `mix` what the rule makes of the voices.
    pub(super) fn fuse(&mut self, rule: Rule, voices: &[Voice<'_>]) {
        match rule {
            Rule::Mean => mean(voices, &mut self.mix),
            // A voice alone is what it is under every rule.
            _ if voices.len() == 1 => mean(voices, &mut self.mix),
            Rule::Power { exponent, floor } => self.power(exponent, floor, voices),
            Rule::Max => self.max(voices),
            Rule::Majority => self.majority(voices),
        }
    }

    /// A member's most probable piece and its mass; of equals the first. `None` without mass.
    pub(super) fn top(&mut self, voice: Voice<'_>) -> Option<(UnionId, f32)> {
        project(voice, &mut self.one);
        let mut top = None;
        let mut most = 0.0;
        for (index, &mass) in self.one.iter().enumerate() {
            if mass > most {
                (top, most) = (Some(index), mass);
            }
        }
        let id = u32::try_from(top?).expect("a union has fewer than 2^32 pieces");
        Some((UnionId(id), most))
    }

    fn power(&mut self, exponent: f32, floor: f32, voices: &[Voice<'_>]) {
        mean(voices, &mut self.mean);
        self.mix.fill(if exponent == 0.0 { 1.0 } else { 0.0 });
        for &voice in voices {
            project(voice, &mut self.one);
            let raised = self.mix.iter_mut().zip(&self.one).zip(&self.mean);
            if exponent == 0.0 {
                raised.for_each(|((mix, &p), &m)| *mix *= power(p.max(floor * m), voice.weight));
            } else {
                raised.for_each(|((mix, &p), &m)| {
                    *mix += voice.weight * power(p.max(floor * m), exponent);
                });
            }
        }
        if exponent != 0.0 {
            self.mix.iter_mut().for_each(|mix| *mix = power(mix.min(1.0), 1.0 / exponent));
        }
        for (mix, &m) in self.mix.iter_mut().zip(&self.mean) {
            // Below this the powers are not what they should be.
            if m < LEAST_MEAN {
                *mix = 0.0;
            }
        }
        normalise(&mut self.mix);
    }

    fn max(&mut self, voices: &[Voice<'_>]) {
        self.mix.fill(0.0);
        for &voice in voices {
            project(voice, &mut self.one);
            for (mix, &p) in self.mix.iter_mut().zip(&self.one) {
                *mix = mix.max(voice.weight * p);
            }
        }
        normalise(&mut self.mix);
    }

    fn majority(&mut self, voices: &[Voice<'_>]) {
        mean(voices, &mut self.mix);
        let tops: Vec<Option<UnionId>> =
            voices.iter().map(|&voice| self.top(voice).map(|(id, _)| id)).collect();
        let votes = |id: UnionId| -> f32 {
            let for_it = voices.iter().zip(&tops).filter(|&(_, top)| *top == Some(id));
            for_it.map(|(voice, _)| voice.weight).sum()
        };
        let mut candidates: Vec<UnionId> = tops.iter().flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let most = candidates.iter().map(|&id| votes(id)).fold(0.0, f32::max);
        candidates.retain(|&id| most - votes(id) < EQUAL_VOTES);
        // The first of the greatest masses.
        let mass = |id: &UnionId| self.mix[id.0 as usize];
        let winner = candidates.into_iter().reduce(
            |best, id| {
                if mass(&id) > mass(&best) { id } else { best }
            },
        );
        let mut voters: Vec<Voice<'_>> = voices
            .iter()
            .zip(&tops)
            .filter(|&(_, &top)| top == winner)
            .map(|(&voice, _)| voice)
            .collect();
        if voters.len() < voices.len() {
            let sum: f32 = voters.iter().map(|voter| voter.weight).sum();
            voters.iter_mut().for_each(|voter| voter.weight /= sum);
            mean(&voters, &mut self.mix);
        }
    }
}

/// A mean below this, 2^-80, is none: what the floor leaves of it would be too small for 32 bits.
const LEAST_MEAN: f32 = 8.271_806e-25;

fn mean(voices: &[Voice<'_>], mix: &mut [f32]) {
    mix.fill(0.0);
    for Voice { probs, map, weight } in voices {
        map.project_into(probs, *weight, mix);
    }
}

/// One member's distribution over the union.
fn project(voice: Voice<'_>, one: &mut [f32]) {
    voice.map.project(voice.probs, 1.0, one);
}

fn normalise(mix: &mut [f32]) {
    let sum: f64 = mix.iter().map(|&mass| f64::from(mass)).sum();
    if sum > 0.0 {
        let scale = (1.0 / sum) as f32;
        mix.iter_mut().for_each(|mass| *mass *= scale);
    }
}
