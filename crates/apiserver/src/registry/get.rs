//! GET of one object.

use std::sync::Arc;

use machinery::Status;

use super::{Call, encode, parse_revision};
use crate::cache::Entry;
use crate::front::negotiate::Offer;
use crate::front::respond::Answer;

pub async fn answer(call: &mut Call) -> Result<Answer, Status> {
    let accepted = call.accept(Offer::OBJECT)?;
    check_name(call)?;
    let revision = call.query.text("resourceVersion");
    // upstream returns this error bare
    let asked = parse_revision(revision).map_err(|why| match call.home() {
        Ok(home) if home.unwatched() => Status::bad_request(format!("invalid resource version: {why}")),
        _ => Status::new(500, "", why),
    })?;
    match asked {
        0 if revision.is_empty() => drop(call.core.fresh().await?),
        0 => {}
        at => drop(call.core.reached(call.home()?, at).await?),
    }
    let entry = cached(call)?;
    crate::crd::prepare_versions(&call.core, &call.resource, [&entry]).await?;
    encode::entry_answer(call, 200, &entry, &accepted)
}

fn cached(call: &Call) -> Result<Arc<Entry>, Status> {
    let home = call.home()?;
    let key = call.key()?;
    home.cache.get(&key).ok_or_else(|| match home.why_unreadable(&key, "") {
        Some(why) => Status::internal(why),
        None => Status::not_found(&call.gr(), call.name()),
    })
}

/// The object of the call's path as of all acknowledged writes, or 404.
pub async fn current(call: &Call) -> Result<Arc<Entry>, Status> {
    check_name(call)?;
    call.core.fresh().await?;
    let entry = cached(call)?;
    crate::crd::prepare_versions(&call.core, &call.resource, [&entry]).await?;
    Ok(entry)
}

/// Names that can't be a path segment.
pub fn check_name(call: &Call) -> Result<(), Status> {
    let name = call.name();
    let why = match name {
        "." => "may not be '.'",
        ".." => "may not be '..'",
        name if name.contains('/') => "may not contain '/'",
        name if name.contains('%') => "may not contain '%'",
        _ => return Ok(()),
    };
    Err(Status::bad_request(format!("Name parameter invalid: {}: {why}", machinery::field::go_quote(name))))
}
