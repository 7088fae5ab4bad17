//! What a draw has to know of a whole vocabulary, in one pass each, compiled for the machine's
//! instructions.

use super::{Candidate, power::power};
use crate::isa::{Isa, sum_lanes, versions};

/// Masses are looked at in blocks of so many, so that those without any that counts are passed
/// over. Pieces are in the order of their bytes: whole scripts that a text does not use stand
/// together.
pub(crate) const BLOCK: usize = 128;

/// The largest mass of each block, and the sum of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    pub(super) most: Vec<f32>,
    pub(super) sums: Vec<f32>,
}

/// Some neighbouring blocks of a survey.
pub(crate) struct Blocks<'a> {
    most: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Survey {
    /// For so many masses, none of which has been looked at.
    pub(crate) fn new(masses: usize) -> Self {
        let blocks = masses.div_ceil(BLOCK);
        Self { most: vec![0.0; blocks], sums: vec![0.0; blocks] }
    }

    /// Of all masses.
    pub(crate) fn of(masses: &[f32]) -> Self {
        let mut survey = Self::new(masses.len());
        survey.parts(masses.len()).for_each(|mut part| part.look(masses));
        survey
    }

    /// What has to be known of each `masses` of them, in order; that is a number of whole blocks,
    /// or all.
    pub(crate) fn parts(&mut self, masses: usize) -> impl Iterator<Item = Blocks<'_>> {
        let blocks = masses.div_ceil(BLOCK).max(1);
        let parts = self.most.chunks_mut(blocks).zip(self.sums.chunks_mut(blocks));
        parts.map(|(most, sums)| Blocks { most, sums })
    }

    /// The largest mass of all, 0 if there is none.
    pub(crate) fn largest(&self) -> f32 {
        self.most.iter().copied().fold(0.0, f32::max)
    }

    /// The place of the largest mass, of equals the first, and that mass; `None` without any.
    pub(crate) fn first_largest(&self, masses: &[f32]) -> Option<(usize, f32)> {
        let largest = self.largest();
        let block = self.most.iter().position(|&most| most == largest && most > 0.0)?;
        let within = masses[block * BLOCK..].iter().position(|&mass| mass == largest)?;
        Some((block * BLOCK + within, largest))
    }

    /// Sums of a block are kept in 32 bits, sums of those sums in 64.
    pub(crate) fn total(&self) -> f64 {
        self.sums.iter().map(|&sum| f64::from(sum)).sum()
    }
}

impl Blocks<'_> {
    /// Looks at their masses.
    pub(crate) fn look(&mut self, masses: &[f32]) {
        look(Isa::best(), masses, self.most, self.sums);
    }
}

versions! {
    /// The largest mass and the sum of each block. Masses are not negative.
    fn look(masses: &[f32], most: &mut [f32], sums: &mut [f32]) {
        for (block, (most, sum)) in masses.chunks(BLOCK).zip(most.iter_mut().zip(sums)) {
            // Numbers that are not negative are in the order of their bits.
            let (mut bits, mut lanes) = ([0_i32; 16], [0.0; 16]);
            let (wide, rest) = block.as_chunks::<16>();
            for masses in wide {
                for lane in 0..16 {
                    bits[lane] = bits[lane].max(masses[lane].to_bits().cast_signed());
                    lanes[lane] += masses[lane];
                }
            }
            for (lane, &mass) in rest.iter().enumerate() {
                bits[lane] = bits[lane].max(mass.to_bits().cast_signed());
                lanes[lane] += mass;
            }
            *most = f32::from_bits(bits.into_iter().fold(0, i32::max).cast_unsigned());
            *sum = sum_lanes(lanes);
        }
    }
}

/// How masses are tempered: as shares of the largest, raised to a power, and cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Temper {
    pub(super) largest: f32,
    pub(super) exponent: f32,
    /// Tempered masses below this become 0.
    pub(super) least: f32,
    /// A share less than this is so when tempered too, and need not be looked at.
    pub(super) cut: f32,
}

impl Temper {
    /// As they are.
    pub(super) const NOT: Self = Self { largest: 1.0, exponent: 1.0, least: 0.0, cut: 0.0 };

    #[inline(always)]
    pub(super) fn of(self, mass: f32) -> f32 {
        // Not by the inverse, of which the largest might be less than 1.
        let share = mass / self.largest;
        let raised = if self.exponent == 1.0 { share } else { power(share, self.exponent) };
        if raised < self.least { 0.0 } else { raised }
    }
}

versions! {
    /// Makes the survey's sums those of the tempered masses.
    fn temper(how: Temper, masses: &[f32], survey: &mut Survey) {
        let blocks = survey.most.iter().zip(&mut survey.sums);
        for (block, (most, sum)) in masses.chunks(BLOCK).zip(blocks) {
            *sum = 0.0;
            if most / how.largest < how.cut {
                continue;
            }
            let mut lanes = [0.0; 16];
            let (wide, rest) = block.as_chunks::<16>();
            for masses in wide {
                for lane in 0..16 {
                    lanes[lane] += how.of(masses[lane]);
                }
            }
            for (lane, &mass) in rest.iter().enumerate() {
                lanes[lane] += how.of(mass);
            }
            *sum = sum_lanes(lanes);
        }
    }
}

versions! {
    /// Makes masses the tempered ones.
    fn temper_each(how: Temper, candidates: &mut [Candidate]) {
        candidates.iter_mut().for_each(|(_, mass)| *mass = how.of(*mass));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_sees_and_tempers_the_same() {
        for len in [1, 15, 127, 128, 1000, 4097] {
            let masses: Vec<f32> =
                (0..len).map(|i| (-(((i * 7919) % 977) as f32) * 0.04).exp()).collect();
            let all = |isa: Isa, exponent: f32| -> Vec<u32> {
                let mut seen = Survey::new(len);
                look(isa, &masses, &mut seen.most, &mut seen.sums);
                let before = seen.sums.clone();
                let how = Temper { largest: seen.largest(), exponent, least: 1e-9, cut: 1e-12 };
                temper(isa, how, &masses, &mut seen);
                let all = [seen.most, before, seen.sums].concat();
                all.into_iter().map(f32::to_bits).collect()
            };
            for isa in Isa::all() {
                for exponent in [1.0, 1.0 / 0.7, 3.0] {
                    assert_eq!(all(isa, exponent), all(Isa::portable(), exponent), "{isa:?}");
                }
            }
        }
    }

    #[test]
    fn a_survey_finds_the_largest_and_the_sum_of_each_block() {
        let mut masses = vec![0.25; 2 * BLOCK + 3];
        masses[BLOCK + 77] = 2.0;
        masses[2 * BLOCK + 2] = 0.5;
        let seen = Survey::of(&masses);
        assert_eq!(seen.most, [0.25, 2.0, 0.5]);
        assert_eq!(seen.sums, [32.0, 33.75, 1.0]);
        assert_eq!((seen.largest(), seen.total()), (2.0, 66.75));
    }

    #[test]
    fn tempered_sums_are_those_of_the_tempered_masses() {
        let masses: Vec<f32> = (0..1000).map(|i| (-(i as f32) * 0.03).exp()).collect();
        let mut seen = Survey::of(&masses);
        let how = Temper {
            largest: 1.0,
            exponent: 1.0 / 0.7,
            least: 1e-9,
            cut: 1e-9_f32.powf(0.7) * 0.999,
        };
        temper(Isa::best(), how, &masses, &mut seen);
        for (block, &sum) in masses.chunks(BLOCK).zip(&seen.sums) {
            let exact: f64 = block.iter().map(|&mass| f64::from(how.of(mass))).sum();
            assert!((f64::from(sum) - exact).abs() <= 1e-6 * exact, "{sum} {exact}");
        }
        assert_eq!(seen.sums.last(), Some(&0.0), "what is cut has no mass");
    }
}
