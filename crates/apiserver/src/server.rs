//! The server itself: what it is made of, how it starts, and its two doors.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use store::Store;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::authn::{Authn, User};
use crate::authz::{Authz, Chain};
use crate::cache::feed::{Feed, Load};
use crate::cache::{Latest, Progress};
use crate::config::Config;
use crate::encryption::Encryption;
use crate::flow::Flow;
use crate::front::body::{BoxError, incoming};
use crate::front::pipeline::{Caller, answer};
use crate::front::{Body, listen};
use crate::kinds::{KindMap, Kinds};
use crate::metrics::Metrics;
use crate::registry::leases::Leases;

/// How long the caches of a shared store go without being told where it stands.
const QUIET: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("configuration: {0}")]
    Config(String),
    #[error("store")]
    Store(#[from] store::Error),
    #[error("can't set up the cluster's own objects: {0}")]
    Bootstrap(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A running API server. Dropping the last handle ends its background tasks.
#[derive(Clone)]
pub struct ApiServer {
    core: Arc<Core>,
    _guard: Arc<Guard>,
}

struct Guard(CancellationToken);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What all requests share.
pub struct Core {
    pub config: Config,
    pub features: Vec<String>,
    /// CBOR is among the encodings (feature gate `CBORServingAndStorage`).
    pub cbor: bool,
    pub store: Arc<dyn Store>,
    pub kinds: Arc<Kinds>,
    pub progress: Arc<Progress>,
    pub latest: Latest,
    pub loads: mpsc::Sender<Load>,
    pub authn: Authn,
    pub authz: Authz,
    /// None if nothing is written down.
    pub auditor: Option<Arc<crate::audit::Auditor>>,
    /// None if everything is stored as it is.
    pub encryption: Option<Arc<Encryption>>,
    pub admission: crate::admission::Chain,
    pub flow: Flow,
    pub metrics: Arc<Metrics>,
    pub leases: Leases,
    pub services: crate::subresource::services::Allocators,
    pub aggregator: crate::aggregation::Aggregator,
    pub hooks: crate::admission::Hooks,
    pub discovery: crate::discovery::Cached,
    pub openapi: crate::discovery::openapi::Cached,
    pub shutdown: CancellationToken,
    /// Its end has begun: it takes requests for a while yet.
    pub ending: AtomicBool,
    ready: watch::Sender<bool>,
    closed: AtomicBool,
}

impl Core {
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed) || self.shutdown.is_cancelled()
    }

    pub fn store_is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub fn version_json(&self) -> Bytes {
        let version = serde_json::json!({
            "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
            "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
            "gitVersion": self.config.git_version, "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
        });
        crate::front::respond::json(&version, true)
    }
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl ApiServer {
    /// Loads the caches and makes the cluster's own objects; when this returns, the server answers.
    pub async fn start(config: Config, store: Arc<dyn Store>) -> Result<Self, Error> {
        let access = &config.access;
        let encryption = access.encryption_config.as_deref().map(Encryption::read).transpose();
        let encryption = encryption.map_err(Error::Config)?.map(Arc::new);
        let auditor = crate::audit::Auditor::new(&access.audit).map_err(Error::Config)?;
        let authz = Authz::new(Chain::new(access).map_err(Error::Config)?);
        let admission = crate::admission::Chain::new(&config).map_err(Error::Config)?;
        let shutdown = CancellationToken::new();
        let guard = Arc::new(Guard(shutdown.clone()));
        let map: KindMap = crate::kinds::builtin(&config);
        let kinds = Arc::new(Kinds::new(map));
        let progress = Arc::new(Progress::default());
        let (loads, asked) = mpsc::channel(16);
        let feed = Feed {
            store: store.clone(),
            kinds: kinds.clone(),
            progress: progress.clone(),
            loads: asked,
            quiet: (!config.exclusive_store).then_some(QUIET),
            encryption: encryption.clone(),
        };
        let revision = feed.load_all().await?;
        let metrics: Arc<Metrics> = Arc::default();
        let core = Arc::new(Core {
            cbor: config.features().iter().any(|f| f == "CBORServingAndStorage"),
            features: config.features(),
            authn: Authn::new(&config)?,
            authz,
            auditor,
            encryption,
            admission,
            flow: Flow::new(
                config.priority_and_fairness,
                config.max_requests_inflight,
                config.max_mutating_requests_inflight,
                metrics.clone(),
            ),
            metrics,
            leases: Leases::default(),
            services: crate::subresource::services::Allocators::new(&config)?,
            aggregator: crate::aggregation::Aggregator::default(),
            hooks: crate::admission::Hooks::default(),
            discovery: crate::discovery::Cached::default(),
            openapi: crate::discovery::openapi::Cached::default(),
            ending: AtomicBool::new(false),
            ready: watch::Sender::new(false),
            closed: AtomicBool::new(false),
            config,
            store,
            kinds,
            progress,
            latest: Latest::default(),
            loads,
            shutdown: shutdown.clone(),
        });
        tokio::spawn(feed.run(revision, shutdown.clone()));
        let (forgetting, every) = (core.progress.clone(), core.config.list_history);
        tokio::spawn(
            shutdown.clone().run_until_cancelled_owned(async move { forgetting.forget(every).await }),
        );
        crate::bootstrap::run(&core).await?;
        core.ready.send_replace(true);
        crate::crd::start(&core);
        crate::aggregation::start(&core);
        crate::identity::start(&core);
        crate::reload::start(&core);
        Ok(Self { core, _guard: guard })
    }

    /// Serves TLS connections until `shutdown`.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        let acceptor = listen::tls(&self.core.config, self.core.authn.authorities.any())?;
        let served = listen::serve(self.core.clone(), listener, acceptor, shutdown).await;
        if let Some(auditor) = &self.core.auditor {
            auditor.flush().await;
        }
        served
    }

    /// The same pipeline without TLS and authentication, for clients in this process.
    pub fn service(&self, identity: User) -> Service {
        Service { core: self.core.clone(), user: Arc::new(identity), _guard: self._guard.clone() }
    }

    /// Resolves when the cluster's own objects are there.
    pub async fn ready(&self) {
        let mut ready = self.core.ready.subscribe();
        let _ = tokio::time::timeout(Duration::from_secs(3600), ready.wait_for(|r| *r)).await;
    }
}

/// A `tower::Service` with an identity attached; `kube::Client::new(service, namespace)` takes it.
#[derive(Clone)]
pub struct Service {
    core: Arc<Core>,
    user: Arc<User>,
    _guard: Arc<Guard>,
}

impl<B> tower_service::Service<Request<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (core, caller) = (self.core.clone(), Caller::Trusted(self.user.clone()));
        Box::pin(async move { Ok(answer(core, caller, request.map(incoming)).await) })
    }
}
