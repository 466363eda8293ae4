//! Work in the background: checkpoints, segments that are mostly garbage, the file for the next segment.
//!
//! One thread that sleeps until the writer has something for it. A failure here costs space or opening time, never data.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex};

use super::Shared;
use super::checkpoint::{self, Head, Position};
use super::disk::PIECE;
use super::log::{Place, Prepared, Segment, Table, segment_name};
use super::record::{self, Kind, SEGMENT_HEADER, SegmentHeader, padded};
use crate::Revision;
use crate::mvcc::{exclusive, lock, shared};

/// How the writer and the janitor talk.
pub(super) struct Janitor {
    pub prepared: Arc<Prepared>,
    wake: Mutex<Option<SyncSender<()>>>,
    /// Where the newest checkpoint stands, as `seq << 32 | offset`, and its size.
    position: AtomicU64,
    size: AtomicU64,
    /// Set by `defragment`: clean whatever has garbage.
    pub thorough: AtomicBool,
}

impl Janitor {
    pub fn new(wake: SyncSender<()>, position: Position, size: u64) -> Self {
        let janitor = Self {
            prepared: Arc::default(),
            wake: Mutex::new(Some(wake)),
            position: AtomicU64::new(0),
            size: AtomicU64::new(size),
            thorough: AtomicBool::new(false),
        };
        janitor.set_position(position);
        janitor
    }

    fn set_position(&self, position: Position) {
        let packed = u64::from(position.seq) << 32 | u64::from(position.offset);
        self.position.store(packed, Ordering::Relaxed);
    }

    /// Bytes of log since the newest checkpoint, near enough.
    fn behind(&self, segment_size: u64, now: Position) -> u64 {
        let packed = self.position.load(Ordering::Relaxed);
        let segments = u64::from(now.seq).saturating_sub(packed >> 32);
        (segments * segment_size + u64::from(now.offset)).saturating_sub(packed & u64::from(u32::MAX))
    }

    /// Called after each batch: cheap.
    pub fn consider(&self, store: &Shared) {
        let position = lock(&store.state).position;
        let size = store.options.segment_size;
        if self.wants_checkpoint(store, position) || self.wants_file(size, position) {
            self.wake();
        }
    }

    pub fn wake(&self) {
        if let Some(wake) = &*lock(&self.wake) {
            match wake.try_send(()) {
                // Full: it has been told already.
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }

    pub fn close(&self) {
        lock(&self.wake).take();
    }

    fn wants_checkpoint(&self, store: &Shared, position: Position) -> bool {
        // Twice its size: what is written besides the log is then at most half as much.
        let every = store.options.checkpoint_every.max(2 * self.size.load(Ordering::Relaxed));
        self.behind(store.options.segment_size, position) >= every
    }

    fn wants_file(&self, segment_size: u64, position: Position) -> bool {
        u64::from(position.offset) * 2 > segment_size && lock(&self.prepared).is_none()
    }
}

/// A segment that might be rewritten.
struct Candidate {
    segment: Arc<Segment>,
    size: u64,
    live: u64,
    deletions: u64,
    /// Deletions before this revision have nothing left to delete.
    before: Revision,
}

impl Candidate {
    fn new(segment: Arc<Segment>, before: Revision) -> Self {
        let size = u64::from(segment.end.load(Ordering::Relaxed)).saturating_sub(SEGMENT_HEADER as u64);
        let live = segment.live.load(Ordering::Relaxed).min(size);
        let deletions = segment.deletions.load(Ordering::Relaxed);
        Self { segment, size, live, deletions, before }
    }

    fn freed(&self, pass: Revision) -> u64 {
        let kept = if self.before >= pass { 0 } else { self.deletions };
        (self.size - self.live).saturating_sub(kept)
    }
}

pub(super) struct Work {
    pub store: Arc<Shared>,
    pub wake: Receiver<()>,
    /// The newest checkpoint's number.
    pub number: u64,
    /// Files prepared so far.
    pub prepared: u64,
}

impl Work {
    pub fn run(mut self) {
        while self.wake.recv().is_ok() {
            if let Err(error) = self.once() {
                tracing::warn!(%error, "the store's background work failed; it is tried again later");
            }
        }
        // A clean end makes the next opening quick.
        let position = lock(&self.store.state).position;
        if self.store.janitor.behind(self.store.options.segment_size, position) > 256 << 10
            && let Err(error) = self.checkpoint(&[])
        {
            tracing::warn!(%error, "no checkpoint at the end");
        }
        let prepared = lock(&self.store.janitor.prepared).take();
        if let Some((name, _)) = prepared {
            drop(self.store.table.disk.remove(&name));
        }
    }

    fn once(&mut self) -> io::Result<()> {
        let store = self.store.clone();
        let position = lock(&store.state).position;
        if store.janitor.wants_file(store.options.segment_size, position) {
            self.prepared += 1;
            let name = format!("next-{:08}.tmp", self.prepared);
            let file = store.table.disk.create(&name, store.options.segment_size, true)?;
            *lock(&store.janitor.prepared) = Some((name, file));
        }
        let thorough = store.janitor.thorough.swap(false, Ordering::AcqRel);
        if thorough || store.janitor.wants_checkpoint(&store, position) {
            let stale = self.clean(thorough)?;
            self.checkpoint(&stale)?;
        }
        Ok(())
    }

    /// Writes a checkpoint; then the files that it no longer names, and the older checkpoint, go.
    fn checkpoint(&mut self, stale: &[Arc<Segment>]) -> io::Result<()> {
        let store = &self.store;
        let disk = &store.table.disk;
        let mut head = {
            let state = lock(&store.state);
            Head {
                position: state.position,
                revision: state.revision,
                compacted: state.compacted,
                leases: state.leases.granted(),
                segments: Vec::new(),
            }
        };
        let segments;
        (segments, head.segments) = checkpoint::listed(&store.table, head.position);
        let bytes = checkpoint::encode(&head, &segments, &store.index);
        let name = checkpoint::name(self.number + 1);
        let temporary = format!("{name}.tmp");
        let file = disk.create(&temporary, 0, false)?;
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            file.write_all_at(piece, (i * PIECE) as u64)?;
            file.sync_data()?;
        }
        super::failpoint("checkpoint-before-rename");
        disk.rename(&temporary, &name)?;
        disk.sync_dir()?;
        super::failpoint("checkpoint-after-rename");
        let old = self.number;
        self.number += 1;
        store.janitor.set_position(head.position);
        store.janitor.size.store(bytes.len() as u64, Ordering::Relaxed);
        if old > 0 {
            disk.remove(&checkpoint::name(old))?;
        }
        for segment in stale {
            disk.remove(&segment.name())?;
        }
        Ok(())
    }

    /// Rewrites segments that hold much garbage without it; answers the files that are no longer needed.
    fn clean(&mut self, thorough: bool) -> io::Result<Vec<Arc<Segment>>> {
        let mut stale = Vec::new();
        let pass = lock(&self.store.state).compacted;
        for _ in 0..256 {
            let Some((segment, deletions_may_go)) = self.victim(thorough, pass) else { break };
            if !self.rewrite(&segment, deletions_may_go)? {
                break;
            }
            stale.push(segment);
        }
        Ok(stale)
    }

    /// The segment whose rewriting frees most, if enough garbage has come together; and up to which revision its
    /// deletions have nothing left to delete.
    fn victim(&self, thorough: bool, pass: Revision) -> Option<(Arc<Segment>, Revision)> {
        let active = lock(&self.store.state).position.seq;
        let mut before = Revision::MAX;
        let mut sealed = Vec::new();
        for segment in self.store.table.ordered() {
            if segment.seq < active {
                let cleaned = segment.cleaned.load(Ordering::Relaxed);
                sealed.push(Candidate::new(segment, before));
                before = before.min(cleaned);
            }
        }
        let total: u64 = sealed.iter().map(|c| c.size).sum();
        let garbage: u64 = sealed.iter().map(|c| c.size - c.live).sum();
        let deletions: u64 = sealed.iter().map(|c| c.deletions).sum();
        let enough = if thorough { 1 } else { (total / 2).max(self.store.options.segment_size) };
        if garbage < enough {
            return None;
        }
        let best = sealed.iter().max_by_key(|c| c.freed(pass) * 1000 / c.size.max(1))?;
        if best.freed(pass) * 8 >= best.size.max(1) {
            return Some((best.segment.clone(), best.before));
        }
        // What is left are deletions: they go once everything before them has been rewritten.
        let stale = |c: &&Candidate| c.segment.cleaned.load(Ordering::Relaxed) < pass;
        let next = sealed.iter().find(stale).filter(|_| deletions * 4 > total || thorough)?;
        Some((next.segment.clone(), next.before))
    }

    /// Copies what is needed of a segment to a new generation and moves the index over. `false` if it is damaged.
    fn rewrite(&self, segment: &Arc<Segment>, deletions_may_go: Revision) -> io::Result<bool> {
        let store = &self.store;
        let disk = &store.table.disk;
        let end = segment.end.load(Ordering::Acquire) as usize;
        let mut bytes = vec![0; end];
        segment.file.read_exact_at(&mut bytes, 0)?;
        let previous_end = SegmentHeader::decode(&bytes).map_or(0, |h| h.previous_end);
        let compacted = lock(&store.state).compacted;
        let mut out = vec![0; SEGMENT_HEADER];
        let mut moves: Vec<(&[u8], i64, u32, Place)> = Vec::new();
        let mut deletions = 0;
        let mut at = SEGMENT_HEADER;
        while at < end {
            let record = match record::decode(&bytes, at) {
                Ok(record) => record,
                Err(_) => {
                    let path = disk.path(&segment.name());
                    tracing::error!(path = %path.display(), offset = at, "damaged record: the segment stays as it is");
                    return Ok(false);
                }
            };
            let place = Place { segment: segment.id, offset: at as u32, len: record.total as u32 };
            let (live, kept) = match record.meta.kind {
                Kind::Put => (self.points_at(&record, place), false),
                Kind::Delete => (self.points_at(&record, place), record.meta.modified >= deletions_may_go),
                Kind::Grant => (lock(&store.state).leases.contains(record.meta.lease), false),
                // Leases are few, and grants have no revision to go by.
                Kind::Revoke => (false, deletions_may_go < Revision::MAX),
                // The header says it.
                Kind::Compact => (false, false),
            };
            let len = padded(record.total);
            if live || kept {
                let offset = out.len() as u32;
                out.extend_from_slice(&bytes[at..at + len]);
                if matches!(record.meta.kind, Kind::Delete | Kind::Revoke) {
                    deletions += len as u64;
                }
                if live && matches!(record.meta.kind, Kind::Put | Kind::Delete) {
                    moves.push((record.key, record.meta.modified, place.offset, Place { offset, ..place }));
                }
            }
            at += len;
        }
        if out.len() > SEGMENT_HEADER {
            let header = SegmentHeader {
                seq: segment.seq,
                generation: segment.generation + 1,
                previous_end,
                end: out.len() as u32,
                size: out.len() as u32,
                compacted,
            };
            out[..SEGMENT_HEADER].copy_from_slice(&header.encode());
            let temporary = "clean.tmp";
            let file = disk.create(temporary, 0, false)?;
            file.write_all_at(&out, 0)?;
            file.sync_data()?;
            super::failpoint("clean-before-rename");
            disk.rename(temporary, &segment_name(header.seq, header.generation))?;
            disk.sync_dir()?;
            super::failpoint("clean-after-rename");
            let new = store.table.add(header.seq, header.generation, file, header.end);
            new.deletions.store(deletions, Ordering::Relaxed);
            new.cleaned.store(compacted, Ordering::Relaxed);
            for moves in moves.chunks(512) {
                let mut index = exclusive(&store.index);
                for (key, modified, offset, place) in moves {
                    index.relocate(key, *modified, |slot| {
                        if slot.segment == segment.id && slot.offset == *offset {
                            *slot = Place { segment: new.id, ..*place };
                            new.live.fetch_add(u64::from(place.len), Ordering::Relaxed);
                        }
                    });
                }
            }
        }
        super::failpoint("clean-moved");
        store.table.remove(segment.id);
        Ok(true)
    }

    fn points_at(&self, record: &record::Record<'_>, place: Place) -> bool {
        let index = shared(&self.store.index);
        let Some(versions) = index.keys.get(record.key) else { return false };
        versions.as_slice().iter().any(|v| v.modified == record.meta.modified && v.slot == place)
    }
}

impl Table {
    /// Bytes in the log's files, and of these those that the index needs.
    pub fn sizes(&self) -> (u64, u64) {
        let segments = self.snapshot();
        let size = segments.values().map(|s| u64::from(s.end.load(Ordering::Relaxed))).sum();
        let live = segments.values().map(|s| s.live.load(Ordering::Relaxed)).sum();
        (size, live)
    }
}
