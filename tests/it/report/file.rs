//! The report's document as a file.

use std::fs;

use tutti::report::{DocumentError, check_destination, write_document};

/// What a folder holds, sorted.
fn names(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_document_is_written_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.md");
    write_document(&path, "# 报告\n".as_bytes()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# 报告\n");
    write_document(&path, "# Again\n".as_bytes()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# Again\n");
    assert_eq!(names(folder.path()), ["report.md"]);
}

#[test]
fn checking_a_destination_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.md");
    check_destination(&path).unwrap();
    assert!(names(folder.path()).is_empty());
    fs::write(&path, "old").unwrap();
    check_destination(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
}

#[test]
fn what_cannot_become_the_document_is_refused_before_anything_is_generated() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere").join("report.md");
    assert!(matches!(check_destination(&missing), Err(DocumentError::NoFolder { .. })));
    assert!(matches!(check_destination(folder.path()), Err(DocumentError::IsFolder { .. })));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let under = file.join("report.md");
    assert!(matches!(check_destination(&under), Err(DocumentError::NoFolder { .. })));
    let error = check_destination(&missing).unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("create it"), "{error}");
}

#[test]
fn a_read_only_document_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.md");
    fs::write(&path, "kept").unwrap();
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    assert!(matches!(write_document(&path, "new".as_bytes()), Err(DocumentError::ReadOnly { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("real.md"), folder.path().join("report.md"));
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&path, &link).unwrap();
    write_document(&link, "new".as_bytes()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[cfg(unix)]
#[test]
fn a_link_to_a_file_that_is_not_there_yet_stays_a_link() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("docs")).unwrap();
    symlink("docs/latest.md", at("report.md")).unwrap();
    symlink("real.md", at("docs/latest.md")).unwrap();
    write_document(&at("report.md"), "new".as_bytes()).unwrap();
    assert!(at("report.md").is_symlink() && at("docs/latest.md").is_symlink());
    assert_eq!(fs::read_to_string(at("docs/real.md")).unwrap(), "new");
    assert_eq!(names(&at("docs")), ["latest.md", "real.md"]);

    symlink("nowhere/real.md", at("lost.md")).unwrap();
    assert!(matches!(
        write_document(&at("lost.md"), "new".as_bytes()),
        Err(DocumentError::NoFolder { .. })
    ));
    symlink("round.md", at("round.md")).unwrap();
    assert!(matches!(
        write_document(&at("round.md"), "new".as_bytes()),
        Err(DocumentError::NotAFile { .. })
    ));
    assert!(at("lost.md").is_symlink() && at("round.md").is_symlink());
}

#[cfg(unix)]
#[test]
fn a_new_document_has_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let (path, plain) = (folder.path().join("report.md"), folder.path().join("plain"));
    write_document(&path, "new".as_bytes()).unwrap();
    fs::write(&plain, "").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
}
