//! Network settings under `/proc/sys/net`, of the calling thread's namespace or of another.

use std::path::Path;
use std::{fs, io};

use super::netns;

/// Sets `net/…` (slashes, as under /proc/sys) in the calling thread's network namespace. Writes only when the
/// value differs, so a read-only /proc with the right value is fine.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys").join(name);
    let fail = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    if fs::read_to_string(&path).map_err(fail)?.trim() == value {
        return Ok(());
    }
    fs::write(&path, value).map_err(fail)
}

pub fn get(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new("/proc/sys").join(name))?.trim().to_string())
}

/// The same for several settings in the network namespace at `netns`.
pub fn set_in(netns: &Path, settings: &[(&str, &str)]) -> io::Result<()> {
    netns::within(netns, || settings.iter().try_for_each(|(name, value)| set(name, value)))?
}
