//! Finding a container's command, worded as runc words it when there is none.

use std::path::{Path, PathBuf};

/// The file to execute, seen from inside the container.
pub fn find(args: &[String], env: &[String]) -> Result<PathBuf, String> {
    let name = args.first().filter(|name| !name.is_empty()).ok_or("no command specified")?;
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![PathBuf::from(name)]
    } else {
        let path = env.iter().find_map(|entry| entry.strip_prefix("PATH="));
        path.unwrap_or(crate::own::DEFAULT_PATH).split(':').map(|dir| Path::new(dir).join(name)).collect()
    };
    let mut denied = None;
    for path in candidates {
        let may = rustix::fs::accessat(
            rustix::fs::CWD,
            &path,
            rustix::fs::Access::EXEC_OK,
            rustix::fs::AtFlags::EACCESS,
        );
        match may {
            Ok(()) if path.is_dir() => denied = Some("is a directory"),
            Ok(()) => return Ok(path),
            Err(rustix::io::Errno::ACCESS) => denied = Some("permission denied"),
            Err(_) => {}
        }
    }
    Err(match (denied, name.contains('/')) {
        (Some(why), _) => format!("exec: \"{name}\": {why}"),
        (None, true) => format!("exec: \"{name}\": stat {name}: no such file or directory"),
        (None, false) => format!("exec: \"{name}\": executable file not found in $PATH"),
    })
}

/// Capabilities by name as the kernel's mask.
pub fn capability_mask(names: &[String]) -> u64 {
    let number = |name: &String| crate::own::ALL_CAPABILITIES.iter().position(|have| have == name);
    names.iter().filter_map(number).fold(0, |mask, bit| mask | 1 << bit)
}
