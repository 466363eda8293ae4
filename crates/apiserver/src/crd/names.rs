//! Names of definitions: who has which in a group.

use machinery::field::go_quote;
use machinery::{Get, Value, json};

use crate::kinds::KindMap;

/// The names a definition may have, and why not all that it wants.
pub struct Names {
    pub accepted: Value,
    /// (reason, message)
    pub conflict: Option<(&'static str, String)>,
}

/// Decides about the names of a definition, given all others.
pub fn decide(definition: &Value, others: &[&Value], builtin: &KindMap) -> Names {
    let group = definition.at("spec").text("group");
    let wanted = definition.at("spec").at("names");
    let had = definition.at("status").at("acceptedNames");
    let (mut resources, mut kinds): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for other in others.iter().filter(|o| o.at("spec").text("group") == group) {
        let names = other.at("status").at("acceptedNames");
        let texts = |keys: [&str; 2]| keys.map(|key| names.text(key).to_owned());
        resources.extend(texts(["plural", "singular"]));
        resources.extend(names.list("shortNames").iter().filter_map(Value::as_str).map(str::to_owned));
        kinds.extend(texts(["kind", "listKind"]));
    }
    for resource in builtin.all().filter(|r| r.group == group) {
        resources.push(resource.name.clone());
        kinds.push(resource.kind.clone());
    }
    let free = |name: &str, own: &str, used: &[String]| name == own || !used.iter().any(|u| u == name);
    let in_use = |name: &str| format!("{} is already in use", go_quote(name));
    let mut out = Names { accepted: had.clone(), conflict: None };
    if !out.accepted.is_object() {
        out.accepted = json!({"plural": "", "kind": ""});
    }
    let one = |out: &mut Names, field: &str, reason: &'static str, used: &[String]| {
        let name = wanted.text(field);
        if free(name, had.text(field), used) {
            out.accepted.set(field, name);
        } else {
            out.conflict = Some((reason, in_use(name)));
        }
    };
    one(&mut out, "plural", "PluralConflict", &resources);
    one(&mut out, "singular", "SingularConflict", &resources);
    let own = had.list("shortNames");
    let taken: Vec<String> = wanted
        .list("shortNames")
        .iter()
        .filter(|name| !own.contains(name))
        .filter_map(Value::as_str)
        .filter(|name| !free(name, "", &resources))
        .map(in_use)
        .collect();
    match taken.len() {
        0 => copy(&mut out.accepted, wanted, "shortNames"),
        1 => out.conflict = Some(("ShortNamesConflict", taken[0].clone())),
        _ => out.conflict = Some(("ShortNamesConflict", format!("[{}]", taken.join(", ")))),
    }
    one(&mut out, "kind", "KindConflict", &kinds);
    one(&mut out, "listKind", "ListKindConflict", &kinds);
    copy(&mut out.accepted, wanted, "categories");
    out
}

fn copy(to: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) if !value.is_null() => to.set(field, value.clone()),
        _ => drop(to.unset(field)),
    }
}
