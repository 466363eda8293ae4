//! Opening: the newest checkpoint, then the log behind it; without a good checkpoint, the whole log.
//!
//! What a crash may leave is put right: a torn tail (with a word in the log), left-over files. Anything else is damage
//! and is named, with nothing changed on disk.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::Bytes;

use super::checkpoint::{self, Head, Position};
use super::disk::{Disk, DiskFile};
use super::log::{Place, Segment, Segments, Table, UNPREPARED, parse_segment_name, segment_name};
use super::record::{self, Bad, Kind, Meta, SEGMENT_HEADER, SegmentHeader, padded};
use crate::mvcc::{Changed, Index, Leases, Version, Versions};
use crate::{Error, LeaseId, Result, Revision};

pub(super) struct Loaded {
    pub index: Index<Place>,
    pub leases: Leases,
    pub active: Arc<Segment>,
    /// Number of the newest checkpoint file, and where it ends.
    pub checkpoint: u64,
    pub checkpoint_position: Position,
    pub checkpoint_size: u64,
    /// The file system does not take writes.
    pub read_only: bool,
}

pub(super) fn failed(disk: &dyn Disk, name: &str, error: &io::Error) -> Error {
    Error::Other(format!("{}: {error}", disk.path(name).display()))
}

fn corrupt(disk: &dyn Disk, name: &str, offset: usize, what: &str) -> Error {
    Error::Corrupt(format!("{} at offset {offset}: {what}", disk.path(name).display()))
}

struct Loader<'l> {
    disk: &'l dyn Disk,
    table: &'l Table,
    keys: BTreeMap<Bytes, Versions<Place>>,
    leases: BTreeMap<LeaseId, i64>,
    compacted: Revision,
    revision: Revision,
    read_only: bool,
}

pub(super) fn load(table: &Table, segment_size: u64, now: Instant) -> Result<Loaded> {
    let disk = &*table.disk;
    let names = disk.list().map_err(|e| failed(disk, "", &e))?;
    let mut files: Vec<(u32, u32)> = names.iter().filter_map(|n| parse_segment_name(n)).collect();
    files.sort_unstable();
    let mut checkpoints: Vec<u64> = names.iter().filter_map(|n| checkpoint::parse_name(n)).collect();
    checkpoints.sort_unstable();

    let mut loader = Loader {
        disk,
        table,
        keys: BTreeMap::new(),
        leases: BTreeMap::new(),
        compacted: 0,
        revision: 1,
        read_only: false,
    };
    let mut leftovers: Vec<String> = names.iter().filter(|n| n.ends_with(".tmp")).cloned().collect();
    let newest = checkpoints.last().copied().unwrap_or(0);
    leftovers.extend(checkpoints.iter().filter(|n| **n != newest).map(|n| checkpoint::name(*n)));

    let taken = match newest {
        0 => None,
        number => loader.take_checkpoint(number, &files)?,
    };
    let (from, checkpoint_size) =
        taken.clone().map_or((Position::default(), 0), |(head, size)| (head.position, size));
    if let Some((head, _)) = &taken {
        let named = |file: &(u32, u32)| head.segments.iter().any(|s| (s.seq, s.generation) == *file);
        let (keep, stale): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.0 > head.position.seq || named(file));
        leftovers.extend(stale.into_iter().map(|(seq, generation)| segment_name(seq, generation)));
        files = keep;
    } else {
        // The highest generation of a segment has all that matters of the others.
        let all = std::mem::take(&mut files);
        for (i, file) in all.iter().enumerate() {
            match all.get(i + 1) {
                Some(next) if next.0 == file.0 => leftovers.push(segment_name(file.0, file.1)),
                _ => files.push(*file),
            }
        }
    }
    let active = loader.replay(&files, from, segment_size)?;
    for name in leftovers.iter().filter(|name| *name != UNPREPARED) {
        // Of no use, but no harm either.
        if let Err(error) = disk.remove(name) {
            tracing::debug!(%error, name, "a left-over file stays");
        }
    }
    let read_only = loader.read_only || active.file.is_read_only();
    let (index, leases) = loader.finish(now)?;
    Ok(Loaded {
        index,
        leases,
        active,
        checkpoint: newest,
        checkpoint_position: from,
        checkpoint_size,
        read_only,
    })
}

impl Loader<'_> {
    fn open(&self, seq: u32, generation: u32) -> Result<Arc<dyn DiskFile>> {
        let name = segment_name(seq, generation);
        self.disk.open(&name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => corrupt(self.disk, &name, 0, "the file is missing"),
            _ => failed(self.disk, &name, &error),
        })
    }

    fn not_cut(&self, name: &str, len: u64, wanted: u32) -> Result<()> {
        match len < u64::from(wanted) {
            true => Err(corrupt(self.disk, name, len as usize, "the file ends too early")),
            false => Ok(()),
        }
    }

    fn read_file(&self, name: &str, file: &dyn DiskFile, from: u64) -> Result<Vec<u8>> {
        let read = || {
            let mut bytes = vec![0; file.len()?.saturating_sub(from) as usize];
            file.read_exact_at(&mut bytes, from)?;
            Ok(bytes)
        };
        read().map_err(|error: io::Error| failed(self.disk, name, &error))
    }

    /// `None` if the checkpoint is damaged: everything it says is in the log, too.
    fn take_checkpoint(&mut self, number: u64, files: &[(u32, u32)]) -> Result<Option<(Head, u64)>> {
        let name = checkpoint::name(number);
        let file = self.disk.open(&name).map_err(|e| failed(self.disk, &name, &e))?;
        let bytes = self.read_file(&name, &*file, 0)?;
        let head = match checkpoint::decode_head(&bytes) {
            Ok(head) => head,
            Err(damaged) => {
                let path = self.disk.path(&name);
                let offset = damaged.offset;
                tracing::warn!(path = %path.display(), offset, "the checkpoint is damaged: reading the whole log");
                return Ok(None);
            }
        };
        let mut ids = Vec::with_capacity(head.segments.len());
        for listed in &head.segments {
            if !files.contains(&(listed.seq, listed.generation)) {
                let name = segment_name(listed.seq, listed.generation);
                return Err(corrupt(self.disk, &name, 0, "the file is missing"));
            }
            let file = self.open(listed.seq, listed.generation)?;
            let name = segment_name(listed.seq, listed.generation);
            let len = file.len().map_err(|e| failed(self.disk, &name, &e))?;
            self.not_cut(&name, len, listed.end)?;
            let segment = self.table.add(listed.seq, listed.generation, file, listed.end);
            segment.deletions.store(listed.deletions, Relaxed);
            segment.cleaned.store(listed.cleaned, Relaxed);
            ids.push(segment.id);
        }
        self.keys = checkpoint::decode_keys(&bytes, &ids)
            .map_err(|damaged| corrupt(self.disk, &name, damaged.offset, "not what its checksum promises"))?;
        (self.revision, self.compacted) = (head.revision, head.compacted);
        self.leases = head.leases.iter().copied().collect();
        Ok(Some((head, bytes.len() as u64)))
    }

    /// Reads the log from `from` on; answers the segment to go on with.
    fn replay(&mut self, files: &[(u32, u32)], from: Position, segment_size: u64) -> Result<Arc<Segment>> {
        let mut active: Option<Arc<Segment>> = None;
        // From the newest to the oldest to learn where each ends, then forward.
        let mut ends: Vec<Option<u32>> = vec![None; files.len()];
        let mut headers: Vec<Option<SegmentHeader>> = Vec::with_capacity(files.len());
        for (i, &(seq, generation)) in files.iter().enumerate() {
            if seq < from.seq {
                headers.push(None);
                continue;
            }
            let name = segment_name(seq, generation);
            let file = self.open(seq, generation)?;
            let mut start = [0; SEGMENT_HEADER];
            let len = file.len().map_err(|e| failed(self.disk, &name, &e))?;
            if len >= SEGMENT_HEADER as u64 {
                file.read_exact_at(&mut start, 0).map_err(|e| failed(self.disk, &name, &e))?;
            }
            let header = SegmentHeader::decode(&start).filter(|h| (h.seq, h.generation) == (seq, generation));
            let Some(header) = header else {
                return Err(corrupt(self.disk, &name, 0, "not a segment header"));
            };
            // Made whole before anything was written to it, so this is no crash's doing.
            self.not_cut(&name, len, header.size)?;
            self.compacted = self.compacted.max(header.compacted);
            if i > 0 && files[i - 1].0 == seq - 1 {
                ends[i - 1] = Some(header.previous_end);
            }
            headers.push(Some(header));
        }
        for (i, &(seq, generation)) in files.iter().enumerate() {
            let Some(header) = headers[i] else { continue };
            let known = self.table.ordered().into_iter().find(|s| (s.seq, s.generation) == (seq, generation));
            let segment = match known {
                Some(segment) => segment,
                None => self.table.add(seq, generation, self.open(seq, generation)?, SEGMENT_HEADER as u32),
            };
            if generation > 0 {
                segment.cleaned.store(header.compacted, Relaxed);
            }
            let last = i + 1 == files.len();
            let start = if seq == from.seq { from.offset } else { SEGMENT_HEADER as u32 };
            let end = if generation > 0 { Some(header.end) } else { ends[i] };
            self.replay_segment(&segment, start, end, last && generation == 0)?;
            active = Some(segment).filter(|_| generation == 0);
        }
        match active {
            Some(active) => Ok(active),
            None => self.first_segment(files, segment_size),
        }
    }

    fn first_segment(&self, files: &[(u32, u32)], segment_size: u64) -> Result<Arc<Segment>> {
        let seq = files.last().map_or(1, |(seq, _)| seq + 1);
        let name = segment_name(seq, 0);
        let create = || {
            let file = self.disk.create(UNPREPARED, segment_size, false)?;
            let header = SegmentHeader {
                seq,
                size: file.len()? as u32,
                compacted: self.compacted,
                ..SegmentHeader::default()
            };
            file.write_all_at(&header.encode(), 0)?;
            file.sync_data()?;
            self.disk.rename(UNPREPARED, &name)?;
            self.disk.sync_dir()?;
            Ok(file)
        };
        let file = create().map_err(|error: io::Error| failed(self.disk, &name, &error))?;
        Ok(self.table.add(seq, 0, file, SEGMENT_HEADER as u32))
    }

    fn replay_segment(
        &mut self,
        segment: &Arc<Segment>,
        start: u32,
        end: Option<u32>,
        tail: bool,
    ) -> Result<()> {
        let name = segment.name();
        let base = u64::from(start) / 512 * 512;
        let bytes = self.read_file(&name, &*segment.file, base)?;
        let mut at = (u64::from(start) - base) as usize;
        let limit = end.map(|end| (u64::from(end) - base) as usize);
        if limit.is_some_and(|limit| limit > bytes.len()) {
            return Err(corrupt(self.disk, &name, base as usize + bytes.len(), "the file ends too early"));
        }
        // Records of a transaction whose last one has not been seen yet.
        let mut open: Vec<(usize, Meta, Bytes, usize)> = Vec::new();
        let mut good = at;
        let bad = loop {
            if limit == Some(at) {
                break None;
            }
            let record = match record::decode(&bytes[..limit.unwrap_or(bytes.len())], at) {
                Ok(record) if record.meta.segment == segment.seq => record,
                Ok(_) => break Some(Bad::Damaged),
                Err(bad) => break Some(bad),
            };
            open.push((at, record.meta, Bytes::copy_from_slice(record.key), record.total));
            at += padded(record.total);
            // What the clean-up has rewritten was whole, and may be a part of a transaction now.
            if record.meta.end || segment.generation > 0 {
                good = at;
                for (offset, meta, key, total) in open.drain(..) {
                    let offset = (base as usize + offset) as u32;
                    self.apply(segment, meta, key, Place { segment: segment.id, offset, len: total as u32 });
                }
            }
        };
        let offset = base as usize + at;
        match bad {
            None if open.is_empty() => {}
            None => return Err(corrupt(self.disk, &name, offset, "a transaction without its end")),
            // Without a successor that says where it ends, a blank is the end of a full segment, too.
            Some(Bad::Blank) if !tail && limit.is_none() && open.is_empty() => {}
            Some(Bad::Damaged) => {
                return Err(corrupt(self.disk, &name, offset, "a record does not match its checksum"));
            }
            Some(_) if !tail => {
                return Err(corrupt(self.disk, &name, offset, "a record is missing or incomplete"));
            }
            Some(_) => {
                if let Some(later) = certified_beyond(&bytes, good, base, segment.seq) {
                    let what = format!(
                        "a record is missing or incomplete, but offset {later} came after it was durable"
                    );
                    return Err(corrupt(self.disk, &name, base as usize + good, &what));
                }
                self.clear_tail(segment, &bytes, good, base)?;
            }
        }
        segment.end.store((base as usize + good) as u32, Relaxed);
        Ok(())
    }

    /// Zeros what an unfinished write left, so that it cannot be taken for a part of what will be written there.
    fn clear_tail(&mut self, segment: &Segment, bytes: &[u8], good: usize, base: u64) -> Result<()> {
        let Some(last) = bytes[good..].iter().rposition(|b| *b != 0) else { return Ok(()) };
        let zeros = vec![0; last + 1];
        let name = segment.name();
        let cleared =
            segment.file.write_all_at(&zeros, base + good as u64).and_then(|()| segment.file.sync_data());
        match cleared {
            Ok(()) => tracing::warn!(name, bytes = last + 1, "cleared a write that a crash cut off"),
            Err(error) if matches!(error.raw_os_error(), Some(libc_erofs) if libc_erofs == EROFS || libc_erofs == EBADF) =>
            {
                self.read_only = true;
            }
            Err(error) => return Err(failed(self.disk, &name, &error)),
        }
        Ok(())
    }

    fn apply(&mut self, segment: &Segment, meta: Meta, key: Bytes, place: Place) {
        match meta.kind {
            Kind::Put | Kind::Delete => {
                if meta.kind == Kind::Delete {
                    segment.deletions.fetch_add(padded(place.len as usize) as u64, Relaxed);
                }
                self.revision = self.revision.max(meta.modified);
                let version = Version {
                    modified: meta.modified,
                    created: meta.created,
                    version: meta.version,
                    lease: meta.lease,
                    slot: place,
                };
                match self.keys.entry(key) {
                    Entry::Vacant(entry) => {
                        entry.insert(Versions::One(version));
                    }
                    Entry::Occupied(mut entry) => entry.get_mut().place(version),
                }
            }
            Kind::Compact => self.compacted = self.compacted.max(meta.modified),
            Kind::Grant => {
                self.leases.insert(meta.lease, meta.version);
            }
            Kind::Revoke => {
                segment.deletions.fetch_add(padded(place.len as usize) as u64, Relaxed);
                self.leases.remove(&meta.lease);
            }
        }
    }

    /// Index and leases from the versions; checks that no revision is missing.
    fn finish(self, now: Instant) -> Result<(Index<Place>, Leases)> {
        let Self { disk, table, mut keys, leases: granted, compacted, revision, .. } = self;
        // What was restored from a snapshot may end with a deletion that left no record.
        let revision = revision.max(compacted);
        keys.retain(|_, versions| !versions.compact(compacted, |_| {}));
        let mut leases = Leases::default();
        granted.into_iter().for_each(|(id, ttl)| leases.grant(id, ttl, now));
        let segments = table.snapshot();
        let first = compacted.max(2);
        let (mut live, mut changes) = (0, 0);
        for (key, versions) in &keys {
            for version in versions.as_slice() {
                let place = version.slot;
                let Some(segment) = segments.get(&place.segment) else {
                    let what =
                        format!("no segment holds {:?}@{}", String::from_utf8_lossy(key), version.modified);
                    return Err(corrupt(disk, "", 0, &what));
                };
                segment.live.fetch_add(u64::from(place.len), Relaxed);
                changes += usize::from(version.modified >= first);
            }
            if let Some(newest) = versions.as_slice().last().filter(|v| !v.is_tombstone()) {
                live += 1;
                if newest.lease != 0 {
                    leases.attach(key, newest.lease);
                }
            }
        }
        let history = history(&keys, &segments, first, revision, compacted, changes)
            .map_err(|missing| corrupt(disk, "", 0, &format!("revision {missing} is missing")))?;
        let mut index = Index { first, compacted, live, history, ..Index::default() };
        index.keys = keys;
        index.revision = revision.max(1);
        Ok((index, leases))
    }
}

/// What each revision from `first` on changed, or the first revision of which nothing is there. `changes` is how many
/// versions of the keys are that young.
fn history(
    keys: &BTreeMap<Bytes, Versions<Place>>,
    segments: &Segments,
    first: Revision,
    revision: Revision,
    compacted: Revision,
    changes: usize,
) -> Result<VecDeque<Changed>, Revision> {
    let wanted = usize::try_from(revision + 1 - first).unwrap_or(0);
    // Not sized by the word of a revision that may be damaged: with fewer changes than revisions one is missing.
    let mut slots: Vec<Option<Changed>> = vec![None; wanted.min(changes + 1)];
    let mut several: BTreeMap<Revision, Vec<(u32, u32, &Bytes)>> = BTreeMap::new();
    let place = |version: &Version<Place>| {
        (segments.get(&version.slot.segment).map_or(0, |segment| segment.seq), version.slot.offset)
    };
    // Each goes to its slot as it comes: sorting them would cost more than all the rest.
    for (key, versions) in keys {
        for version in versions.as_slice().iter().filter(|v| v.modified >= first) {
            match slots.get_mut((version.modified - first) as usize) {
                Some(slot @ None) => *slot = Some(Changed::One(key.clone())),
                Some(Some(_)) => {
                    let (seq, offset) = place(version);
                    several.entry(version.modified).or_default().push((seq, offset, key));
                }
                None => {}
            }
        }
    }
    for (revision, mut all) in several {
        let slot = &mut slots[(revision - first) as usize];
        let earlier = slot.as_ref().and_then(|changed| keys.get_key_value(&changed.keys()[0]));
        if let Some((key, versions)) = earlier
            && let Some(version) = versions.at(revision)
        {
            let (seq, offset) = place(version);
            all.push((seq, offset, key));
        }
        // In the order of the transaction.
        all.sort_unstable_by_key(|(seq, offset, _)| (*seq, *offset));
        *slot = Some(Changed::Many(all.into_iter().map(|(_, _, key)| key.clone()).collect()));
    }
    // At the compacted revision itself some keys may be superseded and gone.
    if let Some(slot @ None) = slots.first_mut()
        && first == compacted
    {
        *slot = Some(Changed::Many(Box::default()));
    }
    let found = slots.len();
    let missing = slots.iter().position(Option::is_none).or((found < wanted).then_some(found));
    match missing {
        Some(at) => Err(first + at as Revision),
        None => Ok(slots.into_iter().flatten().collect::<Vec<_>>().into()),
    }
}

// Linux, all architectures.
const EBADF: i32 = 9;
const EROFS: i32 = 30;

/// The offset of a record written when everything up to beyond `good` was durable already.
fn certified_beyond(bytes: &[u8], good: usize, base: u64, seq: u32) -> Option<usize> {
    let mut at = good.next_multiple_of(8);
    while at < bytes.len() {
        if bytes[at..].len() >= 8
            && bytes[at..at + 8] != [0; 8]
            && let Ok(record) = record::decode(bytes, at)
            && record.meta.segment == seq
            && u64::from(record.meta.synced) > base + good as u64
        {
            return Some(base as usize + at);
        }
        at += 8;
    }
    None
}
