//! Request bodies as objects: types checked, unknown fields dropped, with upstream's errors.

use machinery::codec::json::{Document, strict_message};
use machinery::codec::{cbor, proto};
use machinery::field::{Error, Path, go_quote};
use machinery::schema::{self, Schema};
use machinery::{Get, GroupKind, GroupVersion, GroupVersionKind, Status, Value};

use crate::crd::CustomVersion;
use crate::front::negotiate::Encoding;
use crate::registry::options::Strictness;
use crate::registry::patch::PatchType;

/// Upstream's name of the registry of types, which stands in its messages.
/// The registry of kinds that upstream names in errors, which differs by which of its servers has the group.
fn scheme(group: &str) -> &'static str {
    match group {
        "apiextensions.k8s.io" => "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:55",
        "apiregistration.k8s.io" => "k8s.io/kube-aggregator/pkg/apiserver/scheme/scheme.go:28",
        _ => "pkg/api/legacyscheme/scheme.go:30",
    }
}

/// A request's body as an object of the wanted kind.
pub fn decode_request(
    body: &[u8],
    encoding: Encoding,
    want: &GroupVersionKind,
    custom: Option<&CustomVersion>,
    strictness: Strictness,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let json;
    let mut duplicates = None;
    let body = match encoding {
        Encoding::Json => body,
        Encoding::Yaml => {
            json = yaml_to_json(body, want, &mut duplicates)?;
            &json
        }
        Encoding::Proto => return decode_proto(body, want),
        Encoding::Cbor => {
            let undetermined = |e| format!("unable to determine group/version/kind: {e}");
            json = cbor::to_json(body).map_err(|e| unrecognized(body, want, &undetermined(e)))?;
            &json
        }
    };
    let document =
        Document::parse(body).map_err(|e| unrecognized(body, want, &json_error(&e.to_string())))?;
    let found = document.type_meta().map_err(|e| unrecognized(body, want, &json_error(&e.to_string())))?;
    if custom.is_some() && found.kind.is_empty() {
        let why = format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(body));
        return Err(unrecognized(body, want, &why));
    }
    let actual = actual_kind(&found.api_version, &found.kind, want);
    let refuse = |why: &str| {
        Status::bad_request(format!(
            "{} in version {} cannot be handled as a {}: {why}",
            actual.kind,
            go_quote(&actual.version),
            want.kind
        ))
    };
    let strict = strictness != Strictness::Ignore;
    let known = if custom.is_some() { None } else { schema::of_kind(want) };
    if let Some(other) = schema::of_kind(&actual).filter(|_| known.is_some() && actual != *want) {
        // what it says it is comes first
        document.decode(other, false).map_err(|e| refuse(&e.to_string()))?;
    }
    check_kind(&actual, want, custom.is_some(), &refuse)?;
    let decoded = match known {
        Some(schema) => document.decode(schema, strict).map_err(|e| refuse(&e.to_string()))?,
        None => document.decode_any(strict).map_err(|e| refuse(&e.to_string()))?,
    };
    let mut value = decoded.value;
    let mut problems: Vec<String> = duplicates.into_iter().filter(|_| strict).collect();
    problems.extend(decoded.strict);
    if let Some(custom) = custom {
        prune(custom, &actual, want, &mut value, strict, &mut problems).map_err(|why| refuse(&why))?;
    }
    report(problems, strictness, warnings, &refuse)?;
    if actual.version != want.version || actual.group != want.group {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            actual.api_version(),
            want.api_version()
        )));
    }
    Ok(value)
}

fn decode_proto(body: &[u8], want: &GroupVersionKind) -> Result<Value, Status> {
    let envelope = proto::open(body).map_err(|e| unrecognized(body, want, &e.to_string()))?;
    let actual = actual_kind(envelope.api_version, envelope.kind, want);
    let refuse = |why: &str| {
        Status::bad_request(format!(
            "{} in version {} cannot be handled as a {}: {why}",
            actual.kind,
            go_quote(&actual.version),
            want.kind
        ))
    };
    check_kind(&actual, want, false, &refuse)?;
    if actual.version != want.version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            actual.api_version(),
            want.api_version()
        )));
    }
    let schema =
        super::schema_of(want).ok_or_else(|| unrecognized(body, want, &no_prefix(Encoding::Proto)))?;
    proto::decode(body, schema).map_err(|e| refuse(&e.to_string()))
}

/// Custom resources: drops what the schema does not know, fills in its defaults. An object of another kind is left alone;
/// of one of another version nothing is known.
fn prune(
    custom: &CustomVersion,
    actual: &GroupVersionKind,
    want: &GroupVersionKind,
    value: &mut Value,
    strict: bool,
    problems: &mut Vec<String>,
) -> Result<(), String> {
    let Some(schema) = &custom.schema else { return Ok(()) };
    let mut gone = if actual == want {
        crate::crd::prune::read(schema, value)?
    } else {
        crate::crd::prune::metadata(value)?
    };
    if actual.version != want.version && actual.kind == want.kind {
        let keys = value.as_object().into_iter().flatten().map(|(key, _)| key);
        let own = keys.filter(|key| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata"));
        gone.extend(own.map(|key| crate::crd::prune::unknown(key)));
    }
    if strict {
        problems.extend(gone);
    }
    Ok(())
}

fn report(
    problems: Vec<String>,
    strictness: Strictness,
    warnings: &mut Vec<String>,
    refuse: &dyn Fn(&str) -> Status,
) -> Result<(), Status> {
    match strictness {
        _ if problems.is_empty() => Ok(()),
        Strictness::Strict => Err(refuse(&strict_message(&problems))),
        Strictness::Warn => {
            warnings.extend(problems);
            Ok(())
        }
        Strictness::Ignore => Ok(()),
    }
}

/// What the data says it is; what it does not say is as wanted.
fn actual_kind(api_version: &str, kind: &str, want: &GroupVersionKind) -> GroupVersionKind {
    let gv = match api_version {
        "" => GroupVersion::new(&*want.group, &*want.version),
        text => GroupVersion::parse(text).unwrap_or_else(|_| GroupVersion::new("", text)),
    };
    gv.kind(if kind.is_empty() { &*want.kind } else { kind })
}

fn check_kind(
    actual: &GroupVersionKind,
    want: &GroupVersionKind,
    custom: bool,
    refuse: &dyn Fn(&str) -> Status,
) -> Result<(), Status> {
    if custom || actual == want {
        return Ok(());
    }
    let registered = schema::of_kind(actual).is_some() || actual.kind == "List";
    if !registered {
        return Err(refuse(&format!(
            "no kind {} is registered for version {} in scheme {}",
            go_quote(&actual.kind),
            go_quote(&actual.api_version()),
            go_quote(scheme(&want.group))
        )));
    }
    if actual.kind != want.kind || actual.group != want.group {
        let package = |group: &str| match group.split('.').next().unwrap_or("") {
            "" | "events" => "core".to_owned(),
            first => first.to_owned(),
        };
        return Err(refuse(&format!(
            "converting ({}.{}) to ({}.{}): unknown conversion",
            actual.version,
            actual.kind,
            package(&want.group),
            want.kind
        )));
    }
    Ok(())
}

fn json_error(why: &str) -> String {
    format!("couldn't get version/kind; json parse error: {why}")
}

fn no_prefix(encoding: Encoding) -> String {
    match encoding {
        Encoding::Proto => {
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
                .to_owned()
        }
        other => format!("no decoder for {}", other.media_type()),
    }
}

fn unrecognized(body: &[u8], want: &GroupVersionKind, why: &str) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({})",
        want.kind,
        summary(body)
    ))
}

/// The first thirty bytes, in hexadecimal unless they look like JSON.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let head = &body[..body.len().min(SHOWN)];
    let more = if body.len() > SHOWN { " ..." } else { "" };
    if body[0] == b'{' {
        format!("{}{more}", String::from_utf8_lossy(head))
    } else {
        let hex: String = head.iter().map(|b| format!("{b:02x}")).collect();
        format!("{hex}{more}")
    }
}

fn yaml_to_json(
    body: &[u8],
    want: &GroupVersionKind,
    duplicates: &mut Option<String>,
) -> Result<Vec<u8>, Status> {
    // JSON is YAML, and what most clients send
    if body.first() == Some(&b'{') && Document::parse(body).is_ok() {
        return Ok(body.to_vec());
    }
    let json = machinery::codec::yaml::to_json(body).map_err(|e| unrecognized(body, want, &e.to_string()))?;
    *duplicates = json.duplicates;
    Ok(json.text)
}

/// An object that was made here by a patch, in the form in which it would be read if it had been sent. None: that would
/// be refused or warned of, or it is of no built-in type; [`check_patched`] and [`check_merged`] have the words.
pub fn settle(old: &Value, mut object: Value, want: &GroupVersionKind, custom: bool) -> Option<Value> {
    let schema = schema::of_kind(want).filter(|_| !custom)?;
    let same_kind = object.text("kind") == want.kind && object.text("apiVersion") == want.api_version();
    (same_kind && machinery::codec::json::settle(schema, old, &mut object)).then_some(object)
}

/// An object that was made here by a JSON or merge patch, read as if it had been sent.
pub fn check_patched(
    old: &Value,
    object: &Value,
    want: &GroupVersionKind,
    custom: Option<&CustomVersion>,
    strictness: Strictness,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let mut body = Vec::new();
    let known = if custom.is_some() { None } else { schema::of_kind(want) };
    write_patched(known, Some(old), object, &mut body);
    let at = Path::new("patch");
    let refuse = |why: &str| {
        let text = String::from_utf8_lossy(&body).into_owned();
        Status::invalid(&GroupKind::default(), "", &[Error::invalid(&at, text, why)])
    };
    let strict = strictness != Strictness::Ignore;
    let document = Document::parse(&body).map_err(|e| refuse(&e.to_string()))?;
    let found = document.type_meta().map_err(|e| refuse(&json_error(&e.to_string())))?;
    let actual = actual_kind(&found.api_version, &found.kind, want);
    check_kind(&actual, want, custom.is_some(), &|why| refuse(why))?;
    let decoded = match known {
        Some(schema) => document.decode(schema, strict),
        None => document.decode_any(strict),
    }
    .map_err(|e| refuse(&e.to_string()))?;
    let (mut value, mut problems) = (decoded.value, decoded.strict);
    if let Some(custom) = custom {
        prune(custom, &actual, want, &mut value, strict, &mut problems).map_err(|why| refuse(&why))?;
    }
    report(problems, strictness, warnings, &|why| refuse(why))?;
    Ok(value)
}

/// JSON as upstream's patches leave it: what was touched has its fields in alphabetical order, what was not stands as
/// it was written, in the order of its type.
fn write_patched(schema: Option<&Schema>, old: Option<&Value>, new: &Value, out: &mut Vec<u8>) {
    match (schema, new) {
        (Some(schema), new) if old == Some(new) => machinery::codec::json::encode(schema, new, out),
        (_, Value::Object(map)) => {
            out.push(b'{');
            for (at, (key, value)) in map.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                machinery::codec::json::encode_string(key, out);
                out.push(b':');
                let below = schema.and_then(|s| s.field(key));
                write_patched(below, old.and_then(|o| o.get(key)), value, out);
            }
            out.push(b'}');
        }
        (_, other) => machinery::codec::json::encode_any(other, out),
    }
}

/// The same for a strategic merge patch, whose result never was text.
pub fn check_merged(
    object: Value,
    patch: &Value,
    want: &GroupVersionKind,
    strictness: Strictness,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let at = Path::new("patch");
    let shown = machinery::patch::go_print(patch);
    let refuse =
        |why: &str| Status::invalid(&GroupKind::default(), "", &[Error::invalid(&at, shown.as_str(), why)]);
    let Some(schema) = schema::of_kind(want) else { return Ok(object) };
    let decoded = machinery::codec::json::convert(schema, object, strictness != Strictness::Ignore)
        .map_err(|e| refuse(&e.to_string()))?;
    report(decoded.strict, strictness, warnings, &|why| refuse(why))?;
    Ok(decoded.value)
}

/// Options in a body; they may be of any group-version that is served.
pub fn decode_options(
    body: &[u8],
    encoding: Encoding,
    want: &GroupVersionKind,
    strictness: Strictness,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    if encoding == Encoding::Yaml {
        let json = yaml_to_json(body, want, &mut None)?;
        return decode_options(&json, Encoding::Json, want, strictness, warnings);
    }
    if encoding == Encoding::Cbor {
        let json = cbor::to_json(body).map_err(|e| Status::bad_request(e.to_string()))?;
        return decode_options(&json, Encoding::Json, want, strictness, warnings);
    }
    if encoding == Encoding::Json {
        let bare = |e: machinery::codec::json::Error| Status::bad_request(json_error(&e.to_string()));
        let document = Document::parse(body).map_err(bare)?;
        let found = document.type_meta().map_err(bare)?;
        if !found.kind.is_empty() && found.kind != want.kind {
            return Err(Status::bad_request(format!(
                "no kind {} is registered for version {} in scheme {}",
                go_quote(&found.kind),
                go_quote(&found.api_version),
                go_quote("k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27")
            )));
        }
        return Ok(document.decode_any(false).map_err(|e| Status::bad_request(e.to_string()))?.value);
    }
    if encoding == Encoding::Proto
        && let Some(schema) = super::schema_of(want)
    {
        return proto::decode(body, schema).map_err(|e| Status::bad_request(e.to_string()));
    }
    Err(unrecognized(body, want, &no_prefix(encoding)))
}

/// An applied configuration: what it says, no more; its kind and types are checked when it is applied.
pub fn decode_apply(
    kind: PatchType,
    body: &[u8],
    strictness: Strictness,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let bad = |e: &dyn std::fmt::Display| Status::bad_request(format!("error decoding YAML: {e}"));
    let json;
    let mut duplicates = None;
    let body = if kind == PatchType::ApplyCbor {
        json = cbor::to_json(body).map_err(|e| bad(&e))?;
        &json
    } else if body.first() == Some(&b'{') && Document::parse(body).is_ok() {
        body
    } else {
        let read = machinery::codec::yaml::to_json(body)
            .map_err(|e| bad(&format!("error converting YAML to JSON: {e}")))?;
        (json, duplicates) = (read.text, read.duplicates);
        &json
    };
    let document = Document::parse(body).map_err(|e| bad(&e))?;
    let decoded = document.decode_any(strictness != Strictness::Ignore).map_err(|e| bad(&e))?;
    if decoded.value.is_null() {
        return Err(Status::bad_request("invalid object type: /, Kind="));
    }
    if !decoded.value.is_object() {
        let what = match &decoded.value {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            _ => "null",
        };
        return Err(bad(&format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"
        )));
    }
    // each line of the reader's report on its own
    let lines = duplicates.iter().flat_map(|text| text.lines().skip(1)).map(|line| line.trim().to_owned());
    let problems: Vec<String> = lines.chain(decoded.strict).collect();
    match strictness {
        _ if problems.is_empty() => {}
        Strictness::Strict => return Err(bad(&problems.join(", "))),
        Strictness::Warn => warnings.extend(problems),
        Strictness::Ignore => {}
    }
    Ok(decoded.value)
}
