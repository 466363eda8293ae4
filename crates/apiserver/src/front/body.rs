//! Bodies: what comes in, and what goes out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use machinery::Status;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, from a socket or from memory.
pub type Incoming = UnsyncBoxBody<Bytes, BoxError>;

/// A response's body: ready bytes, or a stream of them.
pub enum Body {
    Full(Option<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>),
}

impl Body {
    pub fn empty() -> Self {
        Self::Full(None)
    }

    pub fn stream(stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        Self::Stream(Box::pin(stream))
    }

    /// Keeps something until the body ends.
    pub fn holding(self, kept: impl Send + 'static) -> Self {
        match self {
            Body::Stream(stream) => {
                let held = futures_util::stream::unfold((stream, kept), |(mut stream, kept)| async move {
                    Some((stream.next().await?, (stream, kept)))
                });
                Self::stream(held)
            }
            full => full,
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Body::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Body::Stream(stream) => stream.as_mut().poll_next(cx).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Full(None))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Body::Full(bytes) => {
                http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Body::Stream(_) => http_body::SizeHint::default(),
        }
    }
}

/// Marks requests that came over a socket: sending costs more than handing over.
#[derive(Clone, Copy)]
pub struct Socket {
    pub http2: bool,
}

/// Any body as [`Incoming`].
pub fn incoming<B>(body: B) -> Incoming
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// All of a body, up to a limit.
pub async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Status> {
    let too_large =
        || Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"));
    if http_body::Body::size_hint(&body).lower() > limit as u64 {
        // as much as would be read is: a client that still writes when the connection ends may not see the answer
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > limit {
                break;
            }
        }
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|e| Status::bad_request(format!("failed to read the request body: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        match &first {
            None => {
                if data.len() > limit {
                    return Err(too_large());
                }
                first = Some(data);
            }
            Some(head) => {
                if all.is_empty() {
                    all.extend_from_slice(head);
                }
                if all.len() + data.len() > limit {
                    return Err(too_large());
                }
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(if all.is_empty() { first.unwrap_or_default() } else { all.freeze() })
}
