//! Roles made of other roles.

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn admin_has_the_rules_of_what_it_is_made_of() {
    let world = World::start(0).await;
    let roles: Api<ClusterRole> = Api::all(world.admin.clone());
    let covers = |resource: &'static str| {
        move |role: &ClusterRole| {
            role.rules.iter().flatten().any(|rule| rule.resources.iter().flatten().any(|own| own == resource))
        }
    };
    let ask = || async { roles.get("admin").await.unwrap() };
    world.until("the default rules", ask, covers("secrets")).await;
    let added = json!({
        "metadata": {"name": "x", "labels": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"}},
        "rules": [{"apiGroups": ["x.y"], "resources": ["widgets"], "verbs": ["get"]}],
    });
    roles.create(&PostParams::default(), &serde_json::from_value(added).unwrap()).await.unwrap();
    world.until("the added rule", ask, covers("widgets")).await;
}
