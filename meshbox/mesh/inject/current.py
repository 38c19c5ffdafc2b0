# SPDX-License-Identifier: Apache-2.0
"""The sidecar as today's injector writes it into a pod: a native one, an init container that goes on running."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from labkit.ground.int_or_string import named_port
from meshbox.contracts import Obj
from meshbox.mesh.inject.legacy import field_env

if TYPE_CHECKING:
    from meshbox.mesh.inject.template import Template

__all__ = ["apply"]

_VOLUMES = (
    "workload-socket",
    "credential-socket",
    "workload-certs",
    "istio-envoy",
    "istio-data",
    "istio-podinfo",
    "istio-token",
    "istiod-ca-cert",
    "istio-ca-crl",
)
_PROBES = (("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz"))


def apply(pod: Obj, namespace: str, template: Template) -> None:
    """Write `istio-init`, `istio-proxy`, volumes, labels and annotations into `pod`."""
    spec, meta = pod["spec"], pod["metadata"]
    annotations: dict[str, str] = meta.get("annotations") or {}
    native = annotations.get("sidecar.istio.io/nativeSidecar", "true") != "false"
    name, kind = _workload(meta)
    probers = (
        _take_over_probes(spec)
        if template.values.get("sidecarInjectorWebhook", {}).get("rewriteAppHTTPProbe", True)
        else {}
    )
    proxy = _proxy(pod, namespace, template, native, name, kind, probers)
    before = list(spec.get("initContainers") or [])
    init = _init(annotations, template)
    if native:
        # First, so that the application's own init containers already have a network.
        spec["initContainers"] = [init, proxy, *before]
    else:
        spec["initContainers"] = [init, *before]
        spec["containers"] = [proxy, *spec["containers"]]
    spec["volumes"] = [*(spec.get("volumes") or []), *_volumes(template)]
    meta["labels"] = _labels(meta.get("labels") or {}, name)
    meta["annotations"] = _annotations(annotations, spec, native)


def _workload(meta: Obj) -> tuple[str, str]:
    """The name and kind of the workload behind a pod that is being created."""
    owner = next((o for o in meta.get("ownerReferences") or [] if o.get("controller")), None)
    if owner is None:
        return str(meta.get("name") or meta.get("generateName", "").rstrip("-")), "Pod"
    pod_hash = (meta.get("labels") or {}).get("pod-template-hash", "")
    if owner["kind"] == "ReplicaSet" and pod_hash and owner["name"].endswith(f"-{pod_hash}"):
        return owner["name"].removesuffix(f"-{pod_hash}"), "Deployment"
    return owner["name"], owner["kind"]


def _labels(labels: dict[str, str], workload: str) -> dict[str, str]:
    names = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
    revisions = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
    name = next((labels[key] for key in names if labels.get(key)), workload)[:63].rstrip("-")
    revision = next((labels[key] for key in revisions if labels.get(key)), "latest")
    return {
        "security.istio.io/tlsMode": "istio",
        **labels,
        "service.istio.io/canonical-name": name,
        "service.istio.io/canonical-revision": revision,
    }


def _annotations(annotations: dict[str, str], spec: Obj, native: bool) -> dict[str, str]:
    first = next((c["name"] for c in spec["containers"] if c["name"] != "istio-proxy"), "")
    status = {
        "initContainers": ["istio-init", "istio-proxy"] if native else ["istio-init"],
        "containers": None if native else ["istio-proxy"],
        "volumes": list(_VOLUMES),
        "imagePullSecrets": None,
        "revision": "default",
    }
    added = {
        "istio.io/rev": "default",
        "kubectl.kubernetes.io/default-container": annotations.get("kubectl.kubernetes.io/default-container", first),
        "kubectl.kubernetes.io/default-logs-container": annotations.get(
            "kubectl.kubernetes.io/default-logs-container", first
        ),
        "sidecar.istio.io/status": json.dumps(status, separators=(",", ":")),
    }
    if annotations.get("prometheus.istio.io/merge-metrics") != "false":
        # The proxy answers for both; where the application's own metrics were it is told in a variable.
        added |= {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": "15020",
            "prometheus.io/path": "/stats/prometheus",
        }
    return {**annotations, **added}


def _init(annotations: dict[str, str], template: Template) -> Obj:
    def annotation(name: str, value: str) -> str:
        return str(annotations.get(f"traffic.sidecar.istio.io/{name}", template.value(f"proxy.{value}")))

    excluded = annotation("excludeInboundPorts", "excludeInboundPorts")
    ports = ",".join(part for part in ("15090,15021", excluded, str(template.value("proxy.statusPort", 15020))) if part)
    arguments = [
        "istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337",
        "-m", annotations.get("sidecar.istio.io/interceptionMode", "REDIRECT"),
        "-i", annotation("includeOutboundIPRanges", "includeIPRanges") or "*",
        "-x", annotation("excludeOutboundIPRanges", "excludeIPRanges"),
        "-b", annotation("includeInboundPorts", "includeInboundPorts") or "*",
        "-d", ports,
        f"--log_output_level={_log_level(annotations, template)}",
    ]  # fmt: skip
    return {
        "name": "istio-init",
        "image": _image(annotations, template, "proxy_init.image"),
        "args": arguments,
        "resources": _resources(annotations, template),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": False,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
    }


def _image(annotations: dict[str, str], template: Template, key: str) -> str:
    return template.image(annotations.get("sidecar.istio.io/proxyImage") or template.value(key, "proxyv2"))


def _log_level(annotations: dict[str, str], template: Template) -> str:
    return str(annotations.get("sidecar.istio.io/agentLogLevel", template.value("logging.level", "default:info")))


def _resources(annotations: dict[str, str], template: Template) -> Obj:
    asked: Obj = {}
    for kind, suffix in (("requests", ""), ("limits", "Limit")):
        for resource, name in (("cpu", "CPU"), ("memory", "Memory")):
            value = annotations.get(f"sidecar.istio.io/proxy{name}{suffix}")
            if value:
                asked.setdefault(kind, {})[resource] = value
    found: Obj = asked or template.value("proxy.resources", {})
    return found


def _proxy(pod: Obj, namespace: str, template: Template, native: bool, name: str, kind: str, probers: Obj) -> Obj:
    annotations: dict[str, str] = pod["metadata"].get("annotations") or {}
    arguments = [
        "proxy", "sidecar",
        "--domain", f"$(POD_NAMESPACE).svc.{template.value('proxy.clusterDomain', 'cluster.local')}",
        f"--proxyLogLevel={annotations.get('sidecar.istio.io/logLevel', template.value('proxy.logLevel', 'warning'))}",
        "--proxyComponentLogLevel="
        + str(annotations.get("sidecar.istio.io/componentLogLevel", template.value("proxy.componentLogLevel"))),
        f"--log_output_level={_log_level(annotations, template)}",
    ]  # fmt: skip

    def setting(annotation: str, key: str, default: int) -> int:
        said = annotations.get(f"readiness.status.sidecar.istio.io/{annotation}")
        return int(said if said is not None else template.value(f"proxy.{key}", default))

    ready = {"httpGet": {"path": "/healthz/ready", "port": 15021}, "timeoutSeconds": 3}
    container: Obj = {
        "name": "istio-proxy",
        "image": _image(annotations, template, "proxy.image"),
        "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
        "args": arguments,
        "env": _env(pod, namespace, template, name, kind, probers),
        "readinessProbe": {
            **ready,
            "initialDelaySeconds": setting("initialDelaySeconds", "readinessInitialDelaySeconds", 0),
            "periodSeconds": setting("periodSeconds", "readinessPeriodSeconds", 15),
            "failureThreshold": setting("failureThreshold", "readinessFailureThreshold", 4),
        },
        "startupProbe": {
            **ready,
            "initialDelaySeconds": 0,
            "periodSeconds": 1,
            "failureThreshold": int(template.value("proxy.startupProbe.failureThreshold", 600)),
        },
        "resources": _resources(annotations, template),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": 1337,
            "runAsNonRoot": True,
            "runAsUser": 1337,
        },
        "volumeMounts": _mounts(),
    }
    if native:
        drain = ["pilot-agent", "request", f"--debug-port={template.value('proxy.statusPort', 15020)}", "POST", "drain"]
        container["restartPolicy"] = "Always"
        container["lifecycle"] = {"preStop": {"exec": {"command": drain}}}
    return container


def _env(pod: Obj, namespace: str, template: Template, name: str, kind: str, probers: Obj) -> list[Obj]:
    def plain(key: str, value: Any) -> Obj:
        return {"name": key, "value": value}

    def resource(key: str, what: str) -> Obj:
        return {"name": key, "valueFrom": {"resourceFieldRef": {"resource": what, "divisor": "1"}}}

    containers = [c for c in pod["spec"]["containers"] if c["name"] != "istio-proxy"]
    ports = [port for container in containers for port in container.get("ports") or []]
    annotations = pod["metadata"].get("annotations") or {}
    trust = template.mesh.get("trustDomain") or "cluster.local"
    version = "v1" if kind == "Pod" else "apps/v1"
    cluster = template.value("multiCluster.clusterName") or "Kubernetes"
    found = [
        plain("PILOT_CERT_PROVIDER", template.value("pilotCertProvider", "istiod")),
        plain("CA_ADDR", template.value("caAddress") or "istiod.istio-system.svc:15012"),
        field_env("POD_NAME", "metadata.name"),
        field_env("POD_NAMESPACE", "metadata.namespace"),
        field_env("INSTANCE_IP", "status.podIP"),
        field_env("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field_env("HOST_IP", "status.hostIP"),
        resource("ISTIO_CPU_LIMIT", "limits.cpu"),
        plain("PROXY_CONFIG", "{}\n"),
        plain("ISTIO_META_POD_PORTS", json.dumps(ports)),
        plain("ISTIO_META_APP_CONTAINERS", ",".join(c["name"] for c in containers)),
        resource("GOMEMLIMIT", "limits.memory"),
        resource("GOMAXPROCS", "limits.cpu"),
        plain("ISTIO_META_CLUSTER_ID", cluster),
        field_env("ISTIO_META_NODE_NAME", "spec.nodeName"),
        plain("ISTIO_META_INTERCEPTION_MODE", annotations.get("sidecar.istio.io/interceptionMode", "REDIRECT")),
        plain("ISTIO_META_WORKLOAD_NAME", name),
        plain("ISTIO_META_OWNER", f"kubernetes://apis/{version}/namespaces/{namespace}/{kind.lower()}s/{name}"),
        plain("ISTIO_META_MESH_ID", trust),
        plain("TRUST_DOMAIN", trust),
    ]
    if annotations.get("prometheus.io/scrape") == "true":
        keys = ("scrape", "path", "port")
        told = {key: annotations.get(f"prometheus.io/{key}", "") for key in keys}
        found.append(plain("ISTIO_PROMETHEUS_ANNOTATIONS", json.dumps(told, separators=(",", ":"))))
    if probers:
        found.append(plain("ISTIO_KUBE_APP_PROBERS", json.dumps(probers, separators=(",", ":"))))
    return found


def _take_over_probes(spec: Obj) -> Obj:
    """Send the kubelet's HTTP probes to the proxy, which asks the application itself; where to, by path."""
    probers: Obj = {}
    for container in spec["containers"]:
        for key, word in _PROBES:
            probe = container.get(key) or {}
            http = probe.get("httpGet")
            if not http:
                continue
            path = f"/app-health/{container['name']}/{word}"
            asked = {**http, "port": named_port([container], http["port"]) or http["port"]}
            probers[path] = {"httpGet": asked, "timeoutSeconds": probe.get("timeoutSeconds", 1)}
            container[key] = {**probe, "httpGet": {"path": path, "port": 15020, "scheme": "HTTP"}}
    return probers


def _mounts() -> list[Obj]:
    places = {
        "workload-socket": "/var/run/secrets/workload-spiffe-uds",
        "credential-socket": "/var/run/secrets/credential-uds",
        "workload-certs": "/var/run/secrets/workload-spiffe-credentials",
        "istiod-ca-cert": "/var/run/secrets/istio",
        "istio-ca-crl": "/var/run/secrets/istio/crl",
        "istio-data": "/var/lib/istio/data",
        "istio-envoy": "/etc/istio/proxy",
        "istio-token": "/var/run/secrets/tokens",
        "istio-podinfo": "/etc/istio/pod",
    }
    return [{"name": name, "mountPath": path} for name, path in places.items()]


def _volumes(template: Template) -> list[Obj]:
    def field(path: str) -> Obj:
        return {"path": path, "fieldRef": {"fieldPath": f"metadata.{path}"}}

    audience = template.value("sds.token.aud", "istio-ca")
    token = {"serviceAccountToken": {"path": "istio-token", "expirationSeconds": 43200, "audience": audience}}
    sources: dict[str, Obj] = {
        "istio-envoy": {"emptyDir": {"medium": "Memory"}},
        "istio-podinfo": {"downwardAPI": {"items": [field("labels"), field("annotations")]}},
        "istio-token": {"projected": {"sources": [token]}},
        "istiod-ca-cert": {"configMap": {"name": "istio-ca-root-cert"}},
        "istio-ca-crl": {"configMap": {"name": "istio-ca-crl", "optional": True}},
    }
    return [{"name": name, **sources.get(name, {"emptyDir": {}})} for name in _VOLUMES]
