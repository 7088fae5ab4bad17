//! What a draw has to know of a whole vocabulary, in one pass each, compiled for the machine's
//! instructions.

use crate::isa::{sum_lanes, versions};

/// Masses are looked at in blocks of so many, so that those without any that counts are passed
/// over. Pieces are in the order of their bytes: whole scripts that a text does not use stand
/// together.
pub(super) const BLOCK: usize = 128;

/// The largest mass of each block, and the sum of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    pub(super) most: Vec<f32>,
    pub(super) sums: Vec<f32>,
}

impl Survey {
    /// The largest mass of all, 0 if there is none.
    pub(super) fn largest(&self) -> f32 {
        self.most.iter().copied().fold(0.0, f32::max)
    }

    /// Sums of a block are kept in 32 bits, sums of those sums in 64.
    pub(super) fn total(&self) -> f64 {
        self.sums.iter().map(|&sum| f64::from(sum)).sum()
    }
}

versions! {
    /// Looks at all masses.
    fn survey(masses: &[f32], survey: &mut Survey) {
        survey.most.clear();
        survey.sums.clear();
        for block in masses.chunks(BLOCK) {
            let (mut most, mut sums) = ([0.0; 16], [0.0; 16]);
            for masses in block.chunks(16) {
                for ((&mass, most), sum) in masses.iter().zip(&mut most).zip(&mut sums) {
                    *most = if mass > *most { mass } else { *most };
                    *sum += mass;
                }
            }
            survey.most.push(largest_lane(most));
            survey.sums.push(sum_lanes(sums));
        }
    }
}

#[inline(always)]
fn largest_lane(mut lanes: [f32; 16]) -> f32 {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            let other = lanes[lane + width];
            lanes[lane] = if other > lanes[lane] { other } else { lanes[lane] };
        }
    }
    lanes[0]
}

/// How masses are tempered: scaled, raised to a power, and cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Temper {
    pub(super) scale: f32,
    pub(super) exponent: f32,
    /// Scaled masses below this become 0.
    pub(super) cut: f32,
    /// So do tempered masses below this.
    pub(super) least: f32,
}

versions! {
    /// Tempers `masses` into `out`, and makes the survey's sums those of what comes out. Blocks
    /// that come to nothing are left as they were in `out`; their sums are 0.
    fn temper(how: Temper, masses: &[f32], survey: &mut Survey, out: &mut [f32]) {
        let Temper { scale, exponent, cut, least } = how;
        let blocks = masses.chunks(BLOCK).zip(out.chunks_mut(BLOCK));
        for ((masses, out), (most, sum)) in
            blocks.zip(survey.most.iter().zip(&mut survey.sums))
        {
            *sum = 0.0;
            if most * scale < cut {
                continue;
            }
            let mut sums = [0.0; 16];
            for (masses, out) in masses.chunks(16).zip(out.chunks_mut(16)) {
                for ((&mass, out), sum) in masses.iter().zip(out).zip(&mut sums) {
                    let scaled = mass * scale;
                    let raised = if exponent == 1.0 { scaled } else { power(scaled, exponent) };
                    *out = if scaled < cut || raised < least { 0.0 } else { raised };
                    *sum += *out;
                }
            }
            *sum = sum_lanes(sums);
        }
    }
}

/// `x^y` for `x` from about 1e-30 to 1 and `y x` in the same range, to about 3e-6; 1 stays 1, and
/// 0 comes to next to nothing. A whole vocabulary goes through it at each step, and unlike
/// [`f32::powf`] it is compiled to vector instructions.
#[inline(always)]
pub(crate) fn power(x: f32, y: f32) -> f32 {
    // x = 2^exponent * mantissa, mantissa from sqrt(1/2) to sqrt(2).
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF);
    let exponent = (bits.cast_signed() >> 23) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(SQRT_HALF));
    // log2(mantissa) as the series of the inverse hyperbolic tangent, to the ninth power.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let t = s * s;
    let series = (((t / 9.0 + 1.0 / 7.0) * t + 1.0 / 5.0) * t + 1.0 / 3.0) * t + 1.0;
    let power = y * (exponent + 2.0 * std::f32::consts::LOG2_E * s * series);
    // 2^power: the whole part to the exponent, the rest by the series of e^x to the sixth power.
    const ROUND: f32 = 12_582_912.0;
    let shifted = power.max(-126.0) + ROUND;
    let r = (power.max(-126.0) - (shifted - ROUND)) * std::f32::consts::LN_2;
    let mut series = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + c;
    }
    let whole = shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 23;
    f32::from_bits(series.to_bits().wrapping_add(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn the_fast_power_is_close_to_the_exact_one() {
        for y in [0.5_f32, 1.0, 1.0 / 0.7, 2.0, 5.0] {
            assert_eq!(power(1.0, y), 1.0);
            for i in 0..20_000 {
                let x = (-i as f32 * 1e-3).exp();
                let exact = f64::from(x).powf(f64::from(y));
                if exact > 1e-30 {
                    let error = (f64::from(power(x, y)) / exact - 1.0).abs();
                    assert!(error < 1e-5, "{x}^{y}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_sees_and_tempers_the_same() {
        for len in [1, 15, 127, 128, 1000, 4097] {
            let masses: Vec<f32> =
                (0..len).map(|i| (-(((i * 7919) % 977) as f32) * 0.04).exp()).collect();
            let all = |isa: Isa, exponent: f32| -> Vec<u32> {
                let (mut seen, mut out) = (Survey::default(), vec![0.0; len]);
                survey(isa, &masses, &mut seen);
                let before = seen.sums.clone();
                let how = Temper { scale: 1.0 / seen.largest(), exponent, cut: 1e-9, least: 1e-12 };
                temper(isa, how, &masses, &mut seen, &mut out);
                let all = [seen.most, before, seen.sums, out].concat();
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
        let mut seen = Survey::default();
        survey(Isa::best(), &masses, &mut seen);
        assert_eq!(seen.most, [0.25, 2.0, 0.5]);
        assert_eq!(seen.sums, [32.0, 33.75, 1.0]);
        assert_eq!((seen.largest(), seen.total()), (2.0, 66.75));
    }
}
