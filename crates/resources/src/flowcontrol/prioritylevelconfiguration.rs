//! PriorityLevelConfigurations.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::Errors;
use crate::columns::{CREATED, NAME, age, name, number};
use crate::{Column, Columns, Strategy, apps, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "flowcontrol.apiserver.k8s.io",
    kind: "PriorityLevelConfiguration",
    default: |obj, _| default(obj.child("spec")),
    prepare_create: apps::prepare_create,
    prepare_update: apps::prepare_update,
    validate: |obj, _| validate(obj),
    validate_update: |new, _, context| {
        if context.subresource != "status" {
            return validate(new);
        }
        let mut errors = ErrorList::new();
        super::conditions(new, &mut errors);
        errors
    },
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: crate::strategy::no_conditions }),
    resets: &[("", &[&["status"]]), ("status", &[&["spec"]])],
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Type",
        "string",
        "",
        0,
        "`type` indicates whether this priority level is subject to limitation on request execution.  A value of `\"Exempt\"` means that requests of this priority level are not subject to a limit (and thus are never queued) and do not detract from the capacity made available to other priority levels.  A value of `\"Limited\"` means that (a) requests of this priority level _are_ subject to limits and (b) some of the server's limited capacity is made available exclusively to this priority level. Required.",
    ),
    (
        "NominalConcurrencyShares",
        "string",
        "",
        0,
        "`nominalConcurrencyShares` (NCS) contributes to the computation of the NominalConcurrencyLimit (NominalCL) of this level. This is the number of execution seats available at this priority level. This is used both for requests dispatched from this priority level as well as requests dispatched from other priority levels borrowing seats from this level. The server's concurrency limit (ServerCL) is divided among the Limited priority levels in proportion to their NCS values:\n\nNominalCL(i)  = ceil( ServerCL * NCS(i) / sum_ncs ) sum_ncs = sum[priority level k] NCS(k)\n\nBigger numbers mean a larger nominal concurrency limit, at the expense of every other priority level.\n\nIf not specified, this field defaults to a value of 30.\n\nSetting this field to zero supports the construction of a \"jail\" for this priority level that is used to hold some request(s)",
    ),
    (
        "Queues",
        "string",
        "",
        0,
        "`queues` is the number of queues for this priority level. The queues exist independently at each apiserver. The value must be positive.  Setting it to 1 effectively precludes shufflesharding and thus makes the distinguisher method of associated flow schemas irrelevant.  This field has a default value of 64.",
    ),
    (
        "HandSize",
        "string",
        "",
        0,
        "`handSize` is a small positive number that configures the shuffle sharding of requests into queues.  When enqueuing a request at this priority level the request's flow identifier (a string pair) is hashed and the hash value is used to shuffle the list of queues and deal a hand of the size specified here.  The request is put into one of the shortest queues in that hand. `handSize` must be no larger than `queues`, and should be significantly smaller (so that a few heavy flows do not saturate most of the queues).  See the user-facing documentation for more extensive guidance on setting this field.  This field has a default value of 8.",
    ),
    (
        "QueueLengthLimit",
        "string",
        "",
        0,
        "`queueLengthLimit` is the maximum number of requests allowed to be waiting in a given queue of this priority level at a time; excess requests are rejected.  This value must be positive.  If not specified, it will be defaulted to 50.",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn default(spec: &mut Value) {
    if spec.has("exempt") {
        let exempt = spec.child("exempt");
        exempt.set_default("nominalConcurrencyShares", 0);
        exempt.set_default("lendablePercent", 0);
    }
    if spec.has("limited") {
        let limited = spec.child("limited");
        limited.set_default("nominalConcurrencyShares", 30);
        limited.set_default("lendablePercent", 0);
        let response = limited.child("limitResponse");
        if response.has("queuing") {
            let queuing = response.child("queuing");
            for (field, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                super::number(queuing, field, value);
            }
        }
    }
}

fn validate(obj: &Value) -> ErrorList {
    const ZERO: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
    let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
    if obj.at("metadata").at("annotations").has(ZERO) {
        let at = Path::new("metadata").child("annotations");
        errors.forbidden(&at, format!("annotation '{ZERO}' is forbidden"));
    }
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let kind = spec.text("type");
    if (obj.at("metadata").text("name") == "exempt") != (kind == "Exempt") {
        errors.invalid(&at.child("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    let (limited, limited_at) = (spec.at("limited"), at.child("limited"));
    match kind {
        "Exempt" => {
            if !limited.is_null() {
                errors.forbidden(&limited_at, "must be nil if the type is not Limited");
            }
            shares(spec.at("exempt"), &at.child("exempt"), &mut errors);
            percent(spec.at("exempt"), &at.child("exempt"), &mut errors);
        }
        "Limited" => {
            if spec.has("exempt") {
                errors.forbidden(&at.child("exempt"), "must be nil if the type is Limited");
            }
            if limited.is_null() {
                errors.required(&limited_at, "must not be empty when type is Limited");
            } else {
                limits(limited, &limited_at, &mut errors);
            }
        }
        _ => errors.unsupported(&at.child("type"), kind, &["Exempt", "Limited"]),
    }
    super::mandatory::validate_level(obj, &mut errors);
    super::conditions(obj, &mut errors);
    errors
}

fn shares(level: &Value, at: &Path, errors: &mut ErrorList) {
    let field = "nominalConcurrencyShares";
    if let Some(shares) = level.int(field).filter(|n| *n < 0) {
        errors.invalid(&at.child(field), shares, "must be a non-negative integer");
    }
}

fn percent(level: &Value, at: &Path, errors: &mut ErrorList) {
    if let Some(percent) = level.int("lendablePercent").filter(|n| !(0..=100).contains(n)) {
        errors.invalid(&at.child("lendablePercent"), percent, names::range_error(0, 100));
    }
}

fn limits(limited: &Value, at: &Path, errors: &mut ErrorList) {
    shares(limited, at, errors);
    let (response, own) = (limited.at("limitResponse"), at.child("limitResponse"));
    let (queuing, queuing_at) = (response.at("queuing"), own.child("queuing"));
    match response.text("type") {
        "Reject" => {
            if !queuing.is_null() {
                let detail = "must be nil if limited.limitResponse.type is not Limited";
                errors.forbidden(&queuing_at, detail);
            }
        }
        "Queue" if queuing.is_null() => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            errors.required(&queuing_at, detail);
        }
        "Queue" => queues(queuing, &queuing_at, errors),
        kind => errors.unsupported(&own.child("type"), kind, &["Queue", "Reject"]),
    }
    percent(limited, at, errors);
    if let Some(percent) = limited.int("borrowingLimitPercent").filter(|n| *n < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(&at.child("borrowingLimitPercent"), percent, detail);
    }
}

fn queues(queuing: &Value, at: &Path, errors: &mut ErrorList) {
    const QUEUES_MAX: i64 = 10_000_000;
    /// Hands are dealt from a hash of so many bits.
    const BITS: i64 = 60;
    let positive = "must be positive";
    let number = |field: &str| queuing.int(field).unwrap_or(0);
    let (length, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    if length <= 0 {
        errors.invalid(&at.child("queueLengthLimit"), length, positive);
    }
    if queues <= 0 {
        errors.invalid(&at.child("queues"), queues, positive);
    } else if queues > QUEUES_MAX {
        errors.invalid(&at.child("queues"), queues, format!("must not be greater than {QUEUES_MAX}"));
    }
    let at = at.child("handSize");
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let bits = ((queues as f64).log2() * hand as f64).ceil() as i64;
    if hand <= 0 {
        errors.invalid(&at, hand, positive);
    } else if hand > queues {
        errors.invalid(&at, hand, format!("should not be greater than queues ({queues})"));
    } else if bits > BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {BITS}"
        );
        errors.invalid(&at, hand, detail);
    }
}

fn cells(level: &Value, now: Timestamp) -> Vec<Value> {
    let spec = level.at("spec");
    let limited = spec.at("limited");
    let queuing = limited.at("limitResponse").at("queuing");
    let queue =
        |field: &str| -> Value { if queuing.is_null() { "<none>".into() } else { number(queuing, field) } };
    let shares =
        if limited.is_null() { "<none>".into() } else { number(limited, "nominalConcurrencyShares") };
    vec![
        name(level),
        spec.text("type").into(),
        shares,
        queue("queues"),
        queue("handSize"),
        queue("queueLengthLimit"),
        age(level, now),
    ]
}
