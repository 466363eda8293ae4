//! Requests to whichever member answers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::status::{Verdict, describe, judge};
use super::{Config, STATUS};
use crate::wire::proto;
use crate::{Error, KeyRange, LeaseId, RangeRequest, Result};

/// Whether a request may be sent again without knowing what became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Idempotent {
    Yes,
    No,
}

pub(super) struct Member {
    pub channel: Channel,
    version: OnceCell<(u32, u32, u32)>,
}

pub(super) struct Client {
    members: Vec<Arc<Member>>,
    /// The one that answered last.
    current: AtomicUsize,
    request_timeout: Duration,
    retry_for: Duration,
    user: Option<(String, String)>,
    /// What the cluster gave for the password; it runs out.
    token: Mutex<Option<Token>>,
}

type Token = MetadataValue<Ascii>;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// A request is not repeated without end with tokens that the members refuse at once.
const RENEWALS: usize = 3;

impl Client {
    pub fn new(config: &Config) -> Result<Self> {
        let tls = config.tls();
        let member = |endpoint: &String| {
            if let Some(path) = endpoint.strip_prefix("unix://") {
                return Ok(Arc::new(Member { channel: unix(path.into()), version: OnceCell::new() }));
            }
            let bad =
                |error: tonic::transport::Error| Error::Other(format!("etcd endpoint {endpoint}: {error:?}"));
            let mut builder = Endpoint::from_shared(endpoint.clone())
                .map_err(bad)?
                .connect_timeout(Duration::from_secs(3))
                .tcp_nodelay(true)
                // A member that has stopped or is cut off is noticed by its silence, while something is asked of it.
                .http2_keep_alive_interval(Duration::from_secs(3))
                .keep_alive_timeout(Duration::from_secs(3));
            if let Some(tls) = tls.clone().filter(|_| endpoint.starts_with("https:")) {
                builder = builder.tls_config(tls).map_err(bad)?;
            }
            Ok(Arc::new(Member { channel: builder.connect_lazy(), version: OnceCell::new() }))
        };
        let members = config.endpoints.iter().map(member).collect::<Result<Vec<_>>>()?;
        if members.is_empty() {
            return Err(Error::Other("no etcd endpoint is given".into()));
        }
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            request_timeout: config.request_timeout,
            retry_for: config.retry_for,
            user: config.user.clone(),
            token: Mutex::new(None),
        })
    }

    /// The member to ask now, and its number.
    pub fn member(&self) -> (usize, Arc<Member>) {
        let at = self.current.load(Ordering::Relaxed) % self.members.len();
        (at, self.members[at].clone())
    }

    /// Asks the next one from now on, unless somebody has moved on already.
    pub fn move_on(&self, from: usize) {
        let next = (from + 1) % self.members.len();
        let _ = self.current.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn token(&self) -> Option<Token> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a refused request, which has done nothing, may be sent again: it came with no token or with one that had
    /// run out, and now there is a new one.
    async fn renewed(&self, member: &Member, used: &Option<Token>, status: &Status) -> Result<bool, Status> {
        let lacking = ["user name is empty", "invalid auth token", "revision of auth store is old"];
        let Some((name, password)) = &self.user else { return Ok(false) };
        if !lacking.iter().any(|text| status.message().contains(text)) {
            return Ok(false);
        }
        if self.token() != *used {
            // Somebody else has been there.
            return Ok(true);
        }
        let request = proto::AuthenticateRequest { name: name.clone(), password: password.clone() };
        let asked = ask(member.channel.clone(), AUTHENTICATE, request, None, self.request_timeout);
        let answer: proto::AuthenticateResponse = asked.await?;
        let token = answer.token.parse().map_err(|_| Status::internal("the token cannot be a header"))?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(true)
    }

    pub async fn unary<Q, A>(&self, path: &'static str, request: Q, idempotent: Idempotent) -> Result<A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let start = Instant::now();
        let mut pause = Duration::from_millis(10);
        let mut renewals = 0;
        loop {
            let (at, member) = self.member();
            let token = self.token();
            let asked =
                ask(member.channel.clone(), path, request.clone(), token.clone(), self.request_timeout);
            let mut status = match tokio::time::timeout(self.request_timeout, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("the member does not answer"),
            };
            if renewals < RENEWALS {
                match self.renewed(&member, &token, &status).await {
                    Ok(true) => {
                        renewals += 1;
                        continue;
                    }
                    Ok(false) => {}
                    Err(refused) => status = refused,
                }
            }
            let (error, again) = match judge(&status) {
                Verdict::Answer(error) => return Err(error),
                Verdict::NotDone(text) => (Error::Unavailable(text), true),
                Verdict::Unknown(text) => (Error::Unknown(text), idempotent == Idempotent::Yes),
            };
            self.move_on(at);
            if !again || start.elapsed() + pause > self.retry_for {
                return Err(match error {
                    // A read that failed has done nothing.
                    Error::Unknown(text) if idempotent == Idempotent::Yes => Error::Unavailable(text),
                    error => error,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    pub async fn on_each_member(&self, path: &'static str) -> Result<()> {
        for member in &self.members {
            // Defragmenting a large database takes its time.
            let token = self.token();
            let asked = ask(member.channel.clone(), path, proto::Empty {}, token, Duration::from_secs(600));
            let _: proto::HeaderResponse = asked.await.map_err(|status| match judge(&status) {
                Verdict::Answer(error) => error,
                Verdict::NotDone(text) | Verdict::Unknown(text) => Error::Unavailable(text),
            })?;
        }
        Ok(())
    }

    /// Renewing a lease twice does no harm, so it is repeated like a read.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<proto::LeaseKeepAliveResponse> {
        let start = Instant::now();
        let mut renewals = 0;
        loop {
            let (at, member) = self.member();
            let token = self.token();
            let once = async {
                let requests = futures_util::stream::iter([proto::LeaseIdRequest { id }]);
                let answers: Streaming<proto::LeaseKeepAliveResponse> =
                    stream(member.channel.clone(), KEEP_ALIVE, requests, token.clone()).await?;
                let mut answers = answers;
                answers.message().await?.ok_or_else(|| Status::unavailable("no answer"))
            };
            let status = match tokio::time::timeout(self.request_timeout, once).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("the member does not answer"),
            };
            if renewals < RENEWALS && matches!(self.renewed(&member, &token, &status).await, Ok(true)) {
                renewals += 1;
                continue;
            }
            if let Verdict::Answer(error) = judge(&status) {
                return Err(error);
            }
            self.move_on(at);
            if start.elapsed() > self.retry_for {
                return Err(Error::Unavailable(describe(&status)));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn open_watch(
        &self,
        member: &Member,
        requests: impl futures_util::Stream<Item = proto::WatchRequest> + Send + 'static,
    ) -> Result<Streaming<proto::WatchResponse>, Status> {
        if self.user.is_some() {
            // A watch with a token that has run out is refused in words that say nothing of it: a read renews it.
            let read = RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::key("\0")) };
            let probe: Result<proto::RangeResponse> =
                self.unary(super::RANGE, proto::RangeRequest::from(read), Idempotent::Yes).await;
            if let Err(error) = probe {
                tracing::debug!(%error, "a watch begins without a sure token");
            }
        }
        let opened = stream(member.channel.clone(), WATCH, requests, self.token());
        match tokio::time::timeout(self.request_timeout, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(Status::deadline_exceeded("the member does not answer")),
        }
    }

    pub fn request_timeout(&self) -> Duration {
        self.request_timeout
    }
}

impl Member {
    /// Whether the member's answers to a request for progress come after all events before it: before 3.4.25 and 3.5.8
    /// they might not (<https://github.com/etcd-io/etcd/issues/15220>).
    pub async fn tells_progress(&self, timeout: Duration) -> bool {
        let ask = || async {
            let status: proto::StatusResponse =
                ask(self.channel.clone(), STATUS, proto::Empty {}, None, timeout).await.map_err(drop)?;
            let mut parts = status.version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
            let mut part = || parts.next().unwrap_or(0);
            Ok::<_, ()>((part(), part(), part()))
        };
        match self.version.get_or_try_init(ask).await {
            Ok(version) => *version >= (3, 5, 8) || ((3, 4, 25)..(3, 5, 0)).contains(version),
            Err(()) => false,
        }
    }
}

/// A member on this host, behind a socket file.
fn unix(path: PathBuf) -> Channel {
    let connect = move |_: http::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    };
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(connect))
}

fn grpc(channel: Channel) -> Grpc<Channel> {
    // A large cluster's lists are large; what the cluster may send is its own to limit.
    Grpc::new(channel).max_decoding_message_size(usize::MAX)
}

fn not_ready(error: tonic::transport::Error) -> Status {
    Status::from_error(Box::new(error))
}

fn head(metadata: &mut MetadataMap, token: Option<Token>) {
    // Members without a leader say so at once instead of waiting for one.
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    if let Some(token) = token {
        metadata.insert("token", token);
    }
}

async fn ask<Q, A>(
    channel: Channel,
    path: &'static str,
    message: Q,
    token: Option<Token>,
    timeout: Duration,
) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = grpc(channel);
    grpc.ready().await.map_err(not_ready)?;
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    head(request.metadata_mut(), token);
    let codec = ProstCodec::<Q, A>::default();
    Ok(grpc.unary(request, PathAndQuery::from_static(path), codec).await?.into_inner())
}

async fn stream<Q, A>(
    channel: Channel,
    path: &'static str,
    requests: impl futures_util::Stream<Item = Q> + Send + 'static,
    token: Option<Token>,
) -> Result<Streaming<A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = grpc(channel);
    grpc.ready().await.map_err(not_ready)?;
    let mut request = Request::new(requests);
    head(request.metadata_mut(), token);
    let codec = ProstCodec::<Q, A>::default();
    Ok(grpc.streaming(request, PathAndQuery::from_static(path), codec).await?.into_inner())
}
