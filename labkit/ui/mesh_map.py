# SPDX-License-Identifier: Apache-2.0
"""The map of the mesh beside the notebook: services and workloads, what flows between them, and which rules bear on it.

It looks again every two seconds, in a thread, so also while a cell runs. Nothing is asked while nobody looks: the
Jupyter server knows whether a page is connected to this kernel, and where no server has started it (papermill), there
is one still picture.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from labkit import cluster, display
from labkit.cluster.target import ends_with_lesson, ends_with_target
from labkit.ground.errors import ClusterError, LabError, NoTargetError
from labkit.ground.labels import selects
from labkit.istio.bearing import KINDS, ROOT_KINDS, Bearing, Workloads, bearing
from labkit.istio.releases import NAMESPACE
from labkit.observe.flows import Call, calls, frame
from labkit.observe.mesh_picture import Box, Row, draw
from labkit.observe.prometheus import Prometheus
from labkit.ui.embedding import address_of, somebody_looks

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MeshMap", "mesh"]

_EVERY = 2.0
_WORKLOADS = "deployments.apps,statefulsets.apps,daemonsets.apps"


class MeshMap(display.Shown):
    """The map of a namespace; made by `mesh`.

    Args:
        namespace: The namespace.
        window: Over which rates are taken.
        seconds: How long it looks.
    """

    def __init__(self, namespace: str, window: str, seconds: float) -> None:
        self.namespace, self.window = namespace, window
        self._begun, self._seconds = time.monotonic(), seconds
        self._over, self._why = threading.Event(), ""
        self._known: set[tuple[str, str]] = set()
        self._boxes: list[Box] = []
        self._calls: list[Call] = []
        self._rules: list[Bearing] = []
        self._note = ""
        self._kinds = _served(KINDS), _served(ROOT_KINDS)
        live = somebody_looks()
        self._look()
        self._live = display.show(self.rich(moving=live))
        if not live:
            return
        ends_with_target(self)
        ends_with_lesson(self)
        threading.Thread(target=self._go_on, name=f"map of {namespace}", daemon=True).start()

    @property
    def edges(self) -> pd.DataFrame:
        """What was seen last of the traffic, a row a call: `caller`, `caller_namespace`, `service`, `workload`,
        `protocol` (str; "unknown" who has no sidecar), `rate` (float64, requests a second, of "tcp" bytes),
        `error_percent` (float64), `mutual_tls` (boolean, <NA> if unknown).
        """  # fmt: skip
        return frame(self._calls)

    @property
    def rules(self) -> pd.DataFrame:
        """What was seen last of the rules, a row a rule and a thing that it bears on: `kind`, `name`, `namespace`,
        `service`, `workload`, `callers` (str; both "" where it is the whole namespace).
        """  # fmt: skip
        import pandas as pd

        columns = ["kind", "name", "namespace", "service", "workload", "callers"]
        rows = [(r.kind, r.name, r.namespace, r.service, r.workload, ", ".join(r.callers)) for r in self._rules]
        return pd.DataFrame(rows, columns=columns, dtype="object")

    def stop(self) -> None:
        """Look no more; what was seen last stays."""
        self._over.set()

    end = stop

    def rich(self, *, moving: bool = False) -> display.Rich:
        """The map as it was seen last."""
        return draw(self._boxes, self._calls, self._known, self._sentence(), moving=moving)

    def _ipython_display_(self) -> None:
        """It is shown already."""

    def _go_on(self) -> None:
        while not self._over.wait(_EVERY) and time.monotonic() - self._begun < self._seconds:
            try:
                if not somebody_looks():
                    continue
                self._look()
                self._live.update(self.rich(moving=True))
            except NoTargetError:
                break
            except LabError as error:
                # It may come back.
                self._live.update(self.rich() + display.message(error.message, "warning"))
        end = display.message("This is what was seen last.", next_step="Run the cell again to look on.")
        self._live.update(self.rich() + end)

    def _look(self) -> None:
        """See what there is now."""
        here, root = self._kinds
        objects = cluster.get(",".join((f"services,{_WORKLOADS}", *here)), namespace=self.namespace)
        others = cluster.get(",".join(("deployments.apps", *root)), namespace=NAMESPACE)
        self._calls, self._note = [], ""
        try:
            self._calls = calls(Prometheus(address_of("prometheus", show=False)), self.namespace, self.window)
        except NoTargetError:
            raise
        except ClusterError as error:
            self._note = f"Without traffic, as Prometheus cannot be asked: {error.message}"
        self._arrange(objects, [one for one in others if self.namespace != NAMESPACE])

    def _arrange(self, objects: list[cluster.Obj], others: list[cluster.Obj]) -> None:
        labels = {one["metadata"]["name"]: _pod_labels(one) for one in objects if "template" in one.get("spec", {})}
        gateways = {one["metadata"]["name"]: _pod_labels(one) for one in others if one["kind"] == "Deployment"}
        services = {
            one["metadata"]["name"]: one["spec"].get("selector") or {} for one in objects if one["kind"] == "Service"
        }
        rules = [one for one in (*objects, *others) if "istio.io" in one["apiVersion"] or one["kind"] == "HTTPRoute"]
        there = Workloads(self.namespace, tuple(services), labels, {**gateways, **labels})
        self._rules = bearing(rules, there)
        boxes = [
            self._box(name, [w for w, have in labels.items() if chosen and selects(chosen, have)])
            for name, chosen in sorted(services.items())
        ]
        shown = {row.workload for box in boxes for row in box.rows}
        boxes += [self._box(name, [name]) for name in sorted(labels) if name not in shown]
        names = {box.name for box in boxes} | set(labels)
        doors = [name for rule in self._rules for name in (rule.workload, *rule.callers) if name in gateways]
        away = dict.fromkeys([*doors, *(one.caller for one in self._calls), *(one.service for one in self._calls)])
        boxes += [self._box(name, [name], here=False) for name in away if name not in names]
        self._boxes = boxes

    def _box(self, name: str, workloads: list[str], *, here: bool = True) -> Box:
        told = [*workloads, *(one.workload for one in self._calls if one.service == name)]
        rules = (str(rule) for rule in self._rules if rule.service == name and not rule.callers)
        rows = tuple(Row(workload, tuple(dict.fromkeys(self._on(workload)))) for workload in dict.fromkeys(told))
        return Box(name, rows, tuple(dict.fromkeys(rules)), here)

    def _on(self, workload: str) -> Iterable[str]:
        for rule in self._rules:
            if rule.workload == workload:
                yield str(rule)
            if workload in rule.callers:
                yield f"{rule} → {rule.service}"

    def _sentence(self) -> str:
        now = f"{datetime.now(UTC):%H:%M:%S} UTC"
        whole = [str(rule) for rule in dict.fromkeys(self._rules) if rule.whole]
        rules = f"\nFor all of namespace {self.namespace}: {', '.join(whole)}." if whole else ""
        if not self._calls:
            silent = f"Nobody has asked anything within {self.window}: `bookinfo.traffic(ingress.url)` does, from here."
            return f"{now}. {self._note or silent}{rules}"
        asked = [one for one in self._calls if one.protocol == "http"]
        rate, wrong = sum(one.rate for one in asked), sum(one.rate * one.errors for one in asked)
        told = [one for one in self._calls if one.mutual_tls is not None]
        secured = sum(bool(one.mutual_tls) for one in told)
        words = f"{now}, over {self.window}: {rate:.1f} requests a second between workloads"
        words += f", {100 * wrong / rate:.1f} % of them errors" if wrong else ", none of them an error"
        return f"{words}; mutual TLS on {secured} of {len(told)} ways.{rules}"


def mesh(namespace: str = "bookinfo", *, window: str = "1m", seconds: float = 900.0) -> MeshMap:
    """Show the mesh as it works: who calls whom, how much, how well, how secured, and by which rules.

    The picture changes while other cells run and while none does, until `stop()` is called on it, the time is over,
    another map is shown or another lesson begins. Where nobody looks it stays as it is, and costs nothing but one
    question to the Jupyter server every two seconds.

    Args:
        namespace: The namespace.
        window: Over which rates are taken, as Prometheus writes it; it has to hold two scrapes.
        seconds: How long it looks.

    Returns:
        The map: `edges` and `rules` are tables of what was seen last.

    Raises:
        ClusterError: The cluster does not answer.
        NoTargetError: None was chosen.
    """
    global _shown
    if _shown is not None:
        _shown.stop()
    _shown = made = MeshMap(namespace, window, seconds)
    return made


_shown: MeshMap | None = None


def _served(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Those that this cluster serves: each release has its own."""
    there = {one.name for one in cluster.served()}
    return tuple(kind for kind in kinds if kind in there)


def _pod_labels(workload: cluster.Obj) -> dict[str, str]:
    return workload["spec"]["template"]["metadata"].get("labels") or {}
