//! Transactions: everything in a [`Batch`] happens at once or not at all.

use std::collections::BTreeMap;
use std::path::Path;

use super::model::{Chain, Family, HookKind, HookPoint, Key, Set, SetKind, Stmt, Table, Type, Value};
use super::{encode, uapi::*};
use crate::net::Error;
use crate::net::netlink::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, Socket, Writer, attr_of, attrs};

/// One list of elements may take 64 KB in a message; smaller messages keep away from the edge.
const ELEMENTS_BYTES: usize = 48 * 1024;

/// A connection to the packet filter of one network namespace.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

/// Commands in order. Later commands may use what earlier ones made.
#[derive(Default)]
pub struct Batch {
    writer: Writer,
    /// What each message does, by sequence number - 1; shown when the kernel refuses it.
    what: Vec<String>,
    last: usize,
}

impl Nft {
    pub fn open() -> Result<Nft, Error> {
        Ok(Nft { socket: Socket::open(libc::NETLINK_NETFILTER)? })
    }

    pub fn open_in(netns: &Path) -> Result<Nft, Error> {
        Ok(Nft { socket: Socket::open_in(netns, libc::NETLINK_NETFILTER)? })
    }

    /// Carries a batch out, whole or not at all. An empty batch does nothing.
    pub fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if batch.what.is_empty() {
            return Ok(());
        }
        let Batch { writer, what, last } = batch;
        let mut bytes = Writer::new();
        let subsys = (SUBSYS.to_be_bytes()[0], SUBSYS.to_be_bytes()[1]);
        bytes.message(BATCH_BEGIN, 0, 0, &[0, 0, subsys.0, subsys.1], |_| {});
        bytes.buf.extend_from_slice(&writer.buf);
        // The kernel acknowledges the last message only; refusals come for every message.
        let flags = bytes.buf.len() - writer.buf.len() + last + 6;
        let with_ack = u16::from_ne_bytes([bytes.buf[flags], bytes.buf[flags + 1]]) | NLM_F_ACK;
        bytes.buf[flags..flags + 2].copy_from_slice(&with_ack.to_ne_bytes());
        bytes.message(BATCH_END, 0, 0, &[0, 0, subsys.0, subsys.1], |_| {});
        self.socket.batch(&bytes.buf, what.len() as u32).map_err(|(seq, error)| match error {
            Error::Refused { errno, why, .. } => {
                let what = what.get((seq as usize).wrapping_sub(1)).cloned();
                Error::Refused { what: what.unwrap_or_else(|| "commit nftables batch".into()), errno, why }
            }
            other => other,
        })
    }

    /// Is the table there? Somebody may have flushed all rules (`nft flush ruleset`).
    pub fn has_table(&mut self, family: Family, name: &str) -> Result<bool, Error> {
        let fixed = [family_number(family), 0, 0, 0];
        let what = format!("look for table {name}");
        match self.socket.request(what, SUBSYS << 8 | GETTABLE, 0, &fixed, |w| w.attr_str(TABLE_NAME, name)) {
            Ok(()) => Ok(true),
            Err(e) if e.is_absent() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The elements that a set holds in the kernel now, also those that packets added.
    pub fn elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
    ) -> Result<Vec<(Vec<u8>, Option<Vec<u8>>)>, Error> {
        let found = std::cell::RefCell::new(Vec::new());
        self.socket.dump(
            "list the elements of a set",
            SUBSYS << 8 | GETSETELEM,
            &[family_number(family), 0, 0, 0],
            |w| {
                w.attr_str(ELEM_LIST_TABLE, table);
                w.attr_str(ELEM_LIST_SET, set);
            },
            || found.borrow_mut().clear(),
            |_, body| {
                let list = body.get(4..).and_then(|b| attr_of(b, ELEM_LIST_ELEMENTS)).unwrap_or(&[]);
                found.borrow_mut().extend(attrs(list).filter_map(|(_, element)| {
                    let value = |kind| Some(attr_of(attr_of(element, kind)?, DATA_VALUE)?.to_vec());
                    Some((value(ELEM_KEY)?, value(ELEM_DATA)))
                }));
            },
        )?;
        Ok(found.into_inner())
    }
}

impl Batch {
    pub fn new() -> Batch {
        Batch::default()
    }

    pub fn is_empty(&self) -> bool {
        self.what.is_empty()
    }

    /// How many bytes it sends.
    pub fn len(&self) -> usize {
        self.writer.buf.len()
    }

    fn message(
        &mut self,
        what: impl FnOnce() -> String,
        kind: u16,
        flags: u16,
        family: Family,
        body: impl FnOnce(&mut Writer),
    ) {
        self.what.push(what());
        self.last = self.writer.buf.len();
        let fixed = [family_number(family), 0, 0, 0];
        self.writer.message(SUBSYS << 8 | kind, flags, self.what.len() as u32, &fixed, body);
    }

    pub fn add_table(&mut self, family: Family, name: &str) {
        self.message(
            || format!("add table {name}"),
            NEWTABLE,
            NLM_F_CREATE,
            family,
            |w| w.attr_str(TABLE_NAME, name),
        );
    }

    /// Deletes a table with all it holds. An absent table refuses the batch: add it first to be sure.
    pub fn delete_table(&mut self, family: Family, name: &str) {
        self.message(
            || format!("delete table {name}"),
            DELTABLE,
            0,
            family,
            |w| w.attr_str(TABLE_NAME, name),
        );
    }

    /// Adds a chain without its rules.
    pub fn add_chain(&mut self, family: Family, table: &str, name: &str, chain: &Chain) {
        self.message(
            || format!("add chain {name}"),
            NEWCHAIN,
            NLM_F_CREATE,
            family,
            |w| {
                w.attr_str(CHAIN_TABLE, table);
                w.attr_str(CHAIN_NAME, name);
                if let Some(hook) = chain.hook {
                    w.nest(CHAIN_HOOK, |w| {
                        let number = match hook.point {
                            HookPoint::Prerouting => 0,
                            HookPoint::Input => 1,
                            HookPoint::Forward => 2,
                            HookPoint::Output => 3,
                            HookPoint::Postrouting => 4,
                        };
                        w.attr_u32_be(HOOK_NUM, number);
                        w.attr_u32_be(HOOK_PRIORITY, hook.priority as u32);
                    });
                    w.attr_u32_be(CHAIN_POLICY, NF_ACCEPT as u32);
                    w.attr_str(CHAIN_TYPE, if hook.kind == HookKind::Nat { "nat" } else { "filter" });
                }
            },
        );
    }

    pub fn delete_chain(&mut self, family: Family, table: &str, name: &str) {
        self.message(
            || format!("delete chain {name}"),
            DELCHAIN,
            0,
            family,
            |w| {
                w.attr_str(CHAIN_TABLE, table);
                w.attr_str(CHAIN_NAME, name);
            },
        );
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, family: Family, table: &str, name: &str) {
        self.message(
            || format!("flush chain {name}"),
            DELRULE,
            0,
            family,
            |w| {
                w.attr_str(RULE_TABLE, table);
                w.attr_str(RULE_CHAIN, name);
            },
        );
    }

    pub fn add_rule(&mut self, family: Family, table: &str, chain: &str, stmts: &[Stmt]) {
        self.message(
            || format!("add a rule to {chain}"),
            NEWRULE,
            NLM_F_CREATE | NLM_F_APPEND,
            family,
            |w| {
                w.attr_str(RULE_TABLE, table);
                w.attr_str(RULE_CHAIN, chain);
                encode::rule(w, family, stmts);
            },
        );
    }

    /// Adds a set without its elements.
    pub fn add_set(&mut self, family: Family, table: &str, name: &str, set: &Set) {
        let id = self.what.len() as u32 + 1;
        self.message(
            || format!("add set {name}"),
            NEWSET,
            NLM_F_CREATE,
            family,
            |w| {
                w.attr_str(SET_TABLE, table);
                w.attr_str(SET_NAME, name);
                let concat = set.interval && set.key.len() > 1;
                let mut flags = 0;
                for (on, flag) in [
                    (set.interval, SET_F_INTERVAL),
                    (concat, SET_F_CONCAT),
                    (set.dynamic, SET_F_TIMEOUT | SET_F_EVAL),
                    (set.value != SetKind::Plain, SET_F_MAP),
                ] {
                    flags |= if on { flag } else { 0 };
                }
                w.attr_u32_be(SET_FLAGS, flags);
                w.attr_u32_be(SET_KEY_TYPE, type_number(&set.key));
                w.attr_u32_be(SET_KEY_LEN, width(&set.key));
                match &set.value {
                    SetKind::Plain => {}
                    SetKind::Verdicts => w.attr_u32_be(SET_DATA_TYPE, TYPE_VERDICT),
                    SetKind::Data(types) => {
                        w.attr_u32_be(SET_DATA_TYPE, type_number(types));
                        w.attr_u32_be(SET_DATA_LEN, width(types));
                    }
                }
                w.attr_u32_be(SET_ID, id);
                if set.dynamic || concat {
                    w.nest(SET_DESC, |w| {
                        if set.dynamic {
                            w.attr_u32_be(SET_DESC_SIZE, 1 << 20);
                        }
                        if concat {
                            w.nest(SET_DESC_CONCAT, |w| {
                                for part in &set.key {
                                    w.nest(LIST_ELEM, |w| w.attr_u32_be(SET_FIELD_LEN, field_len(*part)));
                                }
                            });
                        }
                    });
                }
            },
        );
    }

    pub fn delete_set(&mut self, family: Family, table: &str, name: &str) {
        self.message(
            || format!("delete set {name}"),
            DELSET,
            0,
            family,
            |w| {
                w.attr_str(SET_TABLE, table);
                w.attr_str(SET_NAME, name);
            },
        );
    }

    pub fn add_elements<'a>(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = (&'a Key, &'a Value)>,
    ) {
        self.elements(NEWSETELEM, NLM_F_CREATE, "add elements to", family, table, set, elements);
    }

    /// Deletes elements by key; an absent one refuses the batch.
    pub fn delete_elements<'a>(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        keys: impl IntoIterator<Item = &'a Key>,
    ) {
        let elements = keys.into_iter().map(|key| (key, &Value::None));
        self.elements(DELSETELEM, 0, "delete elements of", family, table, set, elements);
    }

    fn elements<'a>(
        &mut self,
        kind: u16,
        flags: u16,
        verb: &str,
        family: Family,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = (&'a Key, &'a Value)>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.message(
                || format!("{verb} {set}"),
                kind,
                flags,
                family,
                |w| {
                    w.attr_str(ELEM_LIST_TABLE, table);
                    w.attr_str(ELEM_LIST_SET, set);
                    w.nest(ELEM_LIST_ELEMENTS, |w| {
                        let start = w.buf.len();
                        while w.buf.len() - start < ELEMENTS_BYTES {
                            let Some((key, value)) = elements.next() else { break };
                            element(w, key, value);
                        }
                    });
                },
            );
        }
    }

    /// Makes a table anew, whatever was there: one replacement for all that it held.
    pub fn replace_table(&mut self, table: &Table) {
        self.add_table(table.family, &table.name);
        self.delete_table(table.family, &table.name);
        self.add_table(table.family, &table.name);
        self.fill_table(table, &table.chains, &table.sets);
    }

    pub(super) fn fill_table(
        &mut self,
        table: &Table,
        chains: &BTreeMap<super::Name, Chain>,
        sets: &BTreeMap<super::Name, Set>,
    ) {
        for (name, set) in sets {
            self.add_set(table.family, &table.name, name, set);
        }
        for (name, chain) in chains {
            self.add_chain(table.family, &table.name, name, chain);
        }
        for (name, chain) in chains {
            for rule in &chain.rules {
                self.add_rule(table.family, &table.name, name, rule);
            }
        }
        for (name, set) in sets {
            self.add_elements(table.family, &table.name, name, &set.elements);
        }
    }
}

fn element(w: &mut Writer, key: &Key, value: &Value) {
    let single_interval = key.is_single();
    w.nest(LIST_ELEM, |w| {
        w.nest(ELEM_KEY, |w| w.attr(DATA_VALUE, key.bytes()));
        if let Some(to) = key.to_bytes()
            && !single_interval
        {
            w.nest(ELEM_KEY_END, |w| w.attr(DATA_VALUE, to));
        }
        match value {
            Value::None => {}
            Value::Data(data) => w.nest(ELEM_DATA, |w| w.attr(DATA_VALUE, data.bytes())),
            Value::Verdict(verdict) => w.nest(ELEM_DATA, |w| encode::verdict_data(w, verdict)),
        }
    });
    // A range of one part is two elements: its start, and the first key after its end.
    if let (true, Some(to)) = (single_interval, key.to_bytes())
        && let Some(after) = successor(to)
    {
        w.nest(LIST_ELEM, |w| {
            w.nest(ELEM_KEY, |w| w.attr(DATA_VALUE, &after));
            w.attr_u32_be(ELEM_FLAGS, ELEM_F_INTERVAL_END);
        });
    }
}

fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

fn width(types: &[Type]) -> u32 {
    types.iter().map(|t| t.width() as u32).sum()
}

fn field_len(part: Type) -> u32 {
    match part {
        Type::Ipv4 | Type::Mark => 4,
        Type::Ipv6 => 16,
        Type::Proto => 1,
        Type::Port => 2,
    }
}

/// The number by which the nft command knows a type, so that it can print our sets.
fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |sum, part| {
        let number = match part {
            Type::Ipv4 => 7,
            Type::Ipv6 => 8,
            Type::Proto => 12,
            Type::Port => 13,
            Type::Mark => 19,
        };
        sum << 6 | number
    })
}

fn family_number(family: Family) -> u8 {
    (match family {
        Family::Ip => libc::NFPROTO_IPV4,
        Family::Ip6 => libc::NFPROTO_IPV6,
        Family::Inet => libc::NFPROTO_INET,
    }) as u8
}
