//! How much pods ask for and nodes have.

use std::collections::BTreeMap;

use machinery::quantity::Quantity;

use crate::objects::{Container, Pod, Quantities};

/// What a container without requests counts for when nodes are compared: 0.1 CPU and 200 MB.
const DEFAULT_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Thousandths of a CPU, bytes, and units of everything else. Zero and absent are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu: i64,
    pub memory: i64,
    pub storage: i64,
    pub other: BTreeMap<String, i64>,
}

impl Amounts {
    pub fn of(quantities: &Quantities) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in quantities {
            let Ok(quantity) = quantity.0.parse::<Quantity>() else { continue };
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.storage = quantity.value(),
                "pods" => {}
                other => _ = amounts.other.insert(other.to_owned(), quantity.value()),
            }
        }
        amounts
    }

    pub fn add(&mut self, more: &Self) {
        self.merge(more, |a, b| a + b);
    }

    pub fn sub(&mut self, less: &Self) {
        self.merge(less, |a, b| a - b);
    }

    pub fn max(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, with: &Self, f: impl Fn(i64, i64) -> i64) {
        self.cpu = f(self.cpu, with.cpu);
        self.memory = f(self.memory, with.memory);
        self.storage = f(self.storage, with.storage);
        for (name, amount) in &with.other {
            let own = self.other.entry(name.clone()).or_default();
            *own = f(*own, *amount);
        }
    }
}

/// What the pod needs at its most: its containers together, or an init container beside the sidecars started
/// before it; requests of the pod as a whole stand above those; overhead on top.
pub fn pod_requests(pod: &Pod) -> Amounts {
    total(pod, |container| Amounts::of(&container.resources.requests))
}

/// As [`pod_requests`], a container that asks for no CPU or memory counted with some all the same.
pub fn pod_nonzero_requests(pod: &Pod) -> Amounts {
    total(pod, |container| {
        let mut amounts = Amounts::of(&container.resources.requests);
        if !container.resources.requests.contains_key("cpu") {
            amounts.cpu = DEFAULT_CPU;
        }
        if !container.resources.requests.contains_key("memory") {
            amounts.memory = DEFAULT_MEMORY;
        }
        amounts
    })
}

fn total(pod: &Pod, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut running = Amounts::default();
    pod.spec.containers.iter().for_each(|container| running.add(&of(container)));
    let (mut sidecars, mut starting) = (Amounts::default(), Amounts::default());
    for container in &pod.spec.init_containers {
        let mut amounts = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&amounts);
            sidecars.add(&amounts);
            starting.max(&sidecars);
        } else {
            amounts.add(&sidecars);
            starting.max(&amounts);
        }
    }
    running.max(&starting);
    let whole = &pod.spec.resources.requests;
    if !whole.is_empty() {
        let amounts = Amounts::of(whole);
        if whole.contains_key("cpu") {
            running.cpu = amounts.cpu;
        }
        if whole.contains_key("memory") {
            running.memory = amounts.memory;
        }
        running.other.extend(amounts.other.into_iter().filter(|(name, _)| name.starts_with("hugepages-")));
    }
    running.add(&Amounts::of(&pod.spec.overhead));
    running
}

/// The pods a node takes; none that tells it takes none.
pub fn pod_limit(allocatable: &Quantities) -> i64 {
    allocatable.get("pods").and_then(|quantity| quantity.0.parse::<Quantity>().ok()).map_or(0, |q| q.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::pod;

    #[test]
    fn init_containers_sidecars_and_overhead() {
        let pod = pod(r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"100m","memory":"1Mi"}}}],
            "initContainers":[
              {"resources":{"requests":{"cpu":"50m"}},"restartPolicy":"Always"},
              {"resources":{"requests":{"cpu":"300m","x/y":"2"}}}],
            "overhead":{"cpu":"5m"}}}"#);
        let requests = pod_requests(&pod);
        assert_eq!((requests.cpu, requests.memory, requests.other["x/y"]), (355, 1 << 20, 2));
        assert_eq!(pod_nonzero_requests(&pod).memory, 400 << 20);
    }

    #[test]
    fn the_pod_as_a_whole() {
        let pod = pod(r#"{"spec":{"resources":{"requests":{"cpu":"1"}},
            "containers":[{"resources":{"requests":{"cpu":"100m","memory":"5"}}}]}}"#);
        assert_eq!((pod_requests(&pod).cpu, pod_requests(&pod).memory), (1000, 5));
    }
}
