use std::collections::BTreeMap;

use machinery::apply::{FieldManager, Filter, OneVersion, Set, Typed};
use machinery::{GroupVersionKind, Value, json, schema};
use proptest::prelude::*;

use crate::generate::Dice;

/// A set of paths made at random.
fn set(dice: &mut Dice) -> Set {
    fn fields(dice: &mut Dice, depth: usize) -> Value {
        let mut map = serde_json::Map::new();
        for _ in 0..dice.roll(4) {
            let key = dice.one(&[
                "f:a",
                "f:b",
                "f:c",
                "k:{\"name\":\"x\"}",
                "k:{\"name\":\"y\"}",
                "v:\"1\"",
                "v:2",
                "i:0",
            ]);
            let mut below = if depth == 0 { json!({}) } else { fields(dice, depth - 1) };
            if below != json!({}) && dice.roll(2) == 0 {
                below["."] = json!({});
            }
            map.insert(key.into(), below);
        }
        Value::Object(map)
    }
    Set::from_fields(&fields(dice, 3)).unwrap()
}

struct World {
    gvk: GroupVersionKind,
    filters: BTreeMap<String, Filter>,
}

impl World {
    fn pods() -> Self {
        let filters = BTreeMap::from([("v1".into(), Filter::exclude(&[&["status"]]))]);
        Self { gvk: GroupVersionKind::new("", "v1", "Pod"), filters }
    }

    fn manager<'a>(&'a self, now: &'a str) -> FieldManager<'a> {
        let typed = Typed::Schema(schema::of_kind(&self.gvk).unwrap());
        FieldManager {
            typed,
            gvk: &self.gvk,
            subresource: "",
            filters: &self.filters,
            convert: &OneVersion,
            now,
        }
    }

    /// What a client sends: no nulls, no managed fields.
    fn object(&self, dice: &mut Dice) -> Value {
        let schema = schema::of_kind(&self.gvk).unwrap();
        let mut value = dice.typed(schema, 5);
        value["apiVersion"] = "v1".into();
        value["kind"] = "Pod".into();
        value["metadata"] = json!({"name": "p", "uid": "u", "labels": {"a": dice.text()}});
        value.as_object_mut().unwrap().remove("status");
        let mut value = machinery::codec::json::convert(schema, value, false).unwrap().value;
        schema::normalize(schema, &mut value);
        value
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sets_obey_their_laws(seed: u64) {
        let mut dice = Dice(seed);
        let (a, b, c) = (set(&mut dice), set(&mut dice), set(&mut dice));
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert_eq!(Set::from_fields(&a.to_fields()).unwrap(), a.clone());
        let mut all = Vec::new();
        a.for_each(&mut |path| all.push(path.to_vec()));
        prop_assert!(all.iter().all(|path| a.has(path)));
    }

    #[test]
    fn an_update_that_changes_nothing_changes_nothing(seed: u64) {
        let (world, mut dice) = (World::pods(), Dice(seed));
        let object = world.object(&mut dice);
        let mut empty = json!({"apiVersion": "v1", "kind": "Pod"});
        schema::normalize(schema::of_kind(&world.gvk).unwrap(), &mut empty);
        let created = world.manager("2024-01-01T00:00:00Z").update(&empty, object, "one");
        let again = world.manager("2024-01-02T00:00:00Z").update(&created, created.clone(), "two");
        prop_assert_eq!(again, created);
    }

    #[test]
    fn applying_settles(seed: u64) {
        let (world, mut dice) = (World::pods(), Dice(seed));
        let mut live = world.object(&mut dice);
        let config = |dice: &mut Dice| {
            let mut config = world.object(dice);
            config["metadata"] = json!({"name": "p", "labels": {"b": "c"}});
            config
        };
        for (manager, now) in [("one", "2024-01-01T00:00:00Z"), ("two", "2024-01-02T00:00:00Z"), ("one", "2024-01-03T00:00:00Z")] {
            let config = config(&mut dice);
            // lists may name an item twice, which nobody may apply
            let Ok(applied) = world.manager(now).apply(&live, &config, manager, true) else { return Ok(()) };
            let again = world.manager("2025-01-01T00:00:00Z").apply(&applied, &config, manager, false);
            let again = again.map_err(|e| TestCaseError::fail(format!("{manager}: {e}")))?;
            prop_assert_eq!(&again, &applied, "{} applied the same again", manager);
            live = applied;
        }
    }
}
