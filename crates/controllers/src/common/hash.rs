//! Short names for contents.

use std::collections::BTreeMap;

/// A hash of `value` in letters and digits that spell nothing; the order of keys does not count. Stable between
/// runs and versions. `collisions` gives another one where two values met on the same.
pub fn short_hash(value: &serde_json::Value, collisions: Option<i32>) -> String {
    let mut hash = Fnv(0x811c_9dc5);
    hash.value(value);
    if let Some(collisions) = collisions {
        hash.bytes(&collisions.to_le_bytes());
    }
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    hash.0.to_string().bytes().map(|digit| ALPHABET[digit as usize % 27] as char).collect()
}

/// FNV-1a of 32 bits.
struct Fnv(u32);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    fn value(&mut self, value: &serde_json::Value) {
        match value {
            serde_json::Value::Array(items) => {
                self.bytes(b"[");
                items.iter().for_each(|item| self.value(item));
                self.bytes(b"]");
            }
            serde_json::Value::Object(map) => {
                let sorted: BTreeMap<_, _> = map.iter().collect();
                self.bytes(b"{");
                for (key, value) in sorted {
                    self.bytes(key.as_bytes());
                    self.bytes(b":");
                    self.value(value);
                }
                self.bytes(b"}");
            }
            scalar => self.bytes(scalar.to_string().as_bytes()),
        }
        self.bytes(b",");
    }
}
