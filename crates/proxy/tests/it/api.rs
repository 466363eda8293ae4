//! Just enough of an API server: objects by kind, lists as streams, changes to whoever watches.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Watcher = mpsc::UnboundedSender<Bytes>;

#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    revision: u64,
    /// By plural, then `namespace/name`.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    watchers: BTreeMap<String, Vec<Watcher>>,
}

impl Api {
    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        client::transport::in_process(service, "test")
    }

    pub fn put(&self, mut object: Value) {
        let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
        let meta = &object["metadata"];
        let key = format!("{}/{}", meta["namespace"].as_str().unwrap_or(""), meta["name"].as_str().unwrap());
        let mut state = self.0.lock().unwrap();
        state.revision += 1;
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        object["metadata"]["uid"] = key.clone().into();
        let old = state.objects.entry(plural.clone()).or_default().insert(key, object.clone());
        state.tell(&plural, if old.is_some() { "MODIFIED" } else { "ADDED" }, object);
    }

    pub fn delete(&self, plural: &str, key: &str) {
        let mut state = self.0.lock().unwrap();
        state.revision += 1;
        let mut object = state.objects.get_mut(plural).unwrap().remove(key).unwrap();
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        state.tell(plural, "DELETED", object);
    }

    pub fn get(&self, plural: &str, key: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(plural)?.get(key).cloned()
    }

    async fn answer(&self, request: Request<Body>) -> Response<StreamBody<Chunks>> {
        let (parts, body) = request.into_parts();
        // /api/v1/… or /apis/GROUP/v1/…, with or without namespaces/NAME
        let segments: Vec<&str> = parts.uri.path().split('/').filter(|s| !s.is_empty()).collect();
        let tail = &segments[if segments[0] == "api" { 2 } else { 3 }..];
        let (namespace, tail) = match tail {
            ["namespaces", namespace, tail @ ..] if !tail.is_empty() => (*namespace, tail),
            tail => ("", tail),
        };
        if parts.uri.query().is_some_and(|q| q.contains("watch")) {
            return self.watch(tail[0]);
        }
        if parts.method == Method::GET {
            let found = self.get(tail[0], &format!("{namespace}/{}", tail[1]));
            let missing = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": ""});
            return whole(if found.is_some() { 200 } else { 404 }, found.unwrap_or(missing));
        }
        let object: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        self.put(object.clone());
        whole(200, object)
    }

    fn watch(&self, plural: &str) -> Response<StreamBody<Chunks>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.0.lock().unwrap();
        for object in state.objects.get(plural).iter().flat_map(|o| o.values()) {
            sender.send(line("ADDED", object)).unwrap();
        }
        let end = json!({"metadata": {"resourceVersion": state.revision.to_string(),
            "annotations": {"k8s.io/initial-events-end": "true"}}});
        sender.send(line("BOOKMARK", &end)).unwrap();
        state.watchers.entry(plural.to_string()).or_default().push(sender);
        Response::new(StreamBody::new(chunks(receiver)))
    }
}

impl State {
    fn tell(&mut self, plural: &str, kind: &str, object: Value) {
        let watchers = self.watchers.entry(plural.to_string()).or_default();
        watchers.retain(|watcher| watcher.send(line(kind, &object)).is_ok());
    }
}

type Chunks = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

fn chunks(receiver: mpsc::UnboundedReceiver<Bytes>) -> Chunks {
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async {
        let chunk = receiver.recv().await?;
        Some((Ok(Frame::data(chunk)), receiver))
    }))
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut bytes = serde_json::to_vec(&json!({"type": kind, "object": object})).unwrap();
    bytes.push(b'\n');
    bytes.into()
}

fn whole(status: u16, object: Value) -> Response<StreamBody<Chunks>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send(serde_json::to_vec(&object).unwrap().into()).unwrap();
    Response::builder().status(status).body(StreamBody::new(chunks(receiver))).unwrap()
}
