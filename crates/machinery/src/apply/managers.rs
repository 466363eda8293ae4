//! `metadata.managedFields`: who manages what, read and written; and conflicts between them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::set::{Element, Set, show_path};
use crate::field::go_quote;
use crate::value::Get;

/// More managers of the Update kind are folded into one.
const MAX_UPDATE_MANAGERS: usize = 10;
const OLD_UPDATES: &str = "ancient-changes";

/// Who: the fields that tell entries apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub manager: String,
    pub applied: bool,
    /// "" for Apply: one entry whatever the version.
    pub api_version: String,
    pub subresource: String,
}

#[derive(Clone, Debug)]
pub(super) struct Managed {
    pub fields: Fields,
    pub api_version: String,
    /// RFC 3339; None: unknown.
    pub time: Option<String>,
}

/// The fields of a manager. Most writes touch few managers: what the others have stays as it was read.
#[derive(Clone, Debug)]
pub(super) enum Fields {
    /// A `FieldsV1` value as this module writes it.
    Read(Value),
    Set(Set),
}

impl Fields {
    pub fn set(&self) -> Cow<'_, Set> {
        match self {
            Fields::Read(fields) => Cow::Owned(Set::from_fields(fields).unwrap_or_default()),
            Fields::Set(set) => Cow::Borrowed(set),
        }
    }

    pub fn add(&mut self, more: Set) {
        match self {
            Fields::Read(Value::Object(fields)) => more.add_to(fields),
            Fields::Read(_) => *self = Fields::Set(more),
            Fields::Set(set) => set.add(more),
        }
    }

    pub fn into_set(self) -> Set {
        match self {
            Fields::Read(fields) => Set::from_fields(&fields).unwrap_or_default(),
            Fields::Set(set) => set,
        }
    }

    fn into_value(self) -> Value {
        match self {
            Fields::Read(fields) => fields,
            Fields::Set(set) => set.to_fields(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Fields::Read(fields) => fields.as_object().is_none_or(|map| map.keys().all(|key| key == ".")),
            Fields::Set(set) => set.is_empty(),
        }
    }

    /// Is any of these paths among them?
    pub fn have_any(&self, of: &Set) -> bool {
        match self {
            Fields::Read(fields) => of.any_in(fields),
            Fields::Set(set) => !set.intersection(of).is_empty(),
        }
    }
}

pub(super) type Managers = BTreeMap<Identity, Managed>;

/// One field that somebody else manages.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// As messages name it: `"kubectl" using v1`.
    pub manager: String,
    pub(super) identity: Identity,
    pub(super) elements: Vec<Element>,
    /// `.spec.replicas`
    pub path: String,
}

impl Identity {
    pub fn new(manager: &str, applied: bool, api_version: &str, subresource: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            applied,
            api_version: if applied { String::new() } else { api_version.to_owned() },
            subresource: subresource.to_owned(),
        }
    }

    fn describe(&self) -> String {
        let mut out = go_quote(&self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {}", go_quote(&self.subresource)));
        }
        if !self.applied {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }

    pub fn conflict(&self, path: &[Element]) -> Conflict {
        Conflict {
            manager: self.describe(),
            identity: self.clone(),
            elements: path.to_vec(),
            path: show_path(path),
        }
    }
}

/// What upstream's status says of conflicts.
pub(super) fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path);
    }
    let mut by_manager: BTreeMap<&Identity, Vec<&Conflict>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(&conflict.identity).or_default().push(conflict);
    }
    let mut lines = Vec::new();
    for found in by_manager.values() {
        lines.push(format!("conflicts with {}:", found[0].manager));
        lines.extend(found.iter().map(|c| format!("- {}", c.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

pub(super) fn decode(entries: &[Value]) -> Result<Managers, String> {
    let mut out = read(entries.to_vec())?;
    for managed in out.values_mut() {
        if let Fields::Read(fields) = &managed.fields {
            let set = Set::from_fields(fields)
                .map_err(|e| format!("error decoding versioned set: error decoding set: {e}"))?;
            managed.fields = Fields::Set(set);
        }
    }
    Ok(out)
}

/// Entries of a stored object, which were written by this module: their fields are not looked at.
pub(super) fn read(entries: Vec<Value>) -> Result<Managers, String> {
    let mut out = Managers::new();
    for (n, mut entry) in entries.into_iter().enumerate() {
        let applied = match entry.text("operation") {
            "Apply" => true,
            "Update" => false,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        let api_version = entry.text("apiVersion").to_owned();
        if api_version.is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match entry.text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {n}")),
            other => {
                return Err(format!("invalid fieldsType {} in managed fields entry {n}", go_quote(other)));
            }
        }
        let identity = Identity::new(entry.text("manager"), applied, &api_version, entry.text("subresource"));
        let time = entry.at("time").as_str().map(str::to_owned);
        let fields = Fields::Read(entry.unset("fieldsV1").unwrap_or_default());
        out.insert(identity, Managed { fields, api_version, time });
    }
    Ok(out)
}

/// Entries in upstream's order: Apply first, then by time, manager, version.
pub(super) fn encode(managers: Managers) -> Vec<Value> {
    let mut ordered: Vec<(Identity, Managed)> = managers.into_iter().collect();
    ordered.sort_by(|(a, am), (b, bm)| {
        (b.applied.cmp(&a.applied))
            .then_with(|| am.time.as_deref().unwrap_or("").cmp(bm.time.as_deref().unwrap_or("")))
            .then_with(|| a.manager.cmp(&b.manager))
            .then_with(|| am.api_version.cmp(&bm.api_version))
            .then_with(|| a.subresource.cmp(&b.subresource))
    });
    ordered.into_iter().map(|(identity, managed)| encode_entry(identity, managed)).collect()
}

fn encode_entry(identity: Identity, managed: Managed) -> Value {
    let mut out = Map::new();
    let operation = if identity.applied { "Apply" } else { "Update" };
    if !identity.manager.is_empty() {
        out.insert("manager".into(), identity.manager.into());
    }
    out.insert("operation".into(), operation.into());
    out.insert("apiVersion".into(), managed.api_version.into());
    if let Some(time) = managed.time {
        out.insert("time".into(), time.into());
    }
    out.insert("fieldsType".into(), "FieldsV1".into());
    out.insert("fieldsV1".into(), managed.fields.into_value());
    if !identity.subresource.is_empty() {
        out.insert("subresource".into(), identity.subresource.into());
    }
    Value::Object(out)
}

/// Does a client ask to forget all managers (`[{}]` or an empty list)?
pub(super) fn is_reset(entries: &Value) -> bool {
    match entries {
        Value::Array(entries) => match &entries[..] {
            [] => true,
            [one] => {
                let zero = |v: &Value| v.is_null() || v == &json!("") || v == &json!({});
                one.as_object().is_some_and(|e| e.values().all(zero))
            }
            _ => false,
        },
        _ => false,
    }
}

/// Folds the oldest Update entries of a version into one when there are too many.
pub(super) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<(String, Identity)> = managers
        .iter()
        .filter(|(identity, _)| !identity.applied)
        .map(|(identity, managed)| (managed.time.clone().unwrap_or_default(), identity.clone()))
        .collect();
    let mut count = updaters.len();
    if count <= MAX_UPDATE_MANAGERS {
        return;
    }
    updaters.sort();
    let mut first_of_version: BTreeMap<String, Identity> = BTreeMap::new();
    for (_, identity) in updaters {
        if count <= MAX_UPDATE_MANAGERS {
            break;
        }
        let Some(version) = managers.get(&identity).map(|m| m.api_version.clone()) else { continue };
        let bucket = Identity::new(OLD_UPDATES, false, &version, "");
        let Some(first) = first_of_version.get(&version) else {
            first_of_version.insert(version, identity);
            continue;
        };
        if !managers.contains_key(&bucket) {
            if let Some(moved) = managers.remove(first) {
                managers.insert(bucket.clone(), moved);
            }
        }
        if let (Some(folded), Some(into)) = (managers.remove(&identity), managers.get_mut(&bucket)) {
            into.fields = Fields::Set(folded.fields.set().union(&into.fields.set()));
            into.time = folded.time;
        }
        count -= 1;
    }
}
