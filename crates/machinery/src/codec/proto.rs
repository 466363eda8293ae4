//! Protobuf, as upstream's API server reads and writes it: messages by the schema's field numbers, whole objects in an
//! envelope (`k8s\0` and a `runtime.Unknown`). Built-in types only.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>
//!
//! [`decode`] and [`encode`] are for whole objects. To put prepared bytes together without encoding anew:
//! [`encode_message`] makes the bare message of an object, [`envelope`] wraps one, [`push_field`] appends one as a field
//! (items of a list are field 2 of the list's message, behind its metadata, field 1), [`watch_event`] makes an event.
//! [`envelope_head`] and [`push_head`] are for messages that are sent in pieces.

mod decode;
mod encode;

use serde_json::Value;

use crate::schema::Schema;
use crate::value::Get;

pub use decode::{Envelope, Error, open};
pub use encode::{ENVELOPE_END, encode_message, envelope, envelope_head, push_field, push_head, watch_event};

/// In front of every object.
pub const PREFIX: [u8; 4] = *b"k8s\0";

/// Reads an object; its `apiVersion` and `kind` come from the envelope.
pub fn decode(bytes: &[u8], schema: &Schema) -> Result<Value, Error> {
    opened(bytes, |raw| decode::message(schema, raw))
}

/// The same for one who will write all of it as JSON and look at little: each `fieldsV1` of `metadata.managedFields` is a
/// string of the JSON that stands there.
pub fn decode_with_text(bytes: &[u8], schema: &Schema) -> Result<Value, Error> {
    opened(bytes, |raw| decode::message_with_text(schema, raw))
}

fn opened(bytes: &[u8], message: impl FnOnce(&[u8]) -> Result<Value, Error>) -> Result<Value, Error> {
    let envelope = open(bytes)?;
    let mut value = message(envelope.raw)?;
    for (name, text) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
        if !text.is_empty() {
            value.set(name, text);
        }
    }
    Ok(value)
}

/// Reads a bare message.
pub fn decode_message(bytes: &[u8], schema: &Schema) -> Result<Value, Error> {
    decode::message(schema, bytes)
}

/// Writes an object in its envelope.
pub fn encode(schema: &Schema, value: &Value, out: &mut Vec<u8>) {
    let raw = encode_message(schema, value);
    envelope(value.text("apiVersion"), value.text("kind"), &raw, out);
}

#[cfg(test)]
mod tests;
