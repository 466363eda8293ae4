//! A ruleset as data.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::net::Cidr;
use crate::net::cidr::octets;

/// The name of a chain or set; shared, because thousands of elements name the same chain.
pub type Name = Arc<str>;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Family {
    Ip,
    Ip6,
    Inet,
}

/// A table: chains and sets by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    pub family: Family,
    pub name: Name,
    pub chains: BTreeMap<Name, Chain>,
    pub sets: BTreeMap<Name, Set>,
}

/// A list of rules, attached to a hook of the kernel or called by other chains.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    pub hook: Option<Hook>,
    pub rules: Vec<Vec<Stmt>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hook {
    pub kind: HookKind,
    pub point: HookPoint,
    pub priority: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HookKind {
    Filter,
    Nat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HookPoint {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// A set (no value), a map or a verdict map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set {
    pub key: Vec<Type>,
    pub value: SetKind,
    /// Keys are ranges (`Key::to`).
    pub interval: bool,
    /// Elements are added by packets, and expire. Such elements are never part of `elements`.
    pub dynamic: bool,
    pub elements: BTreeMap<Key, Value>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetKind {
    Plain,
    Verdicts,
    Data(Vec<Type>),
}

/// The type of one part of a key. Each part takes a multiple of four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    Ipv4,
    Ipv6,
    /// The transport protocol's number.
    Proto,
    /// A transport port.
    Port,
    /// A 32-bit number in the host's order.
    Mark,
}

/// The bytes of a key or of a map's data, as the kernel wants them: network order, parts padded to four bytes.
/// For interval sets `to` is the inclusive end.
#[derive(Clone, Default)]
pub struct Key {
    bytes: Inline,
    to: Option<Box<Inline>>,
    /// How many parts it was built from.
    parts: u8,
}

const INLINE: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Inline {
    bytes: [u8; INLINE],
    len: u8,
}

impl Default for Inline {
    fn default() -> Inline {
        Inline { bytes: [0; INLINE], len: 0 }
    }
}

impl Inline {
    fn push(&mut self, part: &[u8]) {
        let at = usize::from(self.len);
        // A key longer than the kernel's registers can't be written: parts past the end are a caller's mistake
        // that the kernel then refuses with EINVAL.
        if let Some(room) = self.bytes.get_mut(at..at + part.len()) {
            room.copy_from_slice(part);
            self.len = (at + part.len().next_multiple_of(4)).min(INLINE) as u8;
        }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Key {
    pub fn new() -> Key {
        Key::default()
    }

    pub fn ip(self, addr: IpAddr) -> Key {
        self.both(&octets(addr), &octets(addr))
    }

    /// Every address of a network; only for interval sets.
    pub fn net(mut self, net: Cidr) -> Key {
        let first = octets(net.network().addr);
        let last: Vec<u8> = first.iter().zip(net.mask_bytes()).map(|(a, m)| a | !m).collect();
        if self.to.is_none() {
            self.to = Some(Box::new(self.bytes));
        }
        self.both(&first, &last)
    }

    pub fn proto(self, number: u8) -> Key {
        self.both(&[number], &[number])
    }

    pub fn port(self, port: u16) -> Key {
        self.both(&port.to_be_bytes(), &port.to_be_bytes())
    }

    pub fn mark(self, mark: u32) -> Key {
        self.both(&mark.to_ne_bytes(), &mark.to_ne_bytes())
    }

    fn both(mut self, from: &[u8], to: &[u8]) -> Key {
        self.parts += 1;
        self.bytes.push(from);
        if let Some(end) = &mut self.to {
            end.push(to);
        }
        self
    }

    /// A key from the kernel's own bytes.
    pub fn from_bytes(bytes: &[u8]) -> Key {
        Key::default().both(bytes, bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get()
    }

    /// Whether it was built from one part only.
    pub(super) fn is_single(&self) -> bool {
        self.parts == 1
    }

    /// The inclusive end of a range.
    pub fn to_bytes(&self) -> Option<&[u8]> {
        self.to.as_ref().map(|to| to.get())
    }
}

impl Key {
    fn identity(&self) -> (&Inline, &Option<Box<Inline>>) {
        (&self.bytes, &self.to)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> std::cmp::Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", self.bytes())?;
        if let Some(to) = self.to_bytes() {
            write!(f, "-{to:02x?}")?;
        }
        Ok(())
    }
}

/// What an element of a set leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    None,
    Data(Key),
    Verdict(Verdict),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(Name),
    Goto(Name),
}

/// Something of a packet that can be compared or looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    Saddr,
    Daddr,
    /// Transport protocol.
    L4Proto,
    Dport,
    /// The packet mark.
    Mark,
    /// A random number in `offset..offset + modulus`.
    Random {
        modulus: u32,
        offset: u32,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Is,
    IsNot,
}

/// One step of a rule. A match that fails ends the rule, not the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stmt {
    /// The source or destination address lies in a network.
    Net {
        field: Field,
        op: Op,
        net: Cidr,
    },
    Proto(u8),
    Dport(u16),
    /// By interface name.
    InInterface(Op, Name),
    OutInterface(Op, Name),
    /// First packet of a connection.
    CtNew,
    /// The connection's destination was rewritten.
    CtDnat,
    /// The destination address is one of the host's own.
    LocalDestination,
    /// The source address is one of the host's own.
    LocalSource,
    /// Any of these bits of the packet mark is set.
    MarkHas(u32),
    In {
        key: Vec<Field>,
        op: Op,
        set: Name,
    },
    Vmap {
        key: Vec<Field>,
        map: Name,
    },
    /// mark = mark & and ^ xor
    SetMark {
        and: u32,
        xor: u32,
    },
    /// Rewrites the destination to what the map (address . port) holds; no element: the rule ends.
    /// `remember` also keeps the choice in a dynamic map for so many seconds after its last use.
    DnatMap {
        key: Vec<Field>,
        map: Name,
        remember: Option<Remember>,
    },
    Masquerade {
        random: bool,
    },
    /// Answers "port unreachable".
    Reject,
    /// Answers a TCP segment with a reset: refused at once, also for the host itself.
    Reset,
    Counter,
    Verdict(Verdict),
}

/// Where [`Stmt::DnatMap`] keeps its choice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remember {
    pub key: Vec<Field>,
    pub map: Name,
    pub seconds: u32,
}

impl Type {
    /// Bytes it takes in a key.
    pub fn width(self) -> usize {
        if self == Type::Ipv6 { 16 } else { 4 }
    }
}

impl Family {
    /// The address type of `ip` and `ip6` tables.
    pub fn address(self) -> Type {
        if self == Family::Ip6 { Type::Ipv6 } else { Type::Ipv4 }
    }
}

impl Table {
    pub fn new(family: Family, name: &str) -> Table {
        Table { family, name: name.into(), chains: BTreeMap::new(), sets: BTreeMap::new() }
    }

    /// Adds a chain that other chains call.
    pub fn chain(&mut self, name: &str, rules: Vec<Vec<Stmt>>) {
        self.chains.insert(name.into(), Chain { hook: None, rules });
    }

    /// Adds a chain that the kernel calls.
    pub fn base_chain(&mut self, name: &str, hook: Hook, rules: Vec<Vec<Stmt>>) {
        self.chains.insert(name.into(), Chain { hook: Some(hook), rules });
    }

    pub fn set(&mut self, name: &str, set: Set) {
        self.sets.insert(name.into(), set);
    }
}

impl Set {
    pub fn new(key: &[Type], value: SetKind) -> Set {
        Set { key: key.to_vec(), value, interval: false, dynamic: false, elements: BTreeMap::new() }
    }
}

impl Hook {
    pub fn new(kind: HookKind, point: HookPoint, priority: i32) -> Hook {
        Hook { kind, point, priority }
    }
}
