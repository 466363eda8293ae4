//! Waiting on state, with a limit and a last word.

use std::time::{Duration, Instant};

/// Calls `check` until it returns `Ok`; panics after `limit` with what was awaited and the last `Err`.
///
/// The pause between calls grows from 2 ms to 100 ms: for state that can be watched, watch it instead.
pub fn wait_for<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        match check() {
            Ok(found) => return found,
            Err(last) if Instant::now() >= deadline => {
                panic!("{what}: not within {limit:?}; last seen: {last}")
            }
            Err(_) => std::thread::park_timeout(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
