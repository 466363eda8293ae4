//! The etcd v3 gRPC API over any [`Store`]: KV, Watch, Lease, Maintenance, and of Cluster and Auth what clients ask for.
//!
//! etcdctl works against it, and so does a kube-apiserver. What it does not have: members to add, users and roles, the
//! services for elections and locks (etcdctl makes its own out of leases and keys). Those answer "unimplemented".

mod grpc;
mod kv;
mod lease;
mod maintenance;
mod pages;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::wire::proto::{self, ResponseHeader};
use crate::{Error, Revision, Store};
use grpc::{Call, Messages};

/// What the face says of itself.
#[derive(Clone, Debug)]
pub struct Options {
    pub name: String,
    /// Told to clients that ask for the members.
    pub client_urls: Vec<String>,
    /// Watchers that want it hear of progress this often while nothing happens.
    pub progress_interval: Duration,
    /// Requests that are larger are refused; 1.5 MB is what clients of etcd count on.
    pub max_request_bytes: usize,
    /// So many comparisons, and operations in each branch, may a transaction have.
    pub max_txn_ops: usize,
    /// Whatever would change the store is refused: for looking at, and saving, a store that another server writes.
    pub read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "r8s".into(),
            client_urls: Vec::new(),
            progress_interval: Duration::from_secs(600),
            max_request_bytes: 3 << 19,
            max_txn_ops: 128,
            read_only: false,
        }
    }
}

/// Clients ask for the version to know what they may use: all of 3.5's KV, Watch and Lease is here.
const VERSION: &str = "3.5.21";
/// The only member there is.
const MEMBER: u64 = 0x0072_3873;
/// A message may be larger than a request by this, as etcd has it; what is larger still is not read at all.
const OVERHEAD: usize = 512 << 10;
/// What the paths of the KV service begin with.
const KV: &str = "/etcdserverpb.KV/";

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
                    None => match face.begins_http2(&stream).await {
                        true => face.connection(stream).await,
                        false => face.plain(stream).await,
                    },
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(b"http/1.1") => {
                            face.plain(stream).await;
                        }
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
    /// From the first bytes of a connection without TLS.
    async fn begins_http2(&self, stream: &TcpStream) -> bool {
        let mut start = [0; 3];
        tokio::select! {
            peeked = stream.peek(&mut start) => peeked.is_ok_and(|n| start[..n] == b"PRI"[..n]),
            () = self.shutdown.cancelled() => false,
        }
    }

    /// One client's connection. Reads and writes of keys are short or wait for the writer, and are served in the
    /// connection's own task: a batch that became durable is answered with one write to the socket, and nothing
    /// is handed from thread to thread. Everything else gets a task of its own.
    async fn connection(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(4096).max_header_list_size(16 << 10);
        builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
        let begun = tokio::select! {
            begun = builder.handshake(stream) => begun,
            () = self.shutdown.cancelled() => return,
        };
        let mut connection = match begun {
            Ok(connection) => connection,
            Err(error) => return tracing::debug!(%error, "no HTTP/2 connection"),
        };
        let limit = self.message_limit();
        let mut ending = std::pin::pin!(self.shutdown.cancelled().fuse());
        let mut calls = FuturesUnordered::new();
        let result = std::future::poll_fn(|cx| {
            if ending.as_mut().poll(cx).is_ready() {
                connection.graceful_shutdown();
            }
            loop {
                // This also reads and writes for the streams that are open.
                match std::pin::pin!(connection.accept()).poll(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        match Call::new(request, respond, limit) {
                            Ok(call) if call.path().starts_with(KV) => calls.push(self.kv(call)),
                            Ok(call) => drop(tokio::spawn(self.clone().route(call))),
                            Err((request, mut respond)) => {
                                let face = self.clone();
                                tokio::spawn(async move {
                                    let (head, page) = face.page(request.uri().path()).await.into_parts();
                                    let head = http::Response::from_parts(head, ());
                                    if let Ok(mut out) = respond.send_response(head, false) {
                                        let _ = out.send_data(page, true);
                                    }
                                });
                            }
                        }
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => {}
                }
                let mut answered = false;
                while let Poll::Ready(Some(())) = calls.poll_next_unpin(cx) {
                    answered = true;
                }
                if !answered {
                    return Poll::Pending;
                }
            }
        })
        .await;
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended");
        }
    }

    fn message_limit(&self) -> usize {
        self.options.max_request_bytes.saturating_add(OVERHEAD)
    }

    fn may(&self, call: &Call, reads: bool) -> Result<(), Status> {
        if self.options.read_only && !reads {
            let text = format!("etcdserver: {} is refused: this endpoint is for reading only", call.path());
            return Err(Status::permission_denied(text));
        }
        Ok(())
    }

    async fn kv(&self, call: Call) {
        let method = call.path().trim_start_matches(KV);
        if let Err(status) = self.may(&call, method == "Range") {
            return call.refuse(&status);
        }
        match method {
            "Range" => call.unary(|m| self.range(m)).await,
            "Put" => call.unary(|m| self.put(m)).await,
            "DeleteRange" => call.unary(|m| self.delete_range(m)).await,
            "Txn" => call.unary(|m| self.txn(m)).await,
            "Compact" => call.unary(|m| self.compact(m)).await,
            _ => unimplemented(call),
        }
    }

    async fn route(self: Arc<Self>, call: Call) {
        let Some((service, method)) =
            call.path().strip_prefix("/etcdserverpb.").and_then(|p| p.split_once('/'))
        else {
            return unimplemented(call);
        };
        let reads = matches!(
            (service, method),
            ("Watch", _)
                | ("Lease", "LeaseTimeToLive" | "LeaseLeases")
                | ("Cluster" | "Auth", _)
                | ("Maintenance", "Status" | "Alarm" | "Hash" | "HashKV" | "Snapshot")
        );
        if let Err(status) = self.may(&call, reads) {
            return call.refuse(&status);
        }
        match (service, method) {
            ("Watch", "Watch") => call.streaming(|messages| self.watch(messages)).await,
            ("Lease", "LeaseGrant") => call.unary(|m| self.lease_grant(m)).await,
            ("Lease", "LeaseRevoke") => call.unary(|m| self.lease_revoke(m)).await,
            ("Lease", "LeaseKeepAlive") => call.streaming(|messages| self.lease_keep_alive(messages)).await,
            ("Lease", "LeaseTimeToLive") => call.unary(|m| self.lease_time_to_live(m)).await,
            ("Lease", "LeaseLeases") => call.unary(|m| self.leases(m)).await,
            ("Maintenance", "Status") => call.unary(|m| self.status(m)).await,
            ("Maintenance", "Alarm") => call.unary(|m| self.alarm(m)).await,
            ("Maintenance", "Defragment") => call.unary(|m| self.defragment(m)).await,
            ("Maintenance", "Hash") => call.unary(|m| self.hash(m)).await,
            ("Maintenance", "HashKV") => call.unary(|m| self.hash_kv(m)).await,
            ("Maintenance", "Snapshot") => call.streaming(|_: Messages<proto::Empty>| self.snapshot()).await,
            ("Cluster", "MemberList") => call.unary(|m| self.member_list(m)).await,
            ("Auth", "AuthStatus") => call.unary(|m| self.auth_status(m)).await,
            // There are none, which is an answer.
            ("Auth", "UserList" | "RoleList") => {
                let none =
                    |_: proto::Empty| async { Ok(proto::HeaderResponse { header: self.current().await? }) };
                call.unary(none).await;
            }
            // A member alone has nobody to hand over to.
            ("Maintenance", "MoveLeader") => {
                call.refuse(&Status::failed_precondition("etcdserver: bad leader transferee"));
            }
            ("Auth", "Authenticate") => {
                call.refuse(&Status::failed_precondition("etcdserver: authentication is not enabled"));
            }
            _ => unimplemented(call),
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

fn unimplemented(call: Call) {
    let path = call.path();
    let why = match path.trim_start_matches("/etcdserverpb.").split('/').next() {
        Some("Auth") => "there are no users and roles here, only client certificates",
        Some("Cluster") => "this store is a single member and stays one",
        _ => "it is not served here",
    };
    let status = Status::unimplemented(format!("etcdserver: {path}: {why}"));
    call.refuse(&status);
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
