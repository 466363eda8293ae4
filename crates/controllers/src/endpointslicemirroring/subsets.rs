//! The canonical form of Endpoints' subsets: each address once for each set of ports, not ready beating ready.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};

/// Addresses that offer the same ports, ready ones first.
#[derive(Debug, PartialEq)]
pub(super) struct Packed<'a> {
    pub ports: Vec<&'a EndpointPort>,
    pub addresses: Vec<(&'a EndpointAddress, bool)>,
}

type PortKey<'a> = (Option<&'a str>, i32, Option<&'a str>, Option<&'a str>);
type AddressKey<'a> = (&'a str, Option<&'a str>);

fn port_key(port: &EndpointPort) -> PortKey<'_> {
    (port.name.as_deref(), port.port, port.protocol.as_deref(), port.app_protocol.as_deref())
}

/// Two pods may share an address, as those in the host's network do.
fn address_key(address: &EndpointAddress) -> AddressKey<'_> {
    (&address.ip, address.target_ref.as_ref().and_then(|target| target.uid.as_deref()))
}

pub(super) fn pack(subsets: &[EndpointSubset]) -> Vec<Packed<'_>> {
    let mut known: BTreeMap<AddressKey<'_>, &EndpointAddress> = BTreeMap::new();
    // None stands for "no ports": such addresses are kept, too.
    let mut offers: BTreeMap<Option<PortKey<'_>>, (Option<&EndpointPort>, BTreeMap<AddressKey<'_>, bool>)> =
        BTreeMap::new();
    for subset in subsets {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let addresses: Vec<_> = ready.chain(unready).collect();
        let ports = subset.ports.as_deref().unwrap_or_default();
        let ports = ports.iter().map(Some).chain(ports.is_empty().then_some(None));
        for port in ports {
            if addresses.is_empty() {
                continue;
            }
            let (_, offered) = offers.entry(port.map(port_key)).or_insert_with(|| (port, BTreeMap::new()));
            for (address, ready) in &addresses {
                let key = address_key(address);
                known.entry(key).or_insert(address);
                *offered.entry(key).or_insert(true) &= ready;
            }
        }
    }
    let mut packed: BTreeMap<BTreeMap<AddressKey<'_>, bool>, Vec<&EndpointPort>> = BTreeMap::new();
    for (port, offered) in offers.into_values() {
        packed.entry(offered).or_default().extend(port);
    }
    let packed = packed.into_iter().map(|(offered, ports)| {
        let mut addresses: Vec<_> = offered.iter().map(|(key, ready)| (known[key], *ready)).collect();
        addresses.sort_by_key(|(_, ready)| !ready);
        Packed { ports, addresses }
    });
    packed.collect()
}
