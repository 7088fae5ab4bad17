//! How the blocks of neighbouring rows are brought into lanes, format by format.

use super::{
    blocks::{Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0},
    simd::{Move, Panel, Rows, Simd},
};

/// Low nibbles are the first 16 weights, high ones the other 16.
#[inline(always)]
unsafe fn nibbles<S: Simd>(raw: &[S::Int; 4], k: usize) -> S::Int {
    // SAFETY: the caller's duty.
    unsafe { if k < 4 { S::low_nibbles(raw[k]) } else { S::high_nibbles(raw[k - 4]) } }
}

/// Pairs of blocks share bytes, the second has the high nibbles.
#[inline(always)]
unsafe fn paired_nibbles<S: Simd>(raw: &[S::Int; 8], block: usize, k: usize) -> S::Int {
    // SAFETY: the caller's duty.
    unsafe {
        if block.is_multiple_of(2) { S::low_nibbles(raw[k]) } else { S::high_nibbles(raw[k]) }
    }
}

#[inline(always)]
unsafe fn eight_quads<S: Simd>(rows: Rows, at: usize) -> [S::Int; 8] {
    // SAFETY: the caller's duty.
    let ([a, b, c, d], [e, f, g, h]) = unsafe { (S::quads(rows, at), S::quads(rows, at + 16)) };
    [a, b, c, d, e, f, g, h]
}

#[inline(always)]
unsafe fn four_quads<S: Simd>(rows: Rows, at: usize) -> [S::Int; 4] {
    // SAFETY: the caller's duty.
    unsafe { S::quads(rows, at) }
}

/// What a block of 32 weights has besides its quants, where the format has it.
pub(super) struct Plain<S: Simd> {
    scale: S::Float,
    minimum: S::Float,
    /// The fifth bits, 32 a lane.
    bits: S::Int,
}

#[inline(always)]
unsafe fn four_bits<S: Simd>(_: &Plain<S>, raw: &[S::Int; 4], k: usize) -> S::Int {
    // SAFETY: the caller's duty.
    unsafe { nibbles::<S>(raw, k) }
}

#[inline(always)]
unsafe fn five_bits<S: Simd>(head: &Plain<S>, raw: &[S::Int; 4], k: usize) -> S::Int {
    // SAFETY: the caller's duty.
    unsafe { S::fifth_bits(nibbles::<S>(raw, k), head.bits, k) }
}

#[inline(always)]
unsafe fn eight_bits<S: Simd>(_: &Plain<S>, raw: &[S::Int; 8], k: usize) -> S::Int {
    // SAFETY: the caller's duty.
    unsafe { S::eight_bits(raw[k]) }
}

/// The formats of 32 weights: where their fifth bits are, how and from where the bytes of a block
/// are brought into lanes, and how a quad is made of them.
macro_rules! plain {
    ($format:ty, $fifth:expr, $load:ident($at:literal) -> $count:literal, $quad:ident) => {
        impl<S: Simd> Panel<S> for $format {
            const UNITS: usize = 1;
            const EIGHT_BITS: bool = $count == 8;
            type Head = Plain<S>;
            type Raw = [S::Int; $count];

            #[inline(always)]
            unsafe fn head(rows: Rows) -> Self::Head {
                let fifth: Option<usize> = $fifth;
                // SAFETY: the caller's duty; a block is longer than what is read of it.
                unsafe {
                    let start = S::gather(rows, 0);
                    Plain {
                        scale: S::low_float(start),
                        minimum: S::high_float(start),
                        bits: match fifth {
                            Some(at) => S::gather(rows, at),
                            None => S::int(0),
                        },
                    }
                }
            }

            #[inline(always)]
            unsafe fn raw(rows: Rows, _: usize) -> Self::Raw {
                // SAFETY: the caller's duty.
                unsafe { $load::<S>(rows, $at) }
            }

            #[inline(always)]
            unsafe fn quad(head: &Self::Head, raw: &Self::Raw, _: usize, k: usize) -> S::Int {
                // SAFETY: the caller's duty.
                unsafe { $quad::<S>(head, raw, k) }
            }

            #[inline(always)]
            unsafe fn scale(head: &Self::Head, _: usize, _: usize) -> S::Float {
                head.scale
            }

            #[inline(always)]
            unsafe fn minimum(head: &Self::Head, _: usize, _: usize) -> S::Float {
                head.minimum
            }
        }
    };
}

plain!(Q4_0, None, four_quads(2) -> 4, four_bits);
plain!(Q4_1, None, four_quads(4) -> 4, four_bits);
plain!(Q5_0, Some(2), four_quads(6) -> 4, five_bits);
plain!(Q5_1, Some(4), four_quads(8) -> 4, five_bits);
plain!(Q8_0, None, eight_quads(2) -> 8, eight_bits);

/// Of Q4_K and Q5_K: a group's scale and minus that of its minima, and their eight factors.
pub(super) struct Shared<S: Simd> {
    scale: S::Float,
    minimum: S::Float,
    scales: [S::Int; 2],
    minima: [S::Int; 2],
}

impl<S: Simd> Shared<S> {
    #[inline(always)]
    unsafe fn new(rows: Rows) -> Self {
        // SAFETY: the caller's duty.
        unsafe {
            let (start, a) = (S::gather(rows, 0), S::gather(rows, 4));
            let (b, c) = (S::gather(rows, 8), S::gather(rows, 12));
            let (none, stay) = (S::int(0), Move { from: 0, to: 0 });
            // The upper two bits of the first four factors are those of the last four.
            let upper = Move { from: 6, to: 4 };
            Self {
                scale: S::low_float(start),
                minimum: S::negative(S::high_float(start)),
                scales: [S::merge(none, a, stay, 63), S::merge(S::low_nibbles(c), a, upper, 48)],
                minima: [S::merge(none, b, stay, 63), S::merge(S::high_nibbles(c), b, upper, 48)],
            }
        }
    }

    #[inline(always)]
    unsafe fn scale(&self, block: usize) -> S::Float {
        // SAFETY: the caller's duty.
        unsafe { S::mul(self.scale, S::unsigned_byte(self.scales[block / 4], block % 4)) }
    }

    #[inline(always)]
    unsafe fn minimum(&self, block: usize) -> S::Float {
        // SAFETY: the caller's duty.
        unsafe { S::mul(self.minimum, S::unsigned_byte(self.minima[block / 4], block % 4)) }
    }
}

impl<S: Simd> Panel<S> for Q4K {
    const UNITS: usize = 4;
    type Head = Shared<S>;
    type Raw = [S::Int; 8];

    #[inline(always)]
    unsafe fn head(rows: Rows) -> Self::Head {
        // SAFETY: the caller's duty.
        unsafe { Shared::new(rows) }
    }

    #[inline(always)]
    unsafe fn raw(rows: Rows, unit: usize) -> Self::Raw {
        // SAFETY: the caller's duty.
        unsafe { eight_quads::<S>(rows, 16 + 32 * unit) }
    }

    #[inline(always)]
    unsafe fn quad(_: &Self::Head, raw: &Self::Raw, block: usize, k: usize) -> S::Int {
        // SAFETY: the caller's duty.
        unsafe { paired_nibbles::<S>(raw, block, k) }
    }

    #[inline(always)]
    unsafe fn scale(head: &Self::Head, block: usize, _: usize) -> S::Float {
        // SAFETY: the caller's duty.
        unsafe { head.scale(block) }
    }

    #[inline(always)]
    unsafe fn minimum(head: &Self::Head, block: usize, _: usize) -> S::Float {
        // SAFETY: the caller's duty.
        unsafe { head.minimum(block) }
    }
}

impl<S: Simd> Panel<S> for Q5K {
    const UNITS: usize = 4;
    /// And the fifth bits: bit `b` of a byte is one of block `b`.
    type Head = (Shared<S>, [S::Int; 8]);
    type Raw = [S::Int; 8];

    #[inline(always)]
    unsafe fn head(rows: Rows) -> Self::Head {
        // SAFETY: the caller's duty.
        unsafe { (Shared::new(rows), eight_quads::<S>(rows, 16)) }
    }

    #[inline(always)]
    unsafe fn raw(rows: Rows, unit: usize) -> Self::Raw {
        // SAFETY: the caller's duty.
        unsafe { eight_quads::<S>(rows, 48 + 32 * unit) }
    }

    #[inline(always)]
    unsafe fn quad(head: &Self::Head, raw: &Self::Raw, block: usize, k: usize) -> S::Int {
        // SAFETY: the caller's duty.
        unsafe {
            let nibbles = paired_nibbles::<S>(raw, block, k);
            S::merge(nibbles, head.1[k], Move { from: block, to: 4 }, 16)
        }
    }

    #[inline(always)]
    unsafe fn scale(head: &Self::Head, block: usize, _: usize) -> S::Float {
        // SAFETY: the caller's duty.
        unsafe { head.0.scale(block) }
    }

    #[inline(always)]
    unsafe fn minimum(head: &Self::Head, block: usize, _: usize) -> S::Float {
        // SAFETY: the caller's duty.
        unsafe { head.0.minimum(block) }
    }
}

impl<S: Simd> Panel<S> for Q6K {
    const UNITS: usize = 2;
    /// The scale and its 16 factors.
    type Head = (S::Float, [S::Int; 4]);
    /// Two times 32 bytes of nibbles, and 32 of pairs of high bits.
    type Raw = ([[S::Int; 8]; 2], [S::Int; 8]);

    #[inline(always)]
    unsafe fn head(rows: Rows) -> Self::Head {
        // SAFETY: the caller's duty; the scale is the last two of the group's bytes.
        unsafe { (S::high_float(S::gather(rows, 206)), S::quads(rows, 192)) }
    }

    #[inline(always)]
    unsafe fn raw(rows: Rows, unit: usize) -> Self::Raw {
        // SAFETY: the caller's duty.
        unsafe {
            let low = eight_quads::<S>(rows, 64 * unit);
            let next = eight_quads::<S>(rows, 64 * unit + 32);
            ([low, next], eight_quads::<S>(rows, 128 + 32 * unit))
        }
    }

    #[inline(always)]
    unsafe fn quad(_: &Self::Head, raw: &Self::Raw, block: usize, k: usize) -> S::Int {
        let part = block % 4;
        let low = raw.0[part % 2][k];
        // SAFETY: the caller's duty.
        unsafe {
            let nibbles = if part < 2 { S::low_nibbles(low) } else { S::high_nibbles(low) };
            S::merge(nibbles, raw.1[k], Move { from: 2 * part, to: 4 }, 48)
        }
    }

    #[inline(always)]
    unsafe fn scale(head: &Self::Head, block: usize, half: usize) -> S::Float {
        let place = 2 * block + half;
        // SAFETY: the caller's duty.
        unsafe { S::mul(head.0, S::signed_byte(head.1[place / 4], place % 4)) }
    }

    #[inline(always)]
    unsafe fn minimum(_: &Self::Head, _: usize, _: usize) -> S::Float {
        // SAFETY: the caller's duty.
        unsafe { S::float(0.0) }
    }
}

/// Of Q2_K: a group's scale and minus that of its minima, and their sixteen factors.
pub(super) struct Halves<S: Simd> {
    scale: S::Float,
    minimum: S::Float,
    scales: [S::Int; 4],
    minima: [S::Int; 4],
}

impl<S: Simd> Panel<S> for Q2K {
    const UNITS: usize = 2;
    type Head = Halves<S>;
    type Raw = [S::Int; 8];

    #[inline(always)]
    unsafe fn head(rows: Rows) -> Self::Head {
        // SAFETY: the caller's duty; the scales are the last four of the group's bytes.
        unsafe {
            let [a, b, c, d] = S::quads(rows, 0);
            let end = S::gather(rows, 80);
            Halves {
                scale: S::low_float(end),
                minimum: S::negative(S::high_float(end)),
                scales: [
                    S::low_nibbles(a),
                    S::low_nibbles(b),
                    S::low_nibbles(c),
                    S::low_nibbles(d),
                ],
                minima: [
                    S::high_nibbles(a),
                    S::high_nibbles(b),
                    S::high_nibbles(c),
                    S::high_nibbles(d),
                ],
            }
        }
    }

    #[inline(always)]
    unsafe fn raw(rows: Rows, unit: usize) -> Self::Raw {
        // SAFETY: the caller's duty.
        unsafe { eight_quads::<S>(rows, 16 + 32 * unit) }
    }

    #[inline(always)]
    unsafe fn quad(_: &Self::Head, raw: &Self::Raw, block: usize, k: usize) -> S::Int {
        // SAFETY: the caller's duty.
        unsafe { S::merge(S::int(0), raw[k], Move { from: 2 * (block % 4), to: 0 }, 3) }
    }

    #[inline(always)]
    unsafe fn scale(head: &Self::Head, block: usize, half: usize) -> S::Float {
        let place = 2 * block + half;
        // SAFETY: the caller's duty.
        unsafe { S::mul(head.scale, S::unsigned_byte(head.scales[place / 4], place % 4)) }
    }

    #[inline(always)]
    unsafe fn minimum(head: &Self::Head, block: usize, half: usize) -> S::Float {
        let place = 2 * block + half;
        // SAFETY: the caller's duty.
        unsafe { S::mul(head.minimum, S::unsigned_byte(head.minima[place / 4], place % 4)) }
    }
}

impl<S: Simd> Panel<S> for Q3K {
    const UNITS: usize = 2;
    /// The scale, its 16 factors plus 32, and the third bits: bit `b` of a byte is one of block
    /// `b`.
    type Head = (S::Float, [S::Int; 4], [S::Int; 8]);
    type Raw = [S::Int; 8];

    #[inline(always)]
    unsafe fn head(rows: Rows) -> Self::Head {
        // SAFETY: the caller's duty; the scale is the last two of the group's bytes.
        unsafe {
            let (a, b, c) = (S::gather(rows, 96), S::gather(rows, 100), S::gather(rows, 104));
            let factors = [
                S::merge(S::low_nibbles(a), c, Move { from: 0, to: 4 }, 48),
                S::merge(S::low_nibbles(b), c, Move { from: 2, to: 4 }, 48),
                S::merge(S::high_nibbles(a), c, Move { from: 4, to: 4 }, 48),
                S::merge(S::high_nibbles(b), c, Move { from: 6, to: 4 }, 48),
            ];
            (S::high_float(S::gather(rows, 106)), factors, eight_quads::<S>(rows, 0))
        }
    }

    #[inline(always)]
    unsafe fn raw(rows: Rows, unit: usize) -> Self::Raw {
        // SAFETY: the caller's duty.
        unsafe { eight_quads::<S>(rows, 32 + 32 * unit) }
    }

    #[inline(always)]
    unsafe fn quad(head: &Self::Head, raw: &Self::Raw, block: usize, k: usize) -> S::Int {
        // SAFETY: the caller's duty.
        unsafe {
            let pairs = S::merge(S::int(0), raw[k], Move { from: 2 * (block % 4), to: 0 }, 3);
            S::merge(pairs, head.2[k], Move { from: block, to: 2 }, 4)
        }
    }

    #[inline(always)]
    unsafe fn scale(head: &Self::Head, block: usize, half: usize) -> S::Float {
        let place = 2 * block + half;
        // SAFETY: the caller's duty.
        unsafe {
            let factor = S::unsigned_byte(head.1[place / 4], place % 4);
            S::mul(head.0, S::mul_add(S::float(1.0), factor, S::float(-32.0)))
        }
    }

    #[inline(always)]
    unsafe fn minimum(_: &Self::Head, _: usize, _: usize) -> S::Float {
        // SAFETY: the caller's duty.
        unsafe { S::float(0.0) }
    }
}
