//! What `r8s image …` asks for and gets, in the same words whether a running server does it (over its control socket)
//! or, when none runs, the command itself.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use runtime::Runtime;
use runtime::cri::{RuntimeService, v1};
use runtime::image::manifest::RunConfig;
use runtime::image::pull::Registries;
use runtime::image::{self, ImageStore, Reference};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Request {
    Import {
        path: PathBuf,
        name: Option<String>,
    },
    Build {
        folder: PathBuf,
        name: String,
        run: RunConfig,
    },
    Remove {
        name: String,
    },
    /// Fetch from a registry.
    Pull {
        name: String,
        user: String,
        password: String,
    },
    /// Remove what no container uses (only the running server knows).
    Prune,
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
            let named = |image: image::archive::Imported| {
                let found = store.find(&image.id).map(describe)?;
                Some(Image { names: image.names, ..found })
            };
            Ok(imported.into_iter().filter_map(named).collect())
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
        Request::Pull { .. } | Request::Prune => bail!("this needs more than the store"),
        Request::List => {
            let mut all: Vec<Image> = store.list().into_iter().map(describe).collect();
            all.sort_by(|a, b| a.names.cmp(&b.names));
            Ok(all)
        }
    }
}

/// Does it with the runtime that runs the pods: also what the store alone cannot do.
pub async fn perform_with(runtime: &Runtime, request: Request) -> Result<Vec<Image>> {
    let store = runtime.images().clone();
    match request {
        Request::Pull { name, user, password } => pull(&store, &name, user, password).await,
        Request::Prune => {
            let all = runtime.list_containers(v1::ListContainersRequest::default()).await?.containers;
            let used: HashSet<String> = all.into_iter().map(|container| container.image_id).collect();
            let unused: Vec<image::Image> = store
                .list()
                .into_iter()
                .filter(|image| !image.record.pinned && !used.contains(&image.id))
                .collect();
            tokio::task::spawn_blocking(move || {
                for image in &unused {
                    store.remove(&image.id)?;
                }
                Ok(unused.into_iter().map(describe).collect())
            })
            .await?
        }
        request => tokio::task::spawn_blocking(move || perform(&store, request)).await?,
    }
}

/// Fetches an image from its registry.
pub async fn pull(store: &Arc<ImageStore>, name: &str, user: String, password: String) -> Result<Vec<Image>> {
    let auth = (!user.is_empty()).then(|| v1::AuthConfig { username: user, password, ..Default::default() });
    let id =
        image::pull::pull(store, &Registries::default(), &parse(name)?.to_string(), auth.as_ref()).await?;
    Ok(store.find(&id).map(describe).into_iter().collect())
}

fn parse(name: &str) -> Result<Reference> {
    Reference::parse(name)
        .ok()
        .with_context(|| format!("{name:?} is not an image name like example.org/web:1"))
}

fn describe(image: image::Image) -> Image {
    let image::Image { id, record, .. } = image;
    Image { id, names: record.tags.iter().chain(&record.digests).cloned().collect(), size: record.size }
}
