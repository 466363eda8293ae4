//! Small things about the calling process that std and rustix do not offer safely.

/// SIGPIPE ends this process again, as it does any that is not Rust's; what is executed inherits it.
pub fn restore_sigpipe() {
    // SAFETY: SIG_DFL is a valid disposition and no handler of ours is replaced: Rust's start-up code
    // only ignores the signal.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
