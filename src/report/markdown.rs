//! The few marks of Markdown that the rules have to see.

/// An open code block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence<'a> {
    mark: char,
    length: usize,
    pub(super) language: &'a str,
}

impl<'a> Fence<'a> {
    /// However far in: under an item of a list it may be, and models do not mean code by it.
    pub(super) fn opening(line: &'a str) -> Option<Self> {
        let line = line.trim_start_matches(' ').trim_end();
        let mark = line.chars().next().filter(|c| ['`', '~'].contains(c))?;
        let language = line.trim_start_matches(mark);
        let length = line.len() - language.len();
        let language = language.trim();
        (length >= 3 && !language.contains('`')).then_some(Self { mark, length, language })
    }

    pub(super) fn closed_by(&self, line: &str) -> bool {
        Fence::opening(line).is_some_and(|other| {
            other.mark == self.mark && other.length >= self.length && other.language.is_empty()
        })
    }

    pub(super) fn closing(&self) -> String {
        self.mark.to_string().repeat(self.length)
    }
}

/// For each line whether it belongs to a code block (the fences do), and the block that is still
/// open at the end.
pub(super) fn in_code(text: &str) -> (Vec<bool>, Option<Fence<'_>>) {
    let mut open: Option<Fence<'_>> = None;
    let lines = text
        .lines()
        .map(|line| match open {
            Some(fence) => {
                if fence.closed_by(line) {
                    open = None;
                }
                true
            }
            None => {
                open = Fence::opening(line);
                open.is_some()
            }
        })
        .collect();
    (lines, open)
}

/// The text without its code blocks, whose lines say nothing when they are joined.
pub(super) fn prose(text: &str) -> String {
    let lines = text.lines().zip(in_code(text).0).filter(|(_, in_code)| !in_code);
    lines.map(|(line, _)| line).collect::<Vec<_>>().join("\n")
}

/// The level and the text of a `#` heading.
pub(super) fn atx_heading(line: &str) -> Option<(usize, &str)> {
    let line = unindented(line)?;
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    let is_heading =
        (1..=6).contains(&level) && (text.is_empty() || text.starts_with([' ', '\t', '\n']));
    is_heading.then(|| (level, text.trim()))
}

/// The level of the heading that this line makes of the one above it.
pub(super) fn setext_level(line: &str) -> Option<usize> {
    let line = unindented(line)?.trim_end();
    let only = |mark: char| line.len() >= 2 && line.chars().all(|c| c == mark);
    if only('=') {
        Some(1)
    } else if only('-') {
        Some(2)
    } else {
        None
    }
}

pub(super) fn is_list_item(line: &str) -> bool {
    let line = line.trim_start();
    let after_number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    ["- ", "* ", "+ "].iter().any(|mark| line.starts_with(mark))
        || after_number.len() < line.len()
            && (after_number.starts_with(". ") || after_number.starts_with(") "))
}

/// One line of plain text: white space is one space, heading and emphasis marks around it are off.
pub(super) fn plain_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    marks_off(&words.join(" ")).to_owned()
}

/// A line without the marks of a heading, emphasis or code around it.
pub(super) fn marks_off(line: &str) -> &str {
    line.trim().trim_start_matches('#').trim_matches(['*', '_', '`', ' ', '\t'])
}

/// What two names have in common that differ in case, punctuation or spacing only.
pub(super) fn same_words(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A line of at most three spaces of indentation, without them; more make it code.
fn unindented(line: &str) -> Option<&str> {
    let text = line.trim_start_matches(' ');
    (line.len() - text.len() <= 3).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_blocks_are_told_from_text() {
        let (code, open) = in_code("a\n```rust\n# no heading\n```\nb\n~~~\n```");
        assert_eq!(code, [false, true, true, true, false, true, true]);
        assert_eq!(open.map(|fence| fence.closing()), Some("~~~".to_owned()));
    }

    #[test]
    fn a_hash_is_a_heading_only_before_a_space() {
        assert_eq!(atx_heading("## Two words "), Some((2, "Two words")));
        assert_eq!(atx_heading("#hashtag"), None);
        assert_eq!(atx_heading("####### seven"), None);
        assert_eq!(atx_heading("    # code"), None);
    }

    #[test]
    fn names_lose_their_marks_and_line_breaks() {
        assert_eq!(plain_line("  ## **What\n is  new?** "), "What is new?");
        assert_eq!(plain_line("缩放定律"), "缩放定律");
        assert_eq!(plain_line("***"), "");
    }
}
