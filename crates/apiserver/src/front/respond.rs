//! Answers: objects, texts and Statuses as HTTP responses.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use machinery::{Status, Value};

use super::Body;
use super::negotiate::{Accepted, Encoding};

pub type Answer = Response<Body>;

const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");

pub fn code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

pub fn bytes(status: u16, content_type: &'static str, body: impl Into<Body>) -> Answer {
    let mut response = Response::new(body.into());
    *response.status_mut() = code(status);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    if status == 413 {
        // the phrase that Go knows
        response.extensions_mut().insert(hyper::ext::ReasonPhrase::from_static(b"Request Entity Too Large"));
    }
    response
}

/// Go's `http.Error`: plain text that browsers must not guess about.
pub fn text(status: u16, body: impl Into<String>) -> Answer {
    let mut response = bytes(status, "text/plain; charset=utf-8", body.into());
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

pub fn not_found_text() -> Answer {
    text(404, "404 page not found\n")
}

/// A value in an encoding.
pub fn value(status: u16, value: &Value, accepted: &Accepted) -> Answer {
    match encode(value, accepted) {
        Ok(body) => bytes(status, accepted.encoding.media_type(), body),
        Err(error) => bytes(500, "application/json", json(&Status::internal(error).to_value(), false)),
    }
}

pub fn encode(value: &Value, accepted: &Accepted) -> Result<Bytes, String> {
    match accepted.encoding {
        Encoding::Json => Ok(json(value, accepted.pretty)),
        other => crate::codec::encode(value, other),
    }
}

pub fn json(value: &Value, pretty: bool) -> Bytes {
    let made = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    made.expect("a value has JSON").into()
}

/// A Status, in the encoding the client asked for if that is possible.
pub fn status(status: &Status, headers: &http::HeaderMap, cbor: bool) -> Answer {
    let offer = super::negotiate::Offer { cbor, ..super::negotiate::Offer::PLAIN };
    let accepted = super::negotiate::negotiate(headers, None, offer).unwrap_or_else(|_| json_accepted());
    let mut response = value(status.code, &status.to_value(), &accepted);
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

pub fn json_accepted() -> Accepted {
    Accepted {
        encoding: Encoding::Json,
        shape: super::negotiate::Shape::Object,
        pretty: false,
        clause: String::new(),
    }
}

/// Adds `Warning: 299 - "…"` headers, each message once, in order.
pub fn warn(response: &mut Answer, warnings: &[String]) {
    let mut seen: Vec<&str> = Vec::new();
    for warning in warnings {
        if seen.contains(&warning.as_str()) {
            continue;
        }
        seen.push(warning);
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
}

/// Upstream's answers to requests that no route takes.
pub fn generic(code: u16) -> Status {
    let (reason, message) = match code {
        404 => ("NotFound", "the server could not find the requested resource"),
        405 => ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
        _ => ("", "an error on the server has prevented the request from succeeding"),
    };
    let mut status = Status::new(code, reason, message);
    status.details = Some(machinery::status::Details::default());
    status
}
