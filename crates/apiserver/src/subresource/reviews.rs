//! Questions about identities and permissions: nothing is stored.

use machinery::field::{Error, Path};
use machinery::{Get, Status, Value, json};

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
    fields::on_write(call, None, &mut review, &options.manager);
    match call.resource.name.as_str() {
        "selfsubjectreviews" => review.set("status", json!({"userInfo": call.user.info()})),
        "tokenreviews" => review_token(call, &mut review).await?,
        "selfsubjectrulesreviews" => rules(call, &mut review)?,
        "selfsubjectaccessreviews" => {
            let user = (*call.user).clone();
            access(call, &mut review, user)?;
        }
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            let user = subject(review.at("spec"));
            access(call, &mut review, user)?;
        }
        _ => return Err(generic(404)),
    }
    object_answer(call, 201, review)
}

fn invalid(call: &Call, errors: &[Error]) -> Status {
    Status::invalid(&call.resource.group_kind(), "", errors)
}

async fn review_token(call: &Call, review: &mut Value) -> Result<(), Status> {
    let spec = review.at("spec");
    let token = spec.text("token").to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let asked: Vec<String> =
        spec.list("audiences").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let audiences = if asked.is_empty() { call.core.config.api_audiences().to_vec() } else { asked };
    let status = match crate::authn::token::review(&call.core, &token, &audiences).await {
        Some((user, common)) => {
            json!({"authenticated": true, "user": user.authenticated().info(), "audiences": common})
        }
        None => match crate::authn::token::authenticate(&call.core, &token, &audiences).await {
            Some(user) => json!({"authenticated": true, "user": user.authenticated().info()}),
            None => {
                json!({"user": {}, "error": "[invalid bearer token, service account token is not valid yet]"})
            }
        },
    };
    review.set("status", status);
    Ok(())
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

fn access(call: &Call, review: &mut Value, user: User) -> Result<(), Status> {
    let spec = review.at("spec");
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
    let by_subject = call.resource.name != "selfsubjectaccessreviews";
    if by_subject && user.name.is_empty() && user.groups.is_empty() {
        errors.push(Error::invalid(&at.child("user"), "", "at least one of user or group must be specified"));
    }
    if call.resource.name == "localsubjectaccessreviews" {
        if resource.text("namespace") != call.namespace {
            errors.push(Error::invalid(
                &at.child("resourceAttributes").child("namespace"),
                resource.text("namespace"),
                format!("must match metadata.namespace: {}", call.namespace),
            ));
        }
    }
    if !errors.is_empty() {
        return Err(invalid(call, &errors));
    }
    let attributes = if resource.is_object() {
        Attributes {
            is_resource: true,
            verb: resource.text("verb"),
            group: resource.text("group"),
            version: resource.text("version"),
            resource: resource.text("resource"),
            subresource: resource.text("subresource"),
            namespace: resource.text("namespace"),
            name: resource.text("name"),
            path: "",
        }
    } else {
        Attributes { verb: path.text("verb"), path: path.text("path"), ..Attributes::default() }
    };
    let status = match authz::decide(&call.core, &user, &attributes) {
        Ok(reason) if reason.is_empty() => json!({"allowed": true}),
        Ok(reason) => json!({"allowed": true, "reason": reason}),
        Err(reason) if reason.is_empty() => json!({"allowed": false}),
        Err(reason) => json!({"allowed": false, "reason": reason}),
    };
    review.set("status", status);
    Ok(())
}

fn rules(call: &Call, review: &mut Value) -> Result<(), Status> {
    let namespace = review.at("spec").text("namespace").to_owned();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    let mut add = |rule: &authz::Rule| {
        if rule.urls.is_empty() {
            let mut out = json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
            if !rule.names.is_empty() {
                out["resourceNames"] = json!(rule.names);
            }
            resources.push(out);
        } else {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls}));
        }
    };
    if call.user.is_in("system:masters") {
        let all = || vec!["*".to_owned()];
        add(&authz::Rule { verbs: all(), groups: all(), resources: all(), ..Default::default() });
        add(&authz::Rule { verbs: all(), urls: all(), ..Default::default() });
    }
    let index = authz::index(&call.core);
    for grant in index.grants(&call.user, &namespace) {
        grant.rules.iter().for_each(&mut add);
    }
    review.set("status", json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}));
    Ok(())
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
