//! The rules: several distributions over one union vocabulary become one.
//!
//! Maps and f32 slices, in parts that threads share out. Knows no text and no request.
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
    isa::{Isa, versions},
    model::Pool,
    sampling::{BLOCK, Blocks, Survey, exp2, log2},
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

/// A distribution over the union, and what a draw has to know of it.
pub(super) struct Mixture {
    masses: Vec<f32>,
    survey: Survey,
    /// The survey is of the masses as they are.
    seen: bool,
}

/// Neighbouring pieces, mixed by one thread. What becomes of a piece does not depend on the others.
struct Part<'a> {
    from: usize,
    masses: &'a mut [f32],
    survey: Blocks<'a>,
}

/// Pieces of a part: its masses, and what they are made from, stay in the nearest cache.
const PART: usize = 32 * BLOCK;

/// Votes closer than this are equal: weights are rounded.
const EQUAL_VOTES: f32 = 1e-6;

/// A mean below this, 2^-80, is none: what the floor leaves of it would be too small for 32 bits.
const LEAST_MEAN: f32 = 8.271_806e-25;

impl Mixture {
    pub(super) fn new(size: usize) -> Self {
        Self { masses: vec![0.0; size], survey: Survey::new(size), seen: false }
    }

    pub(super) fn masses(&self) -> &[f32] {
        &self.masses
    }

    /// To change them.
    pub(super) fn masses_mut(&mut self) -> &mut [f32] {
        self.seen = false;
        &mut self.masses
    }

    pub(super) fn into_masses(self) -> Vec<f32> {
        self.masses
    }

    /// The masses and a survey of them, for a draw to use up.
    pub(super) fn survey(&mut self) -> (&[f32], &mut Survey) {
        self.see();
        self.seen = false;
        (&self.masses, &mut self.survey)
    }

    pub(super) fn total(&mut self) -> f64 {
        self.see();
        self.survey.total()
    }

    fn see(&mut self) {
        if !self.seen {
            self.survey = Survey::of(&self.masses);
            self.seen = true;
        }
    }

    /// Makes the masses what the rule makes of the voices.
    pub(super) fn fuse(&mut self, rule: Rule, voices: &[Voice<'_>], pool: &Pool) {
        // A voice alone is what it is under every rule.
        let rule = if voices.len() == 1 { Rule::Mean } else { rule };
        match rule {
            Rule::Mean => self.make(pool, |from, out| mean(voices, from, out)),
            Rule::Power { exponent, floor } => {
                let how = Power { exponent, floor };
                self.make(pool, |from, out| how.fuse(voices, from, out));
                self.normalise(pool);
            }
            Rule::Max => {
                self.make(pool, |from, out| max(voices, from, out));
                self.normalise(pool);
            }
            Rule::Majority => self.majority(voices, pool),
        }
    }

    /// A member's most probable piece and its mass; of equals the first. `None` without mass.
    pub(super) fn top(&mut self, voice: Voice<'_>, pool: &Pool) -> Option<(UnionId, f32)> {
        self.make(pool, |from, out| mean(&[Voice { weight: 1.0, ..voice }], from, out));
        let (index, most) = self.survey.first_largest(&self.masses)?;
        let id = u32::try_from(index).expect("a union has fewer than 2^32 pieces");
        Some((UnionId(id), most))
    }

    /// Lets `part` fill in the masses of the pieces from a number on, part by part, and looks at
    /// them while they are at hand.
    fn make(&mut self, pool: &Pool, part: impl Fn(usize, &mut [f32]) + Sync) {
        let parts = self.masses.chunks_mut(PART).zip(self.survey.parts(PART));
        let mut parts: Vec<Part<'_>> = parts
            .enumerate()
            .map(|(index, (masses, survey))| Part { from: index * PART, masses, survey })
            .collect();
        pool.for_each(&mut parts, |_, Part { from, masses, survey }| {
            part(*from, masses);
            survey.look(masses);
        });
        self.seen = true;
    }

    /// Scales the masses, which have been looked at, to sum to 1.
    fn normalise(&mut self, pool: &Pool) {
        let sum = self.survey.total();
        if sum > 0.0 {
            let factor = (1.0 / sum) as f32;
            self.make(pool, |_, masses| scale(Isa::best(), masses, factor));
        }
    }

    fn majority(&mut self, voices: &[Voice<'_>], pool: &Pool) {
        let tops: Vec<Option<UnionId>> =
            voices.iter().map(|&voice| self.top(voice, pool).map(|(id, _)| id)).collect();
        self.make(pool, |from, out| mean(voices, from, out));
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
        let mass = |id: &UnionId| self.masses[id.0 as usize];
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
            self.make(pool, |from, out| mean(&voters, from, out));
        }
    }
}

fn mean(voices: &[Voice<'_>], from: usize, out: &mut [f32]) {
    out.fill(0.0);
    for Voice { probs, map, weight } in voices {
        map.project_part(probs, *weight, from, out);
    }
}

fn max(voices: &[Voice<'_>], from: usize, out: &mut [f32]) {
    let mut one = [0.0; PART];
    let one = &mut one[..out.len()];
    out.fill(0.0);
    for voice in voices {
        mean(&[*voice], from, one);
        for (out, &mass) in out.iter_mut().zip(&*one) {
            *out = if mass > *out { mass } else { *out };
        }
    }
}

/// A power mean, not yet scaled.
#[derive(Clone, Copy)]
struct Power {
    exponent: f32,
    floor: f32,
}

impl Power {
    fn fuse(self, voices: &[Voice<'_>], from: usize, out: &mut [f32]) {
        let mut mean = [0.0; PART];
        let mean = &mut mean[..out.len()];
        let mut ones = vec![0.0; voices.len() * out.len()];
        let isa = Isa::best();
        for (voice, one) in voices.iter().zip(ones.chunks_exact_mut(out.len())) {
            voice.map.project_part(voice.probs, 1.0, from, one);
            add_share(isa, voice.weight, one, mean);
        }
        out.fill(0.0);
        for (voice, one) in voices.iter().zip(ones.chunks_exact(out.len())) {
            let floored = Floored { one, mean, floor: self.floor };
            if self.exponent == 0.0 {
                add_logs(isa, floored, voice.weight, out);
            } else {
                add_powers(isa, floored, voice.weight, self.exponent, out);
            }
        }
        root(isa, self.exponent, mean, out);
    }
}

versions! {
    fn add_share(weight: f32, one: &[f32], mean: &mut [f32]) {
        for (mean, &mass) in mean.iter_mut().zip(one) {
            *mean += weight * mass;
        }
    }
}

/// Masses that count as at least a share of the mean.
#[derive(Clone, Copy)]
pub(super) struct Floored<'a> {
    one: &'a [f32],
    mean: &'a [f32],
    floor: f32,
}

impl Floored<'_> {
    #[inline(always)]
    fn masses(self) -> impl Iterator<Item = f32> {
        self.one.iter().zip(self.mean).map(move |(&mass, &mean)| {
            let least = self.floor * mean;
            if mass > least { mass } else { least }
        })
    }
}

versions! {
    fn add_logs(floored: Floored<'_>, weight: f32, out: &mut [f32]) {
        for (out, mass) in out.iter_mut().zip(floored.masses()) {
            *out += weight * log2(mass);
        }
    }
}

versions! {
    fn add_powers(floored: Floored<'_>, weight: f32, exponent: f32, out: &mut [f32]) {
        for (out, mass) in out.iter_mut().zip(floored.masses()) {
            *out += weight * exp2(exponent * log2(mass));
        }
    }
}

versions! {
    /// Of the sums of logs, for an exponent of 0, or of powers. Where the mean is too small, the
    /// powers are not what they should be.
    fn root(exponent: f32, mean: &[f32], out: &mut [f32]) {
        for (out, &mean) in out.iter_mut().zip(mean) {
            let log = if exponent == 0.0 { *out } else { log2(*out) / exponent };
            *out = if mean < LEAST_MEAN { 0.0 } else { exp2(log) };
        }
    }
}

versions! {
    fn scale(masses: &mut [f32], factor: f32) {
        masses.iter_mut().for_each(|mass| *mass *= factor);
    }
}
