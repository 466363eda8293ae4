//! The etcd v3 gRPC API over any [`Store`]: KV, Watch, Lease, Maintenance, and of Cluster and Auth what clients ask for.
//!
//! etcdctl works against it, and so does a kube-apiserver. What it does not have: members to add, users, elections and
//! locks (they answer "unimplemented").

mod kv;
mod lease;
mod maintenance;
mod watch;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::BoxStream;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::wire::proto::ResponseHeader;
use crate::{Error, Revision, Store};

/// What the face says of itself.
#[derive(Clone, Debug)]
pub struct Options {
    pub name: String,
    /// Told to clients that ask for the members.
    pub client_urls: Vec<String>,
    /// Watchers that want it hear of progress this often while nothing happens.
    pub progress_interval: Duration,
    /// Whatever would change the store is refused: for looking at, and saving, a store that another server writes.
    pub read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "r8s".into(),
            client_urls: Vec::new(),
            progress_interval: Duration::from_secs(600),
            read_only: false,
        }
    }
}

/// Clients ask for the version to know what they may use: all of 3.5's KV, Watch and Lease is here.
const VERSION: &str = "3.5.21";
/// The only member there is.
const MEMBER: u64 = 0x0072_3873;
/// Requests larger than any store takes are not even read.
const MAX_REQUEST: usize = 64 << 20;

/// Serves until shutdown; then running requests have a moment to end.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    store: Arc<dyn Store>,
    options: Options,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let acceptor = tls.map(tokio_rustls::TlsAcceptor::from);
    let face = Arc::new(Face { store, options, shutdown: shutdown.clone() });
    accept(
        &shutdown,
        || listener.accept(),
        move |(stream, _)| {
            let (face, acceptor) = (face.clone(), acceptor.clone());
            async move {
                let _ = stream.set_nodelay(true);
                match acceptor {
                    None => face.connection(stream).await,
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => face.connection(stream).await,
                        Err(error) => tracing::debug!(%error, "no TLS connection"),
                    },
                }
            }
        },
    )
    .await;
    Ok(())
}

/// The same on a unix socket; who may open it is the file system's to say.
pub async fn serve_unix(
    listener: UnixListener,
    store: Arc<dyn Store>,
    options: Options,
    shutdown: CancellationToken,
) {
    let face = Arc::new(Face { store, options, shutdown: shutdown.clone() });
    accept(&shutdown, || listener.accept(), move |(stream, _)| face.clone().connection(stream)).await;
}

async fn accept<S, A, C>(shutdown: &CancellationToken, accept: impl Fn() -> A, converse: impl Fn(S) -> C)
where
    A: Future<Output = std::io::Result<S>>,
    C: Future<Output = ()> + Send + 'static,
{
    let connections = tokio_util::task::TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok(accepted) => drop(connections.spawn(converse(accepted))),
            // Too many open files, a connection reset in the queue: neither is a reason to end.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    connections.close();
    let _ = tokio::time::timeout(Duration::from_secs(2), connections.wait()).await;
}

struct Face {
    store: Arc<dyn Store>,
    options: Options,
    shutdown: CancellationToken,
}

impl Face {
    async fn connection(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let shutdown = self.shutdown.clone();
        let service = hyper::service::service_fn(move |request| {
            let face = self.clone();
            async move { Ok::<_, Infallible>(face.route(request).await) }
        });
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(4096);
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended");
                }
            }
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    async fn route(self: Arc<Self>, request: http::Request<Incoming>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        let Some((service, method)) = path.strip_prefix("/etcdserverpb.").and_then(|p| p.split_once('/'))
        else {
            return unimplemented(&path);
        };
        let reads = matches!(
            (service, method),
            ("KV", "Range")
                | ("Watch", _)
                | ("Lease", "LeaseTimeToLive" | "LeaseLeases")
                | ("Cluster" | "Auth", _)
                | ("Maintenance", "Status" | "Alarm" | "Hash" | "HashKV" | "Snapshot")
        );
        if self.options.read_only && !reads {
            return Status::permission_denied("etcdserver: this endpoint is for reading only").into_http();
        }
        match (service, method) {
            ("KV", "Range") => unary(request, |m| async move { self.range(m).await }).await,
            ("KV", "Put") => unary(request, |m| async move { self.put(m).await }).await,
            ("KV", "DeleteRange") => unary(request, |m| async move { self.delete_range(m).await }).await,
            ("KV", "Txn") => unary(request, |m| async move { self.txn(m).await }).await,
            ("KV", "Compact") => unary(request, |m| async move { self.compact(m).await }).await,
            ("Watch", "Watch") => streaming(request, |stream| self.watch(stream)).await,
            ("Lease", "LeaseGrant") => unary(request, |m| async move { self.lease_grant(m).await }).await,
            ("Lease", "LeaseRevoke") => unary(request, |m| async move { self.lease_revoke(m).await }).await,
            ("Lease", "LeaseKeepAlive") => streaming(request, |stream| self.lease_keep_alive(stream)).await,
            ("Lease", "LeaseTimeToLive") => {
                unary(request, |m| async move { self.lease_time_to_live(m).await }).await
            }
            ("Lease", "LeaseLeases") => unary(request, |m| async move { self.leases(m).await }).await,
            ("Maintenance", "Status") => unary(request, |m| async move { self.status(m).await }).await,
            ("Maintenance", "Alarm") => unary(request, |m| async move { self.alarm(m).await }).await,
            ("Maintenance", "Defragment") => {
                unary(request, |m| async move { self.defragment(m).await }).await
            }
            ("Maintenance", "Hash") => unary(request, |m| async move { self.hash(m).await }).await,
            ("Maintenance", "HashKV") => unary(request, |m| async move { self.hash_kv(m).await }).await,
            ("Maintenance", "Snapshot") => {
                let service = |_: Request<crate::wire::proto::Empty>| {
                    let stream = self.clone().snapshot();
                    async move { Ok::<_, Status>(Response::new(stream)) }
                };
                let codec =
                    ProstCodec::<crate::wire::proto::SnapshotResponse, crate::wire::proto::Empty>::default();
                Grpc::new(codec).server_streaming(tower::service_fn(service), request).await
            }
            ("Cluster", "MemberList") => unary(request, |m| async move { self.member_list(m).await }).await,
            ("Auth", "AuthStatus") => unary(request, |m| async move { self.auth_status(m).await }).await,
            // There are none, which is an answer.
            ("Auth", "UserList" | "RoleList") => {
                let none = |_: crate::wire::proto::Empty| async move {
                    Ok(crate::wire::proto::HeaderResponse { header: self.current().await? })
                };
                unary(request, none).await
            }
            // A member alone has nobody to hand over to.
            ("Maintenance", "MoveLeader") => {
                let refuse = |_: crate::wire::proto::Empty| async {
                    let text = "etcdserver: bad leader transferee";
                    Err::<crate::wire::proto::HeaderResponse, _>(Status::failed_precondition(text))
                };
                unary(request, refuse).await
            }
            ("Auth", "Authenticate") => {
                let refuse = |_: crate::wire::proto::Empty| async {
                    let text = "etcdserver: authentication is not enabled";
                    Err::<crate::wire::proto::HeaderResponse, _>(Status::failed_precondition(text))
                };
                unary(request, refuse).await
            }
            _ => unimplemented(&path),
        }
    }

    fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(ResponseHeader { cluster_id: MEMBER, member_id: MEMBER, revision, raft_term: 1 })
    }

    /// For answers that come with no revision of their own.
    async fn current(&self) -> Result<Option<ResponseHeader>, Status> {
        let status = self.store.status().await.map_err(refusal)?;
        Ok(self.header(status.revision))
    }
}

fn unimplemented(path: &str) -> http::Response<Body> {
    Status::unimplemented(format!("{path} is not served here")).into_http()
}

/// Serves one request with one answer.
async fn unary<Q, A, F, R>(request: http::Request<Incoming>, serve: F) -> http::Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: FnOnce(Q) -> R,
    R: Future<Output = Result<A, Status>> + Send,
{
    let mut serve = Some(serve);
    let service = tower::service_fn(move |request: Request<Q>| {
        // tonic calls it once for each request.
        let serve = serve.take().map(|serve| serve(request.into_inner()));
        async move {
            match serve {
                Some(serve) => serve.await.map(Response::new),
                None => Err(Status::internal("called twice")),
            }
        }
    });
    let mut grpc = Grpc::new(ProstCodec::<A, Q>::default())
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(usize::MAX);
    grpc.unary(service, request).await
}

/// Serves a stream of requests with a stream of answers.
async fn streaming<Q, A, F>(request: http::Request<Incoming>, serve: F) -> http::Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: FnOnce(Streaming<Q>) -> BoxStream<'static, Result<A, Status>> + Send,
{
    let mut serve = Some(serve);
    let service = tower::service_fn(move |request: Request<Streaming<Q>>| {
        let answers = serve.take().map(|serve| serve(request.into_inner()));
        async move { answers.map(Response::new).ok_or_else(|| Status::internal("called twice")) }
    });
    let mut grpc = Grpc::new(ProstCodec::<A, Q>::default())
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(usize::MAX);
    grpc.streaming(service, request).boxed().await
}

/// A store's error in etcd's codes and words, which clients know by heart.
fn refusal(error: Error) -> Status {
    let (code, text) = match error {
        Error::Compacted { .. } => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted".to_owned())
        }
        Error::FutureRevision { .. } => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision".to_owned())
        }
        Error::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found".to_owned()),
        Error::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists".to_owned()),
        Error::DuplicateKey => {
            (Code::InvalidArgument, "etcdserver: duplicate key given in txn request".to_owned())
        }
        Error::TooLarge(_) => (Code::InvalidArgument, "etcdserver: request is too large".to_owned()),
        Error::Unavailable(text) if text.contains("os error 28") => {
            (Code::ResourceExhausted, format!("etcdserver: mvcc: database space exceeded ({text})"))
        }
        Error::Unavailable(text) => {
            (Code::Unavailable, format!("etcdserver: the store cannot write now: {text}"))
        }
        Error::Corrupt(text) => (Code::DataLoss, format!("etcdserver: corrupt data: {text}")),
        Error::Closed => (Code::Unavailable, "etcdserver: server stopped".to_owned()),
        Error::TooSlow => (Code::Aborted, error.to_string()),
        Error::Unknown(text) => (Code::Unknown, text),
        Error::Other(text) => (Code::Internal, format!("etcdserver: {text}")),
    };
    Status::new(code, text)
}
