//! Small images out of a folder, without a builder or a registry: for examples, tests and appliances.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use super::manifest::{ImageConfig, RootFs, RunConfig, host_architecture};
use super::reference::Reference;
use super::store::{ImageError, ImageStore};
use super::unpack::Hashing;

/// Makes a one-layer image of everything in `folder` (owned by root in the image) named `name`, and adds
/// it to the store. The same folder and settings give the same image. Blocks; answers the image id.
pub fn from_folder(
    store: &ImageStore,
    folder: &Path,
    name: &Reference,
    run: RunConfig,
) -> Result<String, ImageError> {
    let failed = |error| ImageError::io(format!("read {}", folder.display()))(error);
    let _adding = store.adding();
    let path = store.temporary();
    let file = File::options().create_new(true).read(true).write(true).open(&path).map_err(failed)?;
    // Unlinked at once: it lives as long as it is open.
    std::fs::remove_file(&path).map_err(failed)?;
    let mut builder = tar::Builder::new(file);
    builder.follow_symlinks(false);
    builder.mode(tar::HeaderMode::Deterministic);
    append(&mut builder, folder, Path::new("")).map_err(failed)?;
    let mut file = builder.into_inner().map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let (diff_id, _) = Hashing::new(&mut file).finish().map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let chain = store.add_layer(&[], &diff_id, &mut file)?;
    let config = ImageConfig {
        architecture: host_architecture().to_owned(),
        os: "linux".to_owned(),
        config: run,
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
    };
    let config = serde_json::to_vec(&config).map_err(|error| ImageError::Invalid(error.to_string()))?;
    store.add_image(&config, vec![chain], std::slice::from_ref(name), None)
}

fn append(builder: &mut tar::Builder<File>, folder: &Path, inside: &Path) -> std::io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder.join(inside))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = inside.join(entry.file_name());
        builder.append_path_with_name(entry.path(), &name)?;
        if entry.file_type()?.is_dir() {
            append(builder, folder, &name)?;
        }
    }
    Ok(())
}
