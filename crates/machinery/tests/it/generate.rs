//! Values made at random: any JSON, and objects of any built-in type.

use machinery::schema::{Other, Schema, Shape};
use machinery::{Map, Value, json};

/// A small random source: the tests' seeds come from proptest.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }

    pub fn text(&mut self) -> String {
        const TEXTS: [&str; 24] = [
            "",
            "a",
            "b",
            "name",
            "yes",
            "1",
            "1.5",
            "null",
            "a: b",
            "- x",
            "#",
            "é",
            "😀",
            "a\nb",
            "tab\t",
            "\"q\"",
            "it's",
            "<&>",
            "\u{2028}",
            " lead",
            "trail ",
            "2001-01-01",
            "a\n",
            "0x1f",
        ];
        self.one(&TEXTS).to_owned()
    }

    pub fn number(&mut self) -> Value {
        match self.roll(6) {
            0 => json!(0),
            1 => json!(1),
            2 => json!(-7),
            3 => json!(i64::MAX),
            4 => json!(0.25),
            _ => json!(1e-9),
        }
    }

    /// Any JSON.
    pub fn json(&mut self, depth: usize) -> Value {
        match self.roll(if depth == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => Value::Bool(self.roll(2) == 0),
            2 => self.number(),
            3 => self.text().into(),
            4 => (0..self.roll(4)).map(|_| self.json(depth - 1)).collect(),
            _ => {
                let count = self.roll(4);
                Value::Object((0..count).map(|_| (self.text(), self.json(depth - 1))).collect())
            }
        }
    }

    /// An object of a type, not normalised: zero values and nulls are among it.
    pub fn typed(&mut self, schema: &Schema, depth: usize) -> Value {
        match schema.shape() {
            Shape::Any | Shape::Raw | Shape::Json | Shape::Fields => {
                json!({"x": self.roll(3), "y": [self.text()]})
            }
            Shape::Bool => Value::Bool(self.roll(2) == 0),
            Shape::Int32 | Shape::Int64 => self.one(&[0, 1, -1, 80, 65535]).into(),
            Shape::Float => self.one(&[0.0, 1.5, -2.0]).into(),
            Shape::String => self.text().into(),
            Shape::Bytes => self.one(&["", "aGk=", "AAEC"]).into(),
            Shape::Quantity => self.one(&["0", "1", "500m", "0.5", "1024Mi", "1.5Gi", "1e3", "3k"]).into(),
            Shape::Time => self.one(&["2024-01-01T00:00:00Z", "2024-02-29T12:00:00.5+02:00"]).into(),
            Shape::MicroTime => {
                self.one(&["2024-01-01T00:00:00.000001Z", "2024-02-29T12:00:00.500000+02:00"]).into()
            }
            Shape::Duration => self.one(&["0s", "90s", "1h0m0s"]).into(),
            Shape::IntOrString => {
                if self.roll(2) == 0 {
                    json!(80)
                } else {
                    json!("http")
                }
            }
            Shape::List(list) => {
                let count = if depth == 0 { 0 } else { self.roll(3) };
                let items = (0..count).map(|n| {
                    let mut item = self.typed(&list.item, depth - 1);
                    // items of keyed lists have their keys, and differ
                    for key in &list.keys {
                        let text = list.item.field(key).is_some_and(|s| matches!(s.shape(), Shape::String));
                        item[&**key] = if text { format!("key{n}").into() } else { json!(n) };
                    }
                    item
                });
                let mut items: Vec<Value> = items.collect();
                items.dedup();
                Value::Array(items)
            }
            Shape::Map(of) => {
                let count = if depth == 0 { 0 } else { self.roll(3) };
                Value::Object(
                    (0..count).map(|n| (format!("k{n}"), self.typed(&of.value, depth - 1))).collect(),
                )
            }
            Shape::Struct(s) => {
                let mut map = Map::new();
                for field in &s.fields {
                    match self.roll(if depth == 0 { 12 } else { 3 }) {
                        0 => {
                            let mut value = self.typed(&field.schema, depth.saturating_sub(1));
                            let items = value.as_array_mut().filter(|_| !field.merge_key.is_empty());
                            for (n, item) in items.into_iter().flatten().enumerate() {
                                if item.get(field.merge_key).is_none_or(Value::is_null) {
                                    item[field.merge_key] = format!("key{n}").into();
                                }
                            }
                            map.insert(field.name.to_string(), value);
                        }
                        1 if self.roll(8) == 0 => drop(map.insert(field.name.to_string(), Value::Null)),
                        _ => {}
                    }
                }
                Value::Object(map)
            }
            Shape::Either(inner, other) => match other {
                Other::Bool if self.roll(2) == 0 => Value::Bool(true),
                _ => self.typed(inner, 0),
            },
            Shape::Ref(_) => Value::Null,
        }
    }
}
