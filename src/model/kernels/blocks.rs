//! The block formats of GGUF, one weight at a time: what the portable kernel runs on, and where
//! embedding rows come from.
//!
//! Every format is cut into blocks of 32 weights `scale * (quant - OFFSET) + minimum` with
//! unsigned quants; in Q2_K, Q3_K and Q6_K each half of a block has its own scale and minimum.

use half::f16;

/// 32 weights.
pub(super) struct Block {
    pub(super) quants: [u8; 32],
    /// Of the first and the second 16 weights; equal unless the format is `HALVES`.
    pub(super) scales: [f32; 2],
    pub(super) minima: [f32; 2],
}

pub(super) trait Format {
    /// Bytes in the file that belong together, and how many blocks of 32 they hold.
    const BYTES: usize;
    const BLOCKS: usize;
    /// Each quant has two to the power of this subtracted.
    const OFFSET: Option<u32>;
    const HALVES: bool;
    const MINIMUM: bool;

    /// # Panics
    /// If `bytes` is not `BYTES` long.
    fn block(bytes: &[u8], index: usize) -> Block;
}

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;
pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

fn float(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Low nibbles are the first 16 weights, high ones the other 16.
fn nibbles(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|k| if k < 16 { bytes[k] & 15 } else { bytes[k - 16] >> 4 })
}

/// Bit `k` of the 32 is the fifth bit of weight `k`.
fn fifth_bits(mut quants: [u8; 32], bytes: &[u8]) -> [u8; 32] {
    let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (k, quant) in quants.iter_mut().enumerate() {
        *quant |= ((bits >> k) as u8 & 1) << 4;
    }
    quants
}

fn plain(quants: [u8; 32], scale: f32, minimum: f32) -> Block {
    Block { quants, scales: [scale, scale], minima: [minimum, minimum] }
}

impl Format for Q4_0 {
    const BYTES: usize = 18;
    const BLOCKS: usize = 1;
    const OFFSET: Option<u32> = Some(3);
    const HALVES: bool = false;
    const MINIMUM: bool = false;

    fn block(bytes: &[u8], _: usize) -> Block {
        plain(nibbles(&bytes[2..18]), float(bytes, 0), 0.0)
    }
}

impl Format for Q4_1 {
    const BYTES: usize = 20;
    const BLOCKS: usize = 1;
    const OFFSET: Option<u32> = None;
    const HALVES: bool = false;
    const MINIMUM: bool = true;

    fn block(bytes: &[u8], _: usize) -> Block {
        plain(nibbles(&bytes[4..20]), float(bytes, 0), float(bytes, 2))
    }
}

impl Format for Q5_0 {
    const BYTES: usize = 22;
    const BLOCKS: usize = 1;
    const OFFSET: Option<u32> = Some(4);
    const HALVES: bool = false;
    const MINIMUM: bool = false;

    fn block(bytes: &[u8], _: usize) -> Block {
        plain(fifth_bits(nibbles(&bytes[6..22]), &bytes[2..6]), float(bytes, 0), 0.0)
    }
}

impl Format for Q5_1 {
    const BYTES: usize = 24;
    const BLOCKS: usize = 1;
    const OFFSET: Option<u32> = None;
    const HALVES: bool = false;
    const MINIMUM: bool = true;

    fn block(bytes: &[u8], _: usize) -> Block {
        plain(fifth_bits(nibbles(&bytes[8..24]), &bytes[4..8]), float(bytes, 0), float(bytes, 2))
    }
}

impl Format for Q8_0 {
    const BYTES: usize = 34;
    const BLOCKS: usize = 1;
    const OFFSET: Option<u32> = Some(7);
    const HALVES: bool = false;
    const MINIMUM: bool = false;

    fn block(bytes: &[u8], _: usize) -> Block {
        plain(std::array::from_fn(|k| bytes[2 + k] ^ 0x80), float(bytes, 0), 0.0)
    }
}

/// Two bits of each weight of block `index` where four blocks share bytes.
fn shared_pairs(bytes: &[u8], index: usize) -> [u8; 32] {
    let bytes = &bytes[index / 4 * 32..][..32];
    std::array::from_fn(|k| bytes[k] >> (2 * (index % 4)) & 3)
}

impl Format for Q2K {
    const BYTES: usize = 84;
    const BLOCKS: usize = 8;
    const OFFSET: Option<u32> = None;
    const HALVES: bool = true;
    const MINIMUM: bool = true;

    fn block(bytes: &[u8], index: usize) -> Block {
        let (scale, minimum) = (float(bytes, 80), float(bytes, 82));
        let packed = [bytes[2 * index], bytes[2 * index + 1]];
        Block {
            quants: shared_pairs(&bytes[16..80], index),
            scales: packed.map(|packed| scale * f32::from(packed & 15)),
            minima: packed.map(|packed| -(minimum * f32::from(packed >> 4))),
        }
    }
}

impl Format for Q3K {
    const BYTES: usize = 110;
    const BLOCKS: usize = 8;
    const OFFSET: Option<u32> = Some(2);
    const HALVES: bool = true;
    const MINIMUM: bool = false;

    fn block(bytes: &[u8], index: usize) -> Block {
        let mut quants = shared_pairs(&bytes[32..96], index);
        for (quant, bits) in quants.iter_mut().zip(&bytes[..32]) {
            *quant |= (bits >> index & 1) << 2;
        }
        // Sixteen numbers of six bits: nibbles of eight bytes, and the rest in four.
        let packed = &bytes[96..108];
        let factor = |place: usize| {
            let low = packed[place % 8] >> (place / 8 * 4) & 15;
            let high = packed[8 + place % 4] >> (place / 4 * 2) & 3;
            f32::from(low | high << 4) - 32.0
        };
        let scales = [2 * index, 2 * index + 1].map(|place| float(bytes, 108) * factor(place));
        Block { quants, scales, minima: [0.0, 0.0] }
    }
}

/// The 6-bit scale and minimum of block `index` of Q4_K and Q5_K.
fn scale_and_minimum(packed: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let low = packed[index + 4];
        (low & 15 | packed[index - 4] >> 6 << 4, low >> 4 | packed[index] >> 6 << 4)
    }
}

/// Quants of block `index` where pairs of blocks share bytes, the second in the high nibbles.
fn paired_nibbles(bytes: &[u8], index: usize) -> [u8; 32] {
    let bytes = &bytes[index / 2 * 32..][..32];
    std::array::from_fn(|k| if index.is_multiple_of(2) { bytes[k] & 15 } else { bytes[k] >> 4 })
}

fn k_block(bytes: &[u8], index: usize, quants: [u8; 32]) -> Block {
    let (scale, minimum) = scale_and_minimum(&bytes[4..16], index);
    plain(quants, float(bytes, 0) * f32::from(scale), -(float(bytes, 2) * f32::from(minimum)))
}

impl Format for Q4K {
    const BYTES: usize = 144;
    const BLOCKS: usize = 8;
    const OFFSET: Option<u32> = None;
    const HALVES: bool = false;
    const MINIMUM: bool = true;

    fn block(bytes: &[u8], index: usize) -> Block {
        k_block(bytes, index, paired_nibbles(&bytes[16..144], index))
    }
}

impl Format for Q5K {
    const BYTES: usize = 176;
    const BLOCKS: usize = 8;
    const OFFSET: Option<u32> = None;
    const HALVES: bool = false;
    const MINIMUM: bool = true;

    fn block(bytes: &[u8], index: usize) -> Block {
        let mut quants = paired_nibbles(&bytes[48..176], index);
        for (quant, bits) in quants.iter_mut().zip(&bytes[16..48]) {
            *quant |= (bits >> index & 1) << 4;
        }
        k_block(bytes, index, quants)
    }
}

impl Format for Q6K {
    const BYTES: usize = 210;
    const BLOCKS: usize = 8;
    const OFFSET: Option<u32> = Some(5);
    const HALVES: bool = true;
    const MINIMUM: bool = false;

    fn block(bytes: &[u8], index: usize) -> Block {
        let (half, part) = (index / 4, index % 4);
        let low = &bytes[64 * half + 32 * (part % 2)..][..32];
        let high = &bytes[128 + 32 * half..][..32];
        let quants = std::array::from_fn(|k| {
            let low = if part < 2 { low[k] & 15 } else { low[k] >> 4 };
            low | (high[k] >> (2 * part) & 3) << 4
        });
        let scale = float(bytes, 208);
        let scales = [0, 1].map(|h| scale * f32::from(bytes[192 + 2 * index + h].cast_signed()));
        Block { quants, scales, minima: [0.0, 0.0] }
    }
}
