//! How the server is.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::server::Core;

pub struct Status {
    pub started: Timestamp,
    /// Seconds.
    pub uptime: i64,
    pub binary_version: String,
    pub paths: Vec<String>,
}

impl Status {
    /// Whole seconds, as API objects have times.
    pub fn start_time(&self) -> String {
        self.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

pub fn status(core: &Core) -> Status {
    let started = Timestamp::from_second(crate::metrics::process_start() as i64).unwrap_or_default();
    let version = core.config.git_version.trim_start_matches('v');
    Status {
        uptime: (Timestamp::now().as_second() - started.as_second()).max(0),
        started,
        binary_version: version.split(['-', '+']).next().unwrap_or(version).to_owned(),
        paths: first_segments(crate::discovery::paths(core)),
    }
}

/// Where there is something to look at, other than the API itself.
pub fn first_segments(paths: Vec<String>) -> Vec<String> {
    const NOT: [&str; 5] = ["apis", "api", "openid", "openapi", ".well-known"];
    let first = |path: &String| path.split('/').nth(1).unwrap_or("").to_owned();
    let all: BTreeSet<String> = paths.iter().map(first).collect();
    let shown = all.into_iter().filter(|name| !name.is_empty() && !NOT.contains(&name.as_str()));
    shown.map(|name| format!("/{name}")).collect()
}
