//! StatefulSets.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value, json};

use super::{collisions_not_decremented, counts, within};
use crate::check::{Errors, same};
use crate::columns::{CREATED, NAME, age, containers, name, number};
use crate::gostruct::{Field, Zero, show};
use crate::objectmeta::{generation_by_spec, keep};
use crate::pod::spec::Options;
use crate::pod::{defaults, plugins, template, warnings as pod_warnings};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, intstr, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "apps",
    kind: "StatefulSet",
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    warnings,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    blank: super::no_replicas,
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Ready", "string", "", 0, "Number of the pod with ready state"),
    ("Age", "string", "", 0, CREATED),
    ("Containers", "string", "", 1, "Names of each container in the template."),
    ("Images", "string", "", 1, "Images referenced by each container in the template."),
];

fn default(obj: &mut Value, context: &Context) {
    let spec = obj.child("spec");
    defaults::text(spec, "podManagementPolicy", "OrderedReady");
    if spec.at("updateStrategy").text("type").is_empty() {
        spec.set("updateStrategy", json!({"type": "RollingUpdate"}));
        spec.child("updateStrategy").set("rollingUpdate", json!({"partition": 0}));
    }
    let strategy = spec.child("updateStrategy");
    if strategy.text("type") == "RollingUpdate"
        && let Some(rolling) = strategy.child_if("rollingUpdate")
    {
        rolling.set_default("partition", 0);
        if context.enabled("MaxUnavailableStatefulSet") {
            rolling.set_default("maxUnavailable", 1);
        }
    }
    let retention = spec.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        defaults::text(retention, field, "Retain");
    }
    spec.set_default("replicas", 1);
    spec.set_default("revisionHistoryLimit", 10);
    defaults::template(spec.child("template"));
    for claim in spec.list_mut("volumeClaimTemplates") {
        claim.set("apiVersion", "v1");
        claim.set("kind", "PersistentVolumeClaim");
        claim.child("spec").set_default("volumeMode", "Filesystem");
        defaults::text(claim.child("status"), "phase", "Pending");
    }
}

fn prepare_create(obj: &mut Value, context: &Context) {
    super::prepare_create(obj, context);
    drop_disabled(obj, None, context);
}

fn prepare_update(new: &mut Value, old: &Value, context: &Context) {
    if context.subresource == "status" {
        return keep(new, old, "spec");
    }
    keep(new, old, "status");
    drop_disabled(new, Some(old), context);
    generation_by_spec(new, old);
}

fn drop_disabled(obj: &mut Value, old: Option<&Value>, context: &Context) {
    let rolling = |obj: &'_ Value| obj.at("spec").at("updateStrategy").at("rollingUpdate").clone();
    let used = old.is_some_and(|old| rolling(old).has("maxUnavailable"));
    if !used && !context.enabled("MaxUnavailableStatefulSet") {
        let strategy = obj.child("spec").child("updateStrategy");
        if let Some(rolling) = strategy.child_if("rollingUpdate") {
            rolling.unset("maxUnavailable");
        }
    }
}

fn validate(obj: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::label_name);
    let options = Options::template(context);
    spec(obj.at("spec"), options, &Lax::default(), &mut errors);
    errors
}

/// What an update does not look at again.
#[derive(Default)]
struct Lax {
    service_name: bool,
    template: bool,
    claims: bool,
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    if context.subresource == "status" {
        let mut errors = ErrorList::new();
        status(new.at("status"), &mut errors);
        errors.extend(objectmeta::validate_update(new, old));
        collisions_not_decremented(new, old, &mut errors);
        return errors;
    }
    let mut errors = objectmeta::validate_update(new, old);
    let options = Options::template(context);
    let mut lax = Lax { service_name: true, template: false, claims: true };
    let mut before = ErrorList::new();
    spec(old.at("spec"), options, &lax, &mut before);
    lax.template = !before.is_empty();
    spec(new.at("spec"), options, &lax, &mut errors);
    let mut munged = new.at("spec").clone();
    for field in [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ] {
        keep(&mut munged, old.at("spec"), field);
    }
    if !same(&munged, old.at("spec")) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.forbidden(&Path::new("spec"), detail);
    }
    errors
}

fn spec(spec: &Value, options: Options, lax: &Lax, errors: &mut ErrorList) {
    let at = Path::new("spec");
    match spec.text("podManagementPolicy") {
        "" => errors.required(&at.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.invalid(&at.child("podManagementPolicy"), other, detail);
        }
    }
    strategy(spec.at("updateStrategy"), &at.child("updateStrategy"), errors);
    let retention = spec.at("persistentVolumeClaimRetentionPolicy");
    if retention.is_object() {
        let at = at.child("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            errors.one_of(&at.child(field), retention.text(field), &["Retain", "Delete"]);
        }
    }
    if !lax.claims {
        for (i, claim) in spec.list("volumeClaimTemplates").iter().enumerate() {
            let at = at.child("volumeClaimTemplates").index(i).child("spec");
            plugins::claim_spec(claim.at("spec"), false, &at, errors);
        }
    }
    for field in ["replicas", "minReadySeconds"] {
        errors.not_negative(&at.child(field), spec.int(field));
    }
    errors.not_negative(&at.child("ordinals.start"), spec.at("ordinals").int("start"));
    let service = spec.text("serviceName");
    if !lax.service_name && !service.is_empty() {
        errors.each(&at.child("serviceName"), service, names::dns1123_label(service));
    }
    let selector = spec.at("selector");
    if template::selector(selector, "statefulset", &at.child("selector"), errors) {
        let pod = with_claims(spec);
        let at = at.child("template");
        template::selected(&pod, selector, &at, errors);
        if !lax.template {
            template::template(&pod, options, &at, errors);
        }
        template::metadata(&pod, options, &at, errors);
    } else {
        let shown = crate::gostruct::label_selector(selector);
        let mut error = machinery::field::Error::invalid(&at.child("selector"), Value::Null, shown);
        error.value = None;
        errors.push(error);
    }
    template::runs_always(spec.at("template"), "StatefulSet", &at.child("template"), errors);
}

/// The template with the volumes that the claim templates make, and without what the controller sets itself.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec.at("template").clone();
    let claims = spec.list("volumeClaimTemplates");
    let pod = template.child("spec");
    pod.unset("subdomain");
    pod.unset("hostname");
    if claims.is_empty() {
        return template;
    }
    let mut volumes: Vec<Value> = Vec::new();
    for claim in claims {
        let name = claim.at("metadata").text("name");
        if !volumes.iter().any(|v| v.text("name") == name) {
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
    }
    let made = volumes.len();
    for volume in pod.list("volumes") {
        if !volumes[..made].iter().any(|v| v.text("name") == volume.text("name")) {
            volumes.push(volume.clone());
        }
    }
    pod.set("volumes", volumes);
    template
}

fn strategy(strategy: &Value, at: &Path, errors: &mut ErrorList) {
    const STRATEGY: &[Field] =
        &[("Type", "type", Zero::Text), ("RollingUpdate", "rollingUpdate", Zero::Null)];
    const ROLLING: &[Field] =
        &[("Partition", "partition", Zero::Number), ("MaxUnavailable", "maxUnavailable", Zero::Null)];
    let rolling = strategy.at("rollingUpdate");
    let at_rolling = at.child("rollingUpdate");
    match strategy.text("type") {
        "" => errors.required(at, ""),
        "OnDelete" => {
            if rolling.is_object() {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.invalid_shown(&at_rolling, show(rolling, ROLLING), detail);
            }
        }
        "RollingUpdate" => {
            errors.not_negative(&at_rolling.child("partition"), rolling.int("partition"));
            let most = rolling.at("maxUnavailable");
            if !most.is_null() {
                let at = at_rolling.child("maxUnavailable");
                intstr::not_negative(most, &at, errors);
                if intstr::amount(most) == 0 {
                    errors.invalid(&at, most.clone(), "cannot be 0");
                }
                intstr::at_most_all(most, &at, errors);
            }
        }
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.invalid_shown(at, show(strategy, STRATEGY), detail);
        }
    }
}

fn status(status: &Value, errors: &mut ErrorList) {
    let fields = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    counts(status, &fields, errors);
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    within(status, &parts, "replicas", "status.replicas", errors);
    within(status, &["availableReplicas"], "readyReplicas", "status.readyReplicas", errors);
}

fn warnings(new: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    let mut out = super::template_warnings(new, old, context);
    if old.is_some() && context.subresource == "status" {
        return out;
    }
    let spec = new.at("spec");
    for (i, claim) in spec.list("volumeClaimTemplates").iter().enumerate() {
        let mut at = Path::new("spec").child("volumeClaimTemplates").index(i);
        if old.is_some() {
            at = at.child("Spec");
        }
        pod_warnings::claim_spec(claim.at("spec"), &at, &mut out);
    }
    if spec.int("revisionHistoryLimit").is_some_and(|n| n < 0) {
        out.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
    }
    out
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (obj.at("spec"), obj.at("status"));
    let (names, images) = containers(spec.at("template").at("spec"));
    let ready = format!("{}/{}", number(status, "readyReplicas"), number(spec, "replicas"));
    vec![name(obj), ready.into(), age(obj, now), names.into(), images.into()]
}
