//! OwnerReferencesPermissionEnforcement: who may not delete an object may not give it owners, and who may not finalize an
//! owner may not have it wait for the object. Off unless asked for.

use futures_util::FutureExt;
use machinery::{Get, GroupVersion, Status, Value};

use super::{Attributes, Operation, Plugin, forbidden};
use crate::authz;
use crate::registry::Call;

pub static PLUGIN: Plugin = Plugin {
    name: "OwnerReferencesPermissionEnforcement",
    mutate: None,
    validate: Some(|call, attributes| validate(call, attributes).boxed()),
};

fn owners(object: &Value) -> &[Value] {
    object.at("metadata").list("ownerReferences")
}

/// References that make an owner wait, and did not before.
fn newly_blocking<'a>(new: &'a Value, old: &Value) -> Vec<&'a Value> {
    let blocks = |r: &Value| r.flag("blockOwnerDeletion") == Some(true);
    owners(new)
        .iter()
        .filter(|r| blocks(r))
        .filter(|r| !owners(old).iter().any(|o| o.text("uid") == r.text("uid") && blocks(o)))
        .collect()
}

async fn may(call: &Call, ask: authz::Attributes<'_>) -> Result<(), String> {
    let decision = authz::decide(&call.core, &call.user, &ask).await;
    if decision.allowed() {
        return Ok(());
    }
    let error = if decision.error.is_empty() { "<nil>".to_owned() } else { decision.error };
    Err(format!("{}, {error}", decision.reason))
}

async fn validate(call: &mut Call, a: &Attributes) -> Result<(), Status> {
    if !matches!(a.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    // bindings and evictions carry somebody else's metadata
    let exempt = a.resource.group.is_empty() && a.resource.name == "pods"
        || a.resource.group.is_empty() && a.resource.name == "bindings";
    if exempt && matches!(a.subresource.as_str(), "status" | "binding" | "eviction") {
        return Ok(());
    }
    if owners(a.object()) == owners(a.old()) {
        return Ok(());
    }
    let base = authz::Attributes { is_resource: true, ..authz::Attributes::default() };
    if a.operation == Operation::Update {
        let ask = authz::Attributes {
            verb: "delete",
            group: &a.resource.group,
            version: &a.resource.version,
            resource: &a.resource.name,
            subresource: &a.subresource,
            namespace: &a.namespace,
            name: &a.name,
            ..base
        };
        may(call, ask).await.map_err(|why| {
            forbidden(a, &format!("cannot set an ownerRef on a resource you can't delete: {why}"))
        })?;
    }
    let blocking = newly_blocking(a.object(), a.old());
    let finalize = authz::Attributes { verb: "update", subresource: "finalizers", ..base };
    let anything = authz::Attributes { group: "*", version: "*", resource: "*", name: "*", ..finalize };
    if blocking.is_empty() || may(call, anything).await.is_ok() {
        return Ok(());
    }
    for reference in blocking {
        let (api_version, kind) = (reference.text("apiVersion"), reference.text("kind"));
        let gv = GroupVersion::parse(api_version).unwrap_or_default();
        let Some(owner) = call.core.kinds.now().find_kind(&gv.group, &gv.version, kind) else {
            let why = format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} Kind {kind}: no matches for kind \"{kind}\" in version \"{api_version}\""
            );
            return Err(forbidden(a, &why));
        };
        let ask = authz::Attributes {
            group: &owner.group,
            version: &owner.version,
            resource: &owner.name,
            namespace: if owner.namespaced { &a.namespace } else { "" },
            name: reference.text("name"),
            ..finalize
        };
        may(call, ask).await.map_err(|why| {
            let text = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on";
            forbidden(a, &format!("{text}: {why}"))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use machinery::json;

    use super::*;

    #[test]
    fn only_new_waits_count() {
        let with = |block: bool| json!({"metadata": {"ownerReferences": [{"uid": "1", "blockOwnerDeletion": block}]}});
        assert_eq!(newly_blocking(&with(true), &with(false)).len(), 1);
        assert_eq!(newly_blocking(&with(true), &with(true)).len(), 0);
        assert_eq!(newly_blocking(&with(true), &Value::Null).len(), 1);
    }
}
