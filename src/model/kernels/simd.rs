//! What the row kernel asks of an instruction set. A lane is a weight row.

use super::blocks::Format;

/// Registers of one 32-bit lane a row, and what is done with them. A *quad* is a register of
/// four bytes a lane.
///
/// # Safety
/// The functions need the instructions of their set; those with a [`Rows`] read the bytes they
/// are told to of each of `ROWS` rows. Implementations are inlined into a function that enables
/// the instructions, which is why they cannot enable them themselves.
pub(super) trait Simd {
    const ROWS: usize;
    /// Vectors multiplied at a time, as many as there are registers for.
    const TILE: usize;
    /// Whether [`Self::eight_bits`] are unsigned, with an offset of 128.
    const OFFSET_EIGHT_BITS: bool;
    type Int: Copy;
    type Float: Copy;

    /// The four bytes at `at` of each row.
    unsafe fn gather(rows: Rows, at: usize) -> Self::Int;
    /// The sixteen bytes at `at` of each row as quads.
    unsafe fn quads(rows: Rows, at: usize) -> [Self::Int; 4];

    unsafe fn low_nibbles(quad: Self::Int) -> Self::Int;
    unsafe fn high_nibbles(quad: Self::Int) -> Self::Int;
    /// `quad | (bits moved from one place in a byte to another & mask)`.
    unsafe fn merge(quad: Self::Int, bits: Self::Int, place: Move, mask: i8) -> Self::Int;
    /// Adds bits `4 k .. 4 k + 4` of each lane's 32 as the fifth bits of a quad.
    unsafe fn fifth_bits(quad: Self::Int, bits: Self::Int, k: usize) -> Self::Int;
    /// Signed bytes in the form that [`Self::dot_eight_bits`] wants.
    unsafe fn eight_bits(quad: Self::Int) -> Self::Int;

    /// The 16-bit float in each lane's low half.
    unsafe fn low_float(lanes: Self::Int) -> Self::Float;
    unsafe fn high_float(lanes: Self::Int) -> Self::Float;
    /// One of each lane's bytes as a number.
    unsafe fn unsigned_byte(lanes: Self::Int, byte: usize) -> Self::Float;
    unsafe fn signed_byte(lanes: Self::Int, byte: usize) -> Self::Float;

    unsafe fn int(value: i32) -> Self::Int;
    unsafe fn float(value: f32) -> Self::Float;
    unsafe fn to_float(lanes: Self::Int) -> Self::Float;
    unsafe fn negative(a: Self::Float) -> Self::Float;
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a * b + c`, rounded once.
    unsafe fn mul_add(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    /// Adds the products of a quad of unsigned bytes below 64 and the four signed bytes of `x`.
    unsafe fn dot(sum: Self::Int, quad: Self::Int, x: i32) -> Self::Int;
    /// As [`Self::dot`], of what [`Self::eight_bits`] gave.
    unsafe fn dot_eight_bits(sum: Self::Int, quad: Self::Int, x: i32) -> Self::Int;
    /// Writes all lanes but the first `skipped`.
    unsafe fn store(lanes: Self::Float, to: *mut f32, skipped: usize);

    /// Asks for the bytes at any address, there or not, or leaves it to the hardware.
    fn prefetch(line: *const u8);
}

/// Neighbouring rows at some place: where the first one is and how far it is to the next.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: *const u8,
    pub(super) stride: usize,
}

/// From and to which bit of a byte.
#[derive(Clone, Copy)]
pub(super) struct Move {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A [`Format`] in lanes. A group of blocks is decoded in `UNITS` parts of equal size, whose
/// bytes are brought into lanes together.
///
/// # Safety
/// As [`Simd`]; `Format::BYTES` are read of each row.
pub(super) trait Panel<S: Simd>: Format {
    const UNITS: usize;
    const EIGHT_BITS: bool = false;
    type Head;
    type Raw;

    unsafe fn head(rows: Rows) -> Self::Head;
    unsafe fn raw(rows: Rows, unit: usize) -> Self::Raw;
    /// Weights `4 k .. 4 k + 4` of a block of the group, which is in the unit that `raw` is.
    unsafe fn quad(head: &Self::Head, raw: &Self::Raw, block: usize, k: usize) -> S::Int;
    /// Of a half of a block; of either half the same unless the format has `HALVES`.
    unsafe fn scale(head: &Self::Head, block: usize, half: usize) -> S::Float;
    /// As `scale`; not asked for unless the format has a `MINIMUM`.
    unsafe fn minimum(head: &Self::Head, block: usize, half: usize) -> S::Float;
}
