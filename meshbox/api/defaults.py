# SPDX-License-Identifier: Apache-2.0
"""The defaults that the API server writes into objects, read from data/defaults.txt and written as they stand there.

A resource is a heading; below it, a line is `field = value` (in JSON, where the field is absent), `field ?= value`
(also where it is empty), `call NAME`, or `drop field`. Objects on the way to a field are made where they are absent; of
`a?` nothing is made, `a[]` are all items of a list. Before a colon may stand what the rest of the line is about; what
must hold for it (`when`, `unless`: see table_files.py) stands behind it, `@legacy` being Kubernetes 1.14. `NAME@new` is
what the server writes into each new object, `NAME@VERSION` what an old version filled in by itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from meshbox.api.defaults_pod import TokenSecret, default_pod, default_pod_spec, default_source
from meshbox.api.service_fields import is_reached
from meshbox.api.table_files import Facts, Steps, Test, condition, steps_of, table
from meshbox.contracts import Obj
from meshbox.settings import SandboxSettings

__all__ = ["TokenSecret", "apply_defaults", "fill_in"]

_LINE = re.compile(
    r"(?:(?P<scope>\S+): )?(?:(?P<verb>call|drop) (?P<what>\S+)|(?P<field>\S+) (?P<sign>\??=) (?P<value>.*?))"
    r"(?P<tests>(?: (?:when|unless) \S+)*)"
)
_FACTS: Facts = {"@legacy": lambda settings, _: settings.legacy or None}
_Default = Callable[[Obj, SandboxSettings], None]
_CALLS: dict[str, _Default] = {}


class _Line(NamedTuple):
    scope: Steps
    tests: tuple[Test, ...]
    verb: str
    """"call", "drop", "=" or "?="."""
    field: Steps
    name: str
    value: str


@cache
def _lines(resource: str) -> tuple[_Line, ...]:
    found = []
    for text in table("defaults.txt").get(resource, ()):
        match = _LINE.fullmatch(text)
        assert match is not None, text
        words = match["tests"].split()
        tests = tuple(condition(*pair, _FACTS) for pair in zip(words[::2], words[1::2], strict=True))
        scope, field = steps_of(match["scope"] or "."), steps_of(match["field"] or ".")
        name, value = match["what"] or field[-1], match["value"] or ""
        found.append(_Line(scope, tests, match["verb"] or match["sign"], field[:-1], name, value))
    return tuple(found)


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
    fill_in(resource, obj, settings)


def fill_in(heading: str, obj: Obj, settings: SandboxSettings | None = None) -> None:
    """Write what is below a heading of the table into an object, in place; without settings where no line asks them."""
    for line in _lines(heading):
        for part in _parts(obj, line.scope):
            if all(test(part, settings, ()) for test in line.tests):
                _write(line, part, settings)


def _write(line: _Line, part: Obj, settings: SandboxSettings | None) -> None:
    if line.verb == "call":
        assert settings is not None
        _CALLS[line.name](part, settings)
    elif line.verb == "drop":
        part.pop(line.name, None)
    else:
        for one in _parts(part, line.field):
            given = one.get(line.name)
            if given is None or (line.verb == "?=" and not given):
                one[line.name] = json.loads(line.value)


def _parts(obj: Obj, steps: Steps) -> list[Obj]:
    """The objects at a path."""
    found = [obj]
    for step in steps:
        name = step.rstrip("[]?")
        if step.endswith("[]"):
            lists = [one.get(name) for one in found]
            found = [one for listed in lists if isinstance(listed, list) for one in listed if isinstance(one, dict)]
        else:
            if step[-1] != "?":
                for one in found:
                    if one.get(name) is None:
                        one[name] = {}
            found = [one[name] for one in found if isinstance(one.get(name), dict)]
    return found


def _call(name: str) -> Callable[[_Default], _Default]:
    """Make a function what `call NAME` means: a default that no line can tell."""

    def register(function: _Default) -> _Default:
        _CALLS[name] = function
        return function

    return register


@_call("pod_spec")
def _pod_spec(spec: Obj, settings: SandboxSettings) -> None:
    default_pod_spec(spec, host_ports=settings.legacy)


@_call("other_pod_spec")
def _other_pod_spec(spec: Obj, _settings: SandboxSettings) -> None:
    default_pod_spec(spec)


@_call("volume_source")
def _volume_source(spec: Obj, _settings: SandboxSettings) -> None:
    default_source(spec)


def _pod_labels(obj: Obj) -> Obj:
    return next((one["labels"] for one in _parts(obj, _LABELLED) if isinstance(one.get("labels"), dict)), {})


_LABELLED = ("spec", "template", "metadata")


@_call("labelled")
def _labelled(obj: Obj, _settings: SandboxSettings) -> None:
    """An object without labels has those of its pods."""
    for meta in _parts(obj, ("metadata",)):
        if (labels := _pod_labels(obj)) and not meta.get("labels"):
            meta["labels"] = dict(labels)


@_call("selected")
def _selected(obj: Obj, _settings: SandboxSettings) -> None:
    if (labels := _pod_labels(obj)) and not obj["spec"].get("selector"):
        obj["spec"]["selector"] = dict(labels)


@_call("service")
def _service(spec: Obj, _settings: SandboxSettings) -> None:
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    for port in _parts(spec, ("ports[]",)):
        if port.get("targetPort") in (None, 0, "") and port.get("port"):
            port["targetPort"] = port["port"]
    if is_reached(spec) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"


@_call("secret")
def _secret(obj: Obj, _settings: SandboxSettings) -> None:
    plain = obj.get("stringData")
    if isinstance(plain, dict) and isinstance(obj.get("data") or {}, dict):
        # Never kept as it is, and not what its writer is said to have set.
        del obj["stringData"]
        given = {key: base64.b64encode(str(value).encode()).decode() for key, value in plain.items()}
        if given:
            obj["data"] = {**(obj.get("data") or {}), **given}


@_call("data_sources")
def _data_sources(spec: Obj, _settings: SandboxSettings) -> None:
    """The old field and the new one say the same; the old one holds a claim or a snapshot."""
    old, new = (spec.get(name) for name in ("dataSource", "dataSourceRef"))
    if isinstance(old, dict) and new is None:
        of = old.get("apiGroup") or "", old.get("kind")
        if of in (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")):
            spec["dataSourceRef"] = dict(old)
        else:
            del spec["dataSource"]
    elif isinstance(new, dict) and old is None and not new.get("namespace"):
        spec["dataSource"] = {name: new[name] for name in ("apiGroup", "kind", "name") if name in new}


@_call("names")
def _names(names: Obj, _settings: SandboxSettings) -> None:
    kind = names.get("kind")
    if isinstance(kind, str) and kind:
        names["singular"] = names.get("singular") or kind.lower()
        names["listKind"] = names.get("listKind") or f"{kind}List"


@_call("limit")
def _limit(item: Obj, _settings: SandboxSettings) -> None:
    most, least, usual = (item.get(name) or {} for name in ("max", "min", "default"))
    usual = {**most, **usual}
    item["default"], item["defaultRequest"] = usual, {**least, **usual, **(item.get("defaultRequest") or {})}


@_call("node")
def _node(obj: Obj, _settings: SandboxSettings) -> None:
    spec, status = (next(iter(_parts(obj, (name,))), {}) for name in ("spec", "status"))
    ranges = spec.get("podCIDRs")
    if spec.get("podCIDR"):
        # The old field says the first of them.
        spec["podCIDRs"] = [spec["podCIDR"], *(ranges[1:] if isinstance(ranges, list) else ())]
    elif isinstance(ranges, list) and ranges and not spec.get("podCIDR"):
        spec["podCIDR"] = ranges[0]
    if isinstance(status.get("capacity"), dict):
        status["allocatable"] = status.get("allocatable") or dict(status["capacity"])


@_call("account")
def _service_account(obj: Obj, _settings: SandboxSettings) -> None:
    if isinstance(obj.get("secrets"), list):
        # They are Secrets of the same namespace, whatever else a client says.
        obj["secrets"] = [
            {name: one[name] for name in one if name == "name"} if isinstance(one, dict) else one
            for one in obj["secrets"]
        ]
