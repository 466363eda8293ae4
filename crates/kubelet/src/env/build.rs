//! Puts a container's variables together.

use k8s_openapi::api::core::v1::Container;
use std::collections::BTreeMap;

use super::expand::expand;
use super::fields::{FieldError, PodFields, field, resource};
use crate::pod::PodExt;
use crate::refs::{Found, Missing};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A key of a file in a volume (`fileKeyRef`).
    #[error("{0}")]
    File(String),
}

/// What variables come from.
pub struct EnvInputs<'a> {
    pub fields: PodFields<'a>,
    pub found: &'a Found,
    pub services: &'a BTreeMap<String, String>,
    /// Reads `key` of the file `path` in volume `name`: `Ok(None)` where the key is not there.
    pub file_key: &'a dyn Fn(&str, &str, &str) -> Result<Option<String>, String>,
}

/// The variables in a stable order: those of the container as declared (a later one wins over an earlier one of the
/// same name), then those of services that the container did not set itself.
pub fn build(container: &Container, inputs: &EnvInputs<'_>) -> Result<Vec<(String, String)>, EnvError> {
    let found = inputs.found;
    let mut env = Ordered::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(r) = &from.config_map_ref {
            match found.config_map(&r.name) {
                Ok(map) => {
                    map.data.iter().flatten().for_each(|(k, v)| env.set(format!("{prefix}{k}"), v.clone()))
                }
                Err(_) if r.optional == Some(true) => {}
                Err(missing) => return Err(missing.into()),
            }
        }
        if let Some(r) = &from.secret_ref {
            match found.secret(&r.name) {
                Ok(secret) => secret.data.iter().flatten().for_each(|(k, v)| {
                    env.set(format!("{prefix}{k}"), String::from_utf8_lossy(&v.0).into_owned())
                }),
                Err(_) if r.optional == Some(true) => {}
                Err(missing) => return Err(missing.into()),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let literal = variable.value.as_deref().unwrap_or_default();
        let value = if !literal.is_empty() {
            expand(literal, |name| env.get(name).or_else(|| inputs.services.get(name)).cloned())
        } else if let Some(source) = &variable.value_from {
            match from_source(source, container, inputs)? {
                Some(value) => value,
                None => continue,
            }
        } else {
            String::new()
        };
        env.set(variable.name.clone(), value);
    }
    for (name, value) in inputs.services {
        if env.get(name).is_none() {
            env.set(name.clone(), value.clone());
        }
    }
    Ok(env.0)
}

fn from_source(
    source: &k8s_openapi::api::core::v1::EnvVarSource,
    container: &Container,
    inputs: &EnvInputs<'_>,
) -> Result<Option<String>, EnvError> {
    let namespace = || inputs.fields.pod.namespace().to_owned();
    if let Some(r) = &source.field_ref {
        return Ok(Some(field(&r.field_path, &inputs.fields)?));
    }
    if let Some(r) = &source.resource_field_ref {
        return Ok(Some(resource(r, Some(container), &inputs.fields)?));
    }
    if let Some(r) = &source.config_map_key_ref {
        let value = inputs.found.config_map(&r.name).and_then(|map| {
            let value = map.data.as_ref().and_then(|d| d.get(&r.key)).cloned();
            value.ok_or_else(|| Missing::ConfigMapKey {
                namespace: namespace(),
                name: r.name.clone(),
                key: r.key.clone(),
            })
        });
        return optional(value, r.optional);
    }
    if let Some(r) = &source.secret_key_ref {
        let value = inputs.found.secret(&r.name).and_then(|secret| {
            let value = secret.data.as_ref().and_then(|d| d.get(&r.key));
            let value = value.map(|v| String::from_utf8_lossy(&v.0).into_owned());
            value.ok_or_else(|| Missing::SecretKey {
                namespace: namespace(),
                name: r.name.clone(),
                key: r.key.clone(),
            })
        });
        return optional(value, r.optional);
    }
    if let Some(r) = &source.file_key_ref {
        let value = (inputs.file_key)(&r.volume_name, &r.path, &r.key).map_err(EnvError::File)?;
        return match value {
            Some(value) => Ok(Some(value)),
            None if r.optional == Some(true) => Ok(None),
            None => Err(EnvError::File(format!(
                "environment variable key {:?} not found in file {:?}",
                r.key, r.path
            ))),
        };
    }
    Ok(Some(String::new()))
}

fn optional(value: Result<String, Missing>, optional: Option<bool>) -> Result<Option<String>, EnvError> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(_) if optional == Some(true) => Ok(None),
        Err(missing) => Err(missing.into()),
    }
}

#[derive(Default)]
struct Ordered(Vec<(String, String)>);

impl Ordered {
    fn get(&self, name: &str) -> Option<&String> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn check(container: Value, expected: Result<&[(&str, &str)], &str>) {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [container]}}),
        )
        .unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).unwrap();
        let secret: Secret = serde_json::from_value(json!({"data": {"s": "aGlkZGVu"}})).unwrap();
        let found = Found {
            config_maps: [("m".to_owned(), Arc::new(map))].into(),
            secrets: [("k".to_owned(), Arc::new(secret))].into(),
        };
        let services = [("SVC_HOST".to_owned(), "10.0.0.1".to_owned())].into();
        let inputs = EnvInputs {
            fields: PodFields { pod: &pod, pod_ips: &[], host_ips: &[], allocatable: &Default::default() },
            found: &found,
            services: &services,
            file_key: &|_, _, _| Ok(None),
        };
        let got = build(&pod.spec().containers[0], &inputs).map_err(|e| e.to_string());
        let expected: Result<Vec<_>, String> = expected.map_err(str::to_owned).map(|list| {
            let own = list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            own.chain([("SVC_HOST".to_owned(), "10.0.0.1".to_owned())]).collect()
        });
        assert_eq!(got, expected);
    }

    #[test]
    fn sources() {
        check(
            json!({"name": "c", "env": [{"name": "A", "value": "x"}, {"name": "B", "value": "$(A)-$(SVC_HOST)-$(NO)"}]}),
            Ok(&[("A", "x"), ("B", "x-10.0.0.1-$(NO)")]),
        );
        check(
            json!({"name": "c", "envFrom": [{"prefix": "p_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "k"}}],
            "env": [{"name": "s", "value": "over"}]}),
            Ok(&[("p_a", "1"), ("p_b", "2"), ("s", "over")]),
        );
        let key = |kind: &str, name: &str, key: &str, optional: bool| json!({"name": "c", "env": [{"name": "X", "valueFrom": {kind: {"name": name, "key": key, "optional": optional}}}]});
        check(key("configMapKeyRef", "m", "a", false), Ok(&[("X", "1")]));
        check(key("secretKeyRef", "k", "s", false), Ok(&[("X", "hidden")]));
        check(key("configMapKeyRef", "m", "zz", true), Ok(&[]));
        check(key("configMapKeyRef", "zz", "a", true), Ok(&[]));
        check(key("configMapKeyRef", "m", "zz", false), Err("couldn't find key zz in ConfigMap n/m"));
        check(key("configMapKeyRef", "zz", "a", false), Err("configmap \"zz\" not found"));
        check(key("secretKeyRef", "zz", "a", false), Err("secret \"zz\" not found"));
        check(json!({"name": "c", "envFrom": [{"configMapRef": {"name": "zz", "optional": true}}]}), Ok(&[]));
    }
}
