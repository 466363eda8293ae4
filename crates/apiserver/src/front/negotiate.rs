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

    fn of(kind: &str, subtype: &str) -> Option<Self> {
        match (kind, subtype) {
            ("*", "*") | ("application", "*" | "json") => Some(Encoding::Json),
            ("application", "yaml") => Some(Encoding::Yaml),
            ("application", "vnd.kubernetes.protobuf") => Some(Encoding::Proto),
            _ => None,
        }
    }

    /// The encoding of a request body; an absent type is JSON.
    pub fn of_body(headers: &HeaderMap) -> Result<Self, Status> {
        let given = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let media = given.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        match media.as_str() {
            "" | "application/json" => Ok(Encoding::Json),
            "application/yaml" => Ok(Encoding::Yaml),
            "application/vnd.kubernetes.protobuf" => Ok(Encoding::Proto),
            _ => Err(Status::new(
                415,
                "UnsupportedMediaType",
                format!(
                    "the body of the request was in an unknown format - accepted media types include: {}",
                    "application/json, application/yaml, application/vnd.kubernetes.protobuf"
                ),
            )),
        }
    }
}

/// The shape of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it is.
    Object,
    /// A Table of `meta.k8s.io` in this version.
    Table(String),
    /// PartialObjectMetadata or its List.
    Metadata(String),
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
    params: Vec<(&'a str, &'a str)>,
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

fn accept_of(headers: &HeaderMap) -> String {
    let all: Vec<&str> =
        headers.get_all(http::header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    all.join(",")
}

/// What may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Table and PartialObjectMetadata.
    pub shapes: bool,
    /// PartialObjectMetadataList rather than PartialObjectMetadata.
    pub list: bool,
    /// A watch, which has no YAML.
    pub stream: bool,
}

impl Offer {
    pub const PLAIN: Offer = Offer { shapes: false, list: false, stream: false };
    pub const OBJECT: Offer = Offer { shapes: true, list: false, stream: false };
    pub const LIST: Offer = Offer { shapes: true, list: true, stream: false };
    pub const WATCH: Offer = Offer { shapes: true, list: false, stream: true };
}

/// Picks the first acceptable clause; 406 if there is none.
pub fn negotiate(headers: &HeaderMap, pretty: Option<&str>, offer: Offer) -> Result<Accepted, Status> {
    let accept = accept_of(headers);
    let pretty = match pretty {
        Some(value) => !matches!(value, "0" | "false"),
        None => headers
            .get(http::header::USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|agent| ["curl", "Wget", "Mozilla/5.0"].iter().any(|p| agent.starts_with(p))),
    };
    let plain = |encoding| Accepted { encoding, shape: Shape::Object, pretty, clause: String::new() };
    if accept.trim().is_empty() {
        return Ok(plain(Encoding::Json));
    }
    for clause in clauses(&accept) {
        let Some(encoding) = Encoding::of(clause.kind, clause.subtype) else { continue };
        if (offer.stream && encoding == Encoding::Yaml) || !crate::codec::can_encode(encoding) {
            continue;
        }
        let param = |key: &str| clause.params.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| *v);
        if let Some(shape) = shape(param("as"), param("g"), param("v"), offer, encoding) {
            return Ok(Accepted { shape, clause: clause.text.to_owned(), ..plain(encoding) });
        }
    }
    if clauses(&accept).iter().any(|c| Encoding::of(c.kind, c.subtype).is_some()) {
        return Err(not_acceptable(offer));
    }
    // the router says it in its own words
    let mut status = Status::new(
        406,
        "NotAcceptable",
        "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    );
    status.details = Some(machinery::status::Details::default());
    Err(status)
}

fn shape(kind: &str, group: &str, version: &str, offer: Offer, encoding: Encoding) -> Option<Shape> {
    if kind.is_empty() {
        return Some(Shape::Object);
    }
    if !offer.shapes || group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") {
        return None;
    }
    match kind {
        // tables hold arbitrary cells, which protobuf has no form for
        "Table" if encoding != Encoding::Proto => Some(Shape::Table(version.to_owned())),
        "PartialObjectMetadata" if !offer.list => Some(Shape::Metadata(version.to_owned())),
        "PartialObjectMetadataList" if offer.list => Some(Shape::Metadata(version.to_owned())),
        _ => None,
    }
}

pub fn not_acceptable(offer: Offer) -> Status {
    let types = if offer.stream {
        "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    } else {
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    };
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
    }
}
