//! Ingresses before `networking.k8s.io/v1`: backends by flat names, paths without a type.

use machinery::{Get, Value};
use serde_json::json;

use super::steps::Step::{self, Change, Rename};
use super::steps::each;

const PATHS: &str = "spec.rules[].http.paths[]";

pub const INGRESS: &[Step] = &[
    Rename("spec", "backend", "defaultBackend"),
    Change(
        |object| {
            each(object, "spec.defaultBackend", &mut backend_to_now);
            each(object, PATHS, &mut |path| {
                path.set_default("pathType", "ImplementationSpecific");
                each(path, "backend", &mut backend_to_now);
            });
        },
        |object| {
            each(object, "spec.defaultBackend", &mut backend_to_old);
            each(object, PATHS, &mut |path| each(path, "backend", &mut backend_to_old));
        },
    ),
];

fn backend_to_now(backend: &mut Value) {
    let (name, port) = (backend.unset("serviceName"), backend.unset("servicePort"));
    if name.is_none() && port.is_none() {
        return;
    }
    let mut service = json!({"name": name.unwrap_or_default()});
    match port {
        Some(Value::String(name)) => service["port"] = json!({"name": name}),
        Some(number) => service["port"] = json!({"number": number}),
        None => {}
    }
    backend.set("service", service);
}

fn backend_to_old(backend: &mut Value) {
    let Some(service) = backend.unset("service") else { return };
    backend.set("serviceName", service.text("name"));
    let port = service.at("port");
    let port = match port.text("name") {
        "" => port.at("number").clone(),
        name => name.into(),
    };
    // the old form has a port always
    backend.set("servicePort", if port.is_null() { json!(0) } else { port });
}
