//! How keys and values are kept: in less than the 32 bits they are computed with.

use half::f16;

use super::activations;

/// Of the numbers that share a scale, where a head is a multiple of it; else it is the head.
const GROUP: usize = 32;

/// Numbers that are widened where they are used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbers<'a> {
    F16(&'a [u16]),
    /// Each is an integer times the scale of its group, a 16-bit float. Where several positions'
    /// numbers stand together so do their scales: as many, once for the numbers of a group.
    Q8 {
        integers: &'a [i8],
        scales: &'a [u16],
        group: usize,
    },
}

impl Numbers<'_> {
    /// Those from `at` on, of as many positions as stand together; `at` and the length of `out`
    /// are whole groups of each.
    #[inline(always)]
    pub(crate) fn widen<const TOGETHER: usize>(self, at: usize, out: &mut [f32]) {
        match self {
            Numbers::F16(halves) => widen(&halves[at..][..out.len()], out),
            Numbers::Q8 { integers, scales, group } => {
                let integers = integers[at..][..out.len()].chunks_exact(group * TOGETHER);
                let (scales, _) = scales[at / group..].as_chunks::<TOGETHER>();
                let out = out.chunks_exact_mut(group * TOGETHER);
                for ((out, integers), scales) in out.zip(integers).zip(scales) {
                    let mut wide = [0.0; TOGETHER];
                    widen(scales, &mut wide);
                    let (out, integers) = (out.as_chunks_mut().0, integers.as_chunks().0);
                    for (out, integers) in out.iter_mut().zip(integers) {
                        scale(integers, &wide, out);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn scale<const TOGETHER: usize>(
    integers: &[i8; TOGETHER],
    scales: &[f32; TOGETHER],
    out: &mut [f32; TOGETHER],
) {
    for ((out, &integer), scale) in out.iter_mut().zip(integers).zip(scales) {
        *out = f32::from(integer) * scale;
    }
}

/// IEEE half to single precision, exact for all finite numbers: the bits are moved to their
/// places and the exponent is corrected by a multiplication, which also normalises denormals.
#[inline(always)]
fn widen(halves: &[u16], out: &mut [f32]) {
    for (out, &half) in out.iter_mut().zip(halves) {
        let bits = u32::from(half);
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        *out = f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16);
    }
}

/// How many numbers share a scale.
pub(crate) fn group(head_dim: usize) -> usize {
    if head_dim.is_multiple_of(GROUP) { GROUP } else { head_dim }
}

/// The scale of a group, the largest magnitude over 127, and its numbers in steps of that.
pub(crate) fn quantize_group(numbers: &[f32]) -> (u16, impl Iterator<Item = i8>) {
    let largest = numbers.iter().fold(0.0_f32, |most, n| most.max(n.abs()));
    let scale = f16::from_f32(largest / 127.0);
    // The scale may have been rounded down, of a tiny group to zero.
    let inverse = scale.to_f32().recip();
    let integer = move |n: &f32| activations::round((n * inverse).clamp(-127.0, 127.0));
    (scale.to_bits(), numbers.iter().map(integer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_is_widened_exactly() {
        let halves: Vec<u16> =
            (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()).collect();
        let mut wide = vec![0.0; halves.len()];
        widen(&halves, &mut wide);
        for (&bits, wide) in halves.iter().zip(wide) {
            assert_eq!(wide.to_bits(), f16::from_bits(bits).to_f32().to_bits());
        }
    }

    fn there_and_back(numbers: &[f32]) -> (f32, Vec<f32>) {
        let (scale, integers) = quantize_group(numbers);
        let (integers, scales): (Vec<i8>, _) = (integers.collect(), [scale]);
        let mut wide = vec![f32::NAN; numbers.len()];
        let kept = Numbers::Q8 { integers: &integers, scales: &scales, group: numbers.len() };
        kept.widen::<1>(0, &mut wide);
        (f16::from_bits(scale).to_f32(), wide)
    }

    #[test]
    fn a_group_comes_back_to_half_a_step() {
        for size in [1e-3_f32, 0.3, 55.0, 4e4] {
            let numbers: Vec<f32> = (0..32).map(|i| ((i * 37 % 32) as f32 - 15.7) * size).collect();
            let largest = numbers.iter().fold(0.0_f32, |most, n| most.max(n.abs()));
            let (scale, wide) = there_and_back(&numbers);
            assert!((scale * 127.0 / largest - 1.0).abs() < 1e-3, "{scale} for {largest}");
            for (number, wide) in numbers.iter().zip(wide) {
                // The largest also loses what the scale lost by rounding, 127 / 2048 of a step.
                assert!((number - wide).abs() <= 0.57 * scale, "{wide} for {number}");
            }
        }
    }

    #[test]
    fn zeros_and_tiny_numbers_are_zero() {
        assert_eq!(there_and_back(&[0.0; 8]), (0.0, vec![0.0; 8]));
        assert_eq!(there_and_back(&[1e-9, 0.0, -1e-40]), (0.0, vec![0.0; 3]));
    }

    #[test]
    fn numbers_of_several_positions_have_their_own_scales() {
        let (group, positions) = (4, 3);
        let number = |t: usize, d: usize| (1 + d) as f32 * [1.0, -200.0, 0.01][t];
        let (mut integers, mut scales) = (vec![0; 2 * group * positions], Vec::new());
        for g in 0..2 {
            for t in 0..positions {
                let numbers: Vec<f32> = (0..group).map(|d| number(t, g * group + d)).collect();
                let (scale, of_group) = quantize_group(&numbers);
                scales.push(scale);
                for (d, integer) in (g * group..).zip(of_group) {
                    integers[d * positions + t] = integer;
                }
            }
        }
        let kept = Numbers::Q8 { integers: &integers, scales: &scales, group };
        for g in 0..2 {
            let mut wide = vec![0.0; group * positions];
            kept.widen::<3>(g * group * positions, &mut wide);
            for (t, d) in (0..positions).flat_map(|t| (0..group).map(move |d| (t, d))) {
                let (wide, number) = (wide[d * positions + t], number(t, g * group + d));
                assert!((wide / number - 1.0).abs() < 0.02, "{wide} for {number}");
            }
        }
    }
}
