//! DefaultIngressClass.

use futures_util::FutureExt;
use machinery::{Get, Status, meta};

use super::storage::default_of;
use super::{Attributes, Operation, Plugin};
use crate::registry::Call;

pub static DEFAULT_CLASS: Plugin = Plugin {
    name: "DefaultIngressClass",
    mutate: Some(|call, attributes| async move { default_class(call, attributes) }.boxed()),
    validate: None,
};

fn default_class(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if !a.is("networking.k8s.io", "ingresses") || a.operation != Operation::Create {
        return Ok(());
    }
    let Some(ingress) = &mut a.object else { return Ok(()) };
    let by_annotation =
        meta::annotations(ingress).is_some_and(|m| m.contains_key("kubernetes.io/ingress.class"));
    if ingress.at("spec").has("ingressClassName") || by_annotation {
        return Ok(());
    }
    let annotation = ["ingressclass.kubernetes.io/is-default-class"];
    if let Some(class) = default_of(call, "networking.k8s.io", "ingressclasses", &annotation) {
        ingress.child("spec").set("ingressClassName", meta::name(&class));
    }
    Ok(())
}
