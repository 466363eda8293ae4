//! The one task of aggregation: it follows APIServices, and, while there are remote ones, Services and EndpointSlices;
//! makes and removes the objects of custom groups; says which remote servers can be used; and learns what they serve.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use machinery::{Get, Status, Value, json, meta};
use tokio::time::Instant;

use super::available::{Condition, decide, is_available};
use super::backend::{Backend, cached, slices};
use super::{Known, Remote, Routes, local};
use crate::cache::{Interest, Subscription};
use crate::kinds::Home;
use crate::registry::{DeleteOptions, UpdateRequest, delete_object, update_object};
use crate::select::Selector;
use crate::server::Core;

const GROUP: &str = "apiregistration.k8s.io";
/// How often a remote server that works is asked again.
const REFRESH: Duration = Duration::from_secs(30);
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// Follows from now on.
pub fn start(core: &Arc<Core>) {
    let Some(home) = home(core, GROUP, "apiservices") else { return };
    tokio::spawn(Follower { core: core.clone(), home, states: BTreeMap::new() }.run());
}

fn home(core: &Core, group: &str, resource: &str) -> Option<Arc<Home>> {
    core.kinds.now().preferred(group, resource)?.home.clone()
}

struct Follower {
    core: Arc<Core>,
    home: Arc<Home>,
    /// Remote APIServices by name.
    states: BTreeMap<String, State>,
}

struct State {
    backend: Arc<Backend>,
    known: Arc<Known>,
    /// What the Service said the last time; a change asks the server anew.
    service: Option<Condition>,
    asked: Option<Condition>,
    next: Instant,
    failures: u32,
}

impl Follower {
    async fn run(mut self) {
        let mut kinds = self.core.kinds.changes();
        let mut objects: Option<Subscription> = None;
        let mut others: Vec<Subscription> = Vec::new();
        loop {
            if objects.is_none() {
                objects = Some(subscribe(&self.home));
            }
            let apis: Vec<Value> = self.home.cache.snapshot().0.values().map(|e| e.parse()).collect();
            self.keep_local(&apis).await;
            self.keep_remote(&apis).await;
            let due = self.states.values().map(|s| s.next).min();
            if self.states.is_empty() {
                others.clear();
            } else if others.is_empty() {
                let homes = [("", "services"), ("discovery.k8s.io", "endpointslices")];
                others =
                    homes.iter().filter_map(|(g, r)| home(&self.core, g, r)).map(|h| subscribe(&h)).collect();
                if !others.is_empty() {
                    // what changed before the subscription began
                    continue;
                }
            }
            let other = async {
                if others.is_empty() {
                    return std::future::pending::<bool>().await;
                }
                let (event, ..) =
                    futures_util::future::select_all(others.iter_mut().map(|s| Box::pin(s.next()))).await;
                event.is_some()
            };
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let changes = objects.as_mut().expect("made above");
            tokio::select! {
                () = self.core.shutdown.cancelled() => return,
                event = changes.next() => {
                    if event.is_none() {
                        objects = None;
                    } else {
                        while changes.try_next().is_some() {}
                    }
                }
                alive = other => {
                    if !alive {
                        others.clear();
                    }
                    for subscription in &mut others {
                        while subscription.try_next().is_some() {}
                    }
                }
                _ = kinds.changed() => {}
                () = timer => {}
            }
        }
    }

    /// The objects of custom groups are there, and no longer than the groups.
    async fn keep_local(&self, apis: &[Value]) {
        let map = self.core.kinds.now();
        if !map.custom_known {
            return;
        }
        let wanted = local::custom(&map);
        let kept = |api: &Value| api.at("metadata").at("labels").text(local::MANAGED) == "true";
        for (group, version) in &wanted {
            let name = format!("{version}.{group}");
            if !apis.iter().any(|api| meta::name(api) == name) {
                let made = crate::bootstrap::ensure(
                    &self.core,
                    GROUP,
                    "apiservices",
                    local::object(group, version, "true"),
                );
                report(&name, made.await);
            }
        }
        for api in apis.iter().filter(|api| kept(api)) {
            let spec = api.at("spec");
            if !wanted.contains(&(spec.text("group"), spec.text("version"))) {
                report(meta::name(api), self.delete(api).await);
            }
        }
    }

    async fn delete(&self, api: &Value) -> Result<(), Status> {
        let Some(resource) = self.core.kinds.now().find(GROUP, "v1", "apiservices") else { return Ok(()) };
        let mut call = self.core.internal_call(resource, "delete", "", meta::name(api));
        delete_object(&mut call, &DeleteOptions::default()).await.map(|_| ())
    }

    /// Asks the remote servers that are due, tells their status, and publishes the routes.
    async fn keep_remote(&mut self, apis: &[Value]) {
        let now = Instant::now();
        let remotes: Vec<(&Value, Backend)> =
            apis.iter().filter_map(|api| Some((api, Backend::of(api)?))).collect();
        self.states.retain(|name, _| remotes.iter().any(|(_, b)| b.name == *name));
        let mut work = Vec::new();
        for (api, backend) in remotes {
            let name = backend.name.clone();
            let key = format!("{}/{}", backend.namespace, backend.service);
            let service = cached(&self.core, "", "services", &key);
            let said =
                decide(&backend, service.as_ref(), &slices(&self.core, &backend.namespace, &backend.service));
            let fresh = self.states.get(&name).is_some_and(|s| s.backend.same(&backend) && s.service == said);
            if !fresh {
                let known = self.states.remove(&name).map(|s| s.known).unwrap_or_default();
                let state = State {
                    backend: Arc::new(backend),
                    known,
                    service: said,
                    asked: None,
                    next: now,
                    failures: 0,
                };
                self.states.insert(name.clone(), state);
            }
            work.push((api, name));
        }
        let asked = work.iter().filter_map(|(api, name)| {
            let state = self.states.get(name)?;
            let due = state.service.is_none() && state.next <= now;
            due.then(|| self.ask(api, name.clone(), state))
        });
        for (name, condition, known) in join_all(asked.collect::<Vec<_>>()).await {
            let Some(state) = self.states.get_mut(&name) else { continue };
            let failed = condition.status != "True";
            state.failures = if failed { state.failures + 1 } else { 0 };
            let wait = if failed { Duration::from_secs(1 << state.failures.min(5)) } else { REFRESH };
            state.next = Instant::now() + wait.min(REFRESH);
            state.known = Arc::new(known);
            state.asked = Some(condition);
        }
        let mut routes = Routes::default();
        for (api, name) in work {
            let Some(state) = self.states.get_mut(&name) else { continue };
            if state.service.is_some() {
                // nothing to do before something changes
                state.next = now + Duration::from_secs(24 * 3600);
            }
            let condition = state.service.clone().or(state.asked.clone());
            if let Some(condition) = condition.filter(|c| !c.is_in(api)) {
                report(&name, tell(&self.core, api, &condition).await);
            }
            let said = state.service.as_ref().or(state.asked.as_ref());
            let available = said.map_or_else(|| is_available(api), |c| c.status == "True");
            let known = if available || !state.known.current {
                state.known.clone()
            } else {
                let Known { resources, openapi, openapi_v2, .. } = &*state.known;
                let stale = Known {
                    resources: resources.clone(),
                    current: false,
                    openapi: openapi.clone(),
                    openapi_v2: openapi_v2.clone(),
                };
                Arc::new(stale)
            };
            let spec = api.at("spec");
            let remote = Remote {
                group: spec.text("group").to_owned(),
                version: spec.text("version").to_owned(),
                group_priority: spec.int("groupPriorityMinimum").unwrap_or(0),
                version_priority: spec.int("versionPriority").unwrap_or(0),
                available,
                known,
                backend: state.backend.clone(),
            };
            routes.remotes.insert((remote.group.clone(), remote.version.clone()), Arc::new(remote));
        }
        if !routes.remotes.is_empty() || !self.core.aggregator.now().remotes.is_empty() {
            self.core.aggregator.replace(routes);
        }
    }

    async fn ask(&self, api: &Value, name: String, state: &State) -> (String, Condition, Known) {
        let (group, version) = (api.at("spec").text("group"), api.at("spec").text("version"));
        let (core, backend) = (&self.core, &state.backend);
        let path =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let old = &state.known;
        let stale = |resources: Vec<Value>| Known {
            resources,
            current: false,
            openapi: old.openapi.clone(),
            openapi_v2: old.openapi_v2.clone(),
        };
        let legacy = match backend.get(core, &path, "application/json").await {
            Ok((200..300, _, body)) => body,
            Ok((code, ..)) => {
                let place =
                    backend.resolve(core).map(|(h, p)| format!("https://{h}:{p}{path}")).unwrap_or_default();
                let message =
                    format!("failing or missing response from {place}: bad status from {place}: {code}");
                return (name, Condition::failed(message), stale(old.resources.clone()));
            }
            Err(message) => return (name, Condition::failed(message), stale(old.resources.clone())),
        };
        let resources = match aggregated(core, backend, group, version).await {
            Some(found) => found,
            None => from_legacy(&serde_json::from_slice(&legacy).unwrap_or_default(), group, version),
        };
        let openapi = openapi_hash(core, backend, &path).await;
        let openapi_v2 = match backend.get(core, "/openapi/v2", "application/json").await {
            Ok((200, headers, body)) if !headers.contains_key("content-encoding") => deflate(&body),
            _ => None,
        };
        (name, Condition::passed(), Known { resources, current: true, openapi, openapi_v2 })
    }
}

fn subscribe(home: &Home) -> Subscription {
    home.cache.watch_now(Interest::new("", Selector::default())).0
}

fn report(name: &str, result: Result<(), Status>) {
    if let Err(status) = result
        && !matches!(status.code, 404 | 409)
    {
        tracing::warn!(name, %status, "can't keep up an APIService");
    }
}

/// Writes the condition into the status of the object, if it is still the same object.
async fn tell(core: &Arc<Core>, api: &Value, condition: &Condition) -> Result<(), Status> {
    let Some(resource) = core.kinds.now().find(GROUP, "v1", "apiservices") else { return Ok(()) };
    let mut call = core.internal_call(resource, "update", "", meta::name(api));
    call.info.subresource = "status".to_owned();
    let options = crate::bootstrap::options();
    let now = crate::registry::fields::timestamp(jiff::Timestamp::now());
    let request = UpdateRequest {
        options: &options,
        uid: Some(meta::uid(api).to_owned()),
        may_create: false,
        fields_done: false,
        change: &mut |_, old| {
            let mut new = old.clone();
            condition.set(&mut new, &now);
            Ok(new)
        },
    };
    update_object(&mut call, request).await.map(|_| ())
}

/// The resources of a group-version by the server's aggregated discovery.
async fn aggregated(core: &Core, backend: &Backend, group: &str, version: &str) -> Option<Vec<Value>> {
    let (code, headers, body) = backend.get(core, "/apis", DISCOVERY).await.ok()?;
    let kind = headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?.to_owned();
    if code != 200 || !kind.contains("g=apidiscovery.k8s.io") {
        return None;
    }
    let list: Value = serde_json::from_slice(&body).ok()?;
    let item = list.list("items").iter().find(|item| item.at("metadata").text("name") == group)?;
    let found = item.list("versions").iter().find(|v| v.text("version") == version);
    Some(found.map(|v| v.list("resources").to_vec()).unwrap_or_default())
}

/// The same out of an APIResourceList.
fn from_legacy(list: &Value, group: &str, version: &str) -> Vec<Value> {
    let kind = |entry: &Value| {
        let or = |key: &str, other: &str| match entry.text(key) {
            "" => other.to_owned(),
            own => own.to_owned(),
        };
        json!({"group": or("group", group), "version": or("version", version), "kind": entry.text("kind")})
    };
    let mut out: Vec<Value> = Vec::new();
    for entry in list.list("resources") {
        let name = entry.text("name");
        if let Some((resource, sub)) = name.split_once('/') {
            let sub = json!({"subresource": sub, "responseKind": kind(entry), "verbs": entry.list("verbs")});
            if let Some(parent) = out.iter_mut().find(|r| r.text("resource") == resource) {
                let mut all = parent.list("subresources").to_vec();
                all.push(sub);
                parent.set("subresources", all);
            }
            continue;
        }
        let scope = if entry.flag("namespaced") == Some(true) { "Namespaced" } else { "Cluster" };
        let mut item = json!({"resource": name, "responseKind": kind(entry), "scope": scope,
            "singularResource": entry.text("singularName"), "verbs": entry.list("verbs")});
        for key in ["shortNames", "categories"] {
            if entry.has(key) {
                item.set(key, entry.at(key).clone());
            }
        }
        out.push(item);
    }
    out
}

/// The hash that the server gives its OpenAPI v3 document of a path.
async fn openapi_hash(core: &Core, backend: &Backend, path: &str) -> Option<String> {
    let (code, _, body) = backend.get(core, "/openapi/v3", "application/json").await.ok()?;
    if code != 200 {
        return None;
    }
    let index: Value = serde_json::from_slice(&body).ok()?;
    let url = index.at("paths").at(path.trim_start_matches('/')).text("serverRelativeURL").to_owned();
    url.split_once("hash=").map(|(_, hash)| hash.to_owned())
}

fn deflate(content: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_discovery_is_turned_into_the_aggregated_form() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["update"]},
        ]});
        let out = from_legacy(&list, "g", "v1");
        assert_eq!(out.len(), 1);
        assert_eq!(out[0]["responseKind"], json!({"group": "g", "version": "v1", "kind": "Flunder"}));
        assert_eq!(out[0]["scope"], "Namespaced");
        assert_eq!(out[0]["subresources"][0]["subresource"], "status");
    }
}
