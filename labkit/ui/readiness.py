"""Readiness while it comes: a widget that lives as long as there is something to see, and a table that stays."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Sequence
from typing import Any

from labkit import cluster, display
from labkit.cluster import Readiness
from labkit.cluster.following import Following
from labkit.cluster.readiness import KINDS, judge, last_log
from labkit.ground.errors import LabError, NotReadyError

__all__ = ["ReadinessPanel", "ready", "watch"]


class ReadinessPanel:
    """A live table of a namespace's workloads: which are ready, and the reason for those that are not.

    Args:
        namespace: The namespace.
    """

    def __init__(self, namespace: str) -> None:
        import ipywidgets

        self.namespace = namespace
        self.seen: Readiness | None = None
        self._begun = time.monotonic()
        self._bar = ipywidgets.IntProgress(layout=ipywidgets.Layout(width="18em"))
        self._note = ipywidgets.HTML()
        self._table = ipywidgets.HTML()
        self._live = ipywidgets.ToggleButton(
            value=False, description="Keep looking", icon="refresh", tooltip="as it comes"
        )
        self._live.observe(self._toggled, "value")
        self._wake = threading.Event()
        self.widget: Any = ipywidgets.VBox(
            [ipywidgets.HBox([self._bar, self._note, self._live]), self._table], _dom_classes=("labkit-readiness",)
        )

    def draw(self, seen: Readiness) -> None:
        """Show `seen`."""
        self.seen = seen
        good = sum(w.good for w in seen.workloads)
        self._bar.max, self._bar.value = max(1, len(seen.workloads)), good
        self._bar.bar_style = "success" if seen.ready else "danger" if seen.hopeless else "info"
        self._note.value = f"{good} of {len(seen.workloads)} ready · {time.monotonic() - self._begun:.0f} s"
        self._table.value = seen.rich().html

    def follow(self, on: bool = True) -> None:
        """Keep looking, or stop."""
        self._live.value = on

    def close(self) -> None:
        """Take the widget away."""
        self._wake.set()
        for widget in (self._bar, self._note, self._live, self._table, self.widget):
            widget.close()

    def _toggled(self, change: Any) -> None:
        if change["new"]:
            self._wake.clear()
            threading.Thread(target=self._look, name=f"readiness of {self.namespace}", daemon=True).start()
        else:
            self._wake.set()

    def _look(self) -> None:
        while not self._wake.is_set():
            try:
                with Following(KINDS, namespace=self.namespace) as following:
                    self._show(following)
            except LabError as error:
                self._complain(error.message)
            self._wake.wait(1.0)

    def _show(self, following: Following) -> None:
        while not self._wake.is_set():
            following.wait(1.0)
            if (objects := following.objects()) is not None:
                self.draw(judge(self.namespace, objects, last_log=last_log))
            if following.silence:
                self._complain(following.silence)

    def _complain(self, words: str) -> None:
        self._note.value = f'<span style="color:var(--jp-error-color1,#d32f2f)">{html.escape(words)}</span>'

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        # HTML and text beside the view: where no widget can live, the table is still there.
        seen = self.seen or cluster.readiness(self.namespace)
        bundle: dict[str, Any] = dict(self.widget._repr_mimebundle_())
        return bundle | seen.rich()._repr_mimebundle_()


def watch(namespace: str) -> ReadinessPanel:
    """A live readiness widget, until its button is pressed or the kernel ends.

    Args:
        namespace: The namespace.

    Raises:
        ClusterError: The cluster does not answer.
    """
    panel = ReadinessPanel(namespace)
    panel.draw(cluster.readiness(namespace))
    panel.follow()
    return panel


def ready(namespace: str, names: Sequence[str] = (), *, timeout: float = 300.0) -> Readiness:
    """Wait until a namespace's workloads are ready, and show live what is ready and why the rest is not.

    When it is over, a plain table takes the widget's place: it is still there when the notebook is opened again,
    or was played headless.

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
    panel = ReadinessPanel(namespace) if display.in_notebook() else None
    if panel is not None:
        live.update(panel.widget)
    seen: list[Readiness] = []

    def look(now: Readiness) -> None:
        seen[:] = [now.only(names)]
        if panel is not None:
            panel.draw(seen[0])

    begun, outcome = time.monotonic(), "interrupted"
    try:
        cluster.wait_for(cluster.Ready(namespace, names, look), timeout=timeout)
        outcome = "ready"
    except NotReadyError:
        outcome = "not ready"
        raise
    finally:
        if seen:
            live.update(display.command(line, f"{outcome} after {time.monotonic() - begun:.1f} s") + seen[0].rich())
        if panel is not None:
            panel.close()
    return seen[0]
