# SPDX-License-Identifier: Apache-2.0
"""Taking away what the course made: shown first, confirmed on a cluster of others, and nothing but that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal

from labkit import display
from labkit.cluster.kubectl import kubectl
from labkit.cluster.listing import LABELS_BEFORE, RUN, Thing
from labkit.cluster.objects import get, patch
from labkit.cluster.ownership import Ownership
from labkit.cluster.target import current
from labkit.cluster.waits import Condition, wait_for
from labkit.cluster.watching import labels_before, look, unwatched
from labkit.ground.errors import ClusterError

__all__ = ["Item", "Plan", "plan"]

_CRD = "CustomResourceDefinition"
_KIND = attrgetter("namespace", "resource")
_AT_ONCE = 10
"""Objects of a kind a command: kubectl lets ten deletions of one pass, and then five a second."""


@dataclass(frozen=True)
class Item:
    """One object of a plan.

    Args:
        thing: The object.
        why: Why it is the course's; of what stays, why it stays.
        part: What it is part of, as the caller names parts.
        action: "delete"; "labels" where only labels that the course set are taken back; "keep".
        made_by: The component that made it by itself; "" if the course did.
    """

    thing: Thing
    why: str
    part: str = ""
    action: Literal["delete", "labels", "keep"] = "delete"
    made_by: str = ""

    def row(self) -> dict[str, str]:
        """As a row of a table."""
        sign = {"delete": "delete", "labels": "take labels back", "keep": "stays"}[self.action]
        return {
            "": sign,
            "Kind": self.thing.kind,
            "Namespace": self.thing.namespace,
            "Name": self.thing.name,
            "Why": self.why,
        }


class Plan(display.Shown):
    """What would be deleted, and what stays though it is in the way; made by `plan`.

    Args:
        items: What would be deleted.
        kept: What the course made and cannot take away, since something of others would go with it.
        known: What was known of the cluster.
        again: Makes the plan anew.
    """

    def __init__(
        self, items: Sequence[Item], kept: Sequence[Item], known: Ownership, again: Callable[[], Plan] | None = None
    ) -> None:
        self.items = tuple(items)
        self.kept = tuple(kept)
        self.known = known
        self._again = again
        self._confirmed = ""

    def rich(self) -> display.Rich:
        """As a table to show: kind, namespace, name, and why it is the course's."""
        if not self.items and not self.kept:
            return display.message("Nothing of the course is on this cluster.", "good")
        return display.table([i.row() for i in (*self.items, *self.kept)], ["", "Kind", "Namespace", "Name", "Why"])

    def confirm(self, name: str = "") -> str:
        """Go on only if the reader means this cluster; in a sandbox, which is the reader's alone, nothing is asked.

        Args:
            name: The context's name, as the reader typed it; "" to ask for it.

        Returns:
            The name, to pass on to what deletes.

        Raises:
            ClusterError: It is another name, or nobody can be asked; or no snapshot of this cluster was kept; or the
                plan was made on another cluster.
        """
        self._same_cluster()
        if self.known.whole:
            return name
        if self.known.before is None:
            raise ClusterError(
                "no snapshot of this cluster was kept, so that nothing is deleted here",
                next_step="What may be the course's: `kubectl get all -A -l labkit.dev/course`; delete it by hand.",
            )
        context = current().context
        typed = name or _ask(f"Delete these {len(self.items)} objects? Type the context's name ({context}): ")
        if typed != context:
            said = f"the name given is {typed!r}" if typed else "no name was given"
            raise ClusterError(
                f"nothing was deleted: the context in use is {context!r}, and {said}",
                next_step=f'CONFIRM = "{context}" in the parameters, or `labkit run --confirm {context}`, deletes what'
                " the table above shows.",
            )
        self._confirmed = typed
        return typed

    def remove(self, *parts: str, timeout: float = 300.0) -> None:
        """Delete what was shown, as far as it is still there and still the course's; waits until it is gone.

        Args:
            parts: Only these parts; none for all.
            timeout: Seconds for each step.

        Raises:
            ClusterError: It was not confirmed, or the cluster refused; or the plan was made on another cluster.
            NotReadyError: Something was still there in the end.
        """
        self._same_cluster()
        if not self.known.whole and not self._confirmed:
            raise ClusterError("nothing was deleted: it was not confirmed", next_step="`plan.confirm(CONFIRM)` first.")
        with unwatched():
            now = self._now(parts)
            # What a component made it makes again as long as it runs.
            first = [i.thing for i in now if i.action == "delete" and not (i.made_by or i.thing.kind == _CRD)]
            inside = {thing.name for thing in first if thing.kind == "Namespace"}
            _delete([thing for thing in first if thing.kind != "Namespace" and thing.namespace not in inside])
            _delete([thing for thing in first if thing.kind == "Namespace"])
            self._wait(first, timeout)
            for late in ("kinds", "made by components"):
                things = [i.thing for i in self._now(parts) if (i.made_by if late != "kinds" else i.thing.kind == _CRD)]
                _delete(things)
                self._wait(things, timeout)
            for item in now:
                if item.action == "labels":
                    _take_back(item.thing)
        for item in self.kept:
            if not parts or item.part in parts:
                display.show(display.message(f"{item.thing} stays: {item.why}", "warning"))

    def _same_cluster(self) -> None:
        """Whether it is shown, confirmed and the reader's alone was said of the cluster it was made on."""
        if current().uid != self.known.cluster:
            raise ClusterError(
                f"nothing was deleted: this plan was made on another cluster than {current()}, which is in use now",
                next_step="Run the cell again that makes the plan.",
            )

    def _now(self, parts: Sequence[str]) -> list[Item]:
        """What of the plan still has to be done. What came after it was shown is not deleted unseen."""
        fresh = self._again() if self._again is not None else self
        shown = {item.thing.uid for item in self.items}
        return [
            item
            for item in fresh.items
            if (not parts or item.part in parts) and (self.known.whole or item.thing.uid in shown or item.made_by)
        ]

    def _wait(self, things: Sequence[Thing], timeout: float) -> None:
        uids = {thing.uid for thing in things}
        # What belongs to them ends a little later.
        while more := {t.uid for t in self.known.things if t.uid not in uids and uids & set(t.owners)}:
            uids |= more
        spaces = {thing.name for thing in things if thing.kind == "Namespace"}
        uids |= {thing.uid for thing in self.known.things if thing.namespace in spaces}

        def left() -> str | None:
            there = [str(thing) for thing in look(settle=False).things if thing.uid in uids]
            return f"{len(there)} still there: {', '.join(there[:3])}" if there else None

        if uids:
            wait_for(Condition(f"{len(things)} objects of the course to be gone", left), timeout=timeout)


def plan(
    read: Callable[[], Ownership],
    part_of: Callable[[Thing], str],
    parts: Sequence[str] = (),
    maker: str = "",
    theirs: Callable[[Ownership], bool] = lambda known: False,
) -> Plan:
    """What clean-up would delete.

    Args:
        read: Looks at the cluster.
        part_of: Which part of the course an object is.
        parts: Only these parts; () for all.
        maker: An object, as `str(thing)` says it, that the course must have made before by-products are its own.
        theirs: Whether somebody else has such a maker by now: then by-products may be theirs, and stay.
    """

    def again() -> Plan:
        known = read()
        items, kept = _sorted_out(known, part_of, maker, theirs)
        if parts:
            items = [item for item in items if item.part in parts]
            kept = [item for item in kept if item.part in parts]
        return Plan(items, kept, known, again)

    return again()


def _sorted_out(
    known: Ownership, part_of: Callable[[Thing], str], maker: str, theirs: Callable[[Ownership], bool]
) -> tuple[list[Item], list[Item]]:
    items: list[Item] = []
    kept: list[Item] = []
    # What was made once may be gone long ago, and others may have come since.
    once = known.record is not None and maker in known.record.made.values()
    running = known.whole or (once and not theirs(known))
    for thing in known.things:
        why, part, product = known.why(thing), part_of(thing), known.byproduct(thing)
        if product is not None and not known.marked(thing):
            if product.removed and running:
                items.append(Item(thing, f"made by {product.by}", part, made_by=product.by))
        elif why and (known.marked(thing) or not thing.owners):
            lost = [] if known.whole else _lost_with(thing, known)
            if lost:
                names = ", ".join(map(str, lost[:3])) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
                kept.append(Item(thing, f"{names}, which the course did not make, would go with it", part, "keep"))
            else:
                items.append(Item(thing, why, part))
        elif thing.labels_before and known.record is not None and thing.run == known.record.run:
            items.append(Item(thing, "was there before; the course set labels", part, "labels"))
    return sorted(items, key=_order), sorted(kept, key=_order)


def _order(item: Item) -> tuple[int, str, str, str]:
    thing = item.thing
    return {"Namespace": 1, _CRD: 2}.get(thing.kind, 0), thing.namespace, thing.kind, thing.name


def _lost_with(thing: Thing, known: Ownership) -> list[Thing]:
    if thing.kind == "Namespace":
        return known.keeping(thing.name)
    return known.of_kind(thing) if thing.kind == _CRD else []


def _delete(things: Sequence[Thing]) -> None:
    """`kubectl delete` in each namespace; does not wait: kubectl's own waiting asks object by object."""
    commands: dict[tuple[str, int], list[str]] = {}
    for (namespace, resource), some in groupby(sorted(things, key=_KIND), key=_KIND):
        for number, thing in enumerate(some):
            commands.setdefault((namespace, number // _AT_ONCE), []).append(f"{resource}/{thing.name}")
    for (namespace, _), names in commands.items():
        kubectl(["delete", *names, *(["-n", namespace] if namespace else []), "--ignore-not-found", "--wait=false"])


def _take_back(thing: Thing) -> None:
    if not (found := get("namespaces", thing.name)):
        return
    labels = found[0]["metadata"].get("labels", {})
    words = [
        f"{key}-" if old is None else f"{key}={old}"
        for key, (old, new) in labels_before(thing.labels_before).items()
        # Who changed it since meant it.
        if labels.get(key) == new
    ]
    if words:
        kubectl(["label", "namespace", thing.name, "--overwrite", *words])
    patch({"annotations": {LABELS_BEFORE: None, RUN: None}}, ("namespaces", "", thing.name))


def _ask(question: str) -> str:
    try:
        return input(question).strip()
    except (EOFError, OSError, RuntimeError):
        # Nobody is there: a headless run, or a kernel whose front end takes no input.
        return ""
