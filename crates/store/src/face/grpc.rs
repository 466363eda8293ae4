//! gRPC over HTTP/2 (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>) on the `h2` crate: as much of it as
//! a server without compression needs. Why not tonic's server: `docs/decisions/013-grpc-on-h2.md`.

use std::future::poll_fn;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::Stream;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use prost::Message;
use tonic::Status;

/// A flag and a length stand before each message.
const PREFIX: usize = 5;

/// A request whose messages are still to be read, and the way to answer it.
pub struct Call {
    head: http::request::Parts,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    limit: usize,
}

impl Call {
    /// Messages above the limit are refused unread. What is no gRPC comes back.
    pub fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        limit: usize,
    ) -> Result<Self, (Request<RecvStream>, SendResponse<Bytes>)> {
        let kind = request.headers().get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        if !kind.starts_with(b"application/grpc") || request.method() != Method::POST {
            return Err((request, respond));
        }
        let (head, body) = request.into_parts();
        Ok(Self { head, body, respond, limit })
    }

    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    pub fn refuse(mut self, status: &Status) {
        refuse(&mut self.respond, status);
    }

    /// One message, one answer.
    pub async fn unary<Q, A, R>(self, serve: impl FnOnce(Q) -> R)
    where
        Q: Message + Default,
        A: Message,
        R: Future<Output = Result<A, Status>>,
    {
        let Self { body, mut respond, limit, .. } = self;
        let answer = match Messages::new(body, limit).only().await {
            Ok(message) => serve(message).await.and_then(|answer| encode(&answer)),
            Err(status) => Err(status),
        };
        match answer {
            Ok(bytes) => {
                // Fails if the client has gone, who then needs no answer; so everywhere here.
                let Ok(mut out) = respond.send_response(success(), false) else { return };
                // All of it is in memory already: h2 sends it as the client's window opens.
                if out.send_data(bytes, false).is_ok() {
                    let _ = out.send_trailers(trailers(None));
                }
            }
            Err(status) => refuse(&mut respond, &status),
        }
    }

    /// Messages and answers for as long as both sides want.
    pub async fn streaming<Q, A, S>(self, serve: impl FnOnce(Messages<Q>) -> S)
    where
        Q: Message + Default,
        A: Message,
        S: Stream<Item = Result<A, Status>> + Unpin,
    {
        let Self { body, mut respond, limit, .. } = self;
        let mut answers = serve(Messages::new(body, limit));
        let Ok(mut out) = respond.send_response(success(), false) else { return };
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer,
                _ = poll_fn(|cx| out.poll_reset(cx)) => return,
            };
            let end = match answer.map(|answer| answer.and_then(|answer| encode(&answer))) {
                Some(Ok(bytes)) => match send(&mut out, bytes).await {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                Some(Err(status)) => trailers(Some(&status)),
                None => trailers(None),
            };
            let _ = out.send_trailers(end);
            return;
        }
    }
}

/// What a client sends, message by message.
pub struct Messages<Q> {
    body: RecvStream,
    /// Received and not yet used.
    rest: Bytes,
    limit: usize,
    kind: PhantomData<fn() -> Q>,
}

impl<Q: Message + Default> Messages<Q> {
    fn new(body: RecvStream, limit: usize) -> Self {
        Self { body, rest: Bytes::new(), limit, kind: PhantomData }
    }

    /// The next message; `None` when the client has sent its last.
    pub async fn next(&mut self) -> Result<Option<Q>, Status> {
        while self.rest.len() < PREFIX {
            match self.receive().await? {
                Some(more) if self.rest.is_empty() => self.rest = more,
                Some(more) => self.rest = [&self.rest[..], &more[..]].concat().into(),
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(cut_off()),
            }
        }
        let compressed = self.rest.get_u8() != 0;
        let len = self.rest.get_u32() as usize;
        if compressed {
            return Err(Status::unimplemented("grpc: compressed messages are not understood here"));
        }
        if len > self.limit {
            let text = format!("grpc: received message larger than max ({len} vs. {})", self.limit);
            return Err(Status::resource_exhausted(text));
        }
        let message =
            if self.rest.len() >= len { self.rest.split_to(len) } else { self.assemble(len).await? };
        Q::decode(message).map(Some).map_err(|error| Status::internal(format!("grpc: {error}")))
    }

    /// A message that came in several frames.
    async fn assemble(&mut self, len: usize) -> Result<Bytes, Status> {
        // Room grows with what has come, not with what is announced.
        let mut whole = BytesMut::with_capacity(len.min(256 << 10));
        whole.extend_from_slice(&self.rest);
        while whole.len() < len {
            let mut more = self.receive().await?.ok_or_else(cut_off)?;
            whole.extend_from_slice(&more.split_to(more.len().min(len - whole.len())));
            self.rest = more;
        }
        Ok(whole.freeze())
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(received) = self.body.data().await else { return Ok(None) };
        let bytes = received.map_err(|error| Status::cancelled(error.to_string()))?;
        // The window is for what waits here, and this no longer does.
        let _ = self.body.flow_control().release_capacity(bytes.len());
        Ok(Some(bytes))
    }

    async fn only(mut self) -> Result<Q, Status> {
        self.next().await?.ok_or_else(|| Status::internal("grpc: the request has no message"))
    }
}

fn cut_off() -> Status {
    Status::internal("grpc: the request ends inside a message")
}

fn encode(answer: &impl Message) -> Result<Bytes, Status> {
    let len = answer.encoded_len();
    let told = u32::try_from(len).map_err(|_| Status::resource_exhausted("grpc: the answer is too large"))?;
    let mut bytes = BytesMut::with_capacity(PREFIX + len);
    bytes.put_u8(0);
    bytes.put_u32(told);
    answer.encode_raw(&mut bytes);
    Ok(bytes.freeze())
}

/// Waits until the client takes more, so that one that does not read stops what is sent to it.
async fn send(out: &mut SendStream<Bytes>, bytes: Bytes) -> Result<(), h2::Error> {
    out.reserve_capacity(1);
    while out.capacity() == 0 {
        match poll_fn(|cx| out.poll_capacity(cx)).await {
            Some(capacity) => capacity?,
            None => return Err(Reason::CANCEL.into()),
        };
    }
    out.send_data(bytes, false)
}

fn success() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn trailers(status: Option<&Status>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let told = status.map(|status| status.add_header(&mut trailers));
    if !matches!(told, Some(Ok(()))) {
        // 0 is success; a message that cannot be a header (none of ours) leaves the code "unknown".
        let code = if told.is_none() { "0" } else { "2" };
        trailers.insert("grpc-status", HeaderValue::from_static(code));
    }
    trailers
}

/// A refusal is a response of headers alone.
fn refuse(respond: &mut SendResponse<Bytes>, status: &Status) {
    let mut response = success();
    response.headers_mut().extend(trailers(Some(status)));
    let _ = respond.send_response(response, true);
}
