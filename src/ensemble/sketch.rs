//! Model files that lie somewhere else: as much of them as says what they are.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    ops::Range,
    path::Path,
};

use crate::{gguf, model::DIVISORS};

/// What gives some bytes of a file.
pub type ReadRange<'a> = &'a dyn Fn(Range<u64>) -> io::Result<Vec<u8>>;

/// Most headers of GGUF files, which have a vocabulary in them, take two or three such steps.
const FIRST: u64 = 1 << 20;
/// Of the largest vocabularies it is a tenth.
const MOST: u64 = 1 << 28;

/// Makes at `path` a file of `size` bytes that reads as far as its header like the one that `read`
/// reads, and is blank after that: [`Card::read`](super::Card::read) takes it for the file itself.
///
/// # Errors
/// If bytes cannot be had or written; a header that is not readable is left to be found by others.
pub fn sketch(path: &Path, size: u64, read: ReadRange<'_>) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_len(size)?;
    if path.extension().is_none_or(|extension| extension != "gguf") {
        return safetensors(&mut file, size, read);
    }
    let (mut known, mut next) = (0, FIRST.min(size));
    loop {
        copy(&mut file, known..next, read)?;
        known = next;
        match gguf::layout(path, DIVISORS) {
            // What was read up to there is the file's own.
            Ok((header, divisors)) if header <= known => {
                return match divisors.filter(|place| place.end <= size) {
                    Some(place) => copy(&mut file, place, read),
                    None => Ok(()),
                };
            }
            _ if known == size || known >= MOST => return Ok(()),
            _ => next = (known * 4).min(size),
        }
    }
}

/// Eight bytes say how long the header after them is.
fn safetensors(file: &mut File, size: u64, read: ReadRange<'_>) -> io::Result<()> {
    let length = read(0..8.min(size))?;
    file.write_all(&length)?;
    let length: [u8; 8] = length.try_into().unwrap_or_default();
    let end = u64::from_le_bytes(length).saturating_add(8).min(size).min(MOST);
    copy(file, 8..end.max(8), read)
}

fn copy(file: &mut File, range: Range<u64>, read: ReadRange<'_>) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    file.seek(SeekFrom::Start(range.start))?;
    file.write_all(&read(range)?)
}
