//! The bytes of the log: segment headers and records, each with its checksum. All numbers are little-endian.
//!
//! A record is `crc32 | total u32 | key length u32 | kind u8 | end u8 | 0 u16 | synced u32 | segment u32 | modified i64 |
//! created i64 | version i64 | lease i64 | key | value | 0xA5`, padded with zeros to a multiple of 8. The checksum covers
//! everything after itself up to `total`, which includes the last byte: where that is zero, the write was cut off.

use bytes::Bytes;

use crate::{LeaseId, Revision};

pub(super) const SEGMENT_HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"r8s-log1";
const HEADER: usize = 56;
/// The last byte of every record.
const END: u8 = 0xa5;
/// No record is longer; requests are refused long before.
pub(super) const MAX_RECORD: usize = 256 << 20;
/// What a disk writes at once or not at all.
const SECTOR: usize = 512;

/// What a segment file begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub seq: u32,
    /// Counts rewrites by the clean-up; 0 is the segment as it was written.
    pub generation: u32,
    /// Where the segment before ends: all of it was durable when this header was written.
    pub previous_end: u32,
    /// For a rewritten segment, its end; otherwise 0.
    pub end: u32,
    /// How long the file was made: a shorter one has been cut. 0 where that was not noted.
    pub size: u32,
    /// The compacted revision at the time of writing.
    pub compacted: Revision,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        put(&mut bytes, 12, &self.seq.to_le_bytes());
        put(&mut bytes, 16, &self.generation.to_le_bytes());
        put(&mut bytes, 20, &self.previous_end.to_le_bytes());
        put(&mut bytes, 24, &self.end.to_le_bytes());
        put(&mut bytes, 28, &self.size.to_le_bytes());
        put(&mut bytes, 32, &self.compacted.to_le_bytes());
        let crc = crc32fast::hash(&bytes[12..]);
        put(&mut bytes, 8, &crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < SEGMENT_HEADER || &bytes[..8] != MAGIC {
            return None;
        }
        let bytes = &bytes[..SEGMENT_HEADER];
        (crc32fast::hash(&bytes[12..]) == u32_at(bytes, 8)).then(|| Self {
            seq: u32_at(bytes, 12),
            generation: u32_at(bytes, 16),
            previous_end: u32_at(bytes, 20),
            end: u32_at(bytes, 24),
            size: u32_at(bytes, 28),
            compacted: i64_at(bytes, 32),
        })
    }
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Put = 1,
    Delete = 2,
    /// History below `modified` is gone.
    Compact = 3,
    /// `lease` lives `version` seconds.
    Grant = 4,
    Revoke = 5,
}

/// A record without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub kind: Kind,
    /// The last record of its transaction: without it the transaction never happened.
    pub end: bool,
    /// Up to here the segment was durable when this record was written.
    pub synced: u32,
    pub segment: u32,
    pub modified: Revision,
    pub created: Revision,
    pub version: i64,
    pub lease: LeaseId,
}

/// A record in a buffer.
#[derive(Debug)]
pub(super) struct Record<'b> {
    pub meta: Meta,
    pub key: &'b [u8],
    pub value: &'b [u8],
    /// Without padding.
    pub total: usize,
}

pub(super) fn padded(total: usize) -> usize {
    total.next_multiple_of(8)
}

/// Appends a record whose checksum [`seal`] writes; answers its length.
pub(super) fn append(buffer: &mut Vec<u8>, meta: &Meta, key: &[u8], value: &[u8]) -> usize {
    let start = buffer.len();
    let total = HEADER + key.len() + value.len() + 1;
    buffer.reserve(padded(total));
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&(total as u32).to_le_bytes());
    buffer.extend_from_slice(&(key.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&[meta.kind as u8, u8::from(meta.end), 0, 0]);
    buffer.extend_from_slice(&meta.synced.to_le_bytes());
    buffer.extend_from_slice(&meta.segment.to_le_bytes());
    for number in [meta.modified, meta.created, meta.version, meta.lease] {
        buffer.extend_from_slice(&number.to_le_bytes());
    }
    buffer.extend_from_slice(key);
    buffer.extend_from_slice(value);
    buffer.push(END);
    buffer.resize(start + padded(total), 0);
    total
}

/// Writes the checksum of the record at `start`, marking it as the last of its transaction if it is; answers the byte of
/// its kind and its length.
pub(super) fn seal(buffer: &mut [u8], start: usize, end: bool) -> (u8, usize) {
    let total = u32_at(buffer, start + 4) as usize;
    buffer[start + 13] = u8::from(end);
    let crc = crc32fast::hash(&buffer[start + 4..start + total]);
    put(buffer, start, &crc.to_le_bytes());
    (buffer[start + 12], total)
}

/// Why there is no record at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// Nothing was written here.
    Blank,
    /// A write that did not finish: a sector of it is still blank.
    Torn,
    /// What is here was written whole and has changed since, or was never a record.
    Damaged,
}

/// The record at `start`, its checksum verified.
pub(super) fn decode(buffer: &[u8], start: usize) -> Result<Record<'_>, Bad> {
    let rest = &buffer[start.min(buffer.len())..];
    if rest.iter().take(HEADER + 8).all(|b| *b == 0) {
        return Err(Bad::Blank);
    }
    if rest.len() < HEADER {
        return Err(Bad::Torn);
    }
    let (total, key_len) = (u32_at(rest, 4) as usize, u32_at(rest, 8) as usize);
    if total <= HEADER || key_len >= total - HEADER || total > MAX_RECORD {
        // After a whole header there is a key or the end mark.
        let cut = rest[HEADER..].iter().take(8).all(|b| *b == 0);
        return Err(if cut || blank_sector(buffer, start, HEADER) { Bad::Torn } else { Bad::Damaged });
    }
    if total > rest.len() {
        return Err(Bad::Torn);
    }
    let bytes = &rest[..total];
    if crc32fast::hash(&bytes[4..]) != u32_at(bytes, 0) {
        let cut = bytes[total - 1] == 0;
        return Err(if cut || blank_sector(buffer, start, total) { Bad::Torn } else { Bad::Damaged });
    }
    let kind = match bytes[12] {
        1 => Kind::Put,
        2 => Kind::Delete,
        3 => Kind::Compact,
        4 => Kind::Grant,
        5 => Kind::Revoke,
        _ => return Err(Bad::Damaged),
    };
    let meta = Meta {
        kind,
        end: bytes[13] != 0,
        synced: u32_at(bytes, 16),
        segment: u32_at(bytes, 20),
        modified: i64_at(bytes, 24),
        created: i64_at(bytes, 32),
        version: i64_at(bytes, 40),
        lease: i64_at(bytes, 48),
    };
    let (key, value) = bytes[HEADER..total - 1].split_at(key_len);
    Ok(Record { meta, key, value, total })
}

/// Where there are only zeros before a write, a write that did not finish leaves a sector of zeros.
fn blank_sector(buffer: &[u8], start: usize, len: usize) -> bool {
    let end = (start + len).min(buffer.len());
    let mut at = start;
    while at < end {
        let next = (at / SECTOR + 1) * SECTOR;
        if buffer[at..next.min(end)].iter().all(|b| *b == 0) {
            return true;
        }
        at = next;
    }
    false
}

/// The value of a record that fills `bytes`, without copying; `None` unless it is this version of this key.
pub(super) fn value_of(bytes: Bytes, key: &[u8], modified: Revision) -> Option<Bytes> {
    let record = decode(&bytes, 0).ok()?;
    let (total, len) = (record.total, record.value.len());
    let right = record.key == key && record.meta.modified == modified && total == bytes.len();
    right.then(|| bytes.slice(total - 1 - len..total - 1))
}

/// The value of a record in a buffer that is not sealed yet.
pub(super) fn unsealed_value(bytes: &[u8]) -> Bytes {
    let (total, key_len) = (u32_at(bytes, 4) as usize, u32_at(bytes, 8) as usize);
    Bytes::copy_from_slice(&bytes[HEADER + key_len..total - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            kind: Kind::Put,
            end: true,
            synced: 64,
            segment: 7,
            modified: 42,
            created: 40,
            version: 3,
            lease: -5,
        }
    }

    fn sample(value: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::new();
        append(&mut buffer, &meta(), b"key", value);
        seal(&mut buffer, 0, true);
        buffer
    }

    #[test]
    fn a_record_comes_back() {
        let buffer = sample(b"value");
        assert_eq!(buffer.len() % 8, 0);
        let record = decode(&buffer, 0).unwrap();
        assert_eq!((record.meta, record.key, record.value), (meta(), &b"key"[..], &b"value"[..]));
        let exact = Bytes::copy_from_slice(&buffer[..record.total]);
        assert_eq!(value_of(exact.clone(), b"key", 42).unwrap(), "value");
        assert_eq!(value_of(exact.clone(), b"yek", 42), None);
        assert_eq!(value_of(exact, b"key", 43), None);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let buffer = sample(b"value");
        let total = decode(&buffer, 0).unwrap().total;
        for bit in 0..total * 8 {
            let mut flipped = buffer.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = decode(&flipped, 0).unwrap_err();
            // A length that points beyond the end cannot be told from a cut-off file.
            assert!(error != Bad::Blank, "bit {bit}: {error:?}");
        }
    }

    #[test]
    fn lost_sectors_are_torn_and_not_damage() {
        let value: Vec<u8> = (0..3000u32).map(|i| (i % 250 + 1) as u8).collect();
        let mut file = vec![0; 700];
        append(&mut file, &meta(), b"key", &value);
        seal(&mut file, 700, true);
        file.resize(8192, 0);
        assert!(decode(&file, 700).is_ok());
        for sector in 1..7 {
            let mut torn = file.clone();
            torn[(sector * 512).max(700)..(sector + 1) * 512].fill(0);
            let error = decode(&torn, 700).unwrap_err();
            assert!(matches!(error, Bad::Torn | Bad::Blank), "sector {sector}: {error:?}");
        }
        assert_eq!(decode(&file, 8000).unwrap_err(), Bad::Blank);
    }

    #[test]
    fn a_write_that_was_cut_off_anywhere_is_torn() {
        for value in [&b"value"[..], &[0; 40], b""] {
            let whole = sample(value);
            let total = decode(&whole, 0).unwrap().total;
            for len in 0..total {
                let mut cut = whole[..len].to_vec();
                cut.resize(whole.len() + 600, 0);
                let error = decode(&cut, 0).unwrap_err();
                assert!(matches!(error, Bad::Torn | Bad::Blank), "{len} of {total}: {error:?}");
            }
        }
    }

    #[test]
    fn segment_headers() {
        let header =
            SegmentHeader { seq: 3, generation: 1, previous_end: 99, end: 1234, size: 5678, compacted: 77 };
        let mut bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Some(header));
        bytes[33] ^= 1;
        assert_eq!(SegmentHeader::decode(&bytes), None);
    }
}
