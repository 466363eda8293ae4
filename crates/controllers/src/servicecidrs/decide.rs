//! What a ServiceCIDR needs next.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::ResourceExt;

pub(super) const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
pub(super) const READY: &str = "Ready";
/// How long API servers may take to see that a range is going, and to take no more addresses from it.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    /// Holds the finalizer and says that it is ready, where it does not yet.
    Keep {
        finalizer: bool,
        condition: bool,
    },
    /// Addresses would be lost: says so, where it does not yet.
    Blocked {
        condition: bool,
    },
    /// May go after this time.
    Wait(Duration),
    Release,
    /// It goes, and what holds it is somebody else's.
    Nothing,
}

/// Status, reason and message of the condition `Ready`.
pub(super) const SAYS_READY: [&str; 3] = ["True", "", "Kubernetes Service CIDR is ready"];
pub(super) const SAYS_BLOCKED: [&str; 3] = [
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
];

/// An address range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prefix {
    base: IpAddr,
    bits: u8,
}

impl Prefix {
    pub(super) fn parse(text: &str) -> Option<Prefix> {
        let (base, bits) = text.split_once('/')?;
        let (base, bits): (IpAddr, u8) = (base.parse().ok()?, bits.parse().ok()?);
        (bits <= if base.is_ipv4() { 32 } else { 128 }).then_some(Prefix { base, bits })
    }

    /// The first and the last address, as numbers.
    fn ends(&self) -> (u128, u128) {
        let (base, width) = match self.base {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32),
            IpAddr::V6(ip) => (u128::from(ip), 128),
        };
        let host = (!0u128).checked_shr(128 - (width - u32::from(self.bits))).unwrap_or(0);
        (base & !host, base | host)
    }

    pub(super) fn overlaps(&self, other: &Prefix) -> bool {
        let ((a, b), (c, d)) = (self.ends(), other.ends());
        self.base.is_ipv4() == other.base.is_ipv4() && a <= d && c <= b
    }

    /// True for an address that a Service may get from it: not the first one, for IPv4 not the last one.
    pub(super) fn serves(&self, ip: IpAddr) -> bool {
        let (number, v4) = match ip {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), true),
            IpAddr::V6(ip) => (u128::from(ip), false),
        };
        let (first, last) = self.ends();
        self.base.is_ipv4() == v4 && number > first && (number < last || (!v4 && number == last))
    }
}

pub(super) fn prefixes(cidr: &ServiceCIDR) -> Vec<Prefix> {
    let texts = cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    texts.filter_map(|text| Prefix::parse(text)).collect()
}

/// The address that an object is, if an API server took it for a Service.
pub(super) fn allocated(ip: &IPAddress) -> Option<IpAddr> {
    const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
    let ours = ip.labels().get(MANAGED_BY).is_some_and(|by| by == "ipallocator.k8s.io");
    ip.metadata.name.as_ref().filter(|_| ours)?.parse().ok()
}

pub(super) fn decide(
    cidr: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    addresses: impl Iterator<Item = IpAddr>,
    now: Timestamp,
) -> Plan {
    let holds = cidr.finalizers().iter().any(|name| name == FINALIZER);
    let says = |wanted: [&str; 3]| {
        let conditions = cidr.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut ready = conditions.filter(|condition| condition.type_ == READY);
        ready.next().is_some_and(|c| [c.status.as_str(), &c.reason, &c.message] == wanted)
    };
    let Some(deleted) = &cidr.metadata.deletion_timestamp else {
        return Plan::Keep { finalizer: !holds, condition: !says(SAYS_READY) };
    };
    if !can_go(cidr, all, addresses) {
        return Plan::Blocked { condition: !says(SAYS_BLOCKED) };
    }
    let passed = Duration::try_from(now.duration_since(deleted.0)).unwrap_or_default();
    match GRACE.checked_sub(passed).filter(|left| !left.is_zero()) {
        Some(left) => Plan::Wait(left),
        None if holds => Plan::Release,
        None => Plan::Nothing,
    }
}

/// Another range holds all of it, or no address is in this one alone.
fn can_go(cidr: &ServiceCIDR, all: &[Arc<ServiceCIDR>], mut addresses: impl Iterator<Item = IpAddr>) -> bool {
    let own = prefixes(cidr);
    let others: Vec<Prefix> = all
        .iter()
        .filter(|other| other.metadata.name != cidr.metadata.name)
        .flat_map(|o| prefixes(o))
        .collect();
    let covered = |own: &Prefix| others.iter().any(|o| o.overlaps(own) && o.bits <= own.bits);
    own.iter().all(covered)
        || !addresses.any(|ip| {
            own.iter().any(|prefix| prefix.serves(ip)) && !others.iter().any(|prefix| prefix.serves(ip))
        })
}
