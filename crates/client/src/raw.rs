//! Requests by path, for kinds that are known only at run time.

use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How a request's body is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Json,
    MergePatch,
    StrategicMergePatch,
}

impl Content {
    fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MergePatch => "application/merge-patch+json",
            Self::StrategicMergePatch => "application/strategic-merge-patch+json",
        }
    }
}

const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// Sends `body` and drops the answer's content.
pub async fn send(
    client: &kube::Client,
    method: &str,
    path: &str,
    content: Content,
    body: &serde_json::Value,
) -> Result<(), kube::Error> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, content.as_str())
        .header(ACCEPT, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request_text(request).await.map(drop)
}

/// What stands at a path, as JSON.
pub async fn get<T: DeserializeOwned>(client: &kube::Client, path: &str) -> Result<T, kube::Error> {
    let request = Request::get(path)
        .header(ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}

/// The metadata of one object, as any type that has a field `metadata`.
pub async fn get_metadata<T: DeserializeOwned>(client: &kube::Client, path: &str) -> Result<T, kube::Error> {
    let request =
        Request::get(path).header(ACCEPT, METADATA).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}

/// The metadata of all objects of a collection.
pub async fn list_metadata<T: DeserializeOwned>(
    client: &kube::Client,
    path: &str,
) -> Result<Vec<T>, kube::Error> {
    #[derive(Deserialize)]
    struct List<T> {
        // Go writes a list that was never made as null.
        items: Option<Vec<T>>,
    }
    let request =
        Request::get(path).header(ACCEPT, METADATA_LIST).body(Vec::new()).map_err(kube::Error::HttpError)?;
    Ok(client.request::<List<T>>(request).await?.items.unwrap_or_default())
}
