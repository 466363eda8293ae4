//! What a Job's status may say, and how it may change.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::indexes;
use super::job_spec::bare;
use crate::check::{Errors, same};

/// Is this condition true?
fn is(job: &Value, condition: &str) -> bool {
    let found = |c: &Value| c.text("type") == condition && c.text("status") == "True";
    job.at("status").list("conditions").iter().any(found)
}

fn finished(job: &Value) -> bool {
    is(job, "Complete") || is(job, "Failed")
}

fn time(status: &Value, field: &str) -> Option<Timestamp> {
    status.text(field).parse().ok()
}

/// A status update. Rules are checked only where what they are about has changed.
pub(super) fn update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let at = Path::new("status");
    let (status, before, spec) = (new.at("status"), old.at("status"), new.at("spec"));
    let changed = |field: &str| !same(status.at(field), before.at(field));
    let turned = |condition: &str| is(new, condition) != is(old, condition);
    let end = finished(new) != finished(old);
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.not_negative(&at.child(field), status.int(field));
    }
    uncounted(status.at("uncountedTerminatedPods"), &at, errors);
    let conditions_at = at.child("conditions");
    let complete = is(new, "Complete");
    if (turned("Complete") || turned("Failed")) && complete && is(new, "Failed") {
        bare(errors, &conditions_at, "cannot set Complete=True and Failed=true conditions");
    }
    if (turned("Complete") || turned("FailureTarget")) && complete && is(new, "FailureTarget") {
        bare(errors, &conditions_at, "cannot set Complete=True and FailureTarget=true conditions");
    }
    let completed_at = at.child("completionTime");
    let completion = status.at("completionTime");
    if turned("Complete") || changed("completionTime") {
        if !completion.is_null() && !complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.invalid(&completed_at, completion.clone(), detail);
        }
        if completion.is_null() && complete {
            errors.required(&completed_at, "completionTime is required for Complete jobs");
        }
    }
    if (changed("startTime") || changed("completionTime"))
        && let (Some(start), Some(end)) = (time(status, "startTime"), time(status, "completionTime"))
        && end < start
    {
        errors.invalid(&completed_at, completion.clone(), "must be equal to or after `startTime`");
    }
    if (turned("Failed") || changed("failedIndexes")) && is(new, "Failed") && !is(new, "FailureTarget") {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        bare(errors, &conditions_at, detail);
    }
    if (turned("Complete") || turned("SuccessCriteriaMet")) && complete && !is(new, "SuccessCriteriaMet") {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        bare(errors, &conditions_at, detail);
    }
    let active = status.int("active").unwrap_or(0);
    if (end || changed("active")) && active > 0 && finished(new) {
        errors.invalid(&at.child("active"), active, "active>0 is invalid for finished job");
    }
    let none_to_do = spec.flag("suspend") == Some(true) && spec.int("completions") == Some(0);
    if (end || changed("startTime")) && !none_to_do && !status.has("startTime") && finished(new) {
        errors.required(&at.child("startTime"), "startTime is required for finished job");
    }
    let pods = status.at("uncountedTerminatedPods");
    let some = !pods.list("failed").is_empty() || !pods.list("succeeded").is_empty();
    if (end || changed("uncountedTerminatedPods")) && finished(new) && some {
        let list = |f: &str| if pods.list(f).is_empty() { Value::Null } else { pods.at(f).clone() };
        let shown = format!("{{\"Succeeded\":{},\"Failed\":{}}}", list("succeeded"), list("failed"));
        errors.invalid_shown(&at.child("uncountedTerminatedPods"), shown, "must be empty for finished job");
    }
    index_lists(new, changed("completedIndexes"), changed("failedIndexes"), &at, errors);
    let terminating = status.int("terminating").unwrap_or(0);
    if (end || changed("terminating")) && terminating > 0 && finished(new) {
        errors.invalid(&at.child("terminating"), terminating, "terminating>0 is invalid for finished job");
    }
    let ready = status.int("ready").unwrap_or(0);
    if (changed("ready") || changed("active")) && ready > active {
        errors.invalid(&at.child("ready"), ready, "cannot set more ready pods than active");
    }
    success(new, &conditions_at, errors);
    transitions(new, old, &at, errors);
}

fn uncounted(pods: &Value, at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for list in ["succeeded", "failed"] {
        for (i, uid) in pods.list(list).iter().filter_map(Value::as_str).enumerate() {
            let at = at.child("uncountedTerminatedPods").child(list).index(i);
            if uid.is_empty() {
                errors.invalid(&at, uid, "must not be empty");
            } else if seen.contains(&uid) {
                errors.duplicate(&at, uid);
            } else {
                seen.push(uid);
            }
        }
    }
}

fn index_lists(job: &Value, completed: bool, failed: bool, at: &Path, errors: &mut ErrorList) {
    let (status, spec) = (job.at("status"), job.at("spec"));
    let done = status.text("completedIndexes");
    let lost = status.at("failedIndexes").as_str();
    let (done_at, lost_at) = (at.child("completedIndexes"), at.child("failedIndexes"));
    let all = spec.int("completions");
    let per_index = spec.has("backoffLimitPerIndex");
    if completed
        && let Some(all) = all
        && let Err(why) = indexes::count(done, all)
    {
        errors.invalid(&done_at, done, format!("error parsing completedIndexes: {why}"));
    }
    if failed
        && per_index
        && let (Some(all), Some(lost)) = (all, lost)
        && let Err(why) = indexes::count(lost, all)
    {
        errors.invalid(&lost_at, lost, format!("error parsing failedIndexes: {why}"));
    }
    if completed && !done.is_empty() && spec.text("completionMode") != "Indexed" {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&done_at, done, detail);
    }
    if failed
        && !per_index
        && let Some(lost) = lost
    {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&lost_at, lost, detail);
    }
    if (failed || completed)
        && let (Some(all), Some(lost)) = (all, lost)
        && let Some(why) = indexes::overlap(done, lost, all)
    {
        errors.invalid(&lost_at, lost, why);
    }
}

fn success(job: &Value, at: &Path, errors: &mut ErrorList) {
    let met = is(job, "SuccessCriteriaMet");
    if met && is(job, "Failed") {
        bare(errors, at, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if met && is(job, "FailureTarget") {
        bare(errors, at, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    if job.at("spec").has("successPolicy") && !met && is(job, "Complete") {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        bare(errors, at, detail);
    }
}

fn transitions(new: &Value, old: &Value, at: &Path, errors: &mut ErrorList) {
    let (status, before, spec) = (new.at("status"), old.at("status"), new.at("spec"));
    let conditions_at = at.child("conditions");
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if is(old, condition) && !is(new, condition) {
            let detail = format!("cannot disable the terminal {condition}=True condition");
            bare(errors, &conditions_at, detail);
        }
    }
    let elastic =
        spec.text("completionMode") == "Indexed" && spec.at("completions") == spec.at("parallelism");
    for (field, checked) in [("failed", true), ("succeeded", !elastic)] {
        let (now, was) = (status.int(field).unwrap_or(0), before.int(field).unwrap_or(0));
        if checked && now < was {
            errors.invalid(&at.child(field), now, format!("cannot decrease the {field} counter"));
        }
    }
    let both = |f: &str| status.has(f) && before.has(f) && status.at(f) != before.at(f);
    if both("completionTime") {
        let value = status.at("completionTime").clone();
        errors.invalid(&at.child("completionTime"), value, "field is immutable");
    }
    let suspended = |job: &Value, want: &str| {
        let found = |c: &Value| c.text("type") == "Suspended" && c.text("status") == want;
        job.at("status").list("conditions").iter().any(found)
    };
    let resuming = suspended(old, "True") && suspended(new, "False");
    let start = status.at("startTime");
    let moved = before.has("startTime") && before.at("startTime") != start;
    if moved && !resuming && spec.flag("suspend") != Some(true) {
        let detail = "field is immutable for unsuspended job once set";
        errors.invalid(&at.child("startTime"), start.clone(), detail);
    }
    let met = "SuccessCriteriaMet";
    if is(old, met) && !is(new, met) {
        bare(errors, &conditions_at, "cannot disable the SuccessCriteriaMet=True condition");
    }
    if is(old, "Complete") && !is(old, met) && is(new, met) {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        bare(errors, &conditions_at, detail);
    }
}
