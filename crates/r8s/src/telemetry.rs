//! Logs: one line per event on standard error, filtered by `R8S_LOG` (tracing's filter syntax; default `warn`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

pub fn install() {
    let filter = EnvFilter::try_from_env("R8S_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    // A second installation (tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
