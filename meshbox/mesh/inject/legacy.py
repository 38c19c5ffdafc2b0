# SPDX-License-Identifier: Apache-2.0
"""The sidecar as Istio 1.2's injector writes it into a pod."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from meshbox.contracts import Obj

if TYPE_CHECKING:
    from meshbox.mesh.inject.template import Template

__all__ = ["application_ports", "apply", "field_env"]


def application_ports(containers: list[Obj]) -> str:
    """The TCP ports that containers declare, as the proxy is told them."""
    ports = [
        port["containerPort"]
        for container in containers
        if container["name"] != "istio-proxy"
        for port in container.get("ports") or []
        if port.get("protocol", "TCP") == "TCP"
    ]
    return ",".join(str(port) for port in ports)


def field_env(name: str, path: str) -> Obj:
    """A variable with the value of a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def apply(pod: Obj, namespace: str, template: Template) -> None:
    """Write `istio-init`, `istio-proxy` and their volumes into `pod`."""
    spec, meta = pod["spec"], pod["metadata"]
    annotations: dict[str, str] = meta.get("annotations") or {}
    init = _init(spec, annotations, template)
    proxy = _proxy(pod, namespace, annotations, template)
    account = spec.get("serviceAccountName") or "default"
    volumes = [
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-certs", "secret": {"optional": True, "secretName": f"istio.{account}"}},
    ]
    spec["initContainers"] = [*(spec.get("initContainers") or []), init]
    spec["containers"] = [*spec["containers"], proxy]
    spec["volumes"] = [*(spec.get("volumes") or []), *volumes]
    status = {
        "version": hashlib.sha256(f"{template.release}{template.value('tag')}".encode()).hexdigest(),
        "initContainers": ["istio-init"],
        "containers": ["istio-proxy"],
        "volumes": ["istio-envoy", "istio-certs"],
        "imagePullSecrets": None,
    }
    meta["annotations"] = {**annotations, "sidecar.istio.io/status": json.dumps(status, separators=(",", ":"))}


def _init(spec: Obj, annotations: dict[str, str], template: Template) -> Obj:
    ports = application_ports(spec["containers"])
    status = annotations.get("status.sidecar.istio.io/port", str(template.value("proxy.statusPort", 15020)))
    excluded = annotations.get(
        "traffic.sidecar.istio.io/excludeInboundPorts", template.value("proxy.excludeInboundPorts")
    )
    ranges = "traffic.sidecar.istio.io/{}OutboundIPRanges"
    arguments = [
        "-p", "15001", "-u", "1337", "-m", annotations.get("sidecar.istio.io/interceptionMode", "REDIRECT"),
        "-i", annotations.get(ranges.format("include"), template.value("proxy.includeIPRanges", "*")),
        "-x", annotations.get(ranges.format("exclude"), template.value("proxy.excludeIPRanges")),
        "-b", annotations.get("traffic.sidecar.istio.io/includeInboundPorts", ports),
        "-d", ",".join(part for part in (excluded, status) if part),
    ]  # fmt: skip
    return {
        "name": "istio-init",
        "image": template.image(template.value("proxy_init.image", "proxy_init")),
        "args": arguments,
        "imagePullPolicy": template.value("imagePullPolicy", "IfNotPresent") or "IfNotPresent",
        "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}, "limits": {"cpu": "100m", "memory": "50Mi"}},
        "securityContext": {"runAsUser": 0, "runAsNonRoot": False, "capabilities": {"add": ["NET_ADMIN"]}},
    }


def _proxy(pod: Obj, namespace: str, annotations: dict[str, str], template: Template) -> Obj:
    spec, labels = pod["spec"], pod["metadata"].get("labels") or {}
    ports = application_ports(spec["containers"])
    status = annotations.get("status.sidecar.istio.io/port", str(template.value("proxy.statusPort", 15020)))
    resources = template.value("proxy.resources", {})
    asked = {
        kind: annotations[key]
        for kind, key in (("cpu", "sidecar.istio.io/proxyCPU"), ("memory", "sidecar.istio.io/proxyMemory"))
        if key in annotations
    }
    container: Obj = {
        "name": "istio-proxy",
        "image": annotations.get("sidecar.istio.io/proxyImage")
        or template.image(template.value("proxy.image", "proxyv2")),
        "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
        "args": _arguments(labels, annotations, template, namespace, status, ports),
        "env": _env(pod, annotations, labels, ports),
        "imagePullPolicy": template.value("imagePullPolicy", "IfNotPresent") or "IfNotPresent",
        "securityContext": {"readOnlyRootFilesystem": True, "runAsUser": 1337},
        "resources": {"requests": asked} if asked else resources,
        "volumeMounts": [
            {"mountPath": "/etc/istio/proxy", "name": "istio-envoy"},
            {"mountPath": "/etc/certs/", "name": "istio-certs", "readOnly": True},
        ],
    }
    if status != "0":
        prefix = "readiness.status.sidecar.istio.io"

        def setting(annotation: str, key: str, default: int) -> int:
            return int(annotations.get(f"{prefix}/{annotation}", template.value(f"proxy.{key}", default)))

        container["readinessProbe"] = {
            "httpGet": {"path": "/healthz/ready", "port": int(status)},
            "initialDelaySeconds": setting("initialDelaySeconds", "readinessInitialDelaySeconds", 1),
            "periodSeconds": setting("periodSeconds", "readinessPeriodSeconds", 2),
            "failureThreshold": setting("failureThreshold", "readinessFailureThreshold", 30),
        }
    return container


def _arguments(
    labels: dict[str, str], annotations: dict[str, str], template: Template, namespace: str, status: str, ports: str
) -> list[str]:
    config = template.proxy_config
    zipkin = ((template.mesh.get("defaultConfig") or {}).get("tracing") or {}).get("zipkin") or {}
    app = labels.get("app")
    discovery = config("discoveryAddress", "istio-pilot.istio-system:15010")
    policy = config("controlPlaneAuthPolicy", "NONE")
    found = [
        "proxy", "sidecar",
        "--domain", f"$(POD_NAMESPACE).svc.{template.value('proxy.clusterDomain', 'cluster.local')}",
        "--configPath", config("configPath", "/etc/istio/proxy"),
        "--binaryPath", config("binaryPath", "/usr/local/bin/envoy"),
        "--serviceCluster", f"{app}.$(POD_NAMESPACE)" if app else f"istio-proxy.{namespace}",
        "--drainDuration", config("drainDuration", "45s"),
        "--parentShutdownDuration", config("parentShutdownDuration", "1m0s"),
        "--discoveryAddress", annotations.get("sidecar.istio.io/discoveryAddress", discovery),
    ]  # fmt: skip
    if template.value("proxy.tracer", "zipkin") == "zipkin":
        found += ["--zipkinAddress", zipkin.get("address") or "zipkin.istio-system:9411"]
    if level := template.value("proxy.logLevel"):
        found.append(f"--proxyLogLevel={level}")
    if level := template.value("proxy.componentLogLevel"):
        found.append(f"--proxyComponentLogLevel={level}")
    found += [
        "--dnsRefreshRate", str(template.value("proxy.dnsRefreshRate", "300s")),
        "--connectTimeout", config("connectTimeout", "10s"),
        "--proxyAdminPort", str(config("proxyAdminPort", 15000)),
        "--concurrency", str(config("concurrency", 2)),
        "--controlPlaneAuthPolicy", annotations.get("sidecar.istio.io/controlPlaneAuthPolicy", policy),
    ]  # fmt: skip
    if status != "0":
        listed = annotations.get("readiness.status.sidecar.istio.io/applicationPorts", ports)
        found += ["--statusPort", status, "--applicationPorts", listed]
    return [str(argument) for argument in found]


def _env(pod: Obj, annotations: dict[str, str], labels: dict[str, str], ports: str) -> list[Obj]:
    def plain(name: str, value: Any) -> Obj:
        return {"name": name, "value": value}

    found = [
        field_env("POD_NAME", "metadata.name"),
        field_env("POD_NAMESPACE", "metadata.namespace"),
        field_env("INSTANCE_IP", "status.podIP"),
        field_env("ISTIO_META_POD_NAME", "metadata.name"),
        field_env("ISTIO_META_CONFIG_NAMESPACE", "metadata.namespace"),
        plain("ISTIO_META_INTERCEPTION_MODE", annotations.get("sidecar.istio.io/interceptionMode", "REDIRECT")),
        plain(
            "ISTIO_META_INCLUDE_INBOUND_PORTS", annotations.get("traffic.sidecar.istio.io/includeInboundPorts", ports)
        ),
    ]
    if annotations:
        found.append(plain("ISTIO_METAJSON_ANNOTATIONS", json.dumps(annotations, separators=(",", ":")) + "\n"))
    if labels:
        found.append(plain("ISTIO_METAJSON_LABELS", json.dumps(labels, separators=(",", ":")) + "\n"))
    return found
