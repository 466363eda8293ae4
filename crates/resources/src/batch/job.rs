//! Jobs.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::{job_spec, job_status};
use crate::check::{self, Errors, same, selector_matches};
use crate::columns::{CREATED, NAME, age, containers, human, name, number, selector};
use crate::pod::spec::Options;
use crate::pod::{defaults, warnings as pod_warnings};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, gostruct, internal, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "batch",
    kind: "Job",
    default,
    prepare_create,
    prepare_update,
    validate: |obj, context| validate(obj, true, context),
    validate_update,
    warnings,
    orphans: true,
    selectable: &["status.successful"],
    select: |obj, _| obj.at("status").int("succeeded").unwrap_or(0).to_string(),
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Status", "string", "", 0, "Status of the job."),
    (
        "Completions",
        "string",
        "",
        0,
        "The number of pods which reached phase Succeeded. The value increases monotonically for a given spec. However, it may decrease in reaction to scale down of elastic indexed jobs.",
    ),
    ("Duration", "string", "", 0, "Time required to complete the job."),
    ("Age", "string", "", 0, CREATED),
    ("Containers", "string", "", 1, "Names of each container in the template."),
    ("Images", "string", "", 1, "Images referenced by each container in the template."),
    (
        "Selector",
        "string",
        "",
        1,
        "A label query over pods that should match the pod count. Normally, the system sets this field for you. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    ),
];

const UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

fn default(obj: &mut Value, _: &Context) {
    let spec = obj.child("spec");
    if !spec.has("completions") && !spec.has("parallelism") {
        spec.set("completions", 1);
    }
    spec.set_default("parallelism", 1);
    let limit = if spec.has("backoffLimitPerIndex") { i32::MAX } else { 6 };
    spec.set_default("backoffLimit", limit);
    spec.set_default("completionMode", "NonIndexed");
    spec.set_default("suspend", false);
    let replacement = if spec.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    spec.set_default("podReplacementPolicy", replacement);
    spec.set_default("manualSelector", false);
    job_spec::default_policy(spec);
    defaults::template(spec.child("template"));
    own_labels(obj);
}

/// The template's labels are the job's own unless it has some.
fn own_labels(obj: &mut Value) {
    let labels = obj.at("spec").at("template").at("metadata").at("labels").clone();
    let meta = obj.child("metadata");
    if labels.is_object() && meta.map("labels").is_none_or(|l| l.is_empty()) {
        meta.set("labels", labels);
    }
}

fn prepare_create(obj: &mut Value, context: &Context) {
    crate::apps::prepare_create(obj, context);
    // labels taken from the template are to have what the server adds to the template, too
    let taken = obj.at("metadata").at("labels") == obj.at("spec").at("template").at("metadata").at("labels");
    generate_selector(obj);
    if taken {
        obj.child("metadata").unset("labels");
    }
    own_labels(obj);
}

fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    crate::apps::prepare_update(new, old, context);
    own_labels(new);
}

fn generate_selector(obj: &mut Value) {
    if obj.at("spec").flag("manualSelector") == Some(true) {
        return;
    }
    let meta = obj.at("metadata");
    let (name, uid) = (meta.text("name").to_owned(), meta.text("uid").to_owned());
    let spec = obj.child("spec");
    let labels = spec.child("template").child("metadata").child("labels");
    for (key, value) in [(OLD_NAME, &name), (JOB_NAME, &name), (OLD_UID, &uid), (UID, &uid)] {
        labels.set_default(key, value.as_str());
    }
    spec.child("selector").child("matchLabels").set_default(UID, uid);
}

/// `prefixed`: the labels with a domain are asked for too.
fn validate(obj: &Value, prefixed: bool, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    generated_selector(obj, prefixed, &mut errors);
    spec(obj.at("spec"), context, &mut errors);
    let spec = obj.at("spec");
    let completions = spec.int("completions").unwrap_or(0);
    if spec.text("completionMode") == "Indexed" && completions > 0 {
        let name = obj.at("metadata").text("name");
        let host = format!("{name}-{}", completions - 1);
        if !names::dns1123_label(&host).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {host}");
            errors.invalid(&Path::new("metadata").child("name"), name, detail);
        }
    }
    errors
}

fn spec(spec: &Value, context: &Context, errors: &mut ErrorList) {
    let at = Path::new("spec");
    job_spec::spec(spec, Options::template(context), &at, errors);
    let selector = spec.at("selector");
    let before = errors.len();
    if selector.is_object() {
        check::label_selector(selector, &at.child("selector"), errors);
    } else {
        errors.required(&at.child("selector"), "");
    }
    let good = errors.len() == before || !selector.is_object();
    let labels = spec.at("template").at("metadata").at("labels");
    if good && !(selector.is_object() && selector_matches(selector, labels)) {
        let at = at.child("template").child("metadata").child("labels");
        errors.invalid(&at, labels.clone(), "`selector` does not match template `labels`");
    }
}

fn generated_selector(obj: &Value, prefixed: bool, errors: &mut ErrorList) {
    let spec = obj.at("spec");
    let selector = spec.at("selector");
    if spec.flag("manualSelector") == Some(true) || !selector.is_object() {
        return;
    }
    let meta = obj.at("metadata");
    let (name, uid) = (meta.text("name"), meta.text("uid"));
    if uid.is_empty() {
        errors.required(&Path::new("metadata").child("uid"), "");
    }
    let labels = spec.at("template").at("metadata").at("labels");
    let at = Path::new("spec").child("template").child("metadata").child("labels");
    let mut expected = serde_json::Map::new();
    for (key, value, checked) in
        [(OLD_UID, uid, true), (OLD_NAME, name, true), (UID, uid, prefixed), (JOB_NAME, name, prefixed)]
    {
        if !checked {
            continue;
        }
        expected.insert(key.into(), value.into());
        match labels.at(key).as_str() {
            None => errors.required(&at.key(key), format!("must be '{value}'")),
            Some(found) if found != value => {
                errors.invalid(&at.key(key), labels.clone(), format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    let bad = {
        let mut found = ErrorList::new();
        check::label_selector(selector, &Path::root(), &mut found);
        !found.is_empty()
    };
    if !bad && !selector_matches(selector, &Value::Object(expected)) {
        let shown = gostruct::label_selector(selector);
        errors.invalid_shown(&Path::new("spec").child("selector"), shown, "`selector` not auto-generated");
    }
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    if context.subresource == "status" {
        let mut errors = objectmeta::validate_update(new, old);
        job_status::update(new, old, &mut errors);
        return errors;
    }
    let old_labels = old.at("spec").at("template").at("metadata").at("labels");
    let prefixed = old_labels.has(JOB_NAME) && old_labels.has(UID);
    let mut errors = validate(new, prefixed, context);
    errors.extend(objectmeta::validate_update(new, old));
    let (spec, before) = (new.at("spec"), old.at("spec"));
    self::spec(spec, context, &mut errors);
    let at = Path::new("spec");
    completions(spec, before, &at, &mut errors);
    if !same(spec.at("selector"), before.at("selector")) {
        let shown = gostruct::label_selector(spec.at("selector"));
        errors.invalid_shown(&at.child("selector"), shown, check::IMMUTABLE);
    }
    template_update(new, old, &at, &mut errors);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        let kind = match field {
            "podFailurePolicy" => "*batch.PodFailurePolicy",
            "successPolicy" => "*batch.SuccessPolicy",
            _ => "any",
        };
        errors.immutable_as(kind, &at.child(field), spec.at(field), before.at(field));
    }
    errors
}

fn completions(spec: &Value, before: &Value, at: &Path, errors: &mut ErrorList) {
    let at = at.child("completions");
    if spec.text("completionMode") != "Indexed" {
        return errors.immutable(&at, spec.at("completions"), before.at("completions"));
    }
    let now = spec.int("completions");
    if now != before.int("completions")
        && let Some(now) = now
        && now != spec.int("parallelism").unwrap_or(0)
    {
        errors.invalid(&at, now, "can only be modified in tandem with spec.parallelism");
    }
}

/// A suspended job that runs no pods may be sent elsewhere and be given other resources.
fn template_update(new: &Value, old: &Value, at: &Path, errors: &mut ErrorList) {
    let (template, mut before) = (new.at("spec").at("template"), old.at("spec").at("template").clone());
    let status = old.at("status");
    let is_suspended = |c: &Value| c.text("type") == "Suspended" && c.text("status") == "True";
    let suspended = old.at("spec").flag("suspend") == Some(true);
    let idle = !status.has("startTime") || status.list("conditions").iter().any(is_suspended);
    let mutable = suspended && idle && status.int("active").unwrap_or(0) == 0;
    let pod = template.at("spec");
    if mutable {
        let was = before.child("spec");
        let node = pod.at("affinity").at("nodeAffinity").clone();
        if pod.has("affinity") || was.has("affinity") {
            let affinity = was.child("affinity");
            if node.is_null() {
                affinity.unset("nodeAffinity");
            } else {
                affinity.set("nodeAffinity", node);
            }
            if !pod.has("affinity") && was.map("affinity").is_some_and(|a| a.is_empty()) {
                was.unset("affinity");
            }
        }
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            objectmeta::keep(was, pod, field);
        }
        for field in ["annotations", "labels"] {
            objectmeta::keep(before.child("metadata"), template.at("metadata"), field);
        }
        for list in ["containers", "initContainers"] {
            let now = pod.list(list);
            let was = before.child("spec").list_mut(list);
            if now.len() != was.len() {
                continue;
            }
            for (was, now) in was.iter_mut().zip(now).filter(|(w, n)| w.text("name") == n.text("name")) {
                objectmeta::keep(was, now, "resources");
            }
        }
        if !same(pod, before.at("spec")) {
            let shown = internal::compact("core.PodSpec", pod);
            errors.invalid_shown(&at.child("template.spec"), shown, check::IMMUTABLE);
        }
    } else if !same(template, &before) {
        let shown = internal::compact("core.PodTemplateSpec", template);
        errors.invalid_shown(&at.child("template"), shown, check::IMMUTABLE);
    }
}

fn warnings(new: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    let generation = |obj: &Value| obj.at("metadata").int("generation");
    let mut out = Vec::new();
    match old {
        Some(old) if context.subresource == "status" || generation(old) == generation(new) => return out,
        Some(_) => {}
        None => out.extend(pod_warnings::name(new.at("metadata").text("name"), "Pod names and hostnames")),
    }
    out.extend(job_spec::warnings(new.at("spec"), &Path::new("spec")));
    out
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (obj.at("spec"), obj.at("status"));
    let done = number(status, "succeeded");
    let completions = match (spec.int("completions"), spec.int("parallelism").unwrap_or(0)) {
        (Some(all), _) => format!("{done}/{all}"),
        (None, many) if many > 1 => format!("{done}/1 of {many}"),
        (None, _) => format!("{done}/1"),
    };
    let time = |field: &str| status.text(field).parse::<Timestamp>().ok();
    let duration = match (time("startTime"), time("completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => human(end.unwrap_or(now).as_second() - start.as_second()),
    };
    let is = |kind: &str| {
        let found = status.list("conditions").iter().find(|c| c.text("type") == kind);
        found.is_some_and(|c| c.text("status") == "True")
    };
    let state = if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if obj.at("metadata").has("deletionTimestamp") {
        "Terminating"
    } else {
        ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
            .into_iter()
            .find(|kind| is(kind))
            .unwrap_or("Running")
    };
    let (names, images) = containers(spec.at("template").at("spec"));
    vec![
        name(obj),
        state.into(),
        completions.into(),
        duration.into(),
        age(obj, now),
        names.into(),
        images.into(),
        selector(spec.at("selector")).into(),
    ]
}
