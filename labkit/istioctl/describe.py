# SPDX-License-Identifier: Apache-2.0
"""`istioctl experimental describe`: what of Istio's objects bears on a pod or a Service."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from labkit import cluster
from labkit.cluster import Obj
from labkit.ground.errors import ClusterError
from labkit.ground.hosts import DOMAIN
from labkit.ground.int_or_string import target_port
from labkit.ground.labels import selects
from labkit.ground.routing import MESH, read
from labkit.istio.analyze.services import protocol
from labkit.istio.envoy.admin import Admin, has_proxy, of_pod
from labkit.istio.envoy.dump import configuration
from labkit.istioctl.common import choose, split
from labkit.istioctl.describing import Told, labels_of, route_lines, rule_lines
from labkit.istioctl.experimental import rules
from labkit.istioctl.objects import listed, rule_for, virtual_service_for

__all__ = ["add_to"]

_LINE = "--------------------"
_RESERVED = "User ID (UID) 1337 is reserved for the sidecar proxy."
_NAMES = ("app", "app.kubernetes.io/name", "service.istio.io/canonical-name")
_REVISIONS = ("version", "app.kubernetes.io/version", "service.istio.io/canonical-revision")
_REQUIREMENTS = "https://istio.io/latest/docs/ops/deployment/application-requirements/"


def add_to(commands: Any, parents: argparse.ArgumentParser) -> None:
    """The commands."""
    below = commands.add_parser("describe", aliases=["des"], help="what bears on a pod or a Service")
    kinds = below.add_subparsers(dest="what", metavar="pod|service", required=True)
    for kind, aliases, action in (("pod", ["po"], _pod), ("service", ["svc"], _service)):
        one = kinds.add_parser(kind, aliases=aliases, parents=[parents])
        one.add_argument("name", metavar="NAME[.NAMESPACE]")
        one.set_defaults(action=lambda args, describe=action: _run(args, describe))


def _run(args: argparse.Namespace, describe: Any) -> int:
    namespace = choose(args)
    name, where = split(args.name, namespace)
    for line in describe(Told(namespace, args.system), name, where):
        print(line)
    return 0


def _one(kind: str, name: str, where: str) -> Obj:
    found = cluster.get(kind, name, namespace=where)
    if not found:
        raise ClusterError(f'{kind} "{name}" not found', next_step=f"`kubectl get {kind} -n {where}` lists them.")
    return found[0]


def _pod(told: Told, name: str, where: str) -> Iterator[str]:
    pod = _one("pods", name, where)
    yield from _about(told, pod)
    services = [
        one
        for one in cluster.get("services", namespace=where)
        if one["spec"].get("selector") and selects(one["spec"]["selector"], labels_of(pod))
    ]
    if not services:
        more = "(see https://istio.io/docs/setup/kubernetes/additional-setup/requirements/ )"
        yield f"Warning: No Kubernetes Services select pod {told.name(pod)} {more}"
    yield _LINE
    if not has_proxy(pod):
        raise ClusterError(
            f"failed to execute command on sidecar: container istio-proxy is not valid for pod {name}",
            next_step=f"`istioctl analyze -n {where}` says whether it should have one.",
        )
    yield from _behind(told, pod, services, [labels_of(pod)])
    yield _LINE
    yield from _authentication(told, pod)
    yield from _ingress(told, services, [labels_of(pod)])


def _about(told: Told, pod: Obj) -> Iterator[str]:
    spec, annotations = pod["spec"], pod["metadata"].get("annotations") or {}
    ports = []
    for container in spec["containers"]:
        if container["name"] != "istio-proxy" and (container.get("securityContext") or {}).get("runAsUser") == 1337:
            yield f"WARNING: {_RESERVED}"
        for port in container.get("ports") or []:
            kind = "" if port.get("protocol", "TCP") == "TCP" else f"/{port['protocol']}"
            ports.append(f"{port['containerPort']}{kind} ({container['name']})")
    yield f"Pod: {told.name(pod)}"
    yield f"   Pod Revision: {annotations.get('istio.io/rev') or _revision(annotations)}"
    yield f"   Pod Ports: {', '.join(ports)}" if ports else "   Pod does not expose ports"
    status = pod.get("status") or {}
    if status.get("phase") != "Running":
        yield f"   Pod is not Running ({status.get('phase', '')})"
        return
    for key, word in (("containerStatuses", "Container"), ("initContainerStatuses", "Init Container")):
        for one in status.get(key) or []:
            done = ((one.get("state") or {}).get("terminated") or {}).get("exitCode") == 0 and word != "Container"
            if not one.get("ready") and not done:
                yield f"WARNING: Pod {told.name(pod)} {word} {one['name']} NOT READY"
    if not has_proxy(pod):
        yield f"WARNING: {told.name(pod)} is not part of mesh; no Istio sidecar"
        return
    if (spec.get("securityContext") or {}).get("runAsUser") == 1337:
        yield f"   WARNING: {_RESERVED}"
    for names, what in ((_NAMES, "name"), (_REVISIONS, "revision")):
        if not any(one in labels_of(pod) for one in names):
            yield f"Suggestion: add required service {what} label for Istio telemetry. See {_REQUIREMENTS}."


def _revision(annotations: dict[str, str]) -> str:
    try:
        return str(json.loads(annotations.get("sidecar.istio.io/status", "")).get("revision", ""))
    except (ValueError, AttributeError):
        return ""


def _service(told: Told, name: str, where: str) -> Iterator[str]:
    service = _one("services", name, where)
    selector = service["spec"].get("selector") or {}
    pods = [one for one in cluster.get("pods", namespace=where) if selector and selects(selector, labels_of(one))]
    good = []
    for pod in pods:
        status = pod.get("status") or {}
        every = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
        proxy = next((one for one in every if one["name"] == "istio-proxy"), None)
        if status.get("phase") != "Running":
            yield f"   Pod is not Running ({status.get('phase', '')})"
        elif proxy is None:
            yield f'Pod {told.name(pod)}: no container "istio-proxy" in pod'
        elif not proxy.get("ready"):
            yield f"WARNING: Pod {told.name(pod)} Container istio-proxy NOT READY"
        else:
            good.append(pod)
    if not good:
        if not pods:
            yield f'Service "{told.name(service)}" has no pods.'
            return
        yield f'Service "{told.name(service)}" has no Istio pods.  ({len(pods)} pods in service).'
        yield "Use `istioctl kube-inject` or redeploy with Istio automatic sidecar injection."
        return
    labels = [labels_of(one) for one in good]
    yield from _behind(told, good[0], [service], labels)
    yield from _ingress(told, [service], labels)


def _behind(told: Told, pod: Obj, services: list[Obj], labels: list[dict[str, str]]) -> Iterator[str]:
    with Admin(of_pod(pod)) as admin:
        policies = sorted({name for _, name in rules(configuration(admin))})
    client = pod["metadata"]["namespace"]
    for row, service in enumerate(services):
        if row:
            yield _LINE
        yield f"Service: {told.name(service)}"
        ports = [one for one in service["spec"].get("ports") or [] if one.get("protocol", "TCP") == "TCP"]
        for port in ports:
            target = target_port(port, pod["spec"])
            spoken = (protocol(port) or "unsupportedprotocol").upper() if port.get("name") else "auto-detect"
            spoken = "UnsupportedProtocol" if spoken == "UNSUPPORTEDPROTOCOL" else spoken
            name, number = port.get("name", ""), port["port"]
            if target is None:
                yield f"   no suitable port for manifest: {pod['metadata'].get('uid', '')}"
            else:
                yield f"   Port: {name} {number}/{spoken} targets pod port {target}"
        host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.{DOMAIN}"
        rule, route = rule_for(host, client, told.rules), virtual_service_for(host, client, told.services)
        many = len(service["spec"].get("ports") or []) > 1
        indent = "   " if many else ""
        for port in service["spec"].get("ports") or []:
            if many:
                yield f"{port['port']}:"
            if rule is not None:
                yield from (indent + line for line in rule_lines(told, rule, labels))
            if route is not None:
                yield from (indent + line for line in route_lines(told, route, host, rule, labels))
            if policies:
                yield f"{port['port']} " * many + f"RBAC policies: {', '.join(policies)}"


def _authentication(told: Told, pod: Obj) -> Iterator[str]:
    where = pod["metadata"]["namespace"]
    every = [
        one
        for one in listed("peerauthentications.security.istio.io")
        if one["metadata"]["namespace"] in (where, told.system)
    ]
    every.sort(
        key=lambda one: (one["metadata"]["namespace"] != told.system, one["metadata"].get("creationTimestamp", ""))
    )
    found = [
        one
        for one in every
        if selects(((one.get("spec") or {}).get("selector") or {}).get("matchLabels"), labels_of(pod))
    ]
    mode, ports = "PERMISSIVE", dict[str, str]()
    # The mesh's is overruled by the namespace's, and that by the workload's; of two alike the older one counts.
    for own in (False, True):
        for place in (told.system, where):
            for one in found:
                spec = one.get("spec") or {}
                chosen = bool((spec.get("selector") or {}).get("matchLabels"))
                said = (spec.get("mtls") or {}).get("mode", "UNSET")
                if (one["metadata"]["namespace"], chosen) == (place, own) and (not own or place == where):
                    mode = said if said != "UNSET" else mode
                    ports |= {
                        port: each.get("mode", "UNSET")
                        for port, each in (spec.get("portLevelMtls") or {}).items()
                        if own
                    }
                    break
    yield "Effective PeerAuthentication:"
    yield f"   Workload mTLS mode: {mode}"
    if ports:
        yield "   Port Level mTLS mode:"
        yield from (f"      {port}: {mode if each == 'UNSET' else each}" for port, each in sorted(ports.items()))
    if found:
        yield "Applied PeerAuthentication:"
        yield "   " + ", ".join(f"{one['metadata']['name']}.{one['metadata']['namespace']}" for one in found)


def _ingress(told: Told, services: list[Obj], labels: list[dict[str, str]]) -> Iterator[str]:
    pods = cluster.get("pods", all_namespaces=True, labels="istio=ingressgateway")
    pods = [one for one in pods if (one.get("status") or {}).get("phase") == "Running"]
    if not pods:
        yield "Skipping Gateway information (no ingress gateway pods)"
        return
    doors = {
        f"{one['metadata']['namespace']}/{one['metadata']['name']}": one
        for one in listed("gateways.networking.istio.io")
    }
    told_of: set[str] = set()
    for service in services:
        host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.{DOMAIN}"
        for route in read(told.services):
            rules: list[Any] = [*route.http, *route.tcp]
            targets = [target for one in rules for target in one.get("route") or []]
            if not any((target.get("destination") or {}).get("host") == host for target in targets):
                continue
            for key in (one for one in route.gateways if one != MESH and one in doors and one not in told_of):
                chosen = [one for one in pods if selects(doors[key]["spec"].get("selector"), labels_of(one))]
                if not chosen:
                    continue
                told_of.add(key)
                yield _LINE
                yield from _exposed(chosen[0])
                rule = rule_for(host, chosen[0]["metadata"]["namespace"], told.rules)
                yield from route_lines(told, route, host, rule, labels)


def _exposed(pod: Obj) -> Iterator[str]:
    for service in cluster.get("services", namespace=pod["metadata"]["namespace"]):
        if not service["spec"].get("selector") or not selects(service["spec"]["selector"], labels_of(pod)):
            continue
        given = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [{}]
        address = given[0].get("ip") or (pod.get("status") or {}).get("hostIP") or "unknown"
        for port in service["spec"].get("ports") or []:
            if port.get("name") in ("http", "http2"):
                end = "" if port["port"] == 80 else f":{port['port']}"
                yield f"Exposed on Ingress Gateway http://{address}{end}"
