//! `/openapi/v2` and `/openapi/v3`: the published descriptions.
//!
//! A document is made when it is first asked for and kept deflated (some 20 KB each, 300 KB for v2); its hash is that
//! of what it is made from, so the index names hashes without making documents.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, EXPIRES, HeaderName,
    HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use http::request::Parts;
use machinery::openapi::{self, Custom, Options};
use machinery::{Status, Value, json};
use parking_lot::Mutex;

use crate::aggregation::Routes;
use crate::authn::User;
use crate::front::respond::{self, Answer};
use crate::front::{Body, Query};
use crate::kinds::{KindMap, Resource};
use crate::server::Core;

const V2: &[(&str, &str)] = &[
    ("json", "application/json"),
    (
        "com.github.proto-openapi.spec.v2@v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    ),
    (
        "com.github.proto-openapi.spec.v2.v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    ),
];
const V3: &[(&str, &str)] = &[
    ("json", "application/json"),
    (
        "com.github.proto-openapi.spec.v3@v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    ),
    (
        "com.github.proto-openapi.spec.v3.v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    ),
];

/// Documents made so far, deflated: path (and form) to hash and content.
#[derive(Default)]
pub struct Cached(Mutex<HashMap<String, (String, Bytes)>>);

pub async fn answer(
    core: &Arc<Core>,
    parts: &[&str],
    query: &Query,
    head: &Parts,
    user: &User,
) -> Result<Answer, Status> {
    match parts {
        [_, "v2"] => v2(core, head).await,
        [_, "v3"] if head.uri.path().ends_with('/') => Ok(plain(404)),
        [_, "v3"] => Ok(index(core).await),
        [_, "v3", rest @ ..] => {
            let path = rest.join("/");
            match crate::aggregation::fetch_openapi(core, &path, user, head).await {
                Some(answer) => Ok(answer),
                None => v3(core, &path, query, head).await,
            }
        }
        _ => Ok(respond::not_found_text()),
    }
}

/// An answer without words.
fn plain(code: u16) -> Answer {
    let mut answer = respond::bytes(code, "text/plain", Bytes::new());
    answer.headers_mut().remove(CONTENT_TYPE);
    answer
}

fn hex(parts: &[&str]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA512);
    for part in parts {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    context.finish().as_ref().iter().map(|b| format!("{b:02X}")).collect()
}

/// The form that the client wants: the first clause that names one.
fn negotiate(head: &Parts, forms: &[(&str, &'static str)]) -> Option<&'static str> {
    let accept = head.headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    if accept.trim().is_empty() {
        return Some(forms[0].1);
    }
    crate::front::negotiate::clauses(accept).iter().find_map(|clause| {
        let found = forms.iter().find(|(subtype, _)| {
            matches!(clause.kind, "application" | "*")
                && (clause.subtype == *subtype || clause.subtype == "*")
        });
        found.map(|(_, media)| *media)
    })
}

/// What the documents are made of.
struct Sources {
    map: Arc<KindMap>,
    routes: Arc<Routes>,
    custom: Vec<(Arc<Resource>, Vec<String>)>,
    cbor: bool,
}

impl Sources {
    fn new(core: &Core) -> Self {
        let map = core.kinds.now();
        let own = |r: &&Arc<Resource>| r.custom.is_some();
        let fields = |r: &Arc<Resource>| {
            r.home.as_ref().map(|home| home.cache.fields.names().to_vec()).unwrap_or_default()
        };
        let custom = map.all().filter(own).map(|r| (r.clone(), fields(r))).collect();
        let cbor = core.cbor;
        Self { map, routes: core.aggregator.now(), custom, cbor }
    }

    fn with<T>(&self, run: impl FnOnce(&Options) -> T) -> T {
        let served = |group: &str, version: &str, name: &str| {
            self.routes.find(group, version).is_none()
                && self.map.find(group, version, name).is_some_and(|r| r.custom.is_none())
        };
        let custom: Vec<Custom> =
            self.custom.iter().filter_map(|(resource, fields)| custom(resource, fields)).collect();
        run(&Options { version: "1.36", served: &served, cbor: self.cbor, logs: false, custom: &custom })
    }

    /// Stands for everything that a document ("" for v2) says.
    fn hash(&self, core: &Core, path: &str) -> String {
        let mut parts = vec![core.config.git_version.clone(), path.to_owned(), self.cbor.to_string()];
        let of_path = |r: &Resource| {
            path.is_empty()
                || path.strip_prefix("apis/") == Some(&*format!("{}/{}", r.group, r.version))
                || (r.group.is_empty() && path.strip_prefix("api/") == Some(&*r.version))
        };
        for resource in self.map.all().filter(|r| of_path(r)) {
            parts.push(format!("{}/{}/{}", resource.group, resource.version, resource.name));
        }
        for (resource, fields) in self.custom.iter().filter(|(r, _)| of_path(r)) {
            let Some(custom) = &resource.custom else { continue };
            let subresources: Vec<&str> = resource.subresources.iter().map(|s| &*s.name).collect();
            parts.push(format!(
                "{} {} {} {fields:?} {subresources:?} {}",
                resource.kind, resource.list_kind, resource.namespaced, custom.open_api
            ));
        }
        if path.is_empty() {
            // each refresh of a remote one makes a new picture of it
            let remotes = self.routes.remotes.values().filter_map(|r| r.known.openapi_v2.as_ref());
            parts.extend(remotes.map(|content| hex(&[&content.len().to_string(), &crc(content)])));
        }
        hex(&parts.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn custom<'a>(resource: &'a Resource, selectable: &'a [String]) -> Option<Custom<'a>> {
    let custom = resource.custom.as_ref()?;
    Some(Custom {
        group: &resource.group,
        version: &resource.version,
        plural: &resource.name,
        kind: &resource.kind,
        list_kind: &resource.list_kind,
        namespaced: resource.namespaced,
        schema: &custom.open_api,
        preserve: false,
        has_status: resource.subresource("status").is_some(),
        has_scale: resource.subresource("scale").is_some(),
        selectable,
    })
}

async fn index(core: &Arc<Core>) -> Answer {
    let sources = Sources::new(core);
    let mut paths = machinery::Map::new();
    for path in sources.with(openapi::v3_paths) {
        let url = format!("/openapi/v3/{path}?hash={}", sources.hash(core, &path));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    for remote in sources.routes.remotes.values() {
        let path = format!("apis/{}/{}", remote.group, remote.version);
        match remote.known.openapi.as_deref() {
            Some("") => {
                paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}")}));
            }
            Some(hash) => {
                let url = format!("/openapi/v3/{path}?hash={hash}");
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
            None => {}
        }
    }
    let body = respond::json(&json!({"paths": Value::Object(paths)}), false);
    let mut answer = respond::bytes(200, "text/plain; charset=utf-8", body);
    answer.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer
}

async fn v2(core: &Arc<Core>, head: &Parts) -> Result<Answer, Status> {
    let vary =
        [(VARY, HeaderValue::from_static("Accept-Encoding")), (VARY, HeaderValue::from_static("Accept"))];
    let Some(media) = negotiate(head, V2) else {
        let mut answer = plain(406);
        add(&mut answer, vary);
        return Ok(answer);
    };
    let sources = Sources::new(core);
    let hash = sources.hash(core, "");
    let make = {
        let proto = media != V2[0].1;
        move || {
            let text = merge(sources.with(openapi::v2), &sources.routes);
            Some(if proto { openapi::proto::v2(&parsed(&text)) } else { text.into_bytes() })
        }
    };
    let Some(content) = kept(core, media, &hash, make).await else { return Ok(plain(404)) };
    let mut answer = send(head, &hash, media, content);
    add(&mut answer, vary);
    Ok(answer)
}

async fn v3(core: &Arc<Core>, path: &str, query: &Query, head: &Parts) -> Result<Answer, Status> {
    let sources = Sources::new(core);
    if path.is_empty() || !sources.with(openapi::v3_paths).iter().any(|known| known == path) {
        return Ok(plain(404));
    }
    let vary = [(VARY, HeaderValue::from_static("Accept"))];
    let Some(media) = negotiate(head, V3) else {
        let mut answer = plain(406);
        add(&mut answer, vary);
        return Ok(answer);
    };
    let hash = sources.hash(core, path);
    let given = query.text("hash");
    if !given.is_empty() && given != hash {
        let mut answer = respond::bytes(301, "application/json", Bytes::new());
        if let Ok(to) = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={hash}")) {
            answer.headers_mut().insert(LOCATION, to);
        }
        answer.headers_mut().insert(ETAG, quoted(&hash));
        add(&mut answer, vary);
        return Ok(answer);
    }
    let make = {
        let (proto, path) = (media != V3[0].1, path.to_owned());
        move || {
            let text = sources.with(|options| openapi::v3(&path, options))?;
            Some(if proto { openapi::proto::v3(&parsed(&text)) } else { text.into_bytes() })
        }
    };
    let Some(content) = kept(core, &format!("{path} {media}"), &hash, make).await else {
        return Ok(plain(404));
    };
    let mut answer = send(head, &hash, media, content);
    add(&mut answer, vary);
    if !given.is_empty() {
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let year = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(365 * 24);
        // upstream says UTC where HTTP wants GMT
        let text = year.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string();
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(EXPIRES, value);
        }
    }
    Ok(answer)
}

fn crc(content: &[u8]) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    crc.sum().to_string()
}

/// The document with what remote servers say of their group-versions. A type that is known by the same name but is not
/// the same gets another name.
fn merge(text: String, routes: &Routes) -> String {
    if !routes.remotes.values().any(|remote| remote.known.openapi_v2.is_some()) {
        return text;
    }
    let mut whole = parsed(&text);
    for remote in routes.remotes.values() {
        let Some(content) = &remote.known.openapi_v2 else { continue };
        let mut theirs = String::new();
        if GzDecoder::new(&**content).read_to_string(&mut theirs).is_err() {
            continue;
        }
        for (name, schema) in parsed(&theirs)["definitions"].as_object().into_iter().flatten() {
            let known = whole["definitions"].get(name);
            if known.is_some_and(|known| known != schema) {
                let (old, new) =
                    (format!("\"#/definitions/{name}\""), format!("\"#/definitions/{name}_v2\""));
                theirs =
                    theirs.replace(&old, &new).replace(&format!("\"{name}\":"), &format!("\"{name}_v2\":"));
            }
        }
        let theirs = parsed(&theirs);
        let prefix = format!("/apis/{}/{}/", remote.group, remote.version);
        let mut paths = String::new();
        for (path, item) in theirs["paths"].as_object().into_iter().flatten() {
            if path.starts_with(&prefix) {
                paths.push_str(&item.to_string());
                whole["paths"][path] = item.clone();
            }
        }
        let mut pending = vec![paths];
        while let Some(text) = pending.pop() {
            for section in ["definitions", "parameters"] {
                for name in names(&text, section) {
                    if whole[section].get(&name).is_none()
                        && let Some(value) = theirs[section].get(&name)
                    {
                        pending.push(value.to_string());
                        whole[section][&name] = value.clone();
                    }
                }
            }
        }
    }
    whole.to_string()
}

/// What a text refers to in a section.
fn names(text: &str, section: &str) -> Vec<String> {
    let prefix = format!("\"#/{section}/");
    let found = text.match_indices(&prefix);
    found.filter_map(|(at, _)| text[at + prefix.len()..].split('"').next()).map(str::to_owned).collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn add<const N: usize>(answer: &mut Answer, headers: [(HeaderName, HeaderValue); N]) {
    for (name, value) in headers {
        answer.headers_mut().append(name, value);
    }
}

fn quoted(hash: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The deflated content: as kept, or made now on a thread of its own.
async fn kept(
    core: &Arc<Core>,
    key: &str,
    hash: &str,
    make: impl FnOnce() -> Option<Vec<u8>> + Send + 'static,
) -> Option<Bytes> {
    if let Some((of, content)) = core.openapi.0.lock().get(key)
        && of == hash
    {
        return Some(content.clone());
    }
    let work = move || {
        let content = make()?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&content).ok()?;
        encoder.finish().ok().map(Bytes::from)
    };
    let made = tokio::task::spawn_blocking(work).await.ok()??;
    core.openapi.0.lock().insert(key.to_owned(), (hash.to_owned(), made.clone()));
    Some(made)
}

fn send(head: &Parts, hash: &str, media: &'static str, deflated: Bytes) -> Answer {
    let known = head.headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let mut answer = if known.is_some_and(|v| v == "*" || v.contains(hash)) {
        plain(304)
    } else if crate::front::pipeline::accepts_gzip(&head.headers) {
        let mut answer = respond::bytes(200, media, deflated);
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer
    } else {
        let mut content = Vec::new();
        match GzDecoder::new(&*deflated).read_to_end(&mut content) {
            Ok(_) => respond::bytes(200, media, Body::from(Bytes::from(content))),
            Err(_) => plain(500),
        }
    };
    answer.headers_mut().insert(ETAG, quoted(hash));
    answer.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer
}
