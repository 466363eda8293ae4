//! One connection's limits: it ends when it idles, when a request's head does not come to an end, and when the client
//! takes nothing of what it is sent. One timer at most, and none while requests are worked on.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper_util::server::graceful::GracefulConnection;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Body;
use super::body::BoxError;
use super::respond::Answer;
use crate::config::Serving;

/// Prepared bytes go out in pieces of this size, so that it is seen whether the client takes them.
const PIECE: usize = 256 * 1024;

/// How long an answer lasts that is no simple one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// Ends when the server ends.
    Watch,
    /// Ends by itself.
    Stream,
}

/// What is known of a connection, shared by its transport, its requests and its future.
pub struct Activity {
    limits: Serving,
    /// Of the answer to a simple request, from its beginning.
    request: Duration,
    state: Mutex<State>,
    leave: AtomicBool,
}

struct State {
    requests: usize,
    /// Since when there are no requests.
    idle: Instant,
    /// When the first byte came that belongs to no request yet.
    begun: Option<Instant>,
    /// Since when nothing can be written.
    stuck: Option<Instant>,
    /// When answers must have been taken.
    ends: BTreeSet<(Instant, u64)>,
    next: u64,
}

impl Activity {
    pub fn new(limits: Serving, request: Duration) -> Arc<Self> {
        let state = State {
            requests: 0,
            idle: Instant::now(),
            begun: None,
            stuck: None,
            ends: BTreeSet::new(),
            next: 0,
        };
        Arc::new(Self { limits, request, state: Mutex::new(state), leave: AtomicBool::new(false) })
    }

    /// A request has come.
    pub fn enter(self: &Arc<Self>) -> Entered {
        let mut state = self.state.lock();
        state.requests += 1;
        state.begun = None;
        Entered { activity: self.clone(), end: None }
    }

    /// The connection takes no further requests.
    pub fn leave(&self) {
        self.leave.store(true, Ordering::Relaxed);
    }

    /// When the connection ends if nothing happens, and whether that is its orderly end.
    fn due(&self, http1: bool) -> Option<(Instant, bool)> {
        let state = self.state.lock();
        let mut due = state.stuck.map(|at| (at + self.limits.stall, false));
        let mut sooner = |at: Instant, orderly: bool| {
            if due.is_none_or(|(known, _)| at < known) {
                due = Some((at, orderly));
            }
        };
        if let Some((at, _)) = state.ends.first() {
            sooner(*at, false);
        }
        if state.requests == 0 {
            sooner(state.idle + self.limits.idle, true);
            if let Some(begun) = state.begun.filter(|_| http1) {
                sooner(begun + self.limits.header, false);
            }
        }
        due
    }
}

/// A request that is worked on, until its answer was taken.
pub struct Entered {
    activity: Arc<Activity>,
    end: Option<(Instant, u64)>,
}

impl Entered {
    fn must_end(&mut self, began: Instant) {
        let mut state = self.activity.state.lock();
        state.next += 1;
        // the request itself is ended at its time: what is left then is the client's doing
        let end = (began + self.activity.request + Duration::from_secs(1), state.next);
        state.ends.insert(end);
        drop(state);
        self.end = Some(end);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut state = self.activity.state.lock();
        state.requests -= 1;
        if let Some(end) = self.end {
            state.ends.remove(&end);
        }
        if state.requests == 0 {
            state.idle = Instant::now();
            state.begun = None;
        }
    }
}

/// A body that is counted until it was taken.
pub struct Counted {
    body: Body,
    shutdown: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _entered: Entered,
}

impl Counted {
    pub fn answer(
        answer: Answer,
        mut entered: Entered,
        began: Instant,
        shutdown: &CancellationToken,
    ) -> http::Response<Self> {
        let lasting = answer.extensions().get::<Lasts>().copied();
        let shutdown = (lasting == Some(Lasts::Watch)).then(|| Box::pin(shutdown.clone().cancelled_owned()));
        if lasting.is_none() && !answer.body().is_end_stream() {
            entered.must_end(began);
        }
        answer.map(|body| Self { body, shutdown, _entered: entered })
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Body::Full(Some(bytes)) = &mut self.body
            && bytes.len() > PIECE
        {
            return Poll::Ready(Some(Ok(Frame::data(bytes.split_to(PIECE)))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if let Some(shutdown) = &mut self.shutdown {
            ready!(shutdown.as_mut().poll(cx));
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A transport that tells what comes and whether what goes is taken.
pub struct Metered<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S> Metered<S> {
    pub fn new(inner: S, activity: Arc<Activity>) -> Self {
        Self { inner, activity }
    }

    fn written<T>(&self, outcome: Poll<T>) -> Poll<T> {
        let mut state = self.activity.state.lock();
        match outcome {
            Poll::Pending => drop(state.stuck.get_or_insert_with(Instant::now)),
            Poll::Ready(_) => state.stuck = None,
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            let mut state = self.activity.state.lock();
            if state.requests == 0 {
                state.begun.get_or_insert_with(Instant::now);
            }
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.written(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.written(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.written(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A connection within its limits.
pub struct Guarded<C> {
    inner: Pin<Box<C>>,
    activity: Arc<Activity>,
    http1: bool,
    alarm: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    ending: bool,
}

impl<C: GracefulConnection> Guarded<C> {
    pub fn new(inner: C, activity: Arc<Activity>, http1: bool, shutdown: &CancellationToken) -> Self {
        let alarm = Box::pin(tokio::time::sleep(activity.limits.header));
        let shutdown = Box::pin(shutdown.clone().cancelled_owned());
        Self { inner: Box::pin(inner), activity, http1, alarm, shutdown, ending: false }
    }

    fn end(&mut self) {
        if !self.ending {
            self.ending = true;
            self.inner.as_mut().graceful_shutdown();
        }
    }
}

impl<C> Future for Guarded<C>
where
    C: GracefulConnection + Future<Output = Result<(), <C as GracefulConnection>::Error>>,
    C::Error: Into<BoxError>,
{
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if !this.ending
                && (this.shutdown.as_mut().poll(cx).is_ready() || this.activity.leave.load(Ordering::Relaxed))
            {
                this.end();
            }
            if let Poll::Ready(done) = this.inner.as_mut().poll(cx) {
                return Poll::Ready(done.map_err(Into::into));
            }
            if !this.ending && this.activity.leave.load(Ordering::Relaxed) {
                continue;
            }
            let Some((due, orderly)) = this.activity.due(this.http1) else { return Poll::Pending };
            if due <= Instant::now() {
                if orderly && !this.ending {
                    this.end();
                    continue;
                }
                let why = if orderly { "it idles" } else { "the client is too slow" };
                return Poll::Ready(Err(why.into()));
            }
            // a time that is later is looked at when the alarm rings
            if this.alarm.deadline() > due || this.alarm.is_elapsed() {
                this.alarm.as_mut().reset(due);
            }
            if this.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
