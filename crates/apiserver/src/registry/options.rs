//! The options of writes that come in the query: dry run, field manager, field validation.

use machinery::field::{self, Path};
use machinery::{GroupKind, Status};

use super::Call;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    Ignore,
    #[default]
    Warn,
    Strict,
}

#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub manager: String,
    pub strictness: Strictness,
    pub force: Option<bool>,
}

/// `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`, for the error.
pub fn write_options(call: &Call, kind: &str, apply: bool) -> Result<WriteOptions, Status> {
    let query = &call.query;
    let mut errors = Vec::new();
    let force = query.flag_opt("force");
    let manager = query.text("fieldManager");
    if kind == "PatchOptions" {
        if apply {
            if manager.is_empty() {
                errors
                    .push(field::Error::required(&Path::new("fieldManager"), "is required for apply patch"));
            }
        } else if force.is_some() {
            errors.push(field::Error::forbidden(
                &Path::new("force"),
                "may not be specified for non-apply patch",
            ));
        }
    }
    resources::objectmeta::field_manager(manager, &Path::new("fieldManager"), &mut errors);
    let dry_run = dry_run(query.all("dryRun"), &mut errors);
    let strictness = match query.text("fieldValidation") {
        "" | "Warn" => Strictness::Warn,
        "Ignore" => Strictness::Ignore,
        "Strict" => Strictness::Strict,
        other => {
            errors.push(field::Error::not_supported(
                &Path::new("fieldValidation"),
                other,
                &["", "Ignore", "Strict", "Warn"],
            ));
            Strictness::Warn
        }
    };
    if !errors.is_empty() {
        return Err(invalid_options(kind, &errors));
    }
    let manager = if manager.is_empty() { default_manager(call) } else { manager.to_owned() };
    Ok(WriteOptions { dry_run, manager, strictness, force })
}

pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut field::ErrorList) -> bool {
    let all: Vec<&str> = values.collect();
    for value in &all {
        if *value != "All" {
            errors.push(field::Error::not_supported(&Path::new("dryRun"), all.to_vec(), &["All"]));
            break;
        }
    }
    !all.is_empty()
}

pub fn invalid_options(kind: &str, errors: &[field::Error]) -> Status {
    let kind = GroupKind { group: "meta.k8s.io".to_owned(), kind: kind.to_owned() };
    Status::invalid(&kind, "", errors)
}

/// The part of the User-Agent before the first slash, as far as it is printable and not too long.
pub fn default_manager(call: &Call) -> String {
    let agent = call.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let prefix = agent.split('/').next().unwrap_or("");
    let mut out = String::new();
    for c in prefix.chars().filter(|c| !c.is_control()) {
        if out.len() + c.len_utf8() > 128 {
            break;
        }
        out.push(c);
    }
    if out.is_empty() { "unknown".to_owned() } else { out }
}
