//! NodePorts: a host port is taken once per address and protocol.

use crate::framework::{Cycle, Happenings, Plugin, Reject};
use crate::node::NodeInfo;
use crate::objects::Port;

pub const PLUGIN: Plugin = Plugin {
    name: "NodePorts",
    filter: Some(filter),
    score: None,
    helped_by: Happenings::NODE_ADDED.or(Happenings::POD_GONE),
};

fn filter(cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Reject> {
    let wanted = &cycle.pod.ports;
    if wanted.is_empty() {
        return Ok(());
    }
    let mut taken = node.pods.iter().flat_map(|pod| &pod.ports);
    if taken.any(|port| wanted.iter().any(|other| collide(port, other))) {
        return Err(Reject::pods("node(s) didn't have free ports for the requested pod ports"));
    }
    Ok(())
}

fn collide(a: &Port, b: &Port) -> bool {
    let protocol =
        |port: &Port| if port.protocol.is_empty() { "TCP".to_owned() } else { port.protocol.clone() };
    let any = |port: &Port| matches!(port.host_ip.as_str(), "" | "0.0.0.0");
    a.host_port == b.host_port && protocol(a) == protocol(b) && (any(a) || any(b) || a.host_ip == b.host_ip)
}
