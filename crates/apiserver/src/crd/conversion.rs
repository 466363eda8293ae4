//! Between the versions of a custom resource: by name only, or by a webhook; pruned and defaulted where upstream does.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/>

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use machinery::field::{ErrorList, Path, go_quote};
use machinery::schema::{self, Schema};
use machinery::{Get, GroupVersion, Status, Value, json};

use crate::admission::{Client, post};
use crate::cache::Entry;
use crate::kinds::{Home, Resource};
use crate::registry::{Call, fields};
use crate::server::Core;

/// How long a conversion webhook may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What all versions of a definition share.
pub struct Conversion {
    /// The spec and the accepted names it was made of.
    pub made_of: Value,
    group: String,
    kind: String,
    storage: String,
    schemas: BTreeMap<String, Schema>,
    webhook: Option<Webhook>,
}

struct Webhook {
    client: Value,
    /// `v1` or `v1beta1`; "" if none is known.
    review: &'static str,
}

/// The schema by which objects of a version are pruned and defaulted.
pub fn schema_of(definition: &Value, version: &Value) -> Schema {
    let preserve = definition.at("spec").flag("preserveUnknownFields") == Some(true);
    let open_api = version.at("schema").at("openAPIV3Schema");
    schema::structural::parse(if preserve { &Value::Null } else { open_api })
}

impl Conversion {
    pub fn new(definition: &Value) -> Self {
        let spec = definition.at("spec");
        let versions = spec.list("versions");
        let storage = versions.iter().find(|v| v.flag("storage") == Some(true)).or(versions.first());
        let conversion = spec.at("conversion");
        let reviews = conversion.at("webhook").list("conversionReviewVersions").iter();
        let known = |v: &Value| match v.as_str() {
            Some("v1") => Some("v1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        };
        let mut reviews = reviews.filter_map(known);
        Self {
            made_of: Self::parts(definition),
            group: spec.text("group").to_owned(),
            kind: spec.at("names").text("kind").to_owned(),
            storage: storage.map_or("", |v| v.text("name")).to_owned(),
            schemas: versions.iter().map(|v| (v.text("name").to_owned(), schema_of(definition, v))).collect(),
            webhook: (conversion.text("strategy") == "Webhook").then(|| Webhook {
                client: conversion.at("webhook").at("clientConfig").clone(),
                review: reviews.next().unwrap_or(""),
            }),
        }
    }

    /// Does a webhook convert, so that nothing here can tell how an object reads in another version?
    pub fn by_webhook(&self) -> bool {
        self.webhook.is_some()
    }

    /// What of a definition matters to the serving of its objects.
    pub fn parts(definition: &Value) -> Value {
        json!([definition.at("spec"), definition.at("status").at("acceptedNames")])
    }

    pub fn has_webhook(&self) -> bool {
        self.webhook.is_some()
    }

    fn version_of(&self, object: &Value) -> String {
        GroupVersion::parse(object.text("apiVersion")).map(|gv| gv.version).unwrap_or_default()
    }

    fn set_version(&self, object: &mut Value, version: &str) {
        object.set("apiVersion", GroupVersion::new(&*self.group, version).to_string());
        object.set("kind", self.kind.as_str());
    }

    fn prune(&self, object: &mut Value, version: &str, defaults: bool) {
        if let Some(schema) = self.schemas.get(version) {
            super::prune::keeping_meta(object, |object| {
                schema::prune(schema, object);
                if defaults {
                    schema::apply_defaults(schema, object);
                }
            });
        }
    }

    /// A stored object, made ready: pruned and defaulted as its stored version says, then in the stored version of
    /// today. The answer is the stored version if only a webhook can go from it to today's.
    pub fn read_stored(&self, object: &mut Value) -> Option<Box<str>> {
        let stored = self.version_of(object);
        self.prune(object, &stored, true);
        if stored == self.storage {
            return None;
        }
        if self.webhook.is_some() {
            return Some(stored.into());
        }
        self.set_version(object, &self.storage);
        self.prune(object, &self.storage, false);
        None
    }

    /// To another version without a webhook; one that a webhook is for stays as it is, but for its name.
    pub fn by_name(&self, object: &mut Value, version: &str) {
        if self.version_of(object) == version {
            return;
        }
        self.set_version(object, version);
        if self.webhook.is_none() {
            self.prune(object, version, false);
        }
    }

    /// From a request's version to the stored one, without a webhook.
    pub fn to_stored(&self, object: &mut Value) {
        if self.version_of(object) != self.storage {
            self.by_name(object, &self.storage);
            self.prune(object, &self.storage, true);
        }
    }

    /// All of them to a version.
    async fn convert(
        &self,
        core: &Core,
        version: &str,
        mut objects: Vec<Value>,
    ) -> Result<Vec<Value>, String> {
        let target = GroupVersion::new(&*self.group, version).to_string();
        let odd: Vec<usize> =
            (0..objects.len()).filter(|i| objects[*i].text("apiVersion") != target).collect();
        let Some(first) = odd.first() else { return Ok(objects) };
        let Some(webhook) = &self.webhook else {
            for object in &mut objects {
                self.by_name(object, version);
            }
            return Ok(objects);
        };
        let about = |at: usize| format!("{}, Kind={}", objects[at].text("apiVersion"), self.kind);
        let shown = about(*first);
        let failed = |why: String| format!("conversion webhook for {shown} {why}");
        let uid = fields::new_uid();
        if webhook.review.is_empty() {
            return Err("no supported conversion review versions".into());
        }
        let api = format!("apiextensions.k8s.io/{}", webhook.review);
        let sent: Vec<&Value> = odd.iter().map(|i| &objects[*i]).collect();
        let body = json!({"kind": "ConversionReview", "apiVersion": api,
            "request": {"uid": uid, "desiredAPIVersion": target, "objects": sent}});
        let client = Client { config: &webhook.client, timeout: TIMEOUT };
        let answer = post(core, &client, &body).await.map_err(|why| failed(format!("failed: {why}")))?;
        let mut converted =
            answered(answer, webhook.review, &uid).map_err(|why| failed(format!("failed: {why}")))?;
        if converted.len() != odd.len() {
            return Err(failed(format!("returned {} objects, expected {}", converted.len(), odd.len())));
        }
        for (n, at) in odd.into_iter().enumerate() {
            let mut new = std::mem::take(&mut converted[n]);
            let which = format!("returned invalid converted object at index {n}");
            let got = GroupVersion::parse(new.text("apiVersion")).unwrap_or_default().to_string();
            if got != target {
                return Err(failed(format!(
                    "{which}: invalid groupVersion (expected {target}, received {got})"
                )));
            }
            if new.text("kind") != self.kind {
                let got = new.text("kind");
                return Err(failed(format!(
                    "{which}: invalid kind (expected {}, received {got})",
                    self.kind
                )));
            }
            same_object(&objects[at], &new).map_err(|why| failed(format!("{which}: {why}")))?;
            restore(&objects[at], &mut new)
                .map_err(|why| failed(format!("returned invalid metadata in object at index {n}: {why}")))?;
            self.prune(&mut new, version, false);
            objects[at] = new;
        }
        Ok(objects)
    }
}

fn answered(mut review: Value, version: &str, uid: &str) -> Result<Vec<Value>, String> {
    if version == "v1" {
        let (api, kind) = (review.text("apiVersion"), review.text("kind"));
        if api != "apiextensions.k8s.io/v1" || kind != "ConversionReview" {
            return Err(format!(
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {api}, Kind={kind}"
            ));
        }
    }
    let response = review.child("response");
    if response.as_object().is_none_or(|r| r.is_empty()) {
        return Err("no response provided".into());
    }
    if version == "v1" && response.text("uid") != uid {
        let got = go_quote(response.text("uid"));
        return Err(format!("expected response.uid={}, got {got}", go_quote(uid)));
    }
    let result = response.at("result");
    if result.text("status") != "Success" {
        return Err(match result.text("message") {
            "" => format!("response.result.status was '{}', not 'Success'", result.text("status")),
            message => message.to_owned(),
        });
    }
    match response.unset("convertedObjects") {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

fn same_object(old: &Value, new: &Value) -> Result<(), String> {
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (a, b) = (old.at("metadata").text(field), new.at("metadata").text(field));
        if a != b {
            return Err(format!("must have the same {name}: {a} != {b}"));
        }
    }
    Ok(())
}

/// A webhook may change labels and annotations, no other metadata.
fn restore(old: &Value, new: &mut Value) -> Result<(), String> {
    let given = match new.get("metadata") {
        None => return Err("missing metadata in converted object".into()),
        Some(metadata) if metadata.is_object() => metadata.clone(),
        Some(_) => return Err("invalid metadata of type string in converted object".into()),
    };
    let mut metadata = old.at("metadata").clone();
    for name in ["labels", "annotations"] {
        let map = match given.at(name) {
            Value::Null => {
                metadata.unset(name);
                continue;
            }
            Value::Object(map) => map,
            _ => return Err(format!("invalid metadata.{name} of type string in converted object")),
        };
        if let Some((key, _)) = map.iter().find(|(_, v)| !v.is_string()) {
            return Err(format!("metadata.{name}[{key}] must be a string, but is not in converted object"));
        }
        if given.at(name) != metadata.at(name) {
            let mut errors = ErrorList::new();
            let at = Path::new("metadata").child(name);
            match name {
                "labels" => resources::objectmeta::labels(given.at(name), &at, &mut errors),
                _ => resources::objectmeta::annotations(given.at(name), &at, &mut errors),
            }
            if let Some(error) = errors.first() {
                return Err(error.to_string());
            }
        }
        metadata.set(name, given.at(name).clone());
    }
    new.set("metadata", metadata);
    Ok(())
}

fn failed(why: String) -> Status {
    // upstream returns this error bare
    Status::new(500, "", why)
}

/// Objects of any versions in the version of a resource.
pub async fn convert_objects(core: &Core, to: &Resource, objects: Vec<Value>) -> Result<Vec<Value>, Status> {
    match &to.custom {
        Some(custom) => Box::pin(custom.conversion.convert(core, &to.version, objects)).await.map_err(failed),
        None => Ok(objects),
    }
}

/// An object that is about to be stored, in the stored version.
pub async fn to_storage(call: &Call, object: Value) -> Result<Value, Status> {
    let Some(custom) = call.resource.custom.as_ref().filter(|c| c.conversion.webhook.is_some()) else {
        return Ok(object);
    };
    let conversion = &custom.conversion;
    let all =
        Box::pin(conversion.convert(&call.core, &conversion.storage, vec![object])).await.map_err(failed)?;
    Ok(all.into_iter().next().unwrap_or_default())
}

/// The version in which a home keeps an entry.
fn kept_in<'a>(home: &'a Home, entry: &'a Entry) -> &'a str {
    entry.odd.as_deref().unwrap_or(&home.version)
}

/// Sees to it that entries can be shown in the version of a resource: asks the conversion webhook for those that it
/// has not been asked for. Nothing to do for all other resources.
pub async fn prepare<'a>(
    core: &Core,
    resource: &Resource,
    entries: impl IntoIterator<Item = &'a Arc<Entry>>,
) -> Result<(), Status> {
    let Some(custom) = resource.custom.as_ref().filter(|c| c.conversion.webhook.is_some()) else {
        return Ok(());
    };
    let Some(home) = &resource.home else { return Ok(()) };
    let mut wanted: Vec<&Arc<Entry>> = Vec::new();
    let mut objects = Vec::new();
    for entry in entries {
        let kept = kept_in(home, entry);
        if kept != resource.version && entry.views.get(&resource.version).is_none() {
            let api = GroupVersion::new(&*home.name.group, kept).to_string();
            objects.push(entry.object(&home.kind, &api));
            wanted.push(entry);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let converted =
        Box::pin(custom.conversion.convert(core, &resource.version, objects)).await.map_err(failed)?;
    for (entry, mut object) in wanted.into_iter().zip(converted) {
        object.unset("kind");
        object.unset("apiVersion");
        entry.views.set(&resource.version, object.to_string().into());
    }
    Ok(())
}
