//! Images from files: what `docker save` and `skopeo copy` write, as an archive (compressed or not) or as an
//! OCI layout directory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::manifest::{Descriptor, Document, ImageConfig};
use super::reference::Reference;
use super::store::{ImageError, ImageStore};
use super::unpack::{Hashing, decompress};

/// An image that came out of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// `sha256:…`
    pub id: String,
    /// Full names with tags.
    pub names: Vec<String>,
}

/// docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

const MAX_DOCUMENT: u64 = 8 << 20;

/// Imports all images of `path` for this machine's architecture. `name` names an image that has no name in
/// the archive (or renames a single one). Blocks.
pub fn import(
    store: &ImageStore,
    path: &Path,
    name: Option<&Reference>,
) -> Result<Vec<Imported>, ImageError> {
    let _adding = store.adding();
    let source = Source::open(store, path)?;
    let imported = match source.document::<Document>("index.json") {
        Ok(index) => from_layout(store, &source, &index, name)?,
        Err(_) => {
            let saved: Vec<SavedImage> =
                source.document("manifest.json").map_err(|_| not_an_archive(path))?;
            saved.iter().map(|image| from_saved(store, &source, image, name)).collect::<Result<_, _>>()?
        }
    };
    if imported.is_empty() {
        return Err(ImageError::Invalid(format!("{} has no image for this machine", path.display())));
    }
    Ok(imported)
}

fn not_an_archive(path: &Path) -> ImageError {
    ImageError::Invalid(format!("{} is neither a docker nor an OCI image archive", path.display()))
}

fn from_saved(
    store: &ImageStore,
    source: &Source,
    image: &SavedImage,
    name: Option<&Reference>,
) -> Result<Imported, ImageError> {
    let config = source.bytes(&image.config)?;
    let parsed: ImageConfig = parse(&image.config, &config)?;
    if parsed.rootfs.diff_ids.len() != image.layers.len() {
        return Err(ImageError::Invalid(format!("{}: layers and diff_ids differ in number", image.config)));
    }
    let mut chain = Vec::new();
    for (layer, diff_id) in image.layers.iter().zip(&parsed.rootfs.diff_ids) {
        let id = store.add_layer(&chain, diff_id, source.open_file(layer)?)?;
        chain.push(id);
    }
    let names = match name {
        Some(name) => vec![name.clone()],
        None => {
            let tags = image.repo_tags.iter().flatten();
            tags.map(|tag| Reference::parse(tag)).collect::<Result<Vec<_>, _>>()?
        }
    };
    let id = store.add_image(&config, chain, &names, None)?;
    Ok(Imported { id, names: names.iter().map(Reference::to_string).collect() })
}

fn from_layout(
    store: &ImageStore,
    source: &Source,
    index: &Document,
    name: Option<&Reference>,
) -> Result<Vec<Imported>, ImageError> {
    let mut imported = Vec::new();
    for descriptor in &index.manifests {
        if let Some(platform) = &descriptor.platform
            && (platform.os != "linux" || platform.architecture != super::manifest::host_architecture())
            && index.manifests.len() > 1
        {
            continue;
        }
        let names = match name {
            Some(name) => vec![name.clone()],
            None => names_of(source, descriptor)?,
        };
        imported.push(from_manifest(store, source, descriptor, &names)?);
    }
    Ok(imported)
}

/// containerd's annotation has the full name; the specification's often only a tag. docker's
/// `manifest.json` beside the layout knows names as well.
fn names_of(source: &Source, descriptor: &Descriptor) -> Result<Vec<Reference>, ImageError> {
    if let Some(full) = descriptor.annotations.get("io.containerd.image.name") {
        return Ok(vec![Reference::parse(full)?]);
    }
    match descriptor.annotations.get("org.opencontainers.image.ref.name") {
        Some(text) if text.contains(['/', ':']) => Ok(vec![Reference::parse(text)?]),
        _ => {
            let saved: Vec<SavedImage> = source.document("manifest.json").unwrap_or_default();
            let tags = saved.iter().flat_map(|image| image.repo_tags.iter().flatten());
            Ok(tags.map(|tag| Reference::parse(tag)).collect::<Result<_, _>>()?)
        }
    }
}

fn from_manifest(
    store: &ImageStore,
    source: &Source,
    descriptor: &Descriptor,
    names: &[Reference],
) -> Result<Imported, ImageError> {
    let document: Document = source.blob_document(&descriptor.digest)?;
    let Some(config) = &document.config else {
        let inner = document.for_this_machine().ok_or_else(|| {
            ImageError::Invalid(format!("{} has no image for this machine", descriptor.digest))
        })?;
        if inner.digest == descriptor.digest {
            return Err(ImageError::Invalid(format!("{} contains itself", descriptor.digest)));
        }
        let inner: Document = source.blob_document(&inner.digest)?;
        let config =
            inner.config.clone().ok_or_else(|| ImageError::Invalid("an index in an index".to_owned()))?;
        return unpack_manifest(store, source, &descriptor.digest, &config, &inner, names);
    };
    unpack_manifest(store, source, &descriptor.digest, config, &document, names)
}

fn unpack_manifest(
    store: &ImageStore,
    source: &Source,
    digest: &str,
    config: &Descriptor,
    manifest: &Document,
    names: &[Reference],
) -> Result<Imported, ImageError> {
    let config_bytes = source.blob(&config.digest)?;
    let parsed: ImageConfig = parse(&config.digest, &config_bytes)?;
    if parsed.rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(ImageError::Invalid(format!("{digest}: layers and diff_ids differ in number")));
    }
    let mut chain = Vec::new();
    for (layer, diff_id) in manifest.layers.iter().zip(&parsed.rootfs.diff_ids) {
        let id = store.add_layer(&chain, diff_id, source.open_file(&blob_path(&layer.digest)?)?)?;
        chain.push(id);
    }
    let id = store.add_image(&config_bytes, chain, names, Some(digest))?;
    Ok(Imported { id, names: names.iter().map(Reference::to_string).collect() })
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| ImageError::Invalid(format!("{what}: {error}")))
}

fn blob_path(digest: &str) -> Result<String, ImageError> {
    match digest.split_once(':') {
        Some(("sha256", hex)) if super::reference::is_hex_id(hex) => Ok(format!("blobs/sha256/{hex}")),
        _ => Err(ImageError::Invalid(format!("unsupported digest {digest:?}"))),
    }
}

/// The files of an archive or a directory.
enum Source {
    Directory(PathBuf),
    /// Where each file begins in the (uncompressed) archive, and its size.
    Archive {
        path: PathBuf,
        files: HashMap<String, (u64, u64)>,
        temporary: Option<PathBuf>,
    },
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Source::Archive { temporary: Some(path), .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Source {
    fn open(store: &ImageStore, path: &Path) -> Result<Source, ImageError> {
        let failed = |error| ImageError::io(format!("read {}", path.display()))(error);
        if path.is_dir() {
            return Ok(Source::Directory(path.to_owned()));
        }
        let mut file = File::open(path).map_err(failed)?;
        let mut magic = [0u8; 4];
        let got = file.read(&mut magic).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let compressed = magic[..got].starts_with(&[0x1f, 0x8b]) || magic[..got] == [0x28, 0xb5, 0x2f, 0xfd];
        let mut source = Source::Archive { path: path.to_owned(), files: HashMap::new(), temporary: None };
        if compressed {
            let plain = store.temporary();
            let mut out = File::create(&plain).map_err(failed)?;
            if let Source::Archive { path, temporary, .. } = &mut source {
                (*path, *temporary) = (plain.clone(), Some(plain.clone()));
            }
            io::copy(&mut decompress(file).map_err(failed)?, &mut out).map_err(failed)?;
            file = File::open(&plain).map_err(failed)?;
        }
        let mut archive = tar::Archive::new(file);
        let mut links = Vec::new();
        if let Source::Archive { files, .. } = &mut source {
            for entry in archive.entries_with_seek().map_err(failed)? {
                let entry = entry.map_err(|error| match files.is_empty() {
                    true => not_an_archive(path),
                    false => {
                        ImageError::Invalid(format!("{} is cut short or damaged: {error}", path.display()))
                    }
                })?;
                let name = clean_name(&entry.path().map_err(failed)?);
                match entry.link_name().map_err(failed)? {
                    // Older docker links equal layers to each other.
                    Some(target) => {
                        let dir = Path::new(&name).parent().unwrap_or(Path::new("")).to_owned();
                        links.push((name, clean_name(&dir.join(target))));
                    }
                    None => drop(files.insert(name, (entry.raw_file_position(), entry.size()))),
                }
            }
            for (name, target) in links {
                if let Some(place) = files.get(&target).copied() {
                    files.insert(name, place);
                }
            }
        }
        Ok(source)
    }

    fn open_file(&self, name: &str) -> Result<Box<dyn Read>, ImageError> {
        let missing = || ImageError::Invalid(format!("the archive has no {name}"));
        match self {
            Source::Directory(dir) => {
                let root =
                    kernel::rootdir::RootDir::open(dir).map_err(ImageError::io(dir.display().to_string()))?;
                let fd = root
                    .open_at(Path::new(name), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
                    .map_err(|_| missing())?;
                Ok(Box::new(File::from(fd)))
            }
            Source::Archive { path, files, .. } => {
                let (offset, size) = *files.get(&clean_name(Path::new(name))).ok_or_else(missing)?;
                let mut file = File::open(path).map_err(ImageError::io(path.display().to_string()))?;
                file.seek(SeekFrom::Start(offset)).map_err(ImageError::io(path.display().to_string()))?;
                Ok(Box::new(file.take(size)))
            }
        }
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let file = self.open_file(name)?;
        file.take(MAX_DOCUMENT).read_to_end(&mut bytes).map_err(ImageError::io(name.to_owned()))?;
        Ok(bytes)
    }

    fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ImageError> {
        parse(name, &self.bytes(name)?)
    }

    /// A blob of a layout, checked against its digest.
    fn blob(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        let bytes = self.bytes(&blob_path(digest)?)?;
        let (got, _) = Hashing::new(bytes.as_slice()).finish().map_err(ImageError::io("hash"))?;
        match got == digest {
            true => Ok(bytes),
            false => Err(ImageError::Digest { expected: digest.to_owned(), got }),
        }
    }

    fn blob_document(&self, digest: &str) -> Result<Document, ImageError> {
        parse(digest, &self.blob(digest)?)
    }
}

fn clean_name(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            std::path::Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}
