//! A disk in memory that can lose what was not synced, sector by sector, and fail on demand.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Error, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile};
use crate::robustness::Dice;

const SECTOR: usize = 512;

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Writes, and reservations, fail with this; a part of the bytes may have been written.
    pub write: Option<i32>,
    /// Syncs fail with this. What they should have made durable may be durable or not, and later syncs do not help.
    pub sync: Option<i32>,
    /// Bytes that may still be added to files.
    pub space: Option<u64>,
}

#[derive(Clone, Default)]
struct SimFile {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Writes since the last sync.
    pending: Vec<(usize, usize)>,
}

#[derive(Clone)]
enum NameOp {
    Set(String, u64),
    Remove(String),
}

#[derive(Clone)]
struct State {
    files: HashMap<u64, SimFile>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<NameOp>,
    next: u64,
    faults: Faults,
    dice: u64,
    /// Nothing works any more: the machine has crashed, or another life has begun.
    dead: bool,
    syncs: u64,
    /// The machine dies by itself at this sync.
    die_at_sync: Option<u64>,
}

/// Clones share the disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        Self::with(State {
            files: HashMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            next: 1,
            faults: Faults::default(),
            dice: seed,
            dead: false,
            syncs: 0,
            die_at_sync: None,
        })
    }

    fn with(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Lets the machine crash at a sync to come; what that sync was for is not durable.
    pub fn die_at_sync(&self, sync: u64) {
        self.state().die_at_sync = Some(sync);
    }

    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The process is gone, the machine goes on: nothing written is lost.
    pub fn kill(&self) -> Self {
        let mut state = self.state();
        state.dead = true;
        Self::with(State { dead: false, die_at_sync: None, ..state.clone() })
    }

    /// The machine is gone: of what was not synced any sectors and any first renames may have made it.
    pub fn crash(&self) -> Self {
        let mut old = self.state();
        old.dead = true;
        let mut state = State { dead: false, die_at_sync: None, ..old.clone() };
        drop(old);
        let mut dice = Dice::new(state.dice ^ state.next ^ state.syncs << 20);
        state.dice = state.dice.wrapping_add(0x9e37_79b9);
        let kept = dice.roll(state.pending_names.len() as u64 + 1) as usize;
        let ops: Vec<NameOp> = state.pending_names.drain(..).collect();
        for op in ops.into_iter().take(kept) {
            apply(&mut state.durable_names, op);
        }
        state.names = state.durable_names.clone();
        for file in state.files.values_mut() {
            file.lose(&mut dice);
            file.current = file.durable.clone();
        }
        Self::with(state)
    }

    /// Flips one bit of a file; answers its name and the offset.
    pub fn flip(&self, dice: &mut Dice, choose: impl Fn(&str) -> bool) -> Option<(String, usize)> {
        let mut state = self.state();
        let names: Vec<(String, u64)> =
            state.names.iter().filter(|(name, _)| choose(name)).map(|(n, id)| (n.clone(), *id)).collect();
        let (name, id) = names.get(dice.roll(names.len() as u64) as usize)?.clone();
        let file = state.files.get_mut(&id)?;
        let used = file.current.iter().rposition(|b| *b != 0)? + 1;
        let offset = dice.roll(used as u64) as usize;
        let bit = 1 << dice.roll(8);
        file.current[offset] ^= bit;
        if let Some(byte) = file.durable.get_mut(offset) {
            *byte ^= bit;
        }
        Some((name, offset))
    }

    /// Cuts off some of what was written to a file; answers its name and what is left of it.
    pub fn cut(&self, dice: &mut Dice, choose: impl Fn(&str) -> bool) -> Option<(String, usize)> {
        let mut state = self.state();
        let names: Vec<(String, u64)> =
            state.names.iter().filter(|(name, _)| choose(name)).map(|(n, id)| (n.clone(), *id)).collect();
        let (name, id) = names.get(dice.roll(names.len() as u64) as usize)?.clone();
        let file = state.files.get_mut(&id)?;
        let used = file.current.iter().rposition(|b| *b != 0)? + 1;
        let left = dice.roll(used as u64) as usize;
        file.current.truncate(left);
        file.durable.truncate(left);
        Some((name, left))
    }
}

impl SimFile {
    /// Lets each sector of the pending writes become durable, or not.
    fn lose(&mut self, dice: &mut Dice) {
        for (from, to) in std::mem::take(&mut self.pending) {
            let mut at = from;
            while at < to {
                let next = ((at / SECTOR + 1) * SECTOR).min(to);
                if dice.roll(2) == 0 {
                    if self.durable.len() < next {
                        self.durable.resize(next, 0);
                    }
                    self.durable[at..next].copy_from_slice(&self.current[at..next]);
                }
                at = next;
            }
        }
    }
}

fn apply(names: &mut BTreeMap<String, u64>, op: NameOp) {
    match op {
        NameOp::Set(name, id) => drop(names.insert(name, id)),
        NameOp::Remove(name) => drop(names.remove(&name)),
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn name(&mut self, op: NameOp) {
        apply(&mut self.names, op.clone());
        self.pending_names.push(op);
    }

    fn take_space(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(errno) = self.faults.write {
            return Err(Error::from_raw_os_error(errno));
        }
        if let Some(space) = &mut self.faults.space {
            *space = space.checked_sub(bytes).ok_or_else(|| Error::from_raw_os_error(28))?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.alive()?;
        self.syncs += 1;
        if self.die_at_sync.is_some_and(|at| self.syncs >= at) {
            self.dead = true;
        }
        self.alive()
    }
}

impl Disk for SimDisk {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.state().alive()?;
        Ok(Box::new(()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, size: u64, _written: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.alive()?;
        state.take_space(size)?;
        let id = state.next;
        state.next += 1;
        let zeros = vec![0; size as usize];
        state.files.insert(id, SimFile { durable: zeros.clone(), current: zeros, pending: Vec::new() });
        state.name(NameOp::Set(name.to_owned(), id));
        Ok(Arc::new(Handle { disk: self.clone(), id, read_only: false }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        state.alive()?;
        let id = *state.names.get(name).ok_or(ErrorKind::NotFound)?;
        let read_only = state.faults.write == Some(30);
        Ok(Arc::new(Handle { disk: self.clone(), id, read_only }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        let id = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        // One step: both names change or none.
        apply(&mut state.names, NameOp::Remove(from.to_owned()));
        state.name(NameOp::Set(to.to_owned(), id));
        state.pending_names.push(NameOp::Remove(from.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        if !state.names.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        state.name(NameOp::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.sync()?;
        if let Some(errno) = state.faults.sync {
            return Err(Error::from_raw_os_error(errno));
        }
        state.pending_names.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("sim").join(name)
    }
}

struct Handle {
    disk: SimDisk,
    id: u64,
    /// Opened while the file system took no writes, and so for good.
    read_only: bool,
}

impl DiskFile for Handle {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        state.alive()?;
        let file = state.files.get(&self.id).ok_or(ErrorKind::NotFound)?;
        let from = offset as usize;
        let bytes = file.current.get(from..from + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.alive()?;
        if self.read_only {
            return Err(Error::from_raw_os_error(9));
        }
        let from = offset as usize;
        let grown =
            (from + bytes.len()).saturating_sub(state.files.get(&self.id).map_or(0, |f| f.current.len()));
        let result = state.take_space(grown as u64);
        let mut dice = Dice::new(state.dice ^ offset);
        let written = if result.is_ok() { bytes.len() } else { dice.roll(bytes.len() as u64 + 1) as usize };
        // A file system that takes no writes at all takes no part of one.
        let written = if state.faults.write == Some(30) { 0 } else { written };
        let file = state.files.get_mut(&self.id).ok_or(ErrorKind::NotFound)?;
        if file.current.len() < from + written {
            file.current.resize(from + written, 0);
        }
        file.current[from..from + written].copy_from_slice(&bytes[..written]);
        file.pending.push((from, from + written));
        result
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.sync()?;
        let errno = state.faults.sync;
        let mut dice = Dice::new(state.dice ^ state.syncs);
        let file = state.files.get_mut(&self.id).ok_or(ErrorKind::NotFound)?;
        if let Some(errno) = errno {
            file.lose(&mut dice);
            return Err(Error::from_raw_os_error(errno));
        }
        let SimFile { durable, current, pending } = file;
        for (from, to) in pending.drain(..) {
            if durable.len() < to {
                durable.resize(to, 0);
            }
            durable[from..to].copy_from_slice(&current[from..to]);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive()?;
        Ok(state.files.get(&self.id).ok_or(ErrorKind::NotFound)?.current.len() as u64)
    }
}
