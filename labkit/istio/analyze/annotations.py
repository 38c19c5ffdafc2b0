# SPDX-License-Identifier: Apache-2.0
"""Istio's annotations: unknown ones, those in the wrong place, those that are gone, and values it cannot read."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

from labkit.istio.analyze.messages import quoted
from labkit.istio.analyze.world import Said, World, labels
from labkit.istio.analyze.world import annotations_of as own

__all__ = ["annotated"]

_KINDS = ("Namespace", "Service", "Pod", "Deployment")

_TRAFFIC, _READY = "traffic.sidecar.istio.io/", "readiness.status.sidecar.istio.io/"
_INJECT = "sidecar.istio.io/inject"

_FOR: dict[str, tuple[str, ...]] = {
    "Pod": (
        *(f"sidecar.istio.io/{name}" for name in (
            "inject", "status", "rewriteAppHTTPProbers", "controlPlaneAuthPolicy", "discoveryAddress", "proxyImage",
            "proxyImageType", "proxyCPU", "proxyCPULimit", "proxyMemory", "proxyMemoryLimit", "interceptionMode",
            "bootstrapOverride", "statsInclusionPrefixes", "statsInclusionSuffixes", "statsInclusionRegexps",
            "statsHistogramBuckets", "statsCompression", "statsEvictionInterval", "userVolume", "userVolumeMount",
            "enableCoreDump", "logLevel", "componentLogLevel", "agentLogLevel", "extraStatTags", "nativeSidecar",
            "capNetBindService", "init-containers-before-proxy",
        )),
        *(_READY + name for name in ("initialDelaySeconds", "periodSeconds", "failureThreshold", "applicationPorts")),
        *(_TRAFFIC + name for name in (
            "includeOutboundIPRanges", "excludeOutboundIPRanges", "includeInboundPorts", "excludeInboundPorts",
            "includeOutboundPorts", "excludeOutboundPorts", "kubevirtInterfaces", "excludeInterfaces",
        )),
        "status.sidecar.istio.io/port", "prometheus.istio.io/merge-metrics", "proxy.istio.io/config",
        "proxy.istio.io/overrides", "inject.istio.io/templates", "istio.io/rev", "istio.io/reroute-virtual-interfaces",
        "alpha.istio.io/identity", "ambient.istio.io/redirection", "ambient.istio.io/bypass-inbound-capture",
        "ambient.istio.io/dns-capture",
    ),
    "Service": (
        "networking.istio.io/exportTo", "networking.istio.io/traffic-distribution", "traffic.istio.io/nodeSelector",
        "alpha.istio.io/kubernetes-serviceaccounts", "alpha.istio.io/canonical-serviceaccounts",
    ),
    "Namespace": ("topology.istio.io/controlPlaneClusters",),
    "Gateway": (
        "networking.istio.io/service-type", "networking.istio.io/address-type", "gateway.istio.io/controller-version",
        "gateway.istio.io/name-override", "gateway.istio.io/service-account",
    ),
    "GatewayClass": ("ambient.istio.io/waypoint-inbound-binding",),
    "AuthorizationPolicy": ("istio.io/dry-run",),
    "WorkloadEntry": tuple(
        f"istio.io/{name}"
        for name in ("autoRegistrationGroup", "workloadController", "connectedAt", "disconnectedAt")
    ),
    "Ingress": ("kubernetes.io/ingress.class",),
    "Any": (
        "galley.istio.io/analyze-suppress",
        *(f"install.operator.istio.io/{name}" for name in ("chart-owner", "owner-generation", "version")),
    ),
}  # fmt: skip
"""Istio's annotations (istio.io/api, annotation/annotations.yaml) by the kind that they are for."""

_KIND_OF = {name: kind for kind, names in _FOR.items() for name in names}
_GONE = frozenset(
    (
        *(f"sidecar.istio.io/{name}" for name in (
            "inject", "controlPlaneAuthPolicy", "discoveryAddress", "statsInclusionPrefixes", "statsInclusionSuffixes",
            "statsInclusionRegexps", "enableCoreDump",
        )),
        *(f"alpha.istio.io/{name}" for name in ("kubernetes-serviceaccounts", "canonical-serviceaccounts", "identity")),
        f"{_TRAFFIC}kubevirtInterfaces",
    )
)  # fmt: skip


def annotated(world: World) -> Iterator[Said]:
    """What is wrong with them."""
    for item in (one for kind in _KINDS for one in world.all(kind)):
        for key, value in own(item).items():
            if not (key.partition("/")[0].endswith("istio.io") or key == "kubernetes.io/ingress.class"):
                continue
            kind = _KIND_OF.get(key, "")
            # What Istio writes for itself is nobody's mistake.
            if not kind and key.startswith("internal.istio.io/"):
                continue
            if not kind:
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
