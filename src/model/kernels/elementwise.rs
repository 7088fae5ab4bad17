//! What happens to one position's vector between two matrices.

use super::activations::Activations;
use crate::isa::{sum_lanes, versions};

/// The same order for all: lane `i % 16`, then [`sum_lanes`].
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; 16];
    let (a_wide, a_rest) = a.as_chunks::<16>();
    let (b_wide, b_rest) = b.as_chunks::<16>();
    for (a, b) in a_wide.iter().zip(b_wide) {
        for lane in 0..16 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] += a * b;
    }
    sum_lanes(lanes)
}

/// e^x to about 2 units in the last place; below -87 it is 0, above 88 about 1.7e38.
///
/// Argument reduction by ln 2 in two parts and the polynomial of Cephes' `expf`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let mantissa = p * r * r + r + 1.0;
    // The low bits of `shifted` hold n; moved to the exponent they multiply by 2^n.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 23;
    let result = f32::from_bits(mantissa.to_bits().wrapping_add(exponent));
    if x < -87.0 { 0.0 } else { result }
}

#[inline(always)]
fn scale(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

versions! {
    /// Root-mean-square normalisation (arXiv 1910.07467) of `x`, and its 8-bit form.
    fn norm_and_quantize(x: &[f32], weight: &[f32], eps: f32, out: &mut Activations) {
        let scale = scale(x, eps);
        for ((out, x), weight) in out.values.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
        out.quantize();
    }
}

versions! {
    /// Root-mean-square normalisation in place.
    fn norm(x: &mut [f32], weight: &[f32], eps: f32) {
        let scale = scale(x, eps);
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = *x * scale * weight;
        }
    }
}

versions! {
    /// Brings the 8-bit form up to the values.
    fn quantize(x: &mut Activations) {
        x.quantize();
    }
}

versions! {
    /// SwiGLU (arXiv 2002.05202): `gate * sigmoid(gate) * up`, and its 8-bit form.
    fn gate_and_quantize(gate: &[f32], up: &[f32], out: &mut Activations) {
        for ((out, gate), up) in out.values.iter_mut().zip(gate).zip(up) {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
        out.quantize();
    }
}

versions! {
    /// `x += y`.
    fn add(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn exp_is_close_to_the_exact_one_everywhere() {
        let mut worst: f64 = 0.0;
        for i in -8_700_000..=8_800_000 {
            let x = i as f32 * 1e-5;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / exact - 1.0).abs());
        }
        assert!(worst < 2.5e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::INFINITY) > 1e38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn a_normalised_vector_has_mean_square_one() {
        for length in [1, 15, 16, 33, 576] {
            let x: Vec<f32> = (0..length).map(|i| (i as f32 * 0.7).sin() * 40.0 + 1.0).collect();
            let mut out = Activations::new(length).unwrap();
            norm_and_quantize(Isa::best(), &x, &vec![2.0; length], 0.0, &mut out);
            let out = out.values;
            let square: f32 = out.iter().map(|y| y * y).sum::<f32>() / length as f32;
            assert!((square - 4.0).abs() < 1e-5, "{square}");
            assert!((out[0] / x[0] - out[length - 1] / x[length - 1]).abs() < 1e-5);
        }
    }

    #[test]
    fn the_gate_is_swish_times_up() {
        let gate: Vec<f32> = (0..64).map(|i| i as f32 - 31.5).collect();
        let up: Vec<f32> = (0..64).map(|i| 0.1 * i as f32 - 2.0).collect();
        let mut out = Activations::new(64).unwrap();
        gate_and_quantize(Isa::best(), &gate, &up, &mut out);
        for i in 0..64 {
            let (g, u) = (f64::from(gate[i]), f64::from(up[i]));
            let exact = g / (1.0 + (-g).exp()) * u;
            assert!((f64::from(out.values[i]) - exact).abs() < 1e-5 * exact.abs().max(1e-3));
        }
    }

    #[test]
    fn all_instruction_sets_give_the_same_bits() {
        for length in [32, 96, 160, 576] {
            let wave = |from: f32| -> Vec<f32> {
                (0..length).map(|i| (i as f32 * 0.61 + from).sin() * 9.0).collect()
            };
            let all = |isa: Isa| -> Vec<u32> {
                let (mut normed, mut gated) =
                    (Activations::new(length).unwrap(), Activations::new(length).unwrap());
                let mut sum = wave(2.0);
                norm_and_quantize(isa, &wave(0.0), &wave(1.0), 1e-5, &mut normed);
                gate_and_quantize(isa, &wave(3.0), &wave(4.0), &mut gated);
                add(isa, &mut sum, &wave(5.0));
                norm(isa, &mut sum, &wave(6.0), 1e-5);
                let floats = [normed.values, normed.scales, gated.values, gated.sums, sum].concat();
                let quants = normed.quants.iter().chain(&gated.quants);
                let quants = quants.map(|&quant| i32::from(quant).cast_unsigned());
                floats.iter().map(|value| value.to_bits()).chain(quants).collect()
            };
            for isa in Isa::all() {
                assert_eq!(all(isa), all(Isa::portable()), "{isa:?}");
            }
        }
    }
}
