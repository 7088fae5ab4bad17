//! Where a text stands as a JSON document: what is open, and how long a number has become.
//!
//! Pure: bytes. Of a text that is no JSON it says something, and nothing that matters.

/// The deepest nesting that is written freely; readers give up at about twice that (`serde_json`
/// at 128).
const DEEPEST: usize = 64;
/// More than one piece opens.
const NEAR: usize = 16;
/// The digits of a whole number that fits into 64 bits.
const MOST_DIGITS: usize = 19;
/// The digits of a decimal number that every reader's double keeps apart (IEEE 754, `DBL_DIG`).
const MOST_DECIMAL_DIGITS: usize = 15;
/// From so many digits on it is seen to that a number can end in time: of a multiple not every
/// digit may be the last.
const LONG: usize = 8;
/// With more, a number can leave a double's range.
const MOST_EXPONENT_DIGITS: usize = 2;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Outline {
    depth: usize,
    in_string: bool,
    escaped: bool,
    number: Number,
    /// Something has become longer or deeper than is written freely.
    exceeds: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Number {
    digits: usize,
    exponent: usize,
    is_decimal: bool,
    has_exponent: bool,
}

impl Outline {
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.push(byte));
    }

    /// Whether these bytes make something longer or deeper than is written freely.
    pub(super) fn would_exceed(&self, bytes: &[u8]) -> bool {
        let mut after = self.clone();
        after.extend(bytes);
        after.exceeds
    }

    /// How many digits a long number may still have after these bytes; `None` if it is not long.
    pub(super) fn left_after(&self, bytes: &[u8]) -> Option<usize> {
        let mut after = self.clone();
        after.extend(bytes);
        let is_long = !after.in_string && after.number.digits >= LONG;
        is_long.then(|| after.number.left())
    }

    /// Whether a number or a nesting could become too long with the next piece.
    pub(super) fn is_near(&self) -> bool {
        !self.in_string && (self.number.digits > 0 || self.depth + NEAR > DEEPEST)
    }

    fn push(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'0'..=b'9' => self.digit(),
            b'.' => self.number.is_decimal = true,
            b'e' | b'E' => self.number.has_exponent = true,
            b'+' | b'-' => {}
            _ => self.number = Number::default(),
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                self.exceeds |= self.depth > DEEPEST;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn digit(&mut self) {
        let number = &mut self.number;
        self.exceeds |= number.left() == 0;
        if number.has_exponent {
            number.exponent += 1;
        } else {
            number.digits += 1;
        }
    }
}

impl Number {
    /// How many digits it may still have.
    fn left(self) -> usize {
        if self.has_exponent {
            return MOST_EXPONENT_DIGITS.saturating_sub(self.exponent);
        }
        let most = if self.is_decimal { MOST_DECIMAL_DIGITS } else { MOST_DIGITS };
        most.saturating_sub(self.digits)
    }
}
