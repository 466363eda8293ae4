//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or unreachable.

use futures_util::FutureExt;
use machinery::{Get, Status, Value, json};

use super::{Attributes, Operation, Plugin};
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "DefaultTolerationSeconds",
    mutate: Some(|call, attributes| admit(call, attributes).boxed()),
    validate: None,
};

async fn admit(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if !a.is("", "pods") || !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let config = &call.core.config;
    let taints = [
        ("node.kubernetes.io/not-ready", config.default_not_ready_toleration),
        ("node.kubernetes.io/unreachable", config.default_unreachable_toleration),
    ];
    let Some(pod) = &mut a.object else { return Ok(()) };
    let spec = pod.child("spec");
    for (key, seconds) in taints {
        let tolerated = spec.list("tolerations").iter().any(|t| {
            matches!(t.text("effect"), "" | "NoExecute") && (t.text("key") == key || t.text("key").is_empty())
        });
        if tolerated {
            continue;
        }
        let toleration =
            json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        if !spec.at("tolerations").is_array() {
            spec.set("tolerations", Value::Array(Vec::new()));
        }
        if let Some(Value::Array(list)) = spec.get_mut("tolerations") {
            list.push(toleration);
        }
    }
    Ok(())
}
