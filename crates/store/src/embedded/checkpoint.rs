//! Checkpoints: the index at one revision, so that opening need not read the whole log.
//!
//! A file is a magic, then blocks `length u32 | crc32 u32 | payload`. Block 0 is the head (fixed numbers, the segment
//! list, the leases); the others hold keys in ascending order, each as `shared prefix | rest length | rest | number of
//! versions | versions`, numbers as variable-length integers. A last, empty block says the file is whole. The segment
//! list is the truth: a segment file up to the last of it that it does not name is a left-over.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::log::{Place, Segment, Table};
use crate::mvcc::{Index, Version, Versions, shared};
use crate::{KeyRange, LeaseId, Revision};
use std::sync::RwLock;

const MAGIC: &[u8; 8] = b"r8s-ckp1";
const BLOCK: usize = 128 << 10;

/// A point in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub seq: u32,
    pub offset: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListedSegment {
    pub seq: u32,
    pub generation: u32,
    pub end: u32,
    pub deletions: u64,
    pub cleaned: Revision,
}

/// Everything but the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The log from here on is not in the checkpoint.
    pub position: Position,
    pub revision: Revision,
    pub compacted: Revision,
    pub segments: Vec<ListedSegment>,
    pub leases: Vec<(LeaseId, i64)>,
}

pub(super) fn name(number: u64) -> String {
    format!("checkpoint-{number:010}")
}

pub(super) fn parse_name(name: &str) -> Option<u64> {
    name.strip_prefix("checkpoint-")?.parse().ok()
}

/// Writes out the index as readers at `head.revision` need it; it may move on meanwhile.
pub(super) fn encode(head: &Head, segments: &[Arc<Segment>], index: &RwLock<Index<Place>>) -> Vec<u8> {
    let numbers: BTreeMap<u32, u64> = segments.iter().zip(0..).map(|(segment, i)| (segment.id, i)).collect();
    let mut out = Blocks::default();
    out.file.extend_from_slice(MAGIC);
    out.head(head);
    let mut range = KeyRange { start: Bytes::new(), end: Some(Bytes::new()) };
    loop {
        // The lock is let go of now and then, so that writers do not wait for the whole index.
        let index = shared(index);
        let mut next = None;
        for (seen, (key, versions)) in index.iter(&range).enumerate() {
            if seen == 1024 {
                next = Some(key.clone());
                break;
            }
            let all = versions.as_slice();
            let kept = all.partition_point(|v| v.modified <= head.revision);
            out.key(key, &all[..kept], &numbers);
        }
        match next {
            Some(key) => range.start = key,
            None => break,
        }
    }
    out.finish()
}

#[derive(Default)]
struct Blocks {
    file: Vec<u8>,
    block: Vec<u8>,
    last: Bytes,
}

impl Blocks {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.block.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.block.push(number as u8);
    }

    fn head(&mut self, head: &Head) {
        let Head { position, revision, compacted, segments, leases } = head;
        for number in
            [u64::from(position.seq), u64::from(position.offset), *revision as u64, *compacted as u64]
        {
            self.number(number);
        }
        self.number(segments.len() as u64);
        for ListedSegment { seq, generation, end, deletions, cleaned } in segments {
            for number in
                [u64::from(*seq), u64::from(*generation), u64::from(*end), *deletions, *cleaned as u64]
            {
                self.number(number);
            }
        }
        self.number(leases.len() as u64);
        for (id, ttl) in leases {
            self.number(*id as u64);
            self.number(*ttl as u64);
        }
        self.flush();
    }

    fn key(&mut self, key: &Bytes, versions: &[Version<Place>], numbers: &BTreeMap<u32, u64>) {
        if versions.is_empty() {
            return;
        }
        let prefix = self.last.iter().zip(key).take_while(|(a, b)| a == b).count();
        self.number(prefix as u64);
        self.number((key.len() - prefix) as u64);
        self.block.extend_from_slice(&key[prefix..]);
        self.number(versions.len() as u64);
        for Version { modified, created, version, lease, slot } in versions {
            let segment = numbers.get(&slot.segment).copied().unwrap_or(u64::MAX);
            let age = modified.wrapping_sub(*created) as u64;
            for number in [*modified as u64, age, *version as u64, *lease as u64, segment] {
                self.number(number);
            }
            self.number(u64::from(slot.offset / 8));
            self.number(u64::from(slot.len));
        }
        self.last = key.clone();
        if self.block.len() >= BLOCK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.file.extend_from_slice(&(self.block.len() as u32).to_le_bytes());
        self.file.extend_from_slice(&crc32fast::hash(&self.block).to_le_bytes());
        self.file.append(&mut self.block);
        self.last = Bytes::new();
    }

    fn finish(mut self) -> Vec<u8> {
        if !self.block.is_empty() {
            self.flush();
        }
        self.flush();
        self.file
    }
}

/// The checkpoint is no good from this offset of the file on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged {
    pub offset: usize,
}

/// The blocks of a file, their checksums verified.
fn blocks(file: &[u8]) -> Result<Vec<(usize, &[u8])>, Damaged> {
    let mut blocks = Vec::new();
    if file.get(..8) != Some(MAGIC) {
        return Err(Damaged { offset: 0 });
    }
    let mut at = 8;
    loop {
        let damaged = || Damaged { offset: at };
        let word = |i: usize| {
            let bytes = file.get(at + i..at + i + 4).ok_or_else(damaged)?;
            Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
        };
        let (len, crc) = (word(0)? as usize, word(4)?);
        let block = file.get(at + 8..at + 8 + len).ok_or_else(damaged)?;
        if crc32fast::hash(block) != crc {
            return Err(damaged());
        }
        if len == 0 {
            return Ok(blocks);
        }
        blocks.push((at + 8, block));
        at += 8 + len;
    }
}

struct Cursor<'b> {
    block: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.block.get(self.at)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, len: usize) -> Option<&'b [u8]> {
        let bytes = self.block.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }

    fn head(&mut self) -> Option<Head> {
        let position = Position { seq: self.number()? as u32, offset: self.number()? as u32 };
        let (revision, compacted) = (self.number()? as i64, self.number()? as i64);
        let mut head = Head { position, revision, compacted, ..Head::default() };
        for _ in 0..self.number()? {
            head.segments.push(ListedSegment {
                seq: self.number()? as u32,
                generation: self.number()? as u32,
                end: self.number()? as u32,
                deletions: self.number()?,
                cleaned: self.number()? as i64,
            });
        }
        for _ in 0..self.number()? {
            head.leases.push((self.number()? as i64, self.number()? as i64));
        }
        Some(head)
    }

    /// Appends the next key to `keys`, where the last one begins at `last`; answers its versions.
    fn key(&mut self, keys: &mut Vec<u8>, last: usize, ids: &[u32]) -> Option<Versions<Place>> {
        let (prefix, rest) = (self.number()? as usize, self.number()? as usize);
        let rest = self.bytes(rest)?;
        if prefix > keys.len() - last {
            return None;
        }
        keys.extend_from_within(last..last + prefix);
        keys.extend_from_slice(rest);
        Some(match self.number()? {
            0 => return None,
            1 => Versions::One(self.version(ids)?),
            n => Versions::Many((0..n).map(|_| self.version(ids)).collect::<Option<_>>()?),
        })
    }

    fn version(&mut self, ids: &[u32]) -> Option<Version<Place>> {
        let modified = self.number()? as i64;
        let created = modified.wrapping_sub(self.number()? as i64);
        let (version, lease) = (self.number()? as i64, self.number()? as i64);
        // A segment that has gone meanwhile: history that is compacted later in the log.
        let segment = usize::try_from(self.number()?).ok().and_then(|i| ids.get(i).copied()).unwrap_or(0);
        let offset = u32::try_from(self.number()?.checked_mul(8)?).ok()?;
        let slot = Place { segment, offset, len: u32::try_from(self.number()?).ok()? };
        Some(Version { modified, created, version, lease, slot })
    }
}

/// The head alone.
pub(super) fn decode_head(file: &[u8]) -> Result<Head, Damaged> {
    let blocks = blocks(file)?;
    let &(offset, block) = blocks.first().ok_or(Damaged { offset: 8 })?;
    Cursor { block, at: 0 }.head().ok_or(Damaged { offset })
}

/// The keys; `ids` are those of the opened segments in the order of the head's list.
pub(super) fn decode_keys(file: &[u8], ids: &[u32]) -> Result<BTreeMap<Bytes, Versions<Place>>, Damaged> {
    let mut all: Vec<(Bytes, Versions<Place>)> = Vec::new();
    for (offset, block) in blocks(file)?.into_iter().skip(1) {
        let mut cursor = Cursor { block, at: 0 };
        // One allocation for all keys of a block; each key is a slice of it.
        let mut keys: Vec<u8> = Vec::with_capacity(2 * BLOCK);
        let mut found: Vec<(usize, Versions<Place>)> = Vec::new();
        let mut last = 0;
        while cursor.at < block.len() {
            let start = keys.len();
            let versions = cursor.key(&mut keys, last, ids).ok_or(Damaged { offset: offset + cursor.at })?;
            found.push((start, versions));
            last = start;
        }
        keys.shrink_to_fit();
        let keys = Bytes::from(keys);
        let mut end = keys.len();
        let from = all.len();
        for (start, versions) in found.into_iter().rev() {
            all.push((keys.slice(start..end), versions));
            end = start;
        }
        all[from..].reverse();
    }
    // They are in order, which makes this cheap.
    Ok(all.into_iter().collect())
}

/// The segment list of a checkpoint at `position`.
pub(super) fn listed(table: &Table, position: Position) -> (Vec<Arc<Segment>>, Vec<ListedSegment>) {
    use std::sync::atomic::Ordering::Acquire;
    let segments: Vec<_> = table.ordered().into_iter().filter(|s| s.seq <= position.seq).collect();
    let list = |segment: &Arc<Segment>| ListedSegment {
        seq: segment.seq,
        generation: segment.generation,
        end: if segment.seq == position.seq { position.offset } else { segment.end.load(Acquire) },
        deletions: segment.deletions.load(Acquire),
        cleaned: segment.cleaned.load(Acquire),
    };
    let listed = segments.iter().map(list).collect();
    (segments, listed)
}
