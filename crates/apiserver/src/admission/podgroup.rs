//! PodGroupWorkloadExists: a pod group is made from a template that is there.

use futures_util::FutureExt;
use machinery::field::go_quote;
use machinery::{Get, Status, meta};

use super::{Attributes, Operation, Plugin, cached, forbidden};
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "PodGroupWorkloadExists",
    mutate: None,
    validate: Some(|call, attributes| async move { validate(call, attributes) }.boxed()),
};

const GROUP: &str = "scheduling.k8s.io";

fn validate(call: &Call, a: &Attributes) -> Result<(), Status> {
    if !a.is(GROUP, "podgroups") || a.operation != Operation::Create {
        return Ok(());
    }
    let reference = a.object().at("spec").at("podGroupTemplateRef").at("workload");
    if !reference.is_object() {
        return Ok(());
    }
    let (name, template) = (reference.text("workloadName"), reference.text("podGroupTemplateName"));
    let refuse = |why: String| Err(forbidden(a, &format!("PodGroup rejected: {why}")));
    let Some(workload) = cached(call, GROUP, "workloads", &format!("{}/{name}", a.namespace)) else {
        return refuse(format!("Workload {} not found", go_quote(name)));
    };
    if meta::is_deleting(&workload) {
        return refuse(format!("Workload {} is being deleted", go_quote(name)));
    }
    let templates = workload.at("spec").list("podGroupTemplates");
    if templates.iter().any(|t| t.text("name") == template) {
        return Ok(());
    }
    refuse(format!("PodGroupTemplate {} not found in Workload {}", go_quote(template), go_quote(name)))
}
