//! A report as a Word document (Office Open XML), by the same events as the page.

mod style;
mod writer;

use std::io::Cursor;

use docx_rs::{
    Docx, Footer, Hyperlink, HyperlinkType, PageMargin, PageNum, Paragraph, ParagraphProperty, Run,
};

use crate::report::{
    Report, Section,
    export::{escaped, facts, missing},
    language,
};
use style::{ENTRY, GAP, HEADINGS, LINK, SMALL, SUBTITLE, TITLE};
use writer::Writer;

/// A margin of 2 cm, in twentieths of a point.
const MARGIN: i32 = 1134;
/// A4, in the same.
const PAGE: (u32, u32) = (11_906, 16_838);

/// The whole file.
pub(super) fn document(report: &Report) -> Vec<u8> {
    let headings = language::headings(&report.plan.language);
    let is_rtl = language::is_right_to_left(headings.code);
    let mut writer = Writer::new(is_rtl);
    writer.line(TITLE, &report.plan.title);
    if report.plan.title.trim() != report.topic.trim() {
        writer.line(SUBTITLE, &report.topic);
    }
    if report.sections.len() > 1 {
        writer.line(SUBTITLE, headings.contents);
        for (number, part) in (1..).zip(report.parts()) {
            writer.push(entry(number, part));
        }
    }
    for (number, part) in (1..).zip(report.parts()) {
        writer.push(heading(number, part));
        match (part.text(), part.gap()) {
            (Some(text), _) => {
                writer.markdown(text);
                if let Some(note) = part.note() {
                    writer.line(GAP, &note);
                }
            }
            (None, fault) => writer.line(GAP, &missing(fault)),
        }
    }
    let facts = facts(report).into_iter().map(|(name, value)| format!("{name}: {value}"));
    writer.line(SMALL, &facts.collect::<Vec<_>>().join(" · "));
    packed(writer.finish(style::styled(Docx::new())), properties(report))
}

/// A line of the contents, which leads to its part.
fn entry(number: usize, part: &Section) -> Paragraph {
    let link = Hyperlink::new(bookmark(number), HyperlinkType::Anchor)
        .add_run(Run::new().style(LINK).add_text(writer::plain(&part.name)));
    Paragraph::new().style(ENTRY).add_hyperlink(link)
}

fn heading(number: usize, part: &Section) -> Paragraph {
    Paragraph::new()
        .style(HEADINGS[0])
        .add_bookmark_start(number, bookmark(number))
        .add_run(Run::new().add_text(writer::plain(&part.name)))
        .add_bookmark_end(number)
}

/// The name that Word keeps for a place: letters, digits and underscores.
fn bookmark(number: usize) -> String {
    format!("part_{number}")
}

/// What programs show of the file without opening it. The crate sets none of it but dates, which
/// are not told.
fn properties(report: &Report) -> Vec<u8> {
    let said = |text: &str| escaped(&writer::plain(text));
    let (title, topic) = (said(&report.plan.title), said(&report.topic));
    let language = language::headings(&report.plan.language).code;
    let generator = format!("tutti {}", env!("CARGO_PKG_VERSION"));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\
         <cp:coreProperties \
         xmlns:cp=\"http://schemas.openxmlformats.org/package/2006/metadata/core-properties\" \
         xmlns:dc=\"http://purl.org/dc/elements/1.1/\">\
         <dc:title>{title}</dc:title><dc:subject>{topic}</dc:subject>\
         <dc:creator>{generator}</dc:creator><dc:language>{language}</dc:language>\
         </cp:coreProperties>"
    )
    .into_bytes()
}

fn packed(document: Docx, properties: Vec<u8>) -> Vec<u8> {
    let footer = Paragraph::new().style(SMALL).add_page_num(PageNum::new());
    let margin = PageMargin {
        top: MARGIN,
        left: MARGIN,
        bottom: MARGIN,
        right: MARGIN,
        header: MARGIN / 2,
        footer: MARGIN / 2,
        gutter: 0,
    };
    let document = document
        .page_size(PAGE.0, PAGE.1)
        .page_margin(margin)
        .footer(Footer::new().add_paragraph(footer));
    let mut file = Cursor::new(Vec::new());
    let mut document = document.build();
    document.doc_props.core = properties;
    document.pack(&mut file).expect("nothing in memory refuses to be written");
    file.into_inner()
}

/// Right to left where the language is written so.
fn directed(property: ParagraphProperty, is_rtl: bool) -> ParagraphProperty {
    if is_rtl { property.bidi(true) } else { property }
}
