//! LimitRanger: defaults and bounds of resources, from the namespace's LimitRanges.

use futures_util::FutureExt;
use machinery::quantity::Quantity;
use machinery::{Get, Status, Value, json};

use super::{Attributes, Operation, Plugin, forbidden};
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "LimitRanger",
    mutate: Some(|call, attributes| async move { mutate(call, attributes) }.boxed()),
    validate: Some(|call, attributes| async move { validate(call, attributes) }.boxed()),
};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn ranges(call: &Call) -> Vec<Value> {
    let resource = call.core.kinds.now().preferred("", "limitranges");
    let Some(home) = resource.and_then(|r| r.home.clone()) else { return Vec::new() };
    let prefix = format!("{}/", call.namespace);
    let (snapshot, _) = home.cache.snapshot();
    snapshot.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, e)| e.parse()).collect()
}

fn mutate(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if !a.is("", "pods") || a.operation != Operation::Create {
        return Ok(());
    }
    for range in ranges(call) {
        let (mut requests, mut limits) = (json!({}), json!({}));
        for limit in range.at("spec").list("limits").iter().filter(|l| l.text("type") == "Container") {
            for (into, from) in [(&mut requests, "defaultRequest"), (&mut limits, "default")] {
                for (name, quantity) in limit.map(from).into_iter().flatten() {
                    into.set(name, quantity.clone());
                }
            }
        }
        if let Some(pod) = &mut a.object {
            set_defaults(pod, &requests, &limits);
        }
    }
    Ok(())
}

fn set_defaults(pod: &mut Value, requests: &Value, limits: &Value) {
    let mut notes: Vec<String> = Vec::new();
    for (list, words) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod.child("spec").list_mut(list) {
            let name = container.text("name").to_owned();
            for (key, defaults, what) in [("limits", limits, "limit"), ("requests", requests, "request")] {
                let mut set: Vec<&str> = Vec::new();
                for (resource, quantity) in defaults.as_object().into_iter().flatten() {
                    let have = container.child("resources").child(key);
                    if !have.has(resource) {
                        have.set(resource, quantity.clone());
                        set.push(resource);
                    }
                }
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {words} {name}", set.join(", ")));
                }
            }
            // requests are told before limits
            let n = notes.len();
            if n >= 2
                && notes[n - 1].contains(" request for ")
                && notes[n - 2].contains(" limit for ")
                && notes[n - 2].ends_with(&format!(" {name}"))
            {
                notes.swap(n - 1, n - 2);
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.child("metadata").child("annotations").set(ANNOTATION, text);
    }
}

fn validate(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    let pod = a.is("", "pods") && a.operation == Operation::Create
        || a.resource.name == "pods" && a.subresource == "resize" && a.operation == Operation::Update;
    let claim =
        a.is("", "persistentvolumeclaims") && matches!(a.operation, Operation::Create | Operation::Update);
    if !pod && !claim {
        return Ok(());
    }
    for range in ranges(call) {
        let mut errors = Vec::new();
        for limit in range.at("spec").list("limits") {
            let spec = a.object().at("spec");
            match limit.text("type") {
                "PersistentVolumeClaim" if claim => {
                    check_claim(limit, spec.at("resources").at("requests"), &mut errors);
                }
                "Container" if pod => {
                    for container in spec.list("containers").iter().chain(spec.list("initContainers")) {
                        let resources = container.at("resources");
                        check(limit, resources.at("requests"), resources.at("limits"), &mut errors);
                    }
                }
                "Pod" if pod => {
                    let total = |key: &str| -> Value {
                        let amounts = resources::quota::total(spec, key).into_iter();
                        amounts.map(|(name, amount)| (name, Value::from(amount.to_string()))).collect()
                    };
                    check(limit, &total("requests"), &total("limits"), &mut errors);
                }
                _ => {}
            }
        }
        let why = match &errors[..] {
            [] => continue,
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        return Err(forbidden(a, &why));
    }
    Ok(())
}

fn check_claim(limit: &Value, requests: &Value, errors: &mut Vec<String>) {
    let none = Value::Null;
    for (name, min) in limit.map("min").into_iter().flatten() {
        errors.extend(least("PersistentVolumeClaim", name, min, requests, &none));
    }
    for (name, max) in limit.map("max").into_iter().flatten() {
        let shown = text(max);
        let Some(request) = requests.get(name) else {
            errors.push(format!(
                "maximum {name} usage per PersistentVolumeClaim is {shown}.  No request is specified"
            ));
            continue;
        };
        if Quantity::of(request).compare(&Quantity::of(max)).is_gt() {
            let request = text(request);
            errors.push(format!(
                "maximum {name} usage per PersistentVolumeClaim is {shown}, but request is {request}"
            ));
        }
    }
}

fn check(limit: &Value, requests: &Value, limits: &Value, errors: &mut Vec<String>) {
    let kind = limit.text("type");
    for (name, min) in limit.map("min").into_iter().flatten() {
        errors.extend(least(kind, name, min, requests, limits));
    }
    for (name, max) in limit.map("max").into_iter().flatten() {
        errors.extend(most(kind, name, max, requests, limits));
    }
    for (name, ratio) in limit.map("maxLimitRequestRatio").into_iter().flatten() {
        errors.extend(at_most_times(kind, name, ratio, requests, limits));
    }
}

fn text(quantity: &Value) -> String {
    Quantity::of(quantity).to_string()
}

fn least(kind: &str, name: &str, min: &Value, requests: &Value, limits: &Value) -> Option<String> {
    let bound = Quantity::of(min);
    let Some(request) = requests.get(name) else {
        return Some(format!("minimum {name} usage per {kind} is {bound}.  No request is specified"));
    };
    if Quantity::of(request).compare(&bound).is_lt() {
        return Some(format!("minimum {name} usage per {kind} is {bound}, but request is {}", text(request)));
    }
    let limit = limits.get(name).filter(|l| Quantity::of(l).compare(&bound).is_lt())?;
    Some(format!("minimum {name} usage per {kind} is {bound}, but limit is {}", text(limit)))
}

fn most(kind: &str, name: &str, max: &Value, requests: &Value, limits: &Value) -> Option<String> {
    let bound = Quantity::of(max);
    let Some(limit) = limits.get(name) else {
        return Some(format!("maximum {name} usage per {kind} is {bound}.  No limit is specified"));
    };
    if Quantity::of(limit).compare(&bound).is_gt() {
        return Some(format!("maximum {name} usage per {kind} is {bound}, but limit is {}", text(limit)));
    }
    let request = requests.get(name).filter(|r| Quantity::of(r).compare(&bound).is_gt())?;
    Some(format!("maximum {name} usage per {kind} is {bound}, but request is {}", text(request)))
}

fn at_most_times(kind: &str, name: &str, ratio: &Value, requests: &Value, limits: &Value) -> Option<String> {
    let bound = Quantity::of(ratio);
    let amount = |of: &Value| of.get(name).map(|q| Quantity::of(q).as_f64()).filter(|q| *q != 0.0);
    let head = format!("{name} max limit to request ratio per {kind} is {bound}");
    let Some(request) = amount(requests) else {
        return Some(format!("{head}, but no request is specified or request is 0"));
    };
    let Some(limit) = amount(limits) else {
        return Some(format!("{head}, but no limit is specified or limit is 0"));
    };
    let got = limit / request;
    (got > bound.as_f64()).then(|| format!("{head}, but provided ratio is {got:.6}"))
}
