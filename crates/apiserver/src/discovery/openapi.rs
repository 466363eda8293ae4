//! `/openapi/v2` and `/openapi/v3`: the published descriptions, made when asked for.

use http::header::{CACHE_CONTROL, ETAG, HeaderValue, VARY};
use machinery::{Status, Value, json};

use crate::front::Query;
use crate::front::respond::{self, Answer};
use crate::server::Core;

pub fn answer(
    core: &Core,
    parts: &[&str],
    query: &Query,
    head: &http::request::Parts,
) -> Result<Answer, Status> {
    let _ = head;
    match parts {
        [_, "v2"] => {
            let mut answer = respond::bytes(200, "application/json", machinery::openapi::v2());
            answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
            Ok(answer)
        }
        [_, "v3"] | [_, "v3", ""] => Ok(index(core)),
        [_, "v3", rest @ ..] => Ok(document(core, &rest.join("/"), query)),
        _ => Ok(respond::not_found_text()),
    }
}

fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA512, text.as_bytes());
    digest.as_ref().iter().map(|b| format!("{b:02X}")).collect()
}

/// Is the group-version of a document served?
fn served(core: &Core, path: &str) -> bool {
    let map = core.kinds.now();
    match path.split('/').collect::<Vec<_>>()[..] {
        ["api", version] => map.has_version("", version),
        ["apis", group] => map.has_group(group),
        ["apis", group, version] => map.has_version(group, version),
        _ => true,
    }
}

fn index(core: &Core) -> Answer {
    let mut paths = machinery::Map::new();
    let version = &core.config.git_version;
    let custom = crate::crd::openapi_paths(core);
    let builtin = machinery::openapi::v3_paths().into_iter().filter(|p| served(core, p));
    for (path, content) in builtin.map(|p| (p, None)).chain(custom.into_iter().map(|(p, c)| (p, Some(c)))) {
        // a built-in document changes with the version of the server only, so its path stands for its content
        let hash = hash(&content.unwrap_or_else(|| format!("{version} {path}")));
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    respond::bytes(
        200,
        "text/plain; charset=utf-8",
        respond::json(&json!({"paths": Value::Object(paths)}), false),
    )
}

fn document(core: &Core, path: &str, query: &Query) -> Answer {
    let text = crate::crd::openapi_document(core, path)
        .or_else(|| served(core, path).then(|| machinery::openapi::v3(path)).flatten());
    let Some(text) = text else { return respond::not_found_text() };
    let etag = format!("\"{}\"", hash(&text));
    let mut answer = respond::bytes(200, "application/json", text);
    if let Ok(value) = HeaderValue::from_str(&etag) {
        answer.headers_mut().insert(ETAG, value);
    }
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    if query.get("hash").is_some() {
        answer
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000"));
    }
    answer
}
