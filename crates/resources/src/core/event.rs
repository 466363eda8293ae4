//! Events, of the core group and of `events.k8s.io`: one kind with two faces. The older face has other names for some
//! fields; what is the same is written against [`Face`].

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{NAME, name, since};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names, objectmeta};

pub(crate) static CORE: Strategy = Strategy {
    group: "",
    kind: "Event",
    validate: |obj, _| legacy(obj, &CORE_FACE),
    validate_update: |new, _, _| legacy(new, &CORE_FACE),
    create_on_update: true,
    selectable: &[
        "involvedObject.apiVersion",
        "involvedObject.fieldPath",
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.resourceVersion",
        "involvedObject.uid",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    select: |obj, field| select(obj, field, &CORE_FACE),
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| cells(obj, now, &CORE_FACE),
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

pub(crate) static EVENTS: Strategy = Strategy {
    group: "events.k8s.io",
    kind: "Event",
    validate: |obj, _| create(obj),
    validate_update: |new, old, _| update(new, old),
    create_on_update: true,
    selectable: &[
        "reason",
        "regarding.apiVersion",
        "regarding.fieldPath",
        "regarding.kind",
        "regarding.name",
        "regarding.namespace",
        "regarding.resourceVersion",
        "regarding.uid",
        "reportingController",
        "type",
    ],
    select: |obj, field| select(obj, field, &EVENTS_FACE),
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| cells(obj, now, &EVENTS_FACE),
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    (
        "Last Seen",
        "string",
        "",
        0,
        "The time at which the most recent occurrence of this event was recorded.",
    ),
    ("Type", "string", "", 0, "Type of this event (Normal, Warning), new types could be added in the future"),
    (
        "Reason",
        "string",
        "",
        0,
        "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.",
    ),
    ("Object", "string", "", 0, "The object that this event is about."),
    (
        "Subobject",
        "string",
        "",
        1,
        "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement, such as desiredState.manifest.containers[2]. For example, if the object reference is to a container within a pod, this would take on a value like: \"spec.containers{name}\" (where \"name\" refers to the name of the container that triggered the event) or if no container name is specified \"spec.containers[2]\" (container with index 2 in this pod). This syntax is chosen only to have some well-defined way of referencing a part of an object.",
    ),
    (
        "Source",
        "string",
        "",
        1,
        "The component reporting this event. Should be a short machine understandable string.",
    ),
    ("Message", "string", "", 0, "A human-readable description of the status of this operation."),
    (
        "First Seen",
        "string",
        "",
        1,
        "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)",
    ),
    ("Count", "string", "", 1, "The number of times this event has occurred."),
    ("Name", "string", "name", 1, NAME),
];

/// The names of the fields.
struct Face {
    object: &'static str,
    message: &'static str,
    source: &'static str,
    first: &'static str,
    last: &'static str,
    count: &'static str,
    controller: &'static str,
}

static CORE_FACE: Face = Face {
    object: "involvedObject",
    message: "message",
    source: "source",
    first: "firstTimestamp",
    last: "lastTimestamp",
    count: "count",
    controller: "reportingComponent",
};

static EVENTS_FACE: Face = Face {
    object: "regarding",
    message: "note",
    source: "deprecatedSource",
    first: "deprecatedFirstTimestamp",
    last: "deprecatedLastTimestamp",
    count: "deprecatedCount",
    controller: "reportingController",
};

/// Old and new name of each field that differs.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The core field behind one by which `events.k8s.io` Events are selected.
pub fn core_field(name: &str) -> Option<&'static str> {
    let own = EVENTS.selectable.iter().find(|own| **own == name)?;
    let (first, rest) = own.split_once('.').unwrap_or((own, ""));
    let core = RENAMED.iter().find(|(_, new)| *new == first).map_or(first, |(core, _)| core);
    CORE.selectable.iter().copied().find(|field| field.split_once('.').unwrap_or((field, "")) == (core, rest))
}

/// Makes a core Event of an `events.k8s.io` one, or the other way round.
pub fn convert(event: &mut Value, to_core: bool) {
    for (core, new) in RENAMED {
        let (from, to) = if to_core { (new, core) } else { (core, new) };
        if let Some(value) = event.unset(from) {
            event.set(to, value);
        }
    }
}

/// What is checked for both faces.
fn legacy(event: &Value, face: &Face) -> ErrorList {
    let mut errors = ErrorList::new();
    let namespace = event.at("metadata").text("namespace");
    let object = event.at(face.object).text("namespace");
    // upstream knows only the core names here
    let at = Path::new("involvedObject").child("namespace");
    let mismatch = "does not match event.namespace";
    if !event.has("eventTime") {
        let good = if object.is_empty() { matches!(namespace, "" | "default") } else { namespace == object };
        if !good {
            errors.invalid(&at, object, mismatch);
        }
    } else {
        if object.is_empty() && !matches!(namespace, "default" | "kube-system") {
            errors.invalid(&at, object, mismatch);
        }
        let controller = event.text(face.controller);
        let at = Path::new(face.controller);
        if controller.is_empty() {
            errors.required(&at, "");
        }
        errors.each(&at, controller, names::qualified_name(controller));
        for (field, shown, most) in [
            ("reportingInstance", "reportingInstance", 128),
            ("action", "action", 128),
            ("reason", "reason", 128),
            (face.message, "message", 1024),
        ] {
            let at = Path::new(shown);
            let text = event.text(field);
            if text.is_empty() && shown != "message" {
                errors.required(&at, "");
            }
            if text.len() > most {
                errors.invalid(&at, "", format!("can have at most {most} characters"));
            }
        }
    }
    errors.each(&Path::new("namespace"), namespace, names::dns1123_subdomain(namespace));
    errors
}

fn series(event: &Value, errors: &mut ErrorList) {
    let series = event.at("series");
    if !series.is_object() {
        return;
    }
    if series.int("count").unwrap_or(0) < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}

fn create(event: &Value) -> ErrorList {
    let face = &EVENTS_FACE;
    let mut errors = legacy(event, face);
    errors.extend(objectmeta::validate(event, true, names::subdomain_name));
    series(event, &mut errors);
    if !event.has("eventTime") {
        errors.required(&Path::new("eventTime"), "");
    }
    let kind = event.text("type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
    }
    let mut unset = |set: bool, name: &str| {
        if set {
            errors.invalid(&Path::new(name), "", "needs to be unset");
        }
    };
    unset(event.has(face.first), "firstTimestamp");
    unset(event.has(face.last), "lastTimestamp");
    unset(event.int(face.count).unwrap_or(0) != 0, "count");
    let source = event.at(face.source);
    unset(!source.text("component").is_empty() || !source.text("host").is_empty(), "source");
    errors
}

fn update(new: &Value, old: &Value) -> ErrorList {
    let face = &EVENTS_FACE;
    let mut errors = legacy(new, face);
    errors.extend(objectmeta::validate_update(new, old));
    if new.at("series") != old.at("series") {
        series(new, &mut errors);
    }
    for (field, shown) in [
        (face.object, "involvedObject"),
        ("reason", "reason"),
        (face.message, "message"),
        (face.source, "source"),
        (face.first, "firstTimestamp"),
        (face.last, "lastTimestamp"),
        (face.count, "count"),
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        (face.controller, "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        let kind = match shown {
            "involvedObject" => "core.ObjectReference",
            "related" => "*core.ObjectReference",
            "source" => "core.EventSource",
            _ => "any",
        };
        errors.immutable_as(kind, &Path::new(shown), new.at(field), old.at(field));
    }
    errors
}

fn select(event: &Value, field: &str, face: &Face) -> String {
    if field == "source" {
        let component = event.at(face.source).text("component");
        let text = if component.is_empty() { event.text(face.controller) } else { component };
        return text.to_owned();
    }
    match field.split_once('.') {
        Some((_, name)) => event.at(face.object).text(name).to_owned(),
        None => event.text(field).to_owned(),
    }
}

fn cells(event: &Value, now: Timestamp, face: &Face) -> Vec<Value> {
    let time = |field: &str, other: &str| {
        let text = event.text(field);
        if text.is_empty() { other.to_owned() } else { since(text, now) }
    };
    let first = time(face.first, &since(event.text("eventTime"), now));
    let mut last = time(face.last, &first);
    let mut count = event.int(face.count).unwrap_or(0);
    let series = event.at("series");
    if series.is_object() {
        last = since(series.text("lastObservedTime"), now);
        count = series.int("count").unwrap_or(0);
    } else if count == 0 {
        count = 1;
    }
    let object = event.at(face.object);
    let kind = object.text("kind").to_lowercase();
    let target = match object.text("name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = event.at(face.source);
    let either = |a: &str, b: &str| if a.is_empty() { b.to_owned() } else { a.to_owned() };
    let component = either(source.text("component"), event.text(face.controller));
    let instance = either(source.text("host"), event.text("reportingInstance"));
    let source = if instance.is_empty() { component } else { format!("{component}, {instance}") };
    vec![
        last.into(),
        event.text("type").into(),
        event.text("reason").into(),
        target.into(),
        object.text("fieldPath").into(),
        source.into(),
        event.text(face.message).trim().into(),
        first.into(),
        count.into(),
        name(event),
    ]
}
