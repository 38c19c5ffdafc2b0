# SPDX-License-Identifier: Apache-2.0
"""What templates of today's release are filled in from, and the parts that the sidecar and the gateway share."""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct

from meshbox.contracts import Obj
from meshbox.mesh.inject.annotations import integer
from meshbox.mesh.inject.proxy_config import told
from meshbox.mesh.inject.template import Template

__all__ = ["BOOTSTRAP", "Filling", "field_env", "plain_env"]

BOOTSTRAP = "sidecar.istio.io/bootstrapOverride"


def field_env(name: str, path: str) -> Obj:
    """A variable with the value of a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def plain_env(name: str, value: Any) -> Obj:
    """A variable with a value."""
    return {"name": name, "value": value}


def _resource(key: str, what: str) -> Obj:
    return {"name": key, "valueFrom": {"resourceFieldRef": {"resource": what, "divisor": "1"}}}


class Filling(Struct, frozen=True):
    """A pod and the installation that it is injected by.

    Args:
        pod: The pod as it was asked for.
        namespace: Its namespace.
        template: The installation.
        config: The settings of its proxy.
    """

    pod: Obj
    namespace: str
    template: Template
    config: Obj

    @property
    def annotations(self) -> dict[str, str]:
        """The pod's annotations."""
        return self.pod["metadata"].get("annotations") or {}

    @property
    def labels(self) -> dict[str, str]:
        """The pod's labels."""
        return self.pod["metadata"].get("labels") or {}

    @property
    def applications(self) -> list[Obj]:
        """The pod's containers but the proxy."""
        return [container for container in self.pod["spec"]["containers"] if container["name"] != "istio-proxy"]

    def said(self, annotation: str, value: str, default: Any = "") -> str:
        """What an annotation says, else a value of the installation, as text."""
        found = self.annotations.get(annotation)
        return str(self.template.value(value, default) if found is None else found)

    @property
    def mode(self) -> str:
        """How traffic is intercepted: REDIRECT, TPROXY or NONE."""
        own = self.config.get("interceptionMode") or "REDIRECT"
        return str(self.annotations.get("sidecar.istio.io/interceptionMode", own))

    @property
    def status_port(self) -> str:
        """The port of the proxy's agent."""
        return self.said("status.sidecar.istio.io/port", "proxy.statusPort", 15020)

    @property
    def metadata(self) -> list[Obj]:
        """The variables that the proxy's settings name."""
        found = self.config.get("proxyMetadata") or {}
        return [plain_env(name, "" if value is None else str(value)) for name, value in sorted(found.items())]

    @property
    def workload(self) -> tuple[str, str, str]:
        """The name, kind and version of the workload behind a pod that is being created."""
        meta = self.pod["metadata"]
        owner = next((o for o in meta.get("ownerReferences") or [] if o.get("controller")), None)
        if owner is None:
            return str(meta.get("name") or meta.get("generateName", "").rstrip("-")), "Pod", "v1"
        name, kind = str(owner["name"]), str(owner["kind"])
        pod_hash = self.labels.get("pod-template-hash", "")
        if kind == "ReplicaSet" and pod_hash and name.endswith(f"-{pod_hash}"):
            name, kind = name.removesuffix(f"-{pod_hash}"), "Deployment"
        # As a CronJob names its Jobs, by the minute.
        elif kind == "Job" and (scheduled := re.fullmatch(r"(.+)-[0-9]{8,10}", name)):
            name, kind = scheduled[1], "CronJob"
        return name, kind, str(owner["apiVersion"])

    def image(self, key: str) -> str:
        """The proxy's image, by the value `key` that may be a whole reference."""
        kind = str((self.config.get("image") or {}).get("imageType") or "")
        kind = self.annotations.get("sidecar.istio.io/proxyImageType", kind)
        asked = self.said("sidecar.istio.io/proxyImage", key, "proxyv2")
        return self.template.image(asked if "/" in asked else self.template.value("proxy.image", "proxyv2"), kind)

    def resources(self) -> Obj:
        """What a container of Istio's asks for: as the annotations say, and nothing else if there are any."""
        asked: Obj = {}
        for kind, suffix in (("requests", ""), ("limits", "Limit")):
            for resource, name in (("cpu", "CPU"), ("memory", "Memory")):
                value = self.annotations.get(f"sidecar.istio.io/proxy{name}{suffix}")
                if value is not None:
                    asked.setdefault(kind, {})[resource] = value
        found: Obj = asked or self.template.value("proxy.resources", {})
        return found

    def arguments(self, role: str) -> list[str]:
        """The command line of the proxy."""
        found = [
            "proxy", role,
            "--domain", f"$(POD_NAMESPACE).svc.{self.template.value('proxy.clusterDomain', 'cluster.local')}",
            f"--proxyLogLevel={self.said('sidecar.istio.io/logLevel', 'proxy.logLevel', 'warning')}",
            "--proxyComponentLogLevel=" + self.said("sidecar.istio.io/componentLogLevel", "proxy.componentLogLevel"),
            f"--log_output_level={self.log_level}",
        ]  # fmt: skip
        if port := self.template.value("sts.servicePort", 0):
            found.append(f"--stsPort={port}")
        if self.template.value("logAsJson", False):
            found.append("--log_as_json")
        return found

    @property
    def log_level(self) -> str:
        """What the agent logs."""
        return self.said("sidecar.istio.io/agentLogLevel", "logging.level", "default:info")

    def canonical(self, default: str) -> dict[str, str]:
        """The labels by which telemetry knows the workload."""
        names = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
        revisions = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
        return {
            names[0]: next((self.labels[key] for key in names if self.labels.get(key)), default),
            revisions[0]: next((self.labels[key] for key in revisions if self.labels.get(key)), "latest"),
        }

    def shown(self) -> dict[str, str]:
        """The annotations that templates write."""
        found = {"istio.io/rev": self.revision}
        if first := next((container["name"] for container in self.applications), ""):
            for key in ("kubectl.kubernetes.io/default-logs-container", "kubectl.kubernetes.io/default-container"):
                found |= {} if key in self.annotations else {key: first}
        return found

    @property
    def revision(self) -> str:
        """The control plane's revision."""
        return str(self.template.values.get("revision") or "default")

    def readiness(self, *, by_annotation: bool) -> Obj:
        """The proxy's readiness probe."""

        def setting(name: str, key: str, default: int) -> int:
            said = self.annotations.get(f"readiness.status.sidecar.istio.io/{name}") if by_annotation else None
            return integer(self.template.value(f"proxy.{key}", default) if said is None else said)

        return {
            "httpGet": {"path": "/healthz/ready", "port": 15021},
            "timeoutSeconds": 3,
            "initialDelaySeconds": setting("initialDelaySeconds", "readinessInitialDelaySeconds", 0),
            "periodSeconds": setting("periodSeconds", "readinessPeriodSeconds", 15),
            "failureThreshold": setting("failureThreshold", "readinessFailureThreshold", 4),
        }

    def env(self, mode: str) -> list[Obj]:
        """The variables of the proxy."""
        name, kind, version = self.workload
        template = self.template
        trust = template.mesh.get("trustDomain") or template.value("trustDomain") or "cluster.local"
        ports = [port for container in self.pod["spec"]["containers"] for port in container.get("ports") or []]
        own = "" if self.revision == "default" else f"-{self.revision}"
        owner = f"kubernetes://apis/{version}/namespaces/{self.namespace}/{kind.lower()}s/{name}"
        found = [
            plain_env("PILOT_CERT_PROVIDER", template.value("pilotCertProvider", "istiod")),
            plain_env("CA_ADDR", template.value("caAddress") or f"istiod{own}.istio-system.svc:15012"),
            field_env("POD_NAME", "metadata.name"),
            field_env("POD_NAMESPACE", "metadata.namespace"),
            field_env("INSTANCE_IP", "status.podIP"),
            field_env("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            field_env("HOST_IP", "status.hostIP"),
            _resource("ISTIO_CPU_LIMIT", "limits.cpu"),
            plain_env("PROXY_CONFIG", told(self.config)),
            plain_env("ISTIO_META_POD_PORTS", json.dumps(ports)),
            plain_env("ISTIO_META_APP_CONTAINERS", ",".join(c["name"] for c in self.applications)),
            _resource("GOMEMLIMIT", "limits.memory"),
            _resource("GOMAXPROCS", "limits.cpu"),
            plain_env("ISTIO_META_CLUSTER_ID", template.value("multiCluster.clusterName") or "Kubernetes"),
            field_env("ISTIO_META_NODE_NAME", "spec.nodeName"),
            plain_env("ISTIO_META_INTERCEPTION_MODE", mode),
            *([plain_env("ISTIO_META_NETWORK", network)] if (network := template.value("network")) else []),
            plain_env("ISTIO_META_WORKLOAD_NAME", self.labels.get("service.istio.io/workload-name") or name),
            plain_env("ISTIO_META_OWNER", owner),
        ]
        if BOOTSTRAP in self.annotations:
            found.append(plain_env("ISTIO_BOOTSTRAP_OVERRIDE", "/etc/istio/custom-bootstrap/custom_bootstrap.json"))
        found += [
            plain_env("ISTIO_META_MESH_ID", template.value("meshID") or trust),
            plain_env("TRUST_DOMAIN", trust),
        ]
        return [*found, *self.metadata]

    def mounts(self, *, crl: bool) -> list[Obj]:
        """Where the proxy finds its volumes."""
        places = {
            "workload-socket": "/var/run/secrets/workload-spiffe-uds",
            "credential-socket": "/var/run/secrets/credential-uds",
            "workload-certs": "/var/run/secrets/workload-spiffe-credentials",
            "istiod-ca-cert": "/var/run/secrets/istio",
            **({"istio-ca-crl": "/var/run/secrets/istio/crl"} if crl else {}),
            "istio-data": "/var/lib/istio/data",
            **({"custom-bootstrap-volume": "/etc/istio/custom-bootstrap"} if BOOTSTRAP in self.annotations else {}),
            "istio-envoy": "/etc/istio/proxy",
            "istio-token": "/var/run/secrets/tokens",
            "istio-podinfo": "/etc/istio/pod",
        }
        return [{"name": name, "mountPath": path} for name, path in places.items()]

    def volumes(self, *, crl: bool) -> list[Obj]:
        """The volumes of the proxy."""

        def field(path: str) -> Obj:
            return {"path": path, "fieldRef": {"fieldPath": f"metadata.{path}"}}

        audience = self.template.value("sds.token.aud", "istio-ca")
        token = {"serviceAccountToken": {"path": "istio-token", "expirationSeconds": 43200, "audience": audience}}
        sources: dict[str, Obj] = {
            "workload-socket": {"emptyDir": {}},
            "credential-socket": {"emptyDir": {}},
            "workload-certs": {"emptyDir": {}},
        }
        if name := self.annotations.get(BOOTSTRAP):
            sources["custom-bootstrap-volume"] = {"configMap": {"name": name}}
        sources |= {
            "istio-envoy": {"emptyDir": {"medium": "Memory"}},
            "istio-data": {"emptyDir": {}},
            "istio-podinfo": {"downwardAPI": {"items": [field("labels"), field("annotations")]}},
            "istio-token": {"projected": {"sources": [token]}},
            "istiod-ca-cert": {"configMap": {"name": "istio-ca-root-cert"}},
        }
        if crl:
            sources["istio-ca-crl"] = {"configMap": {"name": "istio-ca-crl", "optional": True}}
        return [{"name": name, **source} for name, source in sources.items()]
