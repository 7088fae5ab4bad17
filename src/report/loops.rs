//! Whether a text repeats itself instead of going on. Works in any script.

use std::collections::HashSet;

/// The longest repeated unit looked for at the end of a text, in bytes.
const LONGEST_UNIT: usize = 600;
/// How long the repetition has to go on, in bytes: longer than a rule or a table's border.
const SPAN: usize = 160;
/// Sentences with fewer letters (in bytes) are not counted: "Yes.", list markers, table cells.
const SENTENCE: usize = 24;

/// True if the end of `text` is one unit three or more times over, or if more than a third of its
/// sentences, and at least three, have been said before. Numbers do not count, so that a list that
/// says the same under every number is a loop too.
pub(super) fn loops(text: &str) -> bool {
    ends_in_repetition(text.trim_end().as_bytes()) || mostly_said_before(text)
}

fn ends_in_repetition(text: &[u8]) -> bool {
    let longest = LONGEST_UNIT.min(text.len() / 3);
    (1..=longest).any(|unit| {
        let span = SPAN.max(3 * unit);
        span <= text.len() && {
            let tail = &text[text.len() - span..];
            tail[unit..] == tail[..span - unit]
        }
    })
}

fn mostly_said_before(text: &str) -> bool {
    let mut said = HashSet::new();
    let mut again = 0;
    let mut all = 0;
    // The last sentence is still being said.
    let whole = text.rfind(is_sentence_end).map_or("", |end| &text[..end]);
    for sentence in whole.split(is_sentence_end) {
        let letters: String =
            sentence.chars().filter(|c| c.is_alphabetic()).flat_map(char::to_lowercase).collect();
        if letters.len() >= SENTENCE {
            all += 1;
            again += usize::from(!said.insert(letters));
        }
    }
    again >= 3 && 3 * again > all
}

fn is_sentence_end(c: char) -> bool {
    c == '\n' || super::sentence::ends_sentence(c)
}

#[cfg(test)]
mod tests {
    use super::loops;

    #[test]
    fn a_phrase_over_and_over_is_a_loop() {
        let text = format!("Scaling laws say {}", "that the loss falls and ".repeat(8));
        assert!(loops(&text));
        assert!(loops(&format!("模型{}", "看眉".repeat(40))));
        assert!(!loops("Scaling laws say that the loss falls and that it falls slowly."));
    }

    #[test]
    fn a_paragraph_three_times_is_a_loop_and_twice_is_not_yet() {
        let paragraph = "Loss falls as a power of compute. Data matters as much as size does.\n\n";
        assert!(loops(&paragraph.repeat(3)));
        assert!(!loops(&paragraph.repeat(2)));
    }

    #[test]
    fn a_list_that_says_the_same_under_every_number_is_a_loop() {
        let list = |n: usize| -> String {
            (1..=n).map(|i| format!("{i}. The model of {i} layers is the best one.\n")).collect()
        };
        assert!(loops(&list(5)));
        assert!(!loops(&list(3)));
    }

    #[test]
    fn tables_rules_and_varied_prose_are_no_loops() {
        let table = "| model | size | loss |\n|-------|------|------|\n| a | 12 | 3.1 |\n| b | 24 | 2.9 |\n\
                     | c | 48 | 2.7 |\n| d | 96 | 2.6 |\n| e | 192 | 2.5 |\n| f | 384 | 2.4 |\n";
        assert!(!loops(table));
        assert!(!loops(&format!("Above.\n\n{}\n\nBelow.", "-".repeat(80))));
        assert!(!loops(include_str!("mod.rs")));
    }
}
