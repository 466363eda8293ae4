//! Places where the robustness harness may end the process, as `STORE_FAILPOINT=NAME:COUNT` says. Without the feature
//! `failpoints` there is nothing here.

/// Every failpoint there is.
#[cfg(any(test, feature = "battery"))]
pub const FAILPOINTS: &[&str] = &[
    "before-write",
    "mid-write",
    "before-sync",
    "after-sync",
    "roll-before-rename",
    "roll-after-rename",
    "checkpoint-before-rename",
    "checkpoint-after-rename",
    "clean-before-rename",
    "clean-after-rename",
    "clean-moved",
];

/// Ends the process, without a word, if it is this failpoint's turn.
#[cfg(feature = "failpoints")]
pub(super) fn failpoint(name: &str) {
    if due(name) {
        die();
    }
}

#[cfg(not(feature = "failpoints"))]
pub(super) fn failpoint(_name: &str) {}

/// Whether it is this failpoint's turn; the caller does something first and then calls [`die`].
#[cfg(feature = "failpoints")]
pub(super) fn due(name: &str) -> bool {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};
    static ARMED: OnceLock<Option<(String, AtomicI64)>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("STORE_FAILPOINT").ok()?;
        let (name, count) = text.split_once(':')?;
        Some((name.to_owned(), AtomicI64::new(count.parse().ok()?)))
    });
    armed.as_ref().is_some_and(|(armed, left)| armed == name && left.fetch_sub(1, Ordering::SeqCst) == 1)
}

#[cfg(feature = "failpoints")]
pub(super) fn die() {
    // As kill -9 does it: nothing is cleaned up.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}
