# SPDX-License-Identifier: Apache-2.0
"""The defaults that the API server writes into objects."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from meshbox.api.defaults_admission import admission_policy, policy_binding, webhooks
from meshbox.api.defaults_pod import TokenSecret, default_pod, default_pod_spec, default_source
from meshbox.api.filling import fill, part, parts
from meshbox.api.gated import drop_gated
from meshbox.api.service_fields import is_reached
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
    if not settings.legacy:
        drop_gated(resource, obj)


def _template(spec: Obj, settings: SandboxSettings) -> Obj:
    template = part(spec, "template")
    default_pod_spec(part(template, "spec"), host_ports=settings.legacy)
    return template


def _workload(obj: Obj, settings: SandboxSettings) -> Obj:
    spec = part(obj, "spec")
    _template(spec, settings)
    return spec


def _labelled(obj: Obj, template: Obj) -> Any:
    """An object without labels has those of its pods, which are returned."""
    labels = part(template, "metadata").get("labels")
    if isinstance(labels, dict) and labels and not (part(obj, "metadata").get("labels")):
        obj["metadata"]["labels"] = dict(labels)
    return labels


def _deployment(obj: Obj, settings: SandboxSettings) -> None:
    spec = _workload(obj, settings)
    fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = part(spec, "strategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        fill(part(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")


def _replica_set(obj: Obj, settings: SandboxSettings) -> None:
    fill(_workload(obj, settings), replicas=1)


def _daemon_set(obj: Obj, settings: SandboxSettings) -> None:
    # Whoever writes the object has set it; what it is to be is counted later.
    fill(part(part(obj, "metadata"), "annotations"), **{"deprecated.daemonset.template.generation": "0"})
    spec = _workload(obj, settings)
    fill(spec, revisionHistoryLimit=10)
    strategy = part(spec, "updateStrategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = part(strategy, "rollingUpdate")
        fill(rolling, maxUnavailable=1)
        if not settings.legacy:
            fill(rolling, maxSurge=0)


def _stateful_set(obj: Obj, settings: SandboxSettings) -> None:
    spec = _workload(obj, settings)
    fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    strategy = part(spec, "updateStrategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        part(strategy, "rollingUpdate")
    if strategy["type"] == "RollingUpdate" and isinstance(strategy.get("rollingUpdate"), dict):
        fill(strategy["rollingUpdate"], partition=0)
    if not settings.legacy:
        fill(part(spec, "persistentVolumeClaimRetentionPolicy"), whenDeleted="Retain", whenScaled="Retain")
    for claim in parts(spec, "volumeClaimTemplates"):
        fill(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        fill(part(claim, "spec"), volumeMode="Filesystem")
        fill(part(claim, "status"), phase="Pending")


def _replication_controller(obj: Obj, settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    if spec.get("template") is not None:
        labels = _labelled(obj, _template(spec, settings))
        if isinstance(labels, dict) and labels and not spec.get("selector"):
            spec["selector"] = dict(labels)
    fill(spec, replicas=1)


def _pod_template(obj: Obj, _settings: SandboxSettings) -> None:
    default_pod_spec(part(part(obj, "template"), "spec"))


def _job(obj: Obj, settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    template = _template(spec, settings)
    if spec.get("manualSelector"):
        # Otherwise with the labels by which it knows its pods, which are not there yet.
        _labelled(obj, template)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    # Where each index has a limit of its own, the one for all is as good as none.
    fill(spec, parallelism=1, backoffLimit=6 if spec.get("backoffLimitPerIndex") is None else 2**31 - 1)
    if not settings.legacy:
        given = spec.get("podReplacementPolicy")
        fill(spec, completionMode="NonIndexed", suspend=False, podReplacementPolicy="TerminatingOrFailed")
        if spec.get("podFailurePolicy") is not None:
            spec["podReplacementPolicy"] = given or "Failed"
            for rule in parts(spec["podFailurePolicy"], "rules"):
                for pattern in parts(rule, "onPodConditions"):
                    pattern["status"] = pattern.get("status") or "True"
        fill(spec, manualSelector=False)


def _cron_job(obj: Obj, settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    fill(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    _template(part(part(spec, "jobTemplate"), "spec"), settings)


def _service(obj: Obj, settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    if spec["sessionAffinity"] == "ClientIP":
        fill(part(part(spec, "sessionAffinityConfig"), "clientIP"), timeoutSeconds=10800)
    for port in parts(spec, "ports"):
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if port.get("targetPort") in (None, 0, "") and port.get("port"):
            port["targetPort"] = port["port"]
    if is_reached(spec) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if settings.legacy or spec["type"] == "ExternalName":
        return
    fill(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    if spec["type"] == "LoadBalancer":
        fill(spec, allocateLoadBalancerNodePorts=True)


def _autoscaler(obj: Obj, _settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    fill(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if isinstance(behavior, dict):
        percent = {"type": "Percent", "value": 100, "periodSeconds": 15}
        pods = {"type": "Pods", "value": 4, "periodSeconds": 15}
        up, down = part(behavior, "scaleUp"), part(behavior, "scaleDown")
        fill(up, stabilizationWindowSeconds=0, selectPolicy="Max", policies=[pods, dict(percent)])
        fill(down, selectPolicy="Max", policies=[dict(percent)])


def _budget(obj: Obj, settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    if settings.legacy and spec.get("minAvailable") is None and spec.get("maxUnavailable") is None:
        spec["minAvailable"] = 1


def _secret(obj: Obj, _settings: SandboxSettings) -> None:
    if not obj.get("type"):
        obj["type"] = "Opaque"
    plain = obj.get("stringData")
    if isinstance(plain, dict) and isinstance(obj.get("data") or {}, dict):
        # Never kept as it is, and not what its writer is said to have set.
        del obj["stringData"]
        given = {key: base64.b64encode(str(value).encode()).decode() for key, value in plain.items()}
        if given:
            obj["data"] = {**(obj.get("data") or {}), **given}


def _claim(obj: Obj, settings: SandboxSettings) -> None:
    fill(part(obj, "spec"), volumeMode="Filesystem")
    if not settings.legacy:
        _data_sources(obj["spec"])


def _data_sources(spec: Any) -> None:
    """The old field and the new one say the same; the old one holds a claim or a snapshot."""
    old, new = (spec.get(name) if isinstance(spec, dict) else None for name in ("dataSource", "dataSourceRef"))
    if isinstance(old, dict) and new is None:
        of = old.get("apiGroup") or "", old.get("kind")
        if of in (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")):
            spec["dataSourceRef"] = dict(old)
        else:
            del spec["dataSource"]
    elif isinstance(new, dict) and old is None and not new.get("namespace"):
        spec["dataSource"] = {name: new[name] for name in ("apiGroup", "kind", "name") if name in new}


def _volume(obj: Obj, _settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    fill(spec, persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")
    default_source(spec)


def _definition(obj: Obj, settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    names = part(spec, "names")
    kind = names.get("kind")
    if isinstance(kind, str) and kind:
        if not names.get("singular"):
            names["singular"] = kind.lower()
        if not names.get("listKind"):
            names["listKind"] = f"{kind}List"
    fill(spec, conversion={"strategy": "None"})
    webhook = part(spec, "conversion").get("webhook")
    client = webhook.get("clientConfig") if isinstance(webhook, dict) else None
    if isinstance(client, dict) and isinstance(client.get("service"), dict):
        fill(client["service"], port=443)
    if settings.legacy and not spec.get("scope"):
        spec["scope"] = "Namespaced"


def _network_policy(obj: Obj, _settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for direction in ("ingress", "egress"):
        for rule in parts(spec, direction):
            for port in parts(rule, "ports"):
                fill(port, protocol="TCP")


def _binding(obj: Obj, _settings: SandboxSettings) -> None:
    reference = part(obj, "roleRef")
    if not reference.get("apiGroup"):
        reference["apiGroup"] = _RBAC
    for subject in parts(obj, "subjects"):
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = _RBAC


def _storage_class(obj: Obj, _settings: SandboxSettings) -> None:
    fill(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _priority(obj: Obj, settings: SandboxSettings) -> None:
    if not settings.legacy:
        fill(obj, preemptionPolicy="PreemptLowerPriority")


def _endpoints(obj: Obj, _settings: SandboxSettings) -> None:
    for subset in parts(obj, "subsets"):
        for port in parts(subset, "ports"):
            fill(port, protocol="TCP")


def _endpoint_slice(obj: Obj, _settings: SandboxSettings) -> None:
    for port in parts(obj, "ports"):
        fill(port, name="", protocol="TCP")


def _ingress_class(obj: Obj, _settings: SandboxSettings) -> None:
    parameters = part(obj, "spec").get("parameters")
    if isinstance(parameters, dict):
        fill(parameters, scope="Cluster")


def _limit_range(obj: Obj, _settings: SandboxSettings) -> None:
    for item in parts(part(obj, "spec"), "limits"):
        if item.get("type") == "Container":
            most, least, usual = (item.get(name) or {} for name in ("max", "min", "default"))
            usual = {**most, **usual}
            item["default"], item["defaultRequest"] = usual, {**least, **usual, **(item.get("defaultRequest") or {})}


def _node(obj: Obj, _settings: SandboxSettings) -> None:
    spec, status = part(obj, "spec"), part(obj, "status")
    ranges = spec.get("podCIDRs")
    if spec.get("podCIDR"):
        # The old field says the first of them.
        spec["podCIDRs"] = [spec["podCIDR"], *(ranges[1:] if isinstance(ranges, list) else ())]
    elif isinstance(ranges, list) and ranges and not spec.get("podCIDR"):
        spec["podCIDR"] = ranges[0]
    if isinstance(status.get("capacity"), dict):
        status["allocatable"] = status.get("allocatable") or dict(status["capacity"])


def _service_account(obj: Obj, settings: SandboxSettings) -> None:
    if not settings.legacy and isinstance(obj.get("secrets"), list):
        # They are Secrets of the same namespace, whatever else a client says.
        obj["secrets"] = [
            {name: one[name] for name in one if name == "name"} if isinstance(one, dict) else one
            for one in obj["secrets"]
        ]


def _csi_driver(obj: Obj, _settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    fill(spec, attachRequired=True, fsGroupPolicy="ReadWriteOnceWithFSType", volumeLifecycleModes=["Persistent"])
    fill(spec, podInfoOnMount=False, requiresRepublish=False, seLinuxMount=False, storageCapacity=False)
    if not spec["volumeLifecycleModes"]:
        spec["volumeLifecycleModes"] = ["Persistent"]


def _flow_schema(obj: Obj, _settings: SandboxSettings) -> None:
    spec = part(obj, "spec")
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000


def _api_service(obj: Obj, _settings: SandboxSettings) -> None:
    service = part(obj, "spec").get("service")
    if isinstance(service, dict):
        fill(service, port=443)


_DEFAULTS: dict[str, Default] = {
    "apiservices.apiregistration.k8s.io": _api_service,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    "cronjobs.batch": _cron_job,
    "csidrivers.storage.k8s.io": _csi_driver,
    "customresourcedefinitions.apiextensions.k8s.io": _definition,
    "daemonsets.apps": _daemon_set,
    "deployments.apps": _deployment,
    "endpoints": _endpoints,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "flowschemas.flowcontrol.apiserver.k8s.io": _flow_schema,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "ingressclasses.networking.k8s.io": _ingress_class,
    "jobs.batch": _job,
    "limitranges": _limit_range,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": webhooks,
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
    "secrets": _secret,
    "serviceaccounts": _service_account,
    "services": _service,
    "statefulsets.apps": _stateful_set,
    "storageclasses.storage.k8s.io": _storage_class,
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": policy_binding,
    "validatingadmissionpolicies.admissionregistration.k8s.io": admission_policy,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": webhooks,
}
