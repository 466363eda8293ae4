//! Secrets.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::configmap::{SIZE_MAX, frozen};
use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name};
use crate::pod::defaults::text;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "",
    kind: "Secret",
    default: |obj, _| {
        merge_strings(obj);
        text(obj, "type", "Opaque");
    },
    prepare_update: |new, old, _| text(new, "type", old.text("type")),
    validate,
    validate_update,
    warnings: |new, _, _| warnings(new),
    selectable: &["type"],
    select: |obj, _| obj.text("type").to_owned(),
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Type",
        "string",
        "",
        0,
        "Used to facilitate programmatic handling of secret data. More info: https://kubernetes.io/docs/concepts/configuration/secret/#secret-types",
    ),
    (
        "Data",
        "string",
        "",
        0,
        "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn validate(obj: &Value, _: &Context) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    let at = Path::new("data");
    let mut size = 0;
    for (key, value) in obj.map("data").into_iter().flatten() {
        errors.each(&at.key(key), key.as_str(), names::config_map_key(key));
        size += super::decoded_len(value);
    }
    if size > SIZE_MAX {
        errors.too_long(&at, SIZE_MAX);
    }
    let data = obj.at("data");
    let mut require = |key: &str| {
        let there = data.get(key).is_some();
        if !there {
            errors.required(&at.key(key), "");
        }
        there
    };
    match obj.text("type") {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if obj.at("metadata").at("annotations").text(key).is_empty() {
                errors.required(&Path::new("metadata").child("annotations").key(key), "");
            }
        }
        "kubernetes.io/dockercfg" => {
            if require(".dockercfg") {
                json_object(data.text(".dockercfg"), &at.key(".dockercfg"), &mut errors);
            }
        }
        "kubernetes.io/dockerconfigjson" => {
            if require(".dockerconfigjson") {
                json_object(data.text(".dockerconfigjson"), &at.key(".dockerconfigjson"), &mut errors);
            }
        }
        "kubernetes.io/basic-auth" => {
            if data.get("username").is_none() && data.get("password").is_none() {
                require("username");
                require("password");
            }
        }
        "kubernetes.io/ssh-auth" => {
            if data.text("ssh-privatekey").is_empty() {
                errors.required(&at.key("ssh-privatekey"), "");
            }
        }
        "kubernetes.io/tls" => {
            require("tls.crt");
            require("tls.key");
        }
        _ => {}
    }
    errors
}

fn json_object(encoded: &str, at: &Path, errors: &mut ErrorList) {
    let bytes = BASE64_STANDARD.decode(encoded).unwrap_or_default();
    if let Some(message) = crate::gojson::object_error(&bytes) {
        errors.invalid(at, "<secret contents redacted>", message);
    }
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate_update(new, old);
    errors.immutable(&Path::new("type"), new.at("type"), old.at("type"));
    frozen(new, old, &["data"], &mut errors);
    errors.extend(validate(new, context));
    errors
}

/// A TLS secret whose pair cannot be read is accepted with a warning.
fn warnings(obj: &Value) -> Vec<String> {
    if obj.text("type") != "kubernetes.io/tls" {
        return Vec::new();
    }
    let has_pem = |key: &str, marker: &str| {
        let bytes = BASE64_STANDARD.decode(obj.at("data").text(key)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (
            text.contains("-----BEGIN "),
            text.lines().any(|l| l.starts_with("-----BEGIN ") && l.contains(marker)),
        )
    };
    let none = |what: &str| vec![format!("tls: failed to find any PEM data in {what} input")];
    match (has_pem("tls.crt", "CERTIFICATE"), has_pem("tls.key", "PRIVATE KEY")) {
        ((false, _), _) => none("certificate"),
        (_, (false, _)) => none("key"),
        _ => Vec::new(),
    }
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(obj), obj.text("type").into(), obj.map("data").map_or(0, |m| m.len()).into(), age(obj, now)]
}

/// `stringData` is only a way to write `data`; it wins.
fn merge_strings(obj: &mut Value) {
    let strings = obj.at("stringData").as_object().cloned();
    if let Some(map) = obj.as_object_mut() {
        map.remove("stringData");
    }
    for (key, value) in strings.into_iter().flatten() {
        let coded = BASE64_STANDARD.encode(value.as_str().unwrap_or_default());
        obj.child("data").set(&key, coded);
    }
}
