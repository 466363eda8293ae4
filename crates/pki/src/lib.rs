//! Certificates, service-account keys and kubeconfigs.
