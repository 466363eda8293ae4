//! When a CronJob's next Job is due, and what becomes of those there are.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use resources::cron::{self, Schedule};

use crate::common::controller_ref;

pub(super) struct View<'a> {
    pub cron: &'a CronJob,
    /// Its own Jobs.
    pub jobs: &'a [Arc<Job>],
    /// The zone of schedules that name none.
    pub local: &'a TimeZone,
    pub now: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub delete: Vec<Arc<Job>>,
    pub create: Option<Box<Job>>,
    /// The status to write, if it is not there yet; comes before `create`, which adds its Job to it.
    pub status: Option<CronJobStatus>,
    pub again: Option<Duration>,
    /// Events: warning, reason, message.
    pub notes: Vec<(bool, &'static str, String)>,
}

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are told of.
const MANY: i64 = 100;

pub(super) fn decide(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let spec = view.cron.spec.clone();
    let old = view.cron.status.clone().unwrap_or_default();
    let mut new = old.clone();
    history(view, &mut plan);
    active(view, &mut new, &mut plan);
    if view.cron.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true) {
        match times(view) {
            Err((reason, message)) => plan.notes.push((true, reason, message)),
            Ok((schedule, zone)) => start(view, &schedule, &zone, &mut new, &mut plan),
        }
    }
    if new.active.as_ref().is_some_and(Vec::is_empty) {
        new.active = None;
    }
    plan.status = (new != old).then_some(new);
    plan
}

/// When the Job ended well (true) or not.
fn end(job: &Job) -> Option<bool> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ends = conditions.filter(|c| c.status == "True").filter_map(|c| match c.type_.as_str() {
        "Complete" => Some(true),
        "Failed" => Some(false),
        _ => None,
    });
    ends.next()
}

/// The oldest finished Jobs beyond the limits go.
fn history(view: &View<'_>, plan: &mut Plan) {
    let spec = view.cron.spec.clone();
    let limits = [(true, spec.successful_jobs_history_limit), (false, spec.failed_jobs_history_limit)];
    for (good, limit) in limits {
        let Some(limit) = limit else { continue };
        let mut jobs: Vec<_> = view.jobs.iter().filter(|job| end(job) == Some(good)).cloned().collect();
        let started =
            |job: &Job| job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|t| t.0);
        jobs.sort_by_key(|job| (started(job), job.metadata.name.clone()));
        let surplus = jobs.len().saturating_sub(limit.max(0) as usize);
        plan.delete.extend(jobs.into_iter().take(surplus));
    }
}

/// Brings the list of Jobs under way up to date.
fn active(view: &View<'_>, new: &mut CronJobStatus, plan: &mut Plan) {
    let mut listed = new.active.take().unwrap_or_default();
    let of = |reference: &ObjectReference| view.jobs.iter().find(|job| job.metadata.uid == reference.uid);
    for job in view.jobs {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let known = listed.iter().any(|reference| reference.uid == job.metadata.uid);
        match end(job) {
            None if !known => {
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                plan.notes.push((true, "UnexpectedJob", message));
            }
            Some(good) if known => {
                let kind = if good { "Complete" } else { "Failed" };
                let message = format!("Saw completed job: {name}, condition: {kind}");
                plan.notes.push((false, "SawCompletedJob", message));
            }
            _ => {}
        }
        if end(job) == Some(true) {
            let done = job.status.as_ref().and_then(|status| status.completion_time.clone());
            let last = new.last_successful_time.as_ref().map(|time| time.0);
            if let Some(done) = done.filter(|done| last.is_none_or(|last| done.0 > last)) {
                new.last_successful_time = Some(done);
            }
        }
    }
    listed.retain(|reference| match of(reference) {
        Some(job) => end(job).is_none(),
        None => {
            let name = reference.name.clone().unwrap_or_default();
            plan.notes.push((false, "MissingJob", format!("Active job went missing: {name}")));
            false
        }
    });
    new.active = Some(listed);
}

fn times(view: &View<'_>) -> Result<(Schedule, TimeZone), (&'static str, String)> {
    let spec = view.cron.spec.clone();
    let zone = match spec.time_zone.as_deref() {
        None => view.local.clone(),
        Some(name) => cron::zone(name).ok_or_else(|| {
            ("UnknownTimeZone", format!("invalid timeZone: \"{name}\": unknown time zone {name}"))
        })?,
    };
    let schedule = cron::parse(&spec.schedule).map_err(|why| {
        ("UnparseableSchedule", format!("unparseable schedule: \"{}\" : {why}", spec.schedule))
    })?;
    Ok((schedule, zone))
}

/// The latest time that has come since the last Job, and whether many were missed.
pub(super) fn due(view: &View<'_>, schedule: &Schedule, zone: &TimeZone) -> (Option<Timestamp>, bool) {
    let spec = view.cron.spec.clone();
    let status = view.cron.status.clone().unwrap_or_default();
    let created = view.cron.metadata.creation_timestamp.as_ref().map_or(view.now, |time| time.0);
    let mut from = status.last_schedule_time.map_or(created, |time| time.0);
    if let Some(deadline) = spec.starting_deadline_seconds {
        from = from.max(view.now - SignedDuration::from_secs(deadline));
    }
    let Some(first) = schedule.next(from, zone).filter(|first| *first <= view.now) else {
        return (None, false);
    };
    let Some(second) = schedule.next(first, zone) else { return (Some(first), false) };
    let between = second.duration_since(first).as_secs().max(1);
    let missed = view.now.duration_since(first).as_secs() / between + 1;
    // Near enough to go on from there time by time, however long ago the first one was.
    let mut latest = first;
    if missed > MANY {
        let near = view.now - SignedDuration::from_secs(between * 2);
        latest = schedule.next(near.max(first), zone).filter(|at| *at <= view.now).unwrap_or(first);
    }
    while let Some(next) = schedule.next(latest, zone).filter(|next| *next <= view.now) {
        latest = next;
    }
    (Some(latest), missed > MANY)
}

fn start(view: &View<'_>, schedule: &Schedule, zone: &TimeZone, new: &mut CronJobStatus, plan: &mut Plan) {
    let spec = view.cron.spec.clone();
    if let Some(next) = schedule.next(view.now, zone) {
        // A little later than that, so that a clock that is a little behind has got there.
        let wait = next.duration_since(view.now) + SignedDuration::from_millis(100);
        plan.again = Duration::try_from(wait).ok();
    }
    let (at, many) = due(view, schedule, zone);
    if many {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.notes.push((true, "TooManyMissedTimes", message.into()));
    }
    let Some(at) = at else { return };
    let late = |deadline: i64| at + SignedDuration::from_secs(deadline) < view.now;
    if spec.starting_deadline_seconds.is_some_and(late) {
        let message =
            format!("Missed scheduled time to start a job: {}", at.strftime("%a, %d %b %Y %H:%M:%S %z"));
        plan.notes.push((true, "MissSchedule", message));
        return;
    }
    let name = format!("{}-{}", view.cron.metadata.name.as_deref().unwrap_or_default(), at.as_second() / 60);
    let active = new.active.get_or_insert_default();
    let there = active.iter().any(|reference| reference.name.as_deref() == Some(&name));
    if there || new.last_schedule_time.as_ref().is_some_and(|last| last.0 == at) {
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.notes.push((false, "JobAlreadyActive", message.into()));
            return;
        }
        Some("Replace") => {
            let running = |job: &&Arc<Job>| active.iter().any(|reference| reference.uid == job.metadata.uid);
            plan.delete.extend(view.jobs.iter().filter(running).cloned());
            active.clear();
        }
        _ => {}
    }
    plan.create = Some(Box::new(job(view.cron, name, at, zone)));
    new.last_schedule_time = Some(Time(at));
}

fn job(cron: &CronJob, name: String, at: Timestamp, zone: &TimeZone) -> Job {
    let spec = cron.spec.clone();
    let template = spec.job_template;
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let zone = if spec.time_zone.is_some() { zone.clone() } else { TimeZone::UTC };
    let shown = match zone == TimeZone::UTC {
        true => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        false => at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    };
    annotations.insert(SCHEDULED.into(), shown);
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_ref(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
