# SPDX-License-Identifier: Apache-2.0
"""What no table tells of pod specs and of pod templates."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from labkit.ground.names import label_value, qualified_name
from meshbox.api.builtin.container import containers
from meshbox.api.builtin.profiles import agreeing, noted
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.volume import volumes
from meshbox.api.builtin.well_formed import as_dict, as_list, labels
from meshbox.api.problems import Cause, duplicate, forbidden, invalid
from meshbox.contracts import Obj

__all__ = ["pod_template"]

_OF_NETWORK, _OF_IPC = ("net.", "net/"), ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


@call("template")
def pod_template(template: Any, path: str, causes: list[Cause], context: Context) -> None:
    """Check a pod template (its selector is the workload's matter)."""
    meta = as_dict(as_dict(template).get("metadata"))
    # The server leaves "metadata" out of these two paths.
    labels(meta.get("labels"), f"{path}.labels", causes)
    for key in as_dict(meta.get("annotations")):
        causes += [invalid(f"{path}.annotations", key, words) for words in qualified_name(key.lower())]
    annotations, spec = as_dict(meta.get("annotations")), as_dict(as_dict(template).get("spec"))
    noted(annotations, spec, f"{path}.annotations", causes)
    _pod_spec(spec, f"{path}.spec", causes, structs.replace(context, template=True))
    agreeing(annotations, spec, f"{path}.spec", causes)
    if spec.get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        causes.append(forbidden(f"{path}.spec.ephemeralContainers", detail))


@call("pod")
def _pod(pod: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    annotations = as_dict(as_dict(pod.get("metadata")).get("annotations"))
    spec = as_dict(pod.get("spec"))
    noted(annotations, spec, "metadata.annotations", causes)
    _pod_spec(spec, "spec", causes, context)
    if context.new:
        agreeing(annotations, spec, "spec", causes)


def _pod_spec(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    check("V1PodSpec", spec, path, causes, structs.replace(context, pod=spec))


@call("containers")
def _containers(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    known = volumes(as_list(spec.get("volumes")), f"{path}.volumes", causes, context)
    for index, one in enumerate(claims := as_list(spec.get("resourceClaims"))):
        check("V1PodResourceClaim", one, f"{path}.resourceClaims[{index}]", causes, context, claims, index)
    containers(spec, path, causes, structs.replace(context, volumes=known))


@call("spread")
def _spread(constraints: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    for index, one in enumerate(constraints):
        later = [_pair(as_dict(other)) for other in constraints[index + 1 :]]
        context = structs.replace(context, pod={"later": later})
        check("V1TopologySpreadConstraint", one, f"{path}[{index}]", causes, context)


def _pair(constraint: Obj) -> str:
    return f"{{{constraint.get('topologyKey') or ''}, {constraint.get('whenUnsatisfiable') or ''}}}"


@call("spread_twice")
def _spread_twice(constraint: Obj, path: str, causes: list[Cause], context: Context) -> None:
    if _pair(constraint) in context.pod["later"]:
        causes.append(duplicate(f"{path}.{{topologyKey, whenUnsatisfiable}}", _pair(constraint)))


@call("both_keys")
def _both_keys(term: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    for index, key in enumerate(as_list(term.get("matchLabelKeys"))):
        if key in term["mismatchLabelKeys"]:
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            causes.append(invalid(f"{path}.matchLabelKeys[{index}]", key, detail))


@call("label_values")
def _label_values(values: list[Any], path: str, causes: list[Cause], _context: Context) -> None:
    # What is only preferred may also name values that no label has.
    if ".preference." not in path:
        for index, value in enumerate(values):
            causes += [invalid(f"{path}[{index}]", value, words) for words in label_value(value or "")]


@call("host_ports")
def _host_ports(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    ports = [
        (f"{path}.containers[{index}].ports[{position}].hostPort", as_dict(port))
        for index, container in enumerate(as_list(spec.get("containers")))
        for position, port in enumerate(as_list(as_dict(container).get("ports")))
    ]
    for where, port in ports if spec.get("hostNetwork") else ():
        given = port.get("hostPort") or 0
        # A template's is filled in when a pod is made of it.
        if (given or not context.template) and given != (port.get("containerPort") or 0):
            causes.append(invalid(where, given, "must match `containerPort` when `hostNetwork` is true"))


@call("host_sysctl")
def _host_sysctl(name: str, path: str, causes: list[Cause], context: Context) -> None:
    for field, starts in (("hostNetwork", _OF_NETWORK), ("hostIPC", _OF_IPC)):
        if context.pod.get(field) and name.startswith(starts):
            causes.append(invalid(path, name, f"may not be specified when '{field}' is true"))
