# SPDX-License-Identifier: Apache-2.0
"""Before a lesson is played on a cluster of one's own: what the course would do there. It only looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from labkit import bookinfo, cluster, display, istio
from labkit.cluster import Ownership, Thing
from labkit.course import targets
from labkit.course.checks import Checklist
from labkit.course.preflight import preflight

__all__ = ["survey"]

_NAMESPACES = ("istio-system", "bookinfo", "warm-up")
_KINDS_SHOWN = 8


def survey(context: str, release: str) -> int:
    """`labkit doctor --target`: print what is there, what the course would make, and what clean-up would remove.

    Nothing is written to the cluster: it is asked for objects, and whether this user may do this and that.

    Args:
        context: A context of the reader's kubeconfig.
        release: The Istio release to be installed.

    Returns:
        The exit code: 1 if the course would refuse to be played there.

    Raises:
        SettingError: There is no such context.
        ClusterError: The cluster does not answer.
    """
    targets.choose(context, release)
    known = cluster.look(settle=False)
    chosen = istio.release(release)
    print(
        f"{context}: {cluster.current().server}, Kubernetes {cluster.server_version()}, cluster {cluster.current().uid}"
    )
    checks = preflight(chosen)
    print(f"\nCan it carry the course with Istio {release}?\n{checks}")
    theirs = istio.claimed(chosen, known)
    blocked = _blocked(chosen, known)
    print("\nWhat is there:")
    print(f"  Istio: {_whose_istio(known, theirs)}")
    for name in _NAMESPACES:
        print(f"  namespace {name}: {_namespace(name, known)}")
    if blocked:
        print("  in the way of the lessons: " + _some(blocked))
    print(f"\nWhat the course would make:\n  {_would_make(chosen)}")
    print(f"\nWhat clean-up would remove now:\n{_would_remove(chosen)}")
    reasons = _reasons(checks, theirs, blocked)
    print()
    for reason in reasons:
        print(display.message(f"the course would refuse: {reason}", "bad"))
    if not reasons:
        print(display.message("the course can be played here", "good"))
    return 1 if reasons else 0


def _some(things: Iterable[Thing]) -> str:
    told = [f"{thing} ({thing.origin})" for thing in things]
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return ", ".join(told[:3]) + more


def _whose_istio(known: Ownership, theirs: list[Thing]) -> str:
    if theirs:
        return f"somebody else's, {len(theirs)} objects: {_some(theirs)}"
    mine = [thing for thing in known.things if thing.name.endswith(".istio.io") and known.why(thing)]
    return f"the course's own, {len(mine)} kinds" if mine else "none"


def _namespace(name: str, known: Ownership) -> str:
    found = next((thing for thing in known.things if thing.key == ("Namespace", "", name)), None)
    if found is None:
        return "not there; the course makes it"
    inside = known.keeping(name)
    whose = known.why(found) or f"somebody else's, {found.origin}; the course would put a label on it"
    return whose + (f"; holds {_some(inside)}, which the course would leave" if inside else "")


def _blocked(release: istio.Release, known: Ownership) -> list[Thing]:
    """Objects of the lessons' names that are somebody else's: over them nothing is applied."""
    wanted = {
        (kind, namespace or "bookinfo", name)
        for file in (
            release.path / bookinfo.MANIFEST,
            *sorted((release.samples / "bookinfo/networking").glob("*.yaml")),
        )
        for kind, namespace, name in istio.keys_in(file)
    }
    return known.in_the_way(wanted)


def _would_make(release: istio.Release) -> str:
    keys = istio.manifest_keys(release)
    crds = sum(kind == "CustomResourceDefinition" for kind, _, _ in keys)
    wide = Counter(kind for kind, namespace, _ in keys if not namespace and kind not in ("CustomResourceDefinition",))
    wide.pop("Namespace", None)
    inside = Counter(kind for kind, namespace, _ in keys if namespace)
    return (
        f"namespaces {', '.join(_NAMESPACES)}\n  {crds} CustomResourceDefinitions\n"
        f"  {sum(wide.values())} further cluster-wide objects: {_counts(wide)}\n"
        f"  {sum(inside.values())} objects in namespaces: {_counts(inside)}\n"
        "  and BookInfo with its rules in namespace bookinfo; all of it labelled labkit.dev/course=istio-workshop"
    )


def _counts(counted: Counter[str]) -> str:
    told = [f"{number} {kind}" for kind, number in counted.most_common(_KINDS_SHOWN)]
    return ", ".join(told) + (" …" if len(counted) > _KINDS_SHOWN else "")


def _would_remove(release: istio.Release) -> str:
    lines = str(istio.plan(release, settle=False)).splitlines()
    return "\n".join(f"  {line}" for line in lines)


def _reasons(checks: Checklist, theirs: list[Thing], blocked: list[Thing]) -> list[str]:
    failed = [f"not so: {check.name}; seen: {check.seen}" for check in checks if check.needed and not check.passed]
    if theirs and not any("no Istio" in reason for reason in failed):
        failed.append("there is an Istio of somebody else's")
    if blocked:
        failed.append(f"it would have to change what is somebody else's: {_some(blocked)}")
    return failed
