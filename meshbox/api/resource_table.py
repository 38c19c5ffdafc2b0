# SPDX-License-Identifier: Apache-2.0
"""The built-in resources as a table: names, groups and versions are facts of the Kubernetes API."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BUILTIN", "EXTENSIONS", "Row"]


class Row(NamedTuple):
    """One built-in resource.

    `versions` are served by a current Kubernetes, the first of them being the hub; `legacy` by Kubernetes 1.14,
    preferred first (the same where empty; None: not served there).
    """

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    short: tuple[str, ...] = ()
    sub: tuple[str, ...] = ()
    namespaced: bool = True
    all: bool = False
    generation: bool = False
    legacy: tuple[str, ...] | None = ()
    review: bool = False
    computed: bool = False


_V1 = ("v1",)
_BETA = ("v1", "v1beta1")
_APPS = ("v1", "v1beta2", "v1beta1")
_SCALE = ("status", "scale")
_POD_SUB = (
    "status", "log", "exec", "attach", "portforward", "eviction", "binding", "proxy",
    "ephemeralcontainers", "resize",
)  # fmt: skip

_ADMISSION = "admissionregistration.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
_NET = "networking.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_FLOW, _CLAIMS, _STORAGE = "flowcontrol.apiserver.k8s.io", "resource.k8s.io", "storage.k8s.io"

BUILTIN: tuple[Row, ...] = (
    Row("", _V1, "bindings", "Binding", review=True),
    Row("", _V1, "componentstatuses", "ComponentStatus", ("cs",), namespaced=False, computed=True),
    Row("", _V1, "configmaps", "ConfigMap", ("cm",)),
    Row("", _V1, "endpoints", "Endpoints", ("ep",)),
    Row("", _V1, "events", "Event", ("ev",)),
    Row("", _V1, "limitranges", "LimitRange", ("limits",)),
    Row("", _V1, "namespaces", "Namespace", ("ns",), ("status", "finalize"), namespaced=False),
    Row("", _V1, "nodes", "Node", ("no",), ("status", "proxy"), namespaced=False),
    Row("", _V1, "persistentvolumeclaims", "PersistentVolumeClaim", ("pvc",), ("status",)),
    Row("", _V1, "persistentvolumes", "PersistentVolume", ("pv",), ("status",), namespaced=False),
    Row("", _V1, "pods", "Pod", ("po",), _POD_SUB, all=True, generation=True),
    Row("", _V1, "podtemplates", "PodTemplate"),
    Row("", _V1, "replicationcontrollers", "ReplicationController", ("rc",), _SCALE, all=True, generation=True),
    Row("", _V1, "resourcequotas", "ResourceQuota", ("quota",), ("status",)),
    Row("", _V1, "secrets", "Secret"),
    Row("", _V1, "serviceaccounts", "ServiceAccount", ("sa",), ("token",)),
    Row("", _V1, "services", "Service", ("svc",), ("status", "proxy"), all=True),
    Row(
        "apiregistration.k8s.io",
        _V1,
        "apiservices",
        "APIService",
        sub=("status",),
        namespaced=False,
        legacy=_BETA,
        computed=True,
    ),
    Row("apps", _V1, "controllerrevisions", "ControllerRevision", legacy=_APPS),
    Row("apps", _V1, "daemonsets", "DaemonSet", ("ds",), ("status",), all=True, generation=True, legacy=_APPS[:2]),
    Row("apps", _V1, "deployments", "Deployment", ("deploy",), _SCALE, all=True, generation=True, legacy=_APPS),
    Row("apps", _V1, "replicasets", "ReplicaSet", ("rs",), _SCALE, all=True, generation=True, legacy=_APPS[:2]),
    Row("apps", _V1, "statefulsets", "StatefulSet", ("sts",), _SCALE, all=True, generation=True, legacy=_APPS),
    Row("batch", _V1, "jobs", "Job", (), ("status",), all=True, generation=True),
    Row("batch", _V1, "cronjobs", "CronJob", ("cj",), ("status",), all=True, generation=True, legacy=_BETA),
    Row(
        "autoscaling",
        ("v2", "v1"),
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        ("hpa",),
        ("status",),
        all=True,
        legacy=("v1", "v2beta1", "v2beta2", "v2"),
    ),
    Row(
        "policy",
        _V1,
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        ("pdb",),
        ("status",),
        generation=True,
        legacy=("v1beta1", "v1"),
    ),
    Row(_NET, _V1, "networkpolicies", "NetworkPolicy", ("netpol",), generation=True),
    Row(_NET, _V1, "ingresses", "Ingress", ("ing",), ("status",), generation=True, legacy=_BETA),
    Row(_NET, _V1, "ingressclasses", "IngressClass", namespaced=False, generation=True),
    Row(_RBAC, _V1, "clusterroles", "ClusterRole", namespaced=False, legacy=_BETA),
    Row(_RBAC, _V1, "clusterrolebindings", "ClusterRoleBinding", namespaced=False, legacy=_BETA),
    Row(_RBAC, _V1, "roles", "Role", legacy=_BETA),
    Row(_RBAC, _V1, "rolebindings", "RoleBinding", legacy=_BETA),
    Row("storage.k8s.io", _V1, "storageclasses", "StorageClass", ("sc",), namespaced=False, legacy=_BETA),
    Row(
        _ADMISSION,
        _V1,
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        namespaced=False,
        generation=True,
        legacy=("v1beta1", "v1"),
    ),
    Row(
        _ADMISSION,
        _V1,
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        namespaced=False,
        generation=True,
        legacy=("v1beta1", "v1"),
    ),
    Row(
        _ADMISSION,
        _V1,
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        (),
        ("status",),
        namespaced=False,
        generation=True,
        legacy=None,
    ),
    Row(
        _ADMISSION,
        _V1,
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        namespaced=False,
        generation=True,
        legacy=None,
    ),
    Row(
        "apiextensions.k8s.io",
        _V1,
        "customresourcedefinitions",
        "CustomResourceDefinition",
        ("crd", "crds"),
        ("status",),
        namespaced=False,
        generation=True,
        legacy=("v1beta1", "v1"),
    ),
    Row("coordination.k8s.io", _V1, "leases", "Lease", legacy=_BETA),
    Row("discovery.k8s.io", _V1, "endpointslices", "EndpointSlice", generation=True),
    Row(
        "scheduling.k8s.io",
        _V1,
        "priorityclasses",
        "PriorityClass",
        ("pc",),
        namespaced=False,
        generation=True,
        legacy=_BETA,
    ),
    Row("node.k8s.io", _V1, "runtimeclasses", "RuntimeClass", namespaced=False, legacy=("v1beta1",)),
    Row(
        "certificates.k8s.io",
        _V1,
        "certificatesigningrequests",
        "CertificateSigningRequest",
        ("csr",),
        ("approval", "status"),
        namespaced=False,
        legacy=("v1beta1",),
    ),
    *(
        Row(group, _V1, plural, kind, short, sub, namespaced=namespaced, generation=generation, legacy=None)
        for group, plural, kind, short, sub, namespaced, generation in (
            (_FLOW, "flowschemas", "FlowSchema", (), ("status",), False, True),
            (_FLOW, "prioritylevelconfigurations", "PriorityLevelConfiguration", (), ("status",), False, True),
            (_NET, "ipaddresses", "IPAddress", ("ip",), (), False, False),
            (_NET, "servicecidrs", "ServiceCIDR", (), ("status",), False, False),
            (_CLAIMS, "deviceclasses", "DeviceClass", (), (), False, True),
            (_CLAIMS, "resourceclaims", "ResourceClaim", (), ("status",), True, False),
            (_CLAIMS, "resourceclaimtemplates", "ResourceClaimTemplate", (), (), True, False),
            (_CLAIMS, "resourceslices", "ResourceSlice", (), (), False, True),
            (_STORAGE, "csidrivers", "CSIDriver", (), (), False, False),
            (_STORAGE, "csinodes", "CSINode", (), (), False, False),
            (_STORAGE, "csistoragecapacities", "CSIStorageCapacity", (), (), True, False),
            (_STORAGE, "volumeattachments", "VolumeAttachment", (), ("status",), False, False),
            (_STORAGE, "volumeattributesclasses", "VolumeAttributesClass", ("vac",), (), False, False),
        )
    ),
    Row("authentication.k8s.io", _V1, "tokenreviews", "TokenReview", namespaced=False, review=True),
    Row("authentication.k8s.io", _V1, "selfsubjectreviews", "SelfSubjectReview", namespaced=False, review=True),
    Row(
        "authorization.k8s.io",
        _V1,
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        namespaced=False,
        legacy=_BETA,
        review=True,
    ),
    Row(
        "authorization.k8s.io",
        _V1,
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        namespaced=False,
        legacy=_BETA,
        review=True,
    ),
    Row(
        "authorization.k8s.io",
        _V1,
        "subjectaccessreviews",
        "SubjectAccessReview",
        namespaced=False,
        legacy=_BETA,
        review=True,
    ),
    Row(
        "authorization.k8s.io",
        _V1,
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        legacy=_BETA,
        review=True,
    ),
)

EXTENSIONS: tuple[str, ...] = (
    "daemonsets.apps",
    "deployments.apps",
    "ingresses.networking.k8s.io",
    "networkpolicies.networking.k8s.io",
    "replicasets.apps",
)
"""What `extensions/v1beta1` serves besides, in Kubernetes 1.14."""
