# SPDX-License-Identifier: Apache-2.0
"""The rules of namespace bookinfo, made to be exactly those that a lesson or an exercise begins with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from labkit import cluster, display, istio
from labkit.cluster import Obj, manifests
from labkit.course.stages import DESTINATION_RULES, GATEWAY
from labkit.ground.errors import CheckError
from labkit.ground.reading import ReadingError, yaml_documents

__all__ = ["BASE", "NAMESPACE", "restore"]

NAMESPACE = "bookinfo"

BASE = (GATEWAY, DESTINATION_RULES)
"""What lessons begin with, below the release's folder: the way in, and a subset for each version."""

_GROUPS = ("istio.io", "gateway.networking.k8s.io")
"""API groups whose objects count as rules, by the ends of their names."""

_OF_GATEWAY = "gateway.networking.k8s.io/gateway-name"
"""Label of what Istio deploys for a Gateway."""

Key = tuple[str, str, str]
"""An object's API group, kind and name."""


def restore(release: istio.Release, more: Sequence[str] = ()) -> display.Rich:
    """Have the base rules and `more` in the namespace, and no others of Istio's or the Gateway API's.

    What is there as it is wanted is not touched. What differs, whoever wrote it by whatever means, is made anew, since
    to apply something over it leaves what another manager has set.

    Args:
        release: Whose samples the base is.
        more: Further manifests: paths below the release's folder, or YAML. Those of other kinds or namespaces are
            applied as they are, and are not taken away by the next call.

    Returns:
        What was done, to show.

    Raises:
        CheckError: A manifest is no YAML, or holds no objects.
        ClusterError: There is no such file, or the cluster refused something; so does labkit where the rules are
            somebody else's.
    """
    wanted = [one for source in (*BASE, *more) for one in _read(release, source)]
    rules = {_key(one): one for one in wanted if _is_rule(one)}
    there = {_key(one): one for one in _rules_there()}
    gone = [key for key in there if key not in rules]
    changed = [key for key in rules if key in there and not _same(there[key], rules[key])]
    if old := [f"{kind.lower()}.{group}/{name}" for group, kind, name in (*gone, *changed)]:
        cluster.kubectl(["delete", *old, "-n", NAMESPACE, "--ignore-not-found"], show=False)
    if gateways := {name for group, kind, name in (*gone, *changed) if (group, kind) == (_GROUPS[1], "Gateway")}:
        _wait_for_gateways(gateways)
    new = [rules[key] for key in rules if key not in there or key in changed]
    new += [one for one in wanted if not _is_rule(one)]
    elsewhere = [one for one in new if one["metadata"].get("namespace", NAMESPACE) != NAMESPACE]
    if here := [one for one in new if one not in elsewhere]:
        cluster.apply(here, namespace=NAMESPACE, show=False)
    if elsewhere:
        cluster.apply(elsewhere, show=False)
    # Pods as an attempt had left them would still be there for a moment, and be judged.
    for one in new:
        if one["kind"] == "Deployment":
            where = ["-n", one["metadata"].get("namespace", NAMESPACE), "--timeout=60s"]
            cluster.kubectl(["rollout", "status", f"deployment/{one['metadata']['name']}", *where], show=False)
    if not more:
        cluster.wait_for(cluster.Answers(f"{istio.ingress(show=False).url}/productpage"), timeout=60)
    return _told(rules, gone, changed)


def _read(release: istio.Release, source: str) -> list[dict[str, Any]]:
    text = source if "\n" in source else manifests.read(release.path / source)
    name = "the YAML given" if source == text else source
    try:
        found = [one for one in yaml_documents(text) if one is not None]
        for one in found:
            if _group(one).endswith(_GROUPS):
                one["metadata"].setdefault("namespace", NAMESPACE)
            _key(one)
    except ReadingError as error:
        raise CheckError(f"{name} cannot be read: {error}", next_step="Correct that line.") from None
    except (KeyError, TypeError, AttributeError):
        step = "Each object has apiVersion, kind and metadata.name."
        raise CheckError(f"{name} holds what is no object of Kubernetes", next_step=step) from None
    return found


def _group(one: Obj) -> str:
    return str(one["apiVersion"]).rpartition("/")[0]


def _key(one: Obj) -> Key:
    return _group(one), one["kind"], one["metadata"]["name"]


def _is_rule(one: Obj) -> bool:
    return _group(one).endswith(_GROUPS) and one["metadata"].get("namespace") == NAMESPACE


def _rules_there() -> list[Obj]:
    kinds = [one.name for one in cluster.served() if one.namespaced and one.group.endswith(_GROUPS)]
    found = cluster.get(",".join(kinds), namespace=NAMESPACE) if kinds else []
    # What a controller makes of another object goes with that one.
    return [one for one in found if not one["metadata"].get("ownerReferences")]


def _wait_for_gateways(gone: set[str]) -> None:
    """Wait until what Istio had deployed for Gateways is gone: it ends a little later, and a Gateway of the same name
    would meet what belongs to the one before."""

    def left() -> str | None:
        there = cluster.get("deployments.apps,services", namespace=NAMESPACE, labels=_OF_GATEWAY)
        names = [one["metadata"]["name"] for one in there if one["metadata"]["labels"][_OF_GATEWAY] in gone]
        return f"{', '.join(names)} still there" if names else None

    cluster.wait_for(cluster.Condition("what was deployed for Gateways to go with them", left), timeout=60)


def _same(there: Obj, wanted: Obj) -> bool:
    labels, notes = (
        {
            key: value
            for key, value in (there["metadata"].get(field) or {}).items()
            # What labkit, kubectl and istiod add of their own.
            if not key.startswith(("labkit.dev/", "kubectl.kubernetes.io/", "gateway.istio.io/"))
        }
        for field in ("labels", "annotations")
    )
    about = wanted["metadata"]
    return (there.get("spec"), labels, notes) == (
        wanted.get("spec"),
        about.get("labels", {}),
        about.get("annotations", {}),
    )


def _told(rules: dict[Key, Obj], gone: list[Key], changed: list[Key]) -> display.Rich:
    def named(keys: Iterable[Key]) -> str:
        by_kind: dict[str, list[str]] = {}
        for _group, kind, name in keys:
            by_kind.setdefault(kind, []).append(name)
        return "; ".join(f"{kind} {', '.join(sorted(names))}" for kind, names in by_kind.items())

    lines = [f"Rules of namespace {NAMESPACE}: {named(rules)}."]
    if gone:
        lines.append(f"Removed: {named(gone)}.")
    if changed:
        lines.append(f"Made anew, as it differed: {named(changed)}.")
    return display.message("\n".join(lines), "note")
