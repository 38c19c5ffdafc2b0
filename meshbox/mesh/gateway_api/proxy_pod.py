# SPDX-License-Identifier: Apache-2.0
"""The pod of a Gateway's own proxy, as Istio's template for such Gateways gives it."""

from __future__ import annotations

import json

from meshbox.contracts import Obj, View
from meshbox.mesh.inject import Template
from meshbox.mesh.model import annotations_of

__all__ = ["proxy_pod"]

_MOUNTS = (
    ("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
    ("credential-socket", "/var/run/secrets/credential-uds"),
    ("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
    ("istiod-ca-cert", "/var/run/secrets/istio"),
    ("istio-data", "/var/lib/istio/data"),
    ("istio-envoy", "/etc/istio/proxy"),
    ("istio-token", "/var/run/secrets/tokens"),
    ("istio-podinfo", "/etc/istio/pod"),
)


def proxy_pod(gateway: View, name: str, account: str, template: Template) -> Obj:
    """The spec of the pod.

    Args:
        gateway: The Gateway.
        name: Of the Deployment.
        account: The ServiceAccount.
        template: What Istio was installed with.
    """
    # Ports below 1024 are bound as they are: a Service's port is the pod's as well.
    low_ports = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
    return {
        "securityContext": {"sysctls": [low_ports]},
        "serviceAccountName": account,
        "containers": [_container(gateway, name, template)],
        "volumes": _volumes(),
    }


def _container(gateway: View, name: str, template: Template) -> Obj:
    annotations = annotations_of(gateway)
    image = annotations.get("sidecar.istio.io/proxyImage") or template.image(template.value("proxy.image", "proxyv2"))
    level = annotations.get("sidecar.istio.io/logLevel") or template.value("proxy.logLevel", "warning")
    components = annotations.get("sidecar.istio.io/componentLogLevel") or template.value(
        "proxy.componentLogLevel", "misc:error"
    )
    agent = annotations.get("sidecar.istio.io/agentLogLevel") or template.value("logging.level", "default:info")
    probe = {"httpGet": {"path": "/healthz/ready", "port": 15021, "scheme": "HTTP"}, "timeoutSeconds": 1}
    made: Obj = {
        "name": "istio-proxy",
        "image": image,
        "args": [
            "proxy",
            "router",
            "--domain",
            f"$(POD_NAMESPACE).svc.{template.value('proxy.clusterDomain', 'cluster.local')}",
            "--proxyLogLevel",
            level,
            "--proxyComponentLogLevel",
            components,
            "--log_output_level",
            agent,
        ],
        "ports": [
            {"containerPort": 15020, "name": "metrics", "protocol": "TCP"},
            {"containerPort": 15021, "name": "status-port", "protocol": "TCP"},
            {"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"},
        ],
        "env": _environment(gateway, name, template),
        "startupProbe": {**probe, "failureThreshold": 30, "initialDelaySeconds": 1, "periodSeconds": 1},
        "readinessProbe": {**probe, "failureThreshold": 4, "initialDelaySeconds": 0, "periodSeconds": 15},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsUser": 1337,
            "runAsGroup": 1337,
            "runAsNonRoot": True,
        },
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in _MOUNTS],
    }
    if resources := template.value("proxy.resources", {}):
        made["resources"] = resources
    if policy := template.value("imagePullPolicy"):
        made["imagePullPolicy"] = policy
    return made


def _environment(gateway: View, name: str, template: Template) -> list[Obj]:
    def field(variable: str, path: str) -> Obj:
        return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    def limit(variable: str, resource: str) -> Obj:
        return {"name": variable, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": "1"}}}

    namespace = gateway["metadata"]["namespace"]
    domain = template.mesh.get("trustDomain") or template.value("trustDomain", "cluster.local")
    defaults = template.mesh.get("defaultConfig") or {}
    more = {str(key): str(value) for key, value in (defaults.get("proxyMetadata") or {}).items()}
    fixed = {
        "ISTIO_META_POD_PORTS": "[]",
        "ISTIO_META_APP_CONTAINERS": "",
        "ISTIO_META_CLUSTER_ID": template.value("multiCluster.clusterName") or "Kubernetes",
        "ISTIO_META_INTERCEPTION_MODE": "REDIRECT",
        "ISTIO_META_WORKLOAD_NAME": name,
        "ISTIO_META_OWNER": f"kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{name}",
        "ISTIO_META_MESH_ID": template.value("meshID") or domain,
        "TRUST_DOMAIN": domain,
        **more,
    }
    system = template.value("istioNamespace", "istio-system")
    return [
        {"name": "PILOT_CERT_PROVIDER", "value": template.value("pilotCertProvider", "istiod")},
        {"name": "CA_ADDR", "value": template.value("caAddress") or f"istiod.{system}.svc:15012"},
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        limit("ISTIO_CPU_LIMIT", "limits.cpu"),
        {"name": "PROXY_CONFIG", "value": f"{json.dumps(defaults, sort_keys=True)}\n"},
        limit("GOMEMLIMIT", "limits.memory"),
        limit("GOMAXPROCS", "limits.cpu"),
        field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        *({"name": variable, "value": value} for variable, value in fixed.items()),
    ]


def _volumes() -> list[Obj]:
    token = {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}
    items = [{"path": part, "fieldRef": {"fieldPath": f"metadata.{part}"}} for part in ("labels", "annotations")]
    return [
        *({"name": name, "emptyDir": {}} for name in ("workload-socket", "credential-socket", "workload-certs")),
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-data", "emptyDir": {}},
        {"name": "istio-podinfo", "downwardAPI": {"items": items}},
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
    ]
