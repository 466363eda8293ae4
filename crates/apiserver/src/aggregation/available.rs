//! Can a remote API server be used? Upstream's conditions, reasons and messages.

use machinery::{Get, Value, json};

use super::backend::Backend;

/// The `Available` condition: status, reason, message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Condition {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }

    pub fn passed() -> Self {
        Self { status: "True", reason: "Passed", message: "all checks passed".to_owned() }
    }

    pub fn failed(message: String) -> Self {
        Self::no("FailedDiscoveryCheck", message)
    }

    /// Does the object say so already?
    pub fn is_in(&self, api: &Value) -> bool {
        current(api).is_some_and(|c| {
            c.text("status") == self.status
                && c.text("reason") == self.reason
                && c.text("message") == self.message
        })
    }

    /// Writes it into the status.
    pub fn set(&self, api: &mut Value, now: &str) {
        let same = current(api).is_some_and(|c| c.text("status") == self.status);
        let since = current(api).map(|c| c.text("lastTransitionTime").to_owned()).filter(|_| same);
        let mut list: Vec<Value> = api.at("status").list("conditions").to_vec();
        let condition = json!({"type": "Available", "status": self.status, "reason": self.reason,
            "message": self.message, "lastTransitionTime": since.unwrap_or_else(|| now.to_owned())});
        match list.iter_mut().find(|c| c.text("type") == "Available") {
            Some(old) => *old = condition,
            None => list.push(condition),
        }
        api.child("status").set("conditions", list);
    }
}

fn current(api: &Value) -> Option<&Value> {
    api.at("status").list("conditions").iter().find(|c| c.text("type") == "Available")
}

pub fn is_available(api: &Value) -> bool {
    current(api).is_some_and(|c| c.text("status") == "True")
}

/// What the Service and its EndpointSlices say; `None`: ask the server itself.
pub fn decide(backend: &Backend, service: Option<&Value>, slices: &[Value]) -> Option<Condition> {
    let (name, namespace, port) = (&backend.service, &backend.namespace, i64::from(backend.port));
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Some(Condition::no("ServiceNotFound", message));
    };
    let kind = service.at("spec").text("type");
    if !matches!(kind, "" | "ClusterIP") {
        return None;
    }
    let Some(found) = service.at("spec").list("ports").iter().find(|p| p.int("port") == Some(port)) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(Condition::no("ServicePortError", message));
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Condition::no("EndpointsNotFound", message));
    }
    let port_name = found.text("name");
    if !slices.iter().any(|slice| has_endpoint(slice, port_name)) {
        let message = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return Some(Condition::no("MissingEndpoints", message));
    }
    None
}

fn has_endpoint(slice: &Value, port_name: &str) -> bool {
    slice.list("ports").iter().any(|p| p.text("name") == port_name)
        && slice.list("endpoints").iter().any(|e| e.at("conditions").flag("ready") != Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(service: Option<Value>, slices: &[Value], want: Option<(&str, &str)>) {
        let api = json!({"metadata": {"name": "v1.x"}, "spec": {"group": "x", "version": "v1",
            "service": {"name": "s", "namespace": "d", "port": 443}}});
        let backend = Backend::of(&api).unwrap();
        let got = decide(&backend, service.as_ref(), slices);
        assert_eq!(got.as_ref().map(|c| (c.reason, c.message.as_str())), want);
    }

    #[test]
    fn says_what_is_missing() {
        let service = |port: u16| Some(json!({"spec": {"ports": [{"name": "https", "port": port}]}}));
        let slice = |ready: bool| json!({"ports": [{"name": "https"}], "endpoints": [{"conditions": {"ready": ready}}]});
        check(None, &[], Some(("ServiceNotFound", "service/s in \"d\" is not present")));
        check(
            service(80),
            &[],
            Some(("ServicePortError", "service/s in \"d\" is not listening on port 443")),
        );
        check(
            service(443),
            &[],
            Some(("EndpointsNotFound", "cannot find endpointslices for service/s in \"d\"")),
        );
        let message = "endpointslices for service/s in \"d\" have no addresses with port name \"https\"";
        check(service(443), &[slice(false)], Some(("MissingEndpoints", message)));
        check(service(443), &[slice(true)], None);
        check(Some(json!({"spec": {"type": "ExternalName", "externalName": "x"}})), &[], None);
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let mut api = json!({});
        Condition::failed("a".into()).set(&mut api, "1");
        Condition::failed("b".into()).set(&mut api, "2");
        assert_eq!(api["status"]["conditions"][0]["lastTransitionTime"], "1");
        assert_eq!(api["status"]["conditions"][0]["message"], "b");
        assert!(!is_available(&api));
        Condition::passed().set(&mut api, "3");
        assert_eq!(api["status"]["conditions"][0]["lastTransitionTime"], "3");
        assert!(is_available(&api) && Condition::passed().is_in(&api));
    }
}
