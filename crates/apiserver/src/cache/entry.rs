//! One object at one version, as bytes and the little that is selected by; and one change.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use machinery::{Get, Value};
use parking_lot::Mutex;

use super::Fields;

/// What every prepared object begins with; the digits of the resource version follow.
const HEAD: &[u8] = br#"{"metadata":{"resourceVersion":""#;

/// An object at one version. `bare` is its JSON without `kind` and `apiVersion`.
pub struct Entry {
    pub key: Arc<str>,
    pub revision: i64,
    pub bare: Bytes,
    pub labels: Labels,
    /// Values of the selectable fields, in the order of [`Fields`].
    pub fields: Box<[Box<str>]>,
    /// The protobuf message, once somebody has asked for it.
    pub proto: OnceLock<Bytes>,
    /// The version that it is kept in, where that is not its home's and only a webhook can tell how to get there.
    pub odd: Option<Box<str>>,
    pub views: Views,
}

/// An entry in other versions, as a conversion webhook gave them.
#[derive(Default)]
pub struct Views(OnceLock<Box<Mutex<Vec<(Box<str>, Bytes)>>>>);

impl Views {
    /// Its JSON without `kind` and `apiVersion`.
    pub fn get(&self, version: &str) -> Option<Bytes> {
        let all = self.0.get()?.lock();
        all.iter().find(|(v, _)| **v == *version).map(|(_, bytes)| bytes.clone())
    }

    pub fn set(&self, version: &str, bytes: Bytes) {
        self.0.get_or_init(Box::default).lock().push((version.into(), bytes));
    }
}

/// Sorted by key.
pub type Labels = Box<[(Box<str>, Box<str>)]>;

/// An object encoded once by its writer: everything but the revision, which only the commit gives.
pub struct Prepared {
    pub key: Arc<str>,
    /// The stored form.
    pub value: Bytes,
    /// The JSON after the resource version.
    pub tail: Bytes,
    pub labels: Labels,
    pub fields: Box<[Box<str>]>,
}

impl Prepared {
    /// Encodes an object. `value` makes the stored form of it, given the JSON tail.
    pub fn new(key: Arc<str>, object: &Value, fields: &Fields, value: impl FnOnce(&Bytes) -> Bytes) -> Self {
        let tail = tail(object);
        Self { value: value(&tail), key, tail, labels: labels_of(object), fields: fields.values(object) }
    }

    pub fn into_entry(self, revision: i64) -> Entry {
        let bare = bare(revision, &self.tail);
        Entry {
            key: self.key,
            revision,
            bare,
            labels: self.labels,
            fields: self.fields,
            proto: OnceLock::new(),
            odd: None,
            views: Views::default(),
        }
    }
}

impl Entry {
    /// From a decoded object.
    pub fn new(key: Arc<str>, revision: i64, object: &Value, fields: &Fields) -> Self {
        let bare = bare(revision, &tail(object));
        Self {
            key,
            revision,
            bare,
            labels: labels_of(object),
            fields: fields.values(object),
            proto: OnceLock::new(),
            odd: None,
            views: Views::default(),
        }
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// The bytes as they were, but saying another resource version (of its deletion).
    pub fn bare_at(&self, revision: i64) -> Bytes {
        bare(revision, &self.tail())
    }

    /// The entry as of its deletion, which gives it the last version.
    pub fn deleted_at(&self, revision: i64) -> Entry {
        Entry {
            key: self.key.clone(),
            revision,
            bare: self.bare_at(revision),
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            proto: OnceLock::new(),
            odd: None,
            views: Views::default(),
        }
    }

    /// What follows the digits of the resource version.
    pub fn tail(&self) -> Bytes {
        let digits = self.bare[HEAD.len()..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.bare.slice(HEAD.len() + digits..)
    }

    /// Does a field with this value (`"phase":"Terminating"`) stand anywhere in it? Cheaper than parsing, for what is
    /// asked with every write and rarely so.
    pub fn says(&self, field: &str) -> bool {
        self.bare.windows(field.len()).any(|part| part == field.as_bytes())
    }

    /// The object without `kind` and `apiVersion`.
    pub fn parse(&self) -> Value {
        // serde_json reads no deeper than 128 levels, a request's body may have more
        serde_json::from_slice(&self.bare)
            .or_else(|_| machinery::codec::json::decode_any(&self.bare))
            .expect("the cache holds JSON")
    }

    /// The object as of a kind.
    pub fn object(&self, kind: &str, api_version: &str) -> Value {
        let mut object = self.parse();
        object.set("kind", kind);
        object.set("apiVersion", api_version);
        object
    }

    /// For an object that was never stored: no resource version at all.
    pub fn forget_revision(&mut self) {
        let tail = self.tail();
        self.revision = 0;
        self.bare = stored_json(b"{", &tail);
    }

    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or("")
    }

    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(ns, _)| ns)
    }
}

fn bare(revision: i64, tail: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD.len() + 20 + tail.len());
    out.put_slice(HEAD);
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = revision.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
    out.put_slice(tail);
    out.freeze()
}

fn tail(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(8 * 1024);
    out.push(b'"');
    let write = |out: &mut Vec<u8>, key: &str, value: &Value| {
        out.push(b',');
        write_json(out, key);
        out.push(b':');
        write_json(out, value);
    };
    for (key, value) in object.map("metadata").into_iter().flatten() {
        match (key.as_str(), value) {
            ("resourceVersion", _) => {}
            ("managedFields", Value::Array(entries)) => {
                out.extend_from_slice(b",\"managedFields\":");
                write_managers(&mut out, entries);
            }
            _ => write(&mut out, key, value),
        }
    }
    out.push(b'}');
    for (key, value) in object.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "metadata" | "kind" | "apiVersion") {
            write(&mut out, key, value);
        }
    }
    out.push(b'}');
    out.into()
}

fn write_json(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("strings and values have JSON");
}

/// Managers whose fields may be JSON in a string ([`crate::codec::decode_for_cache`]).
fn write_managers(out: &mut Vec<u8>, entries: &[Value]) {
    for (n, entry) in entries.iter().enumerate() {
        out.push(if n == 0 { b'[' } else { b',' });
        let Value::Object(entry) = entry else {
            write_json(out, entry);
            continue;
        };
        for (n, (key, value)) in entry.iter().enumerate() {
            out.push(if n == 0 { b'{' } else { b',' });
            write_json(out, key);
            out.push(b':');
            match value {
                Value::String(json) if key == "fieldsV1" => out.extend_from_slice(json.as_bytes()),
                value => write_json(out, value),
            }
        }
        out.extend_from_slice(if entry.is_empty() { b"{}" } else { b"}" });
    }
    out.extend_from_slice(if entries.is_empty() { b"[]" } else { b"]" });
}

/// The stored JSON form: the whole object without a resource version.
pub fn stored_json(prefix: &[u8], tail: &[u8]) -> Bytes {
    let rest = tail.strip_prefix(b"\",").or_else(|| tail.strip_prefix(b"\"")).unwrap_or(tail);
    let mut out = BytesMut::with_capacity(prefix.len() + 12 + rest.len());
    out.put_slice(prefix);
    out.put_slice(br#""metadata":{"#);
    out.put_slice(rest);
    out.freeze()
}

fn labels_of(object: &Value) -> Labels {
    let labels = machinery::meta::labels(object);
    let mut out: Vec<(Box<str>, Box<str>)> = labels
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str().into(), v.as_str().unwrap_or("").into()))
        .collect();
    out.sort();
    out.into()
}

/// A change of one object: created (`old` is none), deleted (`new` is none) or changed.
pub struct Event {
    pub revision: i64,
    pub key: Arc<str>,
    pub old: Option<Arc<Entry>>,
    pub new: Option<Arc<Entry>>,
    namespaced: bool,
}

impl Event {
    pub fn new(
        revision: i64,
        key: Arc<str>,
        old: Option<Arc<Entry>>,
        new: Option<Arc<Entry>>,
        namespaced: bool,
    ) -> Self {
        Self { revision, key, old, new, namespaced }
    }

    pub fn namespace(&self) -> &str {
        if self.namespaced { self.key.split_once('/').map_or("", |(ns, _)| ns) } else { "" }
    }
}
