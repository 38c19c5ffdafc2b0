# SPDX-License-Identifier: Apache-2.0
"""Kinds of the versions of Istio 1.2's time: which modern kind they are, and the fields that only they have."""

from __future__ import annotations

__all__ = ["ADDED_FIELDS", "ADDED_TYPES", "MODERN_KINDS"]


def _same(version: str, modern: str, kinds: str) -> dict[tuple[str, str], str]:
    return {(version, kind): f"{modern}/{kind}" for kind in kinds.split()}


MODERN_KINDS: dict[tuple[str, str], str] = {
    **_same("extensions/v1beta1", "apps/v1", "DaemonSet Deployment ReplicaSet"),
    **_same("extensions/v1beta1", "networking.k8s.io/v1", "Ingress NetworkPolicy"),
    **_same("apps/v1beta1", "apps/v1", "ControllerRevision Deployment StatefulSet"),
    **_same("apps/v1beta2", "apps/v1", "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet"),
    **_same("networking.k8s.io/v1beta1", "networking.k8s.io/v1", "Ingress IngressClass"),
    **_same("policy/v1beta1", "policy/v1", "Eviction PodDisruptionBudget"),
    **_same("batch/v1beta1", "batch/v1", "CronJob"),
    **_same("autoscaling/v2beta1", "autoscaling/v2", "HorizontalPodAutoscaler"),
    **_same("autoscaling/v2beta2", "autoscaling/v2", "HorizontalPodAutoscaler"),
    **_same(
        "rbac.authorization.k8s.io/v1beta1",
        "rbac.authorization.k8s.io/v1",
        "ClusterRole ClusterRoleBinding Role RoleBinding",
    ),
    **_same(
        "admissionregistration.k8s.io/v1beta1",
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration ValidatingWebhookConfiguration",
    ),
    **_same("apiextensions.k8s.io/v1beta1", "apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    **_same("apiregistration.k8s.io/v1beta1", "apiregistration.k8s.io/v1", "APIService"),
    **_same("authentication.k8s.io/v1beta1", "authentication.k8s.io/v1", "TokenReview"),
    **_same(
        "authorization.k8s.io/v1beta1",
        "authorization.k8s.io/v1",
        "LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview",
    ),
    **_same("certificates.k8s.io/v1beta1", "certificates.k8s.io/v1", "CertificateSigningRequest"),
    **_same("coordination.k8s.io/v1beta1", "coordination.k8s.io/v1", "Lease"),
    **_same("events.k8s.io/v1beta1", "events.k8s.io/v1", "Event"),
    **_same("scheduling.k8s.io/v1beta1", "scheduling.k8s.io/v1", "PriorityClass"),
    **_same("storage.k8s.io/v1beta1", "storage.k8s.io/v1", "CSIDriver CSINode StorageClass VolumeAttachment"),
    ("extensions/v1beta1", "PodSecurityPolicy"): "PodSecurityPolicy",
    ("policy/v1beta1", "PodSecurityPolicy"): "PodSecurityPolicy",
}
"""Kind of an old version → "group/version/Kind" of today, or the name of a type in `ADDED_TYPES`."""

_METRIC_AVERAGE = {"targetAverageUtilization": "int32", "targetAverageValue": "Quantity"}
_METRIC_VALUE = {"metricName": "string", "targetValue": "Quantity", "averageValue": "Quantity"}
_INGRESS_BACKEND = {"serviceName": "string", "servicePort": "IntOrString"}
_INGRESS = {"V1IngressSpec": {"backend": "V1IngressBackend"}, "V1IngressBackend": _INGRESS_BACKEND}
_TEMPLATE_GENERATION = {"templateGeneration": "int64"}

ADDED_FIELDS: dict[str, dict[str, dict[str, str]]] = {
    "extensions/v1beta1": {
        "V1DeploymentSpec": {"rollbackTo": "any"},
        "V1DaemonSetSpec": _TEMPLATE_GENERATION,
        **_INGRESS,
    },
    "apps/v1beta1": {"V1DeploymentSpec": {"rollbackTo": "any"}},
    "networking.k8s.io/v1beta1": _INGRESS,
    "autoscaling/v2beta1": {
        "V2ResourceMetricSource": _METRIC_AVERAGE,
        "V2ContainerResourceMetricSource": _METRIC_AVERAGE,
        "V2PodsMetricSource": {**_METRIC_VALUE, **_METRIC_AVERAGE, "selector": "V1LabelSelector"},
        "V2ObjectMetricSource": {**_METRIC_VALUE, "target": "any", "selector": "V1LabelSelector"},
        "V2ExternalMetricSource": {
            **_METRIC_VALUE,
            "targetAverageValue": "Quantity",
            "metricSelector": "V1LabelSelector",
        },
        "V2ResourceMetricStatus": {"currentAverageUtilization": "int32", "currentAverageValue": "Quantity"},
        "V2PodsMetricStatus": {
            "metricName": "string",
            "currentAverageValue": "Quantity",
            "selector": "V1LabelSelector",
        },
        "V2ObjectMetricStatus": {
            "metricName": "string",
            "currentValue": "Quantity",
            "averageValue": "Quantity",
            "target": "any",
            "selector": "V1LabelSelector",
        },
        "V2ExternalMetricStatus": {
            "metricName": "string",
            "metricSelector": "V1LabelSelector",
            "currentValue": "Quantity",
            "currentAverageValue": "Quantity",
        },
    },
    "apiextensions.k8s.io/v1beta1": {
        "V1CustomResourceDefinitionSpec": {
            "version": "string",
            "validation": "V1CustomResourceValidation",
            "subresources": "V1CustomResourceSubresources",
            "additionalPrinterColumns": "[]V1CustomResourceColumnDefinition",
        },
        "V1CustomResourceColumnDefinition": {"JSONPath": "string"},
        "V1CustomResourceConversion": {
            "webhookClientConfig": "ApiextensionsV1WebhookClientConfig",
            "conversionReviewVersions": "[]string",
        },
    },
}
"""Fields that a version has and today's does not: version → type → field → its type."""

ADDED_TYPES: dict[str, dict[str, str]] = {
    "PodSecurityPolicy": {"apiVersion": "string", "kind": "string", "metadata": "V1ObjectMeta", "spec": "any"},
    # The part of a custom resource that has a fixed type.
    "Metadata": {"metadata": "V1ObjectMeta"},
}
