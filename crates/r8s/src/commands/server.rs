//! `r8s server`: control plane and node in one process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Server, Settings};
use crate::credentials::Credentials;
use crate::paths::Paths;
use crate::supervise::Supervisor;
use crate::{host, telemetry};

#[derive(clap::Args)]
pub struct Args {
    /// Directory that all of the cluster's files are under [default: /]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Settings file (YAML or JSON); flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let started = Instant::now();
    let Args { root, config, settings } = args;
    let from_file = config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let config = Server::resolve(settings.or(from_file))?;
    host::require_root()?;
    telemetry::install();
    let paths = Paths::new(root);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(serve(config, paths, started))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Server, paths: Paths, started: Instant) -> Result<()> {
    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let credentials = Credentials::load_or_create(&paths)?;
    let server = format!("https://127.0.0.1:{}", config.secure_port);
    let kubeconfig = paths.admin_kubeconfig();
    credentials.write_admin_kubeconfig(&kubeconfig, &server)?;
    println!("kubeconfig {}", kubeconfig.display());
    let supervisor = Supervisor::new(shutdown.clone());
    println!("ready in {} ms", started.elapsed().as_millis());
    supervisor.finish(Duration::from_secs(10)).await;
    Ok(())
}

/// SIGTERM and SIGINT begin an orderly stop.
fn stop_on_signals(shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        shutdown.cancel();
    });
    Ok(())
}
