//! Rules that make a model's answer the text of a section. No model is asked.

use serde::{Deserialize, Serialize};

use super::{
    markdown::{Fence, atx_heading, in_code, is_list_item, marks_off, same_words, setext_level},
    plan::Plan,
    sentence::cut_to_sentence,
};

/// The section's own heading is of level 2.
const SECTION_LEVEL: usize = 2;
const DEEPEST_LEVEL: usize = 6;

/// How often each rule had to act on a section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tidied {
    /// Code fences around the whole text.
    pub fences: usize,
    /// First lines like "Sure, here is the section:".
    pub preambles: usize,
    /// First lines that say the section's or the report's title again.
    pub repeated_headings: usize,
    /// 1 if the text had other sections of the plan before or after its own, which are left out;
    /// of an introduction or a conclusion, if it had headings or code after its prose.
    pub overruns: usize,
    /// 1 if the text was cut back to its last whole sentence.
    pub cuts: usize,
    /// 1 if the text was ended by the budget and no whole sentence to cut it back to was near.
    pub ragged: usize,
    /// Code blocks that were left open.
    pub closed_blocks: usize,
    /// Headings moved to a level below the section's.
    pub fitted_headings: usize,
    /// Closing fences moved under the opening ones of list items, which they otherwise leave open.
    #[serde(default)]
    pub fitted_fences: usize,
}

/// Where a text belongs.
pub(super) struct Place<'a> {
    pub(super) plan: &'a Plan,
    /// The heading it goes under.
    pub(super) name: &'a str,
    /// Which section of the plan it is; `None` if it is none of them.
    pub(super) index: Option<usize>,
    /// The text was ended by the budget.
    pub(super) at_limit: bool,
}

/// The text as it goes below the section's heading.
pub(super) struct Tidy {
    pub(super) text: String,
    /// What had to be done for it.
    pub(super) tidied: Tidied,
    /// The budget ended it, and not only what came after it.
    pub(super) at_limit: bool,
}

pub(super) fn tidy(raw: &str, place: &Place<'_>) -> Tidy {
    let mut tidied = Tidied::default();
    let mut text = without_wrapping(raw, place, &mut tidied);
    let mut cut_off = place.at_limit;
    let own = match place.index {
        Some(_) => own_part(text, place),
        None => leading_prose(text),
    };
    if let Some(own) = own {
        tidied.overruns = 1;
        cut_off &= text.ends_with(own);
        text = own;
    }
    if cut_off {
        match cut_to_sentence(text) {
            Some(whole) => {
                tidied.cuts = usize::from(whole.len() < text.len());
                text = whole;
            }
            None => tidied.ragged = 1,
        }
    }
    let mut text = text.to_owned();
    if let Some(fence) = in_code(&text).1.map(|open| open.closing()) {
        text = format!("{text}\n{fence}");
        tidied.closed_blocks = 1;
    }
    let (text, fitted) = fit_fences(&text);
    tidied.fitted_fences = fitted;
    let (text, fitted) = fit_headings(&text);
    tidied.fitted_headings = fitted;
    Tidy { text, tidied, at_limit: cut_off }
}

/// Peels fences, preambles and repeated headings off, in whatever order they are nested.
fn without_wrapping<'a>(raw: &'a str, place: &Place<'_>, tidied: &mut Tidied) -> &'a str {
    let mut text = raw.trim();
    loop {
        let (rest, count) = if let Some(rest) = unfenced(text) {
            (rest, &mut tidied.fences)
        } else if let Some(rest) = after_preamble(text) {
            (rest, &mut tidied.preambles)
        } else if let Some(rest) = after_repeated_heading(text, place) {
            (rest, &mut tidied.repeated_headings)
        } else {
            return text;
        };
        *count += 1;
        // The first line's indentation may be code or a list's.
        text = rest.trim_end().trim_start_matches(['\n', '\r']);
        if text.trim().is_empty() {
            return "";
        }
    }
}

/// The inside of a fence around everything. One without its end, as a budget leaves it, counts.
fn unfenced(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let fence = Fence::opening(first)?;
    let markdown = ["markdown", "md"].contains(&fence.language);
    if !markdown && !["", "text", "txt", "plaintext"].contains(&fence.language) {
        return None;
    }
    let marks = rest.lines().filter(|line| Fence::opening(line).is_some()).count();
    let closed = rest.trim_end().rsplit_once('\n').map_or(("", rest), |(body, last)| (body, last));
    let ends_closed = fence.closed_by(closed.1);
    match (markdown, marks) {
        // Blocks inside a Markdown fence come in pairs.
        (true, n) if n % 2 == 1 && ends_closed => Some(closed.0),
        (true, n) if n % 2 == 0 => Some(rest),
        (false, 1) if ends_closed => Some(closed.0),
        (false, 0) => Some(rest),
        _ => None,
    }
}

/// What follows a first line that only says that the text is coming.
fn after_preamble(text: &str) -> Option<&str> {
    const AGREEMENTS: [&str; 9] = [
        "sure",
        "certainly",
        "of course",
        "absolutely",
        "okay",
        "当然",
        "好的",
        "claro",
        "bien sûr",
    ];
    const ANNOUNCEMENTS: [&str; 6] =
        ["here is", "here's", "here are", "below is", "the following is", "以下是"];
    const ANNOUNCED: [&str; 9] =
        ["section", "paragraph", "markdown", "report", "text", "draft", "部分", "段落", "内容"];
    const LONGEST: usize = 240;
    let (line, rest) = text.split_once('\n')?;
    let line = marks_off(line).to_lowercase();
    let line = line.trim_end();
    let agrees = AGREEMENTS.iter().any(|start| {
        line.strip_prefix(start)
            .is_some_and(|rest| rest.starts_with([',', '!', '.', '，', '！', ':']))
    });
    let announces = ANNOUNCEMENTS.iter().any(|start| line.starts_with(start))
        && line.ends_with([':', '：'])
        && ANNOUNCED.iter().any(|word| line.contains(word));
    let is_preamble = line.len() <= LONGEST
        && (announces || agrees && line.ends_with([':', '：', '!', '！', '.', '。']));
    (is_preamble && !rest.trim().is_empty()).then_some(rest)
}

/// What follows a first line that is the section's name or the report's title; an introduction or
/// a conclusion has no headings of its own at all.
fn after_repeated_heading<'a>(text: &'a str, place: &Place<'_>) -> Option<&'a str> {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let own = [place.name, &place.plan.title];
    // The line under it may make it a heading.
    let (under, after) = rest.split_once('\n').unwrap_or((rest, ""));
    let is_heading = place.index.is_none() && (atx_heading(line).is_some() || is_bold_line(line));
    if !is_heading && !own.iter().any(|name| names(line, name)) {
        return None;
    }
    Some(if setext_level(under).is_some() { after } else { rest })
}

/// True if a line is `name`, whatever its marks, numbering or "Section 2:" before it.
fn names(line: &str, name: &str) -> bool {
    let name = same_words(name);
    let line = same_words(line);
    let unnumbered = line.strip_prefix("section").unwrap_or(&line);
    let unnumbered = unnumbered.trim_start_matches(|c: char| c.is_ascii_digit());
    !name.is_empty() && (line == name || unnumbered == name)
}

/// The part of the text that belongs to its own section, if it has headings of others: it begins
/// after the own heading if the text starts with another section, and ends at the next other one.
fn own_part<'a>(text: &'a str, place: &Place<'_>) -> Option<&'a str> {
    let sections = &place.plan.sections;
    let (code, _) = in_code(text);
    let mut at = 0;
    // Where a heading of the plan starts and ends, and whether it is the own one.
    let mut headings = Vec::new();
    for (line, in_code) in text.split_inclusive('\n').zip(code) {
        let is_heading = !in_code && (atx_heading(line).is_some() || is_bold_line(line));
        let of = sections.iter().position(|section| is_heading && names(line, &section.name));
        if let Some(of) = of {
            headings.push((at, at + line.len(), Some(of) == place.index));
        }
        at += line.len();
    }
    let starts_elsewhere = headings.first().is_some_and(|&(start, _, own)| start == 0 && !own);
    let start = match headings.iter().find(|&&(_, _, own)| own) {
        Some(&(_, end, _)) if starts_elsewhere => end,
        _ => 0,
    };
    let end = headings.iter().find(|&&(at, _, own)| at > start && !own).map(|&(at, ..)| at);
    (start > 0 || end.is_some()).then(|| text[start..end.unwrap_or(text.len())].trim())
}

/// The text up to its first heading or code block, if it has any.
fn leading_prose(text: &str) -> Option<&str> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if atx_heading(line).is_some() || Fence::opening(line).is_some() {
            return Some(text[..at].trim());
        }
        at += line.len();
    }
    None
}

/// The text with every closing fence as far in as its opening one; says how many moved.
fn fit_fences(text: &str) -> (String, usize) {
    let (code, _) = in_code(text);
    let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let (mut lines, mut fitted): (Vec<String>, usize) = (Vec::new(), 0);
    let mut open: Option<(Fence<'_>, usize)> = None;
    for (line, in_code) in text.lines().zip(code) {
        let depth = indentation(line);
        let moved = match &open {
            None if in_code => {
                open = Fence::opening(line).map(|fence| (fence, depth));
                None
            }
            Some((fence, opened)) if fence.closed_by(line) => {
                let moved = (depth < *opened).then(|| " ".repeat(*opened) + line.trim());
                open = None;
                moved
            }
            _ => None,
        };
        fitted += usize::from(moved.is_some());
        lines.push(moved.unwrap_or_else(|| line.to_owned()));
    }
    (lines.join("\n"), fitted)
}

fn is_bold_line(line: &str) -> bool {
    let line = line.trim();
    line.len() > 4 && line.starts_with("**") && line.trim_end_matches(':').ends_with("**")
}

/// Moves all headings down together until the highest is below the section's; says how many moved.
fn fit_headings(text: &str) -> (String, usize) {
    let (mut lines, mut fitted) = with_atx_headings(text);
    let joined = lines.join("\n");
    let (code, _) = in_code(&joined);
    let headings: Vec<_> = (0..lines.len())
        .filter(|&at| !code[at])
        .filter_map(|at| atx_heading(&lines[at]).map(|(level, _)| (at, level)))
        .collect();
    let highest = headings.iter().map(|&(_, level)| level).min().unwrap_or(DEEPEST_LEVEL);
    let down = (SECTION_LEVEL + 1).saturating_sub(highest);
    if down > 0 {
        fitted = headings.len();
        for (at, level) in headings {
            let marks = "#".repeat(DEEPEST_LEVEL.min(level + down));
            lines[at] = format!("{marks}{}", &lines[at].trim_start()[level..]);
        }
    }
    (lines.join("\n"), fitted)
}

/// The text's lines with underlined headings written with `#`; a line under a longer paragraph is
/// set apart, where it is a rule. Says how many headings there were.
fn with_atx_headings(text: &str) -> (Vec<String>, usize) {
    let (code, _) = in_code(text);
    let mut lines: Vec<String> = Vec::new();
    let mut found = 0;
    for (line, in_code) in text.lines().zip(code) {
        let above = lines.last().map_or("", |above| above.trim());
        let level = if in_code { None } else { setext_level(line) };
        let is_paragraph = !above.is_empty()
            && atx_heading(above).is_none()
            && !is_list_item(above)
            && !above.starts_with(['>', '|']);
        let Some(level) = level.filter(|_| is_paragraph) else {
            lines.push(line.to_owned());
            continue;
        };
        let is_alone = lines.len() < 2 || lines[lines.len() - 2].trim().is_empty();
        if is_alone && let Some(heading) = lines.last_mut() {
            *heading = format!("{} {}", "#".repeat(level), heading.trim());
            found += 1;
        } else {
            lines.push(String::new());
            lines.push(line.to_owned());
        }
    }
    (lines, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::PlannedSection;

    /// The text of section "Data" of a report on scaling laws.
    fn tidied(raw: &str, at_limit: bool) -> (String, Tidied) {
        let section =
            |name: &str| PlannedSection { name: name.to_owned(), description: String::new() };
        let sections = ["Origins", "Data", "Limits and Costs"].map(section).to_vec();
        let (language, title) = ("English".to_owned(), "Scaling Laws".to_owned());
        let plan = Plan { language, title, sections };
        let place = Place { plan: &plan, name: "Data", index: Some(1), at_limit };
        let Tidy { text, tidied, .. } = tidy(raw, &place);
        (text, tidied)
    }

    #[track_caller]
    fn becomes(raw: &str, expected: &str, rules: Tidied) {
        assert_eq!(tidied(raw, false), (expected.to_owned(), rules));
    }

    #[test]
    fn a_clean_text_is_left_alone() {
        let text = "Sure growth needs data.\n\n- one\n- two\n\n### Sources\n\n```python\n# a comment\n```\n\nEnd";
        becomes(text, text, Tidied::default());
        becomes(
            "Here are the three laws:\n\n- one",
            "Here are the three laws:\n\n- one",
            Tidied::default(),
        );
    }

    #[test]
    fn a_fence_around_everything_is_taken_off() {
        let fences = Tidied { fences: 1, ..Tidied::default() };
        becomes("```markdown\nText.\n```", "Text.", fences);
        becomes("```\nText.\n```\n", "Text.", fences);
        becomes("```markdown\nText without an end", "Text without an end", fences);
        becomes("```md\nA\n```rust\nb\n```\nC\n```", "A\n```rust\nb\n```\nC", fences);
    }

    #[test]
    fn a_code_block_that_is_not_around_everything_stays() {
        becomes("```\na\n```\nText.", "```\na\n```\nText.", Tidied::default());
        becomes("```python\na\n```", "```python\na\n```", Tidied::default());
    }

    #[test]
    fn a_preamble_is_taken_off() {
        let preambles = Tidied { preambles: 1, ..Tidied::default() };
        becomes("Sure, here is the text:\n\nText.", "Text.", preambles);
        becomes("**Certainly!**\nText.", "Text.", preambles);
        becomes("Here is a section on data:\nText.", "Text.", preambles);
        becomes("当然，以下是内容：\n\n数据很重要。", "数据很重要。", preambles);
    }

    #[test]
    fn a_preamble_with_nothing_after_it_stays() {
        becomes("Sure, here is the text:", "Sure, here is the text:", Tidied::default());
    }

    #[test]
    fn a_heading_that_repeats_the_name_is_taken_off() {
        let once = Tidied { repeated_headings: 1, ..Tidied::default() };
        for heading in
            ["## Data", "**Data:**", "Section 2: Data", "2. data", "# Scaling Laws", "Data\n===="]
        {
            becomes(&format!("{heading}\n\nText."), "Text.", once);
        }
        becomes("Data is what matters.", "Data is what matters.", Tidied::default());
    }

    #[test]
    fn wrappings_are_peeled_in_any_order() {
        let all = Tidied { fences: 1, preambles: 1, repeated_headings: 2, ..Tidied::default() };
        let raw = "Sure, here is the section:\n\n```markdown\n# Scaling Laws\n## Data\nText.\n```";
        becomes(raw, "Text.", all);
    }

    #[test]
    fn a_heading_alone_leaves_nothing() {
        assert_eq!(tidied("## Data\n", false).0, "");
    }

    #[test]
    fn text_of_other_sections_before_and_after_the_own_is_left_out() {
        let overrun = Tidied { overruns: 1, ..Tidied::default() };
        becomes("Text.\n\n## Limits and costs\n\nMore.", "Text.", overrun);
        becomes("Text.\n\n**3. Limits and Costs**\nMore.", "Text.", overrun);
        becomes("# Origins\nOld.\n\n# Data\nText.\n\n# Limits and Costs\nMore.", "Text.", overrun);
        becomes("### Origins\nText.", "### Origins\nText.", Tidied::default());
        becomes(
            "Text.\n\nLimits and costs are",
            "Text.\n\nLimits and costs are",
            Tidied::default(),
        );
    }

    #[test]
    fn headings_are_fitted_below_the_section() {
        let fitted = |fitted_headings| Tidied { fitted_headings, ..Tidied::default() };
        becomes(
            "Text.\n\n# A\n\n## B\n\n###### C",
            "Text.\n\n### A\n\n#### B\n\n###### C",
            fitted(3),
        );
        becomes("A\n===\nText.\n\nB\n---\nText.", "### A\nText.\n\n#### B\nText.", fitted(2));
        becomes("```\n# code\n```\n\n## A", "```\n# code\n```\n\n### A", fitted(1));
    }

    #[test]
    fn a_rule_under_a_paragraph_makes_no_heading_of_it() {
        becomes("One\ntwo\n---\nthree", "One\ntwo\n\n---\nthree", Tidied::default());
        becomes("- one\n---\nthree", "- one\n---\nthree", Tidied::default());
    }

    #[test]
    fn an_open_code_block_is_closed_so_that_it_ends_with_its_section() {
        let closed = Tidied { closed_blocks: 1, ..Tidied::default() };
        becomes("Text.\n\n```python\nx = 1", "Text.\n\n```python\nx = 1\n```", closed);
    }

    #[test]
    fn a_fence_closes_under_its_opening_so_that_its_list_goes_on() {
        for depth in ["   ", "    "] {
            let text = |closing: &str| {
                format!("1. One:\n\n{depth}```python\n{depth}x = 1\n{closing}```\n\n2. Two.")
            };
            let fitted = Tidied { fitted_fences: 1, ..Tidied::default() };
            becomes(&text(""), &text(depth), fitted);
            assert_eq!(tidied(&text(depth), false), (text(depth), Tidied::default()));
        }
    }

    #[test]
    fn an_introduction_is_its_prose() {
        let plan = Plan { language: String::new(), title: "Laws".to_owned(), sections: Vec::new() };
        let place = Place { plan: &plan, name: "Introduction", index: None, at_limit: true };
        let raw = "### In Short\n\nLaws hold. They matter.\n\n#### More\n\nNo end";
        let Tidy { text, tidied: rules, .. } = tidy(raw, &place);
        assert_eq!(text, "Laws hold. They matter.");
        assert_eq!(rules, Tidied { repeated_headings: 1, overruns: 1, ..Tidied::default() });
        assert_eq!(tidy("```python\nx = 1", &place).text, "");
    }

    #[test]
    fn only_a_text_at_its_limit_is_cut_to_its_last_sentence() {
        let raw = "The loss falls as the data grow. It falls slow";
        assert_eq!(tidied(raw, false).0, raw);
        let (text, rules) = tidied(raw, true);
        assert_eq!(text, "The loss falls as the data grow.");
        assert_eq!(rules, Tidied { cuts: 1, ..Tidied::default() });
    }
}
