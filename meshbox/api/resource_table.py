# SPDX-License-Identifier: Apache-2.0
"""The built-in resources: read from data/resources.txt; names, groups and versions are facts of the Kubernetes API.

It has a line for each group and its versions, and below it one for each of its resources: plural, kind, and what is not
usual of it. "cluster" is one without namespaces, "all" one of `kubectl get all`; the rest is named as in `Row`.
"legacy=-" was not there in 1.14.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from meshbox.api.table_files import lines

__all__ = ["BUILTIN", "EXTENSIONS", "Row"]


class Row(NamedTuple):
    """One built-in resource.

    `versions` are served by a current Kubernetes, the first of them being the hub; `legacy` by Kubernetes 1.14,
    preferred first (the same where empty; None: not served there).
    """

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    short: tuple[str, ...] = ()
    sub: tuple[str, ...] = ()
    namespaced: bool = True
    all: bool = False
    generation: bool = False
    legacy: tuple[str, ...] | None = ()
    review: bool = False
    computed: bool = False


def _rows() -> Iterator[Row]:
    group = ""
    versions: tuple[str, ...] = ()
    for line in lines("resources.txt"):
        first, second, *words = line.split()
        if not line.startswith(" "):
            group, versions = first.removeprefix("core"), tuple(second.split(","))
            continue
        given: dict[str, Any] = {"namespaced": "cluster" not in words}
        for word in words:
            key, is_list, listed = word.partition("=")
            given[key] = tuple(listed.split(",")) if is_list else True
        given.pop("cluster", None)
        if given.get("legacy") == ("-",):
            given["legacy"] = None
        yield Row(group, versions, first, second, **given)


BUILTIN: tuple[Row, ...] = tuple(_rows())

EXTENSIONS: tuple[str, ...] = (
    "daemonsets.apps",
    "deployments.apps",
    "ingresses.networking.k8s.io",
    "networkpolicies.networking.k8s.io",
    "replicasets.apps",
)
"""What `extensions/v1beta1` serves besides, in Kubernetes 1.14."""
