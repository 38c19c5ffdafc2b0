"""What was reached on this cluster: kept beside a sandbox, so that it ends with it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from labkit import cluster, display
from labkit.ground import files

__all__ = ["LESSONS", "Progress"]

LESSONS = {
    "00-kubernetes": "An empty Kubernetes",
    "01-install-istio": "Install Istio",
    "02-bookinfo": "BookInfo in the mesh",
    "03-ingress": "The way in: the ingress gateway",
    "04-prometheus": "Metrics: Prometheus",
    "05-grafana": "Dashboards: Grafana",
    "06-jaeger": "Traces: Jaeger",
    "07-kiali": "The graph of the mesh: Kiali",
    "99-clean-up": "Clean up",
}
"""The course: notebooks in their order, with their titles."""


class Progress:
    """Which checks of which lesson passed on this cluster, and when.

    Args:
        folder: Where it is kept; made when something is first kept.
        cluster: The uid of that cluster's kube-system; "" for any.
    """

    def __init__(self, folder: Path, cluster: str = "") -> None:
        self.folder = folder
        self.cluster = cluster
        try:
            kept = json.loads(files.read(folder / "progress.json"))
            finished, lessons = dict(kept["finished"]), {name: dict(ticks) for name, ticks in kept["lessons"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # A damaged file costs ticks, not a lesson.
            finished, lessons = {}, {}
        # Words only, whatever is in there: they are shown.
        self.finished: dict[str, str] = {str(name): str(when) for name, when in finished.items()}
        self.lessons: dict[str, dict[str, str]] = {
            str(name): {str(check): str(when) for check, when in ticks.items()} for name, ticks in lessons.items()
        }

    @classmethod
    def of_target(cls) -> Progress:
        """The one of the cluster in use.

        Raises:
            NoTargetError: There is none.
        """
        return cls(cluster.course_folder(), cluster.current().uid)

    @property
    def snapshot(self) -> Path:
        """Where the snapshot taken before anything was installed is kept."""
        return cluster.snapshot_file(self.folder)

    def passed(self, lesson: str, check: str) -> None:
        """Remember that a check passed."""
        self.lessons.setdefault(lesson, {})[check] = _now()
        self._save()

    def finish(self, lesson: str) -> None:
        """Remember that a lesson was played to its end."""
        self.finished[lesson] = _now()
        self._save()

    def forget(self) -> None:
        """Forget all but the snapshot: the cluster is empty again."""
        self.lessons, self.finished = {}, {}
        self._save()

    def rich(self, now: str = "") -> display.Rich:
        """As a table to show; `now` is the lesson being played."""
        rows = []
        for name, title in LESSONS.items():
            done, checks = self.finished.get(name, ""), len(self.lessons.get(name, {}))
            mark = display.SYMBOLS["good"] if done else "▶" if name == now else "○"
            when = f"done {done[:16].replace('T', ' ')} UTC" if done else "now" if name == now else ""
            rows.append({"": mark, "Lesson": name, "About": title, "Checks passed": str(checks or ""), "When": when})
        return display.table(rows, ["", "Lesson", "About", "Checks passed", "When"])

    def _save(self) -> None:
        path = self.folder / "progress.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.write(path, json.dumps({"lessons": self.lessons, "finished": self.finished}, indent=1).encode())
        except OSError as error:
            # As a damaged file does, this costs ticks, not a lesson.
            display.show(display.message(f"Your progress cannot be kept: {path}: {error.strerror}.", "warning"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
