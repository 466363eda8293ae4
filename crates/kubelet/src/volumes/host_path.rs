//! `hostPath` and its types.
//!
//! Source: <https://kubernetes.io/docs/concepts/storage/volumes/#hostpath>.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Checks that `path` is what `kind` says, making it where that is asked for.
pub fn check(path: &Path, kind: &str) -> Result<(), String> {
    let fail = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", path.display()));
    let io = |e: io::Error| format!("hostPath type check failed: {}: {e}", path.display());
    if kind.is_empty() {
        return Ok(());
    }
    let found = fs::metadata(path).ok().map(|m| m.file_type());
    match (kind, found) {
        ("DirectoryOrCreate", None) => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io)?;
        }
        ("FileOrCreate", None) => {
            fs::OpenOptions::new().create(true).append(true).mode(0o644).open(path).map_err(io)?;
        }
        ("DirectoryOrCreate" | "Directory", found) if !found.is_some_and(|f| f.is_dir()) => {
            return fail("a directory");
        }
        ("FileOrCreate" | "File", found) if !found.is_some_and(|f| f.is_file()) => return fail("a file"),
        ("Socket", found) if !found.is_some_and(|f| f.is_socket()) => return fail("a socket file"),
        ("CharDevice", found) if !found.is_some_and(|f| f.is_char_device()) => {
            return fail("a character device");
        }
        ("BlockDevice", found) if !found.is_some_and(|f| f.is_block_device()) => {
            return fail("a block device");
        }
        (
            "DirectoryOrCreate" | "Directory" | "FileOrCreate" | "File" | "Socket" | "CharDevice"
            | "BlockDevice",
            _,
        ) => {}
        (other, _) => return Err(format!("{other} is an invalid volume type")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn types() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert!(check(&path("x"), "").is_ok());
        assert!(check(&path("d"), "Directory").is_err());
        assert!(check(&path("d"), "DirectoryOrCreate").is_ok());
        assert!(check(&path("d"), "Directory").is_ok());
        assert_eq!(
            check(&path("d"), "File").unwrap_err(),
            format!("hostPath type check failed: {} is not a file", path("d").display())
        );
        assert!(check(&path("f"), "FileOrCreate").is_ok());
        assert!(check(&path("f"), "Socket").is_err());
        assert!(check("/dev/null".as_ref(), "CharDevice").is_ok());
    }
}
