# SPDX-License-Identifier: Apache-2.0
"""The defaults that the API server writes into objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshbox.api.defaults_pod import TokenSecret, default_pod, default_pod_spec
from meshbox.contracts import Obj
from meshbox.settings import SandboxSettings

__all__ = ["TokenSecret", "apply_defaults"]

_RBAC = "rbac.authorization.k8s.io"
Default = Callable[[Obj, SandboxSettings], None]


def apply_defaults(resource: str, obj: Obj, settings: SandboxSettings, token_secret: TokenSecret | None = None) -> None:
    """Fill in, in place, what a client may leave out; values of a wrong type are left as they are.

    Args:
        resource: kubectl's name of the resource, e.g. "deployments.apps".
        obj: The object in the preferred version; without `metadata.resourceVersion` it is taken for a new one.
        settings: The sandbox's settings; its Kubernetes version decides which fields exist.
        token_secret: For new pods of a legacy sandbox: how to find the Secret with their account's token.
    """
    if resource == "pods":
        default_pod(obj, settings, token_secret)
    elif resource in _DEFAULTS:
        _DEFAULTS[resource](obj, settings)


def _part(obj: Any, name: str) -> Obj:
    """The object below `name`; a new one there where it is absent, one apart where it is no object."""
    if not isinstance(obj, dict):
        return {}
    if obj.get(name) is None:
        obj[name] = {}
    found = obj[name]
    return found if isinstance(found, dict) else {}


def _parts(obj: Any, name: str) -> list[Obj]:
    found = obj.get(name) if isinstance(obj, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _fill(obj: Obj, **values: Any) -> None:
    for name, value in values.items():
        if obj.get(name) is None:
            obj[name] = value


def _template(spec: Obj) -> Obj:
    template = _part(spec, "template")
    default_pod_spec(_part(template, "spec"))
    return template


def _workload(obj: Obj) -> Obj:
    spec = _part(obj, "spec")
    _template(spec)
    return spec


def _deployment(obj: Obj, _settings: SandboxSettings) -> None:
    spec = _workload(obj)
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = _part(spec, "strategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        _fill(_part(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")


def _replica_set(obj: Obj, _settings: SandboxSettings) -> None:
    _fill(_workload(obj), replicas=1)


def _daemon_set(obj: Obj, settings: SandboxSettings) -> None:
    spec = _workload(obj)
    _fill(spec, revisionHistoryLimit=10)
    strategy = _part(spec, "updateStrategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = _part(strategy, "rollingUpdate")
        _fill(rolling, maxUnavailable=1)
        if not settings.legacy:
            _fill(rolling, maxSurge=0)


def _stateful_set(obj: Obj, settings: SandboxSettings) -> None:
    spec = _workload(obj)
    _fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    strategy = _part(spec, "updateStrategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        _part(strategy, "rollingUpdate")
    if strategy["type"] == "RollingUpdate" and isinstance(strategy.get("rollingUpdate"), dict):
        _fill(strategy["rollingUpdate"], partition=0)
    if not settings.legacy:
        _fill(_part(spec, "persistentVolumeClaimRetentionPolicy"), whenDeleted="Retain", whenScaled="Retain")
    for claim in _parts(spec, "volumeClaimTemplates"):
        _fill(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        _claim(claim, settings)
        _fill(_part(claim, "status"), phase="Pending")


def _replication_controller(obj: Obj, _settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    labels = _part(_template(spec), "metadata").get("labels")
    if isinstance(labels, dict) and labels:
        _fill(spec, selector=dict(labels))
        _fill(obj["metadata"], labels=dict(labels))
    _fill(spec, replicas=1)


def _pod_template(obj: Obj, _settings: SandboxSettings) -> None:
    default_pod_spec(_part(_part(obj, "template"), "spec"))


def _job(obj: Obj, settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    _template(spec)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    # Where each index has a limit of its own, the one for all is as good as none.
    _fill(spec, parallelism=1, backoffLimit=6 if spec.get("backoffLimitPerIndex") is None else 2**31 - 1)
    if not settings.legacy:
        _fill(spec, completionMode="NonIndexed", suspend=False, podReplacementPolicy="TerminatingOrFailed")
        if spec.get("podFailurePolicy") is not None:
            spec["podReplacementPolicy"] = "Failed"
        _fill(spec, manualSelector=False)


def _cron_job(obj: Obj, _settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    _fill(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    _template(_part(_part(spec, "jobTemplate"), "spec"))


def _service(obj: Obj, settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    if spec["sessionAffinity"] == "ClientIP":
        _fill(_part(_part(spec, "sessionAffinityConfig"), "clientIP"), timeoutSeconds=10800)
    for port in _parts(spec, "ports"):
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if port.get("targetPort") in (None, 0, "") and port.get("port"):
            port["targetPort"] = port["port"]
    if spec["type"] in ("NodePort", "LoadBalancer") and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if settings.legacy or spec["type"] == "ExternalName":
        return
    _fill(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    if spec["type"] == "LoadBalancer":
        _fill(spec, allocateLoadBalancerNodePorts=True)


def _autoscaler(obj: Obj, _settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    _fill(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if isinstance(behavior, dict):
        percent = {"type": "Percent", "value": 100, "periodSeconds": 15}
        pods = {"type": "Pods", "value": 4, "periodSeconds": 15}
        up, down = _part(behavior, "scaleUp"), _part(behavior, "scaleDown")
        _fill(up, stabilizationWindowSeconds=0, selectPolicy="Max", policies=[pods, dict(percent)])
        _fill(down, selectPolicy="Max", policies=[dict(percent)])


def _budget(obj: Obj, settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    if settings.legacy and spec.get("minAvailable") is None and spec.get("maxUnavailable") is None:
        spec["minAvailable"] = 1


def _secret(obj: Obj, _settings: SandboxSettings) -> None:
    if not obj.get("type"):
        obj["type"] = "Opaque"


def _claim(obj: Obj, _settings: SandboxSettings) -> None:
    _fill(_part(obj, "spec"), volumeMode="Filesystem")


def _volume(obj: Obj, _settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    _fill(spec, persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")
    if isinstance(spec.get("hostPath"), dict):
        _fill(spec["hostPath"], type="")


def _webhooks(obj: Obj, settings: SandboxSettings) -> None:
    mutating = obj.get("kind") == "MutatingWebhookConfiguration"
    for hook in _parts(obj, "webhooks"):
        _fill(hook, namespaceSelector={})
        for rule in _parts(hook, "rules"):
            _fill(rule, scope="*")
        if settings.legacy:
            _fill(hook, failurePolicy="Ignore", timeoutSeconds=30, sideEffects="Unknown")
            _fill(hook, admissionReviewVersions=["v1beta1"])
            continue
        _fill(hook, objectSelector={}, failurePolicy="Fail", matchPolicy="Equivalent", timeoutSeconds=10)
        if mutating:
            _fill(hook, reinvocationPolicy="Never")
        service = _part(hook, "clientConfig").get("service")
        if isinstance(service, dict):
            _fill(service, port=443)


def _definition(obj: Obj, settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    names = _part(spec, "names")
    kind = names.get("kind")
    if isinstance(kind, str) and kind:
        if not names.get("singular"):
            names["singular"] = kind.lower()
        if not names.get("listKind"):
            names["listKind"] = f"{kind}List"
    _fill(spec, conversion={"strategy": "None"})
    if settings.legacy and not spec.get("scope"):
        spec["scope"] = "Namespaced"


def _network_policy(obj: Obj, _settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for direction in ("ingress", "egress"):
        for rule in _parts(spec, direction):
            for port in _parts(rule, "ports"):
                _fill(port, protocol="TCP")


def _binding(obj: Obj, _settings: SandboxSettings) -> None:
    reference = _part(obj, "roleRef")
    if not reference.get("apiGroup"):
        reference["apiGroup"] = _RBAC
    for subject in _parts(obj, "subjects"):
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = _RBAC


def _storage_class(obj: Obj, _settings: SandboxSettings) -> None:
    _fill(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _priority(obj: Obj, settings: SandboxSettings) -> None:
    if not settings.legacy:
        _fill(obj, preemptionPolicy="PreemptLowerPriority")


def _endpoints(obj: Obj, _settings: SandboxSettings) -> None:
    for subset in _parts(obj, "subsets"):
        for port in _parts(subset, "ports"):
            _fill(port, protocol="TCP")


def _endpoint_slice(obj: Obj, _settings: SandboxSettings) -> None:
    for port in _parts(obj, "ports"):
        _fill(port, name="", protocol="TCP")


def _matched(resources: Any) -> None:
    """What an admission policy or its binding matches."""
    if isinstance(resources, dict):
        _fill(resources, namespaceSelector={}, objectSelector={}, matchPolicy="Equivalent")
        for rule in (*_parts(resources, "resourceRules"), *_parts(resources, "excludeResourceRules")):
            _fill(rule, scope="*")


def _admission_policy(obj: Obj, _settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    _fill(spec, failurePolicy="Fail")
    _matched(spec.get("matchConstraints"))


def _policy_binding(obj: Obj, _settings: SandboxSettings) -> None:
    _matched(_part(obj, "spec").get("matchResources"))


def _ingress_class(obj: Obj, _settings: SandboxSettings) -> None:
    parameters = _part(obj, "spec").get("parameters")
    if isinstance(parameters, dict):
        _fill(parameters, scope="Cluster")


def _limit_range(obj: Obj, _settings: SandboxSettings) -> None:
    for item in _parts(_part(obj, "spec"), "limits"):
        if item.get("type") == "Container":
            most, least, usual = (item.get(name) or {} for name in ("max", "min", "default"))
            usual = {**most, **usual}
            item["default"], item["defaultRequest"] = usual, {**least, **usual, **(item.get("defaultRequest") or {})}


def _node(obj: Obj, _settings: SandboxSettings) -> None:
    spec = _part(obj, "spec")
    if spec.get("podCIDR"):
        _fill(spec, podCIDRs=[spec["podCIDR"]])


def _runtime_class(obj: Obj, _settings: SandboxSettings) -> None:
    if isinstance(obj.get("scheduling"), dict):
        for toleration in _parts(obj["scheduling"], "tolerations"):
            _fill(toleration, operator="Equal")


def _api_service(obj: Obj, _settings: SandboxSettings) -> None:
    service = _part(obj, "spec").get("service")
    if isinstance(service, dict):
        _fill(service, port=443)


_DEFAULTS: dict[str, Default] = {
    "apiservices.apiregistration.k8s.io": _api_service,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    "cronjobs.batch": _cron_job,
    "customresourcedefinitions.apiextensions.k8s.io": _definition,
    "daemonsets.apps": _daemon_set,
    "deployments.apps": _deployment,
    "endpoints": _endpoints,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "ingressclasses.networking.k8s.io": _ingress_class,
    "jobs.batch": _job,
    "limitranges": _limit_range,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "networkpolicies.networking.k8s.io": _network_policy,
    "nodes": _node,
    "persistentvolumeclaims": _claim,
    "persistentvolumes": _volume,
    "poddisruptionbudgets.policy": _budget,
    "podtemplates": _pod_template,
    "priorityclasses.scheduling.k8s.io": _priority,
    "replicasets.apps": _replica_set,
    "replicationcontrollers": _replication_controller,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "runtimeclasses.node.k8s.io": _runtime_class,
    "secrets": _secret,
    "services": _service,
    "statefulsets.apps": _stateful_set,
    "storageclasses.storage.k8s.io": _storage_class,
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": _policy_binding,
    "validatingadmissionpolicies.admissionregistration.k8s.io": _admission_policy,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
}
