//! DELETE of a collection: everything that a list would show.

use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use machinery::{Status, Value, json};

use super::delete::{Deleted, delete_object, parse_delete_options};
use super::reads::list_options;
use super::storage::from_entry;
use super::{Call, encode, list, read_body};
use crate::front::body::Incoming;
use crate::front::negotiate::Offer;
use crate::front::respond::Answer;

/// Deletions under way at a time.
const AT_ONCE: usize = 16;

pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let accepted = call.accept(Offer::OBJECT)?;
    let options = list_options(call, false)?;
    let body = read_body(call, body).await?;
    let delete = parse_delete_options(call, &body)?;
    call.warnings.extend(crate::subresource::delete_warning(call, &delete));
    let page = list::page(call, &options).await?;
    let resource = call.resource.clone();
    // some at once, so that they become durable together; they begin in order
    let mut rest = page.entries.iter();
    let mut running = FuturesOrdered::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(entry) = rest.next()
        {
            let mut one = call.for_resource(resource.clone(), "delete", entry.namespace(), entry.name());
            if !resource.namespaced {
                one.namespace.clear();
            }
            let delete = delete.clone();
            running.push_back(async move { delete_object(&mut one, &delete).await }.boxed());
        }
        match running.next().await {
            None => break,
            Some(Ok(Deleted::Gone(_) | Deleted::Waiting(_))) => {}
            Some(Err(status)) if status.code == 404 => {}
            Some(Err(status)) => return Err(status),
        }
    }
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = page.next {
        metadata["continue"] = next.into();
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    if resource.custom.is_some() && !metadata.as_object().is_some_and(|m| m.contains_key("continue")) {
        metadata["continue"] = "".into();
    }
    if list::is_plain(&resource, &accepted) {
        return Ok(list::plain(&resource, &metadata, page.entries));
    }
    let items = page.entries.iter().map(|entry| {
        let mut object = from_entry(&resource, entry);
        if resource.custom.is_none()
            && let Some(map) = object.as_object_mut()
        {
            map.remove("kind");
            map.remove("apiVersion");
        }
        object
    });
    let items: Vec<Value> = items.collect();
    let list = json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": metadata,
        "items": items});
    encode::object_answer(call, 200, list)
}
