//! The chains that Services share: each is a policy with numbers of endpoints, nothing of one Service's own.

use kernel::net::Cidr;
use kernel::nft::{Family, Field, Name, Op, Remember, Stmt, Verdict};

use crate::base::{AFFINITY, MARK, NODEPORT_AFFINITY, NODEPORT_ENDPOINTS, SERVICE_ENDPOINTS};

/// The local endpoints of a front stand in the endpoint maps from here on.
pub(crate) const LOCAL: u32 = 0x1_0000;

/// How a packet got to a Service: by one of its addresses, or by a port of the node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Front {
    Address,
    NodePort,
}

/// Takes one of so many endpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Pick {
    pub front: Front,
    pub local: bool,
    pub count: u32,
    /// Clients stay with their endpoint for so many seconds.
    pub sticky: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Shared {
    Pick(Pick),
    /// From outside with policy Cluster: the answer must come back through us.
    External(Pick),
    /// From outside with policy Local: the client's address stays; pods and the node itself use any endpoint.
    ExternalLocal {
        cluster: Option<Pick>,
        local: Option<Pick>,
    },
}

impl Pick {
    fn name(&self) -> String {
        let front = if self.front == Front::NodePort { "nodeport-" } else { "" };
        let local = if self.local { "local-" } else { "" };
        let sticky = self.sticky.map(|s| format!("-sticky-{s}")).unwrap_or_default();
        format!("{front}{local}{}{sticky}", self.count)
    }

    fn rules(&self) -> Vec<Vec<Stmt>> {
        let offset = if self.local { LOCAL } else { 0 };
        let (mut key, endpoints, affinity) = match self.front {
            Front::Address => (vec![Field::Daddr, Field::L4Proto, Field::Dport], SERVICE_ENDPOINTS, AFFINITY),
            Front::NodePort => (vec![Field::L4Proto, Field::Dport], NODEPORT_ENDPOINTS, NODEPORT_AFFINITY),
        };
        let client = [vec![Field::Saddr], key.clone()].concat();
        key.push(Field::Random { modulus: self.count, offset });
        let take = |remember| Stmt::DnatMap { key: key.clone(), map: endpoints.into(), remember };
        let Some(seconds) = self.sticky else { return vec![vec![take(None)]] };
        let remember = Remember { key: client.clone(), map: affinity.into(), seconds };
        vec![
            vec![Stmt::DnatMap { key: client, map: affinity.into(), remember: Some(remember.clone()) }],
            vec![take(Some(remember))],
        ]
    }
}

impl Shared {
    pub(crate) fn name(&self) -> Name {
        match self {
            Shared::Pick(pick) => format!("pick-{}", pick.name()),
            Shared::External(pick) => format!("external-{}", pick.name()),
            Shared::ExternalLocal { cluster, local } => {
                let name = |pick: &Option<Pick>| pick.map(|p| p.name()).unwrap_or_else(|| "none".into());
                format!("policy-{}-{}", name(cluster), name(local))
            }
        }
        .into()
    }

    /// The chains that it jumps to.
    pub(crate) fn needs(&self) -> Vec<Shared> {
        match self {
            Shared::Pick(_) => vec![],
            Shared::External(pick) => vec![Shared::Pick(*pick)],
            Shared::ExternalLocal { cluster, local } => {
                cluster.iter().chain(local).map(|p| Shared::Pick(*p)).collect()
            }
        }
    }

    pub(crate) fn rules(&self, family: Family, cluster_cidrs: &[Cidr]) -> Vec<Vec<Stmt>> {
        let goto = |pick: &Pick| Stmt::Verdict(Verdict::Goto(Shared::Pick(*pick).name()));
        let mark = Stmt::SetMark { and: !MARK, xor: MARK };
        match self {
            Shared::Pick(pick) => pick.rules(),
            Shared::External(pick) => vec![vec![mark, goto(pick)]],
            Shared::ExternalLocal { cluster, local } => {
                let mut rules = Vec::new();
                if let Some(pick) = cluster {
                    for net in cluster_cidrs.iter().filter(|c| c.is_ipv4() == (family == Family::Ip)) {
                        rules
                            .push(vec![Stmt::Net { field: Field::Saddr, op: Op::Is, net: *net }, goto(pick)]);
                    }
                    rules.push(vec![Stmt::LocalSource, mark, goto(pick)]);
                }
                rules.extend(local.iter().map(|pick| vec![goto(pick)]));
                rules
            }
        }
    }
}
