//! `r8s etcd`: the embedded store served over the etcd v3 API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use store::snapshot::{self, Schedule};
use store::{Store, embedded, face};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// Flags that etcd has too have etcd's names.
#[derive(clap::Args)]
pub struct Args {
    /// The member's name
    #[arg(long, default_value = "default")]
    name: String,
    /// Directory of the store
    #[arg(long, value_name = "DIR", default_value = "default.etcd")]
    data_dir: PathBuf,
    /// Where clients are served: http://ADDRESS:PORT or https://ADDRESS:PORT
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:2379")]
    listen_client_urls: String,
    /// What clients are told [default: where they are served]
    #[arg(long, value_name = "URL")]
    advertise_client_urls: Option<String>,
    /// The server's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// The server's key (PEM)
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Authorities that sign the clients' certificates (PEM)
    #[arg(long, value_name = "FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Clients must have a certificate
    #[arg(long, requires = "trusted_ca_file")]
    client_cert_auth: bool,
    /// Tell watchers of progress this often, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    watch_progress_notify_interval: u64,
    /// Refuse requests that are larger, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1_572_864)]
    max_request_bytes: usize,
    /// Refuse transactions with more operations
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_txn_ops: usize,
    /// Take a snapshot this often, in minutes
    #[arg(long, value_name = "MINUTES")]
    snapshot_every: Option<u64>,
    /// Where snapshots go [default: snapshots in the data directory's parent]
    #[arg(long, value_name = "DIR")]
    snapshot_dir: Option<PathBuf>,
    /// How many snapshots are kept
    #[arg(long, value_name = "N", default_value_t = 5)]
    snapshot_keep: usize,
}

pub fn run(args: Args) -> Result<ExitCode> {
    telemetry::install();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: Args) -> Result<()> {
    let shutdown = CancellationToken::new();
    super::server::stop_on_signals(shutdown.clone())?;
    let url = args.listen_client_urls.clone();
    let (secure, address) = match url.split_once("://") {
        Some(("http", address)) => (false, address),
        Some(("https", address)) => (true, address),
        _ => bail!("--listen-client-urls: {url:?} is not a URL like http://127.0.0.1:2379"),
    };
    let address: SocketAddr = address
        .trim_end_matches('/')
        .parse()
        .with_context(|| format!("--listen-client-urls: {address:?} is not an address and a port"))?;
    let tls = if secure { Some(Arc::new(tls(&args)?)) } else { None };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let store = embedded::open(&args.data_dir, embedded::Options::default())?;
    let status = store.status().await?;
    println!("serving {} keys at revision {} on {url}", status.keys, status.revision);
    let options = face::Options {
        name: args.name.clone(),
        client_urls: vec![args.advertise_client_urls.clone().unwrap_or(url)],
        progress_interval: Duration::from_secs(args.watch_progress_notify_interval.max(1)),
        max_request_bytes: args.max_request_bytes,
        max_txn_ops: args.max_txn_ops,
        read_only: false,
    };
    let snapshots = tokio::spawn(snapshots(store.clone(), args, shutdown.clone()));
    face::serve(listener, tls, store, options, shutdown).await?;
    snapshots.await?;
    Ok(())
}

async fn snapshots(store: Arc<dyn Store>, args: Args, shutdown: CancellationToken) {
    let Some(minutes) = args.snapshot_every else { return };
    let beside =
        || args.data_dir.parent().map_or_else(|| "snapshots".into(), |parent| parent.join("snapshots"));
    let schedule = Schedule {
        dir: args.snapshot_dir.clone().unwrap_or_else(beside),
        every: Duration::from_secs(minutes.max(1) * 60),
        keep: args.snapshot_keep,
    };
    snapshot::run(&*store, &schedule, shutdown).await;
}

fn tls(args: &Args) -> Result<rustls::ServerConfig> {
    let (Some(certificate), Some(key)) = (&args.cert_file, &args.key_file) else {
        bail!("https needs --cert-file and --key-file");
    };
    let read = |path: &PathBuf| -> Result<Vec<CertificateDer<'static>>> {
        let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        all.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    };
    let chain = read(certificate)?;
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| anyhow::anyhow!("{}: {error}", key.display()))?;
    let builder = rustls::ServerConfig::builder();
    let builder = match &args.trusted_ca_file {
        Some(file) => {
            let mut roots = rustls::RootCertStore::empty();
            for authority in read(file)? {
                roots.add(authority)?;
            }
            let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots));
            let verifier = if args.client_cert_auth { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build()?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
