//! The one thread that writes: it takes all requests that wait, evaluates them in order, makes them durable with one
//! sync, and only then shows and answers them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::checkpoint::Position;
use super::log::{Failed, Log, Place, Table};
use super::{Shared, State};
use crate::mvcc::{self, Applied, Commit, exclusive, lock};
use crate::{Error, Lease, LeaseId, Result, Revision, Txn, TxnResponse};

pub(super) type Answer<T> = oneshot::Sender<Result<T>>;

pub(super) enum Job {
    Txn(Txn, Answer<TxnResponse>),
    Compact(Revision, Answer<()>),
    Grant(LeaseId, i64, Answer<Lease>),
    Revoke(LeaseId, Answer<()>),
    /// The store is being dropped; what came before is still done.
    Close,
}

/// A batch is synced at the latest when it has this many bytes.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_JOBS: usize = 4096;

/// What to do for a request once the batch is durable.
enum Done {
    Txn(Applied, Answer<TxnResponse>),
    Compact(Revision, Option<Answer<()>>),
    Grant(Lease, Answer<Lease>),
    Revoke(LeaseId, Applied, Option<Answer<()>>),
}

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub log: Log,
    pub jobs: Receiver<Job>,
    /// When which revision was the newest, about a minute apart, oldest first; for automatic compaction.
    pub ages: std::collections::VecDeque<(Instant, Revision)>,
}

impl Writer {
    /// Until the store is dropped.
    pub fn run(mut self) {
        let mut left = None;
        while let Some(job) = left.take().or_else(|| self.wait()) {
            if matches!(job, Job::Close) {
                break;
            }
            left = self.batch(job);
        }
        self.shared.hub.close();
    }

    /// The next request; `None` at the end. Leases that expire meanwhile are revoked.
    fn wait(&mut self) -> Option<Job> {
        loop {
            let deadline = lock(&self.shared.state).leases.next_deadline();
            let job = match deadline {
                None => self.jobs.recv().ok(),
                Some(deadline) => {
                    match self.jobs.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                        Ok(job) => Some(job),
                        Err(RecvTimeoutError::Timeout) => {
                            self.expire();
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => None,
                    }
                }
            };
            return job;
        }
    }

    /// Works on this request and on what waits; answers a request that must begin the next batch.
    fn batch(&mut self, first: Job) -> Option<Job> {
        if let Err(error) = self.log.begin() {
            self.refuse(first, &error);
            return None;
        }
        let mut done = Vec::new();
        let mut next = Some(first);
        let mut left = None;
        let shared = self.shared.clone();
        {
            let mut index = exclusive(&shared.index);
            while let Some(job) = next.take() {
                // A lease's keys are known once everything before is done.
                if matches!(job, Job::Close) || (matches!(job, Job::Revoke(..)) && !done.is_empty()) {
                    left = Some(job);
                    break;
                }
                self.evaluate(&mut index, job, &mut done);
                if self.log.pending() >= BATCH_BYTES || done.len() >= BATCH_JOBS {
                    break;
                }
                next = match self.jobs.try_recv() {
                    Ok(job) => Some(job),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
                };
            }
        }
        self.commit(done);
        left
    }

    fn evaluate(&mut self, index: &mut mvcc::Index<Place>, job: Job, done: &mut Vec<Done>) {
        let log = &mut self.log;
        match job {
            Job::Txn(txn, answer) => {
                let state = lock(&self.shared.state);
                match mvcc::execute(index, log, &|id| state.leases.contains(id), &txn) {
                    Ok(applied) => {
                        log.finish();
                        done.push(Done::Txn(applied, answer));
                    }
                    Err(error) => {
                        log.discard();
                        let _ = answer.send(Err(error));
                    }
                }
            }
            Job::Compact(revision, answer) => {
                match index.check_compact(revision, self.shared.hub.published()) {
                    Ok(()) => {
                        log.compact(revision);
                        done.push(Done::Compact(revision, Some(answer)));
                    }
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Job::Grant(id, ttl, answer) => {
                let state = lock(&self.shared.state);
                // Two grants of one id in one batch: the second must see the first.
                let taken =
                    id != 0 && done.iter().any(|d| matches!(d, Done::Grant(lease, _) if lease.id == id));
                let checked = if taken { Err(Error::LeaseExists) } else { state.leases.check_grant(id, ttl) };
                match checked {
                    Ok((id, ttl)) => {
                        log.grant(id, ttl);
                        done.push(Done::Grant(Lease { id, granted_ttl: ttl, ttl, keys: Vec::new() }, answer));
                    }
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Job::Revoke(id, answer) => match self.revoke(index, id) {
                Ok(applied) => done.push(Done::Revoke(id, applied, Some(answer))),
                Err(error) => drop(answer.send(Err(error))),
            },
            Job::Close => {}
        }
    }

    fn revoke(&mut self, index: &mut mvcc::Index<Place>, id: LeaseId) -> Result<Applied> {
        let keys = {
            let state = lock(&self.shared.state);
            if !state.leases.contains(id) {
                return Err(Error::LeaseNotFound);
            }
            state.leases.keys(id)
        };
        match mvcc::revoke(index, &mut self.log, keys) {
            Ok(applied) => {
                self.log.revoke(id);
                self.log.finish();
                Ok(applied)
            }
            Err(error) => {
                self.log.discard();
                Err(error)
            }
        }
    }

    /// Revokes what has expired, each lease in a batch of its own.
    fn expire(&mut self) {
        let expired = lock(&self.shared.state).leases.expired(Instant::now());
        for id in expired {
            let begun = self.log.begin().map_err(|e| Error::Unavailable(e.to_string()));
            let shared = self.shared.clone();
            let applied = begun.and_then(|()| self.revoke(&mut exclusive(&shared.index), id));
            let ok = match applied {
                Ok(applied) => self.commit(vec![Done::Revoke(id, applied, None)]),
                Err(error) => {
                    tracing::debug!(%error, id, "an expired lease stays for now");
                    false
                }
            };
            if !ok {
                // Not in a loop without pause: a disk that is full stays so for a while.
                lock(&self.shared.state).leases.postpone(id, Instant::now() + Duration::from_secs(5));
            }
        }
    }

    /// Makes the batch durable, then shows it and answers.
    fn commit(&mut self, mut done: Vec<Done>) -> bool {
        if self.log.pending() > 0 {
            self.add_compaction(&mut done);
            if let Err(failed) = self.log.sync() {
                self.fail(done, &failed);
                return false;
            }
        }
        let shared = self.shared.clone();
        for job in &done {
            if let Done::Compact(revision, _) = job {
                let segments = shared.table.snapshot();
                exclusive(&shared.index).compact(*revision, |v| Table::dropped(&segments, v.slot));
                self.log.set_compacted(*revision);
                self.ages.retain(|(_, at)| at > revision);
            }
        }
        let mut commits = Vec::new();
        {
            let mut state = lock(&shared.state);
            let now = Instant::now();
            for job in &mut done {
                match job {
                    Done::Txn(applied, _) | Done::Revoke(_, applied, _) if !applied.events.is_empty() => {
                        let events = std::mem::take(&mut applied.events);
                        state.leases.follow(&events);
                        commits.push(Commit { revision: applied.response.revision, events });
                    }
                    Done::Grant(lease, _) => state.leases.grant(lease.id, lease.granted_ttl, now),
                    Done::Compact(revision, _) => state.compacted = *revision,
                    Done::Txn(..) | Done::Revoke(..) => {}
                }
                if let Done::Revoke(id, ..) = job {
                    state.leases.remove(*id);
                }
            }
            if let Some(last) = commits.last() {
                state.revision = last.revision;
            }
            self.mark(&mut state);
        }
        shared.janitor.consider(&shared);
        shared.hub.publish(&*shared, &commits);
        for job in done {
            match job {
                Done::Txn(applied, answer) => drop(answer.send(Ok(applied.response))),
                Done::Grant(lease, answer) => drop(answer.send(Ok(lease))),
                Done::Compact(_, answer) | Done::Revoke(_, _, answer) => {
                    drop(answer.map(|answer| answer.send(Ok(()))));
                }
            }
        }
        true
    }

    /// What the state knows of the log's end.
    fn mark(&self, state: &mut State) {
        let position = Position { seq: self.log.active().seq, offset: self.log.end() as u32 };
        state.position = position;
        if state.alarm.take().is_some() {
            tracing::info!("the store can write again");
        }
    }

    /// History that is older than wanted goes along with a batch: no timer, no sync of its own.
    fn add_compaction(&mut self, done: &mut Vec<Done>) {
        let Some(retain) = self.shared.options.retain else { return };
        let now = Instant::now();
        let published = self.shared.hub.published();
        if self.ages.back().is_none_or(|(at, _)| now.duration_since(*at) >= retain / 10) {
            self.ages.push_back((now, published));
        }
        let mut old = None;
        while let Some((_, revision)) = self.ages.front().filter(|(at, _)| now.duration_since(*at) > retain) {
            old = Some(*revision);
            self.ages.pop_front();
        }
        let Some(revision) = old else { return };
        let compacted = mvcc::shared(&self.shared.index).compacted;
        let asked = done.iter().any(|d| matches!(d, Done::Compact(..)));
        if revision > compacted && !asked {
            self.log.compact(revision);
            done.push(Done::Compact(revision, None));
        }
    }

    fn fail(&mut self, done: Vec<Done>, failed: &Failed) {
        exclusive(&self.shared.index).roll_back(self.shared.hub.published());
        let text = self.raise(&failed.error);
        let error = if failed.certain { Error::Unavailable(text) } else { Error::Unknown(text) };
        for job in done {
            match job {
                Done::Txn(_, answer) => drop(answer.send(Err(error.clone()))),
                Done::Grant(_, answer) => drop(answer.send(Err(error.clone()))),
                Done::Compact(_, answer) | Done::Revoke(_, _, answer) => {
                    drop(answer.map(|answer| answer.send(Err(error.clone()))));
                }
            }
        }
    }

    fn refuse(&mut self, job: Job, error: &std::io::Error) {
        let error = Error::Unavailable(self.raise(error));
        match job {
            Job::Txn(_, answer) => drop(answer.send(Err(error))),
            Job::Compact(_, answer) | Job::Revoke(_, answer) => drop(answer.send(Err(error))),
            Job::Grant(_, _, answer) => drop(answer.send(Err(error))),
            Job::Close => {}
        }
    }

    fn raise(&self, error: &std::io::Error) -> String {
        let dir = self.shared.table.disk.path("");
        let text = format!("{}: {error}", dir.display());
        let mut state = lock(&self.shared.state);
        if state.alarm.as_ref() != Some(&text) {
            tracing::error!(%error, dir = %dir.display(), "the store cannot write");
        }
        state.alarm = Some(text.clone());
        text
    }
}
