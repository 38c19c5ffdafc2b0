# SPDX-License-Identifier: Apache-2.0
"""What the commands share: which cluster, whose proxy, and tables as Go's tabwriter sets them."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from labkit import cluster
from labkit.cluster import Obj, Target
from labkit.ground.errors import ClusterError, SettingError
from labkit.istio.envoy.admin import Proxy, find, has_proxy, of_pod
from labkit.istio.releases import NAMESPACE

__all__ = [
    "ABOUT",
    "ISTIODS",
    "add_cluster",
    "camel",
    "choose",
    "every_pod",
    "from_file",
    "part_of",
    "proxy_of",
    "split",
    "table",
    "version_of",
]

ABOUT = "This istioctl is the workshop's own; it speaks the words of Istio 1.30's, and does what lessons need."
ISTIODS = "istio in (pilot,istiod)"
"""The control plane's pods: those of a revision are labelled otherwise."""

_VERSION = re.compile(r":(\d[\w.]*)")
_SNAKE = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)+")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """The options that say where."""
    parser.add_argument("-n", "--namespace", default="", help="the namespace; default: the context's own")
    parser.add_argument(
        "-i", "--istioNamespace", dest="system", default=NAMESPACE, help="Istio's (default: %(default)s)"
    )
    parser.add_argument("-c", "--kubeconfig", default="", help="a kubeconfig; default: $KUBECONFIG")
    parser.add_argument("--context", default="", help="a context of it; default: its current one")


def choose(args: argparse.Namespace) -> str:
    """Choose the cluster that kubectl would talk to; gives the namespace that is meant.

    Raises:
        SettingError: There is none.
        ClusterError: It does not answer.
    """
    # As kubectl does, and unlike a lesson: what is in the environment is what is meant.
    named = args.kubeconfig or os.environ.get("KUBECONFIG", "") or str(Path.home() / ".kube" / "config")
    try:
        chosen = cluster.use(Target(named, args.context))
    except SettingError as error:
        step = '--kubeconfig or $KUBECONFIG names one; `eval "$(labkit env)"` names the sandbox\'s.'
        raise SettingError(error.message, next_step=step) from None
    if args.namespace:
        return str(args.namespace)
    from labkit.cluster.client import parts

    return str(parts(chosen.file.read_text())[0]["context"].get("namespace") or "default")


def split(name: str, namespace: str) -> tuple[str, str]:
    """The name and namespace in "NAME[.NAMESPACE]"."""
    base, dot, where = name.rpartition(".")
    return (base, where) if dot and "/" not in where else (name, namespace)


def proxy_of(name: str, namespace: str) -> Proxy:
    """The proxy of a pod, "NAME[.NAMESPACE]", or of a workload, "deploy/NAME[.NAMESPACE]".

    Raises:
        ClusterError: There is none.
    """
    kind, slash, rest = name.partition("/")
    asked, where = split(rest if slash else name, namespace)
    if slash:
        try:
            return find(f"{kind}/{asked}", where)
        except SettingError as error:
            raise ClusterError(error.message, next_step=error.next_step) from None
    pods = cluster.get("pods", asked, namespace=where)
    if not pods:
        step = f"`kubectl get pods -n {where}` lists them; `deploy/NAME` names one by its Deployment."
        raise ClusterError(f'unable to retrieve Pod: pods "{asked}" not found', next_step=step)
    if not has_proxy(pods[0]):
        raise ClusterError(
            f"container istio-proxy is not valid for pod {asked}",
            next_step=f"`istioctl analyze -n {where}` says whether it should have one.",
        )
    return of_pod(pods[0])


def every_pod() -> list[Obj]:
    """The pods with a proxy that run, in all namespaces, by name."""
    pods = [one for one in cluster.get("pods", all_namespaces=True) if has_proxy(one)]
    running = [one for one in pods if (one.get("status") or {}).get("phase") == "Running"]
    return sorted(running, key=lambda one: (one["metadata"]["name"], one["metadata"]["namespace"]))


def from_file(name: str, part: str) -> Obj:
    """What stands in a file with an Envoy's page ("-": what is read); `part` is what every such page has.

    Raises:
        SettingError: It is no such page.
    """
    text = sys.stdin.read() if name == "-" else Path(name).read_text()
    page = {"configs": "/config_dump", "cluster_statuses": "/clusters?format=json"}[part]
    try:
        found = json.loads(text)
        why = "" if isinstance(found, dict) and isinstance(found.get(part), list) else f"it has no `{part}`"
    except ValueError as error:
        why = str(error)
    if why:
        step = f"`kubectl exec POD -c istio-proxy -- pilot-agent request GET '{page}'` writes one."
        raise SettingError(f"{name} is no {page.partition('?')[0]} of an Envoy: {why}", next_step=step)
    return dict(found)


def version_of(pod: Obj, *names: str) -> str:
    """The version in the image's tag of one of a pod's containers; "unknown" without."""
    spec = pod["spec"]
    for one in (*spec["containers"], *(spec.get("initContainers") or [])):
        if one["name"] in names and (found := _VERSION.search(one.get("image", "").rpartition("/")[2])):
            return found[1]
    return "unknown"


def part_of(config: Obj, name: str) -> Obj:
    """A part of a config dump: "Bootstrap", "Secrets" …; empty where there is none."""
    parts = config.get("configs") or []
    return next((one for one in parts if str(one.get("@type", "")).endswith(f".{name}ConfigDump")), {})


def table(rows: Iterable[Sequence[object]], gap: int = 5) -> str:
    """Rows as Go's tabwriter sets them: each cell but the last as wide as its column, and `gap` spaces."""
    cells = [[str(one) for one in row] for row in rows]
    wide = [max(map(len, column)) + gap for column in zip(*cells, strict=True)]
    return "\n".join("".join(one.ljust(w) for one, w in zip(row[:-1], wide, strict=False)) + row[-1] for row in cells)


def camel(value: Any) -> Any:
    """Envoy's JSON with the names of fields that protobuf's JSON has; what is somebody's own in it stays as it is."""
    if isinstance(value, list):
        return [camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {_field(name): one if _own(name, one) else camel(one) for name, one in value.items()}


def _own(name: str, value: Any) -> bool:
    """Whether what a field holds is no message: what filters are told of an object, what a node says of itself."""
    return name == "filter_metadata" or (name == "metadata" and "filter_metadata" not in (value or {}))


def _field(name: str) -> str:
    if not _SNAKE.fullmatch(name):
        return name
    first, *others = name.split("_")
    return first + "".join(one.capitalize() for one in others)
