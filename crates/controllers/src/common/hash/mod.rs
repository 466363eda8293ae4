//! Short names for contents, the same as upstream's: `pod-template-hash`, `controller-revision-hash` and the names
//! made of them. A cluster's ReplicaSets and revisions are found again by them when it is taken over.

mod template;

use serde_json::Value;

/// The hash of a pod template: FNV-1a of the text [`template::write`] makes. `collisions` gives another one where two
/// templates met on the same.
pub fn template_hash(template: &Value, collisions: Option<i32>) -> String {
    let mut hash = Fnv::new(|state, byte| (state ^ byte).wrapping_mul(Fnv::PRIME));
    template::write(template, &mut |text| hash.bytes(text.as_bytes()));
    if let Some(collisions) = collisions {
        hash.bytes(&i64::from(collisions as u32).to_le_bytes());
    }
    safe(hash.state)
}

/// The hash of a revision's data: FNV-1 of its JSON with sorted keys.
pub fn data_hash(data: &Value, collisions: Option<i32>) -> String {
    let mut hash = Fnv::new(|state, byte| state.wrapping_mul(Fnv::PRIME) ^ byte);
    json(data, &mut |text| hash.bytes(text.as_bytes()));
    if let Some(collisions) = collisions {
        hash.bytes(collisions.to_string().as_bytes());
    }
    safe(hash.state)
}

/// The digits in letters and digits that spell nothing.
fn safe(hash: u32) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    hash.to_string().bytes().map(|digit| ALPHABET[digit as usize % 27] as char).collect()
}

/// FNV of 32 bits, in one of its two orders.
struct Fnv {
    state: u32,
    step: fn(u32, u32) -> u32,
}

impl Fnv {
    const PRIME: u32 = 0x0100_0193;

    fn new(step: fn(u32, u32) -> u32) -> Self {
        Self { state: 0x811c_9dc5, step }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = (self.step)(self.state, u32::from(*byte));
        }
    }
}

/// JSON as Go writes a map: keys sorted, `<`, `>`, `&` and the line separators escaped.
fn json(value: &Value, out: &mut dyn FnMut(&str)) {
    match value {
        Value::Array(items) => {
            out("[");
            for (n, item) in items.iter().enumerate() {
                out(if n == 0 { "" } else { "," });
                json(item, out);
            }
            out("]");
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            out("{");
            for (n, (key, value)) in entries.into_iter().enumerate() {
                out(if n == 0 { "" } else { "," });
                text(key, out);
                out(":");
                json(value, out);
            }
            out("}");
        }
        Value::String(string) => text(string, out),
        scalar => out(&scalar.to_string()),
    }
}

fn text(string: &str, out: &mut dyn FnMut(&str)) {
    let quoted = Value::from(string).to_string();
    let escaped = [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ];
    let mut rest = quoted.as_str();
    while let Some(place) = rest.find(|c| escaped.iter().any(|(special, _)| *special == c)) {
        out(&rest[..place]);
        let special = rest[place..].chars().next().unwrap_or_default();
        out(escaped.iter().find(|(c, _)| *c == special).map_or("", |(_, code)| code));
        rest = &rest[place + special.len_utf8()..];
    }
    out(rest);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(more: Value) -> Value {
        let mut container = json!({"name": "c", "image": "i"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {"labels": {"b": "2", "a": "1"}}, "spec": {"containers": [container]}})
    }

    fn with(mut template: Value, more: Value) -> Value {
        template["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        template
    }

    #[test]
    fn data_of_a_stateful_set() {
        let data = json!({"b": "<&>", "a": [1, true, null]});
        let mut written = String::new();
        super::json(&data, &mut |part| written.push_str(part));
        assert_eq!(written, r#"{"a":[1,true,null],"b":"\u003c\u0026\u003e"}"#);
    }

    /// Hashes that a kube-controller-manager 1.36 gives.
    #[test]
    fn templates() {
        let cases = [
            (template(json!({})), "66c95c5665"),
            (
                template(
                    json!({"command": ["a", "b c"], "resources": {"limits": {"cpu": "500m", "memory": "128Mi", "ephemeral-storage": "1Gi"}, "requests": {"cpu": "2", "memory": "100Mi", "example.org/x": "0", "a": "12k", "b": "1e3", "c": "5k"}}}),
                ),
                "7dbc67c575",
            ),
            (
                with(
                    template(
                        json!({"readinessProbe": {"httpGet": {"path": "/", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 1}, "livenessProbe": {"tcpSocket": {"port": "web"}}, "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k", "optional": true}}}], "securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true}, "terminationMessagePolicy": "File", "imagePullPolicy": "Always", "tty": true}),
                    ),
                    json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}], "nodeSelector": {}, "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 300}], "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30, "restartPolicy": "Always", "securityContext": {}, "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {"matchLabels": {"x": "y"}}, "topologyKey": "zone"}]}}, "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]}),
                ),
                "5df875d4b6",
            ),
        ];
        for (template, hash) in cases {
            assert_eq!(template_hash(&template, None), hash, "{template}");
        }
        assert_ne!(template_hash(&template(json!({})), Some(0)), template_hash(&template(json!({})), None));
    }
}
