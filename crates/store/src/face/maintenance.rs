//! Status, alarms, hashes, snapshots, members, and that there are no users.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Face, MEMBER, VERSION, refusal};
use crate::wire::proto;
use crate::{KeyRange, RangeRequest, snapshot};

impl Face {
    pub(super) async fn status(&self, _: proto::Empty) -> Result<proto::StatusResponse, Status> {
        let status = self.store.status().await.map_err(refusal)?;
        let index = status.revision as u64;
        Ok(proto::StatusResponse {
            header: self.header(status.revision),
            version: VERSION.to_owned(),
            db_size: status.size as i64,
            leader: MEMBER,
            raft_index: index,
            raft_term: 1,
            raft_applied_index: index,
            errors: status.alarm.into_iter().collect(),
            db_size_in_use: status.size_in_use as i64,
            is_learner: false,
        })
    }

    /// An alarm is raised and lowered by the store itself: a request to do either is answered with what there is.
    pub(super) async fn alarm(&self, _: proto::AlarmRequest) -> Result<proto::AlarmResponse, Status> {
        let status = self.store.status().await.map_err(refusal)?;
        let alarms = status.alarm.iter().map(|_| proto::AlarmMember { member_id: MEMBER, alarm: 1 });
        Ok(proto::AlarmResponse { header: self.header(status.revision), alarms: alarms.collect() })
    }

    pub(super) async fn defragment(&self, _: proto::Empty) -> Result<proto::HeaderResponse, Status> {
        self.store.defragment().await.map_err(refusal)?;
        Ok(proto::HeaderResponse { header: self.current().await? })
    }

    pub(super) async fn hash(&self, _: proto::Empty) -> Result<proto::HashKvResponse, Status> {
        self.hash_kv(proto::HashKvRequest { revision: 0 }).await
    }

    /// Our own hash: it tells two of our stores apart, not one of ours from an etcd.
    pub(super) async fn hash_kv(
        &self,
        request: proto::HashKvRequest,
    ) -> Result<proto::HashKvResponse, Status> {
        let mut hasher = crc32fast::Hasher::new();
        let mut range = KeyRange::prefix("");
        let mut revision = request.revision;
        loop {
            let page = RangeRequest { revision, limit: 1000, ..RangeRequest::new(range) };
            let page = self.store.range(page).await.map_err(refusal)?;
            if revision == 0 {
                revision = page.revision;
            }
            for kv in &page.kvs {
                hasher.update(&kv.mod_revision.to_le_bytes());
                hasher.update(&(kv.key.len() as u64).to_le_bytes());
                hasher.update(&kv.key);
                hasher.update(&kv.value);
            }
            let Some(last) = page.kvs.last().filter(|_| page.more) else { break };
            let start: Bytes = [&last.key[..], &[0]].concat().into();
            range = KeyRange { start, end: Some(Bytes::new()) };
        }
        let status = self.store.status().await.map_err(refusal)?;
        Ok(proto::HashKvResponse {
            header: self.header(revision),
            hash: hasher.finalize(),
            compact_revision: status.compact_revision,
        })
    }

    /// Our snapshot file, padded to a multiple of 512 bytes, and its SHA-256: clients look for that.
    pub(super) fn snapshot(self: Arc<Self>) -> BoxStream<'static, Result<proto::SnapshotResponse, Status>> {
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut out = Blobs { sender: sender.clone(), buffer: Vec::new(), hash: Sha256::new(), sent: 0 };
            let result = snapshot::save(&*self.store, &mut out, &mut |_, _| {}).await;
            let end = match result {
                Ok(_) => out.end().await,
                Err(error) => Err(refusal(error)),
            };
            if let Err(status) = end {
                let _ = sender.send(Err(status)).await;
            }
        });
        unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
    }

    pub(super) async fn member_list(&self, _: proto::Empty) -> Result<proto::MemberListResponse, Status> {
        let member = proto::Member {
            id: MEMBER,
            name: self.options.name.clone(),
            peer_urls: Vec::new(),
            client_urls: self.options.client_urls.clone(),
            is_learner: false,
        };
        Ok(proto::MemberListResponse { header: self.current().await?, members: vec![member] })
    }

    pub(super) async fn auth_status(&self, _: proto::Empty) -> Result<proto::AuthStatusResponse, Status> {
        Ok(proto::AuthStatusResponse { header: self.current().await?, enabled: false, auth_revision: 1 })
    }
}

const BLOB: usize = 256 << 10;

/// Hands what is written on to the client in pieces.
struct Blobs {
    sender: mpsc::Sender<Result<proto::SnapshotResponse, Status>>,
    buffer: Vec<u8>,
    hash: Sha256,
    sent: usize,
}

impl Blobs {
    async fn send(&mut self, blob: Vec<u8>) -> Result<(), Status> {
        self.hash.update(&blob);
        self.sent += blob.len();
        let response = proto::SnapshotResponse { header: None, remaining_bytes: 1, blob: blob.into() };
        self.sender.send(Ok(response)).await.map_err(|_| Status::cancelled("the client has gone"))
    }

    async fn end(mut self) -> Result<(), Status> {
        let mut all = std::mem::take(&mut self.buffer);
        while !all.is_empty() {
            let rest = all.split_off(all.len().min(BLOB));
            self.send(std::mem::replace(&mut all, rest)).await?;
        }
        let padding = self.sent.next_multiple_of(512) - self.sent;
        if padding > 0 {
            self.send(vec![0; padding]).await?;
        }
        let digest = Bytes::copy_from_slice(&self.hash.finalize());
        let last = proto::SnapshotResponse { header: None, remaining_bytes: 0, blob: digest };
        self.sender.send(Ok(last)).await.map_err(|_| Status::cancelled("the client has gone"))
    }
}

impl io::Write for &mut Blobs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
