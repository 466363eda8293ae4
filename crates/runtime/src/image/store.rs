//! The images on this node: an index of names, and unpacked layers shared between images.
//!
//! ```text
//! ROOT/index.json          names, sizes, layers of every image
//! ROOT/configs/HEX.json    image configurations by digest
//! ROOT/layers/CHAIN/fs     an unpacked layer, named by the chain of layers it ends
//! ROOT/tmp/                unfinished things, emptied at start
//! ```
//! An image is in the index only when all of it is on disk (`durable`: with `syncfs` before), and the index
//! is replaced atomically, so a crash leaves whole images or none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::manifest::ImageConfig;
use super::reference::{Reference, is_digest};
use super::unpack::{self, UnpackError, digest_of};

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{what}")]
    Io { what: String, source: io::Error },
    #[error("layer {digest}")]
    Unpack { digest: String, source: UnpackError },
    #[error("digest mismatch: expected {expected}, got {got}")]
    Digest { expected: String, got: String },
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Reference(#[from] super::reference::ReferenceError),
}

impl ImageError {
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> ImageError {
        let what = what.into();
        move |source| ImageError::Io { what, source }
    }
}

/// One image of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// `NAME:TAG`.
    pub tags: BTreeSet<String>,
    /// `NAME@DIGEST` of the manifest (or index) it was pulled by.
    pub digests: BTreeSet<String>,
    /// Chain ids, bottom first.
    pub chain: Vec<String>,
    /// Bytes of all layers unpacked.
    pub size: u64,
    #[serde(default)]
    pub pinned: bool,
    /// Seconds since 1970 when it came.
    pub created: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Index {
    /// By image id: the digest of the configuration, `sha256:…`.
    images: BTreeMap<String, ImageRecord>,
    /// Size of each layer by chain id.
    layers: BTreeMap<String, u64>,
}

/// An image as callers see it.
#[derive(Clone, Debug)]
pub struct Image {
    pub id: String,
    pub record: ImageRecord,
    pub config: ImageConfig,
}

impl Image {
    /// What CRI calls the image's reference: a digest to pull it by where there is one, else its id.
    pub fn reference(&self) -> String {
        self.record.digests.first().cloned().unwrap_or_else(|| self.id.clone())
    }
}

#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    durable: bool,
    index: Mutex<Index>,
    /// Layers that containers stand on, with how many.
    held: Mutex<HashMap<String, usize>>,
    next_temporary: std::sync::atomic::AtomicU64,
    /// Read while layers are added that no image has yet; written while unused ones are removed.
    adding: RwLock<()>,
    /// Someone knows which layers are held, so the others may be removed.
    collecting: AtomicBool,
}

impl ImageStore {
    pub fn open(root: &Path, durable: bool) -> Result<ImageStore, ImageError> {
        let tmp = root.join("tmp");
        match fs::remove_dir_all(&tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ImageError::io(format!("empty {}", tmp.display()))(error));
            }
            _ => {}
        }
        for dir in ["tmp", "layers", "configs"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).map_err(ImageError::io(format!("make {}", dir.display())))?;
        }
        let path = root.join("index.json");
        let index = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| ImageError::Invalid(format!("{} is damaged: {error}", path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Index::default(),
            Err(error) => return Err(ImageError::io(format!("read {}", path.display()))(error)),
        };
        let store = ImageStore {
            root: root.to_owned(),
            durable,
            index: Mutex::new(index),
            held: Mutex::default(),
            next_temporary: Default::default(),
            adding: RwLock::new(()),
            collecting: AtomicBool::new(false),
        };
        Ok(store)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A fresh path in the store's own temporary directory.
    pub fn temporary(&self) -> PathBuf {
        let n = self.next_temporary.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.root.join(format!("tmp/{}-{n}", std::process::id()))
    }

    pub fn layer_dir(&self, chain: &str) -> PathBuf {
        let hex = chain.strip_prefix("sha256:").unwrap_or(chain);
        // 96 bits are enough to tell layers apart, and lowerdir's option string is short of room.
        self.root.join("layers").join(&hex[..hex.len().min(24)]).join("fs")
    }

    /// The directories of an image, top layer first: what overlayfs wants.
    pub fn lower_dirs(&self, chain: &[String]) -> Vec<PathBuf> {
        chain.iter().rev().map(|chain| self.layer_dir(chain)).collect()
    }

    pub fn has_layer(&self, chain: &str) -> bool {
        self.index().layers.contains_key(chain)
    }

    /// Unpacks a layer (compressed or not) on top of `below` (chain ids, bottom first). Its uncompressed
    /// digest must be `diff_id`. Blocks; answers the new chain id.
    pub fn add_layer(
        &self,
        below: &[String],
        diff_id: &str,
        stream: impl Read,
    ) -> Result<String, ImageError> {
        let chain = chain_id(below.last().map(String::as_str), diff_id);
        let failed = |source| ImageError::Unpack { digest: diff_id.to_owned(), source };
        if self.has_layer(&chain) {
            // Nothing to unpack, but who brings a damaged file is told.
            let read = |error| failed(UnpackError::Read(error));
            let stream = unpack::decompress(stream).map_err(read)?;
            let (got, _) = unpack::Hashing::new(stream).finish().map_err(read)?;
            return match got == diff_id {
                true => Ok(chain),
                false => Err(ImageError::Digest { expected: diff_id.to_owned(), got }),
            };
        }
        let temporary = self.temporary();
        fs::create_dir_all(temporary.join("fs")).map_err(ImageError::io("make a layer"))?;
        let clean_up = RemoveOnDrop(&temporary);
        let stream = unpack::decompress(stream).map_err(|error| failed(UnpackError::Read(error)))?;
        let done = unpack::unpack(stream, &temporary.join("fs"), &self.lower_dirs(below)).map_err(failed)?;
        if done.diff_id != diff_id {
            return Err(ImageError::Digest { expected: diff_id.to_owned(), got: done.diff_id });
        }
        let place = self.layer_dir(&chain);
        let place = place.parent().unwrap_or(&place).to_owned();
        let mut index = self.index();
        // Someone else may have unpacked the same layer meanwhile; or one was left by a crash.
        if !index.layers.contains_key(&chain) {
            if place.exists() {
                fs::rename(&place, self.temporary()).map_err(ImageError::io("replace a layer"))?;
            }
            fs::rename(&temporary, &place).map_err(ImageError::io("place a layer"))?;
            index.layers.insert(chain.clone(), done.size);
        }
        drop(clean_up);
        Ok(chain)
    }

    /// Records an image whose layers are all there. Names that others had move to it. Answers the id.
    pub fn add_image(
        &self,
        config: &[u8],
        chain: Vec<String>,
        names: &[Reference],
        manifest_digest: Option<&str>,
    ) -> Result<String, ImageError> {
        let id = digest_of(config);
        let parsed: ImageConfig = serde_json::from_slice(config)
            .map_err(|error| ImageError::Invalid(format!("image configuration {id}: {error}")))?;
        drop(parsed);
        let path = self.config_path(&id);
        write_atomically(&path, config).map_err(ImageError::io("write an image configuration"))?;
        if self.durable {
            let dir = fs::File::open(&self.root).map_err(ImageError::io("open the image store"))?;
            rustix::fs::syncfs(&dir).map_err(|error| ImageError::io("sync the image store")(error.into()))?;
        }
        let mut index = self.index();
        let size = chain.iter().filter_map(|layer| index.layers.get(layer)).sum();
        let tags: BTreeSet<String> =
            names.iter().filter_map(|name| Some(format!("{}:{}", name.name(), name.tag.as_ref()?))).collect();
        for (other, record) in &mut index.images {
            if *other != id {
                record.tags.retain(|tag| !tags.contains(tag));
            }
        }
        let record = index.images.entry(id.clone()).or_default();
        record.tags.extend(tags);
        if let Some(digest) = manifest_digest {
            record.digests.extend(names.iter().map(|name| format!("{}@{digest}", name.name())));
        }
        record.chain = chain;
        record.size = size;
        if record.created == 0 {
            record.created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        }
        self.save(&index)?;
        Ok(id)
    }

    fn config_path(&self, id: &str) -> PathBuf {
        self.root.join("configs").join(format!("{}.json", id.strip_prefix("sha256:").unwrap_or(id)))
    }

    fn save(&self, index: &Index) -> Result<(), ImageError> {
        let bytes = serde_json::to_vec(index).map_err(|error| ImageError::Invalid(error.to_string()))?;
        write_atomically(&self.root.join("index.json"), &bytes)
            .map_err(ImageError::io("write the image index"))
    }

    fn load(&self, id: &str, record: &ImageRecord) -> Option<Image> {
        let config = fs::read(self.config_path(id)).ok()?;
        Some(Image {
            id: id.to_owned(),
            record: record.clone(),
            config: serde_json::from_slice(&config).ok()?,
        })
    }

    /// Finds an image by name, name and digest, id, or the beginning of an id (4 digits or more).
    pub fn find(&self, name: &str) -> Option<Image> {
        let index = self.index();
        let by = |test: &dyn Fn(&String, &ImageRecord) -> bool| {
            let (id, record) = index.images.iter().find(|(id, record)| test(id, record))?;
            Some((id.clone(), record.clone()))
        };
        let found = match name {
            _ if is_digest(name) => by(&|id, _| id == name),
            _ => {
                Reference::parse(name).ok().and_then(|reference| match (&reference.digest, &reference.tag) {
                    (Some(digest), _) => {
                        by(&|_, r| r.digests.contains(&format!("{}@{digest}", reference.name())))
                    }
                    (_, Some(tag)) => by(&|_, r| r.tags.contains(&format!("{}:{tag}", reference.name()))),
                    _ => None,
                })
            }
        };
        let is_id_prefix = name.len() >= 4 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let found = found.or_else(|| match is_id_prefix {
            true => by(&|id, _| id.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(name))),
            false => None,
        });
        drop(index);
        let (id, record) = found?;
        self.load(&id, &record)
    }

    pub fn list(&self) -> Vec<Image> {
        let records = self.index().images.clone();
        records.iter().filter_map(|(id, record)| self.load(id, record)).collect()
    }

    /// Removes an image with all its names, and the layers nothing stands on. Nothing there is success.
    pub fn remove(&self, name: &str) -> Result<(), ImageError> {
        let Some(image) = self.find(name) else { return Ok(()) };
        let mut index = self.index();
        index.images.remove(&image.id);
        self.save(&index)?;
        drop(index);
        match fs::remove_file(self.config_path(&image.id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ImageError::io("remove an image configuration")(error))
            }
            _ => self.collect(),
        }
    }

    /// A container stands on these layers, whatever happens to the image.
    pub fn hold(&self, chain: &[String]) {
        let mut held = self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for layer in chain {
            *held.entry(layer.clone()).or_default() += 1;
        }
    }

    /// Undoes one [`ImageStore::hold`].
    pub fn release(&self, chain: &[String]) {
        let mut held = self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for layer in chain {
            if let Some(count) = held.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    held.remove(layer);
                }
            }
        }
    }

    /// From now on layers that nothing needs are removed: the caller has told by [`ImageStore::hold`] what
    /// all containers stand on. A store opened beside (by a command) never removes layers.
    pub fn start_collecting(&self) -> Result<(), ImageError> {
        self.collecting.store(true, Ordering::Relaxed);
        self.collect()
    }

    /// While this is held no layer is removed.
    pub(super) fn adding(&self) -> RwLockReadGuard<'_, ()> {
        self.adding.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Removes layers that no image has and no container stands on; later, if something is being added.
    pub fn collect(&self) -> Result<(), ImageError> {
        let Ok(_alone) = self.adding.try_write() else { return Ok(()) };
        if !self.collecting.load(Ordering::Relaxed) {
            return Ok(());
        }
        let held = self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let mut index = self.index();
        let used: BTreeSet<&String> = index.images.values().flat_map(|record| &record.chain).collect();
        let unused: Vec<String> = index
            .layers
            .keys()
            .filter(|layer| !used.contains(layer) && !held.contains_key(*layer))
            .cloned()
            .collect();
        let mut trash = Vec::new();
        for layer in unused {
            let dir = self.layer_dir(&layer);
            let dir = dir.parent().unwrap_or(&dir);
            let away = self.temporary();
            match fs::rename(dir, &away) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ImageError::io("remove a layer")(error));
                }
                _ => trash.push(away),
            }
            index.layers.remove(&layer);
        }
        self.save(&index)?;
        drop(index);
        for dir in trash {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ImageError::io("remove a layer")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Bytes and number of layers unpacked.
    pub fn usage(&self) -> (u64, u64) {
        let index = self.index();
        (index.layers.values().sum(), index.layers.len() as u64)
    }
}

struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0);
    }
}

/// As the OCI image specification has it: the id of a stack of layers.
pub fn chain_id(below: Option<&str>, diff_id: &str) -> String {
    match below {
        None => diff_id.to_owned(),
        Some(below) => digest_of(format!("{below} {diff_id}").as_bytes()),
    }
}

/// Replaces a file so that a crash leaves the old one or the new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, bytes)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header, "file", text.as_bytes()).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_damaged_layer_is_refused_even_when_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path(), false).unwrap();
        let (good, bad) = (layer("good"), layer("damaged"));
        let diff_id = digest_of(&good);
        for _ in 0..2 {
            let error = store.add_layer(&[], &diff_id, bad.as_slice()).unwrap_err();
            assert!(matches!(error, ImageError::Digest { .. }), "{error}");
            let chain = store.add_layer(&[], &diff_id, good.as_slice()).unwrap();
            assert!(store.has_layer(&chain));
        }
    }
}
