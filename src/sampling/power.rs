//! Logarithms and powers that are compiled to vector instructions, unlike those of the standard
//! library: whole vocabularies go through them at each step.
//!
//! The polynomials are minimax fits, made with the Remez algorithm.

use std::f32::consts::LN_2;

use crate::isa::versions;

/// The binary logarithm of a positive normal number, to 2e-7 or 2e-7 of itself, whichever is more;
/// of 0 it is about -127.
#[inline(always)]
pub(crate) fn log2(x: f32) -> f32 {
    // x = 2^exponent * (1 + m), 1 + m from sqrt(1/2) to sqrt(2).
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF);
    let exponent = (bits.cast_signed() >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(SQRT_HALF)) - 1.0;
    let mut series: f32 = -0.145_811_69;
    for c in [
        0.234_042_38,
        -0.248_876_87,
        0.287_098_7,
        -0.360_239_62,
        0.480_923_24,
        -0.721_352_8,
        1.442_694_9,
    ] {
        series = series.mul_add(m, c);
    }
    series.mul_add(m, exponent)
}

/// 2^x for x up to 127, to 2e-7 of itself; below -126 as at -126.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    // The whole part goes to the exponent. Its last bits are those of `shifted`.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > -126.0 { x } else { -126.0 };
    let shifted = x + ROUND;
    let rest = x - (shifted - ROUND);
    let mut series: f32 = 1.330_060_5e-3;
    for c in [9.669_691e-3, 5.550_558_5e-2, 0.240_222_83, LN_2, 1.0] {
        series = series.mul_add(rest, c);
    }
    let whole = shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 23;
    f32::from_bits(series.to_bits().wrapping_add(whole))
}

/// `x^y` for `x` from about 1e-30 to 1 and `y log2(x)` above -126, to about 3e-6; 1 stays 1, and
/// 0 comes to next to nothing.
#[inline(always)]
pub(super) fn power(x: f32, y: f32) -> f32 {
    exp2(y * log2(x))
}

versions! {
    /// [`power`] of all of `x`.
    fn powers(x: &[f32], y: f32, out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = power(x, y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_and_powers_of_two_are_close_to_the_exact_ones() {
        for i in 0..1_000_000 {
            let x = (-f64::from(i) * 8.7e-5).exp() as f32;
            let exact = f64::from(x).log2();
            let error = (f64::from(log2(x)) - exact).abs();
            assert!(error < 2e-7 * exact.abs().max(1.0), "log2 {x}: {error}");
            let x = -f64::from(i) as f32 * 1.25e-4;
            let error = (f64::from(exp2(x)) / f64::from(x).exp2() - 1.0).abs();
            assert!(error < 2.5e-7, "2^{x}: {error}");
        }
        assert_eq!(
            [log2(1.0), log2(0.5), exp2(0.0), exp2(-20.0)],
            [0.0, -1.0, 1.0, 2_f32.powi(-20)]
        );
    }

    #[test]
    fn the_fast_power_is_close_to_the_exact_one() {
        for y in [0.05_f32, 0.5, 1.0, 1.0 / 0.7, 2.0, 5.0] {
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
}
