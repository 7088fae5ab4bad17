//! A report as one Markdown document.

use std::{collections::HashMap, fmt::Write as _};

use super::{Facts, Report, Section, language::headings, plan::shortfall};

impl Report {
    /// Front matter, title, contents, introduction, sections in the plan's order, conclusion, and
    /// a closing line of facts. The same for the same request, whatever happened on the way: no
    /// times are in it.
    pub fn markdown(&self) -> String {
        format!("{}\n{}", self.front_matter(), self.body())
    }

    /// The document without its front matter.
    pub fn body(&self) -> String {
        format!("{}\n---\n\n*{}*\n", self.content(), self.closing())
    }

    /// The same without the closing line: nothing in it says who wrote it.
    pub fn content(&self) -> String {
        let mut document = format!("# {}\n", self.plan.title);
        if self.sections.len() > 1 {
            let contents = headings(&self.plan.language).contents;
            push(&mut document, format_args!("\n**{contents}**\n\n"));
            for (name, anchor) in self.parts().map(|part| &part.name).zip(self.anchors()) {
                push(&mut document, format_args!("- [{}](#{anchor})\n", escaped(name)));
            }
        }
        for part in self.parts() {
            push(&mut document, format_args!("\n## {}\n\n{}\n", part.name, shown(part)));
        }
        document
    }

    /// The anchors of [`Report::parts`], as GitHub makes them of a heading's text: small letters,
    /// punctuation off, hyphens for spaces, and a number for one that was there before.
    pub(super) fn anchors(&self) -> Vec<String> {
        let mut taken: HashMap<String, usize> = HashMap::from([(slug(&self.plan.title), 1)]);
        let anchor = |part: &Section| {
            let slug = slug(&part.name);
            let before = taken.entry(slug.clone()).or_default();
            *before += 1;
            if *before == 1 { slug } else { format!("{slug}-{}", *before - 1) }
        };
        self.parts().map(anchor).collect()
    }

    fn front_matter(&self) -> String {
        let Facts { model, members, fusion, seed, short_of, usage, seconds: _ } = &self.facts;
        let members: Vec<_> = members.iter().map(|member| quoted(member)).collect();
        let mut text = format!(
            "---\n\
             title: {}\n\
             topic: {}\n\
             language: {}\n\
             model: {}\n\
             members: [{}]\n\
             fusion: {}\n\
             seed: {seed}\n\
             sections: {}\n",
            quoted(&self.plan.title),
            quoted(&self.topic),
            quoted(&self.plan.language),
            quoted(model),
            members.join(", "),
            quoted(fusion),
            self.sections.len(),
        );
        if let Some(asked) = short_of {
            push(&mut text, format_args!("sections_asked_for: {asked}\n"));
        }
        for (what, count) in self.incidents() {
            push(&mut text, format_args!("{}: {count}\n", what.replace(' ', "_")));
        }
        if let Some(gated) = usage.gated {
            let rate = gated as f64 / usage.completion_tokens.max(1) as f64;
            push(&mut text, format_args!("gated_tokens: {gated}\ngate_rate: {rate:.3}\n"));
        }
        if let Some(agreement) = usage.agreement {
            push(&mut text, format_args!("agreement: {:.3}\n", agreement.mean));
        }
        push(
            &mut text,
            format_args!(
                "prompt_tokens: {}\ncompletion_tokens: {}\ngenerator: \"tutti {}\"\n---\n",
                usage.prompt_tokens,
                usage.completion_tokens,
                env!("CARGO_PKG_VERSION"),
            ),
        );
        text
    }

    /// What is to be said of the run, in one line.
    fn closing(&self) -> String {
        let Facts { model, members, seed, short_of, usage, .. } = &self.facts;
        let mut line = format!("Written by `{model}`");
        if members.len() > 1 {
            push(&mut line, format_args!(" (`{}`)", members.join("`, `")));
        }
        push(&mut line, format_args!(", seed {seed}: {} tokens.", usage.completion_tokens));
        if let Some(asked) = short_of {
            push(&mut line, format_args!(" Only {}.", shortfall(self.sections.len(), *asked)));
        }
        for (what, count) in self.incidents().into_iter().filter(|&(_, n)| n > 0) {
            let noun = if count == 1 { "part" } else { "parts" };
            push(&mut line, format_args!(" {count} {noun} {what}."));
        }
        line
    }

    /// What did not go as it should, and in how many parts.
    pub(super) fn incidents(&self) -> [(&'static str, usize); 4] {
        let count = |is: fn(&Section) -> bool| self.parts().filter(|part| is(part)).count();
        [
            ("ended at the token limit", count(Section::is_at_limit)),
            ("written again", count(|part| part.retried.is_some())),
            ("missing", count(|part| part.gap().is_some())),
            ("finished without a member", count(|part| !part.lost.is_empty())),
        ]
    }
}

/// A part's text, with what is to be said of it, or what stands in its place.
fn shown(part: &Section) -> String {
    match part.gap() {
        None => {
            let note = part.note().map(|note| format!("\n\n*{note}*"));
            format!("{}{}", part.text().unwrap_or_default(), note.unwrap_or_default())
        }
        Some(fault) => {
            let reason = fault.to_string();
            let reason: Vec<_> = reason.split_whitespace().collect();
            format!("> This section could not be written: {}.", reason.join(" "))
        }
    }
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A link's text.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]")
}

/// A string of YAML; every JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes every text");
}
