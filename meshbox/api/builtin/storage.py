# SPDX-License-Identifier: Apache-2.0
"""What no table tells of ConfigMaps, Secrets, volumes and their claims, quotas and limits."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from labkit.ground import quantity as quantities
from labkit.ground.names import config_key, dns1123_subdomain, qualified_name
from meshbox.api.builtin.internal import internal
from meshbox.api.builtin.resources import STANDARD_RESOURCES, resource_name
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.types import fields_of
from meshbox.api.builtin.volume import volume_source
from meshbox.api.builtin.well_formed import NON_NEGATIVE, as_dict, as_list, one_of
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, not_supported, required, too_long
from meshbox.contracts import Obj

__all__ = ["domain_path"]

_MOST_BYTES = 1024 * 1024
_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_STANDARD_HARD = frozenset(
    {"cpu", "memory", "ephemeral-storage", "requests", "limits", "pods", "services", "secrets", "configmaps", "storage"}
    | {"replicationcontrollers", "resourcequotas", "persistentvolumeclaims", "hugepages-2Mi", "hugepages-1Gi"}
)
"""What quotas may count, before the first point of its name."""
_WHOLE = frozenset(
    {"pods", "services", "secrets", "configmaps", "replicationcontrollers", "resourcequotas", "persistentvolumeclaims"}
    | {"services.nodeports", "services.loadbalancers"}
)
"""What quotas count one by one."""
_SCOPES = frozenset(
    {"BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating"}
    | {"VolumeAttributesClass"}
)
_OF_PODS = frozenset({"cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory", "pods"})
_COUNTED = {
    **dict.fromkeys(("CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "Terminating"), _OF_PODS),
    "PriorityClass": _OF_PODS,
    "BestEffort": frozenset({"pods"}),
    "VolumeAttributesClass": frozenset({"persistentvolumeclaims", "requests.storage"}),
}
"""By scope: what of Kubernetes' own may be counted in it."""
_OPPOSITE = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_OUT_OF_SCOPE = "unsupported scope applied to resource"
_MOUNTED = (
    *("gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "nfs", "rbd", "quobyte", "iscsi", "cinder", "cephfs"),
    *("azureFile", "vsphereVolume", "azureDisk", "photonPersistentDisk"),
)
"""Volumes that are mounted with options."""


@call("config_map")
def _config_map(obj: Obj, _path: str, causes: list[Cause], _context: Context) -> None:
    data, binary = as_dict(obj.get("data")), as_dict(obj.get("binaryData"))
    for field, listed in (("data", data), ("binaryData", binary)):
        for key in listed:
            causes += [invalid(f"{field}[{key}]", key, words) for words in config_key(key)]
    for key in data.keys() & binary.keys():
        causes.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    size = sum(len(value.encode(errors="replace")) for value in data.values())
    size += sum(len(value) * 3 // 4 for value in binary.values())
    if size > _MOST_BYTES:
        causes.append(too_long("", _MOST_BYTES))


@call("secret")
def _secret(obj: Obj, _path: str, causes: list[Cause], _context: Context) -> None:
    data, kind = as_dict(obj.get("data")), obj.get("type") or ""
    for key in data:
        causes += [invalid(f"data[{key}]", key, words) for words in config_key(key)]
    if sum(len(value) * 3 // 4 for value in data.values()) > _MOST_BYTES:
        causes.append(too_long("data", _MOST_BYTES))
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data or (key == "ssh-privatekey" and not data[key]):
            causes.append(required(f"data[{key}]"))
        elif "docker" in key and (why := _no_json(data[key])):
            causes.append(invalid(f"data[{key}]", "<secret contents redacted>", why))
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        causes += [required(f"data[{key}]") for key in ("username", "password")]
    if kind == "kubernetes.io/service-account-token":
        name = "kubernetes.io/service-account.name"
        if not as_dict(as_dict(obj.get("metadata")).get("annotations")).get(name):
            causes.append(required(f"metadata.annotations[{name}]"))


def _no_json(text: str) -> str:
    """Why what `text` encodes is no JSON object, in the words of Go's decoder; "" where it is one."""
    content = base64.b64decode(text).decode(errors="replace").lstrip()
    if not content:
        return "unexpected end of JSON input"
    try:
        return "" if isinstance(json.loads(content), dict) else "json: cannot unmarshal it into a map"
    except (ValueError, RecursionError):
        begins = content[0] in '{["-tfn' or content[0].isdigit()
        return (
            "unexpected end of JSON input"
            if begins
            else f"invalid character '{content[0]}' looking for beginning of value"
        )


@call("capacity")
def _capacity(value: Any, path: str, causes: list[Cause], _context: Context) -> None:
    if set(value or {}) != {"storage"}:
        causes.append(not_supported(path, value, ["storage"]))


@call("volume_sources")
def _volume_sources(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    sources = [name for name, kind in (fields_of("V1PersistentVolumeSpec") or {}).items() if "VolumeSource" in kind]
    if kind := one_of(spec, sources, path, "volume", causes):
        volume_source(kind, "V1PersistentVolumeSpec", spec, path, causes, context)


@call("mount_options")
def _mount_options(obj: Obj, _path: str, causes: list[Cause], _context: Context) -> None:
    key, spec = "volume.beta.kubernetes.io/mount-options", as_dict(obj.get("spec"))
    if key in as_dict(as_dict(obj.get("metadata")).get("annotations")) and not any(map(spec.get, _MOUNTED)):
        causes.append(forbidden(f"metadata.annotations.{key}", "may not specify mount options for this volume type"))


@call("limits")
def _limits(limits: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    seen: set[str] = set()
    for index, one in enumerate(limits):
        where, item = f"{path}[{index}]", as_dict(one)
        kind = item.get("type") or ""
        said = qualified_name(kind)
        causes += [invalid(f"{where}.type", kind, words) for words in said]
        if not said and "/" not in kind and kind not in ("Container", "PersistentVolumeClaim", "Pod"):
            causes.append(invalid(f"{where}.type", kind, "must be a standard limit type or fully qualified"))
        if kind and kind in seen:
            causes.append(duplicate(f"{where}.type", kind))
        seen.add(kind)
        item = _allowed(item, kind, where, causes, context)
        for name in sorted({key for field in item.values() if isinstance(field, dict) for key in field}):
            _limited(item, name, where, causes)


def _allowed(item: Obj, kind: str, path: str, causes: list[Cause], context: Context) -> Obj:
    """What a limit says that one of its kind may say."""

    def names(*fields: str) -> None:
        for field in fields:
            for name in as_dict(item.get(field)) if kind in ("Container", "Pod") else ():
                resource_name(name, f"{path}.{field}[{name}]", causes, context)

    names("max", "min")
    if kind == "Pod":
        detail = "may not be specified when `type` is 'Pod'"
        causes += [forbidden(f"{path}.{name}", detail) for name in ("default", "defaultRequest") if item.get(name)]
        item = {field: value for field, value in item.items() if field not in ("default", "defaultRequest")}
    names("default", "defaultRequest")
    if kind == "PersistentVolumeClaim" and "storage" not in {**(item.get("min") or {}), **(item.get("max") or {})}:
        detail = "either minimum or maximum storage value is required, but neither was provided"
        causes.append(required(f"{path}.limits", detail))
    names("maxLimitRequestRatio")
    return item


def _limited(item: Obj, name: str, path: str, causes: list[Cause]) -> None:
    """How the values for one resource fit together."""
    fields = ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio")
    words = {
        "min": "min value",
        "max": "max value",
        "default": "default value",
        "defaultRequest": "default request value",
    }
    given = {field: as_dict(item.get(field)).get(name) for field in fields}
    for field, low, high, shown in (
        ("min", "min", "max", "min"),
        ("defaultRequest", "min", "defaultRequest", "defaultRequest"),
        ("defaultRequest", "defaultRequest", "max", "defaultRequest"),
        ("defaultRequest", "defaultRequest", "default", "defaultRequest"),
        ("default", "min", "default", "min"),
        ("default", "default", "max", "max"),
    ):
        low_value, high_value = given[low], given[high]
        if low_value is None or high_value is None or quantities.parse(low_value) <= quantities.parse(high_value):
            continue
        of = "default limit value" if (low, high) == ("defaultRequest", "default") else words[high]
        detail = f"{words[low]} {low_value} is greater than {of} {high_value}"
        causes.append(invalid(f"{path}.{field}[{name}]", given[shown], detail))
    ratio = given["maxLimitRequestRatio"]
    if ratio is not None and quantities.parse(ratio) < 1:
        causes.append(invalid(f"{path}.maxLimitRequestRatio[{name}]", ratio, f"ratio {ratio} is less than 1"))


@call("hard")
def _hard(amounts: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    for name, value in sorted(amounts.items()):
        where = f"{path}[{name}]"
        said = qualified_name(name)
        causes += [invalid(where, name, words) for words in said]
        if not said and "/" not in name and name.split(".")[0] not in _STANDARD_HARD:
            causes.append(invalid(where, name, "must be a standard resource type or fully qualified"))
            causes.append(invalid(where, name, "must be a standard resource for quota"))
        amount = quantities.parse(value)
        if amount < 0:
            causes.append(invalid(where, value, NON_NEGATIVE))
        # So are extended resources, which are whatever else there is behind a slash.
        extended = "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")
        if (name in _WHOLE or extended) and amount % 1:
            causes.append(invalid(where, value, "must be an integer"))


@call("quota")
def _quota(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    _hard(as_dict(spec.get("hard")), f"{path}.hard", causes, context)
    scopes, chosen = as_list(spec.get("scopes")), as_dict(spec.get("scopeSelector"))
    for scope in scopes:
        if scope not in _SCOPES:
            causes.append(invalid(f"{path}.scopes", scopes, "unsupported scope"))
        causes += [invalid(f"{path}.scopes", scopes, _OUT_OF_SCOPE)] * len(_not_counted(scope, spec))
    if any(set(pair) <= set(scopes) for pair in _OPPOSITE):
        causes.append(invalid(f"{path}.scopes", scopes, "conflicting scopes"))
    where = f"{path}.scopeSelector.matchExpressions"
    for one in as_list(chosen.get("matchExpressions")):
        scope = one.get("scopeName") or ""
        if scope not in _SCOPES:
            causes.append(invalid(f"{where}.scopeName", scope, "unsupported scope"))
        shown = internal("api.core.v1.ScopeSelector", chosen)
        causes += [invalid(where, shown, _OUT_OF_SCOPE)] * len(_not_counted(scope, spec))
        check("V1ScopedResourceSelectorRequirement", one, where, causes, context)


def _not_counted(scope: str, spec: Obj) -> list[str]:
    """What a quota counts that there is not in one of its scopes."""
    known = _COUNTED.get(scope)
    own = STANDARD_RESOURCES - {"storage"}
    hard = [name for name in as_dict(spec.get("hard")) if name in own or "hugepages-" in name]
    return [] if known is None else [name for name in hard if name not in known]


@call("driver")
def _driver(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    causes += [invalid(path, text.lower(), words) for words in qualified_name(text.lower())]


@call("topologies")
def _topologies(terms: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    seen: list[Obj] = []
    for index, term in enumerate(terms):
        where, keys = f"{path}[{index}].matchLabelExpressions", {}
        for position, one in enumerate(as_list(as_dict(term).get("matchLabelExpressions"))):
            told, key = f"{where}[{position}]", as_dict(one).get("key") or ""
            check("V1TopologySelectorLabelRequirement", one or {}, told, causes, context)
            if key in keys:
                causes.append(duplicate(f"{told}.key", key))
            keys[key] = sorted(as_list(as_dict(one).get("values")))
        if not keys or keys in seen:
            causes.append(duplicate(where, ""))
        seen.append(keys)


@call("domain_path")
def domain_path(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    """Check a path below a domain, such as "acme.io/foo"."""
    head, slash, rest = text.partition("/")
    if not slash or not head or not rest:
        causes.append(invalid(path, text, 'must be a domain-prefixed path (such as "acme.io/foo")'))
        return
    causes += [invalid(path, head, words) for words in dns1123_subdomain(head)]


@call("claimed")
def _claimed(amounts: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    for name, value in amounts.items():
        if (amount := quantities.parse(value or 0)) < 0:
            # As a whole number, away from zero, as a quantity's value is there.
            causes.append(invalid(f"{path}[{name}]", math.floor(amount), "must be a valid resource quantity"))
