# SPDX-License-Identifier: Apache-2.0
"""What `pilot-agent proxy` was told: by its command line, its variables and the pod's annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.ground import duration, reading
from labkit.ground.numbers import whole
from meshbox.images.context import ContainerContext

__all__ = ["Agent", "seconds"]

Json = dict[str, Any]

_STATS = "sidecar.istio.io/statsInclusion"
_BUCKETS = "sidecar.istio.io/statsHistogramBuckets"
_USUAL_CONCURRENCY = 2
"""Istio's own number of workers; one does here, unless somebody asks for another."""


def seconds(text: object, default: float) -> float:
    """A duration as ProxyConfig has it ("5s", "1m0s"); `default` where there is none."""
    try:
        return duration.from_go(str(text)) / 1e9 if text else default
    except ValueError:
        return default


@dataclass(frozen=True)
class Agent:
    """How a proxy is run.

    Args:
        role: "sidecar", "router", or "" for the fixed proxies of Istio 1.2's own pods.
        cluster: The service cluster, the name that spans carry.
        status_port: Where readiness is asked for by the kubelet.
        agent_port: Where the agent answers: applications' probes, metrics, the end of the proxy.
        concurrency: Envoy's workers.
        log_level: Of Envoy.
        component_log_level: Of its components, "misc:error,http:debug".
        drain: Seconds that connections may take to end when the proxy ends.
        drain_time: Seconds that connections to a listener may take to end once it has been replaced.
        until_idle: Whether the proxy goes on until no connection is left.
        stats: Patterns of statistics to keep besides Istio's own.
        buckets: Limits of histograms, by the beginning of their names.
        runtime: Values of Envoy's runtime.
        metrics: Where the application's own metrics are ("port", "path"); empty where they are not merged.
    """

    role: str
    cluster: str
    status_port: int
    agent_port: int = 15020
    concurrency: int = 1
    log_level: str = "warning"
    component_log_level: str = ""
    drain: float = 5.0
    drain_time: float = 1.0
    until_idle: bool = False
    stats: tuple[Json, ...] = ()
    buckets: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, context: ContainerContext) -> Agent:
        """Read the command line, the environment and the annotations."""
        arguments = list(context.argv[2:])
        role = arguments[0] if arguments and not arguments[0].startswith("-") else ""
        flags = _flags(arguments)
        meta = context.pod["metadata"]
        labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
        app = labels.get("app") or labels.get("service.istio.io/canonical-name") or meta["name"]
        config, legacy = _settings(context, annotations), context.settings.legacy
        status = whole(flags.get("--statusPort", "")) or 0
        agent_port = whole(annotations.get("status.sidecar.istio.io/port", "")) or config.get("statusPort") or 15020
        own = flags.get("--drainDuration", "45s") if legacy else config.get("drainDuration")
        return cls(
            role=role,
            cluster=flags.get("--serviceCluster") or f"{app}.{context.namespace}",
            status_port=status or (15020 if legacy else 15021),
            agent_port=status or 15020 if legacy else int(agent_port),
            concurrency=_concurrency(flags.get("--concurrency", "") if legacy else config.get("concurrency")),
            log_level=flags.get("--proxyLogLevel") or "warning",
            component_log_level=flags.get("--proxyComponentLogLevel") or "",
            drain=seconds(config.get("terminationDrainDuration"), 5.0),
            drain_time=1.0 if own == "45s" else seconds(own, 1.0),
            until_idle=context.env.get("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "").lower() == "true",
            stats=tuple(_patterns(annotations, config.get("proxyStatsMatcher") or {}, context.pod_ip)),
            buckets=_map(annotations.get(_BUCKETS)),
            runtime=config.get("runtimeValues") or {},
            metrics=_map(context.env.get("ISTIO_PROMETHEUS_ANNOTATIONS")),
        )


def _flags(arguments: list[str]) -> dict[str, str]:
    flags: dict[str, str] = {}
    while arguments:
        word = arguments.pop(0)
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            if not equals and arguments and not arguments[0].startswith("--"):
                value = arguments.pop(0)
            flags[name] = value
    return flags


def _settings(context: ContainerContext, annotations: Mapping[str, str]) -> Json:
    """The ProxyConfig: what injection found out, or for a pod that needs none what the agent reads by itself."""
    own = _map(context.env.get("PROXY_CONFIG"))
    if context.settings.legacy:
        return own
    file = context.path("/etc/istio/config/mesh")
    mesh = _map(file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "", reading.yaml_value)
    pod = _map(annotations.get("proxy.istio.io/config"), reading.yaml_value)
    return {**(mesh.get("defaultConfig") or {}), **pod, **own}


def _map(text: str | None, read: Callable[[str], Any] = reading.json_value) -> Json:
    try:
        found = read(text) if text else {}
    except reading.ReadingError:
        return {}
    return found if isinstance(found, dict) else {}


def _concurrency(said: object) -> int:
    number = said if isinstance(said, int) else whole(str(said))
    if number is None or number == _USUAL_CONCURRENCY or number < 0:
        return 1
    # None of one's own choice: as many as there are processors.
    return number or len(os.sched_getaffinity(0))


def _patterns(annotations: Mapping[str, str], matcher: Json, ip: str) -> list[Json]:
    """Of each kind the annotation's patterns, else those of the settings; in both the pod's address may be named."""
    kinds = (("prefix", "Prefixes"), ("suffix", "Suffixes"), ("safe_regex", "Regexps"))
    found: list[Json] = []
    for kind, name in kinds:
        own = annotations.get(_STATS + name)
        listed = own.split(",") if own else matcher.get(f"inclusion{name}") or []
        texts = [str(text).replace("{pod_ip}", ip) for text in listed if text]
        found += [{kind: {"regex": text} if kind == "safe_regex" else text} for text in texts]
    return found
