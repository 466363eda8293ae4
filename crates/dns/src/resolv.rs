//! The host's resolvers.

use std::net::{IpAddr, SocketAddr};

/// The name servers of a resolv.conf, but for those that cannot help: ourselves and the host's loopback stubs, which
/// pods' questions would come back from.
pub fn upstreams(resolv_conf: &str, ourselves: &[IpAddr]) -> Vec<SocketAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("nameserver")?.split_whitespace().next()?.parse::<IpAddr>().ok()
        })
        .filter(|address| !ourselves.contains(address))
        .map(|address| SocketAddr::new(address, 53))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn name_servers() {
        let text = "# c\nsearch a b\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserver 10.96.0.10\nnameserver x\n";
        let found = super::upstreams(text, &["10.96.0.10".parse().unwrap()]);
        assert_eq!(found, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
    }
}
