//! AVX2 with FMA and F16C: eight rows.

use std::arch::x86_64::*;

use super::{
    Task, rows,
    simd::{Move, Rows, Simd},
};

/// Runs the rows of a task.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply(task: &Task<'_>) {
    // SAFETY: this function enables the instructions.
    unsafe { rows::multiply::<Avx2>(task) }
}

struct Avx2;

impl Simd for Avx2 {
    const ROWS: usize = 8;
    const TILE: usize = 4;
    const OFFSET_EIGHT_BITS: bool = false;
    type Int = __m256i;
    type Float = __m256;

    #[inline(always)]
    unsafe fn gather(rows: Rows, at: usize) -> __m256i {
        // SAFETY: the caller's duty.
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let offsets = _mm256_mullo_epi32(lanes, _mm256_set1_epi32(rows.stride as i32));
            _mm256_i32gather_epi32::<1>(rows.start.add(at).cast(), offsets)
        }
    }

    #[inline(always)]
    unsafe fn quads(rows: Rows, at: usize) -> [__m256i; 4] {
        // SAFETY: the caller's duty.
        unsafe {
            let (a, b) = (every_fourth(rows, at, 0), every_fourth(rows, at, 1));
            let (c, d) = (every_fourth(rows, at, 2), every_fourth(rows, at, 3));
            let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab_low, cd_low),
                _mm256_unpackhi_epi64(ab_low, cd_low),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }

    #[inline(always)]
    unsafe fn low_nibbles(quad: __m256i) -> __m256i {
        // SAFETY: the caller's duty.
        unsafe { _mm256_and_si256(quad, _mm256_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn high_nibbles(quad: __m256i) -> __m256i {
        // SAFETY: the caller's duty.
        unsafe { Self::low_nibbles(_mm256_srli_epi32::<4>(quad)) }
    }

    #[inline(always)]
    unsafe fn merge(quad: __m256i, bits: __m256i, place: Move, mask: i8) -> __m256i {
        // SAFETY: the caller's duty.
        unsafe {
            let left = _mm_cvtsi32_si128(place.to.saturating_sub(place.from) as i32);
            let right = _mm_cvtsi32_si128(place.from.saturating_sub(place.to) as i32);
            let bits = _mm256_srl_epi32(_mm256_sll_epi32(bits, left), right);
            _mm256_or_si256(quad, _mm256_and_si256(bits, _mm256_set1_epi8(mask)))
        }
    }

    #[inline(always)]
    unsafe fn fifth_bits(quad: __m256i, bits: __m256i, k: usize) -> __m256i {
        // Every byte of a lane gets the byte with its bit, then that bit is tested.
        // SAFETY: the caller's duty.
        unsafe {
            let lanes = _mm256_setr_epi32(
                0,
                0x0404_0404,
                0x0808_0808,
                0x0c0c_0c0c,
                0,
                0x0404_0404,
                0x0808_0808,
                0x0c0c_0c0c,
            );
            let from = _mm256_add_epi8(lanes, _mm256_set1_epi8((k / 2) as i8));
            let bytes = _mm256_shuffle_epi8(bits, from);
            let wanted = if k.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010_u32 };
            let wanted = _mm256_set1_epi32(wanted.cast_signed());
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, wanted), wanted);
            _mm256_or_si256(quad, _mm256_and_si256(set, _mm256_set1_epi8(16)))
        }
    }

    #[inline(always)]
    unsafe fn eight_bits(quad: __m256i) -> __m256i {
        quad
    }

    #[inline(always)]
    unsafe fn low_float(lanes: __m256i) -> __m256 {
        // SAFETY: the caller's duty.
        unsafe {
            let low = _mm256_and_si256(lanes, _mm256_set1_epi32(0xffff));
            let packed = _mm256_permute4x64_epi64::<0b10_00>(_mm256_packus_epi32(low, low));
            _mm256_cvtph_ps(_mm256_castsi256_si128(packed))
        }
    }

    #[inline(always)]
    unsafe fn high_float(lanes: __m256i) -> __m256 {
        // SAFETY: the caller's duty.
        unsafe { Self::low_float(_mm256_srli_epi32::<16>(lanes)) }
    }

    #[inline(always)]
    unsafe fn unsigned_byte(lanes: __m256i, byte: usize) -> __m256 {
        // SAFETY: the caller's duty.
        unsafe {
            let low = _mm256_srl_epi32(lanes, _mm_cvtsi32_si128(8 * byte as i32));
            _mm256_cvtepi32_ps(_mm256_and_si256(low, _mm256_set1_epi32(255)))
        }
    }

    #[inline(always)]
    unsafe fn signed_byte(lanes: __m256i, byte: usize) -> __m256 {
        // SAFETY: the caller's duty.
        unsafe {
            let high = _mm256_sll_epi32(lanes, _mm_cvtsi32_si128(24 - 8 * byte as i32));
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(high))
        }
    }

    #[inline(always)]
    unsafe fn int(value: i32) -> __m256i {
        // SAFETY: the caller's duty.
        unsafe { _mm256_set1_epi32(value) }
    }

    #[inline(always)]
    unsafe fn float(value: f32) -> __m256 {
        // SAFETY: the caller's duty.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn to_float(lanes: __m256i) -> __m256 {
        // SAFETY: the caller's duty.
        unsafe { _mm256_cvtepi32_ps(lanes) }
    }

    #[inline(always)]
    unsafe fn negative(a: __m256) -> __m256 {
        // SAFETY: the caller's duty.
        unsafe { _mm256_xor_ps(a, _mm256_set1_ps(-0.0)) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's duty.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller's duty.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m256i, quad: __m256i, x: i32) -> __m256i {
        // SAFETY: the caller's duty. Two products of less than 64 times at most 127 fit 16 bits.
        unsafe {
            let pairs = _mm256_maddubs_epi16(quad, _mm256_set1_epi32(x));
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn dot_eight_bits(sum: __m256i, quad: __m256i, x: i32) -> __m256i {
        // SAFETY: the caller's duty. Two products of at most 128 times 127 fit 16 bits.
        unsafe {
            let x = _mm256_sign_epi8(_mm256_set1_epi32(x), quad);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(quad), x);
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn store(lanes: __m256, to: *mut f32, skipped: usize) {
        // SAFETY: the caller's duty; masked lanes are not touched.
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let written = _mm256_cmpgt_epi32(lane, _mm256_set1_epi32(skipped as i32 - 1));
            _mm256_maskstore_ps(to, written, lanes);
        }
    }

    #[inline(always)]
    fn prefetch(line: *const u8) {
        // SAFETY: every x86-64 has the instruction; any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
}

/// Sixteen bytes of rows `first` and `first + 4`.
#[inline(always)]
unsafe fn every_fourth(rows: Rows, at: usize, first: usize) -> __m256i {
    // SAFETY: the caller's duty.
    unsafe {
        let start = rows.start.add(first * rows.stride + at);
        let low = _mm256_castsi128_si256(_mm_loadu_si128(start.cast()));
        let high = _mm_loadu_si128(start.add(4 * rows.stride).cast());
        _mm256_inserti128_si256::<1>(low, high)
    }
}
