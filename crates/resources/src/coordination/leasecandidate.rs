//! LeaseCandidates.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "coordination.k8s.io",
    kind: "LeaseCandidate",
    validate: |obj, _| {
        let mut errors = objectmeta::validate_generic(obj, true, |name, _| names::config_map_key(name));
        spec(obj.at("spec"), &mut errors);
        errors
    },
    validate_update: |new, old, _| {
        let mut errors = objectmeta::generic_update(new, old);
        spec(new.at("spec"), &mut errors);
        let at = Path::new("spec").child("leaseName");
        errors.immutable(&at, new.at("spec").at("leaseName"), old.at("spec").at("leaseName"));
        errors
    },
    create_on_update: true,
    unconditional_update: false,
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| {
            let spec = obj.at("spec");
            let text = |field: &str| spec.text(field).into();
            vec![name(obj), text("leaseName"), text("binaryVersion"), text("emulationVersion"), age(obj, now)]
        },
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "LeaseName",
        "string",
        "",
        0,
        "LeaseName is the name of the lease for which this candidate is contending. This field is immutable.",
    ),
    ("BinaryVersion", "string", "", 0, ""),
    ("EmulationVersion", "string", "", 0, ""),
    ("Age", "string", "", 0, CREATED),
];

fn spec(spec: &Value, errors: &mut ErrorList) {
    let at = Path::new("spec");
    if spec.text("leaseName").is_empty() {
        errors.required(&at.child("leaseName"), "");
    }
    let bad = "must be a valid semantic version";
    let (emulation, binary) = (spec.text("emulationVersion"), spec.text("binaryVersion"));
    let emulated = semver(emulation);
    if !emulation.is_empty() && emulated.is_none() {
        errors.invalid(&at.child("emulationVersion"), emulation, bad);
    }
    let built = semver(binary);
    let binary_at = at.child("binaryVersion");
    if binary.is_empty() {
        errors.required(&binary_at, "");
    } else if built.is_none() {
        errors.invalid(&binary_at, binary, bad);
    }
    let emulated = emulated.unwrap_or_default();
    if !binary.is_empty() && !emulation.is_empty() && built.unwrap_or_default() < emulated {
        errors.invalid(&binary_at, binary, "must be greater than or equal to `emulationVersion`");
    }
    match spec.text("strategy") {
        "" => errors.required(&at.child("strategy"), ""),
        strategy => {
            if strategy == "OldestEmulationVersion" && emulated == [0; 3] {
                let detail = "must be specified when `strategy` is 'OldestEmulationVersion'";
                errors.required(&at.child("emulationVersion"), detail);
            }
            super::election(strategy, &at.child("strategy"), errors);
        }
    }
}

/// The three numbers of a semantic version; what follows them is not compared.
fn semver(text: &str) -> Option<[u64; 3]> {
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let mut parts = text[..end].split('.');
    let mut out = [0; 3];
    for number in &mut out {
        let part = parts.next()?;
        let good = part == "0" || (!part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()));
        *number = good.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(out)
}
