//! A report as a document of several formats.

mod html;

use std::{path::Path, str::FromStr};

use super::Report;

/// What a report can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Markdown with front matter.
    Md,
    /// One file with everything in it.
    Html,
    /// The whole [`Report`], its parts and what each took.
    Json,
}

/// Why a report cannot be exported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    #[error("`{name}` is no format of a report; there are: {}", all())]
    Unknown { name: String },
}

impl Format {
    const ALL: [Self; 3] = [Self::Md, Self::Html, Self::Json];

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
        }
    }

    /// The whole document.
    pub fn document(self, report: &Report) -> Result<Vec<u8>, ExportError> {
        Ok(match self {
            Self::Md => report.markdown().into_bytes(),
            Self::Html => html::document(report).into_bytes(),
            Self::Json => {
                let mut json =
                    serde_json::to_vec_pretty(report).expect("a report's keys are strings");
                json.push(b'\n');
                json
            }
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
