//! `r8s apiserver`: the API server alone, with its store. Needs no root with a directory of its own.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::server::{Args, ControlPlane, run_on_threads};

pub fn run(args: Args) -> Result<ExitCode> {
    let started = Instant::now();
    let (config, paths) = args.resolve()?;
    run_on_threads(async move {
        let shutdown = CancellationToken::new();
        let running = ControlPlane::start(&config, &paths, started, &shutdown).await?;
        println!("ready in {} ms", started.elapsed().as_millis());
        shutdown.cancelled().await;
        let _ = tokio::time::timeout(Duration::from_secs(5), running.serving).await;
        Ok(())
    })
}
