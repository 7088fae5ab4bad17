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
        if number.has_exponent {
            number.exponent += 1;
            self.exceeds |= number.exponent > MOST_EXPONENT_DIGITS;
        } else {
            number.digits += 1;
            let most = if number.is_decimal { MOST_DECIMAL_DIGITS } else { MOST_DIGITS };
            self.exceeds |= number.digits > most;
        }
    }
}
