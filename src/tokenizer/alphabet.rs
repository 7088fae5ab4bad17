//! The byte alphabet of GPT-2: a printable character for each byte, in which byte-level
//! vocabularies and merges are written down.
//!
//! Pure: bytes and characters. Method: `bytes_to_unicode` of GPT-2's `encoder.py`.

/// The character that stands for `byte`: itself where it is printable Latin-1, else the next free
/// one from U+0100 on.
pub(super) fn letter(byte: u8) -> char {
    let code = u32::from(byte);
    let code = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0..=b' ' => 0x100 + code,
        0x7F..=0xA0 => 0x100 + 33 + (code - 0x7F),
        0xAD => 0x100 + 67,
    };
    char::from_u32(code).expect("below U+0144")
}

pub(super) fn spell(bytes: &[u8]) -> String {
    let mut spelling = String::with_capacity(2 * bytes.len());
    spelling.extend(bytes.iter().map(|&byte| letter(byte)));
    spelling
}

/// The bytes a spelling stands for; `None` if a character is outside the alphabet.
pub(super) fn unspell(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        bytes.push(byte(letter)?);
    }
    Some(bytes)
}

fn byte(letter: char) -> Option<u8> {
    let code = match letter {
        '!'..='~' | '\u{A1}'..='\u{AC}' | '\u{AE}'..='\u{FF}' => u32::from(letter),
        '\u{100}'..='\u{120}' => u32::from(letter) - 0x100,
        '\u{121}'..='\u{142}' => u32::from(letter) - 0x121 + 0x7F,
        '\u{143}' => 0xAD,
        _ => return None,
    };
    u8::try_from(code).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_letter_and_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let spelling = spell(&all);
        assert_eq!(unspell(&spelling), Some(all));
        assert_eq!(spell("— a\n".as_bytes()), "âĢĶĠaĊ");
        assert_eq!(unspell("a b"), None);
        assert_eq!(unspell("▁a"), None);
    }
}
