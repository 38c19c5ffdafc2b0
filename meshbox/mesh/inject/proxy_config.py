# SPDX-License-Identifier: Apache-2.0
"""How one pod's proxy is set up: the mesh's `defaultConfig`, over it the pod's annotation, then ProxyConfig objects."""

from __future__ import annotations

import json
from typing import Any

from labkit.ground import reading
from labkit.ground.labels import matches
from meshbox.contracts import Obj, Objects
from meshbox.mesh.inject.merging import merge_map

__all__ = ["CONFIG", "KNOWN_FIELDS", "PROXY_CONFIGS", "annotated", "effective", "told"]

CONFIG = "proxy.istio.io/config"
PROXY_CONFIGS = "proxyconfigs.networking.istio.io"

# fmt: off
KNOWN_FIELDS = frozenset({
    "configPath", "binaryPath", "customConfigFile", "serviceCluster", "drainDuration", "parentShutdownDuration",
    "discoveryAddress", "discoveryRefreshDelay", "zipkinAddress", "statsdUdpAddress", "proxyAdminPort",
    "availabilityZone", "controlPlaneAuthPolicy", "statNameLength", "concurrency", "proxyBootstrapTemplatePath",
    "interceptionMode", "tracing", "sds", "envoyAccessLogService", "envoyMetricsService", "proxyMetadata",
    "runtimeValues", "statusPort", "extraStatTags", "gatewayTopology", "terminationDrainDuration", "meshId",
    "readinessProbe", "proxyStatsMatcher", "holdApplicationUntilProxyStarts", "caCertificatesPem", "image",
    "privateKeyProvider", "proxyHeaders", "fileFlushInterval", "fileFlushMinSizeKb", "statsEvictionInterval",
    "statsCompression",
})
# fmt: on
"""The fields of Istio's ProxyConfig; what is not among them is refused, as the injector does."""

_DEFAULTS: Obj = {
    "configPath": "./etc/istio/proxy",
    "binaryPath": "/usr/local/bin/envoy",
    "serviceCluster": "istio-proxy",
    "drainDuration": "45s",
    "parentShutdownDuration": "60s",
    "terminationDrainDuration": "5s",
    "discoveryAddress": "istiod.istio-system.svc:15012",
    "proxyAdminPort": 15000,
    "controlPlaneAuthPolicy": "MUTUAL_TLS",
    "statNameLength": 189,
    "statusPort": 15020,
}
"""Istio's own values, which are not told to the proxy."""


def annotated(annotations: dict[str, str]) -> Obj:
    """What the pod's annotation says of its proxy.

    Raises:
        ValueError: it is no YAML, no map, or has a field that ProxyConfig does not.
    """
    text = annotations.get(CONFIG)
    if not text:
        return {}
    try:
        found = reading.yaml_value(text)
    except reading.ReadingError as error:
        raise ValueError(f"failed to convert to apply proxy config: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("failed to convert to apply proxy config: a map of ProxyConfig's fields is expected")
    if unknown := next((key for key in found if key not in KNOWN_FIELDS), None):
        raise ValueError(f'failed to convert to apply proxy config: unknown field "{unknown}"')
    if not isinstance(found.get("proxyMetadata") or {}, dict):
        raise ValueError("failed to convert to apply proxy config: proxyMetadata is no map")
    return found


def effective(objects: Objects, mesh: Obj, namespace: str, pod: Obj, root: str) -> Obj:
    """The proxy's settings, the last word first: ProxyConfig objects, the annotation, the mesh's `defaultConfig`."""
    meta = pod["metadata"]
    found = merge_map(mesh.get("defaultConfig") or {}, annotated(meta.get("annotations") or {}))
    labels = meta.get("labels") or {}
    ranked: list[tuple[int, str, Obj]] = []
    for where in dict.fromkeys((root, namespace)):
        for one in objects.list(PROXY_CONFIGS, where):
            spec = one.get("spec") or {}
            chosen = (spec.get("selector") or {}).get("matchLabels")
            if chosen and (where == root or not matches({"matchLabels": chosen}, labels)):
                continue
            rank = 0 if where == root else 2 if chosen else 1
            ranked.append((rank, one["metadata"].get("creationTimestamp") or "", spec))
    # Of several of one rank the oldest counts.
    for _, _, spec in sorted(sorted(ranked, key=lambda one: one[1], reverse=True), key=lambda one: one[0]):
        found = merge_map(found, _as_proxy_config(spec))
    return found


def _as_proxy_config(spec: Obj) -> Obj:
    found: Obj = {key: spec[key] for key in ("concurrency", "image") if key in spec}
    if variables := spec.get("environmentVariables"):
        found["proxyMetadata"] = variables
    return found


def told(config: Obj) -> str:
    """What variable PROXY_CONFIG says: the settings that are not Istio's own."""
    shown: dict[str, Any] = {key: value for key, value in config.items() if _DEFAULTS.get(key) != value}
    return json.dumps(shown, separators=(",", ":")) + "\n"
