//! CSIDrivers.

use jiff::Timestamp;
use machinery::field::{ErrorList, Path};
use machinery::{Get, Value};

use crate::check::{Errors, same};
use crate::columns::{CREATED, NAME, age, name, or_none};
use crate::strategy::no_conditions;
use crate::{Column, Columns, Context, Strategy, names, objectmeta};

const LIMITS: &str = "VolumeLimitScaling";

pub(crate) static STRATEGY: Strategy = Strategy {
    group: "storage.k8s.io",
    kind: "CSIDriver",
    default,
    prepare_create: |obj, context| {
        if !context.enabled(LIMITS) {
            obj.child("spec").unset("preventPodSchedulingIfMissing");
        }
    },
    prepare_update: |new, old, context| {
        let field = "preventPodSchedulingIfMissing";
        if !context.enabled(LIMITS) && !old.at("spec").has(field) {
            new.child("spec").unset(field);
        }
        objectmeta::generation_by_spec(new, old);
    },
    validate: |obj, context| {
        let mut errors = objectmeta::validate(obj, false, names::subdomain_name);
        spec(obj.at("spec"), context, &mut errors);
        errors
    },
    validate_update: |new, old, context| {
        let mut errors = objectmeta::validate_update(new, old);
        let (now, before) = (new.at("spec"), old.at("spec"));
        spec(now, context, &mut errors);
        for (field, shown) in
            [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            errors.immutable(&Path::new("spec").child(shown), now.at(field), before.at(field));
        }
        errors
    },
    warnings,
    unconditional_update: false,
    columns: Some(Columns { definitions: DEFINITIONS, cells, conditions: no_conditions }),
    ..Strategy::BASE
};

const DEFINITIONS: &[Column] = &[
    ("Name", "string", "name", 0, NAME),
    (
        "AttachRequired",
        "boolean",
        "",
        0,
        "attachRequired indicates this CSI volume driver requires an attach operation (because it implements the CSI ControllerPublishVolume() method), and that the Kubernetes attach detach controller should call the attach volume interface which checks the volumeattachment status and waits until the volume is attached before proceeding to mounting. The CSI external-attacher coordinates with CSI volume driver and updates the volumeattachment status when the attach operation is complete. If the value is specified to false, the attach operation will be skipped. Otherwise the attach operation will be called.\n\nThis field is immutable.",
    ),
    (
        "PodInfoOnMount",
        "boolean",
        "",
        0,
        "podInfoOnMount indicates this CSI volume driver requires additional pod information (like podName, podUID, etc.) during mount operations, if set to true. If set to false, pod information will not be passed on mount. Default is false.\n\nThe CSI driver specifies podInfoOnMount as part of driver deployment. If true, Kubelet will pass pod information as VolumeContext in the CSI NodePublishVolume() calls. The CSI driver is responsible for parsing and validating the information passed in as VolumeContext.\n\nThe following VolumeContext will be passed if podInfoOnMount is set to true. This list might grow, but the prefix will be used. \"csi.storage.k8s.io/pod.name\": pod.Name \"csi.storage.k8s.io/pod.namespace\": pod.Namespace \"csi.storage.k8s.io/pod.uid\": string(pod.UID) \"csi.storage.k8s.io/ephemeral\": \"true\" if the volume is an ephemeral inline volume\n                                defined by a CSIVolumeSource, otherwise \"false\"\n\n\"csi.storage.k8s.io/ephemeral\" is a new feature in Kubernetes 1.16. It is only required for drivers which support both the \"Persistent\" and \"Ephemeral\" VolumeLifecycleMode. Other drivers can leave pod info disabled and/or ignore this field. As Kubernetes 1.15 doesn't support this field, drivers can only support one mode when deployed on such a cluster and the deployment determines which mode that is, for example via a command line parameter of the driver.\n\nThis field was immutable in Kubernetes < 1.29 and now is mutable.",
    ),
    (
        "StorageCapacity",
        "boolean",
        "",
        0,
        "storageCapacity indicates that the CSI volume driver wants pod scheduling to consider the storage capacity that the driver deployment will report by creating CSIStorageCapacity objects with capacity information, if set to true.\n\nThe check can be enabled immediately when deploying a driver. In that case, provisioning new volumes with late binding will pause until the driver deployment has published some suitable CSIStorageCapacity object.\n\nAlternatively, the driver can be deployed with the field unset or false and it can be flipped later when storage capacity information has been published.\n\nThis field was immutable in Kubernetes <= 1.22 and now is mutable.",
    ),
    (
        "TokenRequests",
        "string",
        "",
        0,
        "tokenRequests indicates the CSI driver needs pods' service account tokens it is mounting volume for to do necessary authentication. Kubelet will pass the tokens in VolumeContext in the CSI NodePublishVolume calls. The CSI driver should parse and validate the following VolumeContext: \"csi.storage.k8s.io/serviceAccount.tokens\": {\n  \"<audience>\": {\n    \"token\": <token>,\n    \"expirationTimestamp\": <expiration timestamp in RFC3339>,\n  },\n  ...\n}\n\nNote: Audience in each TokenRequest should be different and at most one token is empty string. To receive a new token after expiry, RequiresRepublish can be used to trigger NodePublishVolume periodically.",
    ),
    (
        "RequiresRepublish",
        "boolean",
        "",
        0,
        "requiresRepublish indicates the CSI driver wants `NodePublishVolume` being periodically called to reflect any possible change in the mounted volume. This field defaults to false.\n\nNote: After a successful initial NodePublishVolume call, subsequent calls to NodePublishVolume should only update the contents of the volume. New mount points will not be seen by a running container.",
    ),
    (
        "Modes",
        "string",
        "",
        0,
        "volumeLifecycleModes defines what kind of volumes this CSI volume driver supports. The default if the list is empty is \"Persistent\", which is the usage defined by the CSI specification and implemented in Kubernetes via the usual PV/PVC mechanism.\n\nThe other mode is \"Ephemeral\". In this mode, volumes are defined inline inside the pod spec with CSIVolumeSource and their lifecycle is tied to the lifecycle of that pod. A driver has to be aware of this because it is only going to get a NodePublishVolume call for such a volume.\n\nFor more information about implementing this mode, see https://kubernetes-csi.github.io/docs/ephemeral-local-volumes.html A driver can support one or more of these modes and more modes may be added in the future.\n\nThis field is beta. This field is immutable.",
    ),
    ("Age", "string", "", 0, CREATED),
];

fn default(obj: &mut Value, context: &Context) {
    let spec = obj.child("spec");
    spec.set_default("attachRequired", true);
    for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        spec.set_default(field, false);
    }
    spec.set_default("fsGroupPolicy", "ReadWriteOnceWithFSType");
    if spec.list("volumeLifecycleModes").is_empty() {
        spec.set("volumeLifecycleModes", vec!["Persistent"]);
    }
    if context.enabled(LIMITS) {
        spec.set_default("preventPodSchedulingIfMissing", false);
    }
}

fn spec(spec: &Value, context: &Context, errors: &mut ErrorList) {
    let at = Path::new("spec");
    for (field, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.has(field) {
            errors.required(&at.child(shown), "");
        }
    }
    if let Some(policy) = spec.at("fsGroupPolicy").as_str() {
        let known = ["File", "None", "ReadWriteOnceWithFSType"];
        errors.one_of(&at.child("fsGroupPolicy"), policy, &known);
    }
    token_requests(spec.list("tokenRequests"), &at.child("tokenRequests"), errors);
    for mode in spec.list("volumeLifecycleModes").iter().filter_map(Value::as_str) {
        errors.one_of(&at.child("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
    }
    if !spec.has("seLinuxMount") {
        errors.required(&at.child("seLinuxMount"), "");
    }
    let field = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(period) = spec.int(field).filter(|p| *p < 10) {
        errors.invalid(&at.child(field), period, "must be greater than or equal to 10 seconds");
    }
    let field = "serviceAccountTokenInSecrets";
    if spec.has(field) && spec.list("tokenRequests").is_empty() {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&at.child(field), spec.at(field).clone(), detail);
    }
    let field = "preventPodSchedulingIfMissing";
    if context.enabled(LIMITS) && !spec.has(field) {
        errors.required(&at.child(field), "");
    }
}

fn token_requests(requests: &[Value], at: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, request) in requests.iter().enumerate() {
        let at = at.index(i);
        let audience = request.text("audience");
        if seen.contains(&audience) {
            errors.duplicate(&at.child("audience"), audience);
            continue;
        }
        seen.push(audience);
        let Some(seconds) = request.int("expirationSeconds") else { continue };
        let at = at.child("expirationSeconds");
        if seconds < 600 {
            errors.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > 1 << 32 {
            errors.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

fn warnings(new: &Value, old: Option<&Value>, _: &Context) -> Vec<String> {
    let spec = new.at("spec");
    let known = old.is_some_and(|old| same(old.at("spec").at("tokenRequests"), spec.at("tokenRequests")));
    if known || spec.list("tokenRequests").is_empty() || spec.has("serviceAccountTokenInSecrets") {
        return Vec::new();
    }
    vec!["spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".into()]
}

fn cells(driver: &Value, now: Timestamp) -> Vec<Value> {
    let spec = driver.at("spec");
    let flag = |field: &str, unset: bool| Value::from(spec.flag(field).unwrap_or(unset));
    let modes: Vec<&str> = spec.list("volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    let audiences: Vec<&str> = spec.list("tokenRequests").iter().map(|r| r.text("audience")).collect();
    vec![
        name(driver),
        flag("attachRequired", true),
        flag("podInfoOnMount", false),
        flag("storageCapacity", false),
        if spec.has("tokenRequests") { audiences.join(",").into() } else { "<unset>".into() },
        flag("requiresRepublish", false),
        or_none(&modes.join(",")),
        age(driver, now),
    ]
}
