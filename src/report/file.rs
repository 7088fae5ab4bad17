//! A document as a file.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// The most links followed to a document, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Why a document cannot be a file.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("{path} is a folder; name a file in it, for example {path}/report.md")]
    IsFolder { path: PathBuf },
    #[error("there is no folder {folder} for {path}; create it or write elsewhere")]
    NoFolder { folder: PathBuf, path: PathBuf },
    #[error("{path} is no ordinary file and stays as it is; name another")]
    NotAFile { path: PathBuf },
    #[error("{path} is read-only; allow writing or name another file")]
    ReadOnly { path: PathBuf },
    #[error("{path} cannot be written: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// Whether [`write_document`] can be expected to succeed; to be asked before anything is
/// generated. Changes nothing on the disk.
pub fn check_destination(path: &Path) -> Result<(), DocumentError> {
    let path = &followed(path);
    if path.is_symlink() {
        return Err(DocumentError::NotAFile { path: path.clone() });
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(DocumentError::IsFolder { path: path.clone() }),
        Ok(found) if !found.is_file() => Err(DocumentError::NotAFile { path: path.clone() }),
        Ok(found) if found.permissions().readonly() => {
            Err(DocumentError::ReadOnly { path: path.clone() })
        }
        _ => Ok(()),
    }?;
    if path.file_name().is_none() {
        return Err(DocumentError::IsFolder { path: path.clone() });
    }
    if !folder(path).is_dir() {
        return Err(DocumentError::NoFolder {
            folder: folder(path).to_owned(),
            path: path.clone(),
        });
    }
    // Only trying tells whether a folder can be written; the file is gone at once.
    unnamed_file(path).map(drop)
}

/// Puts `content` at `path` in one step: whoever looks sees the old file or the whole new one, and a
/// failure leaves the old one. A link stays a link, also one to a file that is not there yet;
/// permissions stay as they are.
pub fn write_document(path: &Path, content: &[u8]) -> Result<(), DocumentError> {
    check_destination(path)?;
    let path = &followed(path);
    let failed = |source| DocumentError::Write { path: path.clone(), source };
    let mut file = unnamed_file(path)?;
    file.write_all(content).map_err(failed)?;
    if let Ok(old) = fs::metadata(path) {
        file.as_file().set_permissions(old.permissions()).map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// The place that `path` leads to if it is a link, whether or not there is a file yet. Links that
/// lead nowhere but to themselves give a link.
fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = folder(&path).join(target);
    }
    path
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new file in the folder of `path`, with the permissions of any new file, deleted if dropped.
fn unnamed_file(path: &Path) -> Result<tempfile::NamedTempFile, DocumentError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".report-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
        .tempfile_in(folder(path))
        .map_err(|source| DocumentError::Write { path: path.to_owned(), source })
}
