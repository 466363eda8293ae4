//! From a request's body to an object of the kind that the request is about.

use bytes::Bytes;
use machinery::{Get, GroupVersionKind, Status, Value};

use super::Call;
use super::options::Strictness;
use crate::front::body::{Incoming, collect};
use crate::front::negotiate::Encoding;

/// All of the body, within the server's limit.
pub async fn read_body(call: &Call, body: Incoming) -> Result<Bytes, Status> {
    let bytes = collect(body, call.core.config.max_body).await?;
    if !bytes.is_empty() {
        call.core.metrics.requests.body(&call.info, bytes.len());
    }
    Ok(bytes)
}

/// Decodes, checks that it is the wanted kind, prunes what the schema does not know (with warnings or an error).
pub fn decode_body(
    call: &mut Call,
    body: &[u8],
    want: &GroupVersionKind,
    strictness: Strictness,
) -> Result<Value, Status> {
    let encoding = Encoding::of_body(&call.headers, call.core.cbor)?;
    let mut warnings = Vec::new();
    let custom = call.resource.custom.clone().filter(|_| want.kind == call.resource.kind);
    let result =
        crate::codec::decode_request(body, encoding, want, custom.as_deref(), strictness, &mut warnings);
    call.warnings.append(&mut warnings);
    let mut object = result?;
    // a custom object that says it is something else is refused by its validation
    if custom.is_none() || object.get("kind").is_none() {
        object.set("kind", want.kind.as_str());
    }
    object.set("apiVersion", want.api_version());
    let schema = crate::codec::schema_of(want);
    if call.audit.wants_requests()
        && let Some(schema) = schema
    {
        // as it is decoded upstream: with its defaults
        let mut shown = object.clone();
        if *want == call.resource.gvk() {
            (call.resource.strategy.default)(&mut shown, &call.context_for(""));
        }
        machinery::schema::normalize(schema, &mut shown);
        call.audit.request_object(&shown, want, &call.info.resource, Some(schema));
    } else {
        call.audit.request_object(&object, want, &call.info.resource, None);
    }
    Ok(object)
}
