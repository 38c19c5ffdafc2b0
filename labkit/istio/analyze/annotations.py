# SPDX-License-Identifier: Apache-2.0
"""Istio's annotations: unknown ones, those in the wrong place, those that are gone, and values it cannot read."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path

from labkit.istio.analyze.messages import quoted
from labkit.istio.analyze.world import Said, World, labels
from labkit.istio.analyze.world import annotations_of as own

__all__ = ["annotated"]

_KINDS = ("Namespace", "Service", "Pod", "Deployment")

_TRAFFIC, _READY = "traffic.sidecar.istio.io/", "readiness.status.sidecar.istio.io/"
_INJECT = "sidecar.istio.io/inject"

_ROWS = Path(__file__).with_name("annotations.tsv").read_text("utf-8").splitlines()[1:]
_KNOWN = [row.split("\t") for row in _ROWS]
"""Istio's annotations (istio.io/api, annotation/annotations.yaml), with the kind each is for, and "gone" if it is."""

_KIND_OF = {name: kind for name, kind, _ in _KNOWN}
_GONE = {name for name, _, gone in _KNOWN if gone}


def annotated(world: World) -> Iterator[Said]:
    """What is wrong with them."""
    for item in (one for kind in _KINDS for one in world.all(kind)):
        for key, value in own(item).items():
            if not (key.partition("/")[0].endswith("istio.io") or key == "kubernetes.io/ingress.class"):
                continue
            kind = _KIND_OF.get(key, "")
            if not kind:
                # What Istio writes for itself is nobody's mistake.
                if not key.startswith("internal.istio.io/"):
                    yield Said(item, "IST0108", (key,))
                continue
            if key in _GONE and not (key == _INJECT and _INJECT in labels(item)):
                extra = f' in favor of the "{_INJECT}" label' if key == _INJECT else ""
                yield Said(item, "IST0135", (quoted(key), extra))
            if kind not in ("Any", item["kind"]):
                yield Said(item, "IST0107", (key, kind))
            elif key in _CHECKS and (problem := _CHECKS[key](value)):
                yield Said(item, "IST0125", (key, problem))


def _unsigned(text: str, most: int = 2**32) -> str:
    good = text.isascii() and text.isdigit()
    if good and int(text[:20]) < most:
        return ""
    return f"strconv.ParseUint: parsing {quoted(text)}: {'value out of range' if good else 'invalid syntax'}"


def _true_or_false(text: str) -> str:
    known = ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False")
    return "" if text in known else f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax"


def _mode(text: str) -> str:
    known = ("REDIRECT", "TPROXY", "NONE")
    return "" if text in known else f"interceptionMode invalid, use {','.join(known)}: {text}"


def _each(name: str, one: Callable[[str], str], every: bool) -> Callable[[str], str]:
    """A check of what stands between commas; with `every` an asterisk stands for all."""

    def check(text: str) -> str:
        parts = [] if not text.strip() or (every and text == "*") else text.split(",")
        problem = next(filter(None, map(one, parts)), "")
        return f"{name} invalid: {problem}" if problem else ""

    return check


def _port(text: str) -> str:
    problem = _unsigned(text.strip(), 2**16)
    return f"failed parsing port '{text}': {problem}" if problem else ""


def _range(text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
        why = "" if "/" in text else "no '/'"
    except ValueError:
        why = "invalid CIDR address" if "/" in text else "no '/'"
    return f"failed parsing cidr '{text}': netip.ParsePrefix({quoted(text)}): {why}" if why else ""


_CHECKS: dict[str, Callable[[str], str]] = {
    "sidecar.istio.io/interceptionMode": _mode,
    "sidecar.istio.io/enableCoreDump": _true_or_false,
    "prometheus.istio.io/merge-metrics": _true_or_false,
    "status.sidecar.istio.io/port": _each("excludeInboundPorts", _port, every=False),
    **{_READY + name: _unsigned for name in ("initialDelaySeconds", "periodSeconds", "failureThreshold")},
    f"{_READY}applicationPorts": _each("readinessApplicationPorts", _port, every=False),
    f"{_TRAFFIC}includeOutboundIPRanges": _each("includeIPRanges", _range, every=True),
    f"{_TRAFFIC}excludeOutboundIPRanges": _each("excludeIPRanges", _range, every=False),
    **{
        _TRAFFIC + name: _each(name, _port, every=name == "includeInboundPorts")
        for name in ("includeInboundPorts", "excludeInboundPorts", "includeOutboundPorts", "excludeOutboundPorts")
    },
}
"""What of an annotation's value the injector would refuse, in its words."""
