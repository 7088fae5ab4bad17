//! A report as one HTML file with everything in it.

use std::fmt::Write as _;

use pulldown_cmark::html;

use super::{escaped, events, facts, missing};
use crate::report::{Plan, Report, Section, language};

pub(super) const STYLE: &str = include_str!("style.css");

pub(super) fn document(report: &Report) -> String {
    let headings = language::headings(&report.plan.language);
    let mut page = beginning(&report.plan, &report.topic, STYLE);
    page.push_str("</header>\n");
    if report.sections.len() > 1 {
        push(&mut page, format_args!("<nav>\n<h2>{}</h2>\n<ol>\n", headings.contents));
        for (part, anchor) in report.parts().zip(report.anchors()) {
            let name = escaped(&part.name);
            push(&mut page, format_args!("<li><a href=\"#{anchor}\">{name}</a></li>\n"));
        }
        page.push_str("</ol>\n</nav>\n");
    }
    for (part, anchor) in report.parts().zip(report.anchors()) {
        push(
            &mut page,
            format_args!("<section>\n<h2 id=\"{anchor}\">{}</h2>\n", escaped(&part.name)),
        );
        page.push_str(&text(part));
        page.push_str("</section>\n");
    }
    page.push_str("</main>\n");
    page.push_str(&footer(report));
    page.push_str("</body>\n</html>\n");
    page
}

/// A page in the plan's language to the end of its heading, which is left open.
pub(super) fn beginning(plan: &Plan, topic: &str, style: &str) -> String {
    let code = language::headings(&plan.language).code;
    let direction = if language::is_right_to_left(code) { "rtl" } else { "ltr" };
    let title = escaped(&plan.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"{code}\" dir=\"{direction}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"tutti {}\">\n<title>{title}</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n",
        env!("CARGO_PKG_VERSION"),
    );
    if plan.title.trim() != topic.trim() {
        push(&mut page, format_args!("<p class=\"topic\">{}</p>\n", escaped(topic)));
    }
    page
}

/// The part's text and where it was cut off, or why it is missing.
pub(super) fn text(part: &Section) -> String {
    match (part.text(), part.gap()) {
        (Some(text), _) => {
            of_markdown(text) + &part.note().as_deref().map(note).unwrap_or_default()
        }
        (None, fault) => note(&missing(fault)),
    }
}

/// What is said of a part, and not by its writer.
fn note(said: &str) -> String {
    format!("<p class=\"gap\" role=\"note\">{}</p>\n", escaped(said))
}

/// A model's Markdown as HTML that can do nothing but be read.
fn of_markdown(markdown: &str) -> String {
    let mut html = String::new();
    html::push_html(&mut html, events(markdown));
    html
}

/// The run's facts at the end of the page.
fn footer(report: &Report) -> String {
    let mut html = "<footer>\n<dl>\n".to_owned();
    for (name, value) in facts(report) {
        push(&mut html, format_args!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escaped(&value)));
    }
    html.push_str("</dl>\n</footer>\n");
    html
}

pub(super) fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes every text");
}
