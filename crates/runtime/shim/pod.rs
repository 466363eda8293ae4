//! The pod's namespaces: made once at start, held by the shim itself or, where the pod has a user or pid
//! namespace of its own, by a pause process below it.

use std::ffi::c_int;

use crate::sys;

#[derive(Default)]
pub struct Config {
    pub dir: String,
    hostname: String,
    namespaces: c_int,
    uid_map: String,
    gid_map: String,
    sysctls: Vec<(String, String)>,
}

impl Config {
    /// `KEY=VALUE` arguments, as `src/shim/start.rs` writes them.
    pub fn parse(args: &[String]) -> Config {
        let mut config = Config::default();
        for arg in args {
            let Some((key, value)) = arg.split_once('=') else { continue };
            match key {
                "dir" => config.dir = value.to_owned(),
                "hostname" => config.hostname = value.to_owned(),
                "uid-map" => config.uid_map = value.replace(',', "\n"),
                "gid-map" => config.gid_map = value.replace(',', "\n"),
                "new" => {
                    for name in value.split(',') {
                        config.namespaces |= match name {
                            "net" => sys::CLONE_NEWNET,
                            "ipc" => sys::CLONE_NEWIPC,
                            "uts" => sys::CLONE_NEWUTS,
                            "pid" => sys::CLONE_NEWPID,
                            "user" => sys::CLONE_NEWUSER,
                            _ => 0,
                        };
                    }
                }
                "sysctl" => {
                    if let Some((name, value)) = value.split_once('=') {
                        config.sysctls.push((name.to_owned(), value.to_owned()));
                    }
                }
                _ => {}
            }
        }
        config
    }

    fn has(&self, namespace: c_int) -> bool {
        self.namespaces & namespace != 0
    }

    /// Inside the new namespaces: name, sysctls, loopback.
    fn furnish(&self) -> Result<(), String> {
        if self.has(sys::CLONE_NEWUTS) && !self.hostname.is_empty() {
            sys::set_hostname(&self.hostname).map_err(|error| format!("hostname: {error}"))?;
        }
        if self.has(sys::CLONE_NEWNET) {
            sys::loopback_up().map_err(|error| format!("loopback: {error}"))?;
        }
        for (name, value) in &self.sysctls {
            // A leading `?` marks one that may be missing.
            let (name, optional) = name.strip_prefix('?').map_or((name.as_str(), false), |name| (name, true));
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            match std::fs::write(&path, value) {
                Err(error) if !optional => return Err(format!("sysctl {name}: {error}")),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes what is asked for; answers the pause process's pid, 0 where there is none.
pub fn make_namespaces(config: &Config) -> Result<c_int, String> {
    let held_by_pause = sys::CLONE_NEWPID | sys::CLONE_NEWUSER;
    if config.has(sys::CLONE_NEWUSER) {
        return user_namespace(config);
    }
    let own = config.namespaces & !held_by_pause;
    sys::leave_namespaces(own).map_err(|error| format!("unshare: {error}"))?;
    config.furnish()?;
    if !config.has(sys::CLONE_NEWPID) {
        return Ok(0);
    }
    match sys::fork_into(sys::CLONE_NEWPID) {
        Ok(0) => pause(),
        Ok(pid) => Ok(pid),
        Err(error) => Err(format!("pid namespace: {error}")),
    }
}

/// All namespaces belong to the new user namespace, so its first process must make them.
fn user_namespace(config: &Config) -> Result<c_int, String> {
    let pipe = || sys::pipe().map_err(|error| format!("pipe: {error}"));
    let (mapped, say_mapped) = pipe()?;
    let (answer, say_answer) = pipe()?;
    let mut buffer = [0u8; 512];
    match sys::fork_into(config.namespaces) {
        Ok(0) => {
            drop((say_mapped, answer));
            let outcome = match mapped.read(&mut buffer) {
                Ok(Some(1)) => sys::become_root()
                    .map_err(|error| format!("become root: {error}"))
                    .and_then(|()| config.furnish()),
                _ => sys::exit(1),
            };
            match outcome {
                Ok(()) => {
                    let _ = say_answer.write(b"ok");
                    drop(say_answer);
                    leave_stdio();
                    pause()
                }
                Err(error) => {
                    let _ = say_answer.write(error.as_bytes());
                    sys::exit(1)
                }
            }
        }
        Ok(pid) => {
            drop((mapped, say_answer));
            for (file, map) in [("uid_map", &config.uid_map), ("gid_map", &config.gid_map)] {
                std::fs::write(format!("/proc/{pid}/{file}"), map)
                    .map_err(|error| format!("{file}: {error}"))?;
            }
            let _ = say_mapped.write(b"1");
            match answer.read(&mut buffer) {
                Ok(Some(n)) if &buffer[..n] == b"ok" => Ok(pid),
                Ok(Some(n)) => Err(String::from_utf8_lossy(&buffer[..n]).into_owned()),
                _ => Err("the pause process did not answer".to_owned()),
            }
        }
        Err(error) => Err(format!("user namespace: {error}")),
    }
}

fn pause() -> ! {
    sys::parent_death_signal(9);
    sys::set_name(c"pause");
    leave_stdio();
    sys::reap_for_ever()
}

/// Lets go of the descriptors the agent gave, so that it sees their end.
pub fn leave_stdio() {
    use std::os::fd::IntoRawFd;
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let fd = null.into_raw_fd();
        for to in 0..3 {
            let _ = sys::move_fd(fd, to);
        }
        if fd > 2 {
            drop(sys::Fd(fd));
        }
    }
}
