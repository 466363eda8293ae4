//! Writes a set of files so that a reader sees all of the old or all of the new.
//!
//! The files stand in a directory named by time; `..data` links to it, and the visible names link through `..data`.
//! A new set is written beside the old one and `..data` is renamed over.

use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::Path;

use super::payload::Payload;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Permissions beyond each file's own: the pod's fsGroup.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> io::Result<bool> {
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && matches(&dir.join(old), payload, group)
    {
        // A crash may have come between the rename and the links.
        links(dir, payload)?;
        return Ok(false);
    }
    let fresh = new_dir(dir, now)?;
    for (path, file) in payload {
        let target = dir.join(&fresh).join(path);
        if let Some(parent) = target.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        fs::write(&target, &file.data)?;
        if file.owner.is_some() || group.is_some() {
            chown(&target, file.owner, group)?;
        }
        fs::set_permissions(&target, fs::Permissions::from_mode(mode(file.mode, group)))?;
    }
    if group.is_some() {
        own_dirs(&dir.join(&fresh), group)?;
    }
    let _ = fs::remove_file(dir.join(DATA_NEW));
    symlink(&fresh, dir.join(DATA_NEW))?;
    fs::rename(dir.join(DATA_NEW), dir.join(DATA))?;
    links(dir, payload)?;
    sweep(dir, &fresh)?;
    Ok(true)
}

/// A read-only volume's fsGroup may read everything.
fn mode(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

fn own_dirs(dir: &Path, group: Option<u32>) -> io::Result<()> {
    chown(dir, None, group)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o2755))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            own_dirs(&entry.path(), group)?;
        }
    }
    Ok(())
}

fn new_dir(dir: &Path, now: Timestamp) -> io::Result<String> {
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    for n in 0.. {
        let name = format!("{stamp}.{}{n}", now.subsec_nanosecond());
        match fs::DirBuilder::new().mode(0o755).create(dir.join(&name)) {
            Ok(()) => {
                // The umask may have taken bits away.
                fs::set_permissions(dir.join(&name), fs::Permissions::from_mode(0o755))?;
                return Ok(name);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("no free directory name"))
}

fn matches(dir: &Path, payload: &Payload, group: Option<u32>) -> bool {
    let mut found = BTreeSet::new();
    if collect(dir, dir, &mut found).is_err() || !found.iter().eq(payload.keys()) {
        return false;
    }
    payload.iter().all(|(path, file)| {
        let path = dir.join(path);
        let same_mode =
            fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o7777 == mode(file.mode, group));
        same_mode && fs::read(&path).is_ok_and(|data| data == file.data)
    })
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(root, &entry.path(), found)?;
        } else if let Ok(relative) = entry.path().strip_prefix(root) {
            found.insert(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// Top-level names link through `..data`; names no longer in the payload go.
fn links(dir: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(&*name) {
            fs::remove_file(dir.join(&*name))?;
        }
    }
    for name in wanted {
        match symlink(Path::new(DATA).join(name), dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn sweep(dir: &Path, keep: &str) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let stale = name.to_string_lossy().starts_with("..") && name != keep && entry.file_type()?.is_dir();
        if stale {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| File { data: data.into(), mode: 0o640, owner: None };
        files.iter().map(|(path, data)| ((*path).to_owned(), file(data))).collect()
    }

    #[test]
    fn swaps_and_sweeps() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let now = Timestamp::from_second(1).unwrap();
        assert!(write(dir, &payload(&[("a", "1"), ("d/e", "2")]), None, now).unwrap());
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(dir.join("d/e")).unwrap(), "2");
        assert_eq!(fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        let before = fs::read_link(dir.join(DATA)).unwrap();
        assert!(!write(dir, &payload(&[("a", "1"), ("d/e", "2")]), None, now).unwrap(), "same: untouched");
        assert_eq!(fs::read_link(dir.join(DATA)).unwrap(), before);

        assert!(write(dir, &payload(&[("a", "3")]), None, now).unwrap());
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 3, "the old directory and its links are gone: {names:?}");
        assert!(write(dir, &payload(&[]), None, now).unwrap());
        assert!(!dir.join("a").exists());
    }
}
