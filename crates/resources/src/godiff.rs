//! Differences as upstream's messages show them: unified, between indented renderings of internal structs.

use machinery::Value;

/// Between two pod specs.
pub(crate) fn pod_specs(_before: &Value, _after: &Value) -> String {
    String::new()
}

/// Between two ephemeral containers.
pub(crate) fn ephemeral_containers(_before: &Value, _after: &Value) -> String {
    String::new()
}

/// Between two sources of PersistentVolumes.
pub(crate) fn persistent_volume_sources(_before: &Value, _after: &Value) -> String {
    String::new()
}

/// Between two specs of PersistentVolumeClaims.
pub(crate) fn claim_specs(_before: &Value, _after: &Value) -> String {
    String::new()
}
