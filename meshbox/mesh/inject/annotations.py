# SPDX-License-Identifier: Apache-2.0
"""The annotations that pods switch their sidecar with: which values Istio takes, and what is not played here."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

from labkit.ground import quantity
from labkit.ground.numbers import whole
from meshbox.mesh.inject.proxy_config import CONFIG, annotated
from meshbox.mesh.proxy_fields import fields_unplayed

__all__ = ["TEMPLATES", "check", "enabled", "integer", "unplayed"]

TEMPLATES = "inject.istio.io/templates"

_YES, _NO = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


def enabled(text: str | None, default: bool) -> bool:
    """A switch as Go's strconv reads it; `default` where there is none."""
    return text in _YES if text in _YES + _NO else default


def integer(text: object) -> int:
    """A whole number in an annotation or a value of the installation.

    Raises:
        ValueError: it is none.
    """
    number = text if isinstance(text, int) else whole(str(text))
    if number is None:
        raise ValueError(f"{text!r} is no whole number")
    return number


def _mode(text: str) -> str:
    return (
        "" if text in ("REDIRECT", "TPROXY", "NONE") else f"interceptionMode invalid, use REDIRECT,TPROXY,NONE: {text}"
    )


def _port(text: str) -> str:
    number = whole(text.strip())
    if number is not None and 0 <= number < 65536 and text.strip().isdigit():
        return ""
    why = "value out of range" if text.strip().isdigit() else "invalid syntax"
    return f"failed parsing port '{text}': strconv.ParseUint: parsing \"{text.strip()}\": {why}"


def _status_port(text: str) -> str:
    problem = _port(text)
    return f"excludeInboundPorts invalid: {problem}" if problem else ""


def _ports(name: str, every: bool = False) -> Callable[[str], str]:
    def check(text: str) -> str:
        if every and text == "*":
            return ""
        problems = (_port(part) for part in text.split(",")) if text.strip() else iter(())
        found = next(filter(None, problems), "")
        return f"{name} invalid: {found}" if found else ""

    return check


def _ranges(name: str, every: bool = False) -> Callable[[str], str]:
    def check(text: str) -> str:
        for part in () if not text or (every and text == "*") else text.split(","):
            try:
                if "/" not in part:
                    raise ValueError
                ipaddress.ip_network(part, strict=False)
            except ValueError:
                why = "no '/'" if "/" not in part else "invalid CIDR address"
                return f"{name} invalid: failed parsing cidr '{part}': netip.ParsePrefix(\"{part}\"): {why}"
        return ""

    return check


def _unsigned(text: str) -> str:
    number = whole(text)
    if number is not None and text.isdigit() and number < 1 << 32:
        return ""
    return f'strconv.ParseUint: parsing "{text}": {"value out of range" if text.isdigit() else "invalid syntax"}'


def _bool(text: str) -> str:
    return "" if text in _YES + _NO else f'strconv.ParseBool: parsing "{text}": invalid syntax'


def _config(text: str) -> str:
    try:
        annotated({CONFIG: text})
    except ValueError as error:
        return str(error)
    return ""


_TRAFFIC, _READY = "traffic.sidecar.istio.io/", "readiness.status.sidecar.istio.io/"
_CHECKS: dict[str, Callable[[str], str]] = {
    "sidecar.istio.io/interceptionMode": _mode,
    "sidecar.istio.io/enableCoreDump": _bool,
    "status.sidecar.istio.io/port": _status_port,
    **{_READY + name: _unsigned for name in ("initialDelaySeconds", "periodSeconds", "failureThreshold")},
    f"{_READY}applicationPorts": _ports("readinessApplicationPorts"),
    f"{_TRAFFIC}includeOutboundIPRanges": _ranges("includeIPRanges", every=True),
    f"{_TRAFFIC}excludeOutboundIPRanges": _ranges("excludeIPRanges"),
    f"{_TRAFFIC}includeInboundPorts": _ports("includeInboundPorts", every=True),
    f"{_TRAFFIC}excludeInboundPorts": _ports("excludeInboundPorts"),
    f"{_TRAFFIC}includeOutboundPorts": _ports("includeOutboundPorts"),
    f"{_TRAFFIC}excludeOutboundPorts": _ports("excludeOutboundPorts"),
    "prometheus.istio.io/merge-metrics": _bool,
    CONFIG: _config,
}
_AMOUNTS = ("proxyCPU", "proxyMemory", "proxyCPULimit", "proxyMemoryLimit")
_TODAYS = ("prometheus.istio.io/merge-metrics", CONFIG, f"{_TRAFFIC}includeOutboundPorts")
"""Annotations that Istio 1.2 does not have."""


def check(annotations: dict[str, str], *, legacy: bool) -> None:
    """See that the values of a pod's annotations are such as the injector takes.

    Raises:
        ValueError: with the injector's words.
    """
    wrong = []
    for name, text in annotations.items():
        test = None if legacy and name in _TODAYS else _CHECKS.get(name)
        if test is not None and (problem := test(text)):
            wrong.append(f"invalid value '{text}' for annotation '{name}': {problem}")
    if wrong:
        many = "1 error" if len(wrong) == 1 else f"{len(wrong)} errors"
        raise ValueError(f"{many} occurred:\n" + "".join(f"\t* {one}\n" for one in wrong) + "\n")
    for name in _AMOUNTS:
        text = annotations.get(f"sidecar.istio.io/{name}", "")
        # Istio writes it into the pod as it is; the API server then refuses the pod.
        if text and (problem := quantity.problem(text)):
            raise ValueError(f"sidecar.istio.io/{name}: {text!r}: {problem}")


_NOT_HERE = {
    f"{_TRAFFIC}kubevirtInterfaces": "there are no interfaces of virtual machines here",
    "istio.io/reroute-virtual-interfaces": "there are no virtual interfaces here",
    f"{_TRAFFIC}excludeInterfaces": "a pod has one address here and no interfaces",
    "sidecar.istio.io/extraStatTags": "the mesh's metrics have Istio's own labels only",
    "sidecar.istio.io/enableCoreDump": "nothing dumps a core here",
    "sidecar.istio.io/controlPlaneAuthPolicy": "the way to the control plane is the sandbox's own",
    "sidecar.istio.io/discoveryAddress": "the proxy asks the sandbox's control plane",
    "sidecar.istio.io/statsCompression": "statistics are sent as they are",
    "sidecar.istio.io/statsEvictionInterval": "statistics are kept",
}
_OLD = frozenset(
    {f"sidecar.istio.io/{name}" for name in (
        "inject", "status", "rewriteAppHTTPProbers", "controlPlaneAuthPolicy", "discoveryAddress", "proxyImage",
        "proxyCPU", "proxyMemory", "interceptionMode", "bootstrapOverride", "statsInclusionPrefixes",
        "statsInclusionSuffixes", "statsInclusionRegexps", "userVolume", "userVolumeMount", "enableCoreDump",
    )}
    | {name for name in _CHECKS if name not in _TODAYS}
    | {f"{_TRAFFIC}kubevirtInterfaces"}
)  # fmt: skip
_KNOWN = _OLD | set(_CHECKS) | {
    *(f"sidecar.istio.io/{name}" for name in (
        "agentLogLevel", "capNetBindService", "componentLogLevel", "extraStatTags", "logLevel", "nativeSidecar",
        "proxyCPULimit", "proxyImageType", "proxyMemoryLimit", "statsHistogramBuckets", "statsCompression",
        "statsEvictionInterval", "init-containers-before-proxy",
    )),
    f"{_TRAFFIC}excludeInterfaces", TEMPLATES, "proxy.istio.io/overrides",
}  # fmt: skip
_DOMAINS = frozenset(name.partition("/")[0] for name in _KNOWN) - {"prometheus.istio.io"}


def _unknown(annotations: dict[str, str], *, legacy: bool) -> Iterator[str]:
    """Annotations that the release's injector takes no notice of."""
    for name in sorted(annotations):
        if name.partition("/")[0] in _DOMAINS and name not in (_OLD if legacy else _KNOWN):
            release = "Istio 1.2" if legacy and name in _KNOWN else "Istio"
            yield f"annotation {name} changes nothing: {release} has no such annotation"


def unplayed(annotations: dict[str, str], *, legacy: bool) -> Iterator[str]:
    """What of a pod's annotations is stored and not played here, each in a sentence."""
    yield from _unknown(annotations, legacy=legacy)
    for name, why in _NOT_HERE.items():
        if annotations.get(name):
            yield f"annotation {name} is not played by this sandbox: {why}"
    if annotations.get("sidecar.istio.io/interceptionMode") == "TPROXY":
        yield "annotation sidecar.istio.io/interceptionMode: TPROXY is played as REDIRECT: no iptables are set here"
    try:
        config = {} if legacy else annotated(annotations)
    except ValueError:
        return
    for name, why in fields_unplayed(config):
        yield f"field {name} of annotation {CONFIG} is not played by this sandbox: {why}"
