//! Connection tracking entries: listed and deleted over ctnetlink.
//!
//! The kernel keeps sending a UDP flow where it went first; when that endpoint is gone the entry has to go too.

use std::net::IpAddr;
use std::path::Path;

use super::cidr::from_octets;
use super::netlink::{Error, Socket, attr_of};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// One tracked flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// 6 TCP, 17 UDP, 132 SCTP.
    pub protocol: u8,
    /// As the client sent it: from, and to (the Service's address).
    pub original: Tuple,
    /// As the answer comes: `src` is the endpoint the flow was sent to.
    pub reply: Tuple,
    /// What the kernel needs to find exactly this entry again.
    key: Vec<u8>,
    family: u8,
}

/// One direction of a flow. Ports are 0 for protocols without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
}

/// A connection to the flow table of one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    pub fn open() -> Result<Conntrack, Error> {
        Ok(Conntrack { socket: Socket::open(libc::NETLINK_NETFILTER)? })
    }

    pub fn open_in(netns: &Path) -> Result<Conntrack, Error> {
        Ok(Conntrack { socket: Socket::open_in(netns, libc::NETLINK_NETFILTER)? })
    }

    /// The flows of one family that `wanted` picks.
    pub fn list(&mut self, ipv4: bool, wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>, Error> {
        let family = (if ipv4 { libc::AF_INET } else { libc::AF_INET6 }) as u8;
        let found = std::cell::RefCell::new(Vec::new());
        self.socket.dump(
            "list tracked connections",
            NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
            &[family, 0, 0, 0],
            |_| {},
            || found.borrow_mut().clear(),
            |_, body| found.borrow_mut().extend(flow(body).filter(&wanted)),
        )?;
        Ok(found.into_inner())
    }

    /// Deletes one flow; one that is gone already is fine.
    pub fn delete(&mut self, flow: &Flow) -> Result<(), Error> {
        let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
        let done =
            self.socket.request("delete a tracked connection", kind, 0, &[flow.family, 0, 0, 0], |w| {
                w.buf.extend_from_slice(&flow.key);
            });
        match done {
            Err(e) if e.is_absent() => Ok(()),
            other => other,
        }
    }

    /// Deletes every flow of the family that `wanted` picks; gives how many.
    pub fn delete_where(&mut self, ipv4: bool, wanted: impl Fn(&Flow) -> bool) -> Result<usize, Error> {
        let flows = self.list(ipv4, wanted)?;
        for flow in &flows {
            self.delete(flow)?;
        }
        Ok(flows.len())
    }
}

fn flow(body: &[u8]) -> Option<Flow> {
    let family = *body.first()?;
    let body = body.get(4..)?;
    let orig = attr_of(body, CTA_TUPLE_ORIG)?;
    let (protocol, original) = tuple(orig)?;
    let (_, reply) = tuple(attr_of(body, CTA_TUPLE_REPLY)?)?;
    let mut key = super::netlink::Writer::new();
    key.nest(CTA_TUPLE_ORIG, |w| w.buf.extend_from_slice(orig));
    for kind in [CTA_ID, CTA_ZONE] {
        if let Some(value) = attr_of(body, kind) {
            key.attr(kind, value);
        }
    }
    Some(Flow { protocol, original, reply, key: key.buf, family })
}

fn tuple(attr: &[u8]) -> Option<(u8, Tuple)> {
    let ip = attr_of(attr, CTA_TUPLE_IP)?;
    let proto = attr_of(attr, CTA_TUPLE_PROTO)?;
    let address = |v4, v6| from_octets(attr_of(ip, v4).or_else(|| attr_of(ip, v6))?);
    let port = |kind| {
        let bytes = attr_of(proto, kind).and_then(|v| v.try_into().ok());
        bytes.map(u16::from_be_bytes).unwrap_or(0)
    };
    let tuple = Tuple {
        src: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        dst: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        src_port: port(CTA_PROTO_SRC_PORT),
        dst_port: port(CTA_PROTO_DST_PORT),
    };
    Some((*attr_of(proto, CTA_PROTO_NUM)?.first()?, tuple))
}
