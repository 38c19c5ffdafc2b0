# SPDX-License-Identifier: Apache-2.0
"""What of a proxy's settings (ProxyConfig) the sandbox does not play, whoever says them: a pod, or the mesh for all."""

from __future__ import annotations

from collections.abc import Iterator

from meshbox.contracts import Obj

__all__ = ["SIGNERS", "fields_unplayed"]

_FIELDS_NOT_HERE = {
    "extraStatTags": "the mesh's metrics have Istio's own labels only",
    "envoyAccessLogService": "access logs go to the proxy's own output",
    "envoyMetricsService": "metrics are scraped",
    "statsdUdpAddress": "metrics are scraped",
    "privateKeyProvider": "keys are kept in the proxy itself",
    "proxyHeaders": "the headers that proxies add are Istio's own",
    "customConfigFile": "the proxy starts with the sandbox's own bootstrap",
    "proxyBootstrapTemplatePath": "the proxy starts with the sandbox's own bootstrap",
    "caCertificatesPem": "the mesh has one authority",
    "readinessProbe": "it is for virtual machines",
    "proxyAdminPort": "the admin interface stays at port 15000",
    "statNameLength": "names of statistics are not cut",
    "controlPlaneAuthPolicy": "the way to the control plane is the sandbox's own",
    "fileFlushInterval": "logs are written at once",
    "fileFlushMinSizeKb": "logs are written at once",
    "statsEvictionInterval": "statistics are kept",
    "statsCompression": "statistics are sent as they are",
    "configPath": "the bootstrap stays where it is",
    "binaryPath": "the proxy is the sandbox's own Envoy",
}
SIGNERS = ("CA_ADDR", "CA_PROVIDER", "ISTIO_META_CERT_SIGNER")
"""Variables of a proxy by which another authority is to sign for it."""
_USUAL = {
    "proxyAdminPort": (15000,),
    "controlPlaneAuthPolicy": ("MUTUAL_TLS", "NONE"),
    "configPath": ("./etc/istio/proxy", "/etc/istio/proxy"),
    "binaryPath": ("/usr/local/bin/envoy",),
    "statNameLength": (189,),
}
"""What says no more than what is so anyway."""


def fields_unplayed(config: Obj) -> Iterator[tuple[str, str]]:
    """What of a proxy's settings (ProxyConfig) is not played here: each field, and why."""
    for name, why in _FIELDS_NOT_HERE.items():
        if config.get(name) and config[name] not in _USUAL.get(name, ()):
            yield name, why
    variables = config.get("proxyMetadata")
    for name in filter(variables.get, SIGNERS) if isinstance(variables, dict) else ():
        yield f"proxyMetadata.{name}", "the mesh has one authority"
    address = str(config.get("discoveryAddress") or "")
    if address and not address.startswith(("istiod", "istio-pilot")):
        yield "discoveryAddress", "the proxy asks the sandbox's control plane"
    tracing, played = config.get("tracing"), {"sampling", "zipkin", "customTags", "custom_tags"}
    for name in sorted({*tracing} - played) if isinstance(tracing, dict) else ():
        yield f"tracing.{name}", "use a Telemetry object"
