//! Watch events, one by one, in the old shape.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use machinery::{Get, Value};

use crate::front::Body;
use crate::front::body::BoxError;

/// The stream with each event's object changed. Events end with a newline, wherever blocks end.
pub fn events(body: Body, change: impl Fn(&mut Value) + Send + Sync + 'static) -> Body {
    let mut rest = BytesMut::new();
    let out = body.into_data_stream().map(move |block| {
        let block = block?;
        rest.extend_from_slice(&block);
        let Some(end) = rest.iter().rposition(|b| *b == b'\n') else { return Ok(Bytes::new()) };
        let whole = rest.split_to(end + 1);
        let mut out = Vec::with_capacity(whole.len());
        for line in whole[..].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Value>(line) {
                Ok(mut event) => {
                    change(event.child("object"));
                    serde_json::to_writer(&mut out, &event).map_err(BoxError::from)?;
                }
                Err(_) => out.extend_from_slice(line),
            }
            out.push(b'\n');
        }
        Ok(out.into())
    });
    Body::stream(out.filter(|block| {
        let empty = matches!(block, Ok(bytes) if bytes.is_empty());
        std::future::ready(!empty)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_may_be_split_anywhere() {
        let text = "{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n{\"type\":\"ADDED\",\"object\":{\"a\":2}}\n";
        for size in [1, 7, text.len()] {
            let blocks: Vec<Result<Bytes, BoxError>> =
                text.as_bytes().chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
            let body = events(Body::stream(futures_util::stream::iter(blocks)), |o| o.set("b", true));
            let got = body.collect().await.unwrap().to_bytes();
            let lines: Vec<Value> = got
                .split(|b| *b == b'\n')
                .filter(|l| !l.is_empty())
                .map(|l| serde_json::from_slice(l).unwrap())
                .collect();
            assert_eq!(lines.len(), 2);
            assert!(lines.iter().all(|l| l["object"]["b"] == true));
        }
    }
}
