//! The vectors that weights are multiplied with: as computed, and in 8 bits by blocks of 32.

use crate::model::ModelError;

/// Weights share a scale by blocks that are multiples of this, and so do activations.
pub(crate) const BLOCK: usize = 32;

/// So many zeros, or an error where `vec!` would end the process.
pub(crate) fn zeros<T: Clone + Default>(length: usize) -> Result<Vec<T>, ModelError> {
    let wanted = length.saturating_mul(size_of::<T>()) as u64;
    let mut zeros = Vec::new();
    let reserved = zeros.try_reserve_exact(length);
    reserved.map_err(|_| ModelError::OutOfMemory { wanted, left: 0 })?;
    zeros.resize(length, T::default());
    Ok(zeros)
}

/// One position's vector. `values` is filled first, then [`Self::quantize`] makes the rest of it.
///
/// A block stands for `scales[b] * quants[32 b..][..32]`, `scales[b]` the largest magnitude
/// over 127. The sums let kernels work on unsigned weights: an offset or minimum that a weight
/// block subtracts is multiplied with the sum of the activations.
pub(crate) struct Activations {
    pub(crate) values: Vec<f32>,
    pub(super) quants: Vec<i8>,
    pub(super) scales: Vec<f32>,
    /// Minus the sum of `quants`, by halves of a block.
    pub(super) negative_half_sums: Vec<i32>,
    /// Minus the sum of `quants`, by block.
    pub(super) negative_sums: Vec<i32>,
    /// What a block stands for, summed.
    pub(super) sums: Vec<f32>,
}

impl Activations {
    /// Zeros. A length that is no multiple of 32 has no 8-bit form: no quantized weights have
    /// such a length.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(crate) fn new(length: usize) -> Result<Self, ModelError> {
        let blocks = if length.is_multiple_of(BLOCK) { length / BLOCK } else { 0 };
        Ok(Self {
            values: zeros(length)?,
            quants: zeros(blocks * BLOCK)?,
            scales: zeros(blocks)?,
            negative_half_sums: zeros(2 * blocks)?,
            negative_sums: zeros(blocks)?,
            sums: zeros(blocks)?,
        })
    }

    /// Brings the 8-bit form up to `values`.
    #[inline(always)]
    pub(super) fn quantize(&mut self) {
        let (blocks, _) = self.values.as_chunks::<BLOCK>();
        let (quants, _) = self.quants.as_chunks_mut::<BLOCK>();
        for (b, (block, quants)) in blocks.iter().zip(quants).enumerate() {
            // By bit pattern, so that a NaN is the largest of all and comes out in the scale.
            let largest = block.iter().fold(0, |most, v| most.max(v.abs().to_bits().cast_signed()));
            let largest = f32::from_bits(largest.cast_unsigned());
            let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
            // Denormal blocks have no finite inverse; they are as good as zero.
            let (inverse, scale) =
                if inverse == f32::INFINITY { (0.0, 0.0) } else { (inverse, largest / 127.0) };
            for (quant, value) in quants.iter_mut().zip(block) {
                *quant = round(value * inverse);
            }
            let sum = |half: &[i8]| half.iter().fold(0, |sum, &quant| sum + i32::from(quant));
            let halves = [sum(&quants[..16]), sum(&quants[16..])];
            self.scales[b] = scale;
            self.negative_half_sums[2 * b] = -halves[0];
            self.negative_half_sums[2 * b + 1] = -halves[1];
            self.negative_sums[b] = -halves[0] - halves[1];
            self.sums[b] = scale * (halves[0] + halves[1]) as f32;
        }
    }
}

/// To the nearest, ties to even, for magnitudes of at most 127: adding 1.5 * 2^23 leaves the
/// rounded number in the low bits.
#[inline(always)]
pub(super) fn round(value: f32) -> i8 {
    (value + 12_582_912.0).to_bits() as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(values: &[f32]) -> Activations {
        let mut x = Activations::new(values.len()).unwrap();
        x.values.copy_from_slice(values);
        x.quantize();
        x
    }

    #[test]
    fn a_block_stands_for_its_values_to_half_a_step() {
        let values: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 31.7) * 0.3).collect();
        let x = quantized(&values);
        for (i, value) in values.iter().enumerate() {
            let back = x.scales[i / 32] * f32::from(x.quants[i]);
            assert!((back - value).abs() <= 0.5001 * x.scales[i / 32], "{back} for {value}");
        }
        for b in 0..2 {
            let sum: i32 = x.quants[32 * b..][..32].iter().map(|&q| i32::from(q)).sum();
            assert_eq!(x.negative_sums[b], -sum);
            assert_eq!(x.negative_half_sums[2 * b] + x.negative_half_sums[2 * b + 1], -sum);
        }
    }

    #[test]
    fn zeros_and_denormals_are_zero_and_a_nan_stays_one() {
        let mut values = vec![0.0; 96];
        values[32] = 1e-42;
        values[70] = f32::NAN;
        let x = quantized(&values);
        assert_eq!(x.scales[..2], [0.0, 0.0]);
        assert!(x.quants[..64].iter().all(|&q| q == 0));
        assert!(x.scales[2].is_nan());
    }

    #[test]
    fn rounding_is_to_the_nearest_even() {
        for (value, rounded) in [(0.5, 0), (1.5, 2), (-0.5, 0), (-2.5, -2), (126.6, 127)] {
            assert_eq!(round(value), rounded);
        }
        assert_eq!(round(-127.0), -127);
    }
}
