//! The log: segments that anyone may read and the one that the writer appends to.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;

use super::disk::{Disk, DiskFile};
use super::record::{self, Kind, Meta, SEGMENT_HEADER, SegmentHeader};
use crate::mvcc::{Read, Version, Write, exclusive, lock, shared};
use crate::{Error, LeaseId, Result, Revision};

/// Where a record lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// [`Segment::id`].
    pub segment: u32,
    pub offset: u32,
    /// Without padding.
    pub len: u32,
}

pub(super) struct Segment {
    /// Names this file in this process; not on disk.
    pub id: u32,
    pub seq: u32,
    pub generation: u32,
    pub file: Arc<dyn DiskFile>,
    /// End of its durable records.
    pub end: AtomicU32,
    /// Bytes of records that the index points at.
    pub live: AtomicU64,
    /// Bytes of deletions: kept through clean-ups while older segments may hold what they delete.
    pub deletions: AtomicU64,
    /// Rewritten when history was compacted up to here: nothing that was dead then is in it.
    pub cleaned: AtomicI64,
}

impl Segment {
    pub fn name(&self) -> String {
        segment_name(self.seq, self.generation)
    }

    pub fn read(&self, disk: &dyn Disk, key: &[u8], revision: Revision, place: Place) -> Result<Bytes> {
        let mut bytes = vec![0; place.len as usize];
        let failed = |what: String| {
            let file = disk.path(&self.name());
            Error::Corrupt(format!("{} at offset {}: {what}", file.display(), place.offset))
        };
        self.file.read_exact_at(&mut bytes, u64::from(place.offset)).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => failed("the file ends too early".into()),
            _ => Error::Other(format!("reading {}: {error}", disk.path(&self.name()).display())),
        })?;
        record::value_of(bytes.into(), key, revision).ok_or_else(|| {
            failed(format!("the record of {:?} does not match its checksum", String::from_utf8_lossy(key)))
        })
    }
}

pub(super) fn segment_name(seq: u32, generation: u32) -> String {
    format!("{seq:08}-{generation:04}.log")
}

/// The sequence number and generation in a segment's file name.
pub(super) fn parse_segment_name(name: &str) -> Option<(u32, u32)> {
    let (seq, generation) = name.strip_suffix(".log")?.split_once('-')?;
    Some((seq.parse().ok()?, generation.parse().ok()?))
}

pub(super) type Segments = HashMap<u32, Arc<Segment>>;

/// All segments by id. A snapshot taken under the index lock can read everything the index points at.
pub(super) struct Table {
    pub disk: Arc<dyn Disk>,
    segments: RwLock<Arc<Segments>>,
    next_id: AtomicU32,
}

impl Table {
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, segments: RwLock::default(), next_id: AtomicU32::new(1) }
    }

    pub fn snapshot(&self) -> Arc<Segments> {
        shared(&self.segments).clone()
    }

    pub fn add(&self, seq: u32, generation: u32, file: Arc<dyn DiskFile>, end: u32) -> Arc<Segment> {
        let segment = Arc::new(Segment {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            seq,
            generation,
            file,
            end: AtomicU32::new(end),
            live: AtomicU64::new(0),
            deletions: AtomicU64::new(0),
            cleaned: AtomicI64::new(0),
        });
        Arc::make_mut(&mut exclusive(&self.segments)).insert(segment.id, segment.clone());
        segment
    }

    pub fn remove(&self, id: u32) {
        Arc::make_mut(&mut exclusive(&self.segments)).remove(&id);
    }

    /// In the order of the log.
    pub fn ordered(&self) -> Vec<Arc<Segment>> {
        let mut all: Vec<_> = self.snapshot().values().cloned().collect();
        all.sort_unstable_by_key(|segment| (segment.seq, segment.generation));
        all
    }

    pub fn reader(&self) -> Reader {
        Reader { disk: self.disk.clone(), segments: self.snapshot() }
    }

    /// Accounts for a version that the index has let go of.
    pub fn dropped(segments: &Segments, place: Place) {
        if let Some(segment) = segments.get(&place.segment) {
            segment.live.fetch_sub(u64::from(place.len), Ordering::Relaxed);
        }
    }
}

pub(super) struct Reader {
    disk: Arc<dyn Disk>,
    segments: Arc<Segments>,
}

impl Read<Place> for Reader {
    fn read(&self, key: &[u8], version: &Version<Place>) -> Result<Bytes> {
        let place = version.slot;
        let segment = self.segments.get(&place.segment).ok_or_else(|| {
            Error::Other(format!("no segment for {:?}@{}", String::from_utf8_lossy(key), version.modified))
        })?;
        segment.read(&*self.disk, key, version.modified, place)
    }
}

/// A file made ready for the next segment, and its name: one of its own, for while this one is being renamed the next one
/// may be made.
pub(super) type Prepared = Mutex<Option<(String, Arc<dyn DiskFile>)>>;
/// The name for a segment that was not prepared.
pub(super) const UNPREPARED: &str = "segment.tmp";

/// Why a batch was not written.
pub(super) struct Failed {
    pub error: io::Error,
    /// It is certain that nothing of the batch will be found after a crash.
    pub certain: bool,
}

/// The end of the log; the writer owns it.
pub(super) struct Log {
    table: Arc<Table>,
    prepared: Arc<Prepared>,
    segment_size: u64,
    active: Arc<Segment>,
    /// Everything before is durable.
    end: u64,
    /// A failed write may have left bytes between `end` and here.
    dirty_to: u64,
    /// This segment must not grow: the next one may already be on disk and name the end of this one, or it was opened
    /// on a file system that took no writes.
    closing: bool,
    buffer: Vec<u8>,
    /// Where the records of the unfinished transaction begin in the buffer.
    open: Vec<usize>,
    /// Bytes of this batch that the index points at, and bytes of deletions.
    written: (u64, u64),
    compacted: Revision,
}

impl Log {
    pub fn new(
        table: Arc<Table>,
        prepared: Arc<Prepared>,
        segment_size: u64,
        active: Arc<Segment>,
        compacted: Revision,
    ) -> Self {
        let end = u64::from(active.end.load(Ordering::Relaxed));
        let closing = active.file.is_read_only();
        Self {
            table,
            prepared,
            segment_size,
            active,
            end,
            dirty_to: end,
            closing,
            buffer: Vec::new(),
            open: Vec::new(),
            written: (0, 0),
            compacted,
        }
    }

    pub fn active(&self) -> &Arc<Segment> {
        &self.active
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes waiting for [`Log::sync`].
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Makes room for a batch: undoes the traces of a failed write and starts a new segment if this one is full.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.dirty_to > self.end {
            self.repair()?;
        }
        if self.end >= self.segment_size || self.closing {
            self.roll()?;
        }
        Ok(())
    }

    /// Zeros what a failed write left, or else closes the segment before it.
    fn repair(&mut self) -> io::Result<()> {
        let zeros = vec![0; (self.dirty_to - self.end) as usize];
        let file = &self.active.file;
        if self.closing || file.write_all_at(&zeros, self.end).and_then(|()| file.sync_data()).is_err() {
            self.roll()?;
        }
        self.dirty_to = self.end;
        Ok(())
    }

    /// Starts the next segment; its header makes the end of this one final.
    fn roll(&mut self) -> io::Result<()> {
        let disk = &self.table.disk;
        let prepared = lock(&self.prepared).take();
        let (name, file) = match prepared {
            Some(prepared) => prepared,
            None => (UNPREPARED.to_owned(), disk.create(UNPREPARED, self.segment_size, false)?),
        };
        let seq = self.active.seq + 1;
        let header = SegmentHeader {
            seq,
            generation: 0,
            previous_end: self.end as u32,
            end: 0,
            size: file.len()? as u32,
            compacted: self.compacted,
        };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_data()?;
        super::failpoint("roll-before-rename");
        self.closing = true;
        disk.rename(&name, &segment_name(seq, 0))?;
        disk.sync_dir()?;
        super::failpoint("roll-after-rename");
        self.closing = false;
        self.active = self.table.add(seq, 0, file, SEGMENT_HEADER as u32);
        self.end = SEGMENT_HEADER as u64;
        self.dirty_to = self.end;
        Ok(())
    }

    fn append(&mut self, meta: Meta, key: &[u8], value: &[u8]) -> Place {
        let start = self.buffer.len();
        let len = record::append(&mut self.buffer, &meta, key, value) as u32;
        self.open.push(start);
        Place { segment: self.active.id, offset: (self.end + start as u64) as u32, len }
    }

    fn meta(&self, kind: Kind) -> Meta {
        Meta {
            kind,
            end: false,
            synced: self.end as u32,
            segment: self.active.seq,
            modified: 0,
            created: 0,
            version: 0,
            lease: 0,
        }
    }

    pub fn compact(&mut self, revision: Revision) {
        let meta = Meta { modified: revision, ..self.meta(Kind::Compact) };
        self.append(meta, &[], &[]);
        self.finish();
    }

    pub fn grant(&mut self, id: LeaseId, ttl: i64) {
        let meta = Meta { lease: id, version: ttl, ..self.meta(Kind::Grant) };
        self.append(meta, &[], &[]);
        self.finish();
    }

    /// Part of the transaction that deletes the lease's keys.
    pub fn revoke(&mut self, id: LeaseId) {
        let meta = Meta { lease: id, ..self.meta(Kind::Revoke) };
        self.append(meta, &[], &[]);
    }

    /// Ends a transaction.
    pub fn finish(&mut self) {
        let last = self.open.len();
        for (i, start) in self.open.drain(..).enumerate() {
            let (kind, total) = record::seal(&mut self.buffer, start, i + 1 == last);
            let indexed = kind == Kind::Put as u8 || kind == Kind::Delete as u8;
            let deletes = kind == Kind::Delete as u8 || kind == Kind::Revoke as u8;
            self.written.0 += if indexed { total as u64 } else { 0 };
            self.written.1 += if deletes { record::padded(total) as u64 } else { 0 };
        }
    }

    /// Takes an unfinished transaction back.
    pub fn discard(&mut self) {
        if let Some(start) = self.open.first() {
            self.buffer.truncate(*start);
        }
        self.open.clear();
    }

    /// Writes and syncs what is pending. After `Err` nothing is pending.
    pub fn sync(&mut self) -> Result<(), Failed> {
        let len = self.buffer.len() as u64;
        let file = &self.active.file;
        super::failpoint("before-write");
        #[cfg(feature = "failpoints")]
        if super::failpoint::due("mid-write") {
            let _ = file.write_all_at(&self.buffer[..self.buffer.len() / 2], self.end);
            super::failpoint::die();
        }
        let written = file.write_all_at(&self.buffer, self.end);
        super::failpoint("before-sync");
        let result = written.and_then(|()| file.sync_data());
        super::failpoint("after-sync");
        let (live, deletions) = std::mem::take(&mut self.written);
        if result.is_ok() {
            self.active.live.fetch_add(live, Ordering::Relaxed);
            self.active.deletions.fetch_add(deletions, Ordering::Relaxed);
        }
        self.buffer.clear();
        // One huge batch must not keep its memory for ever.
        self.buffer.shrink_to(1 << 20);
        match result {
            Ok(()) => {
                self.end += len;
                self.dirty_to = self.end;
                self.active.end.store(self.end as u32, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                self.dirty_to = self.dirty_to.max(self.end + len);
                Err(Failed { error, certain: self.repair().is_ok() })
            }
        }
    }

    pub fn set_compacted(&mut self, revision: Revision) {
        self.compacted = revision;
    }
}

impl Read<Place> for Log {
    fn read(&self, key: &[u8], version: &Version<Place>) -> Result<Bytes> {
        let place = version.slot;
        if place.segment == self.active.id
            && let Some(start) = u64::from(place.offset).checked_sub(self.end)
        {
            return Ok(record::unsealed_value(&self.buffer[start as usize..]));
        }
        self.table.reader().read(key, version)
    }
}

impl Write<Place> for Log {
    fn write(&mut self, key: &Bytes, value: &Bytes, version: &Version<Place>) -> Place {
        let kind = if version.is_tombstone() { Kind::Delete } else { Kind::Put };
        let meta = Meta {
            modified: version.modified,
            created: version.created,
            version: version.version,
            lease: version.lease,
            ..self.meta(kind)
        };
        self.append(meta, key, value)
    }
}
