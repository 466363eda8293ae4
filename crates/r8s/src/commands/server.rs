//! `r8s server`: control plane and node in one process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use apiserver::ApiServer;
use store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Server, Settings};
use crate::credentials::Credentials;
use crate::host::NetworkOwner;
use crate::instance::Instance;
use crate::paths::Paths;
use crate::supervise::Supervisor;
use crate::{host, telemetry, wiring};

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
    let (config, paths) = args.resolve()?;
    host::require_root()?;
    run_on_threads(serve(config, paths, started))
}

impl Args {
    /// The validated settings and where the files are.
    pub fn resolve(self) -> Result<(Server, Paths)> {
        let Args { root, config, settings } = self;
        let from_file = config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        Ok((Server::resolve(settings.or(from_file))?, Paths::new(root)))
    }
}

/// Runs a server's whole life, with logs and the process's one TLS stack.
pub fn run_on_threads(life: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    telemetry::install();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(life)?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(mut config: Server, paths: Paths, started: Instant) -> Result<()> {
    // The root directory is asked first: who starts the same cluster twice hears that.
    drop(Instance::acquire(&paths)?);
    let _network = NetworkOwner::acquire()?;
    wiring::node::port_is_free(&config)?;
    wiring::node::ensure_reachable(&mut config, &paths)?;
    let shutdown = CancellationToken::new();
    let ControlPlane { api, credentials, serving, _instance } =
        ControlPlane::start(&config, &paths, started, &shutdown).await?;
    let mut supervisor = Supervisor::new(shutdown.clone());
    wiring::controllers::start(&api, &config, &credentials, &mut supervisor);
    wiring::scheduler::start(&api, &config, &mut supervisor);
    let node = wiring::node::open(&config, &paths, shutdown.clone()).await?;
    wiring::node::start_kubelet(&api, &config, &paths, &credentials, node.runtime, &mut supervisor)?;
    wiring::proxy::start(&api, &config, &mut supervisor)?;
    let up = async {
        let gateways = wiring::node::connect_pods(&api, &config, node.network.as_ref(), &shutdown).await?;
        wiring::dns::start(&api, &config, &gateways, &mut supervisor);
        wiring::node::ready(&api, &config, &shutdown).await;
        println!("ready in {} ms", started.elapsed().as_millis());
        anyhow::Ok(())
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        outcome = up => outcome?,
    }
    supervisor.finish(Duration::from_secs(10)).await;
    let _ = tokio::time::timeout(Duration::from_secs(5), serving).await;
    Ok(())
}

/// A running API server over its store, with what it took to start it.
pub struct ControlPlane {
    pub api: ApiServer,
    pub credentials: Credentials,
    /// Ends with the shutdown.
    pub serving: JoinHandle<Result<(), apiserver::Error>>,
    pub _instance: Instance,
}

impl ControlPlane {
    /// Takes the directory and the port, makes or reads credentials and store, and starts to answer.
    pub async fn start(
        config: &Server,
        paths: &Paths,
        started: Instant,
        shutdown: &CancellationToken,
    ) -> Result<Self> {
        stop_on_signals(shutdown.clone())?;
        let instance = Instance::acquire(paths)?;
        let listener = wiring::apiserver::listen(config).await?;
        let (credentials, store) = prepare(config, paths).await?;
        println!("kubeconfig {}", paths.admin_kubeconfig().display());
        wiring::apiserver::open_to_readers(paths, &store, shutdown)?;
        wiring::apiserver::care(config, paths, &store, shutdown);
        let api = wiring::apiserver::start(config, &credentials, store).await?;
        println!("apiserver up after {} ms", started.elapsed().as_millis());
        let (door, shutdown) = (api.clone(), shutdown.clone());
        let serving = tokio::spawn(async move { door.serve(listener, shutdown).await });
        Ok(Self { api, credentials, serving, _instance: instance })
    }
}

/// Credentials and the store, side by side: a first start makes keys while the store opens.
async fn prepare(config: &Server, paths: &Paths) -> Result<(Credentials, Arc<dyn Store>)> {
    let opening = {
        let (config, paths) = (config.clone(), paths.clone());
        tokio::spawn(async move { wiring::apiserver::store(&config, &paths).await })
    };
    let (paths, port) = (paths.clone(), config.secure_port);
    let credentials = tokio::task::spawn_blocking(move || {
        let credentials = Credentials::load_or_create(&paths)?;
        credentials
            .write_admin_kubeconfig(&paths.admin_kubeconfig(), &format!("https://127.0.0.1:{port}"))?;
        anyhow::Ok(credentials)
    });
    Ok((credentials.await??, opening.await??))
}

/// SIGTERM and SIGINT begin an orderly stop.
pub fn stop_on_signals(shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        shutdown.cancel();
    });
    Ok(())
}
