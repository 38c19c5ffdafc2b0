# SPDX-License-Identifier: Apache-2.0
"""Readiness while it comes, and a table that stays.

What is shown is plain HTML that takes the place of what was there: a page that is loaded again, a notebook that is
opened later and a kernel that has ended all leave what was seen last. A widget would leave "Loading widget…".
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from labkit import cluster, display
from labkit.cluster import Readiness
from labkit.cluster.following import Following
from labkit.cluster.readiness import KINDS, judge, last_log
from labkit.ground.errors import LabError, NotReadyError

__all__ = ["ReadinessPanel", "ready", "watch"]

_SECOND = 1.0


def _progress(seen: Readiness, begun: float) -> display.Rich:
    """How many are ready so far, as a bar and in words, above the table."""
    good, there = sum(workload.good for workload in seen.workloads), len(seen.workloads)
    words = f"{good} of {there} ready · {time.monotonic() - begun:.0f} s"
    bar = f'<progress max="{max(1, there)}" value="{good}" aria-label="{words}"></progress> {words}'
    table = seen.rich()
    return display.Rich(f'<div class="labkit-readiness">{bar}{table.html}</div>', f"{words}\n{table.text}")


class ReadinessPanel:
    """A live table of a namespace's workloads: which are ready, and the reason for those that are not.

    Args:
        namespace: The namespace.
        seconds: How long it looks, once a second.
    """

    def __init__(self, namespace: str, seconds: float) -> None:
        self.namespace = namespace
        self._begun = time.monotonic()
        self._seconds = seconds
        self._over = threading.Event()
        self._last = _progress(cluster.readiness(namespace), self._begun)
        self._live = display.show(self._last)
        self._thread = threading.Thread(target=self._look, name=f"readiness of {namespace}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more; what was seen last stays."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        said = ""
        try:
            with Following(KINDS, namespace=self.namespace) as following:
                while not said and not self._over.is_set():
                    following.wait(_SECOND)
                    said = self._show(following)
        except LabError as error:
            said = error.message
        end = display.message(
            f"{said or 'stopped'}: this is what was seen last", next_step="Run the cell again to look on."
        )
        self._live.update(self._last + end)

    def _show(self, following: Following) -> str:
        """Show what there is now; returns why there is an end, if there is."""
        if (objects := following.objects()) is not None:
            self._last = _progress(judge(self.namespace, objects, last_log=last_log), self._begun)
        silent = following.silence
        self._live.update(self._last + display.message(silent, "warning") if silent else self._last)
        return f"looked for {self._seconds:g} s" if time.monotonic() - self._begun > self._seconds else ""

    def _ipython_display_(self) -> None:
        """It is shown already."""


def watch(namespace: str, *, seconds: float = 600.0) -> ReadinessPanel:
    """Show live which workloads are ready, while other cells run, until `stop` is called on it or the time is over.

    Args:
        namespace: The namespace.
        seconds: How long.

    Raises:
        ClusterError: The cluster does not answer.
        NoTargetError: None was chosen.
    """
    return ReadinessPanel(namespace, seconds)


def ready(namespace: str, names: Sequence[str] = (), *, timeout: float = 300.0) -> Readiness:
    """Wait until a namespace's workloads are ready, and show live what is ready and why the rest is not.

    What is seen is still there when the notebook is opened again, or was played headless.

    Args:
        namespace: The namespace.
        names: Only these workloads, which must exist; () for all there are.
        timeout: Seconds until giving up.

    Returns:
        What was seen last: all of it ready.

    Raises:
        NotReadyError: The deadline passed, or waiting cannot help (such as for an image that does not exist).
        ClusterError: The cluster does not answer.
        NoTargetError: None was chosen.
    """
    cluster.current()
    line = f"kubectl get {KINDS} -n {namespace} -o json   # then a watch of each"
    live = display.show(display.command(line))
    in_place = display.in_notebook()
    seen: list[Readiness] = []
    begun, outcome = time.monotonic(), "interrupted"

    def look(now: Readiness) -> None:
        seen[:] = [now.only(names)]
        if in_place:
            live.update(display.command(line) + _progress(seen[0], begun))

    try:
        cluster.wait_for(cluster.Ready(namespace, names, look), timeout=timeout)
        outcome = "ready"
    except NotReadyError:
        outcome = "not ready"
        raise
    finally:
        if seen:
            live.update(display.command(line, f"{outcome} after {time.monotonic() - begun:.1f} s") + seen[0].rich())
    return seen[0]
