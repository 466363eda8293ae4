//! A watch that goes on at another member where it was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::client::{Client, Member};
use super::status::{Verdict, describe, judge};
use crate::wire::convert::{self, start_and_end};
use crate::wire::proto::{self, watch_request};
use crate::{Error, Event, Result, Revision, Watch, WatchMessage, WatchRequest};

pub(super) struct EtcdWatch {
    client: Arc<Client>,
    request: WatchRequest,
    /// The first revision not yet delivered; 0 until the cluster has said where "now" is.
    next: Revision,
    ready: VecDeque<WatchMessage>,
    stream: Option<Open>,
    /// Progress was asked for and not told yet.
    progress_wanted: bool,
    delivered: bool,
}

struct Open {
    member: usize,
    requests: mpsc::UnboundedSender<proto::WatchRequest>,
    responses: Streaming<proto::WatchResponse>,
    tells_progress: bool,
}

fn message(request: watch_request::Request) -> proto::WatchRequest {
    proto::WatchRequest { request: Some(request) }
}

impl EtcdWatch {
    pub async fn start(client: Arc<Client>, request: WatchRequest) -> Result<Self> {
        let next = request.start_revision;
        let mut watch = Self {
            client,
            request,
            next,
            ready: VecDeque::new(),
            stream: None,
            progress_wanted: false,
            delivered: false,
        };
        watch.reopen().await?;
        Ok(watch)
    }

    /// Opens the stream at some member, trying until one takes it.
    async fn reopen(&mut self) -> Result<()> {
        let mut pause = Duration::from_millis(20);
        let start = tokio::time::Instant::now();
        loop {
            let (at, member) = self.client.member();
            let status = match self.open(at, &member).await {
                Ok(open) => {
                    if self.progress_wanted {
                        open.ask_progress();
                    }
                    self.stream = Some(open);
                    return Ok(());
                }
                Err(Refused::Final(error)) => return Err(error),
                Err(Refused::Now(status)) => status,
            };
            self.client.move_on(at);
            // A watch that has begun waits for the cluster as long as it takes; one that has not says so.
            if !self.delivered
                && self.next == self.request.start_revision
                && start.elapsed() > Duration::from_secs(15)
            {
                return Err(Error::Unavailable(describe(&status)));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn open(&mut self, at: usize, member: &Member) -> Result<Open, Refused> {
        let (requests, waiting) = mpsc::unbounded_channel();
        let (key, range_end) = start_and_end(&self.request.range);
        let create = proto::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.next,
            progress_notify: true,
            prev_kv: self.request.prev_kv,
            ..Default::default()
        };
        // The receiver is right here.
        let _ = requests.send(message(watch_request::Request::Create(create)));
        let outgoing =
            futures_util::stream::unfold(waiting, |mut waiting: mpsc::UnboundedReceiver<_>| async move {
                let request = waiting.recv().await?;
                Some((request, waiting))
            });
        let timeout = self.client.request_timeout();
        let mut responses = self.client.open_watch(member, outgoing).await.map_err(Refused::judge)?;
        let first = tokio::time::timeout(timeout, responses.message());
        let created = match first.await {
            Ok(Ok(Some(response))) => response,
            Ok(Ok(None)) => return Err(Refused::Now(Status::unavailable("the watch ended"))),
            Ok(Err(status)) => return Err(Refused::judge(status)),
            Err(_) => return Err(Refused::Now(Status::deadline_exceeded("the member does not answer"))),
        };
        if created.canceled {
            return Err(self.canceled(&created));
        }
        if self.next == 0 {
            self.next = convert::revision(&created.header) + 1;
        }
        let tells_progress = member.tells_progress(timeout).await;
        Ok(Open { member: at, requests, responses, tells_progress })
    }

    fn canceled(&self, response: &proto::WatchResponse) -> Refused {
        let proto::WatchResponse { compact_revision, cancel_reason, .. } = response;
        if *compact_revision > 0 {
            let compacted = *compact_revision;
            return Refused::Final(match self.delivered {
                false => Error::Compacted { requested: self.next, compacted },
                true => Error::TooSlow,
            });
        }
        if cancel_reason.contains("no leader") {
            return Refused::Now(Status::unavailable(cancel_reason.clone()));
        }
        Refused::Final(Error::Other(format!("the watch was refused: {cancel_reason}")))
    }

    /// The next response; `None` if none came for as long as the caller wants to hear of progress.
    async fn receive(&mut self) -> Result<Option<proto::WatchResponse>, Status> {
        let Some(open) = &mut self.stream else { return Err(Status::unavailable("not connected")) };
        let ended = || Status::unavailable("the watch ended");
        let Some(quiet) = self.request.progress else {
            return open.responses.message().await?.ok_or_else(ended).map(Some);
        };
        match tokio::time::timeout(quiet, open.responses.message()).await {
            Ok(response) => response?.ok_or_else(ended).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn take(&mut self, response: proto::WatchResponse) {
        let header = convert::revision(&response.header);
        if response.events.is_empty() {
            if !response.created {
                self.progress_wanted = false;
                self.next = self.next.max(header + 1);
                self.ready.push_back(WatchMessage::Progress { revision: header });
            }
            return;
        }
        let mut commits: Vec<(Revision, Vec<Event>)> = Vec::new();
        for event in response.events {
            let event: Event = event.into();
            let revision = event.kv.mod_revision;
            match commits.last_mut() {
                Some((last, events)) if *last == revision => events.push(event),
                _ => commits.push((revision, vec![event])),
            }
        }
        for (revision, events) in commits {
            self.next = revision + 1;
            self.ready.push_back(WatchMessage::Events { revision, events: events.into() });
        }
    }

    async fn step(&mut self) -> Result<WatchMessage> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                self.delivered = true;
                return Ok(message);
            }
            if self.stream.is_none() {
                self.reopen().await?;
            }
            match self.receive().await {
                Ok(None) => self.request_progress(),
                Ok(Some(response)) if response.canceled => {
                    self.stream = None;
                    if let Refused::Final(error) = self.canceled(&response) {
                        return Err(error);
                    }
                }
                Ok(Some(response)) => self.take(response),
                Err(status) => {
                    if let Some(open) = self.stream.take() {
                        self.client.move_on(open.member);
                    }
                    if let Refused::Final(error) = Refused::judge(status) {
                        return Err(error);
                    }
                }
            }
        }
    }
}

impl Open {
    fn ask_progress(&self) {
        if self.tells_progress {
            // Otherwise the member tells of it on its own now and then.
            let _ = self.requests.send(message(watch_request::Request::Progress(proto::Empty {})));
        }
    }
}

enum Refused {
    /// Another member, or later.
    Now(Status),
    Final(Error),
}

impl Refused {
    fn judge(status: Status) -> Self {
        match judge(&status) {
            Verdict::Answer(error) => Self::Final(error),
            Verdict::NotDone(_) | Verdict::Unknown(_) => Self::Now(status),
        }
    }
}

impl Watch for EtcdWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchMessage>> {
        Box::pin(self.step())
    }

    fn request_progress(&mut self) {
        self.progress_wanted = true;
        if let Some(open) = &self.stream {
            open.ask_progress();
        }
    }
}
