//! A report as one HTML file with everything in it.
//!
//! What a model wrote is not trusted: its raw HTML is shown as text, its images are links, and
//! links go to the web or within the document only.

use std::fmt::Write as _;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use crate::report::{Facts, Report, Section, language};

const STYLE: &str = include_str!("style.css");

pub(super) fn document(report: &Report) -> String {
    let headings = language::headings(&report.plan.language);
    let direction = if language::is_right_to_left(headings.code) { "rtl" } else { "ltr" };
    let title = escaped(&report.plan.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"{}\" dir=\"{direction}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"tutti {}\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n",
        headings.code,
        env!("CARGO_PKG_VERSION"),
    );
    if report.plan.title.trim() != report.topic.trim() {
        push(&mut page, format_args!("<p class=\"topic\">{}</p>\n", escaped(&report.topic)));
    }
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
    page.push_str(&facts(report));
    page.push_str("</body>\n</html>\n");
    page
}

/// The part's text, or why it is missing.
fn text(part: &Section) -> String {
    match (part.text(), part.gap()) {
        (Some(text), _) => of_markdown(text),
        (None, fault) => {
            let fault = fault.map(ToString::to_string).unwrap_or_default();
            format!(
                "<p class=\"gap\" role=\"note\">This section could not be written: {}.</p>\n",
                escaped(&fault)
            )
        }
    }
}

/// A model's Markdown as HTML that can do nothing but be read.
pub(in crate::report) fn of_markdown(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut html = String::new();
    html::push_html(&mut html, Parser::new_ext(markdown, options).map(harmless));
    html
}

fn harmless(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
        Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
        Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
        // A picture that a model names is not there, and asking for it tells who reads.
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: safe(dest_url), title, id })
        }
        Event::End(TagEnd::Image) => Event::End(TagEnd::Link),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: safe(dest_url), title, id })
        }
        other => other,
    }
}

/// The address, if it is one of the web, of a person, or within the document.
fn safe(address: CowStr<'_>) -> CowStr<'_> {
    let lower = address.trim().to_ascii_lowercase();
    let fine = ["http://", "https://", "mailto:", "#"].iter().any(|start| lower.starts_with(start));
    if fine { address } else { CowStr::Borrowed("#") }
}

/// The run's facts at the end of the page.
fn facts(report: &Report) -> String {
    let Facts { model, members, fusion, seed, usage, seconds, short_of } = &report.facts;
    let rate = usage.completion_tokens as f64 / seconds.max(f64::MIN_POSITIVE);
    let mut rows = vec![("Model", model.clone())];
    if members.len() > 1 {
        rows.push(("Members", fusion.clone()));
    }
    rows.push(("Seed", seed.to_string()));
    rows.push(("Written", format!("{} tokens", usage.completion_tokens)));
    rows.push(("Time", format!("{seconds:.1} s, {rate:.1} tokens/s")));
    if let Some(gated) = usage.gated {
        let share = 100.0 * gated as f64 / usage.completion_tokens.max(1) as f64;
        rows.push(("Gate", format!("{share:.0} % of the tokens by one model alone")));
    }
    if let Some(asked) = short_of {
        rows.push(("Sections", format!("{} of {asked} asked for", report.sections.len())));
    }
    for (what, count) in report.incidents().into_iter().filter(|&(_, count)| count > 0) {
        rows.push(("Parts", format!("{count} {what}")));
    }
    let mut html = "<footer>\n<dl>\n".to_owned();
    for (name, value) in rows {
        push(&mut html, format_args!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escaped(&value)));
    }
    html.push_str("</dl>\n</footer>\n");
    html
}

/// Text in an element or in an attribute's double quotes.
pub(in crate::report) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes every text");
}
