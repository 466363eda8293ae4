//! What `r8s image …` asks for and gets, in the same words whether a running server does it (over its control socket)
//! or, when none runs, the command itself.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use runtime::image::manifest::RunConfig;
use runtime::image::{self, ImageStore, Reference};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Request {
    Import { path: PathBuf, name: Option<String> },
    Build { folder: PathBuf, name: String, run: RunConfig },
    Remove { name: String },
    List,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    pub id: String,
    pub names: Vec<String>,
    /// Bytes, unpacked.
    pub size: u64,
}

/// Does it; blocks. The images that came of it (import, build) or that there are (list).
pub fn perform(store: &ImageStore, request: Request) -> Result<Vec<Image>> {
    match request {
        Request::Import { path, name } => {
            let name = name.as_deref().map(parse).transpose()?;
            let imported = image::archive::import(store, &path, name.as_ref())?;
            Ok(imported.into_iter().filter_map(|image| store.find(&image.id)).map(describe).collect())
        }
        Request::Build { folder, name, run } => {
            let id = image::build::from_folder(store, &folder, &parse(&name)?, run)?;
            Ok(store.find(&id).map(describe).into_iter().collect())
        }
        Request::Remove { name } => {
            let Some(found) = store.find(&name) else {
                bail!("there is no image {name:?}\nhint: `r8s image list` shows them")
            };
            store.remove(&name)?;
            Ok(vec![describe(found)])
        }
        Request::List => {
            let mut all: Vec<Image> = store.list().into_iter().map(describe).collect();
            all.sort_by(|a, b| a.names.cmp(&b.names));
            Ok(all)
        }
    }
}

fn parse(name: &str) -> Result<Reference> {
    Reference::parse(name).with_context(|| format!("{name:?} is not an image name like example.org/web:1"))
}

fn describe(image: image::Image) -> Image {
    let image::Image { id, record, .. } = image;
    Image { id, names: record.tags.iter().chain(&record.digests).cloned().collect(), size: record.size }
}
