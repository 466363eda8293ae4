//! Snapshots: every key at one revision in a file, saved while the store works, checked, restored; and migration.
//!
//! A file is the magic `r8s-snp1`, then blocks `length u32 | crc32 u32 | payload`, numbers little-endian. The first byte
//! of a payload says what it is: `H` revision i64, seconds since 1970 i64; `L` leases, each id i64, TTL i64; `K` keys in
//! ascending order, each key length u32, value length u32, created i64, modified i64, version i64, lease i64, key,
//! value; `E` the end: number of keys u64, and a CRC-32 over the checksums of all blocks before. What follows the end is
//! not looked at.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::embedded::Restorer;
use crate::{Error, KeyRange, KeyValue, LeaseId, Op, RangeRequest, Result, Revision, Store, Txn};

const MAGIC: &[u8; 8] = b"r8s-snp1";
const BLOCK: usize = 256 << 10;
/// Keys asked for at once.
const PAGE: usize = 500;

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub revision: Revision,
    pub keys: u64,
    /// Of the file, without what may follow the end.
    pub bytes: u64,
    pub created: SystemTime,
}

/// How far something has come: keys done, and of how many.
pub type Progress<'p> = &'p mut (dyn FnMut(u64, u64) + Send);

fn failed(what: &str, error: &io::Error) -> Error {
    Error::Other(format!("{what}: {error}"))
}

struct Writer<W> {
    out: W,
    block: Vec<u8>,
    checksums: crc32fast::Hasher,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self { out, block: Vec::new(), checksums: crc32fast::Hasher::new(), bytes: MAGIC.len() as u64 })
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let crc = crc32fast::hash(&self.block).to_le_bytes();
        self.checksums.update(&crc);
        self.out.write_all(&(self.block.len() as u32).to_le_bytes())?;
        self.out.write_all(&crc)?;
        self.out.write_all(&self.block)?;
        self.bytes += 8 + self.block.len() as u64;
        self.block.clear();
        Ok(())
    }

    fn numbers(&mut self, numbers: &[i64]) {
        numbers.iter().for_each(|n| self.block.extend_from_slice(&n.to_le_bytes()));
    }

    fn key(&mut self, kv: &KeyValue) -> io::Result<()> {
        if self.block.is_empty() {
            self.block.push(b'K');
        }
        self.block.extend_from_slice(&(kv.key.len() as u32).to_le_bytes());
        self.block.extend_from_slice(&(kv.value.len() as u32).to_le_bytes());
        self.numbers(&[kv.create_revision, kv.mod_revision, kv.version, kv.lease]);
        self.block.extend_from_slice(&kv.key);
        self.block.extend_from_slice(&kv.value);
        if self.block.len() >= BLOCK { self.flush() } else { Ok(()) }
    }

    fn end(&mut self, keys: u64) -> io::Result<()> {
        self.flush()?;
        self.block.push(b'E');
        self.block.extend_from_slice(&keys.to_le_bytes());
        let all = self.checksums.clone().finalize();
        self.block.extend_from_slice(&all.to_le_bytes());
        self.flush()?;
        self.out.flush()
    }
}

/// All keys of a store at one revision, page by page.
struct Pages<'s> {
    store: &'s dyn Store,
    next: Option<KeyRange>,
    revision: Revision,
    total: u64,
}

impl<'s> Pages<'s> {
    fn new(store: &'s dyn Store) -> Self {
        Self { store, next: Some(KeyRange::prefix("")), revision: 0, total: 0 }
    }

    async fn next(&mut self) -> Result<Option<Vec<KeyValue>>> {
        let Some(range) = self.next.take() else { return Ok(None) };
        let request = RangeRequest { revision: self.revision, limit: PAGE, ..RangeRequest::new(range) };
        let page = self.store.range(request).await?;
        if self.revision == 0 {
            (self.revision, self.total) = (page.revision, page.count as u64);
        }
        if page.more
            && let Some(last) = page.kvs.last()
        {
            let start = [&last.key[..], &[0]].concat();
            self.next = Some(KeyRange { start: start.into(), end: Some(Bytes::new()) });
        }
        Ok(Some(page.kvs))
    }
}

/// Writes a snapshot of any store to `out`, while it works. The revision must not be compacted meanwhile.
pub async fn save(store: &dyn Store, out: impl Write, progress: Progress<'_>) -> Result<Summary> {
    let written = |error: io::Error| failed("writing the snapshot", &error);
    let mut writer = Writer::new(out).map_err(written)?;
    let mut pages = Pages::new(store);
    let created = SystemTime::now();
    let mut keys = 0;
    while let Some(kvs) = pages.next().await? {
        if keys == 0 && writer.bytes == MAGIC.len() as u64 {
            let seconds = created.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
            writer.block.push(b'H');
            writer.numbers(&[pages.revision, seconds]);
            writer.flush().map_err(written)?;
            writer.block.push(b'L');
            for id in store.leases().await? {
                let ttl = store.lease_time_to_live(id, false).await?.granted_ttl;
                writer.numbers(&[id, ttl]);
            }
            writer.flush().map_err(written)?;
        }
        for kv in &kvs {
            writer.key(kv).map_err(written)?;
        }
        keys += kvs.len() as u64;
        progress(keys, pages.total);
    }
    writer.end(keys).map_err(written)?;
    Ok(Summary { revision: pages.revision, keys, bytes: writer.bytes, created })
}

/// Saves to a file: under another name first, durable before it gets its own.
pub async fn save_file(store: &dyn Store, path: &Path, progress: Progress<'_>) -> Result<Summary> {
    use std::os::unix::fs::OpenOptionsExt;
    let bad = |error: io::Error| failed(&path.display().to_string(), &error);
    let temporary = path.with_extension("part");
    let mut options = std::fs::OpenOptions::new();
    // It holds secrets, as the store does.
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&temporary).map_err(bad)?;
    let result = save(store, io::BufWriter::new(&file), progress).await;
    let done = result.and_then(|summary| {
        file.sync_all().map_err(bad)?;
        std::fs::rename(&temporary, path).map_err(bad)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(bad)?;
        Ok(summary)
    });
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done
}

/// What a snapshot's reader is told.
enum Item {
    Head,
    Lease(LeaseId, i64),
    Key(KeyValue),
}

/// Reads a whole snapshot, checking everything; `take` gets each item after its block has been checked.
fn read(mut input: impl Read, name: &str, mut take: impl FnMut(Item) -> Result<()>) -> Result<Summary> {
    let mut at = 0;
    let corrupt = |at: u64, what: &str| Error::Corrupt(format!("{name} at offset {at}: {what}"));
    let short = |at: u64, error: &io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => corrupt(at, "the snapshot ends too early"),
        _ => failed(name, error),
    };
    let mut magic = [0; 8];
    input.read_exact(&mut magic).map_err(|e| short(at, &e))?;
    if &magic != MAGIC {
        return Err(corrupt(0, "not a snapshot"));
    }
    at += 8;
    let mut summary = Summary { revision: 0, keys: 0, bytes: 0, created: SystemTime::UNIX_EPOCH };
    let mut checksums = crc32fast::Hasher::new();
    let mut last = Bytes::new();
    loop {
        let mut head = [0; 8];
        input.read_exact(&mut head).map_err(|e| short(at, &e))?;
        let (len, crc) = head.split_at(4);
        let len = u32::from_le_bytes(len.try_into().expect("four bytes"));
        let mut block = Vec::new();
        // Not allocated on the word of a length that may be damaged.
        (&mut input).take(u64::from(len)).read_to_end(&mut block).map_err(|e| short(at, &e))?;
        if block.len() != len as usize {
            return Err(corrupt(at, "the snapshot ends too early"));
        }
        if crc32fast::hash(&block).to_le_bytes() != crc {
            return Err(corrupt(at, "a block does not match its checksum"));
        }
        let mut fields = Fields { rest: &block };
        let odd = || corrupt(at, "a block that is none");
        match fields.bytes(1).ok_or_else(odd)? {
            b"H" => {
                summary.revision = fields.number().ok_or_else(odd)?;
                let seconds = fields.number().ok_or_else(odd)?;
                summary.created = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0) as u64);
                take(Item::Head)?;
            }
            b"L" => {
                while !fields.rest.is_empty() {
                    take(Item::Lease(fields.number().ok_or_else(odd)?, fields.number().ok_or_else(odd)?))?;
                }
            }
            b"K" => {
                while !fields.rest.is_empty() {
                    let kv = fields.key().ok_or_else(odd)?;
                    if summary.keys > 0 && kv.key <= last {
                        return Err(corrupt(at, "keys out of order"));
                    }
                    last = kv.key.clone();
                    summary.keys += 1;
                    take(Item::Key(kv))?;
                }
            }
            b"E" => {
                let keys = fields.number().ok_or_else(odd)? as u64;
                let all = fields.bytes(4).ok_or_else(odd)?;
                if keys != summary.keys || checksums.finalize().to_le_bytes() != all {
                    return Err(corrupt(at, "blocks are missing"));
                }
                summary.bytes = at + 8 + u64::from(len);
                return Ok(summary);
            }
            _ => return Err(odd()),
        }
        checksums.update(crc);
        at += 8 + u64::from(len);
    }
}

struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    fn bytes(&mut self, len: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    fn number(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn len(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?) as usize)
    }

    fn key(&mut self) -> Option<KeyValue> {
        let (key, value) = (self.len()?, self.len()?);
        Some(KeyValue {
            create_revision: self.number()?,
            mod_revision: self.number()?,
            version: self.number()?,
            lease: self.number()?,
            key: Bytes::copy_from_slice(self.bytes(key)?),
            value: Bytes::copy_from_slice(self.bytes(value)?),
        })
    }
}

fn open(path: &Path) -> Result<(io::BufReader<std::fs::File>, String)> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|e| failed(&name, &e))?;
    Ok((io::BufReader::with_capacity(BLOCK, file), name))
}

/// Reads all of a snapshot and checks it.
pub fn verify(path: &Path) -> Result<Summary> {
    let (file, name) = open(path)?;
    read(file, &name, |_| Ok(()))
}

/// Makes a data directory, which must be empty or not there, of a snapshot. Keys keep their revisions; the history
/// before the snapshot is gone.
pub fn restore(path: &Path, dir: &Path, progress: Progress<'_>) -> Result<Summary> {
    // Twice through the file, so that nothing is written of one that is damaged.
    let whole = verify(path)?;
    let mut restorer = Restorer::new(dir, whole.revision)?;
    let (file, name) = open(path)?;
    let mut done = 0;
    let summary = read(file, &name, |item| match item {
        Item::Head => Ok(()),
        Item::Lease(id, ttl) => restorer.lease(id, ttl),
        Item::Key(kv) => {
            done += 1;
            if done % PAGE as u64 == 0 {
                progress(done, whole.keys);
            }
            restorer.put(&kv)
        }
    })?;
    restorer.finish()?;
    progress(summary.keys, whole.keys);
    Ok(summary)
}

/// Copies all keys and leases of a store into a data directory, which must be empty or not there; keys keep their
/// revisions. Nobody should write meanwhile: what is written after the start is not copied.
pub async fn migrate_to_dir(from: &dyn Store, dir: &Path, progress: Progress<'_>) -> Result<Summary> {
    let mut pages = Pages::new(from);
    let mut restorer = None;
    let mut keys = 0;
    while let Some(kvs) = pages.next().await? {
        if restorer.is_none() {
            let mut new = Restorer::new(dir, pages.revision)?;
            for id in from.leases().await? {
                new.lease(id, from.lease_time_to_live(id, false).await?.granted_ttl)?;
            }
            restorer = Some(new);
        }
        for kv in &kvs {
            restorer.as_mut().map_or(Ok(()), |r| r.put(kv))?;
        }
        keys += kvs.len() as u64;
        progress(keys, pages.total);
    }
    restorer.map_or(Ok(()), Restorer::finish)?;
    Ok(Summary { revision: pages.revision, keys, bytes: 0, created: SystemTime::now() })
}

/// Copies all keys and leases of one store to another, which must have no keys. The other numbers its revisions on its
/// own: clients must list again.
pub async fn migrate(from: &dyn Store, to: &dyn Store, progress: Progress<'_>) -> Result<Summary> {
    let everything = RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::prefix("")) };
    let there = to.range(everything).await?.count;
    if there > 0 {
        return Err(Error::Other(format!("the store to migrate to has {there} keys: it must be empty")));
    }
    for id in from.leases().await? {
        let ttl = from.lease_time_to_live(id, false).await?.granted_ttl;
        match to.lease_grant(id, ttl).await {
            // Left by an attempt before.
            Ok(_) | Err(Error::LeaseExists) => {}
            Err(error) => return Err(error),
        }
    }
    let mut pages = Pages::new(from);
    let mut keys = 0;
    while let Some(kvs) = pages.next().await? {
        keys += kvs.len() as u64;
        // Within what a cluster takes by default: 128 operations and 1.5 MB at once.
        let mut batches = vec![Vec::new()];
        let mut size = 0;
        for kv in kvs {
            let more = kv.key.len() + kv.value.len() + 64;
            if size + more > 1 << 20 || batches.last().is_some_and(|b: &Vec<Op>| b.len() >= 100) {
                batches.push(Vec::new());
                size = 0;
            }
            size += more;
            let put = Op::Put { key: kv.key, value: kv.value, lease: kv.lease, prev_kv: false };
            batches.last_mut().expect("there is always one").push(put);
        }
        let send = |success| to.txn(Txn { success, ..Txn::default() });
        futures_util::future::try_join_all(batches.into_iter().map(send)).await?;
        progress(keys, pages.total);
    }
    Ok(Summary { revision: pages.revision, keys, bytes: 0, created: SystemTime::now() })
}

/// When snapshots are taken by themselves.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub dir: PathBuf,
    pub every: Duration,
    /// How many are kept.
    pub keep: usize,
}

const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".r8s";

/// Takes snapshots until shutdown; none while nothing has changed. A failure is logged and tried again next time.
pub async fn run(store: &dyn Store, schedule: &Schedule, shutdown: CancellationToken) {
    let mut last = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(schedule.every) => {}
            () = shutdown.cancelled() => return,
        }
        match take(store, schedule, last).await {
            Ok(Some(summary)) => last = Some(summary.revision),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, dir = %schedule.dir.display(), "no snapshot was taken"),
        }
    }
}

/// Takes one scheduled snapshot, unless the store is still at `last`, and removes those too many.
pub async fn take(store: &dyn Store, schedule: &Schedule, last: Option<Revision>) -> Result<Option<Summary>> {
    let Schedule { dir, keep, every: _ } = schedule;
    if last.is_some() && last == Some(store.status().await?.revision) {
        return Ok(None);
    }
    let bad = |error: io::Error| failed(&dir.display().to_string(), &error);
    std::fs::create_dir_all(dir).map_err(bad)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let path = dir.join(format!("{PREFIX}{now:015}{SUFFIX}"));
    let summary = save_file(store, &path, &mut |_, _| {}).await?;
    let names =
        std::fs::read_dir(dir).map_err(bad)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|n| n.starts_with(PREFIX) && n.ends_with(SUFFIX)).collect();
    names.sort_unstable();
    for name in names.iter().rev().skip((*keep).max(1)) {
        std::fs::remove_file(dir.join(name)).map_err(bad)?;
    }
    Ok(Some(summary))
}

#[cfg(test)]
mod tests;
