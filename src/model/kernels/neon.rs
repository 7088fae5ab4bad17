//! NEON, which every 64-bit ARM has: four rows, with the dot product instructions where they are.

use std::arch::{aarch64::*, asm};

use super::{
    Task, rows,
    simd::{Move, Rows, Simd},
};

/// Runs the rows of a task.
pub(super) fn multiply(task: &Task<'_>) {
    // SAFETY: every machine of this kind has the instructions.
    unsafe { rows::multiply::<Neon<false>>(task) }
}

/// As [`multiply`], with the instructions for dot products.
#[target_feature(enable = "dotprod")]
pub(super) fn multiply_dotprod(task: &Task<'_>) {
    // SAFETY: this function enables the instructions.
    unsafe { rows::multiply::<Neon<true>>(task) }
}

struct Neon<const DOTPROD: bool>;

impl<const DOTPROD: bool> Simd for Neon<DOTPROD> {
    const ROWS: usize = 4;
    const TILE: usize = 8;
    const OFFSET_EIGHT_BITS: bool = false;
    type Int = int32x4_t;
    type Float = float32x4_t;

    #[inline(always)]
    unsafe fn gather(rows: Rows, at: usize) -> int32x4_t {
        // SAFETY: the caller's duty; these loads need not be aligned.
        unsafe {
            let start = rows.start.add(at).cast::<i32>();
            let row = |row| start.byte_add(row * rows.stride).read_unaligned();
            let lanes = [row(0), row(1), row(2), row(3)];
            vld1q_s32(lanes.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn quads(rows: Rows, at: usize) -> [int32x4_t; 4] {
        // SAFETY: the caller's duty.
        unsafe {
            let (a, b) = (sixteen_bytes(rows, at, 0), sixteen_bytes(rows, at, 1));
            let (c, d) = (sixteen_bytes(rows, at, 2), sixteen_bytes(rows, at, 3));
            let (ab_even, ab_odd) = (pairs(vtrn1q_s32(a, b)), pairs(vtrn2q_s32(a, b)));
            let (cd_even, cd_odd) = (pairs(vtrn1q_s32(c, d)), pairs(vtrn2q_s32(c, d)));
            [
                vreinterpretq_s32_s64(vtrn1q_s64(ab_even, cd_even)),
                vreinterpretq_s32_s64(vtrn1q_s64(ab_odd, cd_odd)),
                vreinterpretq_s32_s64(vtrn2q_s64(ab_even, cd_even)),
                vreinterpretq_s32_s64(vtrn2q_s64(ab_odd, cd_odd)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn low_nibbles(quad: int32x4_t) -> int32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vandq_s32(quad, vdupq_n_s32(0x0f0f_0f0f)) }
    }

    #[inline(always)]
    unsafe fn high_nibbles(quad: int32x4_t) -> int32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vreinterpretq_s32_u8(vshrq_n_u8::<4>(vreinterpretq_u8_s32(quad))) }
    }

    #[inline(always)]
    unsafe fn merge(quad: int32x4_t, bits: int32x4_t, place: Move, mask: i8) -> int32x4_t {
        // To the right, if it is negative.
        // SAFETY: the caller's duty.
        unsafe {
            let left = vdupq_n_s32(place.to as i32 - place.from as i32);
            let bits = vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(bits), left));
            vorrq_s32(quad, vandq_s32(bits, vreinterpretq_s32_s8(vdupq_n_s8(mask))))
        }
    }

    #[inline(always)]
    unsafe fn fifth_bits(quad: int32x4_t, bits: int32x4_t, k: usize) -> int32x4_t {
        // Every byte of a lane gets the byte with its bit, then that bit is tested.
        // SAFETY: the caller's duty.
        unsafe {
            let lanes = vcombine_u32(
                vcreate_u32(0x0404_0404_0000_0000),
                vcreate_u32(0x0c0c_0c0c_0808_0808),
            );
            let from = vaddq_u8(vreinterpretq_u8_u32(lanes), vdupq_n_u8((k / 2) as u8));
            let bytes = vqtbl1q_u8(vreinterpretq_u8_s32(bits), from);
            let wanted = if k.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010 };
            let set = vtstq_u8(bytes, vreinterpretq_u8_u32(vdupq_n_u32(wanted)));
            vorrq_s32(quad, vreinterpretq_s32_u8(vandq_u8(set, vdupq_n_u8(16))))
        }
    }

    #[inline(always)]
    unsafe fn eight_bits(quad: int32x4_t) -> int32x4_t {
        quad
    }

    #[inline(always)]
    unsafe fn low_float(lanes: int32x4_t) -> float32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32(lanes))) }
    }

    #[inline(always)]
    unsafe fn high_float(lanes: int32x4_t) -> float32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vcvt_f32_f16(vreinterpret_f16_s16(vshrn_n_s32::<16>(lanes))) }
    }

    #[inline(always)]
    unsafe fn unsigned_byte(lanes: int32x4_t, byte: usize) -> float32x4_t {
        // SAFETY: the caller's duty.
        unsafe {
            let low = vshlq_u32(vreinterpretq_u32_s32(lanes), vdupq_n_s32(-8 * byte as i32));
            vcvtq_f32_u32(vandq_u32(low, vdupq_n_u32(255)))
        }
    }

    #[inline(always)]
    unsafe fn signed_byte(lanes: int32x4_t, byte: usize) -> float32x4_t {
        // SAFETY: the caller's duty.
        unsafe {
            let high = vshlq_s32(lanes, vdupq_n_s32(24 - 8 * byte as i32));
            vcvtq_f32_s32(vshrq_n_s32::<24>(high))
        }
    }

    #[inline(always)]
    unsafe fn int(value: i32) -> int32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vdupq_n_s32(value) }
    }

    #[inline(always)]
    unsafe fn float(value: f32) -> float32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn to_float(lanes: int32x4_t) -> float32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vcvtq_f32_s32(lanes) }
    }

    #[inline(always)]
    unsafe fn negative(a: float32x4_t) -> float32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vnegq_f32(a) }
    }

    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    unsafe fn dot(sum: int32x4_t, quad: int32x4_t, x: i32) -> int32x4_t {
        // What is below 64 is the same signed.
        // SAFETY: the caller's duty.
        unsafe { Self::dot_eight_bits(sum, quad, x) }
    }

    #[inline(always)]
    unsafe fn dot_eight_bits(mut sum: int32x4_t, quad: int32x4_t, x: i32) -> int32x4_t {
        // SAFETY: the caller's duty; `sdot` reads and writes registers only.
        unsafe {
            let (quad, x) = (vreinterpretq_s8_s32(quad), vreinterpretq_s8_s32(vdupq_n_s32(x)));
            if DOTPROD {
                // Its intrinsic, `vdotq_s32`, is not in stable Rust (1.95).
                asm!(
                    "sdot {sum:v}.4s, {quad:v}.16b, {x:v}.16b",
                    sum = inout(vreg) sum,
                    quad = in(vreg) quad,
                    x = in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags)
                );
                sum
            } else {
                // Two products of at most 128 times 127 fit 16 bits.
                let low = vmull_s8(vget_low_s8(quad), vget_low_s8(x));
                vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(quad, x)))
            }
        }
    }

    #[inline(always)]
    unsafe fn store(lanes: float32x4_t, to: *mut f32, skipped: usize) {
        let mut values = [0.0; 4];
        // SAFETY: four lanes are written, then, which is the caller's duty, all but the skipped.
        unsafe {
            vst1q_f32(values.as_mut_ptr(), lanes);
            for (lane, value) in values.into_iter().enumerate().skip(skipped) {
                to.add(lane).write(value);
            }
        }
    }

    #[inline(always)]
    fn prefetch(_: *const u8) {}
}

/// Sixteen bytes of a row.
#[inline(always)]
unsafe fn sixteen_bytes(rows: Rows, at: usize, row: usize) -> int32x4_t {
    // SAFETY: the caller's duty.
    unsafe { vreinterpretq_s32_u8(vld1q_u8(rows.start.add(row * rows.stride + at))) }
}

#[inline(always)]
unsafe fn pairs(lanes: int32x4_t) -> int64x2_t {
    // SAFETY: the caller's duty.
    unsafe { vreinterpretq_s64_s32(lanes) }
}
