//! Tables loaded into a real kernel, each test in a network namespace of its own.

use super::*;
use crate::net::netns;

fn every_statement(family: Family, net: &str) -> Table {
    let addr = family.address();
    let mut table = Table::new(family, "t");
    let ip = net.parse::<crate::net::Cidr>().unwrap();
    let key = |n: u8| Key::new().ip(ip.nth(n.into()).unwrap()).proto(6).port(80);
    let mut dispatch = Set::new(&[addr, Type::Proto, Type::Port], SetKind::Verdicts);
    dispatch.elements.insert(key(1), Value::Verdict(Verdict::Goto("pick".into())));
    table.set("dispatch", dispatch);
    let mut ends =
        Set::new(&[addr, Type::Proto, Type::Port, Type::Mark], SetKind::Data(vec![addr, Type::Port]));
    for n in 0..2 {
        let data = Key::new().ip(ip.nth(10 + u128::from(n)).unwrap()).port(8080);
        ends.elements.insert(key(1).mark(n), Value::Data(data));
    }
    table.set("ends", ends);
    let mut sticky = Set::new(&[addr, addr, Type::Proto, Type::Port], SetKind::Data(vec![addr, Type::Port]));
    sticky.dynamic = true;
    table.set("sticky", sticky);
    let mut nets = Set::new(&[addr], SetKind::Plain);
    nets.interval = true;
    nets.elements.insert(Key::new().net(ip), Value::None);
    table.set("nets", nets);
    let mut allowed = Set::new(&[addr, Type::Proto, Type::Port, addr], SetKind::Plain);
    allowed.interval = true;
    allowed.elements.insert(key(1).net(ip), Value::None);
    table.set("allowed", allowed);

    let service = vec![Field::Daddr, Field::L4Proto, Field::Dport];
    let with = |more: &[Field]| [service.clone(), more.to_vec()].concat();
    let client = vec![Field::Saddr, Field::Daddr, Field::L4Proto, Field::Dport];
    let pick = with(&[Field::Random { modulus: 2, offset: 0 }]);
    table.chain("pick", vec![vec![Stmt::DnatMap { key: pick.clone(), map: "ends".into(), remember: None }]]);
    let remember = Remember { key: client.clone(), map: "sticky".into(), seconds: 60 };
    table.chain(
        "pick-sticky",
        vec![
            vec![Stmt::DnatMap { key: client, map: "sticky".into(), remember: Some(remember.clone()) }],
            vec![Stmt::DnatMap { key: pick, map: "ends".into(), remember: Some(remember) }],
        ],
    );
    table.base_chain(
        "in",
        Hook::new(HookKind::Nat, HookPoint::Prerouting, -100),
        vec![
            vec![Stmt::Vmap { key: service.clone(), map: "dispatch".into() }],
            vec![Stmt::LocalDestination, Stmt::LocalSource, Stmt::Counter, Stmt::Proto(17), Stmt::Dport(53)],
            vec![
                Stmt::SetMark { and: !0x4000, xor: 0x4000 },
                Stmt::Verdict(Verdict::Goto("pick-sticky".into())),
            ],
        ],
    );
    table.base_chain(
        "out",
        Hook::new(HookKind::Nat, HookPoint::Postrouting, 100),
        vec![vec![Stmt::MarkHas(0x4000), Stmt::CtDnat, Stmt::Masquerade { random: true }]],
    );
    table.chain("refuse", vec![vec![Stmt::Proto(6), Stmt::Reset], vec![Stmt::Reject]]);
    table.base_chain(
        "filter",
        Hook::new(HookKind::Filter, HookPoint::Forward, 0),
        vec![
            vec![
                Stmt::CtNew,
                Stmt::In { key: with(&[Field::Saddr]), op: Op::IsNot, set: "allowed".into() },
                Stmt::Reject,
            ],
            vec![
                Stmt::In { key: vec![Field::Saddr], op: Op::Is, set: "nets".into() },
                Stmt::Verdict(Verdict::Accept),
            ],
            vec![
                Stmt::Net { field: Field::Daddr, op: Op::IsNot, net: ip },
                Stmt::InInterface(Op::Is, "eth0".into()),
                Stmt::OutInterface(Op::IsNot, "eth1".into()),
                Stmt::Verdict(Verdict::Drop),
            ],
        ],
    );
    table
}

/// Unpins a namespace, also when the test fails.
struct Unpin(std::path::PathBuf);

impl Drop for Unpin {
    fn drop(&mut self) {
        let _ = netns::remove(&self.0);
    }
}

fn counts(nft: &mut Nft, table: &Table) -> Vec<usize> {
    let statics = table.sets.iter().filter(|(_, s)| !s.dynamic && !s.interval);
    statics.map(|(name, _)| nft.elements(table.family, &table.name, name).unwrap().len()).collect()
}

#[test]
fn the_kernel_takes_every_statement_and_every_change() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let ns = dir.path().join("ns");
    netns::create(&ns).unwrap();
    let _unpin = Unpin(ns.clone());
    let mut nft = Nft::open_in(&ns).unwrap();
    for (family, net) in [(Family::Ip, "10.0.0.0/24"), (Family::Ip6, "fd00::/64")] {
        let full = every_statement(family, net);
        for _ in 0..2 {
            let mut batch = Batch::new();
            batch.replace_table(&full);
            nft.commit(batch).unwrap();
        }
        assert_eq!(counts(&mut nft, &full), [1, 2]);

        // Another value, an element less, a rule more, a chain less: and back again.
        let mut other = full.clone();
        let ends = other.sets.get_mut("ends").unwrap();
        ends.elements.pop_first();
        *ends.elements.first_entry().unwrap().get_mut() =
            Value::Data(Key::new().ip(net.parse::<crate::net::Cidr>().unwrap().nth(77).unwrap()).port(1));
        other.chains.get_mut("filter").unwrap().rules.push(vec![Stmt::Counter]);
        other.chains.remove("pick-sticky");
        other.chains.get_mut("in").unwrap().rules.pop();
        other.sets.remove("sticky");
        for (from, to) in [(&full, &other), (&other, &full), (&full, &full)] {
            let mut batch = Batch::new();
            diff::diff(&mut batch, from, to);
            assert_eq!(batch.is_empty(), from == to);
            nft.commit(batch).unwrap();
            assert_eq!(
                counts(&mut nft, to),
                to.sets
                    .values()
                    .filter(|s| !s.dynamic && !s.interval)
                    .map(|s| s.elements.len())
                    .collect::<Vec<_>>()
            );
        }
    }
    assert!(nft.has_table(Family::Ip, "t").unwrap() && !nft.has_table(Family::Ip, "u").unwrap());
    let mut batch = Batch::new();
    batch.delete_elements(Family::Ip, "t", "ends", [&Key::new().port(1)]);
    let refused = nft.commit(batch).unwrap_err();
    assert!(refused.to_string().starts_with("delete elements of ends: "), "{refused}");
}

#[test]
fn the_text_and_the_walk() {
    let table = every_statement(Family::Ip, "10.0.0.0/24");
    let text = table.to_string();
    for line in [
        "10.0.0.1 . tcp . 80 . 0x1 : 10.0.0.11 . 8080",
        "10.0.0.1 . tcp . 80 . 10.0.0.0-10.0.0.255",
        "ip daddr . meta l4proto . th dport vmap @dispatch",
        "meta mark set meta mark | 0x4000 goto pick-sticky",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let mut world = trace::World { random: 5, ..Default::default() };
    let mut packet = trace::Packet::new("10.9.9.9", "10.0.0.1", 6, 80);
    trace::walk(&table, &mut packet, &[HookPoint::Prerouting], &mut world);
    assert_eq!((packet.dst.to_string(), packet.dport, packet.dnat), ("10.0.0.11".into(), 8080, true));
}
