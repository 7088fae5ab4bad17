//! AVX-512: sixteen rows, VNNI for the products, VBMI for fifth bits.

use std::arch::x86_64::*;

use super::{
    Task, rows,
    simd::{Move, Rows, Simd},
};

/// Runs the rows of a task.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[target_feature(enable = "avx512vbmi")]
pub(super) fn multiply(task: &Task<'_>) {
    // SAFETY: this function enables the instructions.
    unsafe { rows::multiply::<Avx512>(task) }
}

struct Avx512;

impl Simd for Avx512 {
    const ROWS: usize = 16;
    const TILE: usize = 8;
    const OFFSET_EIGHT_BITS: bool = true;
    type Int = __m512i;
    type Float = __m512;

    #[inline(always)]
    unsafe fn gather(rows: Rows, at: usize) -> __m512i {
        // SAFETY: the caller's duty.
        unsafe {
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let offsets = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(rows.stride as i32));
            _mm512_i32gather_epi32::<1>(offsets, rows.start.add(at).cast())
        }
    }

    #[inline(always)]
    unsafe fn quads(rows: Rows, at: usize) -> [__m512i; 4] {
        // SAFETY: the caller's duty.
        unsafe {
            let (a, b) = (every_fourth(rows, at, 0), every_fourth(rows, at, 1));
            let (c, d) = (every_fourth(rows, at, 2), every_fourth(rows, at, 3));
            let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab_low, cd_low),
                _mm512_unpackhi_epi64(ab_low, cd_low),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }

    #[inline(always)]
    unsafe fn low_nibbles(quad: __m512i) -> __m512i {
        // SAFETY: the caller's duty.
        unsafe { _mm512_and_si512(quad, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn high_nibbles(quad: __m512i) -> __m512i {
        // SAFETY: the caller's duty.
        unsafe { Self::low_nibbles(_mm512_srli_epi32::<4>(quad)) }
    }

    #[inline(always)]
    unsafe fn merge(quad: __m512i, bits: __m512i, place: Move, mask: i8) -> __m512i {
        // SAFETY: the caller's duty.
        unsafe {
            let turn = _mm512_set1_epi32(place.to as i32 - place.from as i32);
            let bits = _mm512_rolv_epi32(bits, turn);
            _mm512_ternarylogic_epi32::<0xf8>(quad, bits, _mm512_set1_epi8(mask))
        }
    }

    #[inline(always)]
    unsafe fn fifth_bits(quad: __m512i, bits: __m512i, k: usize) -> __m512i {
        // Each byte takes eight bits of its 64 from a place on, so that the one wanted is the
        // fifth: 4 k - 4 and up in the lower lane, 4 k + 28 and up in the upper, modulo 64.
        let first = 0x1f1e_1d1c_fffe_fdfc_u64;
        // SAFETY: the caller's duty.
        unsafe {
            let first = _mm512_set1_epi64(first.cast_signed());
            let places = _mm512_add_epi8(first, _mm512_set1_epi8(4 * k as i8));
            let bits = _mm512_multishift_epi64_epi8(places, bits);
            _mm512_ternarylogic_epi32::<0xf8>(quad, bits, _mm512_set1_epi8(16))
        }
    }

    #[inline(always)]
    unsafe fn eight_bits(quad: __m512i) -> __m512i {
        // SAFETY: the caller's duty.
        unsafe { _mm512_xor_si512(quad, _mm512_set1_epi8(-128)) }
    }

    #[inline(always)]
    unsafe fn low_float(lanes: __m512i) -> __m512 {
        // SAFETY: the caller's duty.
        unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(lanes)) }
    }

    #[inline(always)]
    unsafe fn high_float(lanes: __m512i) -> __m512 {
        // SAFETY: the caller's duty.
        unsafe { Self::low_float(_mm512_srli_epi32::<16>(lanes)) }
    }

    #[inline(always)]
    unsafe fn unsigned_byte(lanes: __m512i, byte: usize) -> __m512 {
        // SAFETY: the caller's duty.
        unsafe {
            let low = _mm512_srl_epi32(lanes, _mm_cvtsi32_si128(8 * byte as i32));
            _mm512_cvtepi32_ps(_mm512_and_si512(low, _mm512_set1_epi32(255)))
        }
    }

    #[inline(always)]
    unsafe fn signed_byte(lanes: __m512i, byte: usize) -> __m512 {
        // SAFETY: the caller's duty.
        unsafe {
            let high = _mm512_sll_epi32(lanes, _mm_cvtsi32_si128(24 - 8 * byte as i32));
            _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(high))
        }
    }

    #[inline(always)]
    unsafe fn int(value: i32) -> __m512i {
        // SAFETY: the caller's duty.
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    unsafe fn float(value: f32) -> __m512 {
        // SAFETY: the caller's duty.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn to_float(lanes: __m512i) -> __m512 {
        // SAFETY: the caller's duty.
        unsafe { _mm512_cvtepi32_ps(lanes) }
    }

    #[inline(always)]
    unsafe fn negative(a: __m512) -> __m512 {
        // SAFETY: the caller's duty.
        unsafe { _mm512_xor_ps(a, _mm512_set1_ps(-0.0)) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller's duty.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller's duty.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512i, quad: __m512i, x: i32) -> __m512i {
        // SAFETY: the caller's duty.
        unsafe { _mm512_dpbusd_epi32(sum, quad, _mm512_set1_epi32(x)) }
    }

    #[inline(always)]
    unsafe fn dot_eight_bits(sum: __m512i, quad: __m512i, x: i32) -> __m512i {
        // SAFETY: the caller's duty.
        unsafe { Self::dot(sum, quad, x) }
    }

    #[inline(always)]
    unsafe fn store(lanes: __m512, to: *mut f32, skipped: usize) {
        // SAFETY: the caller's duty; masked lanes are not touched.
        unsafe { _mm512_mask_storeu_ps(to, u16::MAX << skipped, lanes) }
    }

    #[inline(always)]
    fn prefetch(line: *const u8) {
        // SAFETY: every x86-64 has the instruction; any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
}

/// Sixteen bytes of rows `first`, `first + 4`, `first + 8` and `first + 12`.
#[inline(always)]
unsafe fn every_fourth(rows: Rows, at: usize, first: usize) -> __m512i {
    let four = 4 * rows.stride;
    // SAFETY: the caller's duty.
    unsafe {
        let start = rows.start.add(first * rows.stride + at);
        let lanes = _mm512_castsi128_si512(_mm_loadu_si128(start.cast()));
        let lanes = _mm512_inserti32x4::<1>(lanes, _mm_loadu_si128(start.add(four).cast()));
        let lanes = _mm512_inserti32x4::<2>(lanes, _mm_loadu_si128(start.add(2 * four).cast()));
        _mm512_inserti32x4::<3>(lanes, _mm_loadu_si128(start.add(3 * four).cast()))
    }
}
