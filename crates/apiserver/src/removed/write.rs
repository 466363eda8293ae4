//! Bodies that are written: whole objects, and patches, which are applied to the old shape.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt;
use machinery::{Get, GroupVersionKind, Status, Value, meta};

use super::{Passage, from_json};
use crate::codec::{Patch, patch_as};
use crate::front::body::{self, Incoming, collect};
use crate::front::respond::Answer;
use crate::registry::options::Strictness;
use crate::registry::patch::PatchType;

/// How often a patch is tried on an object that others change.
const TRIES: usize = 5;

impl Passage {
    /// Creates and updates.
    pub(super) async fn write(&self, body: Incoming, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let mut object = self.read(body).await?;
        self.to_now(&mut object);
        let mut request = self.request(Method::clone(&self.head.method), from_json(&object));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.route(request, warnings).await
    }

    fn request(&self, method: Method, body: Incoming) -> Request<Incoming> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.head.uri.clone();
        *request.headers_mut() = self.head.headers.clone();
        request
    }

    pub(super) async fn patch(&self, body: Incoming, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let given = self.head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let kind = match given.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => PatchType::Json,
            "application/merge-patch+json" => PatchType::Merge,
            "application/strategic-merge-patch+json" => PatchType::Strategic,
            "application/apply-patch+yaml" => {
                let mut object = self.read(body).await?;
                self.to_now(&mut object);
                return self.route(self.request(Method::PATCH, from_json(&object)), warnings).await;
            }
            // today's API knows what to say
            _ => return self.send(body, warnings).await,
        };
        let bytes = collect(body, self.core.config.max_body).await?;
        let patch = Patch::parse(kind, &bytes, Strictness::Ignore, warnings)?;
        let (group, version) = self.removed.now;
        let today = GroupVersionKind::new(group, version, self.removed.kind);
        let mut tries = 0;
        loop {
            tries += 1;
            let live = match self.live().await? {
                Ok(live) => live,
                Err(answer) => return Ok(answer),
            };
            let mut object = patch_as(&patch, &live, &today)?;
            let own = meta::resource_version(&object) != meta::resource_version(&live);
            self.to_now(&mut object);
            let mut request = self.request(Method::PUT, from_json(&object));
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let mut said = Vec::new();
            let result = self.route(request, &mut said).await;
            if matches!(&result, Err(status) if status.code == 409) && !own && tries < TRIES {
                continue;
            }
            warnings.append(&mut said);
            return result;
        }
    }

    /// The object as it is now, in the old shape, or the answer that says why there is none.
    async fn live(&self) -> Result<Result<Value, Answer>, Status> {
        let mut request = self.request(Method::GET, body::incoming(http_body_util::Empty::new()));
        let path = request.uri().path().to_owned();
        *request.uri_mut() = path.parse().map_err(|e| Status::bad_request(format!("{e}")))?;
        request.headers_mut().insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
        let answer = self.route(request, &mut Vec::new()).await?;
        if !answer.status().is_success() {
            return Ok(Err(answer));
        }
        let bytes =
            answer.into_body().collect().await.map_err(|e| Status::internal(e.to_string()))?.to_bytes();
        let mut object: Value =
            serde_json::from_slice(&bytes).map_err(|e| Status::internal(e.to_string()))?;
        self.to_old(&mut object);
        if object.text("kind").is_empty() {
            return Err(Status::internal("an object without a kind".to_owned()));
        }
        Ok(Ok(object))
    }
}
