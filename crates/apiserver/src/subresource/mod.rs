//! What is special about single subresources, and resources that are only computed.

mod binding;
pub mod connect;
mod eviction;
pub mod namespaces;
mod reviews;
pub mod scale;
pub mod services;
mod token;

use machinery::Status;

use crate::front::Incoming;
use crate::front::respond::{Answer, generic};
use crate::registry::{Call, run_view};

/// What a client that deletes should know.
pub fn delete_warning(call: &Call, options: &crate::registry::DeleteOptions) -> Option<String> {
    let silent = options.orphan.is_none() && options.policy.is_empty();
    let job = call.resource.group == "batch" && call.resource.name == "jobs";
    (job && silent).then(|| {
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning".to_owned()
    })
}

/// Answers a request for a subresource.
pub async fn run(call: &mut Call, verb: &str, body: Incoming) -> Result<Answer, Status> {
    match (call.resource.group.as_str(), call.resource.name.as_str(), call.info.subresource.as_str()) {
        (_, _, "scale") => scale::answer(call, verb, body).await,
        ("", "pods", "binding") => binding::answer(call, body).await,
        ("", "pods", "eviction") => eviction::answer(call, body).await,
        ("", "pods", "log") => connect::log(call).await,
        ("", "pods", "exec" | "attach" | "portforward") => connect::answer_pod(call, body).await,
        ("", "pods" | "services" | "nodes", "proxy") => connect::answer_proxy(call, body).await,
        ("", "serviceaccounts", "token") => token::answer(call, body).await,
        (_, _, "status" | "ephemeralcontainers" | "resize" | "approval" | "finalize") => {
            run_view(call, verb, body).await
        }
        _ => Err(generic(404)),
    }
}

/// Answers a request for a resource that is not stored.
pub async fn virtual_resource(call: &mut Call, verb: &str, body: Incoming) -> Result<Answer, Status> {
    match (call.resource.group.as_str(), call.resource.name.as_str()) {
        ("", "bindings") => binding::answer(call, body).await,
        ("", "componentstatuses") => reviews::component_status(call, verb),
        ("authentication.k8s.io" | "authorization.k8s.io", _) => reviews::answer(call, body).await,
        _ => Err(generic(404)),
    }
}
