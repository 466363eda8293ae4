//! Clusters for tests: API servers in process, whole clusters in network namespaces.
