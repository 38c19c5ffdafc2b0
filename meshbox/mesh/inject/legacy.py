# SPDX-License-Identifier: Apache-2.0
"""The sidecar as Istio 1.2's injector writes it into a pod."""

from __future__ import annotations

import hashlib
import json

from labkit.ground import reading
from labkit.ground.numbers import whole
from meshbox.contracts import Obj
from meshbox.mesh.inject.annotations import integer
from meshbox.mesh.inject.filling import BOOTSTRAP, field_env, plain_env
from meshbox.mesh.inject.probes import rewrite_probes, rewrites
from meshbox.mesh.inject.template import Template

__all__ = ["application_ports", "apply"]

_MODE = "sidecar.istio.io/interceptionMode"


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


def apply(pod: Obj, namespace: str, template: Template) -> None:
    """Write `istio-init`, `istio-proxy` and their volumes into `pod`.

    Raises:
        ValueError: its annotations, or the installation's values, are nothing that a template could be filled with.
    """
    spec, meta = pod["spec"], pod["metadata"]
    annotations: dict[str, str] = meta.get("annotations") or {}
    inits = [] if annotations.get(_MODE) == "NONE" else [_init(spec, annotations, template)]
    proxy = _proxy(pod, namespace, annotations, template)
    account = spec.get("serviceAccountName") or "default"
    volumes: list[Obj] = [
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-certs", "secret": {"optional": True, "secretName": f"istio.{account}"}},
        *_own(annotations, "sidecar.istio.io/userVolume"),
    ]
    if BOOTSTRAP in annotations:
        volumes.insert(0, {"name": "custom-bootstrap-volume", "configMap": {"name": annotations[BOOTSTRAP]}})
    status_port = whole(_status_port(annotations, template)) or 0
    switched = (template.values.get("sidecarInjectorWebhook") or {}).get("rewriteAppHTTPProbe", False)
    if status_port and rewrites(annotations, switched):
        told = rewrite_probes(spec["containers"], annotations, status_port, legacy=True)
        proxy["env"] += [plain_env("ISTIO_KUBE_APP_PROBERS", told)] if told else []
    if inits:
        spec["initContainers"] = [*(spec.get("initContainers") or []), *inits]
    spec["containers"] = [*spec["containers"], proxy]
    spec["volumes"] = [*(spec.get("volumes") or []), *volumes]
    status = {
        "version": hashlib.sha256(f"{template.release}{template.value('tag')}".encode()).hexdigest(),
        "initContainers": [one["name"] for one in inits] or None,
        "containers": ["istio-proxy"],
        "volumes": [volume["name"] for volume in volumes],
        "imagePullSecrets": None,
    }
    meta["annotations"] = {
        **annotations,
        **template.annotations,
        "sidecar.istio.io/status": json.dumps(status, separators=(",", ":")),
    }


def _status_port(annotations: dict[str, str], template: Template) -> str:
    return str(annotations.get("status.sidecar.istio.io/port", template.value("proxy.statusPort", 15020)))


def _own(annotations: dict[str, str], name: str) -> list[Obj]:
    """The user's own volumes, or where they are mounted: by name, in JSON."""
    try:
        found = reading.json_value(annotations.get(name) or "{}")
    except reading.ReadingError as error:
        raise ValueError(f"annotation {name}: {error}") from error
    return [{"name": key, **value} for key, value in sorted(found.items())]


def _init(spec: Obj, annotations: dict[str, str], template: Template) -> Obj:
    ports = application_ports(spec["containers"])
    status = _status_port(annotations, template)
    excluded = annotations.get(
        "traffic.sidecar.istio.io/excludeInboundPorts", template.value("proxy.excludeInboundPorts")
    )
    ranges = "traffic.sidecar.istio.io/{}OutboundIPRanges"
    arguments = [
        "-p", "15001", "-u", "1337", "-m", annotations.get(_MODE, "REDIRECT"),
        "-i", annotations.get(ranges.format("include"), template.value("proxy.includeIPRanges", "*")),
        "-x", annotations.get(ranges.format("exclude"), template.value("proxy.excludeIPRanges")),
        "-b", annotations.get("traffic.sidecar.istio.io/includeInboundPorts", ports),
        "-d", ",".join(part for part in (excluded, "" if status == "0" else status) if part),
    ]  # fmt: skip
    outbound = "traffic.sidecar.istio.io/excludeOutboundPorts"
    if outbound in annotations or template.value("proxy.excludeOutboundPorts"):
        arguments += ["-o", str(annotations.get(outbound, template.value("proxy.excludeOutboundPorts")))]
    if interfaces := annotations.get("traffic.sidecar.istio.io/kubevirtInterfaces"):
        arguments += ["-k", interfaces]
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
    status = _status_port(annotations, template)
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
            *_own(annotations, "sidecar.istio.io/userVolumeMount"),
        ],
    }
    if BOOTSTRAP in annotations:
        mount = {"mountPath": "/etc/istio/custom-bootstrap", "name": "custom-bootstrap-volume"}
        container["volumeMounts"].insert(0, mount)
    if annotations.get(_MODE) == "TPROXY":
        container["securityContext"] = {
            "readOnlyRootFilesystem": True,
            "capabilities": {"add": ["NET_ADMIN"]},
            "runAsGroup": 1337,
        }
    if status != "0":
        prefix = "readiness.status.sidecar.istio.io"

        def setting(annotation: str, key: str, default: int) -> int:
            return integer(annotations.get(f"{prefix}/{annotation}", template.value(f"proxy.{key}", default)))

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
    found = [
        field_env("POD_NAME", "metadata.name"),
        field_env("POD_NAMESPACE", "metadata.namespace"),
        field_env("INSTANCE_IP", "status.podIP"),
        field_env("ISTIO_META_POD_NAME", "metadata.name"),
        field_env("ISTIO_META_CONFIG_NAMESPACE", "metadata.namespace"),
        plain_env("ISTIO_META_INTERCEPTION_MODE", annotations.get(_MODE, "REDIRECT")),
        plain_env(
            "ISTIO_META_INCLUDE_INBOUND_PORTS", annotations.get("traffic.sidecar.istio.io/includeInboundPorts", ports)
        ),
    ]
    if annotations:
        found.append(plain_env("ISTIO_METAJSON_ANNOTATIONS", json.dumps(annotations, separators=(",", ":")) + "\n"))
    if BOOTSTRAP in annotations:
        found.append(plain_env("ISTIO_BOOTSTRAP_OVERRIDE", "/etc/istio/custom-bootstrap/custom_bootstrap.json"))
    if labels:
        found.append(plain_env("ISTIO_METAJSON_LABELS", json.dumps(labels, separators=(",", ":")) + "\n"))
    return found
