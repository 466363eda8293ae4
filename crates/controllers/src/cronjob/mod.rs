//! CronJob: makes a Job when its time comes. <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/>

mod act;
mod decide;
#[cfg(test)]
mod tests;

pub(crate) use act::CONTROLLER;
