//! A stand-in for the API server: objects in a map, with watches and strategic merge patches. No validation.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use machinery::GroupVersionKind;
use serde_json::{Value, json};
use tokio::sync::broadcast;

#[derive(Clone)]
struct Event {
    kind: &'static str,
    collection: String,
    object: Value,
    old: Option<Value>,
}

struct State {
    /// By (collection path, name).
    objects: BTreeMap<(String, String), Value>,
    revision: u64,
}

#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<Event>,
}

struct Target {
    collection: String,
    name: Option<String>,
    sub: Option<String>,
}

fn target(path: &str) -> Target {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let base = if parts[0] == "api" { 2 } else { 3 };
    let namespaced = parts.get(base) == Some(&"namespaces") && parts.len() > base + 2;
    let resource = if namespaced { base + 2 } else { base };
    Target {
        collection: format!("/{}", parts[..=resource].join("/")),
        name: parts.get(resource + 1).map(|s| (*s).to_owned()),
        sub: parts.get(resource + 2).map(|s| (*s).to_owned()),
    }
}

/// The collection of all namespaces, for an object of one.
fn cluster_wide(collection: &str) -> String {
    let parts: Vec<&str> = collection.trim_matches('/').split('/').collect();
    match parts.iter().position(|p| *p == "namespaces") {
        Some(at) if parts.len() > at + 2 => {
            let kept: Vec<&str> = parts[..at].iter().chain(&parts[at + 2..]).copied().collect();
            format!("/{}", kept.join("/"))
        }
        _ => collection.to_owned(),
    }
}

fn selected(query: &BTreeMap<String, String>, object: &Value) -> bool {
    let Some(selector) = query.get("fieldSelector") else { return true };
    selector.split(',').all(|term| {
        let (path, wanted) = term.split_once('=').unwrap();
        let pointer = format!("/{}", path.replace('.', "/"));
        object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default() == wanted
    })
}

fn query(uri: &http::Uri) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let (mut out, bytes) = (vec![], text.as_bytes());
        let mut i = 0;
        while i < bytes.len() {
            if bytes[i] == b'%' {
                out.push(u8::from_str_radix(&text[i + 1..i + 3], 16).unwrap());
                i += 3;
            } else {
                out.push(bytes[i]);
                i += 1;
            }
        }
        String::from_utf8(out).unwrap()
    };
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|p| p.split_once('='));
    pairs.map(|(k, v)| (decode(k), decode(v))).collect()
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

fn answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(serde_json::to_vec(body).unwrap())).boxed();
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}

fn failure(code: u16, reason: &str, message: String) -> Answer {
    answer(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": message, "metadata": {}, "details": {}}),
    )
}

impl Api {
    pub fn new() -> Self {
        let state = State { objects: BTreeMap::new(), revision: 1 };
        Api { state: Arc::new(Mutex::new(state)), events: broadcast::channel(4096).0 }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        client::transport::in_process(
            tower::service_fn(move |request: Request<Body>| {
                let api = api.clone();
                async move { Ok::<_, Infallible>(api.handle(request).await) }
            }),
            "test",
        )
    }

    /// Puts in or replaces an object, as a user would with apply.
    pub fn put(&self, collection: &str, mut object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut state = self.state.lock().unwrap();
        let old = state.objects.get(&(collection.to_owned(), name.clone())).cloned();
        if let Some(old) = &old {
            object["metadata"]["uid"] = old["metadata"]["uid"].clone();
        }
        self.write(&mut state, collection, &name, object, old)
    }

    pub fn get(&self, collection: &str, name: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(&(collection.to_owned(), name.to_owned())).cloned()
    }

    pub fn list(&self, collection: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.objects.iter().filter(|((c, _), _)| c == collection).map(|(_, o)| o.clone()).collect()
    }

    /// Takes an object out at once, as a forced delete does.
    pub fn remove(&self, collection: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        let old = state.objects.remove(&(collection.to_owned(), name.to_owned()));
        if let Some(old) = old {
            state.revision += 1;
            let mut object = old.clone();
            object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
            let _ = self.events.send(Event {
                kind: "DELETED",
                collection: collection.into(),
                object,
                old: Some(old),
            });
        }
    }

    fn write(
        &self,
        state: &mut State,
        collection: &str,
        name: &str,
        mut object: Value,
        old: Option<Value>,
    ) -> Value {
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", state.revision));
        }
        state.objects.insert((collection.to_owned(), name.to_owned()), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        let _ = self.events.send(Event { kind, collection: collection.into(), object: object.clone(), old });
        object
    }

    async fn handle(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let target = target(parts.uri.path());
        let query = query(&parts.uri);
        let body = body.collect().await.unwrap().to_bytes();
        let value = || serde_json::from_slice::<Value>(&body).unwrap_or(Value::Null);
        match (&parts.method, &target.name) {
            (&Method::GET, None) if query.get("watch").is_some_and(|w| w == "true" || w == "1") => {
                self.watch(&target.collection, query)
            }
            (&Method::GET, None) => self.list_page(&target.collection, &query),
            (&Method::GET, Some(name)) => match self.get(&target.collection, name) {
                Some(found) => answer(200, &found),
                None => failure(404, "NotFound", format!("{name:?} not found")),
            },
            (&Method::POST, Some(name)) if target.sub.as_deref() == Some("token") => answer(
                201,
                &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": value()["spec"], "metadata": {},
                    "status": {"token": format!("token-of-{name}"), "expirationTimestamp": "2099-01-01T00:00:00Z"}}),
            ),
            (&Method::POST, None) if target.collection.ends_with("/tokenreviews") => {
                let mut review = value();
                let good = review["spec"]["token"] == "good-token";
                review["status"] =
                    json!({"authenticated": good, "user": {"username": "admin", "groups": []}});
                answer(201, &review)
            }
            (&Method::POST, None) if target.collection.ends_with("/subjectaccessreviews") => {
                let mut review = value();
                review["status"] = json!({"allowed": review["spec"]["user"] == "admin"});
                answer(201, &review)
            }
            (&Method::POST, None) => self.create(&target.collection, value()),
            (&Method::PUT, Some(name)) => {
                let mut state = self.state.lock().unwrap();
                let old = state.objects.get(&(target.collection.clone(), name.clone())).cloned();
                answer(200, &self.write(&mut state, &target.collection, name, value(), old))
            }
            (&Method::PATCH, Some(name)) => self.patch(&target, name, &value()),
            (&Method::DELETE, Some(name)) => self.delete(&target.collection, name, &value()),
            _ => failure(405, "MethodNotAllowed", "not here".into()),
        }
    }

    fn create(&self, collection: &str, object: Value) -> Answer {
        let name = object["metadata"]["name"].as_str().unwrap_or("generated").to_owned();
        let mut state = self.state.lock().unwrap();
        if state.objects.contains_key(&(collection.to_owned(), name.clone())) {
            return failure(409, "AlreadyExists", format!("{name} exists"));
        }
        answer(201, &self.write(&mut state, collection, &name, object, None))
    }

    fn patch(&self, target: &Target, name: &str, patch: &Value) -> Answer {
        let mut state = self.state.lock().unwrap();
        let Some(old) = state.objects.get(&(target.collection.clone(), name.to_owned())).cloned() else {
            return failure(404, "NotFound", format!("{name:?} not found"));
        };
        let uid = &patch["metadata"]["uid"];
        if !uid.is_null() && *uid != old["metadata"]["uid"] {
            return failure(409, "Conflict", "uid differs".into());
        }
        let kind = match target.collection.rsplit('/').next() {
            Some("pods") => "Pod",
            Some("nodes") => "Node",
            _ => "Event",
        };
        let gvk = GroupVersionKind { group: String::new().into(), version: "v1".into(), kind: kind.into() };
        let schema = machinery::schema::of_kind(&gvk).unwrap();
        match machinery::patch::strategic::apply(schema, &old, patch) {
            Ok(new) => answer(200, &self.write(&mut state, &target.collection, name, new, Some(old))),
            Err(e) => failure(400, "BadRequest", format!("{e:?}")),
        }
    }

    /// Pods are deleted gracefully, unless the grace is 0.
    fn delete(&self, collection: &str, name: &str, options: &Value) -> Answer {
        let Some(mut object) = self.get(collection, name) else {
            return failure(404, "NotFound", format!("{name:?} not found"));
        };
        let grace = options["gracePeriodSeconds"].as_i64();
        let wanted = options.pointer("/preconditions/uid");
        if wanted.is_some_and(|uid| *uid != object["metadata"]["uid"]) {
            return failure(409, "Conflict", "uid differs".into());
        }
        if collection.ends_with("/pods") && grace != Some(0) {
            let spec = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
            object["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
            object["metadata"]["deletionGracePeriodSeconds"] = json!(grace.unwrap_or(spec));
            return answer(200, &self.put(collection, object));
        }
        self.remove(collection, name);
        answer(200, &object)
    }

    fn in_collection(&self, asked: &str, event: &str) -> bool {
        asked == event || asked == cluster_wide(event)
    }

    fn list_page(&self, collection: &str, query: &BTreeMap<String, String>) -> Answer {
        let state = self.state.lock().unwrap();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|((c, _), o)| self.in_collection(collection, c) && selected(query, o))
            .map(|(_, o)| o)
            .collect();
        answer(
            200,
            &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.revision.to_string()}, "items": items}),
        )
    }

    fn watch(&self, collection: &str, query: BTreeMap<String, String>) -> Answer {
        if query.contains_key("sendInitialEvents") {
            return failure(422, "Invalid", "no streaming lists".into());
        }
        let api = self.clone();
        let collection = collection.to_owned();
        let from: u64 = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
        let (receiver, missed) = {
            // What was written between the list and the watch.
            let state = self.state.lock().unwrap();
            let newer =
                |o: &Value| o["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > from;
            let missed: Vec<Event> = state
                .objects
                .iter()
                .filter(|((c, _), o)| self.in_collection(&collection, c) && newer(o))
                .map(|((c, _), o)| Event {
                    kind: "ADDED",
                    collection: c.clone(),
                    object: o.clone(),
                    old: None,
                })
                .collect();
            (self.events.subscribe(), missed)
        };
        let live = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.ok().map(|event| (event, receiver))
        });
        let frames = futures_util::stream::iter(missed).chain(live).filter_map(move |event| {
            let line = (api.in_collection(&collection, &event.collection)).then(|| {
                let now = selected(&query, &event.object);
                let before = event.old.as_ref().is_some_and(|o| selected(&query, o));
                let kind = match (event.kind, before, now) {
                    ("DELETED", ..) if before || now => "DELETED",
                    (_, true, false) => "DELETED",
                    (_, false, true) => "ADDED",
                    (_, true, true) => "MODIFIED",
                    _ => return None,
                };
                Some(format!("{}\n", json!({"type": kind, "object": event.object})))
            });
            let frame = line.flatten().map(|line| Ok::<_, Infallible>(Frame::data(Bytes::from(line))));
            std::future::ready(frame)
        });
        let body = BodyExt::boxed(StreamBody::new(frames));
        Response::builder().status(200).header("content-type", "application/json").body(body).unwrap()
    }
}
