//! StorageVersions: the versions in which API servers store a resource.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};
use serde_json::json;

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, more, name};
use crate::objectmeta::{self, keep};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "internal.apiserver.k8s.io",
    kind: "StorageVersion",
    prepare_create: |obj, _| obj.set("status", json!({})),
    prepare_update: |new, old, context| {
        if context.subresource != "status" {
            return keep(new, old, "status");
        }
        keep(new, old, "spec");
        let before = old.at("metadata").clone();
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            keep(new.child("metadata"), &before, field);
        }
    },
    validate: |obj, _| {
        let mut errors = objectmeta::validate(obj, false, name_rule);
        status(obj.at("status"), &mut errors);
        errors
    },
    validate_update: |new, _, context| {
        let mut errors = ErrorList::new();
        if context.subresource == "status" {
            status(new.at("status"), &mut errors);
        }
        errors
    },
    unconditional_update: false,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"], &["metadata"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "CommonEncodingVersion",
        "string",
        "",
        0,
        "commonEncodingVersion is set to an encoding storage version if all API server instances share that same version. If they don't share one storage version, this field is left empty. API servers should finish updating its storageVersionStatus entry before serving write operations, so that this field will be in sync with the reality.",
    ),
    (
        "StorageVersions",
        "string",
        "",
        0,
        "storageVersions lists the reported versions per API server instance.",
    ),
    ("Age", "string", "", 0, CREATED),
];

/// `GROUP.RESOURCE`
fn name_rule(name: &str, _: bool) -> Vec<String> {
    let Some((group, resource)) = name.rsplit_once('.') else {
        return vec!["name must be in the form of <group>.<resource>".to_owned()];
    };
    let group = names::dns1123_subdomain(group).into_iter().map(|m| format!("the group segment {m}"));
    let resource = names::dns1035_label(resource).into_iter().map(|m| format!("the resource segment {m}"));
    group.chain(resource).collect()
}

fn status(status: &Value, errors: &mut ErrorList) {
    let at = Path::new("status");
    let servers = status.list("storageVersions");
    let mut seen: Vec<&str> = Vec::new();
    for (i, server) in servers.iter().enumerate() {
        let at = at.child("storageVersions").index(i);
        let id = server.text("apiServerID");
        if seen.contains(&id) {
            errors.duplicate(&at.child("apiServerID"), id);
        }
        seen.push(id);
        one_server(server, &at, errors);
    }
    let first = servers.first().map(|s| s.text("encodingVersion"));
    let common = first.filter(|first| servers.iter().all(|s| s.text("encodingVersion") == *first));
    let said = status.get("commonEncodingVersion").and_then(Value::as_str);
    let at_common = at.child("commonEncodingVersion");
    match (common, said) {
        (None, Some(said)) => errors.invalid(
            &at_common,
            said,
            "should be nil if servers do not agree on the same encoding version, or if there is no server reporting the supported versions yet",
        ),
        (Some(common), None) => {
            errors.invalid(&at_common, Value::Null, format!("the common encoding version is {common}"));
        }
        (Some(common), Some(said)) if common != said => {
            errors.invalid(&at_common, said, format!("the actual common encoding version is {common}"));
        }
        _ => {}
    }
    conditions(status.list("conditions"), &at, errors);
}

fn one_server(server: &Value, at: &Path, errors: &mut ErrorList) {
    let id = server.text("apiServerID");
    errors.each(&at.child("apiServerID"), id, names::dns1123_subdomain(id));
    let encoding = server.text("encodingVersion");
    let check = |at: Path, version: &str, errors: &mut ErrorList| {
        let messages = api_version(version);
        if !messages.is_empty() {
            errors.invalid(&at, version, messages.join(","));
        }
    };
    check(at.child("encodingVersion"), encoding, errors);
    let texts = |key: &str| -> Vec<&str> { server.list(key).iter().filter_map(Value::as_str).collect() };
    let (decodable, served) = (texts("decodableVersions"), texts("servedVersions"));
    for (i, version) in decodable.iter().enumerate() {
        check(at.child("decodableVersions").index(i), version, errors);
    }
    if !decodable.contains(&encoding) {
        let detail = format!("decodableVersions must include encodingVersion {encoding}");
        errors.invalid(&at.child("decodableVersions"), json!(decodable), detail);
    }
    for (i, version) in served.iter().enumerate() {
        let at = at.child("servedVersions").index(i);
        check(at.clone(), version, errors);
        if !decodable.contains(version) {
            let detail = format!(
                "individual served version : {version} must be included in decodableVersions : [{}]",
                decodable.join(" ")
            );
            errors.invalid(&at, *version, detail);
        }
    }
}

/// What is wrong with `GROUP/VERSION` or `VERSION`.
fn api_version(text: &str) -> Vec<String> {
    const EMPTY: &str = "must be non-empty";
    let mut errors = Vec::new();
    let version = match text.split('/').collect::<Vec<_>>()[..] {
        [version] => version,
        [group, version] => {
            let found =
                if group.is_empty() { vec![EMPTY.to_owned()] } else { names::dns1123_subdomain(group) };
            errors.extend(found.into_iter().map(|m| format!("group part: {m}")));
            version
        }
        _ => {
            let label = machinery::names::regex_message(
                "a DNS-1035 label, which must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
                "[a-z]([-a-z0-9]*[a-z0-9])?",
                &["my-name", "abc-123"],
            );
            return vec![format!(
                "an apiVersion is {label} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyVersion')"
            )];
        }
    };
    let found = if version.is_empty() { vec![EMPTY.to_owned()] } else { names::dns1035_label(version) };
    errors.extend(found.into_iter().map(|m| format!("version part: {m}")));
    errors
}

/// Upstream gives their errors at `status[i]`.
fn conditions(conditions: &[Value], at: &Path, errors: &mut ErrorList) {
    for (i, condition) in conditions.iter().enumerate() {
        let at = at.index(i);
        let kind = condition.text("type");
        if let Some(first) = conditions[..i].iter().rposition(|c| c.text("type") == kind) {
            let detail =
                format!("the type of the condition is not unique, it also appears in conditions[{first}]");
            errors.invalid(&at.child("type"), kind, detail);
        }
        for key in ["type", "status"] {
            let text = condition.text(key);
            errors.each(&at.child(key), text, names::qualified_name(text));
        }
        for key in ["reason", "message"] {
            if condition.text(key).is_empty() {
                errors.required(&at.child(key), "");
            }
        }
    }
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let status = obj.at("status");
    let common = status.get("commonEncodingVersion").and_then(Value::as_str).unwrap_or("<unset>");
    let servers = status.list("storageVersions");
    let shown = servers.iter().map(|s| format!("{}={}", s.text("apiServerID"), s.text("encodingVersion")));
    vec![name(obj), common.into(), more(shown).into(), age(obj, now)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: &str, want: &[&str]) {
        assert_eq!(api_version(version), want, "{version}");
    }

    #[test]
    fn reads_api_versions() {
        check("v1", &[]);
        check("apps/v1", &[]);
        check("/v1", &["group part: must be non-empty"]);
        check("apps/", &["version part: must be non-empty"]);
        assert!(api_version("a/b/c")[0].starts_with("an apiVersion is a DNS-1035 label"));
    }

    #[test]
    fn servers_must_agree_with_the_common_version() {
        let check = |said: Option<&str>, versions: &[&str], count: usize| {
            let servers: Vec<Value> = versions
                .iter()
                .enumerate()
                .map(|(i, v)| json!({"apiServerID": format!("a{i}"), "encodingVersion": v, "decodableVersions": [v]}))
                .collect();
            let mut object = json!({"storageVersions": servers});
            if let Some(said) = said {
                object["commonEncodingVersion"] = said.into();
            }
            let mut errors = ErrorList::new();
            status(&object, &mut errors);
            assert_eq!(errors.len(), count, "{said:?} {versions:?}: {errors:?}");
        };
        check(None, &[], 0);
        check(Some("v1"), &["v1", "v1"], 0);
        check(None, &["v1"], 1);
        check(Some("v1"), &["v1", "v2"], 1);
        check(Some("v2"), &["v1"], 1);
    }
}
