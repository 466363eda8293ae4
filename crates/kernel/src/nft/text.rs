//! Tables in nft's own language, for people and for snapshot tests.

use std::fmt::{self, Display, Formatter};

use super::model::*;
use crate::net::cidr::from_octets;

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Inet => "inet",
        };
        writeln!(f, "table {family} {} {{", self.name)?;
        for (name, set) in &self.sets {
            let kind = if set.value == SetKind::Plain { "set" } else { "map" };
            write!(f, "\t{kind} {name} {{\n\t\ttype {}", types(&set.key))?;
            match &set.value {
                SetKind::Plain => writeln!(f)?,
                SetKind::Verdicts => writeln!(f, " : verdict")?,
                SetKind::Data(parts) => writeln!(f, " : {}", types(parts))?,
            }
            if set.interval {
                writeln!(f, "\t\tflags interval")?;
            }
            if set.dynamic {
                writeln!(f, "\t\tflags dynamic,timeout")?;
            }
            for (key, value) in &set.elements {
                write!(f, "\t\t{}", key_text(&set.key, key))?;
                match (value, &set.value) {
                    (Value::Data(data), SetKind::Data(parts)) => write!(f, " : {}", key_text(parts, data))?,
                    (Value::Verdict(verdict), _) => write!(f, " : {verdict}")?,
                    _ => {}
                }
                writeln!(f)?;
            }
            writeln!(f, "\t}}")?;
        }
        for (name, chain) in &self.chains {
            writeln!(f, "\tchain {name} {{")?;
            if let Some(hook) = chain.hook {
                let kind = if hook.kind == HookKind::Nat { "nat" } else { "filter" };
                let point = format!("{:?}", hook.point).to_lowercase();
                writeln!(f, "\t\ttype {kind} hook {point} priority {}", hook.priority)?;
            }
            for rule in &chain.rules {
                let steps: Vec<String> = rule.iter().map(|s| stmt(self.family, s)).collect();
                writeln!(f, "\t\t{}", steps.join(" "))?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => write!(f, "accept"),
            Verdict::Drop => write!(f, "drop"),
            Verdict::Return => write!(f, "return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

fn types(parts: &[Type]) -> String {
    let names = parts.iter().map(|t| match t {
        Type::Ipv4 => "ipv4_addr",
        Type::Ipv6 => "ipv6_addr",
        Type::Proto => "inet_proto",
        Type::Port => "inet_service",
        Type::Mark => "mark",
    });
    names.collect::<Vec<_>>().join(" . ")
}

fn key_text(parts: &[Type], key: &Key) -> String {
    let one = |bytes: &[u8], part: Type| match part {
        Type::Ipv4 | Type::Ipv6 => from_octets(bytes).map(|a| a.to_string()).unwrap_or_default(),
        Type::Proto => match bytes[0] {
            6 => "tcp".to_string(),
            17 => "udp".to_string(),
            132 => "sctp".to_string(),
            other => other.to_string(),
        },
        Type::Port => u16::from_be_bytes([bytes[0], bytes[1]]).to_string(),
        Type::Mark => format!("{:#x}", u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
    };
    let mut at = 0;
    let mut out = Vec::new();
    for part in parts {
        let range = at..at + part.width();
        at = range.end;
        let Some(bytes) = key.bytes().get(range.clone()) else { break };
        let mut text = one(bytes, *part);
        if let Some(to) = key.to_bytes().and_then(|to| to.get(range))
            && to != bytes
        {
            text = format!("{text}-{}", one(to, *part));
        }
        out.push(text);
    }
    out.join(" . ")
}

fn field(family: Family, field: Field) -> String {
    let ip = if family == Family::Ip6 { "ip6" } else { "ip" };
    match field {
        Field::Saddr => format!("{ip} saddr"),
        Field::Daddr => format!("{ip} daddr"),
        Field::L4Proto => "meta l4proto".into(),
        Field::Dport => "th dport".into(),
        Field::Mark => "meta mark".into(),
        Field::Random { modulus, offset: 0 } => format!("numgen random mod {modulus}"),
        Field::Random { modulus, offset } => format!("numgen random mod {modulus} offset {offset:#x}"),
    }
}

fn fields(family: Family, key: &[Field]) -> String {
    key.iter().map(|f| field(family, *f)).collect::<Vec<_>>().join(" . ")
}

fn stmt(family: Family, step: &Stmt) -> String {
    let not = |op: &Op| if *op == Op::Is { "" } else { "!= " };
    match step {
        Stmt::Net { field: which, op, net } => {
            let family = if net.is_ipv4() { Family::Ip } else { Family::Ip6 };
            format!("{} {}{net}", field(family, *which), not(op))
        }
        Stmt::Proto(number) => {
            format!("meta l4proto {}", key_text(&[Type::Proto], &Key::new().proto(*number)))
        }
        Stmt::Dport(port) => format!("th dport {port}"),
        Stmt::InInterface(op, name) => format!("iifname {}\"{name}\"", not(op)),
        Stmt::OutInterface(op, name) => format!("oifname {}\"{name}\"", not(op)),
        Stmt::CtNew => "ct state new".into(),
        Stmt::CtDnat => "ct status dnat".into(),
        Stmt::LocalDestination => "fib daddr type local".into(),
        Stmt::LocalSource => "fib saddr type local".into(),
        Stmt::MarkHas(bits) => format!("meta mark & {bits:#x} != 0"),
        Stmt::In { key, op, set } => format!("{} {}@{set}", fields(family, key), not(op)),
        Stmt::Vmap { key, map } => format!("{} vmap @{map}", fields(family, key)),
        Stmt::SetMark { and, xor } => match (*and, *xor) {
            (and, xor) if and == !xor => format!("meta mark set meta mark | {xor:#x}"),
            (u32::MAX, xor) => format!("meta mark set meta mark ^ {xor:#x}"),
            (and, xor) => format!("meta mark set meta mark & {and:#x} ^ {xor:#x}"),
        },
        Stmt::DnatMap { key, map, remember } => {
            let dnat = format!("dnat to {} map @{map}", fields(family, key));
            match remember {
                None => dnat,
                Some(r) => {
                    format!("{dnat} remember @{} {} timeout {}s", r.map, fields(family, &r.key), r.seconds)
                }
            }
        }
        Stmt::Masquerade { random: true } => "masquerade fully-random".into(),
        Stmt::Masquerade { random: false } => "masquerade".into(),
        Stmt::Reject => "reject".into(),
        Stmt::Reset => "reject with tcp reset".into(),
        Stmt::Counter => "counter".into(),
        Stmt::Verdict(verdict) => verdict.to_string(),
    }
}
