//! Which part is free.

use std::collections::HashSet;
use std::net::IpAddr;

/// A cluster's pod range, to be cut into parts of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    v4: bool,
    /// As a number of 128 bits; IPv4 in the lowest 32.
    first: u128,
    /// Address bits behind a part's prefix.
    part_bits: u32,
    parts: u128,
}

impl Range {
    /// `masks`: prefix lengths of a node's part, for IPv4 and IPv6. `None` if it is no range or too small for one part.
    pub fn parse(text: &str, masks: (u8, u8)) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u8 = prefix.parse().ok()?;
        let (v4, bits, number, mask) = match address.parse().ok()? {
            IpAddr::V4(v4) => (true, 32, u128::from(u32::from(v4)), masks.0),
            IpAddr::V6(v6) => (false, 128, u128::from(v6), masks.1),
        };
        if prefix > mask || mask > bits {
            return None;
        }
        let part_bits = u32::from(bits - mask);
        let parts = 1u128.checked_shl(u32::from(mask - prefix)).unwrap_or(u128::MAX);
        let host = 1u128.checked_shl(u32::from(bits - prefix)).map_or(u128::MAX, |size| size - 1);
        Some(Self { v4, first: number & !host, part_bits, parts })
    }

    fn part(&self, n: u128) -> String {
        let number = self.first + (n << self.part_bits);
        if self.v4 {
            format!("{}/{}", std::net::Ipv4Addr::from(number as u32), 32 - self.part_bits)
        } else {
            format!("{}/{}", std::net::Ipv6Addr::from(number), 128 - self.part_bits)
        }
    }

    /// The parts that an address range which is in use touches.
    fn touched(&self, text: &str) -> Option<std::ops::RangeInclusive<u128>> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u32 = prefix.parse().ok()?;
        let (number, bits) = match address.parse().ok()? {
            IpAddr::V4(v4) if self.v4 => (u128::from(u32::from(v4)), 32),
            IpAddr::V6(v6) if !self.v4 => (u128::from(v6), 128),
            _ => return None,
        };
        let last = number | 1u128.checked_shl(bits - prefix.min(bits)).map_or(u128::MAX, |size| size - 1);
        if last < self.first {
            return None;
        }
        Some((number.saturating_sub(self.first) >> self.part_bits)..=((last - self.first) >> self.part_bits))
    }
}

/// The first free part of every range; `None` if one of them is used up.
pub fn part_for(ranges: &[Range], taken: &[String]) -> Option<Vec<String>> {
    let first_free = |range: &Range| {
        let mut used: HashSet<u128> = HashSet::new();
        for touched in taken.iter().filter_map(|text| range.touched(text)) {
            used.extend((*touched.start()..=(*touched.end()).min(range.parts - 1)).take(1 << 20));
        }
        (0..range.parts).find(|n| !used.contains(n)).map(|n| range.part(n))
    };
    ranges.iter().map(first_free).collect()
}
