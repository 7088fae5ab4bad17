//! The introduction and the conclusion, written from the sections.

use futures::future::try_join;

use super::{
    Done, Part, ReportError, Run, Section,
    language::headings,
    markdown::{prose, same_words},
    plan::Plan,
    prompts,
    request::MAX_SECTIONS,
    section::{self, Assignment},
    sentence::cut_to_sentence,
};

/// The most bytes that both writers read of all sections together: about 600 tokens of English,
/// read once for both, and less than 2000 where a model spells every character out.
const DIGEST: usize = 2400;
/// The most tokens of an introduction or a conclusion: five sentences.
pub(super) const MAX_TOKENS: usize = 200;
/// The number of the introduction's first try, after those of `plan::MORE_NUMBER`, for its seed.
const NUMBER: usize = 2 * (MAX_SECTIONS + 1) + 3;

/// Introduction and conclusion of the report, as far as it is to have them.
pub(super) async fn write(
    run: &Run<'_>,
    plan: &Plan,
    sections: &[Section],
    done: &Done,
) -> Result<(Option<Section>, Option<Section>), ReportError> {
    let digest = digest(sections);
    let part = async |part: Part| {
        let Some(assignment) = assignment(run, plan, part) else { return Ok(None) };
        section::write(run, assignment, done, &|retried| {
            prompts::synthesis(&run.request.topic, plan, &digest, part, retried)
        })
        .await
        .map(Some)
    };
    try_join(part(Part::Introduction), part(Part::Conclusion)).await
}

/// `None` if the plan does without the part or brings it.
fn assignment<'a>(run: &Run<'_>, plan: &'a Plan, part: Part) -> Option<Assignment<'a>> {
    let local = headings(&plan.language);
    let english = headings("English");
    let (name, own, names, number) = match part {
        Part::Introduction => {
            let names = [local.introduction, english.introduction];
            (local.introduction, plan.sections.first(), names, NUMBER)
        }
        _ => {
            let names = [local.conclusion, english.conclusion];
            (local.conclusion, plan.sections.last(), names, NUMBER + 2)
        }
    };
    let own = own.map_or(String::new(), |own| same_words(&own.name));
    if plan.sections.len() < 2 || names.iter().any(|name| own.contains(&same_words(name))) {
        return None;
    }
    let max_tokens = run.request.max_tokens.min(MAX_TOKENS);
    Some(Assignment { part, name, plan, max_tokens, number })
}

/// The sections that are written, each with as much of its beginning as there is room for.
fn digest(sections: &[Section]) -> Vec<(String, String)> {
    let written: Vec<_> =
        sections.iter().filter_map(|section| Some((&section.name, section.text()?))).collect();
    let room = DIGEST / written.len().max(1);
    written.into_iter().map(|(name, text)| (name.clone(), beginning(text, room))).collect()
}

fn beginning(text: &str, room: usize) -> String {
    let text = prose(text);
    let start = &text[..text.floor_char_boundary(room)];
    let start =
        if start.len() < text.len() { cut_to_sentence(start).unwrap_or(start) } else { &text };
    start.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::beginning;

    #[test]
    fn a_digest_has_whole_sentences_and_characters() {
        assert_eq!(
            beginning("One is here.\n\nTwo is there. Three is", 30),
            "One is here. Two is there."
        );
        assert_eq!(beginning("数据很重要，而且", 10), "数据很");
        assert_eq!(beginning("Short", 30), "Short");
        assert_eq!(beginning("Text:\n\n```python\nx = 1\n```\n\nMore.", 40), "Text: More.");
    }
}
