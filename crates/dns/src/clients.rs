//! Who may ask: the pods, and the node itself.
//!
//! Where pods have a bridge, the server is at the bridge's address; with another runtime it is at the node's own. Either
//! can be reached by whoever sends packets to this node, and a resolver that answers all the world is a weapon
//! (RFC 5358).

use std::net::{IpAddr, UdpSocket};
use std::sync::Once;

pub(crate) struct Clients {
    networks: Vec<(IpAddr, u8)>,
    told: Once,
}

impl Clients {
    pub fn new(networks: Vec<(IpAddr, u8)>) -> Self {
        Self { networks, told: Once::new() }
    }

    /// Is a question from this address answered?
    pub fn allowed(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        let known = from.is_loopback() || self.networks.iter().any(|network| contains(*network, from));
        if known || is_own(from) {
            return true;
        }
        self.told.call_once(|| {
            tracing::warn!(%from, "refused a DNS question: it came neither from a pod (--cluster-cidr) nor from this node; \
                 later ones are refused without a word");
        });
        false
    }
}

fn contains((network, len): (IpAddr, u8), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0);
            (network.to_bits() ^ address.to_bits()) & mask == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
            (network.to_bits() ^ address.to_bits()) & mask == 0
        }
        _ => false,
    }
}

/// Is this an address of this host? Then the way to it starts at it. Nothing is sent. The kernel drops packets that come
/// from outside with such a sender.
fn is_own(address: IpAddr) -> bool {
    let unspecified: IpAddr = match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || {
        let socket = UdpSocket::bind((unspecified, 0))?;
        // Any port but 0, which some systems refuse.
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    source().is_ok_and(|source| source.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_the_node_itself() {
        let networks = vec![("10.244.0.0".parse().unwrap(), 16), ("fd00:10::".parse().unwrap(), 56)];
        let clients = Clients::new(networks);
        for yes in [
            "10.244.0.1",
            "10.244.255.9",
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "fd00:10:0:ff::1",
            "::ffff:10.244.1.1",
        ] {
            assert!(clients.allowed(yes.parse().unwrap()), "{yes}");
        }
        for no in [
            "10.245.0.1",
            "192.0.2.7",
            "203.0.113.1",
            "fd00:10:0:100::1",
            "2001:db8::1",
            "::ffff:192.0.2.7",
            "0.0.0.0",
        ] {
            assert!(!clients.allowed(no.parse().unwrap()), "{no}");
        }
        let everybody = Clients::new(vec![("0.0.0.0".parse().unwrap(), 0)]);
        assert!(everybody.allowed("192.0.2.7".parse().unwrap()));
    }
}
