# SPDX-License-Identifier: Apache-2.0
"""The extension providers of the mesh's settings: who is asked for permission, and who takes logs, metrics and spans.

Which kinds there are, and which settings each has, is MeshConfig's: https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["ACCESS_LOG", "OUTPUTS", "hosts_in", "settings_unplayed", "takers", "unheard"]

ACCESS_LOG = "envoyFileAccessLog"
_PROMETHEUS = "prometheus"

_ANSWERS = "headersToUpstreamOnAllow headersToDownstreamOnDeny headersToDownstreamOnAllow"
_BODY = "includeRequestBodyInCheck"
_BODY_PARTS = f"{_BODY}.maxRequestBytes {_BODY}.allowPartialMessage {_BODY}.packAsBytes"
_ASKED = f"service port timeout failOpen statusOnError {_BODY_PARTS}"
_ASKED_HEADERS = "includeHeadersInCheck includeRequestHeadersInCheck includeAdditionalHeadersInCheck.*"
_PLAYED = {
    "envoyExtAuthzHttp": f"{_ASKED} pathPrefix {_ASKED_HEADERS} {_ANSWERS}",
    "envoyExtAuthzGrpc": _ASKED,
    "zipkin": "service port path maxTagLength enable64bitTraceId",
    "opentelemetry": "service port maxTagLength http.path http.timeout http.headers.name http.headers.value"
    " grpc.timeout grpc.initialMetadata.name grpc.initialMetadata.value",
    _PROMETHEUS: "",
    ACCESS_LOG: "path logFormat.text logFormat.labels.* omitEmptyValues",
}
"""Of each kind that is played the settings that are; `.*` for whatever is below."""
_NOT_HERE = (
    *("lightstep", "datadog", "stackdriver", "opencensus", "skywalking"),
    *("envoyHttpAls", "envoyTcpAls", "envoyOtelAls", "sds"),
)
"""Kinds that Istio knows and the sandbox does not play: said where somebody asks for one, for a release lists some."""
_KINDS = {
    "accessLogging": (ACCESS_LOG,),
    "metrics": (_PROMETHEUS,),
    "tracing": ("zipkin", "opentelemetry"),
}
_BUILT_IN = {"envoy": {ACCESS_LOG: {"path": "/dev/stdout"}}, "prometheus": {_PROMETHEUS: {}}}
"""Those that a mesh has without naming them."""
OUTPUTS = ("/dev/stdout", "/dev/stderr")


def _kind(provider: Mapping[str, Any]) -> str:
    """The kind of a provider; what stands in its place where Istio knows no such kind; "" where nothing does."""
    known = [name for name in provider if name in _PLAYED or name in _NOT_HERE]
    return next(iter(known), next((name for name in provider if name != "name"), ""))


def settings_unplayed(providers: list[Mapping[str, Any]]) -> Iterator[str]:
    """The paths of what `providers`, the mesh's, say to no effect.

    Whole kinds that are not played are not among them: a release lists providers that nobody asks.
    """
    for provider in providers:
        kind = _kind(provider)
        where = f"extensionProviders[{provider.get('name')}].{kind}"
        if kind and kind not in _PLAYED and kind not in _NOT_HERE:
            yield where
        yield from sorted({f"{where}.{path}" for path in _paths(provider.get(kind)) if not _is_played(kind, path)})


def _paths(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _paths(below, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for one in value:
            yield from _paths(one, path)
    elif path and value not in (None, "", False, 0, []):
        yield path


def _is_played(kind: str, path: str) -> bool:
    if kind not in _PLAYED:
        return True
    return any(
        path.startswith(played[:-1]) if played.endswith(".*") else path == played for played in _PLAYED[kind].split()
    )


def hosts_in(providers: Mapping[str, Any]) -> set[str]:
    """The hosts of the Services that `providers`, the mesh's by name, are asked at."""
    settings = (one for provider in providers.values() if isinstance(provider, dict) for one in provider.values())
    return {str(one.get("service") or "").rpartition("/")[2] for one in settings if isinstance(one, dict)}


def takers(section: str, providers: Mapping[str, Any]) -> dict[str, Any]:
    """The providers that can be asked for what a section of Telemetry objects is about: name → as it is written.

    Args:
        section: "accessLogging", "metrics" or "tracing".
        providers: The mesh's, by name.

    Returns:
        Their names in small letters, as Istio compares them.
    """
    found: dict[str, Any] = {}
    for name, provider in _known(providers).items():
        kind = _kind(provider)
        if kind in _KINDS[section] and not (kind == ACCESS_LOG and _elsewhere(provider)):
            found[name] = provider
    return found


def _known(providers: Mapping[str, Any]) -> dict[str, Any]:
    return {**_BUILT_IN, **{name.lower(): provider for name, provider in providers.items()}}


def _elsewhere(provider: Mapping[str, Any]) -> str:
    """Where a log goes that goes not to the proxy's own output; "" where it does."""
    settings = provider[ACCESS_LOG]
    path = str((settings if isinstance(settings, dict) else {}).get("path") or "")
    return "" if path in OUTPUTS else path or '""'


def unheard(section: str, name: str, providers: Mapping[str, Any]) -> str:
    """Why nothing comes of a section of a Telemetry object that names a provider; "" where something does.

    Args:
        section: "accessLogging", "metrics" or "tracing".
        name: The provider's.
        providers: The mesh's, by name.
    """
    there = _known(providers)
    provider = there.get(name.lower())
    if name.lower() in takers(section, providers):
        return ""
    if provider is None:
        return f"meshConfig.extensionProviders has no {name!r} (there are: {', '.join(sorted(there))})"
    kind = _kind(provider)
    if kind == ACCESS_LOG == _KINDS[section][0]:
        return f"provider {name!r} logs to {_elsewhere(provider)}: the sandbox plays /dev/stdout and /dev/stderr"
    if kind in _PLAYED:
        return f"provider {name!r} is of kind {kind}, which is not asked for {section}"
    return f"provider {name!r} is of kind {kind or 'none'}, which the sandbox does not play"
