//! In which form a page is wanted.

use http::HeaderMap;
use machinery::Status;

use super::Page;
use crate::front::negotiate::{Encoding, accept_of, clauses};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Text,
    Object { encoding: Encoding, version: &'static str, pretty: bool },
}

/// The first form that a clause of `Accept` allows; without that header it is text. An object must be asked for by its
/// group, version and kind.
pub fn wanted(headers: &HeaderMap, page: Page, cbor: bool) -> Result<Wanted, Status> {
    let accept = accept_of(headers);
    if accept.trim().is_empty() {
        return Ok(Wanted::Text);
    }
    let mut offers = vec![
        ("application", "json", Some(Encoding::Json)),
        ("application", "yaml", Some(Encoding::Yaml)),
        ("text", "plain", None),
    ];
    if cbor {
        offers.push(("application", "cbor", Some(Encoding::Cbor)));
    }
    for clause in clauses(&accept) {
        let param = |key: &str| clause.params.iter().rfind(|(k, _)| *k == key).map(|(_, value)| *value);
        // streams and the server's own versions are no forms of these pages
        if ["stream", "sv"].iter().any(|key| param(key).is_some_and(|value| !value.is_empty())) {
            continue;
        }
        let transforms = ["as", "g", "v"].iter().any(|key| param(key).is_some());
        let version = match param("v") {
            Some("v1alpha1") => Some("v1alpha1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        };
        let version =
            version.filter(|_| param("g") == Some("config.k8s.io") && param("as") == Some(page.kind()));
        let pretty = param("pretty") == Some("1");
        for (kind, subtype, encoding) in &offers {
            let fits = clause.kind == *kind && (clause.subtype == *subtype || clause.subtype == "*");
            if !fits && (clause.kind, clause.subtype) != ("*", "*") {
                continue;
            }
            match (encoding, version) {
                (None, _) if !transforms => return Ok(Wanted::Text),
                (Some(encoding), Some(version)) => {
                    return Ok(Wanted::Object { encoding: *encoding, version, pretty });
                }
                _ => {}
            }
        }
    }
    let types: Vec<String> = offers.iter().map(|(kind, subtype, _)| format!("{kind}/{subtype}")).collect();
    let message = format!("only the following media types are accepted: {}", types.join(", "));
    Err(Status::new(406, "NotAcceptable", message))
}
