# SPDX-License-Identifier: Apache-2.0
"""Validation of containers: image, ports, environment, mounts, probes, resources."""

from __future__ import annotations

from typing import Any

from labkit.ground.names import config_key, dns1123_label, dns1123_subdomain, env_name, port_name
from meshbox.api.builtin.references import field_path, resource_field
from meshbox.api.builtin.resources import resources
from meshbox.api.builtin.rules import Context, check
from meshbox.api.builtin.vocabulary import VOCABULARY
from meshbox.api.builtin.well_formed import (
    as_dict,
    as_list,
    named,
    non_negative,
    one_of,
    port_number,
    port_or_name,
    supported,
)
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, not_found, not_supported, required
from meshbox.contracts import Obj

__all__ = ["containers", "ephemeral_containers", "init_containers"]

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_OF_SIDECARS = ("lifecycle", *_PROBES)
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_RESTARTS = ("Always", "Never", "OnFailure")
_NOT_EPHEMERAL = ("ports", "resources", "lifecycle", *_PROBES, "resizePolicy")


def containers(given: list[Any], volumes: dict[str, str], path: str, causes: list[Cause], context: Context) -> None:
    """Check the containers of a pod; `volumes` are those that mounts may name."""
    if not given:
        causes.append(required(path))
    seen: set[str] = set()
    for index, one in enumerate(given):
        where, container = f"{path}[{index}]", as_dict(one)
        _container(container, volumes, where, causes, context)
        if container.get("name") and container["name"] in seen:
            causes.append(duplicate(f"{where}.name", container["name"]))
        seen.add(container.get("name") or "")
        _lived(container, where, causes, context)
        _restarts(container, where, causes, context)
    _host_ports(given, path, causes)


def init_containers(
    given: list[Any], others: list[Any], volumes: dict[str, str], path: str, causes: list[Cause], context: Context
) -> None:
    """Check init containers; names are unique among all containers, and only sidecars may have probes."""
    seen = {as_dict(one).get("name") for one in others}
    for index, one in enumerate(given):
        where, container = f"{path}[{index}]", as_dict(one)
        sidecar = container.get("restartPolicy") == "Always"
        _container(container, volumes, where, causes, context)
        _restarts(container, where, causes, context)
        if container.get("name") and container["name"] in seen:
            causes.append(duplicate(f"{where}.name", container["name"]))
        seen.add(container.get("name"))
        # Each runs alone, and the server takes each for the first.
        _host_ports([container], path, causes)
        if sidecar:
            _lived(container, where, causes, context)
        for name in () if sidecar else _OF_SIDECARS:
            if container.get(name) is not None:
                detail = "may not be set for init containers without restartPolicy=Always"
                causes.append(forbidden(f"{where}.{name}", detail))


def ephemeral_containers(
    given: list[Any], others: list[Any], volumes: dict[str, str], path: str, causes: list[Cause], context: Context
) -> None:
    """Check containers that were added to a running pod: names are unique, and much that others have they may not."""
    names = [as_dict(one).get("name") for one in others]
    for index, one in enumerate(given):
        where, container = f"{path}[{index}]", as_dict(one)
        if container.get("name") and container["name"] in names:
            causes.append(duplicate(f"{where}.name", container["name"]))
        names.append(container.get("name"))
        _container(container, volumes, where, causes, context)
        for name in _NOT_EPHEMERAL:
            if container.get(name):
                causes.append(forbidden(f"{where}.{name}", "cannot be set for an Ephemeral Container"))
        target = container.get("targetContainerName")
        if target and target not in [as_dict(other).get("name") for other in others]:
            causes.append(not_found(f"{where}.targetContainerName", target))


def _container(container: Obj, volumes: dict[str, str], path: str, causes: list[Cause], context: Context) -> None:
    named(container.get("name"), f"{path}.name", dns1123_label, causes)
    image = container.get("image")
    if not image:
        causes.append(required(f"{path}.image"))
    elif image != image.strip() and not context.template:
        causes.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    policy = container.get("terminationMessagePolicy")
    if policy and policy not in _MESSAGE_POLICIES:
        causes.append(not_supported(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES))
    _ports(as_list(container.get("ports")), f"{path}.ports", causes)
    _env(as_list(container.get("env")), f"{path}.env", causes)
    _env_from(as_list(container.get("envFrom")), f"{path}.envFrom", causes)
    _mounts(as_list(container.get("volumeMounts")), volumes, f"{path}.volumeMounts", causes, context)
    _devices(as_list(container.get("volumeDevices")), volumes, f"{path}.volumeDevices", causes)
    supported(container.get("imagePullPolicy"), f"{path}.imagePullPolicy", ("Always", "IfNotPresent", "Never"), causes)
    resources(as_dict(container.get("resources")), f"{path}.resources", causes)
    claims = as_list(as_dict(container.get("resources")).get("claims"))
    _claims(claims, f"{path}.resources.claims", causes, context)
    _resize(as_list(container.get("resizePolicy")), f"{path}.resizePolicy", causes, context)
    check("V1SecurityContext", container.get("securityContext") or {}, f"{path}.securityContext", causes, context)


def _lived(container: Obj, path: str, causes: list[Cause], context: Context) -> None:
    """What a container that lives on has: what is done at its begin and end, and what asks for its health."""
    lifecycle = as_dict(container.get("lifecycle"))
    for name in ("postStart", "preStop"):
        if lifecycle.get(name) is not None:
            where, handler = f"{path}.lifecycle.{name}", as_dict(lifecycle[name])
            _handler(handler, where, causes, ("sleep",))
            grace = context.pod.get("terminationGracePeriodSeconds", 30)
            seconds = as_dict(handler.get("sleep")).get("seconds") or 0
            if seconds and not 0 <= seconds <= grace:
                detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                causes.append(invalid(f"{where}.sleep", seconds, detail))
    for name in _PROBES:
        if container.get(name) is not None:
            _probe(as_dict(container[name]), f"{path}.{name}", causes, readiness=name == "readinessProbe")


def _restarts(container: Obj, path: str, causes: list[Cause], context: Context) -> None:
    rules, policy = as_list(container.get("restartPolicyRules")), container.get("restartPolicy")
    if policy is None and rules:
        detail = "must specify restartPolicy when restart rules are used"
        causes.append(required(f"{path}.restartPolicy", detail))
    elif policy is not None and policy not in _RESTARTS:
        causes.append(not_supported(f"{path}.restartPolicy", policy, _RESTARTS))
    for index, one in enumerate(rules):
        check("V1ContainerRestartRule", one or {}, f"{path}.restartPolicyRules[{index}]", causes, context)


def _claims(given: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    known = sorted(str(one.get("name")) for one in as_list(context.pod.get("resourceClaims")) if one.get("name"))
    listed = f": {', '.join(known)}" if known else " which is empty"
    seen: list[str] = []
    for index, one in enumerate(given):
        where, name, request = f"{path}[{index}]", one.get("name") or "", one.get("request") or ""
        if not name:
            causes.append(required(where))
            continue
        if request and name not in seen:
            causes += [invalid(f"{where}.request", request, words) for words in dns1123_label(request)]
        key = f"{name}/{request}" if request else name
        if name in seen or key in seen:
            causes.append(duplicate(where, name if name in seen else key))
        elif not request and any(other.startswith(f"{name}/") for other in seen):
            causes.append(duplicate(where, name))
        seen.append(key)
        if name not in known:
            cause = not_found(where, name)
            detail = f"must be one of the names in pod.spec.resourceClaims{listed}"
            causes.append({**cause, "message": f"{cause['message']}: {detail}"})


def _resize(given: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    """Check how a container may be given more; the server does not tell which of them is wrong."""
    seen: list[str] = []
    for index, one in enumerate(given):
        name, policy = as_dict(one).get("resourceName") or "", as_dict(one).get("restartPolicy") or ""
        if name in seen:
            causes.append(duplicate(f"{path}[{index}]", name))
        seen.append(name)
        for value, known in ((name, ("cpu", "memory")), (policy, ("NotRequired", "RestartContainer"))):
            if not value:
                causes.append(required(path))
            elif value not in known:
                causes.append(not_supported(path, value, known))
        if context.pod.get("restartPolicy") == "Never" and policy != "NotRequired":
            causes.append(invalid(path, policy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))


def _ports(given: list[Any], path: str, causes: list[Cause]) -> None:
    seen: set[str] = set()
    for index, one in enumerate(given):
        where, port = f"{path}[{index}]", as_dict(one)
        name = port.get("name")
        if name:
            said = port_name(name)
            causes += [invalid(f"{where}.name", name, words) for words in said]
            if not said and name in seen:
                causes.append(duplicate(f"{where}.name", name))
            seen.add(name)
        if not port.get("containerPort"):
            causes.append(required(f"{where}.containerPort"))
        else:
            port_number(port["containerPort"], f"{where}.containerPort", causes)
        if port.get("hostPort"):
            port_number(port["hostPort"], f"{where}.hostPort", causes)
        supported(port.get("protocol"), f"{where}.protocol", _PROTOCOLS, causes)


def _host_ports(given: list[Any], path: str, causes: list[Cause]) -> None:
    seen: set[str] = set()
    for index, one in enumerate(given):
        for position, port in enumerate(as_list(as_dict(one).get("ports"))):
            wanted = as_dict(port)
            if wanted.get("hostPort"):
                key = f"{wanted.get('protocol') or 'TCP'}/{wanted.get('hostIP') or ''}/{wanted['hostPort']}"
                if key in seen:
                    causes.append(duplicate(f"{path}[{index}].ports[{position}].hostPort", key))
                seen.add(key)


def _env(given: list[Any], path: str, causes: list[Cause]) -> None:
    for index, one in enumerate(given):
        where, variable = f"{path}[{index}]", as_dict(one)
        named(variable.get("name"), f"{where}.name", env_name, causes)
        if variable.get("valueFrom") is not None:
            _value_from(variable, as_dict(variable["valueFrom"]), f"{where}.valueFrom", causes)


def _value_from(variable: Obj, source: Obj, path: str, causes: list[Cause]) -> None:
    given = [name for name in _ENV_SOURCES if source.get(name) is not None]
    for name in given:
        where, reference = f"{path}.{name}", as_dict(source[name])
        if name == "fieldRef":
            field_path(reference, where, causes, _FIELD_PATHS)
        elif name == "resourceFieldRef":
            resource_field(reference, where, causes)
        elif name != "fileKeyRef":
            _key_reference(reference, where, causes)
    if not given:
        wanted = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        causes.append(invalid(path, "", f"must specify one of: {wanted}"))
    elif variable.get("value"):
        causes.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        causes.append(invalid(path, "", "may not have more than one field specified at a time"))


def _key_reference(reference: Obj, path: str, causes: list[Cause]) -> None:
    name = reference.get("name") or ""
    causes += [invalid(f"{path}.name", name, words) for words in dns1123_subdomain(name)]
    named(reference.get("key"), f"{path}.key", config_key, causes)


def _env_from(given: list[Any], path: str, causes: list[Cause]) -> None:
    for index, one in enumerate(given):
        where, source = f"{path}[{index}]", as_dict(one)
        named(source.get("prefix"), f"{where}.prefix", env_name, causes, needed=False)
        references = [name for name in ("configMapRef", "secretRef") if source.get(name) is not None]
        for name in references:
            named(as_dict(source[name]).get("name"), f"{where}.{name}.name", dns1123_subdomain, causes)
        if not references:
            causes.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(references) > 1:
            causes.append(invalid(path, "", "may not have more than one field specified at a time"))


def _mounts(given: list[Any], volumes: dict[str, str], path: str, causes: list[Cause], context: Context) -> None:
    seen: set[str] = set()
    for index, one in enumerate(given):
        where, mount = f"{path}[{index}]", as_dict(one)
        name, target = mount.get("name"), mount.get("mountPath")
        if not name:
            causes.append(required(f"{where}.name"))
        if name not in volumes:
            causes.append(not_found(f"{where}.name", name or ""))
        if not target:
            causes.append(required(f"{where}.mountPath"))
        elif target in seen:
            causes.append(invalid(f"{where}.mountPath", target, "must be unique"))
        seen.add(target or "")
        # The index is not told of these.
        check("V1VolumeMount", mount, path, causes, context)


def _devices(given: list[Any], volumes: dict[str, str], path: str, causes: list[Cause]) -> None:
    names: set[str] = set()
    targets: set[str] = set()
    for index, one in enumerate(given):
        where, device = f"{path}[{index}]", as_dict(one)
        name, target = device.get("name") or "", device.get("devicePath") or ""
        if not name:
            causes.append(required(f"{where}.name"))
        if name in names:
            causes.append(invalid(f"{where}.name", name, "must be unique"))
        if name not in volumes:
            causes.append(not_found(f"{where}.name", name))
        elif volumes[name] not in ("persistentVolumeClaim", "ephemeral"):
            words = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            causes.append(invalid(f"{where}.name", name, words))
        if not target:
            causes.append(required(f"{where}.devicePath"))
        if target in targets:
            causes.append(invalid(f"{where}.devicePath", target, "must be unique"))
        if ".." in target.split("/"):
            causes.append(invalid(f"{where}.devicePath", target, "can not contain backsteps ('..')"))
        else:
            targets.add(target)
        if name:
            names.add(name)


def _probe(probe: Obj, path: str, causes: list[Cause], *, readiness: bool) -> None:
    _handler(probe, path, causes, ("grpc",))
    non_negative(probe, _COUNTS, path, causes)
    grace, threshold = probe.get("terminationGracePeriodSeconds"), probe.get("successThreshold")
    if grace is not None and grace <= 0:
        causes.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    if readiness and grace is not None:
        causes.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes"))
    elif not readiness and threshold not in (None, 0, 1):
        causes.append(invalid(f"{path}.successThreshold", threshold, "must be 1"))


def _handler(handler: Obj, path: str, causes: list[Cause], more: tuple[str, ...]) -> None:
    kind = one_of(handler, ("exec", "httpGet", "tcpSocket", *more), path, "handler", causes)
    action, where = as_dict(handler.get(kind)), f"{path}.{kind}"
    if kind == "exec" and not as_list(action.get("command")):
        causes.append(required(f"{where}.command"))
    elif kind in ("httpGet", "tcpSocket"):
        port_or_name(action.get("port"), f"{where}.port", causes)
        supported(action.get("scheme"), f"{where}.scheme", ("HTTP", "HTTPS"), causes)
        for one in as_list(action.get("httpHeaders")):
            causes += VOCABULARY["header"](as_dict(one).get("name"), f"{where}.httpHeaders", ())
    elif kind == "grpc":
        port_number(action.get("port"), f"{where}.port", causes)
