//! Leases.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use tonic::Status;

use super::grpc::Messages;
use super::{Face, refusal};
use crate::Error;
use crate::wire::proto;

/// In seconds, as etcd has it.
const MAX_TTL: i64 = 9_000_000_000;

impl Face {
    pub(super) async fn lease_grant(
        &self,
        request: proto::LeaseGrantRequest,
    ) -> Result<proto::LeaseGrantResponse, Status> {
        if request.ttl > MAX_TTL {
            return Err(Status::out_of_range("etcdserver: too large lease TTL"));
        }
        let lease = self.store.lease_grant(request.id, request.ttl).await.map_err(refusal)?;
        let header = self.current().await?;
        Ok(proto::LeaseGrantResponse { header, id: lease.id, ttl: lease.granted_ttl, error: String::new() })
    }

    pub(super) async fn lease_revoke(
        &self,
        request: proto::LeaseIdRequest,
    ) -> Result<proto::HeaderResponse, Status> {
        self.store.lease_revoke(request.id).await.map_err(refusal)?;
        Ok(proto::HeaderResponse { header: self.current().await? })
    }

    async fn renew(&self, id: i64) -> Result<proto::LeaseKeepAliveResponse, Status> {
        let ttl = match self.store.lease_keep_alive(id).await {
            Ok(lease) => lease.ttl,
            // Told as a lease with no time left.
            Err(Error::LeaseNotFound) => 0,
            Err(error) => return Err(refusal(error)),
        };
        Ok(proto::LeaseKeepAliveResponse { header: self.current().await?, id, ttl })
    }

    pub(super) fn lease_keep_alive(
        self: Arc<Self>,
        requests: Messages<proto::LeaseIdRequest>,
    ) -> BoxStream<'static, Result<proto::LeaseKeepAliveResponse, Status>> {
        let shutdown = self.shutdown.clone();
        let answers = unfold((self, requests), |(face, mut requests)| async move {
            match requests.next().await {
                Ok(Some(request)) => Some((face.renew(request.id).await, (face, requests))),
                Ok(None) => None,
                Err(status) => Some((Err(status), (face, requests))),
            }
        });
        answers.take_until(shutdown.cancelled_owned()).boxed()
    }

    pub(super) async fn lease_time_to_live(
        &self,
        request: proto::LeaseTimeToLiveRequest,
    ) -> Result<proto::LeaseTimeToLiveResponse, Status> {
        let lease = self.store.lease_time_to_live(request.id, request.keys).await.map_err(refusal)?;
        Ok(proto::LeaseTimeToLiveResponse {
            header: self.current().await?,
            id: lease.id,
            ttl: lease.ttl,
            granted_ttl: lease.granted_ttl,
            keys: lease.keys,
        })
    }

    pub(super) async fn leases(&self, _: proto::Empty) -> Result<proto::LeaseLeasesResponse, Status> {
        let all = self.store.leases().await.map_err(refusal)?;
        let leases = all.into_iter().map(|id| proto::LeaseStatus { id }).collect();
        Ok(proto::LeaseLeasesResponse { header: self.current().await?, leases })
    }
}
