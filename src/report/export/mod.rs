//! A report as a document of several formats.
//!
//! What a model wrote is not trusted: its raw HTML is shown as text, its images are links, and
//! links go to the web or within the document only.

mod comparison;
mod docx;
mod html;
mod pdf;

use std::{path::Path, str::FromStr};

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};

use serde::Serialize;

use super::{Agreement, Facts, Report, SectionFault, compare::Comparison};
pub use pdf::PdfError;

/// What a report can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Markdown with front matter.
    Md,
    /// One file with everything in it.
    Html,
    /// The whole [`Report`], its parts and what each took.
    Json,
    /// A Word document.
    Docx,
    /// The page as a browser prints it.
    Pdf,
}

/// Why a report cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("`{name}` is no format of a report; there are: {}", all())]
    Unknown { name: String },
    #[error("a comparison is written as html or json and not as {}", .format.extension())]
    NoComparison { format: Format },
    #[error(transparent)]
    Pdf(#[from] PdfError),
}

impl Format {
    const ALL: [Self; 5] = [Self::Md, Self::Html, Self::Json, Self::Docx, Self::Pdf];

    /// The format that a file's name asks for; Markdown if it has no extension.
    pub fn of(path: &Path) -> Result<Self, ExportError> {
        match path.extension() {
            None => Ok(Self::Md),
            Some(extension) => extension.to_string_lossy().parse(),
        }
    }

    pub fn extension(self) -> &'static str {
        match self {
            Self::Md => "md",
            Self::Html => "html",
            Self::Json => "json",
            Self::Docx => "docx",
            Self::Pdf => "pdf",
        }
    }

    /// Whether a report can be written so here; to be asked before anything is generated.
    pub fn check(self) -> Result<(), ExportError> {
        match self {
            Self::Pdf => Ok(pdf::Printer::find().map(drop)?),
            Self::Md | Self::Html | Self::Json | Self::Docx => Ok(()),
        }
    }

    /// Whether a comparison can be written so.
    pub fn check_comparison(self) -> Result<(), ExportError> {
        match self {
            Self::Html | Self::Json => Ok(()),
            format => Err(ExportError::NoComparison { format }),
        }
    }

    /// The whole document of a comparison.
    pub fn comparison(self, comparison: &Comparison) -> Result<Vec<u8>, ExportError> {
        self.check_comparison()?;
        Ok(match self {
            Self::Json => json(comparison),
            _ => comparison::page(comparison).into_bytes(),
        })
    }

    /// The whole document.
    pub fn document(self, report: &Report) -> Result<Vec<u8>, ExportError> {
        Ok(match self {
            Self::Md => report.markdown().into_bytes(),
            Self::Html => html::document(report).into_bytes(),
            Self::Json => json(report),
            Self::Docx => docx::document(report),
            Self::Pdf => pdf::Printer::find()?.print(html::document(report).as_bytes())?,
        })
    }
}

impl FromStr for Format {
    type Err = ExportError;

    fn from_str(name: &str) -> Result<Self, ExportError> {
        let lower = name.to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|format| {
            format.extension() == lower || *format == Self::Md && lower == "markdown"
        });
        found.ok_or_else(|| ExportError::Unknown { name: name.to_owned() })
    }
}

fn all() -> String {
    Format::ALL.map(Format::extension).join(", ")
}

fn json(document: &impl Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(document).expect("a document's keys are strings");
    json.push(b'\n');
    json
}

/// What a model's Markdown consists of, harmless.
fn events(markdown: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(markdown, options()).map(harmless)
}

/// What of Markdown is read beyond CommonMark.
pub(super) fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH
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

/// The run's facts, each with what it is called.
fn facts(report: &Report) -> Vec<(&'static str, String)> {
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
    if let Some(agreement) = usage.agreement {
        let Agreement { mean, tokens } = agreement;
        rows.push(("Agreement", format!("{mean:.2} over {tokens} tokens")));
    }
    if let Some(asked) = short_of {
        rows.push(("Sections", format!("{} of {asked} asked for", report.sections.len())));
    }
    let incidents = report.incidents().into_iter().filter(|&(_, count)| count > 0);
    rows.extend(incidents.map(|(what, count)| ("Parts", format!("{count} {what}"))));
    rows
}

/// What stands in the place of a part that is not there.
fn missing(fault: Option<&SectionFault>) -> String {
    let fault = fault.map(ToString::to_string).unwrap_or_default();
    format!("This section could not be written: {fault}.")
}

/// Text in an element or in an attribute's double quotes.
fn escaped(text: &str) -> String {
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
