use machinery::patch::{json as json_patch, merge, strategic};
use machinery::{GroupVersionKind, Map, Value, json, schema};
use proptest::prelude::*;

use crate::generate::Dice;

/// A merge patch from one value to another that has no nulls.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut out = Map::new();
    for key in from.keys().filter(|k| !to.contains_key(*k)) {
        out.insert(key.clone(), Value::Null);
    }
    for (key, value) in to {
        match from.get(key) {
            Some(before) if before == value => {}
            Some(before) => drop(out.insert(key.clone(), difference(before, value))),
            None => drop(out.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(out)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        ),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn object(dice: &mut Dice) -> Value {
    let count = dice.roll(4);
    without_nulls(Value::Object((0..count).map(|_| (dice.text(), dice.json(3))).collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_merge_patch_gets_there(seed: u64) {
        let mut dice = Dice(seed);
        let (from, to) = (object(&mut dice), object(&mut dice));
        let patch = difference(&from, &to);
        let done = merge::apply(&from, &patch);
        prop_assert_eq!(&done, &to);
        prop_assert_eq!(merge::apply(&done, &patch), done, "again changes nothing");
        prop_assert_eq!(merge::apply(&from, &json!({})), from);
    }

    #[test]
    fn json_patches_do_what_they_say(seed: u64) {
        let mut dice = Dice(seed);
        let (document, value) = (object(&mut dice), dice.json(2));
        let run = |operations: Value| {
            let (patch, _) = json_patch::Patch::decode(operations.to_string().as_bytes(), true).unwrap();
            patch.apply(&document)
        };
        let there = run(json!([{"op": "add", "path": "/new~1key", "value": value}, {"op": "test", "path": "/new~1key", "value": value}])).unwrap();
        prop_assert_eq!(&there["new/key"], &value);
        let back = run(json!([{"op": "add", "path": "/new~1key", "value": value}, {"op": "move", "from": "/new~1key", "path": "/other"}, {"op": "remove", "path": "/other"}])).unwrap();
        let mut expected = document.clone();
        expected.as_object_mut().unwrap().remove("other");
        prop_assert_eq!(back, expected);
    }

    #[test]
    fn strategic_patches_settle(seed: u64) {
        let mut dice = Dice(seed);
        let pod = schema::of_kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        let (from, patch) = (dice.typed(pod, 5), without_nulls(dice.typed(pod, 5)));
        if let Ok(once) = strategic::apply(pod, &from, &patch) {
            let twice = strategic::apply(pod, &once, &patch).unwrap();
            prop_assert_eq!(twice, once, "again changes nothing");
        }
        prop_assert_eq!(strategic::apply(pod, &from, &json!({})).unwrap(), from);
    }

    #[test]
    fn patches_survive_anything(seed: u64) {
        let mut dice = Dice(seed);
        let bytes = serde_json::to_vec(&dice.json(5)).unwrap();
        let document = dice.json(4);
        if let Ok((patch, _)) = json_patch::Patch::decode(&bytes, dice.roll(2) == 0) {
            let _ = patch.apply(&document);
        }
        if let Ok((patch, _)) = merge::decode(&bytes, true) {
            merge::apply(&document, &patch);
        }
        let pod = schema::of_kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        if let Ok((patch, _)) = strategic::decode(&bytes, true) {
            let _ = strategic::apply(pod, &dice.typed(pod, 4), &patch);
        }
    }
}
