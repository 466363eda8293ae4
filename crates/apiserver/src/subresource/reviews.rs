//! Questions about identities and permissions: nothing is stored.

use machinery::codec::json::Document;
use machinery::field::{Error, Path};
use machinery::{Get, GroupKind, Status, Value, json};

use crate::authn::User;
use crate::authz::{self, Attributes};
use crate::front::Incoming;
use crate::front::respond::{Answer, generic};
use crate::registry::options::write_options;
use crate::registry::{Call, decode_body, fields, object_answer, read_body};

pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let options = write_options(call, "CreateOptions", false)?;
    let body = read_body(call, body).await?;
    let want = call.resource.gvk();
    let mut review = decode_body(call, &body, &want, options.strictness)?;
    if !review.at("metadata").is_object() {
        review.set("metadata", json!({}));
    }
    let given = review.at("metadata").clone();
    let about = about(call, &body);
    fields::on_write(call, None, &mut review, &options.manager);
    match call.resource.name.as_str() {
        "selfsubjectreviews" => {
            review.child("metadata").set("creationTimestamp", fields::timestamp(call.now));
            review.set("status", json!({"userInfo": call.user.info()}));
        }
        "tokenreviews" => review_token(call, &mut review, &given).await?,
        "selfsubjectrulesreviews" => review = rules(call, &review)?,
        "selfsubjectaccessreviews" => {
            let user = (*call.user).clone();
            access(call, &about, &mut review, &given, user).await?;
        }
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            let user = subject(review.at("spec"));
            access(call, &about, &mut review, &given, user).await?;
        }
        _ => return Err(generic(404)),
    }
    object_answer(call, 201, review)
}

/// What errors call the review: what it called itself, which JSON need not say.
fn about(call: &Call, body: &[u8]) -> GroupKind {
    let mut about = call.resource.group_kind();
    if Document::parse(body).and_then(|d| d.type_meta()).is_ok_and(|said| said.kind.is_empty()) {
        about.kind.clear();
    }
    about
}

async fn review_token(call: &Call, review: &mut Value, given: &Value) -> Result<(), Status> {
    let spec = review.at("spec");
    let token = spec.text("token").to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    if !is_empty(given, "") {
        return Err(Status::bad_request("metadata must be empty for TokenReview in authentication"));
    }
    let asked: Vec<String> =
        spec.list("audiences").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let audiences = if asked.is_empty() { call.core.config.api_audiences().to_vec() } else { asked };
    let status = match crate::authn::review(&call.core, &token, &audiences).await {
        Ok(proof) => {
            json!({"authenticated": true, "user": proof.user.info(), "audiences": proof.audiences})
        }
        Err(error) => json!({"user": {}, "error": error}),
    };
    review.set("status", status);
    Ok(())
}

/// Metadata with nothing in it, but for one field that may be.
fn is_empty(metadata: &Value, but: &str) -> bool {
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    };
    metadata
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| key == but || key == "managedFields" || empty(value))
}

fn subject(spec: &Value) -> User {
    let mut user = User {
        name: spec.text("user").to_owned(),
        uid: spec.text("uid").to_owned(),
        groups: spec.list("groups").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        ..User::default()
    };
    let extra = spec.map("extra").into_iter().flatten().map(|(key, values)| {
        let values = values.as_array().into_iter().flatten();
        (key.to_ascii_lowercase(), values.filter_map(Value::as_str).map(str::to_owned).collect())
    });
    user = user.with_extra(extra.collect());
    user
}

async fn access(
    call: &Call,
    about: &GroupKind,
    review: &mut Value,
    given: &Value,
    user: User,
) -> Result<(), Status> {
    let spec = review.at("spec");
    let (resource, path) = (spec.at("resourceAttributes"), spec.at("nonResourceAttributes"));
    let errors = access_errors(&call.resource.name, &call.namespace, given, spec, &user);
    if !errors.is_empty() {
        return Err(Status::invalid(about, "", &errors));
    }
    let selectors = selectors(resource);
    let attributes = if resource.is_object() {
        let version = match resource.text("version") {
            "" => "*",
            version => version,
        };
        Attributes {
            is_resource: true,
            verb: resource.text("verb"),
            group: resource.text("group"),
            version,
            resource: resource.text("resource"),
            subresource: resource.text("subresource"),
            namespace: resource.text("namespace"),
            name: resource.text("name"),
            path: "",
            selectors: Some(&selectors),
        }
    } else {
        Attributes { verb: path.text("verb"), path: path.text("path"), ..Attributes::default() }
    };
    let decision = authz::decide(&call.core, &user, &attributes).await;
    let mut status = json!({"allowed": decision.allowed()});
    if decision.verdict == authz::Verdict::Deny {
        status["denied"] = true.into();
    }
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    let error = evaluation_error(decision.error, &selectors);
    if !error.is_empty() {
        status["evaluationError"] = error.into();
    }
    review.set("status", status);
    Ok(())
}

fn access_errors(kind: &str, namespace: &str, given: &Value, spec: &Value, user: &User) -> Vec<Error> {
    let (resource, path) = (spec.at("resourceAttributes"), spec.at("nonResourceAttributes"));
    let mut errors = Vec::new();
    let at = Path::new("spec");
    if resource.is_object() && path.is_object() {
        errors.push(Error::invalid(
            &at.child("nonResourceAttributes"),
            path.clone(),
            "cannot be specified in combination with resourceAttributes",
        ));
    }
    if !resource.is_object() && !path.is_object() {
        errors.push(Error::invalid(
            &at.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    }
    let by_subject = kind != "selfsubjectaccessreviews";
    if by_subject && user.name.is_empty() && user.groups.is_empty() {
        errors.push(Error::invalid(&at.child("user"), "", "at least one of user or group must be specified"));
    }
    let about = Path::new("spec.resourceAttributes");
    selector_errors(resource.at("fieldSelector"), &about.child("fieldSelector"), true, &mut errors);
    selector_errors(resource.at("labelSelector"), &about.child("labelSelector"), false, &mut errors);
    let local = kind == "localsubjectaccessreviews";
    if !is_empty(given, if local { "namespace" } else { "" }) {
        let why = if local { "must be empty except for namespace" } else { "must be empty" };
        errors.push(Error::invalid(&Path::new("metadata"), given.clone(), why));
    }
    if local {
        if resource.is_object() && resource.text("namespace") != namespace {
            errors.push(Error::invalid(
                &Path::new("spec.resourceAttributes.namespace"),
                resource.text("namespace"),
                "must match metadata.namespace",
            ));
        }
        if path.is_object() {
            errors.push(Error::invalid(
                &Path::new("spec.nonResourceAttributes"),
                path.clone(),
                "disallowed on this kind of request",
            ));
        }
    }
    errors
}

fn selector_errors(selector: &Value, at: &Path, fields: bool, errors: &mut Vec<Error>) {
    if !selector.is_object() {
        return;
    }
    let (raw, requirements) = (selector.text("rawSelector"), selector.list("requirements"));
    if !raw.is_empty() && !requirements.is_empty() {
        let why = "may not specified at the same time as requirements";
        errors.push(Error::invalid(&at.child("rawSelector"), raw, why));
    }
    if raw.is_empty() && requirements.is_empty() {
        let why = format!("when {at} is specified, requirements or rawSelector is required");
        errors.push(Error::required(&at.child("requirements"), &why));
    }
    for (n, requirement) in requirements.iter().enumerate() {
        let at = at.child("requirements").index(n);
        let values = requirement.list("values");
        match requirement.text("operator") {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(Error::required(&at.child("values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(Error::forbidden(&at.child("values"), why));
            }
            _ => {}
        }
        let key = requirement.text("key");
        if fields && key.is_empty() {
            errors.push(Error::required(&at.child("key"), "must be specified"));
        }
        if !fields {
            for why in machinery::names::qualified_name(key) {
                errors.push(Error::invalid(&at.child("key"), key, why));
            }
        }
    }
}

/// What can be read of the selectors; they only narrow, so the rest may be left out.
fn selectors(resource: &Value) -> authz::Selectors {
    use machinery::select::{FieldSelector, FieldTerm, LabelSelector, Operator, Requirement};
    let mut out = authz::Selectors::default();
    let fields = resource.at("fieldSelector");
    if !fields.text("rawSelector").is_empty() {
        match FieldSelector::parse(fields.text("rawSelector")) {
            Ok(selector) => out.fields = selector.terms,
            Err(_) => out.field_error = true,
        }
    }
    for requirement in fields.list("requirements") {
        let values = requirement.list("values");
        match (requirement.text("operator"), values) {
            (operator @ ("In" | "NotIn"), [value]) => out.fields.push(FieldTerm {
                field: requirement.text("key").to_owned(),
                equal: operator == "In",
                value: value.as_str().unwrap_or_default().to_owned(),
            }),
            _ => out.field_error = true,
        }
    }
    let labels = resource.at("labelSelector");
    if !labels.text("rawSelector").is_empty() {
        match LabelSelector::parse(labels.text("rawSelector")) {
            Ok(selector) => out.labels = selector.requirements().to_vec(),
            Err(_) => out.label_error = true,
        }
    }
    for requirement in labels.list("requirements") {
        let operator = match requirement.text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => {
                out.label_error = true;
                continue;
            }
        };
        let values = requirement.list("values").iter().filter_map(Value::as_str).map(str::to_owned);
        match Requirement::new(requirement.text("key"), operator, values.collect()) {
            Ok(requirement) => out.labels.push(requirement),
            Err(_) => out.label_error = true,
        }
    }
    out
}

fn evaluation_error(decision: String, selectors: &authz::Selectors) -> String {
    let mut all = Vec::new();
    if !decision.is_empty() {
        all.push(decision);
    }
    for (wrong, some, name) in [
        (selectors.field_error, !selectors.fields.is_empty(), "fieldSelector"),
        (selectors.label_error, !selectors.labels.is_empty(), "labelSelector"),
    ] {
        if wrong {
            let how = if some { "partially ignored" } else { "ignored" };
            all.push(format!("spec.resourceAttributes.{name} {how} due to parse error"));
        }
    }
    all.join("; ")
}

/// Upstream answers with a new object: neither the spec nor who wrote it is in it.
fn rules(call: &Call, review: &Value) -> Result<Value, Status> {
    let namespace = review.at("spec").text("namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let listing = authz::rules_for(&call.core, &call.user, namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in &listing.rules {
        if !rule.resources.is_empty() {
            let mut out = json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
            if !rule.names.is_empty() {
                out["resourceNames"] = json!(rule.names);
            }
            resources.push(out);
        }
        if !rule.urls.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls}));
        }
    }
    let mut status =
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": listing.incomplete});
    if !listing.error.is_empty() {
        status["evaluationError"] = listing.error.into();
    }
    Ok(
        json!({"kind": review.text("kind"), "apiVersion": review.text("apiVersion"), "metadata": {}, "spec": {},
        "status": status}),
    )
}

/// Deprecated, but still asked for: the parts of the control plane that this server can speak for.
pub fn component_status(call: &Call, verb: &str) -> Result<Answer, Status> {
    const NAMES: [&str; 3] = ["controller-manager", "scheduler", "etcd-0"];
    let one = |name: &str| {
        json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]})
    };
    if verb == "get" {
        if !NAMES.contains(&call.name()) {
            let about = machinery::GroupResource::new("", "componentstatus");
            return Err(Status::not_found(&about, call.name()));
        }
        return object_answer(call, 200, one(call.name()));
    }
    let items: Vec<Value> = NAMES
        .iter()
        .map(|name| {
            let mut item = one(name);
            item.unset("kind");
            item.unset("apiVersion");
            item
        })
        .collect();
    let list = json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": items});
    object_answer(call, 200, list)
}
