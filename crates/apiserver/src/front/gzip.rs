//! gzip for large answers (128 KiB and more, as upstream), at the fastest level.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};

use super::Body;
use super::respond::Answer;

const THRESHOLD: usize = 128 * 1024;

/// Compresses the answer if it is large; streams are large by nature.
pub fn maybe(answer: Answer) -> Answer {
    let (mut parts, body) = answer.into_parts();
    if parts.headers.contains_key(CONTENT_ENCODING) || !parts.status.is_success() {
        return Answer::from_parts(parts, body);
    }
    let body = match body {
        Body::Full(Some(bytes)) if bytes.len() >= THRESHOLD => {
            let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
            match encoder.write_all(&bytes).and_then(|()| encoder.finish()) {
                Ok(small) => Body::Full(Some(small.into())),
                Err(_) => return Answer::from_parts(parts, Body::Full(Some(bytes))),
            }
        }
        Body::Stream(stream) => {
            let encoder = GzEncoder::new(Vec::new(), Compression::fast());
            let out =
                futures_util::stream::unfold((stream, Some(encoder)), |(mut stream, encoder)| async move {
                    let mut encoder = encoder?;
                    loop {
                        match stream.next().await {
                            Some(Ok(chunk)) => {
                                if let Err(error) = encoder.write_all(&chunk) {
                                    return Some((Err(error.into()), (stream, None)));
                                }
                                let ready = std::mem::take(encoder.get_mut());
                                if !ready.is_empty() {
                                    return Some((Ok(Bytes::from(ready)), (stream, Some(encoder))));
                                }
                            }
                            Some(Err(error)) => return Some((Err(error), (stream, None))),
                            None => {
                                let end = encoder.finish().map(Bytes::from).map_err(Into::into);
                                return Some((end, (stream, None)));
                            }
                        }
                    }
                });
            Body::stream(out)
        }
        small => return Answer::from_parts(parts, small),
    };
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(CONTENT_LENGTH);
    Answer::from_parts(parts, body)
}
