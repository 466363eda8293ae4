//! RuntimeClass: a pod's overhead and scheduling from its class.

use futures_util::FutureExt;
use machinery::{Get, Status};

use super::{Attributes, Operation, Plugin, cached, forbidden};
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "RuntimeClass",
    mutate: Some(|call, attributes| async move { admit(call, attributes) }.boxed()),
    validate: None,
};

fn admit(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if !a.is("", "pods") || a.operation != Operation::Create {
        return Ok(());
    }
    let spec = a.object().at("spec");
    let name = spec.text("runtimeClassName").to_owned();
    if name.is_empty() {
        if spec.map("overhead").is_some_and(|m| !m.is_empty()) {
            return Err(forbidden(
                a,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ));
        }
        return Ok(());
    }
    let Some(class) = cached(call, "node.k8s.io", "runtimeclasses", &name) else {
        return Err(forbidden(
            a,
            &format!("pod rejected: RuntimeClass {} not found", machinery::field::go_quote(&name)),
        ));
    };
    let overhead = class.at("overhead").at("podFixed").clone();
    let given = spec.at("overhead");
    if given.is_object() && *given != overhead {
        return Err(forbidden(
            a,
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ));
    }
    let selector = class.at("scheduling").map("nodeSelector").cloned().unwrap_or_default();
    let tolerations = class.at("scheduling").list("tolerations").to_vec();
    let mut conflict = None;
    if let Some(pod) = &mut a.object {
        let spec = pod.child("spec");
        if overhead.is_object() {
            spec.set("overhead", overhead);
        }
        for (key, value) in selector {
            let selector = spec.child("nodeSelector");
            if let Some(own) = selector.get(&key).filter(|v| **v != value) {
                let text = |v: &machinery::Value| v.as_str().unwrap_or("").to_owned();
                conflict = Some(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    text(&value),
                    text(own)
                ));
                break;
            }
            selector.set(&key, value);
        }
        let mut all = spec.list("tolerations").to_vec();
        for toleration in tolerations {
            if !all.contains(&toleration) {
                all.push(toleration);
            }
        }
        if !all.is_empty() {
            spec.set("tolerations", all);
        }
    }
    match conflict {
        Some(why) => Err(forbidden(a, &why)),
        None => Ok(()),
    }
}
