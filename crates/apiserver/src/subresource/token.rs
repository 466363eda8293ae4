//! `serviceaccounts/token`: a bound token on request. <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>

use machinery::field::{Error, Path};
use machinery::{Get, GroupKind, GroupResource, GroupVersionKind, Status, Value, json, meta};

use crate::authn::token::{Wish, issue};
use crate::front::Incoming;
use crate::front::respond::Answer;
use crate::registry::options::write_options;
use crate::registry::{Call, check_namespace, current, decode_body, fields, object_answer, read_body};

const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;

pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let options = write_options(call, "CreateOptions", false)?;
    let body = read_body(call, body).await?;
    let want = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let mut request = decode_body(call, &body, &want, options.strictness)?;
    check_namespace(call, &mut request)?;
    let account = current(call).await?.parse();
    let name = meta::name(&request);
    if !name.is_empty() && name != call.name() {
        let at = Path::new("metadata").child("name");
        let error = Error::invalid(&at, name, "must match the service account name if specified");
        return Err(Status::invalid(&about(), call.name(), &[error]));
    }
    let uid = meta::uid(&request);
    if !uid.is_empty() && uid != meta::uid(&account) {
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account ({})",
            meta::uid(&account)
        );
        let about = GroupResource::new("authentication.k8s.io", "TokenRequest");
        return Err(Status::conflict(&about, call.name(), &why));
    }
    request.child("spec").set_default("expirationSeconds", 3600);
    crate::codec::managed_review(call, &want, &mut request, &options.manager);
    let mut attributes =
        crate::admission::Attributes::new(call, crate::admission::Operation::Create, options.dry_run);
    attributes.object = Some(request);
    crate::admission::mutate(call, &mut attributes).await?;
    let mut request = attributes.object.take().unwrap_or_default();
    let spec = request.child("spec");
    if spec.list("audiences").is_empty() {
        spec.set("audiences", json!(call.core.config.api_audiences()));
    }
    let mut seconds = spec.int("expirationSeconds").unwrap_or(3600);
    check(seconds)?;
    let reference = spec.at("boundObjectRef").clone();
    let audiences = spec.list("audiences").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let metadata = request.child("metadata");
    metadata.set("name", call.info.name.as_str());
    metadata.set("namespace", call.namespace.as_str());
    metadata.set("uid", meta::uid(&account));
    metadata.set("creationTimestamp", fields::timestamp(call.now));
    attributes.object = Some(request);
    crate::admission::validate(call, &attributes).await?;
    let mut request = attributes.object.take().unwrap_or_default();
    let (bound, node) = bound(call, &reference)?;
    if let Some(most) = call.core.config.access.max_token_expiration.map(|d| d.as_secs() as i64)
        && most > 0
        && seconds > most
    {
        call.warnings.push(format!("requested expiration of {seconds} seconds shortened to {most} seconds"));
        seconds = most;
        request.child("spec").set("expirationSeconds", seconds);
    }
    let wish = Wish { namespace: &call.namespace, account: &account, bound, node, audiences, seconds };
    let issued = issue(&call.core, &wish, call.now)?;
    call.audit.annotate("authentication.kubernetes.io/issued-credential-id", &issued.credential_id);
    let (token, until) = (issued.token, issued.until);
    request.set("status", json!({"token": token, "expirationTimestamp": fields::timestamp(until)}));
    object_answer(call, 201, request)
}

fn about() -> GroupKind {
    GroupKind { group: "authentication.k8s.io".to_owned(), kind: "TokenRequest".to_owned() }
}

fn check(seconds: i64) -> Result<(), Status> {
    let at = Path::new("spec").child("expirationSeconds");
    let error = if seconds < SHORTEST {
        Error::invalid(&at, seconds, "may not specify a duration less than 10 minutes")
    } else if seconds > LONGEST {
        Error::invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds")
    } else {
        return Ok(());
    };
    Err(Status::invalid(&about(), "", &[error]))
}

/// The object that the token is to be bound to, and for a pod its node.
fn bound(call: &Call, reference: &Value) -> Result<(Option<(&'static str, Value)>, Option<Value>), Status> {
    if !reference.is_object() {
        return Ok((None, None));
    }
    // the version does not matter
    let gvk = machinery::GroupVersion::parse(reference.text("apiVersion"))
        .unwrap_or_default()
        .kind(reference.text("kind"));
    let (kind, resource) = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => ("Pod", "pods"),
        ("", "Secret") => ("Secret", "secrets"),
        ("", "Node") => ("Node", "nodes"),
        _ => return Err(Status::bad_request(format!("cannot bind token to object of type {gvk}"))),
    };
    let name = reference.text("name");
    if name.is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let gr = GroupResource::new("", resource);
    let map = call.core.kinds.now();
    let home = map.find("", "v1", resource).and_then(|r| r.home.clone());
    let home = home.ok_or_else(|| Status::not_found(&gr, name))?;
    let object = home
        .cache
        .get(&home.local_key(&call.namespace, name))
        .ok_or_else(|| Status::not_found(&gr, name))?
        .parse();
    if kind == "Pod" && object.at("spec").text("serviceAccountName") != call.name() {
        let message = format!(
            "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
            machinery::field::go_quote(call.name())
        );
        return Err(Status::bad_request(message));
    }
    let uid = reference.text("uid");
    if !uid.is_empty() && uid != meta::uid(&object) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&GroupResource::new("", kind), name, &why));
    }
    let node_name = object.at("spec").text("nodeName");
    let node = (kind == "Pod" && !node_name.is_empty()).then(|| {
        let home = map.find("", "v1", "nodes").and_then(|r| r.home.clone());
        let live = home.and_then(|h| h.cache.get(node_name)).map(|e| e.parse());
        live.unwrap_or_else(|| json!({"metadata": {"name": node_name}}))
    });
    Ok((Some((kind, object)), node))
}
