# SPDX-License-Identifier: Apache-2.0
"""Validation of containers: image, ports, environment, mounts, probes, resources."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from labkit.ground.names import dns1123_label
from meshbox.api.builtin.references import field_path, resource_field
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.well_formed import as_dict, as_list
from meshbox.api.problems import Cause, duplicate, invalid, not_found, not_supported, required
from meshbox.contracts import Obj

__all__ = ["containers"]

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


def containers(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    """Check all containers of a pod: names are unique among them, and each kind may have what others may not."""
    if not spec.get("containers"):
        causes.append(required(f"{path}.containers"))
    every: list[Any] = []
    for field in ("containers", "initContainers", "ephemeralContainers"):
        own, before = as_list(spec.get(field)), len(every)
        every += own
        for index, one in enumerate(own):
            sidecar = field == "initContainers" and one.get("restartPolicy") == "Always"
            inner = structs.replace(context, kind="sidecar" if sidecar else field)
            check("V1Container", one, f"{path}.{field}[{index}]", causes, inner, every, before + index)
        if field == "containers":
            _host_ports(own, f"{path}.containers", causes)


@call("own_host_ports")
def _own_host_ports(container: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    # Init containers run alone, and the server takes each for the first.
    _host_ports([container], path.rpartition("[")[0], causes)


@call("target")
def _target(name: str, path: str, causes: list[Cause], context: Context) -> None:
    others = (one for field in ("containers", "initContainers") for one in as_list(context.pod.get(field)))
    if name not in [one.get("name") for one in others]:
        causes.append(not_found(path, name))


@call("grace")
def _grace(sleep: Obj, path: str, causes: list[Cause], context: Context) -> None:
    grace, seconds = context.pod.get("terminationGracePeriodSeconds", 30), sleep.get("seconds") or 0
    if seconds and not 0 <= seconds <= grace:
        detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        causes.append(invalid(path, seconds, detail))


@call("env_field")
def _env_field(reference: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    field_path(reference, path, causes, _FIELD_PATHS)


@call("env_resource")
def _env_resource(reference: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    resource_field(reference, path, causes)


@call("env_source")
def _env_source(variable: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    where, given = f"{path}.valueFrom", [one for one in _ENV_SOURCES if variable["valueFrom"].get(one) is not None]
    if not given:
        wanted = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        causes.append(invalid(where, "", f"must specify one of: {wanted}"))
    elif variable.get("value"):
        causes.append(invalid(where, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        causes.append(invalid(where, "", "may not have more than one field specified at a time"))


@call("env_from")
def _env_from(given: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    for index, one in enumerate(given):
        check("V1EnvFromSource", one, f"{path}[{index}]", causes, context)
        references = [name for name in ("configMapRef", "secretRef") if one.get(name) is not None]
        if not references:
            causes.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(references) > 1:
            causes.append(invalid(path, "", "may not have more than one field specified at a time"))


@call("claims")
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


@call("resize")
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


@call("mounts")
def _mounts(given: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    seen: set[str] = set()
    for index, one in enumerate(given):
        where, mount = f"{path}[{index}]", as_dict(one)
        name, target = mount.get("name"), mount.get("mountPath")
        if not name:
            causes.append(required(f"{where}.name"))
        if name not in context.volumes:
            causes.append(not_found(f"{where}.name", name or ""))
        if not target:
            causes.append(required(f"{where}.mountPath"))
        elif target in seen:
            causes.append(invalid(f"{where}.mountPath", target, "must be unique"))
        seen.add(target or "")
        # The index is not told of these.
        check("V1VolumeMount", mount, path, causes, context)


@call("devices")
def _devices(given: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    names: set[str] = set()
    targets: set[str] = set()
    for index, one in enumerate(given):
        where, device = f"{path}[{index}]", as_dict(one)
        name, target = device.get("name") or "", device.get("devicePath") or ""
        if not name:
            causes.append(required(f"{where}.name"))
        if name in names:
            causes.append(invalid(f"{where}.name", name, "must be unique"))
        if name not in context.volumes:
            causes.append(not_found(f"{where}.name", name))
        elif context.volumes[name] not in ("persistentVolumeClaim", "ephemeral"):
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
