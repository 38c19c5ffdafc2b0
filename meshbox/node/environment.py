# SPDX-License-Identifier: Apache-2.0
"""A container's environment variables, and the $(VAR) references in commands."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.ground import quantity as quantities
from labkit.ground.errors import SandboxError
from meshbox.contracts import Objects

if TYPE_CHECKING:
    from labkit.ground.typed.metadata import ObjectMeta
    from meshbox.typed.containers import (
        ConfigMapEnvSource,
        ConfigMapKeySelector,
        Container,
        EnvVarSource,
        ResourceFieldSelector,
        SecretEnvSource,
        SecretKeySelector,
    )
    from meshbox.typed.pods import Pod

    _Reference = ConfigMapKeySelector | SecretKeySelector | ConfigMapEnvSource | SecretEnvSource

__all__ = ["ConfigError", "container_env", "expand", "field", "resource_field", "service_env"]

_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(SandboxError):
    """A container's configuration refers to something that is not there; the message is the kubelet's own."""


def expand(text: str, env: Mapping[str, str]) -> str:
    """`text` with each $(NAME) of a known variable replaced; $$ stands for $."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return env.get(match[2], match[0])

    return _REFERENCE.sub(replace, text)


def field(pod: Pod, path: str) -> str:
    """The pod's field at `path`, as fieldRef gives it.

    Raises:
        ConfigError: there is no such field to refer to.
    """
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    values: dict[str, Any] = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", "default"),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": status.get("hostIP", ""),
        "status.hostIPs": status.get("hostIP", ""),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": status.get("podIP", ""),
    }
    if path in values:
        return str(values[path])
    if path in ("metadata.labels", "metadata.annotations"):
        items = _words(metadata, path.removeprefix("metadata."))
        return "\n".join(f'{key}="{_escape(value)}"' for key, value in sorted(items.items()))
    if match := _SUBSCRIPT.fullmatch(path):
        return str(_words(metadata, match[1]).get(match[2], ""))
    raise ConfigError(f"unsupported fieldPath: {path}")


def _words(metadata: ObjectMeta, name: str) -> dict[str, str]:
    return (metadata.get("labels") if name == "labels" else metadata.get("annotations")) or {}


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_field(
    pod: Pod, container: Container, reference: ResourceFieldSelector, allocatable: Mapping[str, str]
) -> str:
    """A container's request or limit, as resourceFieldRef gives it; the node's allocatable where no limit is set."""
    kind, _, resource = str(reference.get("resource", "")).partition(".")
    if name := reference.get("containerName"):
        everyone = pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
        container = next((item for item in everyone if item["name"] == name), container)
    if kind not in ("limits", "requests"):
        raise ConfigError(f"unsupported container resource : {reference.get('resource')}")
    resources = container.get("resources") or {}
    value = ((resources.get("limits") if kind == "limits" else resources.get("requests")) or {}).get(resource)
    if value is None and kind == "limits":
        value = allocatable.get(resource)
    return str(quantities.share(value or 0, reference.get("divisor") or 1))


def service_env(objects: Objects, namespace: str, links: bool) -> dict[str, str]:
    """Variables of the Services a container sees: its namespace's (if `links`) and the API server's."""
    services = objects.view("services", namespace) if links else []
    api = objects.find("services", "kubernetes", "default")
    env: dict[str, str] = {}
    for service in [*services, *([api] if api else [])]:
        ip, ports = service["spec"].get("clusterIP"), service["spec"].get("ports") or []
        if not ip or ip == "None" or not ports:
            continue
        name = service["metadata"]["name"].upper().replace("-", "_")
        env[f"{name}_SERVICE_HOST"] = ip
        env[f"{name}_SERVICE_PORT"] = str(ports[0]["port"])
        env[f"{name}_PORT"] = f"tcp://{ip}:{ports[0]['port']}"
        for port in ports:
            if label := port.get("name"):
                env[f"{name}_SERVICE_PORT_{label.upper().replace('-', '_')}"] = str(port["port"])
            protocol = port.get("protocol", "TCP")
            prefix = f"{name}_PORT_{port['port']}_{protocol}"
            env[prefix] = f"{protocol.lower()}://{ip}:{port['port']}"
            env |= {f"{prefix}_PROTO": protocol.lower(), f"{prefix}_PORT": str(port["port"]), f"{prefix}_ADDR": ip}
    return env


def container_env(
    objects: Objects, pod: Pod, container: Container, base: Mapping[str, str], allocatable: Mapping[str, str]
) -> dict[str, str]:
    """The variables of a container: `base` (the image's), its Services', envFrom and env, each over those before it.

    Raises:
        ConfigError: a ConfigMap, Secret or key that is not optional is missing.
    """
    namespace = pod["metadata"].get("namespace", "default")
    env = dict(base) | service_env(objects, namespace, pod["spec"].get("enableServiceLinks", True))
    own: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for resource, reference in (("configmaps", source.get("configMapRef")), ("secrets", source.get("secretRef"))):
            if reference:
                data = _data(objects, resource, reference, namespace)
                own |= {source.get("prefix", "") + key: value for key, value in data.items()}
    for item in container.get("env") or []:
        name = item["name"]
        if origin := item.get("valueFrom"):
            value = _value_from(objects, pod, container, origin, namespace, allocatable)
            if value is not None:
                own[name] = value
        else:
            own[name] = expand(item.get("value") or "", env | own)
    return env | own


def _value_from(
    objects: Objects,
    pod: Pod,
    container: Container,
    reference: EnvVarSource,
    namespace: str,
    allocatable: Mapping[str, str],
) -> str | None:
    if "fieldRef" in reference:
        return field(pod, reference["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in reference:
        return resource_field(pod, container, reference["resourceFieldRef"], allocatable)
    for selector, resource, title in (
        (reference.get("configMapKeyRef"), "configmaps", "ConfigMap"),
        (reference.get("secretKeyRef"), "secrets", "Secret"),
    ):
        if selector:
            data, key = _data(objects, resource, selector, namespace), selector["key"]
            if key not in data and not selector.get("optional"):
                raise ConfigError(f"couldn't find key {key} in {title} {namespace}/{selector['name']}")
            return data.get(key)
    raise ConfigError(f"env has a valueFrom that this node does not know: {', '.join(reference)}")


def _data(objects: Objects, resource: str, reference: _Reference, namespace: str) -> dict[str, str]:
    found = objects.find(resource, reference.get("name", ""), namespace)
    if found is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'{resource.removesuffix("s")} "{reference.get("name", "")}" not found')
    data = dict(found.get("data") or {})
    if resource == "secrets":
        data = {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in data.items()}
    return data
