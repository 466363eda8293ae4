//! Addresses and ports on a store that several API servers write: an address is taken by its IPAddress object, a node
//! port by its bit in `/registry/ranges/servicenodeports`, as kube-apiserver has it, so that both may run side by side.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use machinery::codec::proto;
use machinery::{Get, GroupVersion, Status, Value, json, meta, schema::Schema};
use store::write::{self, Outcome};
use store::{KeyRange, RangeRequest};

use super::pool::Range;
use crate::kinds::Home;
use crate::registry::storage::store_error;
use crate::server::Core;

/// The label that says who made an IPAddress, and what API servers say there.
pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub const ALLOCATOR: &str = "ipallocator.k8s.io";

const KEY: &str = "/registry/ranges/servicenodeports";
/// Others write this key seldom: more refusals than this are not chance.
const ATTEMPTS: usize = 64;

/// What is taken in the store, by whichever server, and what there is to take.
#[derive(Default)]
pub struct View {
    addresses: Option<Arc<Home>>,
    /// What API servers took for Services is known without the store.
    alone: bool,
    ports: Ports,
    /// Ranges beside those of the configuration.
    pub more: Vec<Range>,
}

impl View {
    pub async fn read(core: &Core) -> Result<Self, Status> {
        core.fresh().await?;
        Ok(Self { alone: false, ports: Ports::read(core).await?, ..Self::alone(core) })
    }

    /// On a store of our own: the addresses that somebody reserved by hand.
    pub fn alone(core: &Core) -> Self {
        let home = |resource: &str| {
            core.kinds.now().preferred("networking.k8s.io", resource).and_then(|found| found.home.clone())
        };
        let more = home("servicecidrs").map(|home| added(&home)).unwrap_or_default();
        Self { addresses: home("ipaddresses"), alone: true, ports: Ports::default(), more }
    }

    pub fn has_ip(&self, ip: IpAddr) -> bool {
        let entry = self.addresses.as_ref().and_then(|home| home.cache.get(&ip.to_string()));
        entry.is_some_and(|entry| !self.alone || entry.label(MANAGED_BY) != Some(ALLOCATOR))
    }

    pub fn has_port(&self, port: u16) -> bool {
        self.ports.has(port)
    }
}

/// The ranges of the ServiceCIDRs that are ready and stay. The first one says what the configuration says.
fn added(cidrs: &Home) -> Vec<Range> {
    let (all, _) = cidrs.cache.snapshot();
    let mut ranges = Vec::new();
    for (_, entry) in all.iter().filter(|(key, _)| &***key != "kubernetes") {
        let cidr = entry.parse();
        let conditions = cidr.at("status").list("conditions");
        let ready = conditions.iter().any(|c| c.text("type") == "Ready" && c.text("status") == "True");
        if ready && !meta::is_deleting(&cidr) {
            let texts = cidr.at("spec").list("cidrs").iter().filter_map(Value::as_str);
            ranges.extend(texts.filter_map(Range::parse));
        }
    }
    ranges
}

/// The ports' bits, and the revision at which they were so.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    low: u16,
    high: u16,
    /// One big number, its most significant byte first: bit n is port `low + n`.
    bits: Vec<u8>,
    revision: i64,
}

fn schema() -> Result<&'static Schema, Status> {
    let gvk = GroupVersion::new("", "v1").kind("RangeAllocation");
    crate::codec::schema_of(&gvk).ok_or_else(|| Status::internal("no schema of RangeAllocation"))
}

impl Ports {
    pub async fn read(core: &Core) -> Result<Self, Status> {
        let found = core.store.range(RangeRequest::new(KeyRange::key(KEY))).await.map_err(store_error)?;
        let (low, high) = (*core.services.ports().start(), *core.services.ports().end());
        let mut ports = Self { low, high, ..Self::default() };
        if let Some(kv) = found.kvs.first() {
            let object = proto::decode(&kv.value, schema()?).map_err(Status::internal)?;
            // Of another range: its bits mean other ports. What is in use is found out by the repair.
            if object.text("range") == ports.range() {
                ports.bits = BASE64.decode(object.text("data")).unwrap_or_default();
            }
            ports.revision = kv.mod_revision;
        }
        Ok(ports)
    }

    fn range(&self) -> String {
        format!("{}-{}", self.low, self.high)
    }

    fn place(&self, port: u16) -> Option<(usize, u8)> {
        let n = usize::from(port.checked_sub(self.low)?);
        Some((n / 8, 1 << (n % 8)))
    }

    pub fn has(&self, port: u16) -> bool {
        let byte = |(from_end, bit): (usize, u8)| {
            self.bits.len().checked_sub(from_end + 1).is_some_and(|at| self.bits[at] & bit != 0)
        };
        self.place(port).is_some_and(byte)
    }

    pub fn set(&mut self, port: u16, to: bool) {
        let Some((from_end, bit)) = self.place(port).filter(|_| port <= self.high) else { return };
        if self.bits.len() <= from_end {
            let missing = from_end + 1 - self.bits.len();
            self.bits.splice(0..0, std::iter::repeat_n(0, missing));
        }
        let at = self.bits.len() - from_end - 1;
        if to {
            self.bits[at] |= bit
        } else {
            self.bits[at] &= !bit
        }
        let leading = self.bits.iter().take_while(|b| **b == 0).count();
        self.bits.drain(..leading);
    }

    /// All that are taken.
    pub fn all(&self) -> Vec<u16> {
        (self.low..=self.high).filter(|port| self.has(*port)).collect()
    }

    fn encode(&self) -> Result<Bytes, Status> {
        let object: Value = json!({"apiVersion": "v1", "kind": "RangeAllocation", "metadata": {},
            "range": self.range(), "data": BASE64.encode(&self.bits)});
        let mut out = Vec::new();
        proto::encode(schema()?, &object, &mut out);
        Ok(out.into())
    }

    /// Writes it if nobody has written since it was read.
    pub async fn write(&self, core: &Core) -> Result<bool, Status> {
        let written = write::update(&*core.store, KEY.into(), self.encode()?, 0, self.revision).await;
        match written.map_err(store_error)? {
            Outcome::Done { revision, .. } => {
                core.progress.set_committed(revision);
                Ok(true)
            }
            Outcome::Conflict { .. } => Ok(false),
        }
    }
}

/// Takes ports that the view says are free; false if somebody has written since.
pub async fn claim_ports(core: &Core, view: &View, taken: &[u16]) -> Result<bool, Status> {
    if taken.is_empty() {
        return Ok(true);
    }
    let mut ports = view.ports.clone();
    taken.iter().for_each(|port| ports.set(*port, true));
    ports.write(core).await
}

/// What can't be given back now the repair finds later.
pub async fn release_ports(core: &Core, freed: &[u16]) {
    if freed.is_empty() {
        return;
    }
    for _ in 0..ATTEMPTS {
        let released = async {
            let mut ports = Ports::read(core).await?;
            freed.iter().for_each(|port| ports.set(*port, false));
            ports.write(core).await
        };
        match released.await {
            Ok(true) => return,
            Ok(false) => {}
            Err(status) => return tracing::warn!(%status, "can't give node ports back"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_one_big_number() {
        let mut ports = Ports { low: 30000, high: 32767, ..Ports::default() };
        ports.set(30000, true);
        assert_eq!(ports.bits, [1]);
        ports.set(30009, true);
        assert_eq!(ports.bits, [2, 1]);
        assert_eq!(ports.all(), [30000, 30009]);
        ports.set(32767, true);
        assert_eq!((ports.bits.len(), ports.bits[0]), (346, 0x80));
        ports.set(32767, false);
        ports.set(30009, false);
        assert_eq!(ports.bits, [1]);
        ports.set(29999, true);
        ports.set(32768, true);
        assert_eq!(ports.all(), [30000]);
        let encoded = ports.encode().unwrap();
        let object = proto::decode(&encoded, schema().unwrap()).unwrap();
        assert_eq!((object.text("range"), object.text("data")), ("30000-32767", "AQ=="));
    }
}
