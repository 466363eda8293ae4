//! DNS messages on the wire (RFC 1035, EDNS of RFC 6891). Reads questions, writes answers, finds the times to live
//! in answers of others. Never trusts a length.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const OPT: u16 = 41;
pub const ANY: u16 = 255;
pub const IN: u16 = 1;

pub const NOERROR: u8 = 0;
pub const FORMERR: u8 = 1;
pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;
pub const NOTIMP: u8 = 4;
pub const REFUSED: u8 = 5;
const BADVERS: u8 = 16;

const HEADER: usize = 12;
/// What a client takes over UDP without EDNS.
const PLAIN_UDP: usize = 512;
/// What we send at most over UDP: no fragments on common links.
const MOST_UDP: usize = 1232;

/// A question with all an answer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    pub recursion_desired: bool,
    /// In lower case, labels joined by dots, no dot at the end; empty for the root.
    pub name: String,
    pub kind: u16,
    pub class: u16,
    pub edns: Option<Edns>,
    /// The question as it came: clients compare it, letter case and all.
    pub question: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    pub size: u16,
    pub version: u8,
    pub dnssec_ok: bool,
}

/// A message that gets no proper answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Too short, or itself an answer: say nothing.
    Ignore,
    /// Answer with an error code only.
    Refuse(Vec<u8>),
}

/// One resource record of class IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub ttl: u32,
    pub data: Data,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    Ns(String),
    Ptr(String),
    Srv { priority: u16, weight: u16, port: u16, target: String },
    Txt(String),
    Soa { mname: String, rname: String, serial: u32, refresh: u32, retry: u32, expire: u32, minimum: u32 },
}

impl Data {
    pub fn kind(&self) -> u16 {
        match self {
            Data::A(_) => A,
            Data::Aaaa(_) => AAAA,
            Data::Cname(_) => CNAME,
            Data::Ns(_) => NS,
            Data::Ptr(_) => PTR,
            Data::Srv { .. } => SRV,
            Data::Txt(_) => TXT,
            Data::Soa { .. } => SOA,
        }
    }
}

/// What a response says, apart from the question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub rcode: u8,
    pub authoritative: bool,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

impl Query {
    pub fn parse(message: &[u8]) -> Result<Query, Bad> {
        let id = u16_at(message, 0).ok_or(Bad::Ignore)?;
        let flags = u16_at(message, 2).ok_or(Bad::Ignore)?;
        if message.len() < HEADER || flags & 0x8000 != 0 {
            return Err(Bad::Ignore);
        }
        let refuse = |code: u8| {
            let mut header = id.to_be_bytes().to_vec();
            header.extend_from_slice(&(0x8000 | flags & 0x7900 | u16::from(code)).to_be_bytes());
            header.extend_from_slice(&[0; 8]);
            Bad::Refuse(header)
        };
        if flags & 0x7800 != 0 {
            return Err(refuse(NOTIMP));
        }
        let count = |at| u16_at(message, at).unwrap_or(0);
        if count(4) != 1 || count(6) != 0 || count(8) != 0 {
            return Err(refuse(FORMERR));
        }
        let (name, at) = plain_name(message, HEADER).ok_or_else(|| refuse(FORMERR))?;
        let kind = u16_at(message, at).ok_or_else(|| refuse(FORMERR))?;
        let class = u16_at(message, at + 2).ok_or_else(|| refuse(FORMERR))?;
        let question = message[HEADER..at + 4].to_vec();
        let mut edns = None;
        let mut next = at + 4;
        for _ in 0..count(10) {
            let record = Rr::read(message, next).ok_or_else(|| refuse(FORMERR))?;
            if record.kind == OPT {
                edns = Some(Edns {
                    size: record.class,
                    version: (record.ttl >> 16) as u8,
                    dnssec_ok: record.ttl & 0x8000 != 0,
                });
            }
            next = record.end;
        }
        let recursion_desired = flags & 0x0100 != 0;
        let query = Query { id, recursion_desired, name, kind, class, edns, question };
        if query.edns.is_some_and(|e| e.version > 0) {
            return Err(Bad::Refuse(
                query.write(&Response { rcode: BADVERS, ..Default::default() }, usize::MAX),
            ));
        }
        Ok(query)
    }

    /// The most bytes an answer over UDP may have.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_UDP, |e| usize::from(e.size).clamp(PLAIN_UDP, MOST_UDP))
    }

    /// The response as bytes. What does not fit in `limit` is left out, whole records, and the message says so (TC)
    /// unless only additional records are missing.
    pub fn write(&self, response: &Response, limit: usize) -> Vec<u8> {
        let limit = limit.min(65_535);
        let mut out = Writer { buf: Vec::with_capacity(256), names: HashMap::new() };
        let rd = if self.recursion_desired { 0x0100 } else { 0 };
        let aa = if response.authoritative { 0x0400 } else { 0 };
        out.u16(self.id);
        out.u16(0x8080 | rd | aa | u16::from(response.rcode & 15));
        out.u16(1);
        out.buf.extend_from_slice(&[0; 6]);
        out.buf.extend_from_slice(&self.question);
        out.remember(&self.name, HEADER);
        let reserved = if self.edns.is_some() { 11 } else { 0 };
        let mut truncated = false;
        for (section, records) in
            [&response.answers, &response.authority, &response.additional].into_iter().enumerate()
        {
            let mut written = 0u16;
            for record in records {
                let start = out.buf.len();
                out.record(record);
                if out.buf.len() + reserved > limit {
                    out.buf.truncate(start);
                    out.names.retain(|_, at| usize::from(*at) < start);
                    truncated |= section < 2;
                    break;
                }
                written += 1;
            }
            let at = 6 + section * 2;
            out.buf[at..at + 2].copy_from_slice(&written.to_be_bytes());
            if truncated {
                break;
            }
        }
        if truncated {
            out.buf[2] |= 0x02;
        }
        if self.edns.is_some() {
            out.buf.push(0);
            out.u16(OPT);
            out.u16(MOST_UDP as u16);
            out.buf.extend_from_slice(&[response.rcode >> 4, 0, 0, 0, 0, 0]);
            out.buf[11] += 1;
        }
        out.buf
    }
}

/// A query for another server: the client's question with our id.
pub fn forwarded(query: &Query, id: u16) -> Vec<u8> {
    let mut out = Writer { buf: Vec::with_capacity(64), names: HashMap::new() };
    out.u16(id);
    out.u16(0x0100);
    out.u16(1);
    out.buf.extend_from_slice(&[0, 0, 0, 0, 0, 1]);
    out.buf.extend_from_slice(&query.question);
    out.buf.push(0);
    out.u16(OPT);
    out.u16(MOST_UDP as u16);
    let dnssec = if query.edns.is_some_and(|e| e.dnssec_ok) { 0x80 } else { 0 };
    out.buf.extend_from_slice(&[0, 0, dnssec, 0, 0, 0]);
    out.buf
}

/// Another server's answer, checked: it belongs to the query, and all its records can be walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    pub bytes: Vec<u8>,
    /// Where times to live stand.
    ttls: Vec<usize>,
    pub truncated: bool,
    pub rcode: u8,
    /// For how long it may be kept, in seconds.
    pub keep: u32,
    /// Where the additional section's EDNS record is, for clients without EDNS.
    opt: Option<(usize, usize)>,
}

impl Foreign {
    /// None when it does not answer `query` as sent with `id`, or is garbled.
    pub fn parse(bytes: &[u8], query: &Query, id: u16) -> Option<Foreign> {
        let flags = u16_at(bytes, 2)?;
        let question = bytes.get(HEADER..HEADER + query.question.len())?;
        if u16_at(bytes, 0)? != id
            || flags & 0x8000 == 0
            || u16_at(bytes, 4)? != 1
            || !question.eq_ignore_ascii_case(&query.question)
        {
            return None;
        }
        let (rcode, truncated) = ((flags & 15) as u8, flags & 0x0200 != 0);
        let mut foreign =
            Foreign { bytes: bytes.to_vec(), ttls: Vec::new(), truncated, rcode, keep: 0, opt: None };
        let (answers, authority, additional) = (u16_at(bytes, 6)?, u16_at(bytes, 8)?, u16_at(bytes, 10)?);
        let mut at = HEADER + query.question.len();
        let mut least = u32::MAX;
        let mut negative = None;
        for n in 0..u32::from(answers) + u32::from(authority) + u32::from(additional) {
            let record = Rr::read(bytes, at)?;
            if record.kind == OPT {
                foreign.opt = Some((at, record.end));
            } else {
                foreign.ttls.push(record.data - 6);
                least = least.min(record.ttl);
                if record.kind == SOA && n >= u32::from(answers) {
                    // RFC 2308: the smaller of the SOA's own time and its last field.
                    let minimum = record.end.checked_sub(4).and_then(|at| u32_at(bytes, at))?;
                    negative = Some(record.ttl.min(minimum));
                }
            }
            at = record.end;
        }
        let empty = answers == 0;
        foreign.keep = match (rcode, empty) {
            _ if truncated => 0,
            (NOERROR, false) => least,
            (NOERROR | NXDOMAIN, _) => negative.unwrap_or(0),
            _ => 0,
        };
        Some(foreign)
    }

    /// The answer for a client, `age` seconds later; cut to the question when longer than `limit`.
    pub fn to_client(&self, query: &Query, age: u32, limit: usize) -> Vec<u8> {
        let mut out = self.bytes.clone();
        out[0..2].copy_from_slice(&query.id.to_be_bytes());
        out[2] = out[2] & !0x01 | u8::from(query.recursion_desired);
        out[3] |= 0x80;
        out[HEADER..HEADER + query.question.len()].copy_from_slice(&query.question);
        for at in &self.ttls {
            if let Some(ttl) = u32_at(&out, *at) {
                out[*at..at + 4].copy_from_slice(&ttl.saturating_sub(age).to_be_bytes());
            }
        }
        // An OPT record answers an OPT record only. It can be cut out where nothing after it could point past it.
        if let (None, Some((from, to))) = (query.edns, self.opt)
            && to == out.len()
        {
            out.truncate(from);
            let additional = u16_at(&out, 10).unwrap_or(1) - 1;
            out[10..12].copy_from_slice(&additional.to_be_bytes());
        }
        if out.len() > limit {
            out.truncate(HEADER + query.question.len());
            out[2] |= 0x02;
            out[6..12].fill(0);
        }
        out
    }

    /// The addresses and aliases it answers with, for an alias of ours that leads out of the cluster.
    pub fn records(&self, query: &Query) -> Vec<Record> {
        let mut found = Vec::new();
        let mut at = HEADER + query.question.len();
        for _ in 0..u16_at(&self.bytes, 6).unwrap_or(0) {
            let Some(rr) = Rr::read(&self.bytes, at) else { break };
            let body = self.bytes.get(rr.data..rr.end).unwrap_or(&[]);
            let data = match rr.kind {
                A => <[u8; 4]>::try_from(body).ok().map(|b| Data::A(b.into())),
                AAAA => <[u8; 16]>::try_from(body).ok().map(|b| Data::Aaaa(b.into())),
                CNAME => any_name(&self.bytes, rr.data).map(Data::Cname),
                _ => None,
            };
            if let (Some(name), Some(data)) = (any_name(&self.bytes, at), data) {
                found.push(Record { name, ttl: rr.ttl, data });
            }
            at = rr.end;
        }
        found
    }
}

struct Rr {
    kind: u16,
    class: u16,
    ttl: u32,
    data: usize,
    end: usize,
}

impl Rr {
    fn read(message: &[u8], at: usize) -> Option<Rr> {
        let at = skip_name(message, at)?;
        let data = at + 10;
        let end = data + usize::from(u16_at(message, at + 8)?);
        (end <= message.len()).then_some(())?;
        Some(Rr {
            kind: u16_at(message, at)?,
            class: u16_at(message, at + 2)?,
            ttl: u32_at(message, at + 4)?,
            data,
            end,
        })
    }
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            n if n < 64 => at += 1 + usize::from(n),
            n if n >= 192 => return Some(at + 2),
            _ => return None,
        }
    }
}

/// A name without pointers, and where it ends.
fn plain_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    loop {
        let len = usize::from(*message.get(at)?);
        if len == 0 {
            return Some((name, at + 1));
        }
        if len > 63 || name.len() + len > 254 {
            return None;
        }
        label(&mut name, message.get(at + 1..at + 1 + len)?);
        at += 1 + len;
    }
}

/// A name with pointers followed, each only backwards.
fn any_name(message: &[u8], mut at: usize) -> Option<String> {
    let mut name = String::new();
    let mut before = at + 1;
    loop {
        let len = usize::from(*message.get(at)?);
        match len {
            0 => return Some(name),
            1..64 if name.len() + len <= 254 => {
                label(&mut name, message.get(at + 1..at + 1 + len)?);
                at += 1 + len;
            }
            192.. => {
                let to = usize::from(u16_at(message, at)? & 0x3fff);
                if to >= before.min(at) {
                    return None;
                }
                (before, at) = (to, to);
            }
            _ => return None,
        }
    }
}

fn label(name: &mut String, bytes: &[u8]) {
    if !name.is_empty() {
        name.push('.');
    }
    for byte in bytes {
        match byte {
            // No name of ours has such bytes: a stand-in keeps labels apart and never matches.
            b'.' | b'\\' | 0..=32 | 127.. => name.push('\u{fffd}'),
            _ => name.push(byte.to_ascii_lowercase() as char),
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

struct Writer {
    buf: Vec<u8>,
    /// Where names, and their ends, stand already.
    names: HashMap<String, u16>,
}

impl Writer {
    fn u16(&mut self, value: u16) {
        self.buf.extend_from_slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.buf.extend_from_slice(&value.to_be_bytes());
    }

    fn remember(&mut self, name: &str, mut at: usize) {
        let mut rest = name;
        while !rest.is_empty() && at < 0x3fff {
            self.names.entry(rest.to_string()).or_insert(at as u16);
            let (first, tail) = rest.split_once('.').unwrap_or((rest, ""));
            at += 1 + first.len();
            rest = tail;
        }
    }

    fn name(&mut self, name: &str, compress: bool) {
        let start = self.buf.len();
        let mut rest = name;
        while !rest.is_empty() {
            if let (true, Some(at)) = (compress, self.names.get(rest)) {
                let at = *at;
                self.u16(0xc000 | at);
                return;
            }
            let (first, tail) = rest.split_once('.').unwrap_or((rest, ""));
            let bytes = &first.as_bytes()[..first.len().min(63)];
            self.buf.push(bytes.len() as u8);
            self.buf.extend_from_slice(bytes);
            rest = tail;
        }
        self.buf.push(0);
        self.remember(name, start);
    }

    fn record(&mut self, record: &Record) {
        self.name(&record.name, true);
        self.u16(record.data.kind());
        self.u16(IN);
        self.u32(record.ttl);
        let len_at = self.buf.len();
        self.u16(0);
        match &record.data {
            Data::A(ip) => self.buf.extend_from_slice(&ip.octets()),
            Data::Aaaa(ip) => self.buf.extend_from_slice(&ip.octets()),
            Data::Cname(name) | Data::Ns(name) | Data::Ptr(name) => self.name(name, true),
            Data::Srv { priority, weight, port, target } => {
                self.u16(*priority);
                self.u16(*weight);
                self.u16(*port);
                // RFC 2782: the target is not compressed.
                self.name(target, false);
            }
            Data::Txt(text) => {
                let bytes = &text.as_bytes()[..text.len().min(255)];
                self.buf.push(bytes.len() as u8);
                self.buf.extend_from_slice(bytes);
            }
            Data::Soa { mname, rname, serial, refresh, retry, expire, minimum } => {
                self.name(mname, true);
                self.name(rname, true);
                for value in [serial, refresh, retry, expire, minimum] {
                    self.u32(*value);
                }
            }
        }
        let len = (self.buf.len() - len_at - 2) as u16;
        self.buf[len_at..len_at + 2].copy_from_slice(&len.to_be_bytes());
    }
}

#[cfg(test)]
pub(crate) mod tests;
