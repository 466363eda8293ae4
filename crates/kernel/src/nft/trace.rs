//! A packet's walk through a table, without a kernel: what the rules say, for tests and for explaining.
//!
//! It knows no routing: the caller says which hooks the packet passes and whether addresses are the host's own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::model::*;
use crate::net::cidr::from_octets;

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub proto: u8,
    pub dport: u16,
    pub mark: u32,
    pub iif: String,
    pub oif: String,
    pub dnat: bool,
    pub masqueraded: bool,
}

/// What the world around the packet is like.
#[derive(Default)]
pub struct World {
    pub local: BTreeSet<IpAddr>,
    /// What `numgen random` answers before the modulus.
    pub random: u32,
    /// What dynamic maps remember: (map, key) to data.
    pub remembered: Vec<(Name, Key, Key)>,
}

/// How the walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    Dropped,
    Rejected,
}

enum Step {
    Next,
    RuleEnds,
    Ends(Outcome),
    Goto(Name),
    Jump(Name),
    Returns,
}

impl Packet {
    pub fn new(src: &str, dst: &str, proto: u8, dport: u16) -> Packet {
        let ip = |text: &str| text.parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        Packet {
            src: ip(src),
            dst: ip(dst),
            proto,
            dport,
            mark: 0,
            iif: String::new(),
            oif: String::new(),
            dnat: false,
            masqueraded: false,
        }
    }
}

/// Walks the base chains of the given hooks in order of priority. NAT changes show in `packet`.
pub fn walk(table: &Table, packet: &mut Packet, hooks: &[HookPoint], world: &mut World) -> Outcome {
    for point in hooks {
        let mut chains: Vec<_> = table
            .chains
            .iter()
            .filter_map(|(n, c)| c.hook.filter(|h| h.point == *point).map(|h| (h.priority, n)))
            .collect();
        chains.sort();
        for (_, name) in chains {
            match chain(table, name, packet, world, 0) {
                None | Some(Outcome::Accepted) => {}
                Some(end) => return end,
            }
        }
    }
    Outcome::Accepted
}

fn chain(table: &Table, name: &Name, packet: &mut Packet, world: &mut World, depth: u8) -> Option<Outcome> {
    // The kernel allows 16 jumps.
    let rules = &table.chains.get(name).filter(|_| depth < 16)?.rules;
    for rule in rules {
        for step in rule {
            match stmt(table, step, packet, world) {
                Step::Next => {}
                Step::RuleEnds => break,
                Step::Ends(outcome) => return Some(outcome),
                Step::Returns => return None,
                Step::Goto(to) => return chain(table, &to, packet, world, depth + 1),
                Step::Jump(to) => {
                    if let Some(end) = chain(table, &to, packet, world, depth + 1) {
                        return Some(end);
                    }
                }
            }
        }
    }
    None
}

fn stmt(table: &Table, step: &Stmt, packet: &mut Packet, world: &mut World) -> Step {
    let when = |matched: bool| if matched { Step::Next } else { Step::RuleEnds };
    match step {
        Stmt::Net { field, op, net } => {
            let addr = if *field == Field::Saddr { packet.src } else { packet.dst };
            when(net.contains(addr) == (*op == Op::Is))
        }
        Stmt::Proto(number) => when(packet.proto == *number),
        Stmt::Dport(port) => when(packet.dport == *port),
        Stmt::InInterface(op, name) => when((packet.iif == **name) == (*op == Op::Is)),
        Stmt::OutInterface(op, name) => when((packet.oif == **name) == (*op == Op::Is)),
        Stmt::CtNew | Stmt::Counter => Step::Next,
        Stmt::CtDnat => when(packet.dnat),
        Stmt::LocalDestination => when(world.local.contains(&packet.dst) || packet.dst.is_loopback()),
        Stmt::LocalSource => when(world.local.contains(&packet.src) || packet.src.is_loopback()),
        Stmt::MarkHas(bits) => when(packet.mark & bits != 0),
        Stmt::In { key, op, set } => {
            when(find(table, set, &load(packet, world, key)).is_some() == (*op == Op::Is))
        }
        Stmt::Vmap { key, map } => match find(table, map, &load(packet, world, key)) {
            Some(Value::Verdict(verdict)) => enact(&verdict),
            _ => Step::RuleEnds,
        },
        Stmt::SetMark { and, xor } => {
            packet.mark = packet.mark & and ^ xor;
            Step::Next
        }
        Stmt::DnatMap { key, map, remember } => {
            let key = load(packet, world, key);
            let stored =
                world.remembered.iter().find(|(m, k, _)| m == map && *k == key).map(|(_, _, d)| d.clone());
            let data = stored.or_else(|| match find(table, map, &key) {
                Some(Value::Data(data)) => Some(data),
                _ => None,
            });
            let Some(data) = data else { return Step::RuleEnds };
            if let Some(r) = remember {
                let key = load(packet, world, &r.key);
                world.remembered.retain(|(m, k, _)| (m, k) != (&r.map, &key));
                world.remembered.push((r.map.clone(), key, data.clone()));
            }
            let (addr, port) = data.bytes().split_at(table.family.address().width());
            if let (Some(addr), [hi, lo, ..]) = (from_octets(addr), port) {
                (packet.dst, packet.dport, packet.dnat) = (addr, u16::from_be_bytes([*hi, *lo]), true);
            }
            Step::Ends(Outcome::Accepted)
        }
        Stmt::Masquerade { .. } => {
            packet.masqueraded = true;
            Step::Ends(Outcome::Accepted)
        }
        Stmt::Reject | Stmt::Reset => Step::Ends(Outcome::Rejected),
        Stmt::Verdict(verdict) => enact(verdict),
    }
}

fn enact(verdict: &Verdict) -> Step {
    match verdict {
        Verdict::Accept => Step::Ends(Outcome::Accepted),
        Verdict::Drop => Step::Ends(Outcome::Dropped),
        Verdict::Return => Step::Returns,
        Verdict::Jump(to) => Step::Jump(to.clone()),
        Verdict::Goto(to) => Step::Goto(to.clone()),
    }
}

fn load(packet: &Packet, world: &World, fields: &[Field]) -> Key {
    fields.iter().fold(Key::new(), |key, field| match field {
        Field::Saddr => key.ip(packet.src),
        Field::Daddr => key.ip(packet.dst),
        Field::L4Proto => key.proto(packet.proto),
        Field::Dport => key.port(packet.dport),
        Field::Mark => key.mark(packet.mark),
        Field::Random { modulus, offset } => key.mark(world.random % (*modulus).max(1) + offset),
    })
}

fn find(table: &Table, set: &Name, key: &Key) -> Option<Value> {
    let set = table.sets.get(set)?;
    if !set.interval {
        return set.elements.get(key).cloned();
    }
    let within = |from: &[u8], to: &[u8]| {
        let mut at = 0;
        set.key.iter().all(|part| {
            let range = at..at + part.width();
            at = range.end;
            from[range.clone()] <= key.bytes()[range.clone()] && key.bytes()[range.clone()] <= to[range]
        })
    };
    let hit = set.elements.iter().find(|(k, _)| within(k.bytes(), k.to_bytes().unwrap_or(k.bytes())));
    hit.map(|(_, value)| value.clone())
}
