# SPDX-License-Identifier: Apache-2.0
"""What is wrong, in one look: pods, versions of images, routing objects, sidecars."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit import cluster, display
from labkit.ground.errors import ClusterError
from labkit.istio.analyze import KINDS, OPTIONAL, Finding, analyze, credentials
from labkit.istio.releases import NAMESPACE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Diagnosis", "diagnose"]

_LEVELS = {"Error": "bad", "Warning": "warning", "Info": "note"}
_TODAYS = ("IST0002", "IST0107", "IST0108", "IST0125", "IST0135")
"""What today's Istio says of fields and annotations, which says nothing of an old one's."""

_ISTIO_IMAGE = re.compile(r"(?:^|/)istio/(?!examples-)[^/]+$")


@dataclass(frozen=True)
class Diagnosis(display.Shown):
    """What `diagnose` found, worst first."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; remarks of level Info are no fault."""
        return all(finding.level == "Info" for finding in self.findings)

    def table(self) -> pd.DataFrame:
        """One row a finding: level, code, where, message, next_step (str)."""
        import pandas as pd

        columns = ["level", "code", "where", "message", "next_step"]
        return pd.DataFrame([[getattr(f, c) for c in columns] for f in self.findings], columns=columns)

    def rich(self) -> display.Rich:
        """As a table to show."""
        if not self.findings:
            return display.message("Nothing wrong was found.", "good")
        rows = [
            {
                "": display.SYMBOLS[_LEVELS[f.level]],
                "Code": f.code,
                "Where": f.where,
                "What": f.message,
                "Next step": f.next_step,
            }
            for f in self.findings
        ]
        return display.table(rows, ["", "Code", "Where", "What", "Next step"])


def diagnose(namespaces: Iterable[str] = (), *, images: bool = True) -> Diagnosis:
    """Look for what usually is wrong.

    Pods that are not healthy, with reasons; Istio's images in several versions on the nodes, the walk-through's own
    trouble; and all that `istioctl analyze` would say of the objects (`labkit.istio.analyze`): routes to hosts, subsets
    and gateways that are not there, Gateways in each other's way, policies that select nothing, missing sidecars …

    Args:
        namespaces: Which namespaces to look at; by default istio-system and every one with sidecars or Istio's objects.
        images: Whether to look at the images on the nodes.

    Raises:
        ClusterError: The cluster does not answer.
    """
    served = {one.name for one in cluster.served()}
    kinds = ["namespaces", "services", "pods", *(kind for kind in KINDS if kind in served)]
    objects = cluster.get(",".join(kinds), all_namespaces=True)
    for kind in OPTIONAL:
        # Not everybody may list what is the cluster's own.
        with contextlib.suppress(ClusterError):
            objects += cluster.get(kind, all_namespaces=True)
    chosen = set(namespaces) or _concerned(objects)
    found = [finding for namespace in sorted(chosen) for finding in _unhealthy(namespace)]
    found += _mixed_images() if images else ()
    secrets = _secrets(objects)
    named = {name for one in objects if one["kind"] == "Gateway" for name in credentials(one)}
    # Of no other Secret more is asked than whether it is there.
    objects += [one for one in secrets or () if one["metadata"]["name"] in named]
    names = None if secrets is None else [(s["metadata"]["namespace"], s["metadata"]["name"]) for s in secrets]
    told = analyze(objects, chosen, secrets=names)
    old = "authorizationpolicies.security.istio.io" not in served
    found += [one for one in told if not (old and one.code in _TODAYS)]
    order = list(_LEVELS)
    return Diagnosis(tuple(sorted(found, key=lambda f: order.index(f.level))))


def _secrets(objects: Iterable[cluster.Obj]) -> list[cluster.Obj] | None:
    """Which Secrets there are, if a Gateway names any; None where that may not be known."""
    if not any(credentials(one) for one in objects if one["kind"] == "Gateway"):
        return None
    try:
        return cluster.get("secrets", all_namespaces=True)
    except ClusterError:
        # Not everybody who may read Gateways may list Secrets.
        return None


def _concerned(objects: Iterable[cluster.Obj]) -> set[str]:
    found = {NAMESPACE}
    for item in objects:
        meta = item["metadata"]
        if item["kind"] == "Namespace" and (meta.get("labels") or {}).keys() & {"istio-injection", "istio.io/rev"}:
            found.add(meta["name"])
        elif item["apiVersion"].startswith("networking.istio.io/"):
            found.add(meta["namespace"])
    return found


def _unhealthy(namespace: str) -> Iterator[Finding]:
    for workload in cluster.readiness(namespace).workloads:
        if workload.good:
            continue
        where = f"{workload.kind} {namespace}/{workload.name}"
        reason = f": {workload.reason}" if workload.reason else ""
        step = f"`kubectl describe pods -n {namespace}` shows its events."
        if workload.state == "CrashLoop":
            target = f"{workload.kind.lower()}/{workload.name}"
            step = f"`kubectl logs -n {namespace} {target} --previous` shows its last words."
        waits = workload.state in ("Progressing", "Pending") and not workload.hopeless
        yield Finding("Warning" if waits else "Error", "", where, f"{workload.state}{reason}", step)


def _mixed_images() -> Iterator[Finding]:
    there: dict[str, dict[str, list[str]]] = {}
    for image in cluster.images():
        if _ISTIO_IMAGE.search(image.repository):
            tags = there.setdefault(image.node, {})
            tags.setdefault(image.tag, []).append(image.repository.rpartition("/")[2])
    for node, tags in sorted(there.items()):
        if len(tags) > 1:
            shown = "; ".join(f"{tag}: {', '.join(names)}" for tag, names in sorted(tags.items()))
            message = f"Istio's images are there in {len(tags)} versions ({shown})"
            step = "Remove those of the version you do not use from that node, then delete the pods that fail."
            yield Finding("Warning", "", f"Node {node}", message, step)
