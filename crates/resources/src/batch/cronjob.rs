//! CronJobs.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value, json};

use super::{job_spec, schedule};
use crate::apps::{prepare_create, prepare_update};
use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, containers, name, selector, since};
use crate::gostruct;
use crate::pod::defaults;
use crate::pod::spec::Options;
use crate::pod::warnings as pod_warnings;
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "batch",
    kind: "CronJob",
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    warnings,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    ("Schedule", "string", "", 0, "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron."),
    (
        "Timezone",
        "string",
        "",
        0,
        "The time zone name for the given schedule, see https://en.wikipedia.org/wiki/List_of_tz_database_time_zones. If not specified, this will default to the time zone of the kube-controller-manager process. The set of valid time zone names and the time zone offset is loaded from the system-wide time zone database by the API server during CronJob validation and the controller manager during execution. If no system-wide time zone database can be found a bundled version of the database is used instead. If the time zone name becomes invalid during the lifetime of a CronJob or due to a change in host configuration, the controller will stop creating new new Jobs and will create a system event with the reason UnknownTimeZone. More information can be found in https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#time-zones",
    ),
    (
        "Suspend",
        "boolean",
        "",
        0,
        "This flag tells the controller to suspend subsequent executions, it does not apply to already started executions.  Defaults to false.",
    ),
    ("Active", "integer", "", 0, "A list of pointers to currently running jobs."),
    (
        "Last Schedule",
        "string",
        "",
        0,
        "Information when was the last time the job was successfully scheduled.",
    ),
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

fn default(obj: &mut Value, _: &Context) {
    let spec = obj.child("spec");
    defaults::text(spec, "concurrencyPolicy", "Allow");
    spec.set_default("suspend", false);
    spec.set_default("successfulJobsHistoryLimit", 3);
    spec.set_default("failedJobsHistoryLimit", 1);
    let job = spec.child("jobTemplate").child("spec");
    job_spec::default_policy(job);
    defaults::template(job.child("template"));
}

fn validate(obj: &Value, context: &Context) -> ErrorList {
    let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
    spec(obj.at("spec"), None, context, &mut errors);
    let name = obj.at("metadata").text("name");
    // a job's name is the CronJob's with eleven more
    if name.len() > 52 {
        let at = Path::new("metadata").child("name");
        errors.invalid(&at, name, "must be no more than 52 characters");
    }
    errors
}

fn validate_update(new: &Value, old: &Value, context: &Context) -> ErrorList {
    if context.subresource == "status" {
        return ErrorList::new();
    }
    let mut errors = objectmeta::validate_update(new, old);
    spec(new.at("spec"), Some(old.at("spec")), context, &mut errors);
    errors
}

fn spec(spec: &Value, old: Option<&Value>, context: &Context, errors: &mut ErrorList) {
    let at = Path::new("spec");
    let when = spec.text("schedule");
    let when_at = at.child("schedule");
    if when.is_empty() {
        errors.required(&when_at, "");
    } else {
        if let Err(why) = schedule::check(when) {
            errors.invalid(&when_at, when, why);
        }
        let old_zone = old.is_some_and(|old| old.text("schedule").contains("TZ"));
        if when.contains("TZ") {
            if !old_zone {
                let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                errors.invalid(&when_at, when, detail);
            } else if spec.has("timeZone") {
                let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
                errors.invalid(&when_at, when, detail);
            }
        }
    }
    errors.not_negative(&at.child("startingDeadlineSeconds"), spec.int("startingDeadlineSeconds"));
    if old.is_none_or(|old| old.at("timeZone") != spec.at("timeZone")) {
        time_zone(spec.at("timeZone"), &at.child("timeZone"), errors);
    }
    match spec.text("concurrencyPolicy") {
        "" => errors.required(&at.child("concurrencyPolicy"), ""),
        policy => errors.one_of(&at.child("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"]),
    }
    let job = spec.at("jobTemplate").at("spec");
    let job_at = at.child("jobTemplate").child("spec");
    job_spec::spec(job, Options::template(context), &job_at, errors);
    if job.at("selector").is_object() {
        let shown = gostruct::label_selector(job.at("selector"));
        errors.invalid_shown(&job_at.child("selector"), shown, "`selector` will be auto-generated");
    }
    if job.flag("manualSelector") == Some(true) {
        errors.unsupported(&job_at.child("manualSelector"), true, &["nil", "false"]);
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.not_negative(&at.child(field), spec.int(field));
    }
}

fn time_zone(zone: &Value, at: &Path, errors: &mut ErrorList) {
    let Some(zone) = zone.as_str() else { return };
    if zone.is_empty() {
        return errors.invalid(at, zone, "timeZone must be nil or non-empty string");
    }
    let good_part = |part: &str| {
        part != "."
            && part != ".."
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+'))
    };
    let unknown = format!("unknown time zone {zone}");
    if !zone.split('/').all(good_part) {
        return errors.invalid(at, zone, unknown);
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(at, zone, detail);
    }
    if zone != "Local" && !schedule::known_zone(zone) {
        errors.invalid(at, zone, unknown);
    }
}

fn warnings(new: &Value, old: Option<&Value>, context: &Context) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_some() && context.subresource == "status" {
        return out;
    }
    let spec = new.at("spec");
    let generation = |obj: &Value| obj.at("metadata").int("generation");
    if old.is_none() {
        out.extend(pod_warnings::name(new.at("metadata").text("name"), "Pod names and hostnames"));
    }
    if old.is_none_or(|old| generation(old) != generation(new)) {
        let at = Path::new("spec").child("jobTemplate").child("spec");
        out.extend(job_spec::warnings(spec.at("jobTemplate").at("spec"), &at));
    }
    if old.is_some() && spec.text("schedule").contains("TZ") {
        out.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".into());
    }
    out
}

fn cells(obj: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (obj.at("spec"), obj.at("status"));
    let job = spec.at("jobTemplate").at("spec");
    let (names, images) = containers(job.at("template").at("spec"));
    let last = match status.text("lastScheduleTime") {
        "" => "<none>".to_owned(),
        time => since(time, now),
    };
    let suspend = match spec.flag("suspend") {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    vec![
        name(obj),
        spec.text("schedule").into(),
        spec.at("timeZone").as_str().unwrap_or("<none>").into(),
        suspend.into(),
        json!(status.list("active").len()),
        last.into(),
        age(obj, now),
        names.into(),
        images.into(),
        selector(job.at("selector")).into(),
    ]
}
