//! How the blocks of 16 rows are brought into lanes, format by format.

use std::arch::x86_64::*;

use super::blocks::{Format, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

/// One group of blocks of 16 rows: where it begins in the first, and how far apart rows are.
#[derive(Clone, Copy)]
pub(super) struct Group {
    start: *const u8,
    stride: usize,
    /// `stride` times the lane.
    offsets: __m512i,
}

/// Sixteen rows of a [`Format`]. A group is decoded in `UNITS` parts of equal size, whose bytes
/// are brought into lanes together.
///
/// # Safety
/// All functions need AVX-512 F, BW, VL and VBMI; those that take a `Group` read `Format::BYTES`
/// bytes of each row.
pub(super) trait Panel: Format {
    const UNITS: usize;
    type Head;
    type Raw;

    unsafe fn head(group: Group) -> Self::Head;
    unsafe fn raw(group: Group, unit: usize) -> Self::Raw;
    /// Weights `4 k .. 4 k + 4` of a block of the group, which is in the unit that `raw` is.
    unsafe fn quad(head: &Self::Head, raw: &Self::Raw, block: usize, k: usize) -> __m512i;
    /// Of both halves of a block, equal unless the format is `HALVES`.
    unsafe fn scales(head: &Self::Head, block: usize) -> [__m512; 2];
    /// Not called unless the format has a `MINIMUM`.
    unsafe fn minimum(head: &Self::Head, block: usize) -> __m512;
}

impl Group {
    /// # Safety
    /// 16 rows of `stride` bytes, `stride` apart, must be readable as far as they will be read.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn new(start: *const u8, stride: usize) -> Self {
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let step = i32::try_from(stride).expect("a row is less than 128 MB");
        assert!(step < 1 << 27, "a row is less than 128 MB");
        Self { start, stride, offsets: _mm512_mullo_epi32(lanes, _mm512_set1_epi32(step)) }
    }

    /// The four bytes at `at` of each row.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn gather(self, at: usize) -> __m512i {
        // SAFETY: the caller reads within the rows.
        unsafe { _mm512_i32gather_epi32::<1>(self.offsets, self.start.add(at).cast()) }
    }

    /// The sixteen bytes at `at` of each row, four to a register.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn quads(self, at: usize) -> [__m512i; 4] {
        let load = |row: usize| {
            // SAFETY: the caller reads within the rows.
            unsafe { _mm_loadu_si128(self.start.add(row * self.stride + at).cast()) }
        };
        let four = |row: usize| {
            let lanes = _mm512_castsi128_si512(load(row));
            let lanes = _mm512_inserti32x4::<1>(lanes, load(row + 4));
            let lanes = _mm512_inserti32x4::<2>(lanes, load(row + 8));
            _mm512_inserti32x4::<3>(lanes, load(row + 12))
        };
        let (a, b, c, d) = (four(0), four(1), four(2), four(3));
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab_low, cd_low),
            _mm512_unpackhi_epi64(ab_low, cd_low),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ]
    }

    /// The thirty-two bytes at `at` of each row, four to a register.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn eight_quads(self, at: usize) -> [__m512i; 8] {
        // SAFETY: the caller reads within the rows.
        let ([a, b, c, d], [e, f, g, h]) = unsafe { (self.quads(at), self.quads(at + 16)) };
        [a, b, c, d, e, f, g, h]
    }
}

/// The low half of each lane, a 16-bit float.
#[inline]
#[target_feature(enable = "avx512f")]
fn low_float(lanes: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(lanes))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn high_float(lanes: __m512i) -> __m512 {
    low_float(_mm512_srli_epi32::<16>(lanes))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn low_nibbles(bytes: __m512i) -> __m512i {
    _mm512_and_si512(bytes, _mm512_set1_epi8(15))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn high_nibbles(bytes: __m512i) -> __m512i {
    low_nibbles(_mm512_srli_epi32::<4>(bytes))
}

/// Low nibbles are the first 16 weights, high ones the other 16.
#[inline]
#[target_feature(enable = "avx512f")]
fn nibbles(raw: &[__m512i; 4], k: usize) -> __m512i {
    if k < 4 { low_nibbles(raw[k]) } else { high_nibbles(raw[k - 4]) }
}

/// `quad | (bits & mask)`.
#[inline]
#[target_feature(enable = "avx512f")]
fn merge(quad: __m512i, bits: __m512i, mask: i8) -> __m512i {
    _mm512_ternarylogic_epi32::<0xf8>(quad, bits, _mm512_set1_epi8(mask))
}

/// Adds bits `4 k .. 4 k + 4` of each lane's 32 as the fifth bits of a quad.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi")]
fn fifth_bits(quad: __m512i, bits: __m512i, k: usize) -> __m512i {
    // Each byte takes eight bits of its 64 from a place on, so that the one wanted is the fifth:
    // 4 k - 4 and up in the lower lane, 4 k + 28 and up in the upper, modulo 64.
    let first = _mm512_set1_epi64(0x1f1e_1d1c_fffe_fdfc_u64.cast_signed());
    let places = _mm512_add_epi8(first, _mm512_set1_epi8(4 * k as i8));
    merge(quad, _mm512_multishift_epi64_epi8(places, bits), 16)
}

/// Scale, minimum and a lane's fifth bits, each where the format has it.
pub(super) struct Plain {
    scale: __m512,
    minimum: __m512,
    bits: __m512i,
}

/// The formats of 32 weights.
macro_rules! plain {
    ($format:ty, minimum: $minimum:expr, bits: $bits:expr, raw: $raw:ty = $load:ident($at:expr), quad: $quad:expr) => {
        impl Panel for $format {
            const UNITS: usize = 1;
            type Head = Plain;
            type Raw = $raw;

            #[inline]
            #[target_feature(enable = "avx512f,avx512dq")]
            unsafe fn head(group: Group) -> Plain {
                // SAFETY: the caller's group is whole.
                let start = unsafe { group.gather(0) };
                Plain {
                    scale: low_float(start),
                    minimum: if $minimum { high_float(start) } else { _mm512_setzero_ps() },
                    bits: match $bits {
                        // SAFETY: as above.
                        Some(at) => unsafe { group.gather(at) },
                        None => _mm512_setzero_si512(),
                    },
                }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512dq")]
            unsafe fn raw(group: Group, _: usize) -> $raw {
                // SAFETY: the caller's group is whole.
                unsafe { group.$load($at) }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512vbmi")]
            unsafe fn quad(head: &Plain, raw: &$raw, _: usize, k: usize) -> __m512i {
                let quad = $quad;
                quad(head, raw, k)
            }

            #[inline]
            #[target_feature(enable = "avx512f")]
            unsafe fn scales(head: &Plain, _: usize) -> [__m512; 2] {
                [head.scale; 2]
            }

            #[inline]
            #[target_feature(enable = "avx512f")]
            unsafe fn minimum(head: &Plain, _: usize) -> __m512 {
                head.minimum
            }
        }
    };
}

const NONE: Option<usize> = None;

plain!(Q4_0, minimum: false, bits: NONE,
    raw: [__m512i; 4] = quads(2),
    quad: |_: &Plain, raw: &[__m512i; 4], k| nibbles(raw, k));
plain!(Q4_1, minimum: true, bits: NONE,
    raw: [__m512i; 4] = quads(4),
    quad: |_: &Plain, raw: &[__m512i; 4], k| nibbles(raw, k));
plain!(Q5_0, minimum: false, bits: Some(2),
    raw: [__m512i; 4] = quads(6),
    quad: |head: &Plain, raw: &[__m512i; 4], k| fifth_bits(nibbles(raw, k), head.bits, k));
plain!(Q5_1, minimum: true, bits: Some(4),
    raw: [__m512i; 4] = quads(8),
    quad: |head: &Plain, raw: &[__m512i; 4], k| fifth_bits(nibbles(raw, k), head.bits, k));
plain!(Q8_0, minimum: false, bits: NONE,
raw: [__m512i; 8] = eight_quads(2),
quad: |_: &Plain, raw: &[__m512i; 8], k: usize| {
    _mm512_xor_si512(raw[k], _mm512_set1_epi8(-128))
});

/// Of Q4_K and Q5_K: a group's scale and that of its minima, and their factors, four to a lane.
pub(super) struct Shared {
    scale: __m512,
    minimum: __m512,
    scales: [__m512i; 2],
    minima: [__m512i; 2],
}

impl Shared {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn new(group: Group) -> Self {
        // SAFETY: the caller's group is whole.
        let (start, [a, b, c]) =
            unsafe { (group.gather(0), [group.gather(4), group.gather(8), group.gather(12)]) };
        let six = |bytes| _mm512_and_si512(bytes, _mm512_set1_epi8(63));
        // The upper two bits of the first four factors are those of the last four.
        let upper = |bytes| _mm512_srli_epi32::<2>(bytes);
        Self {
            scale: low_float(start),
            minimum: _mm512_sub_ps(_mm512_setzero_ps(), high_float(start)),
            scales: [six(a), merge(low_nibbles(c), upper(a), 48)],
            minima: [six(b), merge(high_nibbles(c), upper(b), 48)],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn scales(&self, block: usize) -> [__m512; 2] {
        [_mm512_mul_ps(self.scale, factor(&self.scales, block)); 2]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn minimum(&self, block: usize) -> __m512 {
        _mm512_mul_ps(self.minimum, factor(&self.minima, block))
    }
}

/// Byte `block` of a lane's eight, unsigned.
#[inline]
#[target_feature(enable = "avx512f")]
fn factor(factors: &[__m512i; 2], block: usize) -> __m512 {
    let shift = _mm_cvtsi32_si128(8 * (block % 4) as i32);
    let byte = _mm512_srl_epi32(factors[block / 4], shift);
    _mm512_cvtepi32_ps(_mm512_and_si512(byte, _mm512_set1_epi32(255)))
}

/// Moves each byte's bit or bits at `from` to `to`; other bits are left over.
#[inline]
#[target_feature(enable = "avx512f")]
fn moved(bytes: __m512i, from: usize, to: usize) -> __m512i {
    _mm512_rolv_epi32(bytes, _mm512_set1_epi32(to as i32 - from as i32))
}

impl Panel for Q4K {
    const UNITS: usize = 4;
    type Head = Shared;
    type Raw = [__m512i; 8];

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn head(group: Group) -> Shared {
        // SAFETY: the caller's group is whole.
        unsafe { Shared::new(group) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn raw(group: Group, unit: usize) -> [__m512i; 8] {
        // SAFETY: the caller's group is whole.
        unsafe { group.eight_quads(16 + 32 * unit) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn quad(_: &Shared, raw: &[__m512i; 8], block: usize, k: usize) -> __m512i {
        if block.is_multiple_of(2) { low_nibbles(raw[k]) } else { high_nibbles(raw[k]) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn scales(head: &Shared, block: usize) -> [__m512; 2] {
        head.scales(block)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn minimum(head: &Shared, block: usize) -> __m512 {
        head.minimum(block)
    }
}

impl Panel for Q5K {
    const UNITS: usize = 4;
    type Head = (Shared, [__m512i; 8]);
    type Raw = [__m512i; 8];

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn head(group: Group) -> Self::Head {
        // SAFETY: the caller's group is whole.
        unsafe { (Shared::new(group), group.eight_quads(16)) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn raw(group: Group, unit: usize) -> [__m512i; 8] {
        // SAFETY: the caller's group is whole.
        unsafe { group.eight_quads(48 + 32 * unit) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn quad(head: &Self::Head, raw: &[__m512i; 8], block: usize, k: usize) -> __m512i {
        let nibbles =
            if block.is_multiple_of(2) { low_nibbles(raw[k]) } else { high_nibbles(raw[k]) };
        merge(nibbles, moved(head.1[k], block, 4), 16)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn scales(head: &Self::Head, block: usize) -> [__m512; 2] {
        head.0.scales(block)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn minimum(head: &Self::Head, block: usize) -> __m512 {
        head.0.minimum(block)
    }
}

impl Panel for Q6K {
    const UNITS: usize = 2;
    /// The scale, and its 16 signed factors, four to a lane.
    type Head = (__m512, [__m512i; 4]);
    /// Low nibbles, then pairs of high bits.
    type Raw = ([__m512i; 16], [__m512i; 8]);

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn head(group: Group) -> Self::Head {
        // SAFETY: the caller's group is whole; the scale is its last two bytes.
        unsafe { (high_float(group.gather(206)), group.quads(192)) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn raw(group: Group, unit: usize) -> Self::Raw {
        let mut low = [_mm512_setzero_si512(); 16];
        // SAFETY: the caller's group is whole.
        unsafe {
            low[..8].copy_from_slice(&group.eight_quads(64 * unit));
            low[8..].copy_from_slice(&group.eight_quads(64 * unit + 32));
            (low, group.eight_quads(128 + 32 * unit))
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn quad(_: &Self::Head, raw: &Self::Raw, block: usize, k: usize) -> __m512i {
        let part = block % 4;
        let low = raw.0[8 * (part % 2) + k];
        let nibbles = if part < 2 { low_nibbles(low) } else { high_nibbles(low) };
        merge(nibbles, moved(raw.1[k], 2 * part, 4), 48)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn scales(head: &Self::Head, block: usize) -> [__m512; 2] {
        [0, 1].map(|half| {
            let place = 2 * block + half;
            let top = _mm_cvtsi32_si128(24 - 8 * (place % 4) as i32);
            let byte = _mm512_srai_epi32::<24>(_mm512_sll_epi32(head.1[place / 4], top));
            _mm512_mul_ps(head.0, _mm512_cvtepi32_ps(byte))
        })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn minimum(_: &Self::Head, _: usize) -> __m512 {
        _mm512_setzero_ps()
    }
}
