//! Rule steps as the kernel's expressions.
//!
//! Registers: keys are built from the first 4-byte register on, map data land from the eleventh on, so a rule
//! may hold both at once.

use super::model::{Family, Field, Op, Stmt, Type, Verdict};
use super::uapi::*;
use crate::net::cidr::octets;
use crate::net::netlink::Writer;

const KEY_REG: u32 = REG32;
const DATA_REG: u32 = REG32 + 10;

pub(super) fn rule(w: &mut Writer, family: Family, stmts: &[Stmt]) {
    w.nest(RULE_EXPRESSIONS, |w| {
        for stmt in stmts {
            encode(w, family, stmt);
        }
    });
}

pub(super) fn verdict_data(w: &mut Writer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Return => (RETURN, None),
        Verdict::Jump(chain) => (JUMP, Some(chain)),
        Verdict::Goto(chain) => (GOTO, Some(chain)),
    };
    w.nest(DATA_VERDICT, |w| {
        w.attr_u32_be(VERDICT_CODE, code as u32);
        if let Some(chain) = chain {
            w.attr_str(VERDICT_CHAIN, chain);
        }
    });
}

fn encode(w: &mut Writer, family: Family, stmt: &Stmt) {
    match stmt {
        Stmt::Net { field, op, net } => {
            let network = net.network();
            let bytes = octets(network.addr);
            // In an inet table the family is part of the match.
            if family == Family::Inet {
                let proto = if net.is_ipv4() { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 };
                meta(w, META_NFPROTO);
                cmp(w, Op::Is, &[proto as u8]);
            }
            let whole = bytes.len();
            load_address(w, if net.is_ipv4() { Family::Ip } else { Family::Ip6 }, *field, KEY_REG);
            if usize::from(net.len) < whole * 8 {
                bitwise(w, &net.mask_bytes(), &vec![0; whole]);
            }
            cmp(w, *op, &bytes);
        }
        Stmt::Proto(number) => {
            meta(w, META_L4PROTO);
            cmp(w, Op::Is, &[*number]);
        }
        Stmt::Dport(port) => {
            load(w, family, Field::Dport, KEY_REG);
            cmp(w, Op::Is, &port.to_be_bytes());
        }
        Stmt::InInterface(op, name) => interface(w, META_IIFNAME, *op, name),
        Stmt::OutInterface(op, name) => interface(w, META_OIFNAME, *op, name),
        Stmt::CtNew => ct_bits(w, CT_STATE, CT_STATE_NEW),
        Stmt::CtDnat => ct_bits(w, CT_STATUS, CT_STATUS_DNAT),
        Stmt::LocalDestination => local(w, FIB_DADDR),
        Stmt::LocalSource => local(w, FIB_SADDR),
        Stmt::MarkHas(bits) => {
            meta(w, META_MARK);
            bitwise(w, &bits.to_ne_bytes(), &[0; 4]);
            cmp(w, Op::IsNot, &[0; 4]);
        }
        Stmt::In { key, op, set } => {
            load_key(w, family, key);
            expr(w, "lookup", |w| {
                w.attr_str(1, set);
                w.attr_u32_be(2, KEY_REG);
                if *op == Op::IsNot {
                    w.attr_u32_be(5, LOOKUP_F_INV);
                }
            });
        }
        Stmt::Vmap { key, map } => {
            load_key(w, family, key);
            lookup(w, map, REG_VERDICT);
        }
        Stmt::SetMark { and, xor } => {
            meta(w, META_MARK);
            bitwise(w, &and.to_ne_bytes(), &xor.to_ne_bytes());
            expr(w, "meta", |w| {
                w.attr_u32_be(2, META_MARK);
                w.attr_u32_be(3, KEY_REG);
            });
        }
        Stmt::DnatMap { key, map, remember } => {
            load_key(w, family, key);
            lookup(w, map, DATA_REG);
            if let Some(remember) = remember {
                load_key(w, family, &remember.key);
                expr(w, "dynset", |w| {
                    w.attr_str(1, &remember.map);
                    w.attr_u32_be(3, DYNSET_UPDATE);
                    w.attr_u32_be(4, KEY_REG);
                    w.attr_u32_be(5, DATA_REG);
                    w.attr_u64_be(6, u64::from(remember.seconds) * 1000);
                });
            }
            let nfproto = if family == Family::Ip6 { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 };
            expr(w, "nat", |w| {
                w.attr_u32_be(1, NAT_DNAT);
                w.attr_u32_be(2, nfproto as u32);
                w.attr_u32_be(3, DATA_REG);
                w.attr_u32_be(5, DATA_REG + family.address().width() as u32 / 4);
            });
        }
        Stmt::Masquerade { random } => expr(w, "masq", |w| {
            if *random {
                w.attr_u32_be(1, NAT_RANDOM_FULLY);
            }
        }),
        Stmt::Reject => {
            let (kind, code) = match family {
                Family::Ip => (REJECT_ICMP, ICMP_PORT_UNREACHABLE),
                Family::Ip6 => (REJECT_ICMP, ICMPV6_PORT_UNREACHABLE),
                Family::Inet => (REJECT_ICMPX, REJECT_ICMPX_PORT),
            };
            expr(w, "reject", |w| {
                w.attr_u32_be(1, kind);
                w.attr_u8(2, code);
            });
        }
        Stmt::Reset => expr(w, "reject", |w| w.attr_u32_be(1, REJECT_TCP_RST)),
        Stmt::Counter => expr(w, "counter", |_| {}),
        Stmt::Verdict(verdict) => expr(w, "immediate", |w| {
            w.attr_u32_be(1, REG_VERDICT);
            w.nest(2, |w| verdict_data(w, verdict));
        }),
    }
}

fn expr(w: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    w.nest(1, |w| {
        w.attr_str(EXPR_NAME, name);
        w.nest(EXPR_DATA, data);
    });
}

fn lookup(w: &mut Writer, map: &str, into: u32) {
    expr(w, "lookup", |w| {
        w.attr_str(1, map);
        w.attr_u32_be(2, KEY_REG);
        w.attr_u32_be(3, into);
    });
}

fn cmp(w: &mut Writer, op: Op, bytes: &[u8]) {
    expr(w, "cmp", |w| {
        w.attr_u32_be(1, KEY_REG);
        w.attr_u32_be(2, if op == Op::Is { CMP_EQ } else { CMP_NEQ });
        w.nest(3, |w| w.attr(DATA_VALUE, bytes));
    });
}

fn bitwise(w: &mut Writer, mask: &[u8], xor: &[u8]) {
    expr(w, "bitwise", |w| {
        w.attr_u32_be(1, KEY_REG);
        w.attr_u32_be(2, KEY_REG);
        w.attr_u32_be(3, mask.len() as u32);
        w.nest(4, |w| w.attr(DATA_VALUE, mask));
        w.nest(5, |w| w.attr(DATA_VALUE, xor));
    });
}

fn meta(w: &mut Writer, key: u32) {
    meta_into(w, key, KEY_REG);
}

fn meta_into(w: &mut Writer, key: u32, reg: u32) {
    expr(w, "meta", |w| {
        w.attr_u32_be(1, reg);
        w.attr_u32_be(2, key);
    });
}

fn interface(w: &mut Writer, key: u32, op: Op, name: &str) {
    // A name is compared with all its padding, so that "eth1" is not "eth10".
    let mut bytes = [0u8; 16];
    let len = name.len().min(15);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    meta(w, key);
    cmp(w, op, &bytes);
}

fn ct_bits(w: &mut Writer, key: u32, bits: u32) {
    expr(w, "ct", |w| {
        w.attr_u32_be(1, KEY_REG);
        w.attr_u32_be(2, key);
    });
    bitwise(w, &bits.to_ne_bytes(), &[0; 4]);
    cmp(w, Op::IsNot, &[0; 4]);
}

fn local(w: &mut Writer, which: u32) {
    expr(w, "fib", |w| {
        w.attr_u32_be(1, KEY_REG);
        w.attr_u32_be(2, FIB_RESULT_ADDRTYPE);
        w.attr_u32_be(3, which);
    });
    cmp(w, Op::Is, &RTN_LOCAL.to_ne_bytes());
}

fn load_key(w: &mut Writer, family: Family, key: &[Field]) {
    let mut reg = KEY_REG;
    for field in key {
        load(w, family, *field, reg);
        reg += field.kind(family).width() as u32 / 4;
    }
}

fn load(w: &mut Writer, family: Family, field: Field, reg: u32) {
    match field {
        Field::Saddr | Field::Daddr => load_address(w, family, field, reg),
        Field::L4Proto => meta_into(w, META_L4PROTO, reg),
        Field::Dport => payload(w, PAYLOAD_TRANSPORT, 2, 2, reg),
        Field::Mark => meta_into(w, META_MARK, reg),
        Field::Random { modulus, offset } => expr(w, "numgen", |w| {
            w.attr_u32_be(1, reg);
            w.attr_u32_be(2, modulus);
            w.attr_u32_be(3, NUMGEN_RANDOM);
            w.attr_u32_be(4, offset);
        }),
    }
}

fn load_address(w: &mut Writer, family: Family, field: Field, reg: u32) {
    let (offset, len) = match (family, field) {
        (Family::Ip6, Field::Saddr) => (8, 16),
        (Family::Ip6, _) => (24, 16),
        (_, Field::Saddr) => (12, 4),
        _ => (16, 4),
    };
    payload(w, PAYLOAD_NETWORK, offset, len, reg);
}

fn payload(w: &mut Writer, base: u32, offset: u32, len: u32, reg: u32) {
    expr(w, "payload", |w| {
        w.attr_u32_be(1, reg);
        w.attr_u32_be(2, base);
        w.attr_u32_be(3, offset);
        w.attr_u32_be(4, len);
    });
}

impl Field {
    /// The type it has as a part of a key.
    pub fn kind(self, family: Family) -> Type {
        match self {
            Field::Saddr | Field::Daddr => family.address(),
            Field::L4Proto => Type::Proto,
            Field::Dport => Type::Port,
            Field::Mark | Field::Random { .. } => Type::Mark,
        }
    }
}
