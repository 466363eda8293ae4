//! Parameters of policies: objects of `paramKind`, chosen by a binding's `paramRef`.

use std::sync::Arc;

use machinery::select::LabelSelector;
use machinery::{Get, GroupVersion, Value};

use crate::kinds::Resource;
use crate::registry::Call;
use crate::registry::storage::from_entry;

/// The resource behind `paramKind`; none if there is no such field.
pub fn kind(call: &Call, param_kind: &Value) -> Result<Option<Arc<Resource>>, String> {
    if param_kind.is_null() {
        return Ok(None);
    }
    let (api, kind) = (param_kind.text("apiVersion"), param_kind.text("kind"));
    let gv = GroupVersion::parse(api)?;
    let found = call.core.kinds.now().find_kind(&gv.group, &gv.version, kind);
    let shown = gv.kind(kind);
    match found.filter(|r| r.home.is_some()) {
        Some(resource) => Ok(Some(resource)),
        None => Err(format!("failed to find resource referenced by paramKind: '{shown}'")),
    }
}

/// The parameters to ask a policy with, one by one: null where it has none.
pub fn collect(kind: Option<&Resource>, reference: &Value, namespace: &str) -> Result<Vec<Value>, String> {
    let (Some(resource), true) = (kind, reference.is_object()) else { return Ok(vec![Value::Null]) };
    let Some(home) = &resource.home else { return Ok(vec![Value::Null]) };
    let mut within = "";
    if resource.namespaced {
        within = match reference.text("namespace") {
            "" if namespace.is_empty() => {
                return Err(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                        .into(),
                );
            }
            "" => namespace,
            own => own,
        };
    } else if !reference.text("namespace").is_empty() {
        return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
    }
    let name = reference.text("name");
    let params: Vec<Value> = if !name.is_empty() {
        let entry = home.cache.get(&home.local_key(within, name));
        entry.into_iter().map(|e| from_entry(resource, &e)).collect()
    } else {
        let selector = LabelSelector::from_object(reference.at("selector"))?;
        let (snapshot, _) = home.cache.snapshot();
        let inside = |key: &str| within.is_empty() || key.split_once('/').is_some_and(|(ns, _)| ns == within);
        let chosen = snapshot.iter().filter(|(key, e)| inside(key) && selector.matches_with(|k| e.label(k)));
        chosen.map(|(_, entry)| from_entry(resource, entry)).collect()
    };
    if params.is_empty() && reference.text("parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(params)
}
