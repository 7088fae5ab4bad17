//! A page as a PDF, printed by a program of the user's: a headless Chromium or one of its
//! relatives, or WeasyPrint.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Programs that can print, as they are called on Linux, macOS and Windows; the first that is
/// there is taken.
const PRINTERS: [(&str, Kind); 11] = [
    ("chromium", Kind::Chromium),
    ("chromium-browser", Kind::Chromium),
    ("google-chrome", Kind::Chromium),
    ("google-chrome-stable", Kind::Chromium),
    ("chrome", Kind::Chromium),
    ("brave-browser", Kind::Chromium),
    ("microsoft-edge", Kind::Chromium),
    ("msedge", Kind::Chromium),
    ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", Kind::Chromium),
    ("/Applications/Chromium.app/Contents/MacOS/Chromium", Kind::Chromium),
    ("weasyprint", Kind::WeasyPrint),
];
/// A page takes a second or two, a browser's first start some more.
const LONGEST: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What a browser that cannot confine itself names in its complaint: it runs as root, or in a
/// container.
const NO_SANDBOX: &str = "--no-sandbox";

/// Why there is no PDF.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    #[error(
        "nothing here can print a PDF; install chromium, google-chrome or weasyprint, or write \
         .html and print that"
    )]
    NoPrinter,
    #[error("{printer} cannot be run: {source}")]
    Run { printer: &'static str, source: io::Error },
    #[error("{printer} printed nothing: {said}; write .html and print that")]
    Nothing { printer: &'static str, said: String },
    #[error("{printer} did not print within {} s; write .html and print that", LONGEST.as_secs())]
    Late { printer: &'static str },
    #[error("the page to print cannot be put into a file: {0}")]
    Files(io::Error),
}

/// A program that prints pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Printer {
    program: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Chromium,
    WeasyPrint,
}

impl Printer {
    /// The first of the known ones that starts here.
    pub(super) fn find() -> Result<Self, PdfError> {
        let starts = |(program, _): &(&str, Kind)| {
            let version = silent(program).arg("--version").status();
            version.is_ok_and(|status| status.success())
        };
        let found = PRINTERS.into_iter().find(starts);
        found.map(|(program, kind)| Self { program, kind }).ok_or(PdfError::NoPrinter)
    }

    /// The page as a PDF. What it needs on the disk is gone again afterwards.
    pub(super) fn print(self, html: &[u8]) -> Result<Vec<u8>, PdfError> {
        let folder = tempfile::Builder::new().prefix("tutti-print-").tempdir();
        let folder = folder.map_err(PdfError::Files)?;
        let (page, paper) = (folder.path().join("report.html"), folder.path().join("report.pdf"));
        fs::write(&page, html).map_err(PdfError::Files)?;
        let log = folder.path().join("log");
        let mut command = self.command(&page, &paper, folder.path());
        self.run(&mut command, &log)?;
        if !paper.exists() && self.kind == Kind::Chromium && said(&log).contains(NO_SANDBOX) {
            // The page has no script and loads nothing, so there is little to be confined.
            self.run(command.arg(NO_SANDBOX), &log)?;
        }
        match fs::read(&paper) {
            Ok(pdf) if pdf.starts_with(b"%PDF-") => Ok(pdf),
            _ => {
                let said = said(&log);
                let last = said.lines().rfind(|line| !line.trim().is_empty());
                let said = last.unwrap_or("it does not say why").trim().to_owned();
                Err(PdfError::Nothing { printer: self.program, said })
            }
        }
    }

    fn command(self, page: &Path, paper: &Path, folder: &Path) -> Command {
        let mut command = silent(self.program);
        match self.kind {
            Kind::Chromium => {
                let with = |name: &str, path: &Path| {
                    let mut argument = std::ffi::OsString::from(name);
                    argument.push(path);
                    argument
                };
                command
                    .args(["--headless", "--disable-gpu", "--no-first-run", "--disable-extensions"])
                    .args(["--no-pdf-header-footer", "--disable-dev-shm-usage"])
                    .arg(with("--user-data-dir=", &folder.join("profile")))
                    .arg(with("--print-to-pdf=", paper))
                    .arg(page)
            }
            Kind::WeasyPrint => command.arg(page).arg(paper),
        };
        command
    }

    /// Runs it to its end; what it says goes to `log`.
    fn run(self, command: &mut Command, log: &Path) -> Result<(), PdfError> {
        let printer = self.program;
        let failed = |source| PdfError::Run { printer, source };
        let log = fs::File::create(log).map_err(PdfError::Files)?;
        let mut child = command.stderr(log).spawn().map_err(failed)?;
        let begun = Instant::now();
        while child.try_wait().map_err(failed)?.is_none() {
            if begun.elapsed() > LONGEST {
                // It may have ended this moment; either way it is waited for.
                let _ = child.kill();
                child.wait().map_err(failed)?;
                return Err(PdfError::Late { printer });
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

/// The program without anything to read, and nowhere to write.
fn silent(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn said(log: &Path) -> String {
    fs::read(log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
}
