//! Settings of connections: each named as upstream's flag.

use std::time::Duration;

/// `Serving::default()` is upstream's defaults.
#[derive(Clone, Copy, Debug)]
pub struct Serving {
    /// `--goaway-chance`: how likely an HTTP/2 connection is ended in order by a request, 0 to 0.02.
    pub goaway_chance: f64,
    /// `--http2-max-streams-per-connection`.
    pub max_streams: u32,
    /// `--shutdown-delay-duration`: how long requests are still taken, with `/readyz` failing, when the server ends.
    pub shutdown_delay: Duration,
    /// A connection without a request for so long is closed.
    pub idle: Duration,
    /// A request's line and headers must come within so long of their first byte (HTTP/1).
    pub header: Duration,
    /// A client that takes nothing of what is written for so long is gone.
    pub stall: Duration,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            goaway_chance: 0.0,
            max_streams: 100,
            shutdown_delay: Duration::ZERO,
            idle: Duration::from_secs(90),
            header: Duration::from_secs(32),
            stall: Duration::from_secs(60),
        }
    }
}
