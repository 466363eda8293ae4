//! What reads of collections ask for: selectors, versions, limits (upstream's `ListOptions`).

use machinery::field::{self, Path};
use machinery::{GroupKind, Status};

use super::Call;
use super::late::Late;
use crate::select::{Known, Selector};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Match {
    #[default]
    Unset,
    Exact,
    NotOlderThan,
}

pub struct ListOptions {
    pub selector: Selector,
    /// What is left to look at after the conversion to the version that is asked for.
    pub late: Option<Late>,
    /// As given; "" if not.
    pub revision: String,
    pub matching: Match,
    pub limit: usize,
    pub token: String,
    pub timeout: Option<i64>,
    pub bookmarks: bool,
    pub initial_events: Option<bool>,
}

pub fn list_options(call: &Call, watch: bool) -> Result<ListOptions, Status> {
    let query = &call.query;
    let timeout = query.int("timeoutSeconds")?;
    let limit = query.int("limit")?.unwrap_or(0);
    let mut errors = Vec::new();
    let revision = query.text("resourceVersion").to_owned();
    let given = query.text("resourceVersionMatch");
    let initial_events = query.flag_opt("sendInitialEvents");
    let at = Path::new("resourceVersionMatch");
    let matching = match given {
        "" => Match::Unset,
        "Exact" => Match::Exact,
        "NotOlderThan" => Match::NotOlderThan,
        _ if watch => Match::Unset,
        other => {
            errors.push(field::Error::not_supported(&at, other, &["Exact", "NotOlderThan", ""]));
            Match::Unset
        }
    };
    let token = query.text("continue").to_owned();
    if watch {
        check_watch(&mut errors, &at, given, initial_events);
    } else if errors.is_empty() {
        if initial_events.is_some() {
            errors.push(field::Error::forbidden(
                &Path::new("sendInitialEvents"),
                "sendInitialEvents is forbidden for list",
            ));
        }
        check_list(&mut errors, &at, given, &revision, &token);
    }
    if !errors.is_empty() {
        let kind = GroupKind { group: "meta.k8s.io".to_owned(), kind: "ListOptions".to_owned() };
        return Err(Status::invalid(&kind, "", &errors));
    }
    let (selector, late) = selector(call)?;
    // the old form of a watch of one object: `/api/v1/watch/namespaces/NAME`
    let selector = match call.info.parts.get(1).filter(|name| watch && !name.is_empty()) {
        Some(name) if !selector.has_fields() => selector.named(name),
        Some(name) if selector.name() != Some(name) => {
            return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        _ => selector,
    };
    Ok(ListOptions {
        selector,
        late,
        revision,
        matching,
        limit: usize::try_from(limit).unwrap_or(0),
        token,
        timeout,
        bookmarks: query.flag("allowWatchBookmarks"),
        initial_events,
    })
}

/// Both selectors, against the fields of the version that is asked for.
fn selector(call: &Call) -> Result<(Selector, Option<Late>), Status> {
    let resource = &call.resource;
    let (labels, fields) = (call.query.text("labelSelector"), call.query.text("fieldSelector"));
    let kept = &call.home()?.cache.fields;
    let known = Known { group: &resource.group, kind: &resource.kind, none: kept.is_empty() };
    let parse = |position: &dyn Fn(&str) -> Option<usize>, known| {
        Selector::parse(labels, fields, position, resource.namespaced, known)
    };
    match &resource.custom {
        Some(custom) => {
            let own = &custom.selectable;
            let known = Known { none: own.is_empty(), ..known };
            if custom.conversion.by_webhook() {
                let selector = parse(&|name| own.position(name), known)?;
                return Ok(Late::split(resource, selector));
            }
            // the cache holds the fields of all versions
            Ok((parse(&|name| own.position(name).and_then(|_| kept.position(name)), known)?, None))
        }
        None if resource.group == "events.k8s.io" => {
            let position =
                |name: &str| resources::core_event_field(name).and_then(|core| kept.position(core));
            Ok((parse(&position, known)?, None))
        }
        None => Ok((parse(&|name| kept.position(name), known)?, None)),
    }
}

fn check_watch(errors: &mut field::ErrorList, at: &Path, given: &str, initial: Option<bool>) {
    if initial.is_some() && given != "NotOlderThan" {
        errors.push(field::Error::forbidden(
            at,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if initial.is_none() && !given.is_empty() {
        errors.push(field::Error::forbidden(
            at,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ));
    }
    if !matches!(given, "" | "NotOlderThan") {
        errors.push(field::Error::not_supported(at, given, &["NotOlderThan"]));
    }
}

fn check_list(errors: &mut field::ErrorList, at: &Path, given: &str, revision: &str, token: &str) {
    if given.is_empty() {
        return;
    }
    if !token.is_empty() {
        errors
            .push(field::Error::forbidden(at, "resourceVersionMatch is forbidden when continue is provided"));
    }
    if revision.is_empty() {
        errors.push(field::Error::forbidden(
            at,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    } else if given == "Exact" && revision == "0" {
        errors.push(field::Error::forbidden(
            at,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ));
    }
}
