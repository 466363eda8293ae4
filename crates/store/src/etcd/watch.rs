//! A watch that goes on at another member where it was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

use super::RANGE;
use super::client::{Client, Idempotent, Member};
use super::status::{Verdict, describe, judge};
use crate::wire::convert::{self, start_and_end};
use crate::wire::proto::{self, watch_request};
use crate::{Error, Event, KeyRange, Result, Revision, Watch, WatchMessage, WatchRequest};

pub(super) struct EtcdWatch {
    client: Arc<Client>,
    request: WatchRequest,
    /// The first revision not yet delivered; 0 until the cluster has said where "now" is.
    next: Revision,
    ready: VecDeque<WatchMessage>,
    stream: Option<Open>,
    /// Progress was asked for and not told yet.
    progress_wanted: bool,
    /// Runs where the member cannot be believed about progress: whether anything has changed since.
    look: Option<oneshot::Receiver<Result<Look>>>,
    delivered: bool,
}

/// Nothing in the range has changed after `from` and up to `to`, if `same`.
struct Look {
    from: Revision,
    to: Revision,
    same: bool,
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
            look: None,
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
                    self.stream = Some(open);
                    if self.progress_wanted {
                        self.ask_progress();
                    }
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

    /// What comes next from the member, from the look around, or from the clock.
    async fn receive(&mut self) -> Received {
        let Some(open) = &mut self.stream else {
            return Received::Response(Err(Status::unavailable("not connected")));
        };
        let quiet = async {
            match self.request.progress {
                Some(quiet) => tokio::time::sleep(quiet).await,
                None => std::future::pending().await,
            }
        };
        let look = async {
            match &mut self.look {
                Some(look) => look.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            response = open.responses.message() => {
                Received::Response(response.and_then(|r| r.ok_or_else(|| Status::unavailable("the watch ended"))))
            }
            look = look => Received::Look(look.ok()),
            () = quiet => Received::Quiet,
        }
    }

    fn ask_progress(&mut self) {
        let Some(open) = &self.stream else { return };
        if open.tells_progress {
            let _ = open.requests.send(message(watch_request::Request::Progress(proto::Empty {})));
        } else if self.look.is_none() && self.next > 0 {
            let (found, look) = oneshot::channel();
            let (client, range, from) = (self.client.clone(), self.request.range.clone(), self.next - 1);
            tokio::spawn(async move {
                // The watch may have been dropped.
                let _ = found.send(look_around(&client, &range, from).await);
            });
            self.look = Some(look);
        }
    }

    /// Tells of progress if nothing has been delivered since the look began: then what it saw holds for the watch.
    fn take_look(&mut self, look: Option<Result<Look>>) -> Result<()> {
        self.look = None;
        match look {
            Some(Ok(Look { from, to, same: true })) if from == self.next - 1 => {
                self.progress_wanted = false;
                self.next = to + 1;
                self.ready.push_back(WatchMessage::Progress { revision: to });
            }
            // The watch could not be resumed either.
            Some(Err(Error::Compacted { .. })) => return Err(Error::TooSlow),
            // Events are on their way, or it can be asked for again.
            Some(_) | None => {}
        }
        Ok(())
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
                Received::Quiet => self.request_progress(),
                Received::Look(look) => self.take_look(look)?,
                Received::Response(Ok(response)) if response.canceled => {
                    self.stream = None;
                    if let Refused::Final(error) = self.canceled(&response) {
                        return Err(error);
                    }
                }
                Received::Response(Ok(response)) => self.take(response),
                Received::Response(Err(status)) => {
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

enum Received {
    Response(Result<proto::WatchResponse, Status>),
    /// `None`: the look came to nothing.
    Look(Option<Result<Look>>),
    /// Nothing for as long as the caller wants to hear of progress.
    Quiet,
}

/// Asks the cluster whether the range is as it was at `from`: no key has been written since, and none has gone.
async fn look_around(client: &Client, range: &KeyRange, from: Revision) -> Result<Look> {
    let (key, range_end) = start_and_end(range);
    let ask = |request: proto::RangeRequest| async move {
        let response: Result<proto::RangeResponse> = client.unary(RANGE, request, Idempotent::Yes).await;
        response.map_err(|error| super::status::about(error, from))
    };
    let all = proto::RangeRequest { key, range_end, ..Default::default() };
    let now = ask(proto::RangeRequest { count_only: true, ..all.clone() }).await?;
    let to = convert::revision(&now.header);
    if to <= from {
        return Ok(Look { from, to: from, same: true });
    }
    let before = ask(proto::RangeRequest { count_only: true, revision: from, ..all.clone() }).await?;
    if before.count != now.count {
        return Ok(Look { from, to, same: false });
    }
    let written =
        proto::RangeRequest { revision: to, min_mod_revision: from + 1, keys_only: true, limit: 1, ..all };
    Ok(Look { from, to, same: ask(written).await?.kvs.is_empty() })
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
        self.ask_progress();
    }
}
