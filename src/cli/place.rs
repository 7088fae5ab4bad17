//! Where what a command makes is put: a file, or the standard output.

use std::{
    io::{self, Write},
    path::Path,
};

use tutti::report;

/// Whether it stands for the standard output.
pub(super) fn is_output(out: &Path) -> bool {
    out == Path::new("-")
}

/// Refuses what cannot be written to; to be asked before the work is done.
pub(super) fn check(out: &Path) -> anyhow::Result<()> {
    if is_output(out) { Ok(()) } else { Ok(report::check_destination(out)?) }
}

/// Writes all of it or nothing.
pub(super) fn put(content: &[u8], out: &Path) -> anyhow::Result<()> {
    if is_output(out) {
        return Ok(io::stdout().write_all(content)?);
    }
    Ok(report::write_document(out, content)?)
}

/// Tells where it is, where it does not stand before everybody's eyes.
pub(super) fn tell(out: &Path) -> io::Result<()> {
    if is_output(out) { Ok(()) } else { writeln!(io::stdout(), "{}", out.display()) }
}
