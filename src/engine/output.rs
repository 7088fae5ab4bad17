//! From committed bytes to text that can be shown: whole characters, and nothing that may yet
//! turn out to be a stop string.

/// Holds back what is not certain yet.
#[derive(Debug)]
pub(super) struct Output {
    /// Bytes that were committed and not given out.
    held: Vec<u8>,
    stops: Vec<Vec<u8>>,
}

/// What an addition makes certain.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Released {
    pub(super) text: String,
    /// A stop string came; it and all after it are gone, and nothing will follow.
    pub(super) stopped: bool,
}

impl Output {
    /// `stops` are not empty strings.
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self { held: Vec::new(), stops: stops.into_iter().map(String::into_bytes).collect() }
    }

    /// Adds committed bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Released {
        self.held.extend_from_slice(bytes);
        if let Some(at) = self.first_stop() {
            self.held.truncate(at);
            return Released { text: self.take(self.held.len()), stopped: true };
        }
        let certain = self.held.len() - self.possible_stop();
        let whole = certain - incomplete(&self.held[..certain]);
        Released { text: self.take(whole), stopped: false }
    }

    /// The rest, when nothing follows: what might have become a stop string, but not the start
    /// of a character that never came.
    pub(super) fn finish(mut self) -> String {
        let whole = self.held.len() - incomplete(&self.held);
        self.take(whole)
    }

    /// Where the earliest stop string begins; of two that begin at once it does not matter.
    fn first_stop(&self) -> Option<usize> {
        let find = |stop: &Vec<u8>| self.held.windows(stop.len()).position(|window| window == stop);
        self.stops.iter().filter_map(find).min()
    }

    /// The length of the longest end of the held bytes that begins some stop string.
    fn possible_stop(&self) -> usize {
        let begins = |stop: &Vec<u8>| {
            (1..stop.len()).rev().find(|&len| self.held.ends_with(&stop[..len])).unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }

    /// Takes out the first bytes. Only bytes that no character could be made of are replaced.
    fn take(&mut self, len: usize) -> String {
        let bytes = self.held.drain(..len).collect();
        String::from_utf8(bytes)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }
}

/// The length of an incomplete character at the end; 0 if the end is whole or hopeless.
fn incomplete(bytes: &[u8]) -> usize {
    for len in 1..=bytes.len().min(3) {
        let tail = &bytes[bytes.len() - len..];
        if let Err(error) = std::str::from_utf8(tail)
            && error.valid_up_to() == 0
            && error.error_len().is_none()
        {
            return len;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes the pieces and returns what came out of each, what came at the end, and whether a
    /// stop string ended it.
    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut output = Output::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut texts = Vec::new();
        for piece in pieces {
            let released = output.push(piece);
            texts.push(released.text);
            if released.stopped {
                return (texts, true);
            }
        }
        texts.push(output.finish());
        (texts, false)
    }

    #[test]
    fn text_without_stop_strings_is_given_out_at_once() {
        assert_eq!(run(&[], &[b"a", b"bc"]), (vec!["a".into(), "bc".into(), String::new()], false));
    }

    #[test]
    fn characters_are_held_until_they_are_whole() {
        let (texts, _) = run(&[], &[b"x\xf0", b"\x9f\x98", b"\x80y", b"\xe2\x9c", b"\x93"]);
        assert_eq!(texts, ["x", "", "\u{1F600}y", "", "\u{2713}", ""]);
    }

    #[test]
    fn a_character_that_never_comes_is_dropped_and_impossible_bytes_are_replaced() {
        assert_eq!(run(&[], &[b"a\xe2\x9c"]).0, ["a", ""]);
        assert_eq!(run(&[], &[b"a\xff", b"b"]).0, ["a\u{FFFD}", "b", ""]);
        assert_eq!(run(&[], &[b"\xe2\x9c", b"b"]).0, ["", "\u{FFFD}b", ""]);
    }

    #[test]
    fn a_stop_string_across_pieces_never_leaks() {
        let (texts, stopped) = run(&["\n\nEND"], &[b"one\n", b"\nE", b"ND two"]);
        assert_eq!((texts.concat(), stopped), ("one".into(), true));
    }

    #[test]
    fn what_only_looked_like_a_stop_string_comes_out() {
        let (texts, stopped) = run(&["END"], &[b"EN", b"Dx".split_at(0).0, b"OUGH", b"E"]);
        assert_eq!(
            (texts, stopped),
            (vec!["".into(), "".into(), "ENOUGH".into(), "".into(), "E".into()], false)
        );
    }

    #[test]
    fn the_earliest_of_several_stop_strings_wins() {
        let (texts, stopped) = run(&["d", "bc"], &[b"abcd"]);
        assert_eq!((texts.concat(), stopped), ("a".into(), true));
    }

    #[test]
    fn no_more_is_held_back_than_may_become_a_stop_string() {
        let mut output = Output::new(vec!["aab".into()]);
        assert_eq!(output.push(b"xaaa").text, "xa");
        assert_eq!(output.push(b"c").text, "aac");
    }

    #[test]
    fn a_stop_string_inside_a_character_run_is_found_by_bytes() {
        let (texts, stopped) = run(&["\u{3002}"], &["你好\u{3002}再".as_bytes()]);
        assert_eq!((texts.concat(), stopped), ("你好".into(), true));
    }
}
