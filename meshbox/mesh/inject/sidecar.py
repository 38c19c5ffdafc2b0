# SPDX-License-Identifier: Apache-2.0
"""Today's templates, filled in: `sidecar`, a native one unless somebody says otherwise, and `gateway`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.ground import reading
from meshbox.contracts import Obj
from meshbox.mesh.inject.annotations import integer
from meshbox.mesh.inject.filling import Filling

__all__ = ["NATIVE", "TEMPLATES", "gateway", "native", "sidecar"]

NATIVE = "sidecar.istio.io/nativeSidecar"


def native(filling: Filling) -> bool:
    """Whether the sidecar is an init container that goes on running."""
    said = filling.annotations.get(NATIVE)
    return said.lower() != "false" if said else filling.template.native


def holds(filling: Filling) -> bool:
    """Whether the application waits for the proxy."""
    return bool(
        filling.config.get("holdApplicationUntilProxyStarts")
        or filling.template.value("proxy.holdApplicationUntilProxyStarts", False)
    )


def sidecar(filling: Filling) -> Obj:
    """The pod that is laid over the application's."""
    labels = {"security.istio.io/tlsMode": filling.labels.get("security.istio.io/tlsMode") or "istio"}
    canonical = filling.canonical(filling.workload[0])
    canonical["service.istio.io/canonical-name"] = canonical["service.istio.io/canonical-name"][:63].removesuffix("-")
    annotations, template = filling.annotations, filling.template
    proxy = _proxy(filling)
    init = [] if filling.mode == "NONE" else [_init(filling)]
    spec: Obj = {"containers": [proxy], "initContainers": init}
    if native(filling):
        spec = {"initContainers": [*init, proxy]}
    proxy["volumeMounts"] += _own(annotations, "sidecar.istio.io/userVolumeMount")
    spec["volumes"] = [*filling.volumes(crl=True), *_own(annotations, "sidecar.istio.io/userVolume")]
    if secrets := template.value("imagePullSecrets", []):
        spec["imagePullSecrets"] = [{"name": name} for name in secrets]
    return {"metadata": {"labels": {**labels, **canonical}, "annotations": filling.shown()}, "spec": spec}


def _own(annotations: dict[str, str], name: str) -> list[Obj]:
    """The user's own volumes, or where they are mounted: by name, in JSON.

    Raises:
        ValueError: it is none.
    """
    text = annotations.get(name)
    if not text:
        return []
    try:
        found = reading.json_value(text)
    except reading.ReadingError as error:
        raise ValueError(f"annotation {name}: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ValueError(f'annotation {name}: names of volumes are expected, as in {{"name": {{…}}}}')
    return [{"name": key, **value} for key, value in sorted(found.items())]


def _init(filling: Filling) -> Obj:
    template, traffic = filling.template, "traffic.sidecar.istio.io/"
    status = "" if filling.status_port == "0" else filling.status_port
    excluded = filling.said(f"{traffic}excludeInboundPorts", "proxy.excludeInboundPorts")
    parts = [part.strip() for part in excluded.split(",") if part.strip()]
    excluded = ",".join([*parts, *([status] if status and status not in parts else [])])
    arguments = [
        "istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", filling.mode,
        "-i", filling.said(f"{traffic}includeOutboundIPRanges", "proxy.includeIPRanges", "*"),
        "-x", filling.said(f"{traffic}excludeOutboundIPRanges", "proxy.excludeIPRanges"),
        "-b", filling.said(f"{traffic}includeInboundPorts", "proxy.includeInboundPorts", "*"),
        "-d", f"15090,15021,{excluded}" if excluded else "15090,15021",
    ]  # fmt: skip
    for flag, name in (("-q", "includeOutboundPorts"), ("-o", "excludeOutboundPorts")):
        value = filling.said(traffic + name, f"proxy.{name}")
        if value or traffic + name in filling.annotations:
            arguments += [flag, value]
    virtual = ("istio.io/reroute-virtual-interfaces", f"{traffic}kubevirtInterfaces")
    if interfaces := next((name for name in virtual if name in filling.annotations), ""):
        arguments += ["-k", filling.annotations[interfaces]]
    if f"{traffic}excludeInterfaces" in filling.annotations:
        arguments += ["-c", filling.annotations[f"{traffic}excludeInterfaces"]]
    arguments.append(f"--log_output_level={filling.log_level}")
    if template.value("logAsJson", False):
        arguments.append("--log_as_json")
    privileged = bool(template.value("proxy.privileged", False))
    return {
        "name": "istio-init",
        "image": filling.image("proxy_init.image"),
        "args": arguments,
        **_pulled(filling),
        **({"env": filling.metadata} if filling.metadata else {}),
        "resources": filling.resources(),
        "securityContext": {
            "allowPrivilegeEscalation": privileged,
            "privileged": privileged,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": False,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
    }


def _pulled(filling: Filling) -> Obj:
    policy = filling.template.value("imagePullPolicy")
    return {"imagePullPolicy": policy} if policy else {}


def _proxy(filling: Filling) -> Obj:
    container: Obj = {
        "name": "istio-proxy",
        "image": filling.image("proxy.image"),
        "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
        "args": filling.arguments("sidecar"),
        "env": filling.env(filling.mode),
        **_pulled(filling),
        "resources": filling.resources(),
        "securityContext": _security(filling),
        "volumeMounts": filling.mounts(crl=True),
    }
    template = filling.template
    if filling.status_port != "0":
        container["readinessProbe"] = filling.readiness(by_annotation=True)
        if template.value("proxy.startupProbe.enabled", True):
            container["startupProbe"] = {
                "httpGet": {"path": "/healthz/ready", "port": 15021},
                "timeoutSeconds": 3,
                "initialDelaySeconds": 0,
                "periodSeconds": 1,
                "failureThreshold": integer(template.value("proxy.startupProbe.failureThreshold", 600)),
            }
    if native(filling):
        container["restartPolicy"] = "Always"
    if lifecycle := _lifecycle(filling):
        container["lifecycle"] = lifecycle
    return container


def _lifecycle(filling: Filling) -> Obj:
    own: Obj = filling.template.value("proxy.lifecycle", {})
    if own:
        return own
    if native(filling):
        drain = ["pilot-agent", "request", f"--debug-port={filling.status_port}", "POST", "drain"]
        return {"preStop": {"exec": {"command": drain}}}
    return {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}} if holds(filling) else {}


def _security(filling: Filling) -> Obj:
    privileged = bool(filling.template.value("proxy.privileged", False))
    binds = filling.said("sidecar.istio.io/capNetBindService", "proxy.capNetBindService") == "true"
    transparent = filling.mode == "TPROXY"
    added = [*(["NET_ADMIN"] if transparent else []), *(["NET_BIND_SERVICE"] if binds else [])]
    return {
        "allowPrivilegeEscalation": privileged,
        "capabilities": {**({"add": added} if added else {}), "drop": ["ALL"]},
        "privileged": privileged,
        "readOnlyRootFilesystem": True,
        "runAsGroup": 1337,
        "runAsNonRoot": not added,
        "runAsUser": 0 if added else 1337,
    }


def gateway(filling: Filling) -> Obj:
    """The pod that is laid over a gateway's own, of which a container `istio-proxy` is all that somebody wrote."""
    values: Any = (filling.template.values.get("gateways") or {}).get("securityContext")
    spec: Obj = {
        "securityContext": values or {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
        "containers": [
            {
                "name": "istio-proxy",
                "image": filling.image("proxy.image"),
                "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
                "args": filling.arguments("router"),
                "securityContext": {"runAsUser": 1337, "runAsGroup": 1337},
                "env": filling.env(str(filling.config.get("interceptionMode") or "REDIRECT")),
                **_pulled(filling),
                "readinessProbe": filling.readiness(by_annotation=False),
                "volumeMounts": filling.mounts(crl=False),
            }
        ],
        "volumes": filling.volumes(crl=False),
    }
    if lifecycle := filling.template.value("proxy.lifecycle", {}):
        spec["containers"][0]["lifecycle"] = lifecycle
    if secrets := filling.template.value("imagePullSecrets", []):
        spec["imagePullSecrets"] = [{"name": name} for name in secrets]
    labels = filling.canonical(filling.workload[0])
    return {"metadata": {"labels": labels, "annotations": filling.shown()}, "spec": spec}


TEMPLATES: dict[str, Callable[[Filling], Obj]] = {"sidecar": sidecar, "gateway": gateway}
"""What can be filled in here by its name."""
