//! NetworkPolicies.

use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use super::generation_by_spec;
use crate::check::{self, Errors};
use crate::columns::{self, CREATED, NAME, age, name};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Strategy, ip, names, objectmeta};

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "networking.k8s.io",
    kind: "NetworkPolicy",
    default: |obj, _| default(obj.child("spec")),
    prepare_create: |obj, _| super::first_generation(obj),
    prepare_update: |new, old, _| generation_by_spec(new, old),
    validate: |obj, _| {
        let mut errors = objectmeta::validate(obj, true, names::subdomain_name);
        spec(obj.at("spec"), &Rules { lax_selectors: false, old: Vec::new() }, &mut errors);
        errors
    },
    validate_update: |new, old, _| {
        let mut errors = objectmeta::validate_update(new, old);
        let mut before = ErrorList::new();
        let selector = old.at("spec").at("podSelector");
        check::label_selector(selector, &Path::new("podSelector"), &mut before);
        let rules =
            Rules { lax_selectors: !before.is_empty(), old: cidrs(old).map(|(_, text)| text).collect() };
        spec(new.at("spec"), &rules, &mut errors);
        errors
    },
    warnings: |new, _, _| cidrs(new).flat_map(|(at, text)| ip::cidr_warnings(&at, text)).collect(),
    columns: Some(Columns {
        definitions: DEFINITIONS,
        cells: |obj, now| {
            let selector = columns::selector(obj.at("spec").at("podSelector"));
            vec![name(obj), selector.into(), age(obj, now)]
        },
        conditions: no_conditions,
    }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "Pod-Selector",
        "string",
        "",
        0,
        "podSelector selects the pods to which this NetworkPolicy object applies. The array of rules is applied to any pods selected by this field. An empty selector matches all pods in the policy's namespace. Multiple network policies can select the same set of pods. In this case, the ingress rules for each are combined additively. This field is optional. If it is not specified, it defaults to an empty selector.",
    ),
    ("Age", "string", "", 0, CREATED),
];

/// (rules, peers of a rule)
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

struct Rules<'a> {
    lax_selectors: bool,
    /// CIDRs that the old object has: they are good.
    old: Vec<&'a str>,
}

fn default(spec: &mut Value) {
    for (rules, _) in DIRECTIONS {
        for rule in spec.list_mut(rules) {
            for port in rule.list_mut("ports") {
                port.set_default("protocol", "TCP");
            }
        }
    }
    if spec.list("policyTypes").is_empty() {
        let mut types = vec!["Ingress"];
        if !spec.list("egress").is_empty() {
            types.push("Egress");
        }
        spec.set("policyTypes", types);
    }
}

/// All CIDRs with their places.
fn cidrs(policy: &Value) -> impl Iterator<Item = (Path, &str)> {
    let mut out = Vec::new();
    for (rules, peers) in DIRECTIONS {
        for (i, rule) in policy.at("spec").list(rules).iter().enumerate() {
            for (j, peer) in rule.list(peers).iter().enumerate() {
                let block = peer.at("ipBlock");
                if block.is_null() {
                    continue;
                }
                let at = Path::new("spec").child(rules).index(i).child(peers).index(j).child("ipBlock");
                out.push((at.child("cidr"), block.text("cidr")));
                for (k, except) in block.list("except").iter().enumerate() {
                    out.push((at.child("except").index(k), except.as_str().unwrap_or_default()));
                }
            }
        }
    }
    out.into_iter()
}

fn spec(spec: &Value, rules: &Rules, errors: &mut ErrorList) {
    let at = Path::new("spec");
    let selector_at = at.child("podSelector");
    check::label_selector_with(spec.at("podSelector"), &selector_at, rules.lax_selectors, errors);
    for (direction, peers) in DIRECTIONS {
        for (i, rule) in spec.list(direction).iter().enumerate() {
            let at = at.child(direction).index(i);
            for (j, each) in rule.list("ports").iter().enumerate() {
                port(each, &at.child("ports").index(j), errors);
            }
            for (j, each) in rule.list(peers).iter().enumerate() {
                peer(each, rules, &at.child(peers).index(j), errors);
            }
        }
    }
    let (types, at) = (spec.list("policyTypes"), at.child("policyTypes"));
    if types.len() > 2 {
        return errors.invalid(&at, types.to_vec(), "may not specify more than two policyTypes");
    }
    for (i, each) in types.iter().filter_map(Value::as_str).enumerate() {
        errors.one_of(&at.index(i), each, &["Ingress", "Egress"]);
    }
}

fn port(port: &Value, at: &Path, errors: &mut ErrorList) {
    if let Some(protocol) = port.at("protocol").as_str() {
        errors.one_of(&at.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let (end, end_at) = (port.int("endPort"), at.child("endPort"));
    let no_end = |why: &str, errors: &mut ErrorList| {
        if let Some(end) = end {
            errors.invalid(&end_at, end, why);
        }
    };
    match port.at("port") {
        Value::Null => no_end("may not be specified when `port` is not specified", errors),
        Value::String(name) => {
            no_end("may not be specified when `port` is non-numeric", errors);
            errors.each(&at.child("port"), name.as_str(), names::port_name(name));
        }
        number => {
            let number = number.as_i64().unwrap_or(0);
            errors.each(&at.child("port"), number, names::port_number(number));
            if let Some(end) = end {
                if end < number {
                    errors.invalid(&end_at, number, "must be greater than or equal to `port`");
                }
                errors.each(&end_at, end, names::port_number(end));
            }
        }
    }
}

fn peer(peer: &Value, rules: &Rules, at: &Path, errors: &mut ErrorList) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if peer.has(field) {
            count += 1;
            check::label_selector_with(peer.at(field), &at.child(field), rules.lax_selectors, errors);
        }
    }
    if peer.has("ipBlock") {
        count += 1;
        block(peer.at("ipBlock"), &rules.old, &at.child("ipBlock"), errors);
    }
    if count == 0 {
        errors.required(at, "must specify a peer");
    } else if count > 1 && peer.has("ipBlock") {
        errors.forbidden(at, "may not specify both ipBlock and another peer");
    }
}

fn block(block: &Value, old: &[&str], at: &Path, errors: &mut ErrorList) {
    let cidr = block.text("cidr");
    if cidr.is_empty() {
        return errors.required(&at.child("cidr"), "");
    }
    ip::legacy_cidr(&at.child("cidr"), cidr, old, errors);
    let Some(net) = ip::cidr(cidr) else { return };
    for (i, except) in block.list("except").iter().filter_map(Value::as_str).enumerate() {
        let at = at.child("except").index(i);
        ip::legacy_cidr(&at, except, old, errors);
        let Some(part) = ip::cidr(except) else { continue };
        if !ip::contains(&net, part.network()) || net.bits >= part.bits {
            errors.invalid(&at, except, "must be a strict subset of `cidr`");
        }
    }
}
