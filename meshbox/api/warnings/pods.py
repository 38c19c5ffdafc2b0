# SPDX-License-Identifier: Apache-2.0
"""What is taken in pods and their templates, and hardly meant: doubled ports and names, halves of bytes, old labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.ground import names
from labkit.ground.quantity import parse
from meshbox.api.builtin.profiles import APP_ARMOR, SECCOMP, SECCOMP_OF_POD, app_armor_of, containers_of
from meshbox.api.warnings.labels import NODE_LABELS, of_terms
from meshbox.api.warnings.paths import overlapping
from meshbox.api.warnings.rows import told

__all__ = ["deprecated_sources", "of_claim", "of_name", "of_template", "whole_bytes"]

Obj = Mapping[str, Any]

_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_SOURCES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
"""What a volume was once of, and is not any more."""

_NO_POD = "a null labelSelector results in matching no pod"


def of_name(obj: Obj, what: str = "this is used in Pod names and hostnames") -> list[str]:
    """Of a name of which those of pods are made."""
    if not (problems := names.dns1123_label(obj["metadata"].get("name") or "")):
        return []
    told = f"{what}, which can result in surprising behavior; a DNS label is recommended: [{' '.join(problems)}]"
    return [f"metadata.name: {told}"]


def whole_bytes(path: str, amounts: Obj | None, *resources: str) -> list[str]:
    """Of amounts of bytes that are not whole."""
    amounts = amounts or {}
    return [
        f'{path}[{one}]: fractional byte value "{amounts[one]}" is invalid, must be an integer'
        for one in resources
        if one in amounts and parse(amounts[one]) % 1
    ]


def deprecated_sources(path: str, volume: Obj, names: Iterable[str]) -> list[str]:
    """Of what a volume is of, if it is one of these."""
    # Of one the warning has the name in Go.
    named = {"storageos": "storageOS"}
    return [f"{path}.{named.get(one, one)}: {_SOURCES[one]}" for one in names if one in volume]


def of_claim(path: str, spec: Obj) -> list[str]:
    """Of what a claim for a volume asks."""
    amounts = spec.get("resources") or {}
    return [
        told
        for one in ("requests", "limits")
        for told in whole_bytes(f"{path}.resources.{one}", amounts.get(one), "storage")
    ]


def of_template(path: str, template: Obj) -> list[str]:
    """Of a pod, or of a template for one, at a path ("" for a pod)."""
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    dotted = f"{path}." if path else ""
    inside, noted = f"{dotted}spec", f"{dotted}metadata.annotations"
    annotations = meta.get("annotations") or {}
    return [
        *_nodes(inside, spec),
        *(f"{noted}[{one}]: {told}" for one, told in _ANNOTATIONS.items() if one in annotations),
        *_volumes(inside, spec.get("volumes") or ()),
        *_doubled(f"{inside}.hostAliases", "ip", spec.get("hostAliases") or ()),
        *_doubled(f"{inside}.imagePullSecrets", "name", spec.get("imagePullSecrets") or ()),
        *_nameless(f"{inside}.imagePullSecrets", spec.get("imagePullSecrets") or ()),
        *whole_bytes(f"{inside}.overhead", spec.get("overhead"), "memory", "ephemeral-storage"),
        *_of_containers(noted, annotations, spec, of_pod=not path),
        *_ports(inside, spec),
        *told("PodSpec", spec, path=inside),
    ]


def _nodes(path: str, spec: Obj) -> Iterator[str]:
    """Labels of nodes that have other names today."""
    for label in sorted(spec.get("nodeSelector") or ()):
        if label in NODE_LABELS:
            yield f"{path}.nodeSelector[{label}]: {NODE_LABELS[label]}"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required, preferred = (
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    )
    where = f"{path}.affinity.nodeAffinity"
    terms = (affinity.get(required) or {}).get("nodeSelectorTerms") or ()
    for index, term in enumerate(terms):
        yield from of_terms(f"{where}.{required}.nodeSelectorTerms[{index}]", term)
    for index, one in enumerate(affinity.get(preferred) or ()):
        yield from of_terms(f"{where}.{preferred}[{index}].preference", one.get("preference") or {}, values=True)
    for index, one in enumerate(spec.get("topologySpreadConstraints") or ()):
        at, key = f"{path}.topologySpreadConstraints[{index}]", one.get("topologyKey")
        if key in NODE_LABELS:
            yield f"{at}.topologyKey: {key} is {NODE_LABELS[key]}"
        if one.get("labelSelector") is None:
            yield f"{at}.labelSelector: {_NO_POD}"


def _volumes(path: str, volumes: Iterable[Obj]) -> list[str]:
    found, claims, last = list[str](), "volumeClaimTemplate", ("cephfs", "rbd")
    for index, one in enumerate(volumes):
        at = f"{path}.volumes[{index}]"
        found += deprecated_sources(at, one, (name for name in _SOURCES if name not in last))
        if claim := (one.get("ephemeral") or {}).get(claims):
            found += of_claim(f"{at}.ephemeral.{claims}.spec", claim.get("spec") or {})
        found += deprecated_sources(at, one, last)
    return found + overlapping(volumes)


def _doubled(path: str, field: str, items: Iterable[Obj]) -> Iterator[str]:
    seen = set[str]()
    for index, one in enumerate(items):
        value = one.get(field) or ""
        if value in seen:
            yield f"{path}[{index}].{field}: duplicate {field} {json.dumps(value)}"
        seen.add(value)


def _nameless(path: str, items: Iterable[Obj]) -> list[str]:
    return [f'{path}[{index}].name: invalid empty name ""' for index, one in enumerate(items) if not one.get("name")]


def _of_containers(noted: str, annotations: Obj, spec: Obj, *, of_pod: bool) -> Iterator[str]:
    """Annotations in place of fields, and what of a container is not as it should be."""
    functionless = 'non-functional in v1.27+; use the "seccompProfile" field instead'
    own = spec.get("securityContext") or {}
    if SECCOMP_OF_POD in annotations and not own.get(SECCOMP.field):
        yield f"{noted}[{SECCOMP_OF_POD}]: {functionless}"
    for path, one in containers_of(spec, noted.removesuffix("metadata.annotations") + "spec"):
        context, key = one.get("securityContext") or {}, f"{SECCOMP.of_container}{one['name']}"
        if key in annotations and not context.get(SECCOMP.field):
            yield f"{noted}[{key}]: {functionless}"
        key = f"{APP_ARMOR.of_container}{one['name']}"
        # Those of a pod become fields, and are told of then.
        if key in annotations and not of_pod and not context.get(APP_ARMOR.field):
            wanted = own.get(APP_ARMOR.field)
            if wanted is None or wanted != app_armor_of(annotations[key]):
                yield f'{noted}[{key}]: deprecated since v1.30; use the "{APP_ARMOR.field}" field instead'
        amounts = one.get("resources") or {}
        for resource in ("memory", "ephemeral-storage"):
            for kind in ("limits", "requests"):
                yield from whole_bytes(f"{path}.resources.{kind}", amounts.get(kind), resource)
        yield from _variables(f"{path}.env", one.get("env") or ())


def _variables(path: str, variables: Iterable[Obj]) -> Iterator[str]:
    seen = set[str]()
    for index, one in enumerate(variables):
        name, value = one["name"], one.get("value") or ""
        before = f"$({name})"
        # One that goes on from what it was before is meant.
        if name in seen and ("valueFrom" in one or value == before or before not in value):
            hidden = f"hides previous definition of {json.dumps(name)}"
            yield f"{path}[{index}]: {hidden}, which may be dropped when using apply"
        seen.add(name)


def _ports(path: str, spec: Obj) -> list[str]:
    """Ports of all containers together, which share an address; then their names."""
    found = list[str]()
    every = [
        (f"{at}.ports[{index}]", port)
        for at, one in containers_of(spec, path)
        for index, port in enumerate(one.get("ports") or ())
    ]
    numbers: dict[tuple[Any, Any], list[tuple[str, Obj]]] = {}
    for at, port in every:
        host, host_port = port.get("hostIP") or "", port.get("hostPort") or 0
        protocol = port.get("protocol") or "TCP"
        if host and not host_port:
            shown = (
                f"Name:{port.get('name') or ''} HostPort:0 ContainerPort:{port['containerPort']} Protocol:{protocol}"
            )
            found.append(f"{at}: hostIP set without hostPort: {{{shown} HostIP:{host}}}")
        others = numbers.setdefault((port["containerPort"], protocol), [])
        for other_at, other in others:
            other_host, other_port = other.get("hostIP") or "", other.get("hostPort") or 0
            if (host, host_port) == (other_host, other_port):
                found.append(f"{at}: duplicate port definition with {other_at}")
            elif not host_port or not other_port:
                found.append(f"{at}: overlapping port definition with {other_at}")
            elif host_port == other_port and bool(host) != bool(other_host):
                found.append(f"{at}: dangerously ambiguous port definition with {other_at}")
        others.append((at, port))
    first: dict[str, str] = {}
    for at, port in every:
        if (name := port.get("name")) and (other_at := first.setdefault(name, at)) != at:
            used = f"services and probes that select ports by name will use {other_at}"
            found.append(f"{at}: duplicate port name {json.dumps(name)} with {other_at}, {used}")
    return found
