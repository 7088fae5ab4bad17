//! Where sentences end, in several scripts.

use super::markdown::{atx_heading, in_code, is_list_item};

/// Marks that end a sentence wherever they stand, as their scripts write no space after them.
const FULL_WIDTH: [char; 4] = ['。', '！', '？', '｡'];
/// Marks that end a sentence before white space.
const HALF_WIDTH: [char; 7] = ['.', '!', '?', '…', '؟', '۔', '।'];
/// What may close a sentence after its mark.
const CLOSERS: [char; 14] =
    ['"', '\'', '”', '’', ')', ']', '»', '」', '』', '）', '】', '*', '_', '`'];

pub(super) fn ends_sentence(c: char) -> bool {
    FULL_WIDTH.contains(&c) || HALF_WIDTH.contains(&c)
}

/// A text that a budget ended, up to its last whole sentence, list item, table row or line of
/// code; `None` if that does not end in its second half.
pub(super) fn cut_to_sentence(text: &str) -> Option<&str> {
    let text = text.trim_end();
    let end = match in_code(text).1 {
        Some(_) => text.rfind('\n').unwrap_or(0),
        None => last_end(text),
    };
    let whole = without_dangling_lines(&text[..end]);
    (2 * whole.len() >= text.len()).then_some(whole)
}

/// The end of the last sentence, or of the line before the last one if that comes later.
fn last_end(text: &str) -> usize {
    let line_start = text.rfind('\n').map_or(0, |at| at + 1);
    let line = &text[line_start..];
    let in_line = if line.trim_start().starts_with('|') {
        line.ends_with('|').then_some(line.len())
    } else {
        last_end_in_line(line)
    };
    in_line.map_or(line_start, |end| line_start + end)
}

fn last_end_in_line(line: &str) -> Option<usize> {
    line.char_indices().rev().filter(|&(_, c)| ends_sentence(c)).find_map(|(at, mark)| {
        let after = &line[at + mark.len_utf8()..];
        let rest = after.trim_start_matches(CLOSERS);
        let closes =
            FULL_WIDTH.contains(&mark) || rest.chars().next().is_none_or(char::is_whitespace);
        let is_end = closes && !(mark == '.' && is_abbreviation(&line[..at]));
        is_end.then(|| line.len() - rest.len())
    })
}

/// True if the full stop after `before` is of "e.g.", "J." or "1." at the start of a line.
fn is_abbreviation(before: &str) -> bool {
    let start = before
        .rfind(|c: char| !c.is_alphanumeric())
        .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    let word = &before[start..];
    let starts_line = before[..start].trim().is_empty();
    word.chars().count() == 1 && word.chars().all(char::is_alphabetic)
        || starts_line && !word.is_empty() && word.chars().all(|c| c.is_ascii_digit())
}

/// Takes headings and empty list items off the end, whose text was cut.
fn without_dangling_lines(text: &str) -> &str {
    let mut text = text.trim_end();
    loop {
        let start = text.rfind('\n').map_or(0, |at| at + 1);
        let line = &text[start..];
        let is_dangling = atx_heading(line).is_some()
            || is_list_item(&format!("{} ", line.trim())) && line.trim().len() <= 3;
        if !is_dangling {
            return text;
        }
        text = text[..start].trim_end();
    }
}

#[cfg(test)]
mod tests {
    use super::cut_to_sentence;

    /// Texts with `^` where they are to be cut.
    fn holds(marked: &str) {
        let (whole, rest) = marked.split_once('^').expect("a mark");
        assert_eq!(cut_to_sentence(&format!("{whole}{rest}")), Some(whole));
    }

    #[test]
    fn a_text_ends_with_its_last_whole_sentence() {
        holds("The loss falls as 3.5 of them. It falls (slowly).^ And then it");
        holds("She said \"it falls.\"^ And then");
        holds("损失随规模下降。数据也很重要。^但是计算");
        holds("القوانين واضحة. هل البيانات مهمة؟^ ولكن");
        holds("यह नियम सरल है।^ लेकिन");
    }

    #[test]
    fn a_list_ends_with_its_last_whole_item() {
        holds("Three things matter:\n\n- the size of it\n- the data^\n- the comp");
        holds("1. The size is what matters.\n2. The data matters too.^\n3.");
        holds("| size | loss |\n|---|---|\n| 12 | 3.1 |^\n| 24 | 2.");
    }

    #[test]
    fn a_heading_whose_text_was_cut_goes_with_it() {
        holds("The loss falls with size, slowly.^\n\n### Data\n\n- ");
    }

    #[test]
    fn abbreviations_and_numbers_end_no_sentence() {
        holds(
            "Some of these laws are old and are well known to all.^ Others, e.g. by J. Kaplan, say",
        );
    }

    #[test]
    fn a_sentence_too_far_back_is_not_worth_the_rest() {
        let text = "Yes. It is a very long second sentence that goes on and on without any end";
        assert_eq!(cut_to_sentence(text), None);
        assert_eq!(cut_to_sentence("This one is whole."), Some("This one is whole."));
    }
}
