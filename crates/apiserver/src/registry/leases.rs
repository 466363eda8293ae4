//! Leases for objects that vanish by themselves (events): one lease serves a minute of writes.

use std::time::{Duration, Instant};

use store::{LeaseId, Store};
use tokio::sync::Mutex;

const SHARED_FOR: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Leases(Mutex<Option<(LeaseId, Instant, Duration)>>);

impl Leases {
    /// A lease that lives at least `ttl` from now.
    pub async fn get(&self, store: &dyn Store, ttl: Duration) -> store::Result<LeaseId> {
        let mut current = self.0.lock().await;
        if let Some((id, since, of)) = *current
            && since.elapsed() < SHARED_FOR
            && of == ttl
        {
            return Ok(id);
        }
        let lease = store.lease_grant(0, (ttl + SHARED_FOR).as_secs() as i64).await?;
        *current = Some((lease.id, Instant::now(), ttl));
        Ok(lease.id)
    }
}
