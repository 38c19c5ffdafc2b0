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
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct, field

from meshbox.contracts import Obj

__all__ = ["TABLES", "marks_of", "unplayed", "whole_kinds"]

_Table = Mapping[str, Mapping[str, str]]

_CODES = "Envoy redirects with 301, 302, 303, 307 or 308, and this one with 301"
_SAME_IN_ISTIO = "Istio's proxies make nothing of it either"
_ERRORS = "as in Istio, consecutive5xxErrors and consecutiveGatewayErrors are counted"
_TUNNEL = "HTTPS that curl asks for in a pod is a tunnel already, by CONNECT; other TLS is led on by POST"
_ROOTS = "as in Istio, the server's own caCertificates count"
_PEERS = "what a proxy knows of the other side is no attribute here"
_NETWORK = "there is one network, and it counts in `failoverPriority` only"

_SIDECAR = {
    "{egress,ingress}[].bind": "a port is listened on at every address",
    "{egress,ingress}[].captureMode=NONE": "all calls are captured",
    "ingress[].defaultEndpoint=unix:*": "the application is called at a port",
}

_TODAY: _Table = {
    "VirtualService": {
        "http[].redirect.redirectCode=30[04569]": _CODES,
        "http[].redirect.redirectCode=3[1-9]?": _CODES,
        "http[].redirect.redirectCode=[!3]*": _CODES,
        "tcp[].match[].sourceSubnet": _SAME_IN_ISTIO,
    },
    "DestinationRule": {
        "{trafficPolicy,subsets[].trafficPolicy}.tunnel.protocol=[Pp][Oo][Ss][Tt]": _TUNNEL,
        "{trafficPolicy,subsets[].trafficPolicy}{,.portLevelSettings[]}.outlierDetection.consecutiveErrors": _ERRORS,
    },
    "Gateway": {
        "servers[].defaultEndpoint": _SAME_IN_ISTIO,
        "servers[].tls.tlsCertificates[].caCertificates": _ROOTS,
    },
    "ServiceEntry": {
        "endpoints[].network": _NETWORK,
        "endpoints[].address=unix:*": "it is looked for in the machine's own files, not in the pod's",
    },
    "Sidecar": {
        **_SIDECAR,
        "ingress[].tls": "Istio does only where istiod has ENABLE_TLS_ON_SIDECAR_INGRESS=true",
        "{ingress[].connectionPool,inboundConnectionPool}.{tcp.idleTimeout,http.h2UpgradePolicy}": _SAME_IN_ISTIO,
    },
    "WasmPlugin": {"": "its Envoy runs no WebAssembly"},
    "TrafficExtension": {"wasm": "its Envoy runs no WebAssembly"},
    "WorkloadEntry": {"network": _NETWORK},
    "WorkloadGroup": {"": "no machine registers itself here (write WorkloadEntries)"},
    "Telemetry": {
        "accessLogging[].filter.expression={*_peer*,*filter_state*}": f"{_PEERS}: nothing is logged",
        "metrics[].overrides[].match.customMetric": _SAME_IN_ISTIO,
        "metrics[].overrides[].match.metric=GRPC_*": "messages of gRPC are not counted",
        "metrics[].reportingInterval": "",
        "tracing[].disableContextPropagation": "",
        "tracing[].enableIstioTags?": "",
        "tracing[].useRequestIdForTraceSampling?": "",
    },
}

_MIXER = "Mixer reports what the demo profile's own handlers and rules say, and checks nothing"

_LEGACY: _Table = {
    "VirtualService": {
        "http[].websocketUpgrade": "every route lets WebSockets pass, as Istio 1.2's own do",
        "{tcp,tls}[].match[].sourceSubnet": _SAME_IN_ISTIO,
    },
    "Gateway": {"servers[].defaultEndpoint": _SAME_IN_ISTIO},
    "ServiceEntry": {
        "endpoints[].network": _NETWORK,
        "location=MESH_INTERNAL": "whether mTLS is spoken a DestinationRule says, as in Istio 1.2 itself",
    },
    "Sidecar": _SIDECAR,
    "AuthorizationPolicy": {"": "no role is asked for by it (write a ServiceRoleBinding)"},
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

TABLES: dict[bool, _Table] = {False: _TODAY, True: _LEGACY}
"""For today's release, and for Istio 1.2 (`legacy`): kind → path → why."""

_RESOURCES = {
    "WasmPlugin": "wasmplugins.extensions.istio.io",
    "WorkloadGroup": "workloadgroups.networking.istio.io",
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


class _Node(Struct):
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
