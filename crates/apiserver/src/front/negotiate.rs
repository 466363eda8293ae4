//! Which encoding and which shape (object, Table, PartialObjectMetadata) a client wants.

use http::HeaderMap;
use machinery::Status;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Proto,
    Cbor,
}

impl Encoding {
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Proto => "application/vnd.kubernetes.protobuf",
            Encoding::Cbor => "application/cbor",
        }
    }

    pub fn stream_type(self) -> &'static str {
        match self {
            Encoding::Proto => "application/vnd.kubernetes.protobuf;stream=watch",
            Encoding::Cbor => "application/cbor-seq",
            _ => "application/json",
        }
    }

    fn of(kind: &str, subtype: &str, cbor: bool) -> Option<Self> {
        match (kind, subtype) {
            ("*", "*") | ("application", "*" | "json") => Some(Encoding::Json),
            ("application", "yaml") => Some(Encoding::Yaml),
            ("application", "vnd.kubernetes.protobuf") => Some(Encoding::Proto),
            ("application", "cbor") if cbor => Some(Encoding::Cbor),
            _ => None,
        }
    }

    /// The encoding of a request body; an absent type is JSON. `cbor`: that is one of the server's encodings.
    pub fn of_body(headers: &HeaderMap, cbor: bool) -> Result<Self, Status> {
        let given = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        match media_type(given).as_deref() {
            _ if given.is_empty() => Ok(Encoding::Json),
            Some("application/json") => Ok(Encoding::Json),
            Some("application/yaml") => Ok(Encoding::Yaml),
            Some("application/vnd.kubernetes.protobuf") => Ok(Encoding::Proto),
            Some("application/cbor") if cbor => Ok(Encoding::Cbor),
            _ => Err(unsupported(object_types(cbor))),
        }
    }
}

/// 415, with what would have been accepted.
pub fn unsupported(accepted: &str) -> Status {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    );
    Status::new(415, "UnsupportedMediaType", message)
}

/// The type of a well-formed `Content-Type`, in lower case (RFC 9110, section 8.3.1; as Go's `mime.ParseMediaType`).
fn media_type(given: &str) -> Option<String> {
    let token = |text: &str| {
        let special = |c: char| "()<>@,;:\\\"/[]?=".contains(c);
        !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !special(c))
    };
    let (media, mut rest) = given.split_once(';').unwrap_or((given, ""));
    let media = media.trim().to_ascii_lowercase();
    match media.split_once('/') {
        Some((kind, subtype)) if token(kind) && token(subtype) => {}
        None if token(&media) => {}
        _ => return None,
    }
    let mut seen: Vec<String> = Vec::new();
    while !rest.trim().is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_start().to_ascii_lowercase();
        let after = after.trim_start();
        let end = match after.strip_prefix('"') {
            Some(quoted) => quoted_end(quoted)? + 2,
            None => after.find([';', ' ', '\t']).unwrap_or(after.len()),
        };
        let value = &after[..end];
        if !token(&name) || !(value.starts_with('"') || token(value)) || seen.contains(&name) {
            return None;
        }
        seen.push(name);
        rest = after[end..].trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(';')?;
        }
    }
    Some(media)
}

/// Where the closing quote is.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        end.then_some(at)
    })
}

/// The types of objects and lists, as errors list them.
pub fn object_types(cbor: bool) -> &'static str {
    if cbor {
        "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/cbor"
    } else {
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    }
}

/// The types of watches.
fn stream_types(cbor: bool) -> &'static str {
    if cbor {
        "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch, application/cbor-seq"
    } else {
        "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    }
}

/// The shape of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it is.
    Object,
    /// A Table of `meta.k8s.io` in this version.
    Table(String),
    /// PartialObjectMetadata or its List, in this version.
    Metadata { version: String, list: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub encoding: Encoding,
    pub shape: Shape,
    pub pretty: bool,
    /// Parameters of the clause (`profile` of aggregated discovery).
    pub clause: String,
}

pub struct Clause<'a> {
    pub kind: &'a str,
    pub subtype: &'a str,
    q: f32,
    pub params: Vec<(&'a str, &'a str)>,
    text: &'a str,
}

pub fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut out: Vec<Clause> = accept
        .split(',')
        .filter_map(|text| {
            let mut parts = text.trim().split(';').map(str::trim);
            let media = parts.next()?;
            let media = if media == "*" { "*/*" } else { media };
            let (kind, subtype) = media.split_once('/')?;
            let mut clause = Clause { kind, subtype, q: 1.0, params: Vec::new(), text: text.trim() };
            for part in parts {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                let value = value.trim_matches('"');
                if key == "q" {
                    clause.q = value.parse().unwrap_or(1.0);
                } else {
                    clause.params.push((key, value));
                }
            }
            Some(clause)
        })
        .collect();
    let rank = |c: &Clause| u8::from(c.kind == "*") + u8::from(c.subtype == "*");
    out.sort_by(|a, b| b.q.total_cmp(&a.q).then(rank(a).cmp(&rank(b))));
    out
}

pub fn accept_of(headers: &HeaderMap) -> String {
    let all: Vec<&str> =
        headers.get_all(http::header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    all.join(",")
}

/// What may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Table and PartialObjectMetadata.
    pub shapes: bool,
    /// A Table among them: not for what has no rows to show, as reviews and some subresources.
    pub tables: bool,
    /// The path is that of a collection, which can be watched, too.
    pub collection: bool,
    /// A watch, which has no YAML.
    pub stream: bool,
    /// A custom resource: as such it has no protobuf, and there is no router before it.
    pub custom: bool,
    /// CBOR is among the encodings.
    pub cbor: bool,
}

impl Offer {
    pub const PLAIN: Offer =
        Offer { shapes: false, tables: false, collection: false, stream: false, custom: false, cbor: false };
    pub const OBJECT: Offer = Offer { shapes: true, tables: true, ..Offer::PLAIN };
    pub const LIST: Offer = Offer { collection: true, ..Offer::OBJECT };
    pub const WATCH: Offer = Offer { stream: true, ..Offer::LIST };
}

/// Is the answer for people? `pretty`: the query's word, else the client's name tells.
pub fn is_pretty(headers: &HeaderMap, pretty: Option<&str>) -> bool {
    match pretty {
        Some(value) => !matches!(value, "0" | "false"),
        None => headers
            .get(http::header::USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|agent| ["curl", "Wget", "Mozilla/5.0"].iter().any(|p| agent.starts_with(p))),
    }
}

/// Picks the first acceptable clause; 406 if there is none.
pub fn negotiate(headers: &HeaderMap, pretty: Option<&str>, offer: Offer) -> Result<Accepted, Status> {
    let accept = accept_of(headers);
    let pretty = is_pretty(headers, pretty);
    let plain = |encoding| Accepted { encoding, shape: Shape::Object, pretty, clause: String::new() };
    if accept.trim().is_empty() {
        return Ok(plain(Encoding::Json));
    }
    let clauses = clauses(&accept);
    let mut known = false;
    for clause in &clauses {
        let Some(encoding) = Encoding::of(clause.kind, clause.subtype, offer.cbor) else {
            // the router knows what watches are answered in, though that can't be asked for
            known |= offer.cbor && offer.collection && clause.subtype == "cbor-seq";
            continue;
        };
        known = true;
        let param = |key: &str| clause.params.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| *v);
        if let Some(shape) = shape(param("as"), param("g"), param("v"), offer, encoding) {
            if offer.stream && encoding == Encoding::Yaml {
                return Err(not_acceptable(stream_types(offer.cbor)));
            }
            return Ok(Accepted { shape, clause: clause.text.to_owned(), ..plain(encoding) });
        }
    }
    if known || offer.custom {
        return Err(not_acceptable(object_types(offer.cbor)));
    }
    // the router says it in its own words
    let mut types = object_types(offer.cbor).to_owned();
    if offer.collection {
        types = format!("{types}, {}", stream_types(offer.cbor));
    }
    let message = format!("406: Not Acceptable\n\nAvailable representations: {types}");
    let mut status = Status::new(406, "NotAcceptable", message);
    status.details = Some(machinery::status::Details::default());
    Err(status)
}

fn shape(kind: &str, group: &str, version: &str, offer: Offer, encoding: Encoding) -> Option<Shape> {
    if kind.is_empty() {
        return (!offer.custom || encoding != Encoding::Proto).then_some(Shape::Object);
    }
    if !offer.shapes || group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") {
        return None;
    }
    match kind {
        // tables hold arbitrary cells, which the binary encodings are not let have
        "Table" if offer.tables && matches!(encoding, Encoding::Json | Encoding::Yaml) => {
            Some(Shape::Table(version.to_owned()))
        }
        "PartialObjectMetadata" => Some(Shape::Metadata { version: version.to_owned(), list: false }),
        "PartialObjectMetadataList" => Some(Shape::Metadata { version: version.to_owned(), list: true }),
        _ => None,
    }
}

fn not_acceptable(types: &str) -> Status {
    Status::new(406, "NotAcceptable", format!("only the following media types are accepted: {types}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, offer: Offer, want: Option<(Encoding, Shape)>) {
        let mut headers = HeaderMap::new();
        headers.insert("accept", accept.parse().unwrap());
        let got = negotiate(&headers, None, offer).ok().map(|a| (a.encoding, a.shape));
        assert_eq!(got, want, "{accept}");
    }

    #[test]
    fn picks_clauses_as_upstream() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        check("*/*", Offer::OBJECT, Some((Encoding::Json, Shape::Object)));
        check(table, Offer::LIST, Some((Encoding::Json, Shape::Table("v1".into()))));
        check(table, Offer::PLAIN, Some((Encoding::Json, Shape::Object)));
        check(
            "application/yaml;q=0.1,application/json;q=0.9",
            Offer::OBJECT,
            Some((Encoding::Json, Shape::Object)),
        );
        check("text/html", Offer::OBJECT, None);
        check("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", Offer::LIST, None);
        check("application/yaml", Offer::WATCH, None);
        check("application/yaml,application/json", Offer::WATCH, None);
        check("application/cbor", Offer::OBJECT, None);
        let cbor = Offer { cbor: true, ..Offer::OBJECT };
        check("application/cbor", cbor, Some((Encoding::Cbor, Shape::Object)));
        check("application/cbor;as=Table;v=v1;g=meta.k8s.io", cbor, None);
        let custom = Offer { custom: true, ..Offer::OBJECT };
        check("application/vnd.kubernetes.protobuf", custom, None);
        let metadata = Shape::Metadata { version: "v1".into(), list: false };
        let partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        check(partial, custom, Some((Encoding::Proto, metadata)));
    }

    #[test]
    fn content_types_are_read_as_go_reads_them() {
        for (given, want) in [
            ("application/json", Some("application/json")),
            (" APPLICATION/JSON ; charset=utf-8", Some("application/json")),
            ("application/json;", Some("application/json")),
            ("application/json; a=\"b;\\\"c\"; d=e", Some("application/json")),
            ("application/json; charset", None),
            ("application/json; a=b; a=c", None),
            ("a/b/c", None),
            ("application/", None),
        ] {
            assert_eq!(media_type(given).as_deref(), want, "{given}");
        }
    }
}
