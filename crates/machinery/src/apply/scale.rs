//! Managed fields of a scale: the entries of an object that manage its replicas, as entries of an `autoscaling/v1`
//! Scale, and back.

use std::collections::BTreeMap;

use serde_json::Value;

use super::managers::{self, Fields, Identity, Managed, Managers};
use super::set::{Element, Set};

const SCALE: &str = "autoscaling/v1";

/// By `apiVersion` of the object: the path of the replicas (`["spec", "replicas"]`).
pub type Paths = BTreeMap<String, Vec<String>>;

/// The entries that the scale of an object shows.
pub fn to_scale(object_entries: &[Value], paths: &Paths) -> Result<Vec<Value>, String> {
    let mut out = Managers::new();
    for (identity, managed) in managers::decode(object_entries)? {
        let owns =
            paths.get(&managed.api_version).is_some_and(|path| managed.fields.set().has(&elements(path)));
        if owns {
            let fields = Fields::Set(replicas());
            out.insert(identity, Managed { fields, api_version: SCALE.into(), time: managed.time });
        }
    }
    Ok(managers::encode(out))
}

/// The entries of an object after its scale was changed at `api_version`.
pub fn to_object(
    object_entries: &[Value],
    scale_entries: &[Value],
    api_version: &str,
    paths: &Paths,
) -> Result<Vec<Value>, String> {
    let mut scale = managers::decode(scale_entries)?;
    let mut out = Managers::new();
    let objects = managers::decode(object_entries)?;
    let times: BTreeMap<Identity, Option<String>> =
        objects.iter().map(|(id, managed)| (id.clone(), managed.time.clone())).collect();
    for (identity, mut managed) in objects {
        let Some(path) = paths.get(&managed.api_version) else { continue };
        let path = elements(path);
        if managed.fields.set().has(&path) && scale.remove(&identity).is_none() {
            let mut lost = Set::default();
            lost.insert(&path);
            let left = managed.fields.set().difference(&lost);
            managed.fields = Fields::Set(left);
            if managed.fields.is_empty() {
                continue;
            }
        }
        out.insert(identity, managed);
    }
    let Some(path) = paths.get(api_version) else { return Ok(managers::encode(out)) };
    for (identity, managed) in scale {
        if !managed.fields.set().has(&elements(&["spec".into(), "replicas".into()])) {
            continue;
        }
        let mut set = Set::default();
        set.insert(&elements(path));
        let time = times.get(&identity).cloned().unwrap_or(managed.time);
        out.insert(identity, Managed { fields: Fields::Set(set), api_version: api_version.into(), time });
    }
    Ok(managers::encode(out))
}

fn replicas() -> Set {
    Set::of_fields(&[&["spec", "replicas"]])
}

fn elements(path: &[String]) -> Vec<Element> {
    path.iter().map(|name| Element::field(name)).collect()
}
