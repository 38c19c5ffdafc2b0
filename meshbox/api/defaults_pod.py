# SPDX-License-Identifier: Apache-2.0
"""The API server's defaults for pods and pod templates."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Any

from meshbox.contracts import Obj
from meshbox.settings import SandboxSettings

__all__ = ["TokenSecret", "default_pod", "default_pod_spec", "default_source", "pull_policy"]

TokenSecret = Callable[[str, str], str]
"""Namespace and name of a ServiceAccount → the name of its token's Secret, "" where there is none (yet)."""

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105
_TOKEN_VOLUME = "kube-api-access-"  # noqa: S105
_NAME_SIGNS = "bcdfghjklmnpqrstvwxz2456789"
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"([A-Za-z0-9][-.A-Za-z0-9]*(:[0-9]+)?/)?{_PART}(/{_PART})*(:\w[-.\w]{{0,127}})?(@\S+)?")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_COUNTS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_SOURCES: dict[str, dict[str, Any]] = {
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    "hostPath": {"type": ""},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
}
"""What sources of volumes say where a client says nothing of it."""
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def _objects(value: Any) -> list[Obj]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def pull_policy(image: Any) -> str:
    """The pull policy of an image without one: "Always" for the tag latest (or none), else "IfNotPresent"."""
    name = image if isinstance(image, str) else ""
    if len(name.partition(":")[0]) > 255 or not _IMAGE.fullmatch(name):
        return "IfNotPresent"
    bare, _, digest = name.partition("@")
    _, colon, tag = bare.rpartition("/")[2].partition(":")
    return "Always" if not digest and (not colon or tag == "latest") else "IfNotPresent"


def default_pod_spec(spec: Any, *, host_ports: bool = False) -> None:
    """Defaults of a pod's spec and of the spec in a template, in place.

    Args:
        spec: The spec; what is none is left as it is.
        host_ports: Whether ports of a pod in the node's network are the node's; of a template they are not.
    """
    if not isinstance(spec, dict):
        return
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        # The old name of the field is still written.
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for kind in _CONTAINERS:
        for container in _objects(spec.get(kind)):
            _container(container, host_ports=host_ports and spec.get("hostNetwork") is True)
    for volume in _objects(spec.get("volumes")):
        _volume(volume)


def _container(container: Obj, *, host_ports: bool) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image"))
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if container.get("resources") is None:
        container["resources"] = {}
    for port in _objects(container.get("ports")):
        port.setdefault("protocol", "TCP")
        if host_ports and not port.get("hostPort") and port.get("containerPort"):
            port["hostPort"] = port["containerPort"]
    for name in _PROBES:
        probe = container.get(name)
        if isinstance(probe, dict):
            for count, value in _PROBE_COUNTS.items():
                if not probe.get(count):
                    probe[count] = value
            _handler(probe)
    lifecycle = container.get("lifecycle")
    if isinstance(lifecycle, dict):
        for name in ("postStart", "preStop"):
            if isinstance(lifecycle.get(name), dict):
                _handler(lifecycle[name])
    for variable in _objects(container.get("env")):
        source = variable.get("valueFrom")
        if isinstance(source, dict):
            _field_ref(source)


def _handler(handler: Obj) -> None:
    get = handler.get("httpGet")
    if isinstance(get, dict):
        if not get.get("path"):
            get["path"] = "/"
        if not get.get("scheme"):
            get["scheme"] = "HTTP"
    if isinstance(handler.get("grpc"), dict):
        handler["grpc"].setdefault("service", "")


def _field_ref(source: Obj) -> None:
    if isinstance(source.get("fieldRef"), dict):
        source["fieldRef"].setdefault("apiVersion", "v1")
    resource = source.get("resourceFieldRef")
    if isinstance(resource, dict):
        resource.setdefault("divisor", "0")


def _volume(volume: Obj) -> None:
    if not any(value is not None for name, value in volume.items() if name != "name"):
        volume["emptyDir"] = {}
    for kind in ("secret", "configMap", "projected", "downwardAPI"):
        source = volume.get(kind)
        if isinstance(source, dict):
            if source.get("defaultMode") is None:
                source["defaultMode"] = 0o644
            for item in _objects(source.get("items")):
                _field_ref(item)
            for projection in _objects(source.get("sources")):
                _projection(projection)
    default_source(volume)
    image, claim = volume.get("image"), volume.get("ephemeral")
    if isinstance(image, dict) and not image.get("pullPolicy"):
        image["pullPolicy"] = pull_policy(image.get("reference"))
    template = claim.get("volumeClaimTemplate") if isinstance(claim, dict) else None
    if isinstance(template, dict) and isinstance(template.get("spec"), dict):
        template["spec"].setdefault("volumeMode", "Filesystem")


def default_source(volume: Obj) -> None:
    """Defaults of what a volume is made from, in place; `volume` is one of a pod or the spec of a PersistentVolume."""
    for kind, values in _SOURCES.items():
        source = volume.get(kind)
        if isinstance(source, dict):
            # Azure's are pointers: there "" was set.
            nothing = (None,) if kind == "azureDisk" else (None, "")
            volume[kind] = source | {name: value for name, value in values.items() if source.get(name) in nothing}


def _projection(source: Obj) -> None:
    token = source.get("serviceAccountToken")
    if isinstance(token, dict) and token.get("expirationSeconds") is None:
        token["expirationSeconds"] = 3600
    downward = source.get("downwardAPI")
    if isinstance(downward, dict):
        for item in _objects(downward.get("items")):
            _field_ref(item)


def default_pod(pod: Obj, settings: SandboxSettings, token_secret: TokenSecret | None = None) -> None:
    """Defaults of a pod, and what a new one is given besides: its account's token, tolerations."""
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    for kind in _CONTAINERS:
        for container in (*_objects(spec.get(kind)), spec):
            _requests(container)
    meta = pod.get("metadata")
    new = not isinstance(meta, dict) or not meta.get("resourceVersion")
    if new:
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = spec.get("serviceAccount") or "default"
        _token(pod, spec, settings, token_secret)
    # Also of a pod that is there: whoever gives it other tolerations leaves out those.
    _tolerations(spec)
    default_pod_spec(spec, host_ports=True)
    grace = spec["terminationGracePeriodSeconds"]
    if isinstance(grace, int) and grace < 0:
        spec["terminationGracePeriodSeconds"] = 1


def _requests(container: Obj) -> None:
    """What is limited and not asked for is asked for up to its limit."""
    resources = container.get("resources")
    limits = resources.get("limits") if isinstance(resources, dict) else None
    if isinstance(resources, dict) and isinstance(limits, dict) and limits:
        requests = resources.get("requests")
        resources["requests"] = {**limits, **(requests if isinstance(requests, dict) else {})}


def _tolerations(spec: Obj) -> None:
    known = _objects(spec.get("tolerations"))
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(one.get("key") in (key, None, "") and one.get("effect") in ("NoExecute", None, "") for one in known):
            known.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    spec["tolerations"] = known


def _token(pod: Obj, spec: Obj, settings: SandboxSettings, token_secret: TokenSecret | None) -> None:
    if spec.get("automountServiceAccountToken") is False:
        return
    wanting = [
        container
        for kind in ("initContainers", "containers")
        for container in _objects(spec.get(kind))
        if all(mount.get("mountPath") != TOKEN_PATH for mount in _objects(container.get("volumeMounts")))
    ]
    if not wanting:
        return
    volume = _token_volume(pod, spec, settings, token_secret)
    if volume is None:
        return
    known = _objects(spec.get("volumes"))
    # A container that admission added later shares the volume of the others.
    start = volume["name"] if settings.legacy else _TOKEN_VOLUME
    earlier = next((one for one in known if str(one.get("name")).startswith(start)), None)
    if earlier is None:
        spec["volumes"] = [*known, volume]
    volume = earlier or volume
    for container in wanting:
        mount = {"name": volume["name"], "readOnly": True, "mountPath": TOKEN_PATH}
        container["volumeMounts"] = [*_objects(container.get("volumeMounts")), mount]


def _token_volume(pod: Obj, spec: Obj, settings: SandboxSettings, token_secret: TokenSecret | None) -> Obj | None:
    if settings.legacy:
        meta = pod.get("metadata")
        namespace = meta.get("namespace") if isinstance(meta, dict) else None
        name = token_secret(str(namespace or "default"), str(spec["serviceAccountName"])) if token_secret else ""
        return {"name": name, "secret": {"secretName": name, "defaultMode": 0o644}} if name else None
    # As random as its uid, and the same however often the write is tried.
    drawn = hashlib.sha256(str((pod.get("metadata") or {}).get("uid") or secrets.token_hex(16)).encode()).digest()
    suffix = "".join(_NAME_SIGNS[one % len(_NAME_SIGNS)] for one in drawn[:5])
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    namespace_ref = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        # The odd number of seconds is the server's own; it tells its tokens from those that users ask for.
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": authority},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace_ref}]}},
    ]
    return {"name": _TOKEN_VOLUME + suffix, "projected": {"sources": sources, "defaultMode": 0o644}}
