//! What the cluster's names stand for, kept true change by change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::str::FromStr;

use client::Key;
use hickory_proto::rr::Name;

use crate::objects::{EndpointSlice, Port, Service};

/// The cluster's zone. Names in it are lower case.
#[derive(Clone, Debug)]
pub struct Zone {
    /// `cluster.local.`
    pub(crate) domain: Name,
    pub(crate) service_ip: IpAddr,
    services: HashMap<Key, Entry>,
    /// Slices by Service, then by slice name.
    slices: HashMap<Key, BTreeMap<Key, Slice>>,
    slice_owner: HashMap<Key, Key>,
    namespaces: HashMap<String, usize>,
    /// Who has an address: Services by cluster IP.
    by_cluster_ip: HashMap<IpAddr, Key>,
    /// And Services by the addresses of their endpoints.
    by_endpoint: HashMap<IpAddr, HashSet<Key>>,
}

/// A Service, as far as names go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub target: Target,
    pub ports: Vec<Port>,
    pub publish_not_ready: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Addresses(Vec<IpAddr>),
    Headless,
    External(String),
}

#[derive(Clone, Debug, Default)]
struct Slice {
    endpoints: Vec<Endpoint>,
}

/// One endpoint address of a headless Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub address: IpAddr,
    /// Its own label below the Service: the hostname, or the address with dashes.
    pub label: String,
    pub ready: bool,
    pub ports: Vec<Port>,
}

impl Zone {
    /// `None` if the domain is not a name.
    pub fn new(domain: &str, service_ip: IpAddr) -> Option<Self> {
        let mut domain = Name::from_str(&domain.to_lowercase()).ok()?;
        domain.set_fqdn(true);
        Some(Self {
            domain,
            service_ip,
            services: HashMap::new(),
            slices: HashMap::new(),
            slice_owner: HashMap::new(),
            namespaces: HashMap::new(),
            by_cluster_ip: HashMap::new(),
            by_endpoint: HashMap::new(),
        })
    }

    /// Puts in or (`None`) takes out a Service.
    pub fn set_service(&mut self, key: &Key, service: Option<&Service>) {
        if let Some(Entry { target: Target::Addresses(addresses), .. }) = self.services.remove(key) {
            for address in addresses {
                if self.by_cluster_ip.get(&address) == Some(key) {
                    self.by_cluster_ip.remove(&address);
                }
            }
        }
        let known = self.namespaces.entry(key.namespace().to_owned()).or_default();
        // One for each Service; counted again below.
        *known = self.services.keys().filter(|other| other.namespace() == key.namespace()).count();
        let Some(service) = service else {
            self.namespaces.retain(|_, count| *count > 0);
            return;
        };
        let entry = Entry::of(service);
        if let Target::Addresses(addresses) = &entry.target {
            for address in addresses {
                self.by_cluster_ip.insert(*address, key.clone());
            }
        }
        self.services.insert(key.clone(), entry);
        *self.namespaces.entry(key.namespace().to_owned()).or_default() += 1;
    }

    /// Puts in or (`None`) takes out an EndpointSlice.
    pub fn set_slice(&mut self, key: &Key, slice: Option<&EndpointSlice>) {
        if let Some(service) = self.slice_owner.remove(key)
            && let Some(slices) = self.slices.get_mut(&service)
        {
            let gone = slices.remove(key).unwrap_or_default();
            let left: HashSet<IpAddr> =
                slices.values().flat_map(|slice| slice.endpoints.iter().map(|e| e.address)).collect();
            if slices.is_empty() {
                self.slices.remove(&service);
            }
            for Endpoint { address, .. } in gone.endpoints {
                if !left.contains(&address)
                    && let Some(users) = self.by_endpoint.get_mut(&address)
                {
                    users.remove(&service);
                    if users.is_empty() {
                        self.by_endpoint.remove(&address);
                    }
                }
            }
        }
        let Some(slice) = slice else { return };
        let Some(name) = slice.service() else { return };
        let service = Key::new(&slice.metadata.namespace, name);
        let slice = Slice::of(slice);
        for endpoint in &slice.endpoints {
            self.by_endpoint.entry(endpoint.address).or_default().insert(service.clone());
        }
        self.slice_owner.insert(key.clone(), service.clone());
        self.slices.entry(service).or_default().insert(key.clone(), slice);
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.services.get(&Key::new(namespace, name))
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The endpoints that a headless Service's names stand for, each address once.
    pub(crate) fn endpoints(&self, namespace: &str, name: &str) -> Vec<&Endpoint> {
        let key = Key::new(namespace, name);
        let not_ready_too = self.services.get(&key).is_some_and(|entry| entry.publish_not_ready);
        let mut seen = HashSet::new();
        let all = self.slices.get(&key).into_iter().flat_map(|slices| slices.values());
        all.flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| endpoint.ready || not_ready_too)
            .filter(|endpoint| seen.insert((endpoint.address, endpoint.label.clone())))
            .collect()
    }

    /// The Service with this cluster IP.
    pub(crate) fn service_of(&self, address: IpAddr) -> Option<&Key> {
        self.by_cluster_ip.get(&address)
    }

    /// Headless Services with an endpoint of this address, and the endpoint's label; in order of name.
    pub(crate) fn endpoints_of(&self, address: IpAddr) -> Vec<(&Key, &str)> {
        let mut found: Vec<(&Key, &str)> = Vec::new();
        for key in self.by_endpoint.get(&address).into_iter().flatten() {
            if self.services.get(key).is_none_or(|entry| entry.target != Target::Headless) {
                continue;
            }
            let endpoints = self.endpoints(key.namespace(), key.name());
            found.extend(
                endpoints.into_iter().filter(|e| e.address == address).map(|e| (key, e.label.as_str())),
            );
        }
        found.sort();
        found.dedup();
        found
    }
}

impl Entry {
    fn of(service: &Service) -> Self {
        let spec = &service.spec;
        let texts: Vec<&String> = if spec.cluster_ips.is_empty() {
            vec![&spec.cluster_ip]
        } else {
            spec.cluster_ips.iter().collect()
        };
        let target = if spec.type_ == "ExternalName" {
            Target::External(spec.external_name.to_lowercase())
        } else if texts.iter().any(|text| *text == "None") {
            Target::Headless
        } else {
            Target::Addresses(texts.iter().filter_map(|text| text.parse().ok()).collect())
        };
        Self { target, ports: spec.ports.clone(), publish_not_ready: spec.publish_not_ready_addresses }
    }
}

impl Slice {
    fn of(slice: &EndpointSlice) -> Self {
        let mut endpoints = Vec::new();
        for endpoint in &slice.endpoints {
            for address in endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
                let label = endpoint.hostname.clone().unwrap_or_else(|| dashed(address));
                let ready = endpoint.conditions.ready.unwrap_or(true);
                endpoints.push(Endpoint { address, label, ready, ports: slice.ports.clone() });
            }
        }
        Self { endpoints }
    }
}

/// `10-0-0-1`, `fd00--1`.
pub(crate) fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}
