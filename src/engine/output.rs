//! From committed bytes to text that can be shown: whole characters, and nothing that may yet
//! turn out to be a stop string.

use std::collections::VecDeque;

use super::ScoredPiece;

/// Holds back what is not certain yet.
#[derive(Debug)]
pub(super) struct Output {
    /// Bytes that were committed and not given out.
    held: Vec<u8>,
    stops: Vec<Vec<u8>>,
    /// How many bytes were given out before those.
    given: usize,
    /// Stop strings that end before this byte of the text do not count.
    deaf: usize,
    /// A space that opens the text is not part of it.
    drops_space: bool,
    /// Pieces to tell, each with the byte of the text where it ends.
    pieces: VecDeque<(usize, ScoredPiece)>,
}

/// What an addition makes certain.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Released {
    pub(super) text: String,
    /// Those whose last byte is out, or that were cut.
    pub(super) pieces: Vec<ScoredPiece>,
    /// A stop string came; it and all after it are gone, and nothing will follow.
    pub(super) stopped: bool,
}

impl Output {
    /// `stops` are not empty strings.
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self {
            held: Vec::new(),
            stops: stops.into_iter().map(String::into_bytes).collect(),
            given: 0,
            deaf: 0,
            drops_space: false,
            pieces: VecDeque::new(),
        }
    }

    /// For members that write a word with a space before it, also the first.
    pub(super) fn without_space_before(self) -> Self {
        Self { drops_space: true, ..self }
    }

    /// Adds committed bytes and what is told of them. `may_end` says whether a stop string may end
    /// the text so many bytes before its end; one that may not is text.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut piece: Option<ScoredPiece>,
        may_end: impl Fn(usize) -> bool,
    ) -> Released {
        let opens = std::mem::take(&mut self.drops_space);
        let dropped = usize::from(opens && bytes.starts_with(b" "));
        let bytes = &bytes[dropped..];
        if let Some(piece) = &mut piece {
            piece.bytes.drain(..dropped);
        }
        self.held.extend_from_slice(bytes);
        let end = self.given + self.held.len();
        self.pieces.extend(piece.map(|piece| (end, piece)));
        while let Some((at, length)) = self.first_stop() {
            if may_end(self.held.len() - at) {
                self.held.truncate(at);
                let text = self.take(at);
                return Released { text, pieces: self.rest(), stopped: true };
            }
            self.deaf = self.given + at + length;
        }
        let certain = self.held.len() - self.possible_stop();
        let whole = certain - incomplete(&self.held[..certain]);
        let text = self.take(whole);
        Released { text, pieces: self.told(), stopped: false }
    }

    /// The rest, when nothing follows: what might have become a stop string, but not the start
    /// of a character that never came. Its pieces are told nevertheless, for they were written.
    pub(super) fn finish(mut self) -> Released {
        let whole = self.held.len() - incomplete(&self.held);
        let text = self.take(whole);
        let pieces = std::mem::take(&mut self.pieces).into_iter();
        let pieces = pieces.map(|piece| self.cut(piece)).collect();
        Released { text, pieces, stopped: false }
    }

    /// The pieces that are out.
    fn told(&mut self) -> Vec<ScoredPiece> {
        let out = self.pieces.partition_point(|&(end, _)| end <= self.given);
        self.pieces.drain(..out).map(|(_, piece)| piece).collect()
    }

    /// The pieces that are out, and of one that was cut what is out of it; the others never
    /// were.
    fn rest(&mut self) -> Vec<ScoredPiece> {
        let mut told = self.told();
        if let Some(piece) = self.pieces.pop_front() {
            let piece = self.cut(piece);
            told.extend((!piece.bytes.is_empty()).then_some(piece));
        }
        told
    }

    /// The piece with what is out of it.
    fn cut(&self, (end, mut piece): (usize, ScoredPiece)) -> ScoredPiece {
        let start = end - piece.bytes.len();
        piece.bytes.truncate(self.given.saturating_sub(start));
        piece
    }

    /// Where the earliest stop string begins, and its length.
    fn first_stop(&self) -> Option<(usize, usize)> {
        let counts = |at: usize, stop: &[u8]| self.given + at + stop.len() > self.deaf;
        let find = |stop: &Vec<u8>| {
            let mut windows = self.held.windows(stop.len()).enumerate();
            let found = windows.find(|&(at, window)| window == stop && counts(at, stop));
            found.map(|(at, _)| (at, stop.len()))
        };
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
        self.given += len;
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
            let released = output.push(piece, None, |_| true);
            texts.push(released.text);
            if released.stopped {
                return (texts, true);
            }
        }
        texts.push(output.finish().text);
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
        assert_eq!(output.push(b"xaaa", None, |_| true).text, "xa");
        assert_eq!(output.push(b"c", None, |_| true).text, "aac");
    }

    #[test]
    fn a_stop_string_inside_a_character_run_is_found_by_bytes() {
        let (texts, stopped) = run(&["\u{3002}"], &["你好\u{3002}再".as_bytes()]);
        assert_eq!((texts.concat(), stopped), ("你好".into(), true));
    }

    fn piece(bytes: &[u8]) -> Option<ScoredPiece> {
        let id = crate::vocab::UnionId(0);
        Some(ScoredPiece { id, bytes: bytes.to_vec(), score: Default::default() })
    }

    #[test]
    fn pieces_joined_are_the_text_also_where_a_stop_string_or_the_end_cuts_one() {
        for (stops, pieces, expected) in [
            (&["\n\nEND"][..], &[&b"one\n"[..], b"\nE", b"ND two"][..], "one"),
            (&["e"], &[b"on", b"ne"], "onn"),
            (&["xyz"], &[b"ax", b"y", b"b"], "axyb"),
            (&[], &[b"\xe2\x9c", b"\x93", b"a\xe2"], "\u{2713}a"),
        ] {
            let mut output = Output::new(stops.iter().map(|&stop| stop.to_owned()).collect());
            let (mut text, mut told, mut stopped) = (String::new(), Vec::new(), false);
            for bytes in pieces {
                let released = output.push(bytes, piece(bytes), |_| true);
                text += &released.text;
                told.extend(released.pieces.into_iter().flat_map(|piece| piece.bytes));
                stopped = released.stopped;
            }
            if !stopped {
                let released = output.finish();
                text += &released.text;
                told.extend(released.pieces.into_iter().flat_map(|piece| piece.bytes));
            }
            assert_eq!((text.as_str(), told.as_slice()), (expected, expected.as_bytes()));
        }
    }

    #[test]
    fn a_piece_of_a_character_that_never_comes_is_told_and_is_empty() {
        let mut output = Output::new(Vec::new());
        let told = output.push(b"a", piece(b"a"), |_| true).pieces;
        assert_eq!(told.len(), 1);
        assert!(output.push(b"\xe2", piece(b"\xe2"), |_| true).pieces.is_empty());
        let told = output.finish().pieces;
        assert_eq!(told.iter().map(|piece| piece.bytes.as_slice()).collect::<Vec<_>>(), [b""]);
    }

    #[test]
    fn one_space_before_the_text_is_dropped_where_it_is_no_part_of_it() {
        for (pieces, expected) in
            [(&[&b" a"[..], b" b"][..], "a b"), (&[b" ", b" a"], " a"), (&[b"a", b" b"], "a b")]
        {
            let mut output = Output::new(vec!["END".to_owned()]).without_space_before();
            let released = pieces.iter().map(|&bytes| output.push(bytes, piece(bytes), |_| true));
            let (texts, told): (Vec<_>, Vec<_>) =
                released.map(|released| (released.text, released.pieces)).unzip();
            let told = told.into_iter().flatten().flat_map(|piece| piece.bytes);
            assert_eq!(told.collect::<Vec<u8>>(), expected.as_bytes());
            assert_eq!(texts.concat(), expected);
        }
    }

    #[test]
    fn a_stop_string_that_ends_too_early_is_text() {
        let mut output = Output::new(vec!["ab".to_owned()]);
        assert_eq!(output.push(b"xab", None, |_| false).text, "xab");
        assert_eq!(output.push(b"a", None, |_| false).text, "");
        assert!(output.push(b"b", None, |_| true).stopped);
    }
}
