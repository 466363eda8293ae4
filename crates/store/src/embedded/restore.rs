//! Filling an empty data directory with keys as they were elsewhere, revisions included.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, RealDisk};
use super::load::failed;
use super::log::segment_name;
use super::record::{self, Kind, Meta, SEGMENT_HEADER, SegmentHeader};
use crate::{Error, KeyValue, LeaseId, Result, Revision};

/// Writes a store that is at `revision`, without history before it. Nothing is there until [`Restorer::finish`].
pub struct Restorer {
    disk: Arc<dyn Disk>,
    revision: Revision,
    segment_size: usize,
    seq: u32,
    previous_end: u32,
    buffer: Vec<u8>,
    files: Vec<(String, String, Arc<dyn DiskFile>)>,
    _lock: Box<dyn Send + Sync>,
}

impl Restorer {
    /// The directory must be empty or not there.
    pub fn new(dir: impl AsRef<Path>, revision: Revision) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.as_ref()));
        let lock = disk.lock().map_err(|e| failed(&*disk, "", &e))?;
        let names = disk.list().map_err(|e| failed(&*disk, "", &e))?;
        if let Some(name) = names.iter().find(|name| !name.ends_with(".tmp")) {
            let path = disk.path("");
            return Err(Error::Other(format!("{} is not empty: there is {name}", path.display())));
        }
        Ok(Self {
            disk,
            revision,
            segment_size: 16 << 20,
            seq: 1,
            previous_end: 0,
            buffer: vec![0; SEGMENT_HEADER],
            files: Vec::new(),
            _lock: lock,
        })
    }

    fn meta(&self, kind: Kind) -> Meta {
        Meta {
            kind,
            end: true,
            synced: SEGMENT_HEADER as u32,
            segment: self.seq,
            modified: 0,
            created: 0,
            version: 0,
            lease: 0,
        }
    }

    fn append(&mut self, meta: &Meta, key: &[u8], value: &[u8]) -> Result<()> {
        let start = self.buffer.len();
        record::append(&mut self.buffer, meta, key, value);
        record::seal(&mut self.buffer, start, true);
        if self.buffer.len() >= self.segment_size {
            self.write_segment()?;
        }
        Ok(())
    }

    pub fn lease(&mut self, id: LeaseId, ttl: i64) -> Result<()> {
        let meta = Meta { lease: id, version: ttl, ..self.meta(Kind::Grant) };
        self.append(&meta, &[], &[])
    }

    pub fn put(&mut self, kv: &KeyValue) -> Result<()> {
        let meta = Meta {
            modified: kv.mod_revision,
            created: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
            ..self.meta(Kind::Put)
        };
        self.append(&meta, &kv.key, &kv.value)
    }

    fn write_segment(&mut self) -> Result<()> {
        let header = SegmentHeader {
            seq: self.seq,
            generation: 0,
            previous_end: self.previous_end,
            end: 0,
            size: self.buffer.len() as u32,
            compacted: self.revision,
        };
        self.buffer[..SEGMENT_HEADER].copy_from_slice(&header.encode());
        let name = segment_name(self.seq, 0);
        let temporary = format!("{name}.tmp");
        let write = || {
            let file = self.disk.create(&temporary, 0, false)?;
            file.write_all_at(&self.buffer, 0)?;
            file.sync_data()?;
            Ok(file)
        };
        let file = write().map_err(|e: io::Error| failed(&*self.disk, &temporary, &e))?;
        self.files.push((temporary, name, file));
        self.previous_end = self.buffer.len() as u32;
        self.seq += 1;
        self.buffer.truncate(SEGMENT_HEADER);
        self.buffer.fill(0);
        Ok(())
    }

    /// Makes it the store of the directory.
    pub fn finish(mut self) -> Result<()> {
        self.write_segment()?;
        let place = || {
            // The last first: a directory that was left half-way does not look like a store that lost its end.
            for (temporary, name, _) in self.files.iter().rev() {
                self.disk.rename(temporary, name)?;
            }
            self.disk.sync_dir()
        };
        place().map_err(|e| failed(&*self.disk, "", &e))
    }
}
