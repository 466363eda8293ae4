//! The engine that is an etcd cluster: a client of its v3 API.
//!
//! Several endpoints, TLS with client certificates, another member when one does not answer, watches that resume
//! without gap. A write is sent again only if it certainly was not carried out; otherwise it is [`Error::Unknown`].
//! What it does not do: discover members, balance load.

mod client;
mod compactor;
mod status;
mod watch;

pub use compactor::compact_regularly;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::wire::proto;
use crate::{
    Error, Lease, LeaseId, RangeRequest, RangeResponse, Result, Revision, Store, StoreStatus, Txn,
    TxnResponse, Watch, WatchRequest,
};
use client::{Client, Idempotent};

/// How to reach a cluster.
#[derive(Clone)]
pub struct Config {
    /// `http://host:port`, `https://host:port` or `unix:///path/to/socket`, one or more.
    pub endpoints: Vec<String>,
    /// PEM of the authorities that sign the members' certificates.
    pub ca: Option<Vec<u8>>,
    /// PEM of the client's certificate and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// A user of the cluster and the password; for a certificate's user neither is needed.
    pub user: Option<(String, String)>,
    /// How long one member may take for one request.
    pub request_timeout: Duration,
    /// How long a request that may be repeated is repeated.
    pub retry_for: Duration,
}

/// Without what is secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            ca: None,
            identity: None,
            user: None,
            request_timeout: Duration::from_secs(5),
            retry_for: Duration::from_secs(15),
        }
    }
}

impl Config {
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    fn tls(&self) -> Option<ClientTlsConfig> {
        let mut tls = ClientTlsConfig::new();
        if let Some(ca) = &self.ca {
            tls = tls.ca_certificate(Certificate::from_pem(ca));
        }
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        self.endpoints.iter().any(|e| e.starts_with("https:")).then_some(tls)
    }
}

/// Connects to a cluster; fails if no member answers.
pub async fn connect(config: Config) -> Result<Arc<dyn Store>> {
    let client = Client::new(&config)?;
    let etcd = Etcd { client: Arc::new(client) };
    match etcd.status().await {
        Ok(_) => Ok(Arc::new(etcd)),
        // A member that misses a client's certificate closes the connection without a word.
        Err(Error::Unavailable(text)) if config.tls().is_some() && config.identity.is_none() => {
            Err(Error::Unavailable(format!(
                "{text} (no client certificate is given: do the members ask for one?)"
            )))
        }
        // Authentication is on.
        Err(Error::Other(text)) if text.contains("user name is empty") => Err(Error::Other(format!(
            "{text} (the cluster asks who is there: is a client certificate with a user's name, or a password, missing?)"
        ))),
        Err(error) => Err(error),
    }
}

struct Etcd {
    client: Arc<Client>,
}

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const LEASE_TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
const LEASE_LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";

impl Store for Etcd {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        async move {
            let asked = request.revision;
            let request: proto::RangeRequest = request.into();
            let response: Result<proto::RangeResponse> =
                self.client.unary(RANGE, request, Idempotent::Yes).await;
            Ok(response.map_err(|e| status::about(e, asked))?.into())
        }
        .boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        async move {
            let request: proto::TxnRequest = txn.into();
            let response: proto::TxnResponse = self.client.unary(TXN, request, Idempotent::No).await?;
            response.try_into()
        }
        .boxed()
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Box<dyn Watch>>> {
        async move {
            let watch = watch::EtcdWatch::start(self.client.clone(), request).await?;
            Ok(Box::new(watch) as Box<dyn Watch>)
        }
        .boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        async move {
            let request = proto::CompactionRequest { revision, physical: true };
            let response: Result<proto::HeaderResponse> =
                self.client.unary(COMPACT, request, Idempotent::No).await;
            response.map(drop).map_err(|e| status::about(e, revision))
        }
        .boxed()
    }

    fn lease_grant(&self, id: LeaseId, ttl_seconds: i64) -> BoxFuture<'_, Result<Lease>> {
        async move {
            let request = proto::LeaseGrantRequest { ttl: ttl_seconds, id };
            let granted: proto::LeaseGrantResponse =
                self.client.unary(LEASE_GRANT, request, Idempotent::No).await?;
            Ok(Lease { id: granted.id, granted_ttl: granted.ttl, ttl: granted.ttl, keys: Vec::new() })
        }
        .boxed()
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<()>> {
        async move {
            let request = proto::LeaseIdRequest { id };
            let _: proto::HeaderResponse = self.client.unary(LEASE_REVOKE, request, Idempotent::No).await?;
            Ok(())
        }
        .boxed()
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<Lease>> {
        async move {
            let response = self.client.keep_alive(id).await?;
            if response.ttl <= 0 {
                return Err(Error::LeaseNotFound);
            }
            Ok(Lease { id, granted_ttl: response.ttl, ttl: response.ttl, keys: Vec::new() })
        }
        .boxed()
    }

    fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> BoxFuture<'_, Result<Lease>> {
        async move {
            let request = proto::LeaseTimeToLiveRequest { id, keys };
            let told: Result<proto::LeaseTimeToLiveResponse> =
                self.client.unary(LEASE_TIME_TO_LIVE, request, Idempotent::Yes).await;
            match told {
                Ok(told) => Ok(Lease { id, granted_ttl: told.granted_ttl, ttl: told.ttl, keys: told.keys }),
                Err(Error::LeaseNotFound) => Ok(Lease { id, granted_ttl: 0, ttl: -1, keys: Vec::new() }),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>> {
        async move {
            let all: proto::LeaseLeasesResponse =
                self.client.unary(LEASE_LEASES, proto::Empty {}, Idempotent::Yes).await?;
            Ok(all.leases.into_iter().map(|lease| lease.id).collect())
        }
        .boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<StoreStatus>> {
        async move {
            let status: proto::StatusResponse =
                self.client.unary(STATUS, proto::Empty {}, Idempotent::Yes).await?;
            // A member's own revision may lag: a linearizable read tells the cluster's, and the number of keys.
            let everything =
                RangeRequest { count_only: true, ..RangeRequest::new(crate::KeyRange::prefix("")) };
            let counted = self.range(everything).await?;
            Ok(StoreStatus {
                revision: counted.revision,
                compact_revision: 0,
                size: status.db_size.max(0) as u64,
                size_in_use: status.db_size_in_use.max(0) as u64,
                keys: counted.count as u64,
                alarm: status.errors.into_iter().next(),
            })
        }
        .boxed()
    }

    fn defragment(&self) -> BoxFuture<'_, Result<()>> {
        async move { self.client.on_each_member(DEFRAGMENT).await }.boxed()
    }
}
