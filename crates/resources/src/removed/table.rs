//! Every removed resource. Numbers are those of upstream's `APILifecycleDeprecated` and `APILifecycleRemoved`.

use super::steps::Step;
use super::{Removed, autoscaling, crd, ingress, misc, workloads};

const SAME: &[Step] = &[];

/// (group/version now, of old), then a row for each resource.
macro_rules! removed {
    ($($group:literal $version:literal => $now_group:literal $now_version:literal
        { $($resource:literal $kind:literal $deprecated:literal $gone:literal $steps:expr;)+ })+) => {
        &[$($(Removed {
            group: $group,
            version: $version,
            resource: $resource,
            kind: $kind,
            now: ($now_group, $now_version),
            deprecated: $deprecated,
            gone: $gone,
            steps: $steps,
        },)+)+]
    };
}

/// In the order of discovery.
pub static TABLE: &[Removed] = removed! {
    "extensions" "v1beta1" => "apps" "v1" {
        "daemonsets" "DaemonSet" 8 16 workloads::DAEMON_SET_EXTENSIONS;
        "deployments" "Deployment" 8 16 workloads::DEPLOYMENT_EXTENSIONS;
        "replicasets" "ReplicaSet" 8 16 workloads::REPLICA_SET_EXTENSIONS;
    }
    "extensions" "v1beta1" => "networking.k8s.io" "v1" {
        "ingresses" "Ingress" 14 22 ingress::INGRESS;
        "networkpolicies" "NetworkPolicy" 9 16 misc::NETWORK_POLICY;
    }
    "apps" "v1beta2" => "apps" "v1" {
        "controllerrevisions" "ControllerRevision" 9 16 SAME;
        "daemonsets" "DaemonSet" 9 16 SAME;
        "deployments" "Deployment" 9 16 workloads::DEPLOYMENT_APPS_BETA2;
        "replicasets" "ReplicaSet" 9 16 SAME;
        "statefulsets" "StatefulSet" 9 16 SAME;
    }
    "apps" "v1beta1" => "apps" "v1" {
        "controllerrevisions" "ControllerRevision" 8 16 SAME;
        "deployments" "Deployment" 8 16 workloads::DEPLOYMENT_APPS_BETA1;
        "statefulsets" "StatefulSet" 8 16 workloads::STATEFUL_SET_APPS_BETA1;
    }
    "events.k8s.io" "v1beta1" => "events.k8s.io" "v1" {
        "events" "Event" 22 25 SAME;
    }
    "authentication.k8s.io" "v1beta1" => "authentication.k8s.io" "v1" {
        "selfsubjectreviews" "SelfSubjectReview" 30 33 SAME;
        "tokenreviews" "TokenReview" 19 22 SAME;
    }
    "authorization.k8s.io" "v1beta1" => "authorization.k8s.io" "v1" {
        "localsubjectaccessreviews" "LocalSubjectAccessReview" 19 22 misc::ACCESS_REVIEW;
        "selfsubjectaccessreviews" "SelfSubjectAccessReview" 19 22 SAME;
        "selfsubjectrulesreviews" "SelfSubjectRulesReview" 19 22 SAME;
        "subjectaccessreviews" "SubjectAccessReview" 19 22 misc::ACCESS_REVIEW;
    }
    "autoscaling" "v2beta2" => "autoscaling" "v2" {
        "horizontalpodautoscalers" "HorizontalPodAutoscaler" 23 26 SAME;
    }
    "autoscaling" "v2beta1" => "autoscaling" "v2" {
        "horizontalpodautoscalers" "HorizontalPodAutoscaler" 22 25 autoscaling::V2BETA1;
    }
    "batch" "v1beta1" => "batch" "v1" {
        "cronjobs" "CronJob" 21 25 misc::CRON_JOB;
    }
    "batch" "v2alpha1" => "batch" "v1" {
        "cronjobs" "CronJob" 8 21 misc::CRON_JOB;
    }
    "certificates.k8s.io" "v1beta1" => "certificates.k8s.io" "v1" {
        "certificatesigningrequests" "CertificateSigningRequest" 19 22 misc::CSR;
    }
    "networking.k8s.io" "v1beta1" => "networking.k8s.io" "v1" {
        "ingressclasses" "IngressClass" 19 22 SAME;
        "ingresses" "Ingress" 19 22 ingress::INGRESS;
    }
    "policy" "v1beta1" => "policy" "v1" {
        "poddisruptionbudgets" "PodDisruptionBudget" 21 25 misc::PDB;
    }
    "rbac.authorization.k8s.io" "v1beta1" => "rbac.authorization.k8s.io" "v1" {
        "clusterrolebindings" "ClusterRoleBinding" 17 22 SAME;
        "clusterroles" "ClusterRole" 17 22 SAME;
        "rolebindings" "RoleBinding" 17 22 SAME;
        "roles" "Role" 17 22 SAME;
    }
    "rbac.authorization.k8s.io" "v1alpha1" => "rbac.authorization.k8s.io" "v1" {
        "clusterrolebindings" "ClusterRoleBinding" 17 22 misc::BINDING_ALPHA;
        "clusterroles" "ClusterRole" 17 22 SAME;
        "rolebindings" "RoleBinding" 17 22 misc::BINDING_ALPHA;
        "roles" "Role" 17 22 SAME;
    }
    "storage.k8s.io" "v1beta1" => "storage.k8s.io" "v1" {
        "csidrivers" "CSIDriver" 19 22 SAME;
        "csinodes" "CSINode" 17 22 SAME;
        "csistoragecapacities" "CSIStorageCapacity" 24 27 SAME;
        "storageclasses" "StorageClass" 19 22 SAME;
        "volumeattachments" "VolumeAttachment" 19 22 SAME;
    }
    "storage.k8s.io" "v1alpha1" => "storage.k8s.io" "v1" {
        "csistoragecapacities" "CSIStorageCapacity" 21 24 SAME;
        "volumeattachments" "VolumeAttachment" 21 24 SAME;
        "volumeattributesclasses" "VolumeAttributesClass" 32 35 SAME;
    }
    "apiextensions.k8s.io" "v1beta1" => "apiextensions.k8s.io" "v1" {
        "customresourcedefinitions" "CustomResourceDefinition" 16 22 crd::CRD;
    }
    "admissionregistration.k8s.io" "v1beta1" => "admissionregistration.k8s.io" "v1" {
        "mutatingwebhookconfigurations" "MutatingWebhookConfiguration" 16 22 misc::WEBHOOKS;
        "validatingadmissionpolicies" "ValidatingAdmissionPolicy" 31 34 SAME;
        "validatingadmissionpolicybindings" "ValidatingAdmissionPolicyBinding" 31 34 SAME;
        "validatingwebhookconfigurations" "ValidatingWebhookConfiguration" 16 22 misc::WEBHOOKS;
    }
    "scheduling.k8s.io" "v1beta1" => "scheduling.k8s.io" "v1" {
        "priorityclasses" "PriorityClass" 14 22 SAME;
    }
    "scheduling.k8s.io" "v1alpha1" => "scheduling.k8s.io" "v1" {
        "priorityclasses" "PriorityClass" 14 22 SAME;
    }
    "coordination.k8s.io" "v1beta1" => "coordination.k8s.io" "v1" {
        "leases" "Lease" 19 22 SAME;
    }
    "node.k8s.io" "v1beta1" => "node.k8s.io" "v1" {
        "runtimeclasses" "RuntimeClass" 22 25 SAME;
    }
    "node.k8s.io" "v1alpha1" => "node.k8s.io" "v1" {
        "runtimeclasses" "RuntimeClass" 20 24 misc::RUNTIME_CLASS_ALPHA;
    }
    "discovery.k8s.io" "v1beta1" => "discovery.k8s.io" "v1" {
        "endpointslices" "EndpointSlice" 21 25 misc::ENDPOINT_SLICE;
    }
    "flowcontrol.apiserver.k8s.io" "v1beta3" => "flowcontrol.apiserver.k8s.io" "v1" {
        "flowschemas" "FlowSchema" 29 32 SAME;
        "prioritylevelconfigurations" "PriorityLevelConfiguration" 29 32 SAME;
    }
    "flowcontrol.apiserver.k8s.io" "v1beta2" => "flowcontrol.apiserver.k8s.io" "v1" {
        "flowschemas" "FlowSchema" 26 29 SAME;
        "prioritylevelconfigurations" "PriorityLevelConfiguration" 26 29 misc::PRIORITY_LEVEL;
    }
    "flowcontrol.apiserver.k8s.io" "v1beta1" => "flowcontrol.apiserver.k8s.io" "v1" {
        "flowschemas" "FlowSchema" 23 26 SAME;
        "prioritylevelconfigurations" "PriorityLevelConfiguration" 23 26 misc::PRIORITY_LEVEL;
    }
};
