//! What a helper must do to a process beyond libcontainer: seccomp, which libcontainer does through a C
//! library only, and afterwards the capabilities that loading the filter needed.

use std::path::Path;

use kernel::seccomp::Program;
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

/// Beside a container's `config.json`.
pub const FILE: &str = "confine.json";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The compiled filter ([`Program::to_bytes`]).
    pub filter: Vec<u8>,
    /// The capabilities the process shall have, as a mask of their numbers; `config.json` has what loading
    /// the filter takes besides. `None`: as there.
    pub capabilities: Option<u64>,
}

impl Confinement {
    /// The one beside a container's configuration; none without the file.
    pub fn load(dir: &Path) -> Result<Option<Confinement>, String> {
        match std::fs::read(dir.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| format!("{FILE}: {error}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{FILE}: {error}")),
        }
    }

    /// For good, and for all this process becomes.
    pub fn load_filter(&self) -> Result<(), String> {
        let filter = Program::from_bytes(&self.filter).ok_or("the seccomp filter is damaged")?;
        filter.load().map_err(|error| format!("load the seccomp filter: {error}"))
    }

    /// The last thing before the command is executed.
    pub fn apply(&self) -> Result<(), String> {
        self.load_filter()?;
        let Some(wanted) = self.capabilities else { return Ok(()) };
        let failed = |error: rustix::io::Errno| format!("drop capabilities: {error}");
        let wanted = CapabilitySet::from_bits_retain(wanted);
        let have = rustix::thread::capabilities(None).map_err(failed)?;
        for one in (have.permitted - wanted).iter() {
            rustix::thread::remove_capability_from_bounding_set(one).map_err(failed)?;
        }
        let sets = CapabilitySets {
            effective: have.effective & wanted,
            permitted: have.permitted & wanted,
            inheritable: have.inheritable & wanted,
        };
        rustix::thread::set_capabilities(None, sets).map_err(failed)
    }
}
