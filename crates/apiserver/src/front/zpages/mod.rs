//! `/flagz` and `/statusz`: how the server was started, and how it is; as text to read, or as an object of
//! `config.k8s.io`. <https://kubernetes.io/docs/reference/instrumentation/zpages/>, KEP-4827, KEP-4828.

mod accept;
pub mod flags;
mod status;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue, WARNING};
use machinery::Value;
use serde_json::json;

use self::accept::Wanted;
use super::negotiate::{Accepted, Encoding, Offer, Shape, is_pretty, negotiate};
use super::respond::{self, Answer};
use crate::server::Core;

const COMPONENT: &str = "apiserver";
const TEXT: &str = "text/plain; charset=utf-8";
/// Nobody shall read the texts by a program: what stands between name and value changes.
const DELIMITERS: [&str; 4] = [":", ": ", "=", " "];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Flagz,
    Statusz,
}

impl Page {
    /// The page at this path, if it is served.
    pub fn at(core: &Core, path: &str) -> Option<Page> {
        let page = match path {
            "/flagz" => Page::Flagz,
            "/statusz" => Page::Statusz,
            _ => return None,
        };
        page.is_on(core).then_some(page)
    }

    fn is_on(self, core: &Core) -> bool {
        let gate = match self {
            Page::Flagz => "ComponentFlagz",
            Page::Statusz => "ComponentStatusz",
        };
        crate::gates::is_on(&core.config.feature_gates, gate)
    }

    fn kind(self) -> &'static str {
        match self {
            Page::Flagz => "Flagz",
            Page::Statusz => "Statusz",
        }
    }

    /// The path without its slash.
    pub fn name(self) -> &'static str {
        match self {
            Page::Flagz => "flagz",
            Page::Statusz => "statusz",
        }
    }
}

/// The paths that are served.
pub fn paths(core: &Core) -> Vec<String> {
    let all = [Page::Flagz, Page::Statusz].into_iter();
    all.filter(|page| page.is_on(core)).map(|page| format!("/{}", page.name())).collect()
}

/// `pretty`: of the query.
pub fn answer(core: &Core, page: Page, pretty: Option<&str>, headers: &HeaderMap) -> Answer {
    let wanted = match accept::wanted(headers, page, core.cbor) {
        Ok(wanted) => wanted,
        Err(refusal) => return refused(&refusal, pretty, headers),
    };
    let Wanted::Object { encoding, version, pretty: asked } = wanted else {
        return respond::bytes(200, TEXT, text(core, page));
    };
    let object = object(core, page, version);
    let pretty = asked || is_pretty(headers, pretty);
    let accepted = Accepted { encoding, shape: Shape::Object, pretty, clause: String::new() };
    let mut answer = respond::value(200, &object, &accepted);
    let kind = page.kind();
    let content = format!("{};g=config.k8s.io;v={version};as={kind}", encoding.media_type());
    if let (200, Ok(content)) = (answer.status().as_u16(), HeaderValue::from_str(&content)) {
        answer.headers_mut().insert(CONTENT_TYPE, content);
    }
    if version == "v1alpha1" {
        let name = page.name();
        let warning = format!(
            "299 - \"This version of the {name} endpoint is deprecated. Please use a newer version.\""
        );
        answer.headers_mut().extend(HeaderValue::from_str(&warning).ok().map(|value| (WARNING, value)));
    }
    answer
}

/// A refusal in the encoding the client takes, else as JSON for people.
fn refused(status: &machinery::Status, pretty: Option<&str>, headers: &HeaderMap) -> Answer {
    let accepted = negotiate(headers, pretty, Offer::PLAIN).ok().filter(|a| a.encoding != Encoding::Proto);
    let accepted = accepted.unwrap_or(Accepted { pretty: true, ..respond::json_accepted() });
    respond::value(status.code, &status.to_value(), &accepted)
}

fn object(core: &Core, page: Page, version: &str) -> Value {
    let mut out = json!({
        "kind": page.kind(), "apiVersion": format!("config.k8s.io/{version}"), "metadata": {"name": COMPONENT},
    });
    let rest = match page {
        Page::Flagz => json!({"flags": flags::flags(&core.config)}),
        Page::Statusz => {
            let status = status::status(core);
            json!({
                "startTime": status.start_time(), "uptimeSeconds": status.uptime,
                "goVersion": "", "binaryVersion": status.binary_version, "emulationVersion": "1.36",
                "paths": status.paths,
            })
        }
    };
    if let (Some(out), Value::Object(rest)) = (out.as_object_mut(), rest) {
        out.extend(rest);
    }
    out
}

fn text(core: &Core, page: Page) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let by = DELIMITERS[now.map_or(0, |now| now.subsec_micros() as usize) % DELIMITERS.len()];
    let mut out = format!(
        "\n{COMPONENT} {}\nWarning: This endpoint is not meant to be machine parseable, has no formatting \
         compatibility guarantees and is for debugging purposes only.\n",
        page.name()
    );
    // writing to a string does not fail
    let _ = match page {
        Page::Flagz => {
            flags::flags(&core.config).iter().try_for_each(|(name, value)| writeln!(out, "{name}{by}{value}"))
        }
        Page::Statusz => {
            let status = status::status(core);
            let up = status.uptime;
            let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
            write!(
                out,
                "\nStarted{by} {}\nUp{by} {hours} hr {minutes:02} min {seconds:02} sec\nGo version{by} \n\
                 Binary version{by} {}\nEmulation version{by} 1.36\nPaths{by} {}\n",
                status.started.strftime("%a %b %e %H:%M:%S UTC %Y"),
                status.binary_version,
                status.paths.join(" ")
            )
        }
    };
    out
}
