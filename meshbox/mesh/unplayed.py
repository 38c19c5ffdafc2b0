# SPDX-License-Identifier: Apache-2.0
"""What of Istio's objects the sandbox does not play, and in which words it says so: never in silence.

A table has a line for each field: its path below `spec`, and why nothing comes of it. In a path `[]` stands for each
element of a list, `{}` for each value of a map, `{a,b}` for either. `=WORD` at its end means only that value (with `*`
as in a shell), `?` that any value counts, for otherwise the default value (false, 0, an empty text, list or map) says
nothing. `@NAME` is an annotation, and an empty path the whole kind.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from meshbox.contracts import Obj

__all__ = ["TABLES", "marks_of", "unplayed", "whole_kinds"]

_Table = Mapping[str, Mapping[str, str]]

_HOST = "{trafficPolicy,subsets[].trafficPolicy}"
_POLICY = _HOST + "{,.portLevelSettings[]}"
_TARGET = "a proxy beside an application is chosen by `selector` only"
_ATTACHED: dict[str, str] = {"targetRef": _TARGET, "targetRefs": _TARGET}
_SAME_IN_ISTIO = "Istio's proxies make nothing of it either"
_REGISTRY = "every endpoint is in one cluster and network, and in no zone"

_TODAY: _Table = {
    "VirtualService": {
        "http[].match[].statPrefix": "no statistics are kept for a single route",
        "http[].redirect.derivePort": "give `port`",
        "http[].retries.retryRemoteLocalities": _REGISTRY,
        "tcp[].match[].sourceSubnet": _SAME_IN_ISTIO,
    },
    "DestinationRule": {
        f"{_POLICY}.loadBalancer.localityLbSetting": _REGISTRY,
        f"{_POLICY}.loadBalancer.warmup.aggression": "the share grows evenly",
        f"{_POLICY}.loadBalancer.warmup.minimumPercent": "the share begins with Envoy's 10%",
        f"{_POLICY}.loadBalancer.consistentHash.httpCookie.attributes": "the cookie is set with name, path and ttl",
        f"{_POLICY}.connectionPool.http.maxConcurrentStreams": "",
        f"{_POLICY}.tls.caCrl": "no list of revoked certificates is looked at",
        f"{_HOST}.tunnel": "connections are not sent through another proxy",
        f"{_HOST}.proxyProtocol": "",
        f"{_HOST}.retryBudget": "",
    },
    "Gateway": {
        "servers[].bind": "a gateway listens on its pod's address",
        "servers[].defaultEndpoint": _SAME_IN_ISTIO,
        "servers[].name": "it has no part in the names of statistics",
        "servers[].tls.caCrl": "no list of revoked certificates is looked at",
        "servers[].tls.tlsCertificates": "give `credentialName`, or one certificate",
        "servers[].tls.verifyCertificateHash": "which client it is is not asked",
        "servers[].tls.verifyCertificateSpki": "which client it is is not asked",
    },
    "ServiceEntry": {
        "endpoints[].locality": _REGISTRY,
        "endpoints[].network": _REGISTRY,
        "endpoints[].serviceAccount": "give `subjectAltNames`",
        "resolution=DYNAMIC_DNS": "only a host without a wildcard is looked up, as with DNS",
        "resolution=DNS_ROUND_ROBIN": "all addresses of a name are used, as with DNS",
    },
    "Sidecar": {
        "egress[].bind": "",
        "egress[].captureMode=NONE": "",
        "egress[].port": "the hosts are seen on every port",
        "inboundConnectionPool": "",
        "ingress": "the ports of the containers and Services are listened on",
        "outboundTrafficPolicy.egressProxy": "",
    },
    "EnvoyFilter": {"": "its Envoy is not Istio's own build"},
    "ProxyConfig": {"": "proxies are set up as the mesh's defaultConfig says"},
    "WasmPlugin": {"": "its Envoy runs no WebAssembly"},
    "TrafficExtension": {"": "its Envoy runs no extensions"},
    "WorkloadEntry": {"": "only pods are workloads"},
    "WorkloadGroup": {"": "only pods are workloads"},
    "RequestAuthentication": {
        **_ATTACHED,
        "jwtRules[].{jwksUri,jwks_uri}": "the keys are not fetched (give them as `jwks`)",
        "jwtRules[].spaceDelimitedClaims": "only `scope` and `permissions` are lists in one text",
    },
    "AuthorizationPolicy": {
        **_ATTACHED,
        "@istio.io/dry-run": "the policy is enforced",
        "action=CUSTOM": "it has no effect",
        "provider": "nobody else is asked",
        "action=AUDIT": "it has no effect",
        "rules[].when[].key=experimental.envoy.filters.*": "the condition is left out",
    },
    "Telemetry": {
        **_ATTACHED,
        "accessLogging[].filter": "every request is logged",
        "accessLogging[].match": "both sides log",
        "accessLogging[].providers": "the mesh's own log is meant",
        "metrics[].overrides[].match.customMetric": "",
        "metrics[].overrides[].match.metric=[!A]*": "all metrics, or none, are reported",
        "metrics[].overrides[].match.mode": "both sides report",
        "metrics[].overrides[].tagOverrides": "",
        "metrics[].providers": "Prometheus is meant",
        "metrics[].reportingInterval": "",
        "tracing[].customTags{}.{environment,formatter,header}": "only a literal is set as a tag",
        "tracing[].disableContextPropagation": "",
        "tracing[].enableIstioTags?": "",
        "tracing[].match": "both sides report spans",
        "tracing[].useRequestIdForTraceSampling?": "",
    },
}

_MIXER = "Mixer reports what the demo profile's own handlers and rules say, and checks nothing"
_RBAC = "no role is asked for"

_LEGACY: _Table = {
    "VirtualService": {
        "http[].websocketUpgrade": "every route lets WebSockets pass, as Istio 1.2's own do",
        "{tcp,tls}[].match[].sourceSubnet": _SAME_IN_ISTIO,
    },
    "Gateway": {
        "servers[].bind": "a gateway listens on its pod's address",
        "servers[].defaultEndpoint": _SAME_IN_ISTIO,
        "servers[].tls.verifyCertificateHash": "which client it is is not asked",
        "servers[].tls.verifyCertificateSpki": "which client it is is not asked",
    },
    "ServiceEntry": {
        "endpoints[].locality": _REGISTRY,
        "endpoints[].network": _REGISTRY,
        "location=MESH_INTERNAL": "whether mTLS is spoken a DestinationRule says, as in Istio 1.2 itself",
    },
    "Sidecar": {
        "egress[].bind": "",
        "egress[].captureMode=NONE": "",
        "egress[].port": "the hosts are seen on every port",
        "ingress": "the ports of the containers and Services are listened on",
    },
    "EnvoyFilter": {"": "its Envoy is not Istio's own build"},
    "Policy": {
        "origins": "nobody's token is asked for",
        "peers[].jwt": "nobody's token is asked for",
        "peers[].mtls.allowTls": "give `mode`",
        "targets[].labels": "a target is a Service",
        "{originIsOptional,peerIsOptional}": "",
        "principalBinding=USE_ORIGIN": "",
    },
    "ClusterRbacConfig": {"": _RBAC},
    "RbacConfig": {"": _RBAC},
    "ServiceRole": {"": _RBAC},
    "ServiceRoleBinding": {"": _RBAC},
    "AuthorizationPolicy": {"": _RBAC},
    "HTTPAPISpec": {"": _MIXER},
    "HTTPAPISpecBinding": {"": _MIXER},
    "QuotaSpec": {"": _MIXER},
    "QuotaSpecBinding": {"": _MIXER},
    "adapter": {"": _MIXER},
    "handler": {"": _MIXER},
    "instance": {"": _MIXER},
    "rule": {"": _MIXER},
    "template": {"": _MIXER},
}

TABLES: dict[bool, _Table] = {False: _TODAY, True: {**_LEGACY, "MeshPolicy": _LEGACY["Policy"]}}
"""For today's release, and for Istio 1.2 (`legacy`): kind → path → why."""

_RESOURCES = {
    "ProxyConfig": "proxyconfigs.networking.istio.io",
    "WasmPlugin": "wasmplugins.extensions.istio.io",
    "TrafficExtension": "trafficextensions.extensions.istio.io",
    "WorkloadEntry": "workloadentries.networking.istio.io",
    "WorkloadGroup": "workloadgroups.networking.istio.io",
    "ClusterRbacConfig": "clusterrbacconfigs.rbac.istio.io",
    "RbacConfig": "rbacconfigs.rbac.istio.io",
    "ServiceRole": "serviceroles.rbac.istio.io",
    "ServiceRoleBinding": "servicerolebindings.rbac.istio.io",
    "HTTPAPISpec": "httpapispecs.config.istio.io",
    "HTTPAPISpecBinding": "httpapispecbindings.config.istio.io",
    "QuotaSpec": "quotaspecs.config.istio.io",
    "QuotaSpecBinding": "quotaspecbindings.config.istio.io",
    "adapter": "adapters.config.istio.io",
    "handler": "handlers.config.istio.io",
    "instance": "instances.config.istio.io",
    "rule": "rules.config.istio.io",
    "template": "templates.config.istio.io",
}
_PLAYED = {
    "handler": {"prometheus", "stdio", "kubernetesenv"},
    "instance": {
        "requestcount", "requestduration", "requestsize", "responsesize", "tcpbytesent", "tcpbytereceived",
        "tcpconnectionsopened", "tcpconnectionsclosed", "accesslog", "tcpaccesslog", "attributes",
    },
    "rule": {
        "promhttp", "promtcp", "promtcpconnectionopen", "promtcpconnectionclosed", "stdio", "stdiotcp",
        "kubeattrgenrulerule", "tcpkubeattrgenrulerule",
    },
}  # fmt: skip
"""The demo profile's own objects in istio-system: what they ask for is what the sandbox reports."""


def whole_kinds(*, legacy: bool) -> list[str]:
    """The resources of which nothing is played, and which nobody follows for another reason."""
    found = [_RESOURCES[kind] for kind, paths in TABLES[legacy].items() if "" in paths and kind in _RESOURCES]
    return [*found, *(["authorizationpolicies.rbac.istio.io"] if legacy else [])]


@dataclass
class _Node:
    """A step of the paths of one kind."""

    path: str = ""
    ends: list[tuple[str, str]] = field(default_factory=list)
    """Which values are meant, and why nothing comes of them."""
    steps: dict[str, _Node] = field(default_factory=dict)


def _alternatives(path: str) -> Iterator[str]:
    """`{a,b}` written out, the innermost first."""
    found = re.search(r"\{([^{}]+)\}", path)
    if found is None:
        yield path
        return
    for one in found[1].split(","):
        yield from _alternatives(path[: found.start()] + one + path[found.end() :])


@functools.cache
def _tree(kind: str, legacy: bool) -> tuple[_Node, dict[str, str]]:
    """The paths of a kind, and the annotations with why."""
    root, named = _Node(), {}
    for written, why in TABLES[legacy].get(kind, {}).items():
        if written.startswith("@"):
            named[written[1:]] = why
            continue
        for path in _alternatives(written):
            name, equals, value = path.partition("=")
            node = root
            for step in re.findall(r"[^.\[\]{}?]+|\[\]|\{\}", name):
                node = node.steps.setdefault(step, _Node(f"{node.path}.{step}"))
            node.ends.append((value if equals else "?" if name.endswith("?") else "", why))
    return root, named


def marks_of(obj: Obj, *, legacy: bool) -> dict[str, str]:
    """The annotations of `obj` that are looked at here."""
    written = obj["metadata"].get("annotations") or {}
    return {name: written[name] for name in _tree(str(obj.get("kind")), legacy)[1] if name in written}


def unplayed(obj: Obj, *, legacy: bool) -> list[str]:
    """What `obj` asks for and does not get here, each kind of thing once, in words for whoever wrote it."""
    kind, meta = str(obj.get("kind")), obj["metadata"]
    if meta.get("namespace") == "istio-system" and meta.get("name") in _PLAYED.get(kind, ()):
        return []
    root, named = _tree(kind, legacy)
    found = {name: _words(f"annotation {name}", named[name]) for name in marks_of(obj, legacy=legacy)}
    for _, why in root.ends:
        found[""] = _words(kind, why)
    for path, text in _walk(root, obj.get("spec") or {}, "spec"):
        found.setdefault(path, text)
    return list(found.values())


def _walk(node: _Node, value: Any, where: str) -> Iterator[tuple[str, str]]:
    for step, below in node.steps.items():
        inner: Iterator[tuple[str, Any]]
        if step == "[]":
            inner = ((f"{where}[{index}]", one) for index, one in enumerate(value if isinstance(value, list) else ()))
        elif not isinstance(value, dict):
            continue
        elif step == "{}":
            inner = ((f"{where}[{key}]", one) for key, one in value.items())
        else:
            inner = iter([(f"{where}.{step}", value[step])] if step in value else [])
        for place, one in inner:
            for wanted, why in below.ends:
                if one is not None if wanted == "?" else fnmatchcase(str(one), wanted) if wanted else bool(one):
                    yield f"{below.path}={wanted}", _words(f"{place}: {one}" if wanted not in ("", "?") else place, why)
            yield from _walk(below, one, place)


def _words(what: str, why: str) -> str:
    return f"the sandbox does not play {what}" + (f": {why}" if why else "")
