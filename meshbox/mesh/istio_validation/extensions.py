# SPDX-License-Identifier: Apache-2.0
"""What changes proxies themselves, as Istio's webhook looks at it: EnvoyFilters, WasmPlugins and ProxyConfigs."""

from __future__ import annotations

import re
from typing import Any

from meshbox.contracts import Obj
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation import texts
from meshbox.mesh.istio_validation.attachment import attached, selected, workloads_selected
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.istio_validation.texts import quoted
from meshbox.mesh.istio_validation.urls import scheme

__all__ = ["envoy_filter", "proxy_config", "traffic_extension", "wasm_plugin"]

_MANAGER = "envoy.filters.network.http_connection_manager"
_CLASSES = {
    "LISTENER": ("listener", "listener class objects cannot have non listener match"),
    "ROUTE_CONFIGURATION": (
        "routeConfiguration",
        "http route class objects cannot have non route configuration match",
    ),
    "CLUSTER": ("cluster", "cluster class objects cannot have non cluster match"),
}
_CLASSES |= dict.fromkeys(("FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"), _CLASSES["LISTENER"])
_CLASSES |= dict.fromkeys(("VIRTUAL_HOST", "HTTP_ROUTE"), _CLASSES["ROUTE_CONFIGURATION"])
_MATCHES = ("listener", "routeConfiguration", "cluster", "waypoint")
_RENAMED = {
    "envoy.http_connection_manager": _MANAGER,
    "envoy.tcp_proxy": "envoy.filters.network.tcp_proxy",
    "envoy.router": "envoy.filters.http.router",
    "envoy.cors": "envoy.filters.http.cors",
    "envoy.fault": "envoy.filters.http.fault",
    "envoy.lua": "envoy.filters.http.lua",
    "envoy.ext_authz": "envoy.filters.http.ext_authz",
    "envoy.rate_limit": "envoy.filters.http.ratelimit",
    "envoy.grpc_web": "envoy.filters.http.grpc_web",
    "envoy.grpc_json_transcoder": "envoy.filters.http.grpc_json_transcoder",
    "envoy.gzip": "envoy.filters.http.gzip",
    "envoy.buffer": "envoy.filters.http.buffer",
    "envoy.health_check": "envoy.filters.http.health_check",
    "envoy.mongo_proxy": "envoy.filters.network.mongo_proxy",
    "envoy.redis_proxy": "envoy.filters.network.redis_proxy",
}
"""Names that Envoy's filters once had."""


def envoy_filter(obj: Obj, problems: Problems) -> None:
    """Look at an EnvoyFilter."""
    spec: Json = obj.get("spec") or {}
    if problems.legacy:
        _legacy_filter(spec, problems)
        return
    problems.warn("EnvoyFilter exposes internal implementation details that may change at any time. Prefer other APIs "
                  "if possible, and exercise extreme caution, especially around upgrades.")  # fmt: skip
    selector = spec.get("workloadSelector")
    if selector is not None and not workloads_selected(selector, "Envoy filter", problems):
        return
    for patch in spec.get("configPatches") or []:
        said = _patch(patch or {}, problems)
        problems.require(not said, f"Envoy filter: {said}")


def _legacy_filter(spec: Json, problems: Problems) -> None:
    if not spec.get("filters") and not spec.get("configPatches"):
        problems.error("envoy filter: missing filters")
    for one in spec.get("filters") or []:
        one = one or {}
        position = (one.get("insertPosition") or {}).get("index")
        relative = position in ("BEFORE", "AFTER")
        if relative and not (one.get("insertPosition") or {}).get("relativeTo"):
            problems.error("envoy filter: missing relativeTo filter with BEFORE/AFTER index")
        if one.get("filterType") in (None, "", "INVALID"):
            problems.error("envoy filter: missing filter type")
        problems.require(one.get("filterName"), "envoy filter: missing filter name")
        if one.get("filterConfig") is None:
            problems.error("envoy filter: missing filter config")


def _patch(one: Json, problems: Problems) -> str:
    """What makes no sense in a patch; the first thing, as Istio looks no further then."""
    kind, patch, match = one.get("applyTo") or "INVALID", one.get("patch"), one.get("match") or {}
    if match.get("context") == "WAYPOINT":
        # Istio does not look at these yet.
        return ""
    if kind == "INVALID":
        return "missing applyTo"
    if patch is None:
        return "missing patch"
    if (patch.get("operation") or "INVALID") == "INVALID":
        return "missing patch operation"
    if patch["operation"] != "REMOVE" and patch.get("value") is None:
        return "missing patch value for non-remove operation"
    version = (match.get("proxy") or {}).get("proxyVersion")
    if version and (odd := texts.parsing_problem(str(version))):
        return f"invalid regex for proxy version, [{odd}]"
    wanted, words = _CLASSES.get(kind, ("", ""))
    given = next((key for key in _MATCHES if match.get(key) is not None), "")
    if wanted and given and given not in (wanted, "waypoint"):
        return f"applyTo for {words}"
    if wanted == "listener":
        return _filter_match(((match.get("listener") or {}).get("filterChain") or {}).get("filter"), kind, problems)
    return ""


def _filter_match(match: Json | None, kind: str, problems: Problems) -> str:
    if match is None:
        return ""
    if kind in ("LISTENER", "FILTER_CHAIN"):
        problems.warn(f"Envoy filter: filter match has no effect when used with {kind}")
    name, inner = match.get("name") or "", match.get("subFilter")
    if not name:
        return "filter match has no name to match on"
    if inner is not None:
        if kind != "HTTP_FILTER":
            return "subfilter match can be used with applyTo HTTP_FILTER only"
        if name not in (_MANAGER, "envoy.http_connection_manager"):
            return f"subfilter match requires filter match with {_MANAGER}"
        if not inner.get("name"):
            return "subfilter match has no name to match on"
    for used in (name, (inner or {}).get("name") or ""):
        if used in _RENAMED:
            problems.warn(f"using deprecated filter name {quoted(used)}; use {quoted(_RENAMED[used])} instead")
    return ""


def proxy_config(obj: Obj, problems: Problems) -> None:
    """Look at a ProxyConfig."""
    spec: Json = obj.get("spec") or {}
    selected(spec.get("selector"), problems)
    problems.require((spec.get("concurrency") or 0) >= 0, "concurrency must be greater than or equal to 0")


def wasm_plugin(obj: Obj, problems: Problems) -> None:
    """Look at a WasmPlugin."""
    spec: Json = obj.get("spec") or {}
    attached(spec, problems)
    said = [
        _url(str(spec.get("url") or "")),
        _digest(str(spec.get("sha256") or "")),
        "imagePullSecret field must be less than 253 characters long"
        if len(spec.get("imagePullSecret") or "") > 253
        else "",
        "pluginName field must be less than 255 characters long" if len(spec.get("pluginName") or "") > 256 else "",
        _environment((spec.get("vmConfig") or {}).get("env") or []),
        _ports(spec.get("match") or []),
    ]
    for text in said:
        problems.require(not text, text)


def traffic_extension(obj: Obj, problems: Problems) -> None:
    """Look at a TrafficExtension: whom it is about; the rest its schema looks at."""
    attached(obj.get("spec") or {}, problems)


def _url(url: str) -> str:
    if not url:
        return "url field needs to be set"
    name, odd = scheme(url, request=True)
    if odd and scheme(f"http://{url}", request=True)[1]:
        return f"failed to parse url: {odd}"
    if not odd and name not in ("", "file", "http", "https", "oci"):
        return f"url contains unsupported scheme: {name}"
    return ""


def _digest(text: str) -> str:
    if text and len(text) != 64:
        return "sha256 field must be 64 characters long"
    return "" if re.fullmatch("[a-f0-9]*", text) else "sha256 field must match [a-f0-9]{64} pattern"


def _environment(variables: list[Any]) -> str:
    seen: set[str] = set()
    for variable in variables:
        name = (variable or {}).get("name") or ""
        if not name:
            return "spec.vmConfig.env invalid"
        if len(name) > 256:
            return "env.name field must be less than 255 characters long"
        if name in seen:
            return "duplicate env"
        seen.add(name)
        if variable.get("valueFrom") not in (None, "", "INLINE") and variable.get("value"):
            return "value may only be set when valueFrom is INLINE"
    return ""


def _ports(selectors: list[Any]) -> str:
    for index, selector in enumerate(selectors):
        for number, port in enumerate((selector or {}).get("ports") or []):
            value = (port or {}).get("number") or 0
            if not 1 <= value <= 65535:
                return f"spec.Match[{index}].Ports[{number}] is out of range: {value}"
    return ""
