# SPDX-License-Identifier: Apache-2.0
"""A release's Prometheus configuration, changed only where a process on this machine differs from a container.

What stays: every job and every relabel rule. What changes: service discovery comes over HTTP (Debian's Prometheus is
built without Kubernetes'), files are where the volumes really are, names of Services are addresses, Envoy's metrics
lose the prefix that stock Envoy gives them, and jobs that carry the mesh's metrics are scraped more often.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

__all__ = ["Surroundings", "adapt"]

Json = dict[str, Any]

QUICK = "500ms"
"""How often the mesh's own metrics are scraped: what a learner did a moment ago shows in the next query.

While nobody asks or sends anything, `pace` stops Prometheus between two of its rounds.
"""

SLOW = "5s"
"""How often everything else is, unless the configuration says less."""

_MESH_JOBS = {True: ("istio-mesh",), False: ("envoy-stats", "kubernetes-pods")}
"""Which jobs bring the mesh's metrics, when Mixer serves them and when each sidecar does."""

_NOT_HERE = ("rule_files", "remote_write", "remote_read", "alerting")
_OURS: Json = {"source_labels": ["__name__"], "regex": "envoy_(istio_.*)"}
_RENAME = {**_OURS, "target_label": "__name__", "replacement": "$1"}
_DROP = {**_OURS, "action": "drop"}


@dataclass(frozen=True)
class Surroundings:
    """What the configuration is adapted to.

    Args:
        discovery: URL of the service discovery, e.g. "http://127.20.64.9:9090/sd".
        root: The folder that plays the container's "/".
        api: Host and port of the API server.
        own: Host and port at which this Prometheus itself is reached.
        quick: Whether to scrape at the sandbox's clock; otherwise at the configuration's own.
        scrapes: URL of the HTTP proxy that keeps sidecars' counts and sees what flows, e.g. "http://127.20.64.9:9090".
        from_mixer: Whether Mixer serves Istio's metrics (1.2), so that the sidecars' own are left out.
        shift: What is added to ports below 1024 where this user may not bind them, in thousands; else 0.
        version: Of the Prometheus that reads it, e.g. (3, 10); (0, 0) where it does not say.
    """

    discovery: str
    root: Path
    api: str
    own: str
    quick: bool
    scrapes: str = ""
    from_mixer: bool = False
    shift: int = 0
    version: tuple[int, int] = (0, 0)


def adapt(config: Json, here: Surroundings) -> Json:
    """The configuration to start Prometheus with; `config` is left as it is."""
    adapted: Json = {key: _paths(value, here) for key, value in config.items() if key not in _NOT_HERE}
    overall = adapted.setdefault("global", {}) or {}
    adapted["global"] = overall
    if here.quick:
        overall["scrape_interval"] = SLOW
        overall["scrape_timeout"] = SLOW
        overall.pop("evaluation_interval", None)
    adapted["scrape_configs"] = [_job(job, here) for job in adapted.get("scrape_configs") or []]
    return adapted


def _paths(value: Any, here: Surroundings) -> Any:
    """`value` with container paths and the API server's name replaced, wherever they stand."""
    if isinstance(value, dict):
        return {key: _paths(item, here) for key, item in value.items()}
    if isinstance(value, list):
        return [_paths(item, here) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith("/") and (inside := here.root / value.lstrip("/")).exists():
        return str(inside)
    value = re.sub(r"^localhost:9090$", here.own, value)
    return re.sub(r"^kubernetes\.default\.svc(\.cluster\.local)?(:443)?$", here.api, value)


def _job(job: Json, here: Surroundings) -> Json:
    made = {key: value for key, value in job.items() if key != "kubernetes_sd_configs"}
    if found := job.get("kubernetes_sd_configs"):
        made["http_sd_configs"] = [_discovery(one, here) for one in found]
    if here.quick:
        made.pop("scrape_timeout", None)
        quick = job.get("job_name") in _MESH_JOBS[here.from_mixer]
        made["scrape_interval"] = made["scrape_timeout"] = QUICK if quick else SLOW
    if here.scrapes and job.get("job_name") in _MESH_JOBS[here.from_mixer]:
        made["proxy_url"] = here.scrapes
    if here.version >= (3, 0):
        # Until 2 a page that does not say what it is was taken for text; 3 has to be told, and 2 knows no such word.
        made.setdefault("fallback_scrape_protocol", "PrometheusText0.0.4")
    if here.shift:
        made["relabel_configs"] = [*(job.get("relabel_configs") or []), *_moved(here)]
    made["metric_relabel_configs"] = [*(job.get("metric_relabel_configs") or []), _DROP if here.from_mixer else _RENAME]
    return made


def _moved(here: Surroundings) -> list[Json]:
    """Rules that lead to where the sandbox's low ports really are; the instance stays what it is called elsewhere."""
    block = re.escape(".".join(here.own.split(".")[:2]) + ".")
    host = rf"({block}[0-9.]+)"
    rules: list[Json] = [
        {"source_labels": ["instance", "__address__"], "regex": ";(.+)", "target_label": "instance"},
        {"source_labels": ["__scheme__", "__address__"], "regex": f"http;{host}", "replacement": "$1:80"},
        {"source_labels": ["__scheme__", "__address__"], "regex": f"https;{host}", "replacement": "$1:443"},
    ]
    # Prometheus cannot add, but a shift of whole thousands is a text before the port's last digits.
    for digits in (1, 2, 3):
        port = rf"([1-9]\d{{{digits - 1}}})"
        rules.append({"regex": f"{host}:{port}", "replacement": f"$1:{str(here.shift)[:-digits]}$2"})
    rules.append({"regex": rf"{host}:1(0[01]\d|02[0-3])", "replacement": f"$1:{str(here.shift + 1000)[:-3]}$2"})
    return [{"source_labels": ["__address__"], "target_label": "__address__", **rule} for rule in rules]


def _discovery(found: Json, here: Surroundings) -> Json:
    names = (found.get("namespaces") or {}).get("names") or []
    query = urlencode({"role": found.get("role", ""), "namespaces": ",".join(names)})
    return {"url": f"{here.discovery}?{query}", "refresh_interval": "1s"}
