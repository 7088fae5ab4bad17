//! What a file states as `general.alignment`, found before candle reads it: candle 0.11 divides
//! by it, whatever it is.
//!
//! Walks the metadata as the
//! [specification](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) lays it out, and
//! leaves it to candle to say what is wrong with metadata that cannot be walked.

const STRING: u64 = 8;
const ARRAY: u64 = 9;
/// As deep as candle reads lists of lists.
const DEEPEST: usize = 64;

/// The number; nothing if it is not stated, or the metadata ends or breaks off before.
pub(super) fn stated(file: &[u8]) -> Option<u64> {
    // Candle takes the mark in either order.
    let rest = file.strip_prefix(b"GGUF").or_else(|| file.strip_prefix(b"FUGG"))?;
    let mut walk = Walk { rest, length_bytes: 8 };
    if walk.number(4)? == 1 {
        walk.length_bytes = 4;
    }
    let (_tensors, pairs) = (walk.length()?, walk.length()?);
    let mut stated = None;
    for _ in 0..pairs {
        let Some(found) = walk.pair() else { break };
        // Of several the last counts, as in candle.
        stated = found.or(stated);
    }
    stated
}

struct Walk<'a> {
    rest: &'a [u8],
    /// 4 in the first version of the format.
    length_bytes: usize,
}

impl<'a> Walk<'a> {
    /// Steps over a key and its value, which is returned if it is the one looked for.
    fn pair(&mut self) -> Option<Option<u64>> {
        let length = self.length()?;
        let mut key = self.take(length)?;
        // As candle does.
        while let Some(shorter) = key.strip_suffix(b"\0") {
            key = shorter;
        }
        let kind = self.number(4)?;
        match size(kind) {
            Some(size) if key == b"general.alignment" => Some(Some(self.number(size)?)),
            _ => self.skip(kind, 0).map(|()| None),
        }
    }

    fn skip(&mut self, kind: u64, depth: usize) -> Option<()> {
        match (kind, size(kind)) {
            (_, Some(size)) => {
                self.take(size)?;
            }
            (STRING, _) => {
                let length = self.length()?;
                self.take(length)?;
            }
            (ARRAY, _) if depth <= DEEPEST => {
                let (kind, count) = (self.number(4)?, self.length()?);
                if let Some(size) = size(kind) {
                    self.take(size.checked_mul(count)?)?;
                } else {
                    (0..count).try_for_each(|_| self.skip(kind, depth + 1))?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number(self.length_bytes)?).ok()
    }

    /// Without a sign, the lowest byte first.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let bytes = self.take(bytes)?;
        Some(bytes.iter().rfold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }
}

/// Of a value of a kind that is always as long.
fn size(kind: u64) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
