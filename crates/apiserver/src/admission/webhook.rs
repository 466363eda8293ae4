//! Mutating and validating admission webhooks.
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

use std::time::Duration;

use base64::Engine;
use futures_util::FutureExt;
use machinery::field::go_quote;
use machinery::select::LabelSelector;
use machinery::{Get, Status, Value, json, meta};

use super::{Attributes, Operation, Plugin, cached};
use crate::registry::{Call, fields};
use crate::subresource::connect::{Post, post_json};

pub static MUTATING: Plugin = Plugin {
    name: "MutatingAdmissionWebhook",
    mutate: Some(|call, attributes| mutate(call, attributes).boxed()),
    validate: None,
};

pub static VALIDATING: Plugin = Plugin {
    name: "ValidatingAdmissionWebhook",
    mutate: None,
    validate: Some(|call, attributes| validate(call, attributes).boxed()),
};

const GROUP: &str = "admissionregistration.k8s.io";

/// All webhooks of a kind of configuration, by name of the configuration and then in order.
fn webhooks(call: &Call, resource: &str) -> Vec<Value> {
    let home = call.core.kinds.now().preferred(GROUP, resource).and_then(|r| r.home.clone());
    let Some(home) = home.filter(|h| !h.cache.is_empty()) else { return Vec::new() };
    let (snapshot, _) = home.cache.snapshot();
    snapshot.values().flat_map(|e| e.parse().list("webhooks").to_vec()).collect()
}

/// Configurations of admission are never subject to it themselves, and neither are reviews.
fn is_exempt(a: &Attributes) -> bool {
    let configuration = a.resource.group == GROUP
        && (a.resource.name.ends_with("webhookconfigurations") || a.resource.name.contains("admissionpolic"));
    let review = matches!(a.resource.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io");
    configuration || review
}

fn rule_matches(rule: &Value, a: &Attributes) -> bool {
    let has = |key: &str, want: &str| rule.list(key).iter().any(|v| v == "*" || v == want);
    let resource = |pattern: &str| {
        let (resource, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
        let sub_fits = if pattern == "*/*" { true } else { sub == a.subresource || sub == "*" };
        (resource == "*" || resource == a.resource.name) && sub_fits
    };
    let namespaced = !a.namespace.is_empty();
    let scope = match rule.text("scope") {
        "Namespaced" => namespaced,
        "Cluster" => !namespaced,
        _ => true,
    };
    has("operations", a.operation.name())
        && has("apiGroups", &a.resource.group)
        && has("apiVersions", &a.resource.version)
        && rule.list("resources").iter().filter_map(Value::as_str).any(resource)
        && scope
}

type Labels<'a> = Option<&'a machinery::Map<String, Value>>;

fn selects(selector: &Value, labels: Labels) -> bool {
    !selector.is_object() || LabelSelector::from_object(selector).is_ok_and(|s| s.matches(labels))
}

fn wants(call: &Call, hook: &Value, a: &Attributes) -> bool {
    if !hook.list("rules").iter().any(|rule| rule_matches(rule, a)) {
        return false;
    }
    let namespaces = hook.at("namespaceSelector");
    let is_namespace = a.resource.group.is_empty() && a.resource.name == "namespaces";
    if is_namespace {
        let own = if a.object.is_some() { a.object() } else { a.old() };
        if !selects(namespaces, meta::labels(own)) {
            return false;
        }
    } else if !a.namespace.is_empty() {
        let namespace = cached(call, "", "namespaces", &a.namespace).unwrap_or_default();
        if !selects(namespaces, meta::labels(&namespace)) {
            return false;
        }
    }
    let objects = hook.at("objectSelector");
    selects(objects, meta::labels(a.object())) || a.old.is_some() && selects(objects, meta::labels(a.old()))
}

fn review(call: &Call, a: &Attributes, uid: &str) -> Value {
    let gvk = a.resource.gvk();
    let kind = json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
    let resource = json!({"group": gvk.group, "version": gvk.version, "resource": a.resource.name});
    let options = match a.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => "",
    };
    let mut request = json!({"uid": uid, "kind": kind, "resource": resource, "requestKind": kind,
        "requestResource": resource, "name": a.name, "operation": a.operation.name(),
        "userInfo": call.user.info(), "dryRun": a.dry_run,
        "object": a.object.clone().unwrap_or_default(), "oldObject": a.old.clone().unwrap_or_default()});
    if !a.namespace.is_empty() {
        request["namespace"] = a.namespace.as_str().into();
    }
    if !a.subresource.is_empty() {
        request["subResource"] = a.subresource.as_str().into();
        request["requestSubResource"] = a.subresource.as_str().into();
    }
    if !options.is_empty() {
        request["options"] = json!({"kind": options, "apiVersion": "meta.k8s.io/v1"});
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

/// The webhook's response, or why there is none.
async fn ask(call: &Call, hook: &Value, a: &Attributes) -> Result<Value, String> {
    if !hook.list("matchConditions").is_empty() {
        return Err("match conditions can't be evaluated".to_owned());
    }
    let side_effects = matches!(hook.text("sideEffects"), "None" | "NoneOnDryRun");
    if a.dry_run && !side_effects {
        return Err("dry run is not supported by it".to_owned());
    }
    let config = hook.at("clientConfig");
    let ca = base64::engine::general_purpose::STANDARD.decode(config.text("caBundle")).unwrap_or_default();
    let (host, port, server, path) = if config.at("service").is_object() {
        let service = config.at("service");
        let (namespace, name) = (service.text("namespace"), service.text("name"));
        let port = service.int("port").unwrap_or(443);
        let live = cached(call, "", "services", &format!("{namespace}/{name}"))
            .ok_or_else(|| format!("service {} not found", go_quote(name)))?;
        let ip = live.at("spec").text("clusterIP").to_owned();
        (ip, port, format!("{name}.{namespace}.svc"), service.text("path").to_owned())
    } else {
        let url: http::Uri = config.text("url").parse().map_err(|e| format!("{e}"))?;
        let host = url.host().unwrap_or("").trim_matches(['[', ']']).to_owned();
        let path = url.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        (host.clone(), i64::from(url.port_u16().unwrap_or(443)), host, path)
    };
    let seconds = hook.int("timeoutSeconds").unwrap_or(10).clamp(1, 30);
    let separator = if path.contains('?') { '&' } else { '?' };
    let path = format!("{}{separator}timeout={seconds}s", if path.is_empty() { "/" } else { &path });
    let uid = fields::new_uid();
    let body = review(call, a, &uid);
    let port = u16::try_from(port).unwrap_or(443);
    let post = Post { host: &host, port, server_name: &server, ca_pem: &ca, path: &path, body: &body };
    let answer = tokio::time::timeout(Duration::from_secs(seconds as u64), post_json(post))
        .await
        .map_err(|_| "context deadline exceeded".to_owned())??;
    let response = answer.at("response");
    if response.text("uid") != uid {
        return Err(format!(
            "expected response.uid={}, got {}",
            go_quote(&uid),
            go_quote(response.text("uid"))
        ));
    }
    Ok(response.clone())
}

fn failed(hook: &Value, why: &str) -> Result<(), Status> {
    let name = hook.text("name");
    if hook.text("failurePolicy") == "Ignore" {
        tracing::warn!(webhook = name, why, "a webhook failed and is ignored");
        return Ok(());
    }
    Err(Status::internal(format!("failed calling webhook {}: failed to call webhook: {why}", go_quote(name))))
}

fn denied(hook: &Value, response: &Value) -> Status {
    let name = go_quote(hook.text("name"));
    let status = response.at("status");
    let (message, reason) = (status.text("message"), status.text("reason"));
    let text = match (message.is_empty(), reason.is_empty()) {
        (false, _) => format!("admission webhook {name} denied the request: {message}"),
        (true, false) => format!("admission webhook {name} denied the request: {reason}"),
        (true, true) => format!("admission webhook {name} denied the request without explanation"),
    };
    let code = status.int("code").and_then(|c| u16::try_from(c).ok()).filter(|c| *c >= 400).unwrap_or(400);
    let reason = match reason {
        "Forbidden" => "Forbidden",
        "Invalid" => "Invalid",
        "Conflict" => "Conflict",
        "NotFound" => "NotFound",
        "BadRequest" => "BadRequest",
        _ if code == 403 => "Forbidden",
        _ => "",
    };
    Status::new(code, reason, text)
}

fn warn(call: &mut Call, response: &Value) {
    call.warnings.extend(response.list("warnings").iter().filter_map(Value::as_str).map(str::to_owned));
}

async fn mutate(call: &mut Call, a: &mut Attributes) -> Result<(), Status> {
    if is_exempt(a) {
        return Ok(());
    }
    let hooks = webhooks(call, "mutatingwebhookconfigurations");
    let mut changed_after: Vec<Value> = Vec::new();
    for hook in &hooks {
        if wants(call, hook, a) && apply_hook(call, hook, a).await? {
            // those before it that ask to see later changes are asked once more
            changed_after.retain(|h| h.text("name") != hook.text("name"));
            let again = hooks.iter().take_while(|h| h.text("name") != hook.text("name"));
            changed_after.extend(again.filter(|h| h.text("reinvocationPolicy") == "IfNeeded").cloned());
        }
    }
    for hook in &changed_after {
        if wants(call, hook, a) {
            apply_hook(call, hook, a).await?;
        }
    }
    Ok(())
}

/// True if the object was changed.
async fn apply_hook(call: &mut Call, hook: &Value, a: &mut Attributes) -> Result<bool, Status> {
    let response = match ask(call, hook, a).await {
        Ok(response) => response,
        Err(why) => return failed(hook, &why).map(|()| false),
    };
    warn(call, &response);
    if response.flag("allowed") != Some(true) {
        return Err(denied(hook, &response));
    }
    let Some(object) = a.object.as_ref().filter(|_| !response.text("patch").is_empty()) else {
        return Ok(false);
    };
    let patch = base64::engine::general_purpose::STANDARD.decode(response.text("patch")).unwrap_or_default();
    let patched =
        machinery::patch::json::Patch::decode(&patch, false).and_then(|(patch, _)| patch.apply(object));
    let new = match patched {
        Ok(new) => new,
        Err(error) => return failed(hook, &error.to_string()).map(|()| false),
    };
    let mut checked = new;
    let want = a.resource.gvk();
    if a.resource.custom.is_none() && a.subresource.is_empty() {
        let strictness = crate::registry::options::Strictness::Ignore;
        checked = crate::codec::check_patched(object, &checked, &want, None, strictness, &mut Vec::new())?;
        (a.resource.strategy.default)(&mut checked, &call.context());
    }
    let changed = Some(&checked) != a.object.as_ref();
    a.object = Some(checked);
    Ok(changed)
}

async fn validate(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    if is_exempt(a) {
        return Ok(());
    }
    let hooks: Vec<Value> =
        webhooks(call, "validatingwebhookconfigurations").into_iter().filter(|h| wants(call, h, a)).collect();
    let asked = hooks.iter().map(|hook| ask(call, hook, a));
    let answers = futures_util::future::join_all(asked).await;
    for (hook, answer) in hooks.iter().zip(answers) {
        match answer {
            Ok(response) => {
                warn(call, &response);
                if response.flag("allowed") != Some(true) {
                    return Err(denied(hook, &response));
                }
            }
            Err(why) => failed(hook, &why)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_upstream() {
        let hook = json!({"name": "a.example.com"});
        let check = |response: Value, code: u16, text: &str| {
            let status = denied(&hook, &response);
            assert_eq!((status.code, status.message.as_str()), (code, text));
        };
        check(json!({}), 400, "admission webhook \"a.example.com\" denied the request without explanation");
        let response = json!({"status": {"message": "no", "code": 403}});
        check(response, 403, "admission webhook \"a.example.com\" denied the request: no");
    }
}
