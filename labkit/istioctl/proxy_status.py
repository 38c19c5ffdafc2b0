# SPDX-License-Identifier: Apache-2.0
"""`istioctl proxy-status`: which proxies there are, who tells them what to do, and of what they are told."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from labkit import cluster
from labkit.cluster import Obj
from labkit.ground.client import send
from labkit.ground.errors import ClusterError, SettingError
from labkit.istio.envoy.admin import Admin, of_pod
from labkit.istioctl.common import ISTIODS, choose, every_pod, part_of, table, version_of

__all__ = ["add_to"]

_TYPES = {
    "CDS": ("Clusters", "dynamic_active_clusters"),
    "LDS": ("Listeners", "dynamic_listeners"),
    "EDS": ("Endpoints", "dynamic_endpoint_configs"),
    "RDS": ("Routes", "dynamic_route_configs"),
}
"""What a proxy is told of, with the part of its configuration where it then is, in the order of the listing."""

_COLUMNS = {"CDS": "cluster", "ECDS": "extensionconfig", "EDS": "endpoint", "LDS": "listener", "RDS": "route"}
"""The columns of all types, with what istiod's page calls each."""

_MONITORING = 15014
_SECONDS = 20.0


def add_to(commands: Any, parents: argparse.ArgumentParser) -> None:
    """The command."""
    parser = commands.add_parser("proxy-status", aliases=["ps"], parents=[parents], help="the proxies of the mesh")
    parser.add_argument("proxy", nargs="?", help="refused: to compare needs what istiod would send")
    parser.add_argument("-v", "--verbosity", type=int, default=0, choices=(0, 1), help="1: each type in a column")
    parser.set_defaults(action=_run)


def _run(args: argparse.Namespace) -> int:
    if args.proxy:
        raise SettingError(
            "a proxy's configuration is not compared with istiod's here",
            next_step=f"`istioctl proxy-config all {args.proxy}` shows what it has.",
        )
    namespace = choose(args)
    if args.verbosity:
        print(table(_each_type(args.system, namespace if args.namespace else "")))
        return 0
    istiods = [one["metadata"]["name"] for one in cluster.get("pods", namespace=args.system, labels=ISTIODS)]
    whose = {row.get("proxy"): name for name, row in _told(args.system)} if len(istiods) > 1 else {}
    rows: list[tuple[str, ...]] = [("NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES")]
    for pod in every_pod():
        if args.namespace and pod["metadata"]["namespace"] != namespace:
            continue
        name = f"{pod['metadata']['name']}.{pod['metadata']['namespace']}"
        try:
            with Admin(of_pod(pod)) as admin:
                config = admin.json("/config_dump")
        except ClusterError:
            # Who does not answer is connected to nobody.
            continue
        node = part_of(config, "Bootstrap").get("bootstrap", {}).get("node", {})
        about = node.get("metadata") or {}
        types = [short for short, (where, key) in _TYPES.items() if part_of(config, where).get(key) or short != "RDS"]
        version = about.get("ISTIO_VERSION") or version_of(pod, "istio-proxy")
        istiod = istiods[0] if len(istiods) == 1 else whose.get(name, "-")
        subscribed = f"{len(types)} ({','.join(types)})"
        rows.append((name, about.get("CLUSTER_ID") or "Kubernetes", istiod, version, subscribed))
    print(table(rows))
    return 0


def _each_type(system: str, namespace: str) -> Iterator[tuple[str, ...]]:
    """Whether each proxy has what it was sent last, type by type, as every istiod says it of its own proxies."""
    yield "NAME", "CLUSTER", *_COLUMNS, "ISTIOD", "VERSION"
    rows = []
    for name, one in _told(system):
        proxy = str(one.get("proxy", ""))
        if namespace in ("", proxy.rpartition(".")[2]):
            states = [_state(one, field) for field in _COLUMNS.values()]
            rows.append((proxy, one.get("cluster_id", ""), *states, name, one.get("istio_version", "")))
    yield from sorted(rows)


def _told(system: str) -> Iterator[tuple[str, Obj]]:
    """What every istiod says of each of its own proxies, with the istiod's name."""
    for pod in cluster.get("pods", namespace=system, labels=ISTIODS):
        name = pod["metadata"]["name"]
        with cluster.port_forward(f"pod/{name}", _MONITORING, namespace=system, show=False) as forward:
            try:
                where = f"127.0.0.1:{forward.port}"
                answer = send(f"http://{where}/debug/syncz", headers={"Host": where}, timeout=_SECONDS)
                told = json.loads(answer.text) if answer.status == 200 else None
            except (OSError, ValueError):
                told = None
        if not isinstance(told, list):
            raise ClusterError(f"{name} does not say which proxies it has", next_step="`istioctl proxy-status` does.")
        yield from ((name, one) for one in told)


def _state(row: Obj, field: str) -> str:
    sent, acked = row.get(f"{field}_sent", ""), row.get(f"{field}_acked", "")
    if not sent:
        return "IGNORED"
    return "SYNCED" if sent == acked else "STALE" if acked else "STALE (Never Acknowledged)"
