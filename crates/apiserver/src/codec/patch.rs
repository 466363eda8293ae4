//! Patch documents by type.

use machinery::codec::json::strict_message;
use machinery::patch::{json, merge, strategic};
use machinery::schema;
use machinery::{GroupVersionKind, Status, Value};

use crate::registry::options::Strictness;
use crate::registry::patch::PatchType;

/// A patch that has been read.
pub enum Patch {
    Json(json::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads a patch; what is odd about the patch itself is refused or warned of.
    pub fn parse(
        kind: PatchType,
        body: &[u8],
        strictness: Strictness,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Status> {
        let strict = strictness != Strictness::Ignore;
        let (patch, problems) = match kind {
            PatchType::Json => {
                let (patch, problems) = json::Patch::decode(body, strict)?;
                (Patch::Json(patch), problems)
            }
            PatchType::Strategic => {
                let (patch, problems) = strategic::decode(body, strict)?;
                (Patch::Strategic(patch), problems)
            }
            _ => {
                let (patch, problems) = merge::decode(body, strict)?;
                (Patch::Merge(patch), problems)
            }
        };
        if !problems.is_empty() {
            match strictness {
                Strictness::Strict => return Err(Status::bad_request(strict_message(&problems))),
                Strictness::Warn => warnings.extend(problems),
                Strictness::Ignore => {}
            }
        }
        Ok(patch)
    }
}

/// The patched object of a kind, not yet checked by its schema.
pub fn patch_as(patch: &Patch, live: &Value, kind: &GroupVersionKind) -> Result<Value, Status> {
    Ok(match patch {
        Patch::Json(patch) => patch.apply(live).map_err(|error| match error {
            // upstream keeps the reason to itself
            machinery::patch::Error::Unprocessable(_) => {
                let mut status = Status::new(
                    422,
                    "Invalid",
                    "the server rejected our request due to an error in our request",
                );
                status.details = Some(machinery::status::Details::default());
                status
            }
            other => other.into(),
        })?,
        Patch::Merge(patch) => merge::apply(live, patch),
        Patch::Strategic(patch) => match schema::of_kind(kind) {
            Some(schema) => strategic::apply(schema, live, patch)?,
            None => {
                return Err(Status::new(
                    415,
                    "UnsupportedMediaType",
                    "strategic merge patch needs a built-in type",
                ));
            }
        },
    })
}
