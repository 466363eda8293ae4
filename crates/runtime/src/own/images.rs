//! CRI's image calls, on the image store.

use super::lifecycle::Inner;
use super::state;
use crate::cri::{self, Code, Error, v1};
use crate::image::Image;
use crate::image::pull::{PullError, pull};

impl Inner {
    pub fn list_images(&self, filter: Option<v1::ImageFilter>) -> Vec<v1::Image> {
        let wanted = filter.and_then(|filter| filter.image).map(|spec| spec.image).unwrap_or_default();
        match wanted.as_str() {
            "" => self.images.list().iter().map(describe).collect(),
            name => self.images.find(name).iter().map(describe).collect(),
        }
    }

    pub fn image_status(&self, request: &v1::ImageStatusRequest) -> v1::ImageStatusResponse {
        let name = request.image.as_ref().map_or("", |spec| spec.image.as_str());
        let image = self.images.find(name);
        let mut response =
            v1::ImageStatusResponse { image: image.as_ref().map(describe), ..Default::default() };
        if let (true, Some(image)) = (request.verbose, &image) {
            let text = serde_json::json!({ "chainID": image.record.chain.last(), "imageSpec": image.config });
            response.info.insert("info".to_owned(), text.to_string());
        }
        response
    }

    /// Answers what CRI calls the image's reference.
    pub async fn pull_image(&self, request: v1::PullImageRequest) -> cri::Result<String> {
        let name = request.image.map(|spec| spec.image).unwrap_or_default();
        let auth = request.auth.as_ref();
        let id = pull(&self.images, &self.config.registries, &name, auth).await.map_err(|error| {
            let code = match &error {
                PullError::NotFound { .. } | PullError::Platform { .. } => Code::NotFound,
                PullError::Reference(_) => Code::InvalidArgument,
                PullError::Denied { .. } | PullError::Failed { .. } => Code::Unknown,
            };
            Error::new(code, error.to_string())
        })?;
        let found =
            self.images.find(&id).ok_or_else(|| Error::internal(format!("image {id} has vanished")))?;
        Ok(found.reference())
    }

    pub async fn remove_image(&self, spec: Option<v1::ImageSpec>) -> cri::Result<()> {
        let name = spec.map(|spec| spec.image).unwrap_or_default();
        self.images.remove(&name).map_err(|error| Error::unknown(crate::image::chain(&error)))
    }

    pub fn image_fs_info(&self) -> v1::ImageFsInfoResponse {
        let (bytes, layers) = self.images.usage();
        let usage = |dir: &std::path::Path, bytes: u64, inodes: u64| v1::FilesystemUsage {
            timestamp: state::now(),
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: dir.to_string_lossy().into_owned() }),
            used_bytes: Some(v1::UInt64Value { value: bytes }),
            inodes_used: Some(v1::UInt64Value { value: inodes }),
        };
        v1::ImageFsInfoResponse {
            image_filesystems: vec![usage(self.images.root(), bytes, layers)],
            container_filesystems: vec![usage(&self.config.root.join("containers"), 0, 0)],
        }
    }
}

fn describe(image: &Image) -> v1::Image {
    let user = image.config.config.user.split(':').next().unwrap_or("");
    let uid = user.parse().ok().map(|value| v1::Int64Value { value });
    v1::Image {
        id: image.id.clone(),
        repo_tags: image.record.tags.iter().cloned().collect(),
        repo_digests: image.record.digests.iter().cloned().collect(),
        size: image.record.size,
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        uid,
        spec: Some(v1::ImageSpec { image: image.id.clone(), ..Default::default() }),
        pinned: image.record.pinned,
    }
}
