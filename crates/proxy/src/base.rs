//! The part of the table that is there without any Service: hooks, maps, masquerading, refusals.

use kernel::net::Cidr;
use kernel::nft::{Family, Field, Hook, HookKind, HookPoint, Op, Set, SetKind, Stmt, Table, Type, Verdict};

use crate::render::Node;

pub(crate) const TABLE: &str = "kube-proxy";
pub(crate) const SERVICE_IPS: &str = "service-ips";
pub(crate) const SERVICE_ENDPOINTS: &str = "service-endpoints";
pub(crate) const SERVICE_NODEPORTS: &str = "service-nodeports";
pub(crate) const NODEPORT_ENDPOINTS: &str = "nodeport-endpoints";
pub(crate) const CLUSTER_IPS: &str = "cluster-ips";
pub(crate) const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
pub(crate) const NO_ENDPOINT_NODEPORTS: &str = "no-endpoint-nodeports";
pub(crate) const HAIRPIN: &str = "hairpin-connections";
pub(crate) const FIREWALL: &str = "firewall-ips";
pub(crate) const FIREWALL_ALLOWED: &str = "firewall-allowed";
pub(crate) const AFFINITY: &str = "affinity";
pub(crate) const NODEPORT_AFFINITY: &str = "nodeport-affinity";
pub(crate) const REJECT: &str = "reject-chain";

/// The packet mark (kube-proxy's bit 14) that asks for masquerading.
pub(crate) const MARK: u32 = 0x4000;

const FILTER: i32 = 0;
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;

pub(crate) fn base(family: Family, node: &Node) -> Table {
    let mut table = Table::new(family, TABLE);
    sets(&mut table, family.address());

    let here = |net: &&Cidr| net.is_ipv4() == (family == Family::Ip);
    let front = || vec![Field::Daddr, Field::L4Proto, Field::Dport];
    let port = || vec![Field::L4Proto, Field::Dport];
    let vmap = |key: Vec<Field>, map: &str| Stmt::Vmap { key, map: map.into() };
    let in_set = |key: Vec<Field>, op: Op, set: &str| Stmt::In { key, op, set: set.into() };
    let jump = |chain: &str| Stmt::Verdict(Verdict::Jump(chain.into()));

    // From outside the cluster to a cluster IP: the answer has to come back through this node.
    let mut services = Vec::new();
    let mut outside = vec![in_set(vec![Field::Daddr], Op::Is, CLUSTER_IPS)];
    outside.extend(node.cluster_cidrs.iter().filter(here).map(|net| Stmt::Net {
        field: Field::Saddr,
        op: Op::IsNot,
        net: *net,
    }));
    if outside.len() > 1 {
        outside.push(Stmt::SetMark { and: !MARK, xor: MARK });
        services.push(outside);
    }
    services.push(vec![vmap(front(), SERVICE_IPS)]);
    services.push(vec![Stmt::LocalDestination, vmap(port(), SERVICE_NODEPORTS)]);
    table.chain("services", services);
    table.base_chain(
        "nat-prerouting",
        Hook::new(HookKind::Nat, HookPoint::Prerouting, DSTNAT),
        vec![vec![jump("services")]],
    );
    table.base_chain(
        "nat-output",
        Hook::new(HookKind::Nat, HookPoint::Output, DSTNAT),
        vec![vec![jump("services")]],
    );

    let masquerade = Stmt::Masquerade { random: true };
    let pair = vec![Field::Saddr, Field::Daddr, Field::L4Proto, Field::Dport];
    table.base_chain(
        "nat-postrouting",
        Hook::new(HookKind::Nat, HookPoint::Postrouting, SRCNAT),
        vec![
            vec![Stmt::MarkHas(MARK), Stmt::SetMark { and: u32::MAX, xor: MARK }, masquerade.clone()],
            vec![Stmt::CtDnat, in_set(pair, Op::Is, HAIRPIN), masquerade],
        ],
    );

    table.chain(REJECT, vec![vec![Stmt::Proto(6), Stmt::Reset], vec![Stmt::Reject]]);
    table.chain(
        "cluster-ips-check",
        std::iter::once(vec![
            in_set(vec![Field::Daddr], Op::Is, CLUSTER_IPS),
            Stmt::Verdict(Verdict::Goto(REJECT.into())),
        ])
        .chain(node.service_cidrs.iter().filter(here).map(|net| {
            vec![Stmt::Net { field: Field::Daddr, op: Op::Is, net: *net }, Stmt::Verdict(Verdict::Drop)]
        }))
        .collect(),
    );
    let no_services = vec![Stmt::CtNew, vmap(front(), NO_ENDPOINT_SERVICES)];
    let no_nodeports = vec![Stmt::CtNew, Stmt::LocalDestination, vmap(port(), NO_ENDPOINT_NODEPORTS)];
    let check = vec![Stmt::CtNew, jump("cluster-ips-check")];
    for (name, point, rules) in [
        ("filter-input", HookPoint::Input, vec![no_nodeports.clone(), no_services.clone()]),
        ("filter-forward", HookPoint::Forward, vec![no_services.clone(), check.clone()]),
        ("filter-output", HookPoint::Output, vec![no_services, no_nodeports, check]),
    ] {
        table.base_chain(name, Hook::new(HookKind::Filter, point, FILTER), rules);
    }

    // Before the destination changes: load-balancer addresses that only some may use.
    let mut with_client = front();
    with_client.push(Field::Saddr);
    let guard = vec![
        Stmt::CtNew,
        in_set(front(), Op::Is, FIREWALL),
        in_set(with_client, Op::IsNot, FIREWALL_ALLOWED),
        Stmt::Verdict(Verdict::Drop),
    ];
    for (name, point) in
        [("filter-prerouting-pre-dnat", HookPoint::Prerouting), ("filter-output-pre-dnat", HookPoint::Output)]
    {
        table.base_chain(name, Hook::new(HookKind::Filter, point, DSTNAT - 10), vec![guard.clone()]);
    }
    table
}

fn sets(table: &mut Table, addr: Type) {
    use Type::{Mark, Port, Proto};
    let front = [addr, Proto, Port];
    let endpoint = || SetKind::Data(vec![addr, Port]);
    for (name, key, value) in [
        (SERVICE_IPS, &front[..], SetKind::Verdicts),
        (SERVICE_ENDPOINTS, &[addr, Proto, Port, Mark], endpoint()),
        (SERVICE_NODEPORTS, &front[1..], SetKind::Verdicts),
        (NODEPORT_ENDPOINTS, &[Proto, Port, Mark], endpoint()),
        (CLUSTER_IPS, &front[..1], SetKind::Plain),
        (NO_ENDPOINT_SERVICES, &front[..], SetKind::Verdicts),
        (NO_ENDPOINT_NODEPORTS, &front[1..], SetKind::Verdicts),
        (HAIRPIN, &[addr, addr, Proto, Port], SetKind::Plain),
        (FIREWALL, &front[..], SetKind::Plain),
        (FIREWALL_ALLOWED, &[addr, Proto, Port, addr], SetKind::Plain),
        (AFFINITY, &[addr, addr, Proto, Port], endpoint()),
        (NODEPORT_AFFINITY, &[addr, Proto, Port], endpoint()),
    ] {
        let mut set = Set::new(key, value);
        set.interval = name == FIREWALL_ALLOWED;
        set.dynamic = [AFFINITY, NODEPORT_AFFINITY].contains(&name);
        table.set(name, set);
    }
}
