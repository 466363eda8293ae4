//! The nodes and their pods as last seen, with pods that were placed but not yet seen so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::node::{NodeInfo, PodInfo, Snapshot};
use crate::objects::{Labels, Node, Pod};

#[derive(Default)]
pub struct Cache {
    nodes: BTreeMap<String, Arc<NodeInfo>>,
    /// Where each placed pod is, by uid.
    placed: HashMap<String, Placed>,
    /// Pods on nodes that are not known (yet).
    homeless: HashMap<String, Vec<Arc<PodInfo>>>,
    namespaces: Arc<BTreeMap<String, Labels>>,
    images: Arc<HashMap<String, (usize, i64)>>,
    images_stale: bool,
}

struct Placed {
    node: String,
    assumed: bool,
}

impl Cache {
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone();
        let homeless = self.homeless.remove(&name).unwrap_or_default();
        let images_same =
            self.nodes.get(&name).is_some_and(|old| old.node.status.images == node.status.images);
        self.images_stale |= !images_same;
        let info = self.nodes.entry(name).or_insert_with(|| Arc::new(NodeInfo::new(node.clone())));
        let info = Arc::make_mut(info);
        info.set_node(node);
        homeless.into_iter().for_each(|pod| info.add(pod));
    }

    pub fn remove_node(&mut self, name: &str) {
        self.images_stale = true;
        if let Some(node) = self.nodes.remove(name)
            && !node.pods.is_empty()
        {
            self.homeless.insert(name.to_owned(), node.pods.clone());
        }
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// A pod is on a node, as the server says.
    pub fn set_pod(&mut self, pod: Arc<Pod>) {
        self.remove_pod(&pod.metadata.uid);
        if !pod.is_finished() {
            self.place(Arc::new(PodInfo::new(pod)), false);
        }
    }

    /// A pod is as good as on `node`.
    pub fn assume(&mut self, pod: &Pod, node: &str) {
        let mut pod = pod.clone();
        pod.spec.node_name = node.to_owned();
        self.remove_pod(&pod.metadata.uid);
        self.place(Arc::new(PodInfo::new(Arc::new(pod))), true);
    }

    /// An assumed pod did not get there after all. One that was seen there stays.
    pub fn forget(&mut self, uid: &str) {
        if self.placed.get(uid).is_some_and(|placed| placed.assumed) {
            self.remove_pod(uid);
        }
    }

    pub fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    pub fn remove_pod(&mut self, uid: &str) {
        let Some(placed) = self.placed.remove(uid) else { return };
        if let Some(node) = self.nodes.get_mut(&placed.node) {
            Arc::make_mut(node).remove(uid);
        } else if let Some(pods) = self.homeless.get_mut(&placed.node) {
            pods.retain(|pod| pod.pod.metadata.uid != uid);
            if pods.is_empty() {
                self.homeless.remove(&placed.node);
            }
        }
    }

    fn place(&mut self, pod: Arc<PodInfo>, assumed: bool) {
        let node = pod.pod.spec.node_name.clone();
        self.placed.insert(pod.pod.metadata.uid.clone(), Placed { node: node.clone(), assumed });
        match self.nodes.get_mut(&node) {
            Some(info) => Arc::make_mut(info).add(pod),
            None => self.homeless.entry(node).or_default().push(pod),
        }
    }

    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        let namespaces = Arc::make_mut(&mut self.namespaces);
        match labels {
            Some(labels) => _ = namespaces.insert(name.to_owned(), labels),
            None => _ = namespaces.remove(name),
        }
    }

    pub fn snapshot(&mut self) -> Snapshot {
        if self.images_stale {
            self.images_stale = false;
            let mut images: HashMap<String, (usize, i64)> = HashMap::new();
            for image in self.nodes.values().flat_map(|node| &node.node.status.images) {
                for name in image.names.iter().flatten() {
                    let entry = images.entry(name.clone()).or_default();
                    entry.0 += 1;
                    entry.1 = image.size_bytes.unwrap_or(0);
                }
            }
            self.images = Arc::new(images);
        }
        Snapshot {
            nodes: self.nodes.values().cloned().collect(),
            images: self.images.clone(),
            namespaces: self.namespaces.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{node, pod};

    fn requested(cache: &mut Cache) -> i64 {
        cache.snapshot().nodes.iter().map(|node| node.requested.cpu).sum()
    }

    #[test]
    fn adds_up_whatever_the_order() {
        let text = r#"{"metadata":{"name":"p","uid":"u"},"spec":{"nodeName":"n",
            "containers":[{"resources":{"requests":{"cpu":"1"}}}]}}"#;
        let (node, pod) = (Arc::new(node("n", "4")), Arc::new(pod(text)));
        let mut cache = Cache::default();
        cache.set_pod(pod.clone());
        assert_eq!(requested(&mut cache), 0);
        cache.set_node(node.clone());
        assert_eq!(requested(&mut cache), 1000);
        cache.remove_node("n");
        cache.set_node(node);
        cache.set_pod(pod);
        assert_eq!(requested(&mut cache), 1000);
        cache.forget("u");
        assert_eq!(requested(&mut cache), 1000);
        cache.remove_pod("u");
        assert_eq!(requested(&mut cache), 0);
    }

    #[test]
    fn assumed_pods_count_until_forgotten() {
        let mut cache = Cache::default();
        cache.set_node(Arc::new(node("n", "4")));
        let waiting = pod(
            r#"{"metadata":{"name":"p","uid":"u"},"spec":{"containers":[{"resources":{"requests":{"cpu":"1"}}}]}}"#,
        );
        cache.assume(&waiting, "n");
        let before = cache.snapshot();
        cache.forget("u");
        assert_eq!((before.nodes[0].requested.cpu, requested(&mut cache)), (1000, 0));
    }
}
