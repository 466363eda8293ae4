use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::GroupVersionKind;
use crate::schema::{self, Schema};
use crate::status::Status;

struct World {
    gvk: GroupVersionKind,
    filters: BTreeMap<String, Filter>,
    now: &'static str,
    subresource: &'static str,
}

impl World {
    fn new(group: &str, version: &str, kind: &str) -> Self {
        let gvk = GroupVersionKind::new(group, version, kind);
        let filters = BTreeMap::from([(gvk.api_version(), Filter::exclude(&[&["status"]]))]);
        Self { gvk, filters, now: "2024-01-01T00:00:00Z", subresource: "" }
    }

    fn schema(&self) -> &'static Schema {
        schema::of_kind(&self.gvk).unwrap()
    }

    fn object(&self, mut value: Value) -> Value {
        value["apiVersion"] = self.gvk.api_version().into();
        value["kind"] = self.gvk.kind.clone().into();
        value
    }

    fn manager(&self) -> FieldManager<'_> {
        FieldManager {
            typed: Typed::Schema(self.schema()),
            gvk: &self.gvk,
            subresource: self.subresource,
            filters: &self.filters,
            convert: &OneVersion,
            now: self.now,
        }
    }

    fn create(&self, value: Value, manager: &str) -> Value {
        let mut new = self.object(value);
        schema::normalize(self.schema(), &mut new);
        let mut out = self.manager().update(&json!({}), new, manager);
        out["metadata"]["uid"] = "u".into();
        out
    }

    fn apply(&self, live: &Value, value: Value, manager: &str, force: bool) -> Result<Value, Status> {
        Ok(self.manager().apply(live, &self.object(value), manager, force)?)
    }
}

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries.iter().find(|e| e["manager"] == manager).map_or(Value::Null, |e| e["fieldsV1"].clone())
}

#[test]
fn sets_keep_their_laws() {
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:containers": {
        "k:{\"name\":\"x\"}": {".": {}, "f:image": {}}}, "f:finalizers": {"v:\"f\"": {}}, "i:0": {}}});
    let set = Set::from_fields(&fields).unwrap();
    assert_eq!(set.to_fields(), fields);
    assert_eq!(set.union(&set), set);
    assert_eq!(set.intersection(&set), set);
    assert!(set.difference(&set).is_empty());
    let mut paths = Vec::new();
    set.for_each(&mut |path| paths.push(set::show_path(path)));
    assert_eq!(
        paths,
        [
            ".metadata.labels",
            ".metadata.labels.a",
            ".spec[0]",
            ".spec.containers[name=\"x\"]",
            ".spec.containers[name=\"x\"].image",
            ".spec.finalizers[=\"f\"]"
        ]
    );
    let labels = Set::of_fields(&[&["metadata", "labels"]]);
    assert_eq!(set.difference(&labels).to_fields()["f:metadata"], json!({"f:labels": {"f:a": {}}}));
    assert_eq!(set.recursive_difference(&labels).to_fields()["f:metadata"], Value::Null);
    let only = Filter::Include(vec![vec![
        Some(Element::field("spec")),
        Some(Element::field("containers")),
        None,
        Some(Element::field("image")),
    ]]);
    assert_eq!(
        only.apply(set.clone()).to_fields(),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {".": {}, "f:image": {}}}}})
    );
}

#[test]
fn a_create_owns_what_it_set() {
    let world = World::new("apps", "v1", "Deployment");
    let object = world.create(
        json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}}}),
        "m",
    );
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{"manager": "m", "operation": "Update", "apiVersion": "apps/v1", "time": "2024-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:x": {}}}, "f:spec": {"f:replicas": {}, "f:selector": {},
                "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                    ".": {}, "f:image": {}, "f:name": {}, "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}, "f:resources": {}}}}}}}}])
    );
}

#[test]
fn updates_take_fields_and_leave_times_alone() {
    let mut world = World::new("", "v1", "ConfigMap");
    let first = world.create(json!({"metadata": {"name": "a"}, "data": {"x": "1", "y": "1"}}), "one");
    world.now = "2024-01-02T00:00:00Z";
    let same = world.manager().update(&first, first.clone(), "two");
    assert_eq!(same, first, "no change, no entry, no time");
    let mut change = first.clone();
    change["data"]["x"] = "2".into();
    let second = world.manager().update(&first, change, "two");
    assert_eq!(fields(&second, "one"), json!({"f:data": {".": {}, "f:y": {}}}));
    assert_eq!(fields(&second, "two"), json!({"f:data": {"f:x": {}}}));
    let mut gone = second.clone();
    gone["data"].as_object_mut().unwrap().remove("x");
    let third = world.manager().update(&second, gone, "three");
    assert_eq!(fields(&third, "two"), Value::Null, "what is gone is nobody's");
    assert_eq!(fields(&third, "three"), Value::Null);
    let mut reset = third.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    assert!(world.manager().update(&third, reset, "x")["metadata"].get("managedFields").is_none());
}

#[test]
fn applies_merge_conflict_and_give_up() {
    let world = World::new("", "v1", "ConfigMap");
    let live = world.create(json!({"metadata": {"name": "a", "namespace": "n"}, "data": {"x": "1"}}), "one");
    let status = world
        .apply(&live, json!({"metadata": {"name": "a"}, "data": {"x": "2", "y": "3"}}), "two", false)
        .unwrap_err();
    assert_eq!((status.code, &*status.reason), (409, "Conflict"));
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"one\" using v1: .data.x");
    let cause = &status.details.as_ref().unwrap().causes[0];
    assert_eq!(
        (&*cause.reason, &*cause.message, &*cause.field),
        ("FieldManagerConflict", "conflict with \"one\" using v1", ".data.x")
    );
    let forced = world
        .apply(&live, json!({"metadata": {"name": "a"}, "data": {"x": "2", "y": "3"}}), "two", true)
        .unwrap();
    assert_eq!(forced["data"], json!({"x": "2", "y": "3"}));
    assert_eq!(fields(&forced, "two"), json!({"f:data": {"f:x": {}, "f:y": {}}}));
    assert_eq!(fields(&forced, "one"), json!({"f:data": {}}));
    let shared =
        world.apply(&forced, json!({"metadata": {"name": "a"}, "data": {"x": "2"}}), "three", false).unwrap();
    let given_up =
        world.apply(&shared, json!({"metadata": {"name": "a"}, "data": {}}), "two", false).unwrap();
    assert_eq!(given_up["data"], json!({"x": "2"}), "y was only two's, x is three's too");
    assert_eq!(fields(&given_up, "two"), json!({"f:data": {}}));
    let again = world
        .apply(&given_up, json!({"metadata": {"name": "a"}, "data": {"x": "2"}}), "three", false)
        .unwrap();
    assert_eq!(again, given_up, "applying the same again changes nothing");
}

#[test]
fn an_apply_on_an_untracked_object_knows_what_was_before() {
    let world = World::new("", "v1", "ConfigMap");
    let live = world.object(json!({"metadata": {"name": "a", "uid": "u"}, "data": {"x": "1"}}));
    let applied =
        world.apply(&live, json!({"metadata": {"name": "a"}, "data": {"y": "1"}}), "two", false).unwrap();
    assert_eq!(fields(&applied, "before-first-apply"), json!({"f:data": {".": {}, "f:x": {}}}));
    assert_eq!(fields(&applied, "two"), json!({"f:data": {"f:y": {}}}));
}

#[test]
fn lists_are_merged_by_key() {
    let world = World::new("", "v1", "Pod");
    let live = world.create(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}}), "one");
    let applied = world
        .apply(&live, json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "1"}, {"name": "b", "env": [{"name": "E", "value": "1"}]}]}}), "two", false)
        .unwrap();
    let names: Vec<&str> = applied["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "c", "b"]);
    let removed = world
        .apply(
            &applied,
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "b"}]}}),
            "two",
            false,
        )
        .unwrap();
    assert_eq!(
        removed["spec"]["containers"],
        json!([{"name": "a", "image": "1", "resources": {}}, {"name": "b", "image": "1", "resources": {}}])
    );
    let status = world
        .apply(
            &live,
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "b"}, {"name": "b"}]}}),
            "two",
            false,
        )
        .unwrap_err();
    assert_eq!(status.code, 500);
    assert_eq!(
        status.message,
        "failed to create typed patch object (/p; /v1, Kind=Pod): .spec.containers: duplicate entries for key [name=\"b\"]"
    );
    let status = world
        .apply(&live, json!({"metadata": {"name": "p"}, "spec": {"nope": 1}}), "two", false)
        .unwrap_err();
    assert_eq!(
        status.message,
        "failed to create typed patch object (/p; /v1, Kind=Pod): .spec.nope: field not declared in schema"
    );
    let status =
        world.apply(&live, json!({"metadata": {"name": "p", "labels": ["x"]}}), "two", false).unwrap_err();
    assert_eq!(
        status.message,
        "failed to create typed patch object (/p; /v1, Kind=Pod): .metadata.labels: expected map, got &{[x]}"
    );
}

#[test]
fn status_has_entries_of_its_own() {
    let mut world = World::new("", "v1", "Pod");
    let live = world.create(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Pending"}}), "one");
    assert_eq!(fields(&live, "one")["f:status"], Value::Null);
    world.subresource = "status";
    world.filters = BTreeMap::from([("v1".into(), Filter::exclude(&[&["spec"], &["metadata"]]))]);
    let mut new = live.clone();
    new["status"]["phase"] = "Running".into();
    new["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    let updated = world.manager().update(&live, new, "kubelet");
    let entry = &updated["metadata"]["managedFields"][0];
    assert_eq!((&entry["manager"], &entry["subresource"]), (&json!("kubelet"), &json!("status")));
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Ready\"}": {".": {}, "f:status": {}, "f:type": {}}}, "f:phase": {}}})
    );
}

#[test]
fn many_updaters_are_folded() {
    let mut world = World::new("", "v1", "ConfigMap");
    let mut object = world.create(json!({"metadata": {"name": "a"}, "data": {"0": "1"}}), "m0");
    let times: Vec<&'static str> = [
        "2024-01-01T00:00:01Z",
        "2024-01-01T00:00:02Z",
        "2024-01-01T00:00:03Z",
        "2024-01-01T00:00:04Z",
        "2024-01-01T00:00:05Z",
        "2024-01-01T00:00:06Z",
        "2024-01-01T00:00:07Z",
        "2024-01-01T00:00:08Z",
        "2024-01-01T00:00:09Z",
        "2024-01-01T00:00:10Z",
        "2024-01-01T00:00:11Z",
    ]
    .into();
    for (n, time) in times.into_iter().enumerate() {
        world.now = time;
        let mut next = object.clone();
        next["data"][(n + 1).to_string()] = "1".into();
        object = world.manager().update(&object, next, &format!("m{}", n + 1));
    }
    let names: Vec<&str> = object["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["manager"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 10, "{names:?}");
    assert_eq!(names[0], "ancient-changes");
    assert_eq!(
        fields(&object, "ancient-changes"),
        json!({"f:data": {".": {}, "f:0": {}, "f:1": {}, "f:2": {}}})
    );
}

#[test]
fn objects_without_a_schema_merge_too() {
    let mut world = World::new("", "v1", "ConfigMap");
    world.gvk = GroupVersionKind::new("example.com", "v1", "Thing");
    world.filters.clear();
    let manager = FieldManager {
        typed: Typed::Deduced,
        ..FieldManager {
            typed: Typed::Deduced,
            gvk: &world.gvk,
            subresource: "",
            filters: &world.filters,
            convert: &OneVersion,
            now: world.now,
        }
    };
    let live = world.object(json!({"metadata": {"name": "t"}}));
    let patch = |spec: Value| world.object(json!({"metadata": {"name": "t"}, "spec": spec}));
    let one = manager.apply(&live, &patch(json!({"a": {"b": [1, 2]}, "c": 1})), "x", false).unwrap();
    assert_eq!(fields(&one, "x"), json!({"f:spec": {".": {}, "f:a": {".": {}, "f:b": {}}, "f:c": {}}}));
    let two = manager.apply(&one, &patch(json!({"a": {"b": [3]}})), "x", false).unwrap();
    assert_eq!(two["spec"], json!({"a": {"b": [3]}}));
}

#[test]
fn scale_entries_map_there_and_back() {
    let world = World::new("apps", "v1", "Deployment");
    let object =
        world.create(json!({"metadata": {"name": "a"}, "spec": {"replicas": 1, "paused": true}}), "one");
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let paths = scale::Paths::from([("apps/v1".into(), vec!["spec".into(), "replicas".into()])]);
    let shown = scale::to_scale(entries, &paths).unwrap();
    assert_eq!(
        (&shown[0]["apiVersion"], &shown[0]["fieldsV1"]),
        (&json!("autoscaling/v1"), &json!({"f:spec": {"f:replicas": {}}}))
    );
    let taken = json!([{"manager": "hpa", "operation": "Update", "apiVersion": "autoscaling/v1", "subresource": "scale", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    let back = scale::to_object(entries, taken.as_array().unwrap(), "apps/v1", &paths).unwrap();
    let object = json!({"metadata": {"managedFields": back}});
    assert_eq!(fields(&object, "hpa"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields(&object, "one")["f:spec"].get("f:replicas"), None);
}

/// Creations that a real server answered, with the managed fields it gave. What the server adds after tracking
/// (addresses, phases, …) is left out where it is known.
#[test]
fn recorded_creations_have_the_same_managed_fields() {
    let (mut same, mut odd) = (0, Vec::new());
    let found = crate::testdata::recorded_objects(|place, body| {
        let entries = body["metadata"]["managedFields"].as_array();
        let [entry] = entries.map(Vec::as_slice).unwrap_or_default() else { return };
        if entry.get("subresource").is_some() || entry["operation"] != "Update" || !place.contains("create") {
            return;
        }
        let gv = crate::GroupVersion::parse(body["apiVersion"].as_str().unwrap()).unwrap();
        let gvk = gv.kind(body["kind"].as_str().unwrap());
        let Some(schema) = schema::of_kind(&gvk) else { return };
        let filters = BTreeMap::from([(gvk.api_version(), Filter::exclude(&[&["status"]]))]);
        let manager = FieldManager {
            typed: Typed::Schema(schema),
            gvk: &gvk,
            subresource: "",
            filters: &filters,
            convert: &OneVersion,
            now: "x",
        };
        let mut empty = json!({"apiVersion": body["apiVersion"], "kind": body["kind"]});
        schema::normalize(schema, &mut empty);
        let mut new = body.clone();
        new["metadata"].as_object_mut().unwrap().remove("managedFields");
        let out = manager.update(&empty, new, "apidiff");
        let got = &out["metadata"]["managedFields"][0]["fieldsV1"];
        if got == &entry["fieldsV1"] {
            same += 1;
        } else {
            odd.push(format!("{place}\n  got  {got}\n  want {}", entry["fieldsV1"]));
        }
    });
    assert!(!found || same > 250, "{same} the same, {} odd:\n{}", odd.len(), odd.join("\n"));
}
