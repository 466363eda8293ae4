//! One version of a definition: deprecation, schema, subresources, columns, selectable fields.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::lax::Asked;
use super::{fieldpath, schema, structural};
use crate::check::{Errors, same};

pub(super) const MAX_SELECTABLE: usize = 8;

/// What is the same in all versions, and therefore looked at once, at the top of the spec.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Common {
    pub schema: bool,
    pub subresources: bool,
    pub columns: bool,
    pub selectable: bool,
}

impl Common {
    pub fn of(spec: &Value) -> Self {
        let versions = spec.list("versions");
        let all = |name: &str| versions.iter().all(|v| same(v.at(name), versions[0].at(name)));
        if versions.is_empty() {
            return Self::default();
        }
        Self {
            schema: all("schema"),
            subresources: all("subresources"),
            columns: all("additionalPrinterColumns"),
            selectable: all("selectableFields"),
        }
    }
}

/// The schemas of all versions.
pub(super) fn schemas(spec: &Value) -> impl Iterator<Item = &Value> {
    spec.list("versions").iter().map(|v| v.at("schema").at("openAPIV3Schema")).filter(|s| s.is_object())
}

fn has_status(version: &Value) -> bool {
    version.at("subresources").has("status")
}

/// A version's own part: what it does not share with all others.
pub(super) fn check(version: &Value, common: Common, asked: &Asked, at: &Path, errors: &mut ErrorList) {
    deprecation(version, &at.child("deprecationWarning"), errors);
    let asked = asked.for_version(version.text("name"));
    if !common.schema {
        schema::check(version.at("schema"), has_status(version), &asked, &at.child("schema"), errors);
    }
    if !common.subresources {
        subresources(version.at("subresources"), &at.child("subresources"), errors);
    }
    if !common.columns {
        columns(version, &at.child("additionalPrinterColumns"), errors);
    }
    if common.selectable || version.list("selectableFields").is_empty() {
        return;
    }
    let fields_at = at.child("selectableFields");
    let own = version.at("schema").at("openAPIV3Schema");
    if common.schema || own.is_null() {
        let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
        return errors.invalid(&fields_at, "", why);
    }
    let lax = asked.many_selectable.contains(version.text("name"));
    selectable(
        version.list("selectableFields"),
        own,
        lax,
        &at.child("schema.openAPIV3Schema"),
        &fields_at,
        errors,
    );
}

/// What all versions share.
pub(super) fn check_common(spec: &Value, common: Common, asked: &Asked, at: &Path, errors: &mut ErrorList) {
    let versions = spec.list("versions");
    let Some(first) = versions.first() else { return };
    if common.schema {
        let asked = asked.for_version(first.text("name"));
        let status = versions.iter().any(has_status);
        schema::check(first.at("schema"), status, &asked, &at.child("validation"), errors);
    }
    if common.subresources {
        subresources(first.at("subresources"), &at.child("subresources"), errors);
    }
    if common.columns {
        columns(first, &at.child("additionalPrinterColumns"), errors);
    }
    let fields = first.list("selectableFields");
    if !common.selectable || fields.is_empty() {
        return;
    }
    let fields_at = at.child("selectableFields");
    if !common.schema || !first.has("schema") {
        return errors.invalid(&fields_at, "", "may only be set when validations.schema is included");
    }
    let lax = asked.many_selectable.contains("");
    let own = first.at("schema").at("openAPIV3Schema");
    selectable(fields, own, lax, &at.child("schema.openAPIV3Schema"), &fields_at, errors);
}

fn deprecation(version: &Value, at: &Path, errors: &mut ErrorList) {
    let Some(warning) = version.at("deprecationWarning").as_str() else { return };
    if version.flag("deprecated") != Some(true) {
        return errors.invalid(at, warning, "can only be set for deprecated versions");
    }
    if warning.len() > 256 {
        errors.invalid(at, warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        errors.invalid(at, warning, "must not be an empty string");
    }
    let unprintable = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| unprintable(*c)) {
        let why = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        );
        errors.invalid(at, warning, why);
    }
}

fn subresources(subresources: &Value, at: &Path, errors: &mut ErrorList) {
    let scale = subresources.at("scale");
    if scale.is_null() {
        return;
    }
    for (name, below) in [("specReplicasPath", "spec"), ("statusReplicasPath", "status")] {
        let (path, at) = (scale.text(name), at.child(&format!("scale.{name}")));
        if path.is_empty() {
            errors.required(&at, "");
        } else if simple_path(path, &at, errors) && !path.starts_with(&format!(".{below}.")) {
            errors.invalid(&at, path, format!("should be a json path under .{below}"));
        }
    }
    let (path, at) = (scale.text("labelSelectorPath"), at.child("scale.labelSelectorPath"));
    if !path.is_empty()
        && simple_path(path, &at, errors)
        && !path.starts_with(".spec.")
        && !path.starts_with(".status.")
    {
        errors.invalid(&at, path, "should be a json path under either .spec or .status");
    }
}

fn simple_path(path: &str, at: &Path, errors: &mut ErrorList) -> bool {
    let good = path.starts_with('.');
    if !good {
        errors.invalid(at, path, "must be a simple json path starting with .");
    }
    good
}

fn columns(version: &Value, at: &Path, errors: &mut ErrorList) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (i, column) in version.list("additionalPrinterColumns").iter().enumerate() {
        let at = at.index(i);
        if column.text("name").is_empty() {
            errors.required(&at.child("name"), "");
        }
        let one_of = |all: &[&str]| format!("must be one of {}", all.join(","));
        match column.text("type") {
            "" => errors.required(&at.child("type"), one_of(&TYPES)),
            kind if !TYPES.contains(&kind) => errors.invalid(&at.child("type"), kind, one_of(&TYPES)),
            _ => {}
        }
        let format = column.text("format");
        if !format.is_empty() && !FORMATS.contains(&format) {
            errors.invalid(&at.child("format"), format, one_of(&FORMATS));
        }
        match column.text("jsonPath") {
            "" => errors.required(&at.child("JSONPath"), ""),
            path => drop(simple_path(path, &at.child("JSONPath"), errors)),
        }
    }
}

fn selectable(
    fields: &[Value],
    schema: &Value,
    many: bool,
    schema_at: &Path,
    at: &Path,
    errors: &mut ErrorList,
) {
    if let Some(why) = structural::unreadable(schema) {
        return errors.invalid(schema_at, "", why);
    }
    let mut seen: Vec<String> = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let (path, at) = (field.text("jsonPath"), at.index(i).child("jsonPath"));
        if path.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let found = match fieldpath::field_path(path, schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.invalid(&at, path, format!("is an invalid path: {why}"));
                continue;
            }
        };
        if found.root == "metadata" {
            errors.invalid(&at, path, "must not point to fields in metadata");
        }
        if !matches!(found.schema.text("type"), "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.invalid(&at, path, why);
        }
        let text = found.path.as_str().to_owned();
        if seen.contains(&text) {
            errors.duplicate(&at, path);
        } else {
            seen.push(text);
        }
    }
    if seen.len() > MAX_SELECTABLE && !many {
        errors.too_many(at, seen.len(), MAX_SELECTABLE);
    }
}
