//! One file per command.

pub mod apiserver;
pub mod completion;
pub mod etcd;
pub mod image;
pub mod kubectl;
pub mod reset;
pub mod server;
pub mod snapshot;
pub mod store;

/// Runs a command that waits for others on one thread.
fn on_this_thread(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<std::process::ExitCode> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)?;
    Ok(std::process::ExitCode::SUCCESS)
}
