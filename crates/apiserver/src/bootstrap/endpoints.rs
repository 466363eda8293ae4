//! Where the `kubernetes` Service leads. On a store of our own that is this server; on a shared one it is every server
//! whose key under `/registry/masterleases/` has not run out, as kube-apiserver keeps them.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use machinery::codec::proto;
use machinery::{GroupVersion, Status, Value, json};
use store::{KeyRange, Op, RangeRequest, Txn};

use super::{objects, put};
use crate::registry::storage::store_error;
use crate::server::Core;

const PREFIX: &str = "/registry/masterleases/";
/// A server that has not been heard of for this long is gone.
const TTL: i64 = 15;
const EVERY: Duration = Duration::from_secs(10);

pub async fn start(core: &Arc<Core>) -> Result<(), Status> {
    let address = core.config.advertise_address;
    // an endpoint can't be a loopback address: such a server is for its own host only
    if address.is_loopback() || address.is_unspecified() {
        return Ok(());
    }
    if core.config.exclusive_store {
        return publish(core, &[address]).await;
    }
    round(core).await?;
    tokio::spawn(go_on(Arc::downgrade(core), core.shutdown.clone()));
    Ok(())
}

async fn go_on(core: Weak<Core>, shutdown: tokio_util::sync::CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let Some(core) = core.upgrade() else { return };
        if let Err(status) = round(&core).await {
            tracing::warn!(%status, "can't renew this server's place among the API servers");
        }
    }
}

/// Says that this server lives, and makes the endpoints those that do.
async fn round(core: &Arc<Core>) -> Result<(), Status> {
    let own = core.config.advertise_address;
    let lease = core.store.lease_grant(0, TTL).await.map_err(store_error)?;
    let put =
        Op::Put { key: format!("{PREFIX}{own}").into(), value: value(own)?, lease: lease.id, prev_kv: false };
    let written = core.store.txn(Txn { success: vec![put], ..Txn::default() }).await.map_err(store_error)?;
    core.progress.set_committed(written.revision);
    let range = RangeRequest { keys_only: true, ..RangeRequest::new(KeyRange::prefix(PREFIX)) };
    let found = core.store.range(range).await.map_err(store_error)?;
    let address = |kv: &store::KeyValue| std::str::from_utf8(&kv.key[PREFIX.len()..]).ok()?.parse().ok();
    let servers: Vec<IpAddr> = found.kvs.iter().filter_map(address).collect();
    publish(core, &servers).await
}

fn value(own: IpAddr) -> Result<bytes::Bytes, Status> {
    let schema = crate::codec::schema_of(&GroupVersion::new("", "v1").kind("Endpoints"))
        .ok_or_else(|| Status::internal("no schema of Endpoints"))?;
    let object: Value = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {},
        "subsets": [{"addresses": [{"ip": own.to_string()}]}]});
    let mut out = Vec::new();
    proto::encode(schema, &object, &mut out);
    Ok(out.into())
}

async fn publish(core: &Arc<Core>, servers: &[IpAddr]) -> Result<(), Status> {
    for (group, resource, object) in objects::addresses(core, servers) {
        put(core, group, resource, object).await?;
    }
    Ok(())
}
