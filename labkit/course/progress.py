# SPDX-License-Identifier: Apache-2.0
"""What was reached on this cluster: kept beside a sandbox, so that it ends with it."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from labkit import cluster, display
from labkit.course import telling
from labkit.ground import files

__all__ = ["CLEAN_UP", "LESSONS", "ONLY", "Progress", "Ticks", "lessons"]

LESSONS = {
    "00-kubernetes": "An empty Kubernetes",
    "01-install-istio": "Install Istio",
    "02-bookinfo": "BookInfo in the mesh",
    "03-ingress": "The way in: the ingress gateway",
    "04-prometheus": "Metrics: Prometheus",
    "05-grafana": "Dashboards: Grafana",
    "06-jaeger": "Traces: Jaeger",
    "07-kiali": "The graph of the mesh: Kiali",
    "08-routing": "Routing by request",
    "09-shifting": "Shifting and mirroring",
    "10-resilience": "Faults, timeouts, retries",
    "11-load-balancing": "Load balancing, circuit breaking",
    "12-egress": "The way out",
    "13-identity": "Identity and mutual TLS",
    "14-who-may": "Who may do what",
    "15-gateway-tls": "TLS at the gateway",
    "16-gateway-api": "The Kubernetes Gateway API",
    "17-telemetry": "Telemetry, shaped",
    "18-troubleshooting": "When it does not work",
    "19-exam": "The exam: out it goes, under load",
    "99-clean-up": "Clean up",
}
"""The course: notebooks in their order, with their titles."""

CLEAN_UP = "99-clean-up"
"""The lesson that takes everything away again."""

ONLY = dict.fromkeys(("14-who-may", "15-gateway-tls", "16-gateway-api", "17-telemetry"), ("1.30.3",))
"""Lessons on what not every release has, with the releases that have it."""


def lessons(release: str) -> dict[str, str]:
    """The course on a release of Istio: notebooks in their order, with their titles."""
    return {name: title for name, title in LESSONS.items() if release in ONLY.get(name, (release,))}


@dataclass
class Ticks:
    """What a file of progress says.

    Args:
        of: A name that is new whenever all is forgotten: ticks of another one are of a cluster that was emptied since.
        finished: Lesson → when it was played to its end.
        lessons: Lesson → check → when it passed.
        exercises: Lesson → exercise → when it was solved.
    """

    of: str = ""
    finished: dict[str, str] = field(default_factory=dict)
    lessons: dict[str, dict[str, str]] = field(default_factory=dict)
    exercises: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Ticks | None:
        """Those in a file; None where it is damaged."""
        try:
            kept = json.loads(files.read(path))
            # Words only, whatever is in there: they are shown.
            return cls(
                str(kept.get("of", "")),
                {str(name): str(when) for name, when in dict(kept["finished"]).items()},
                _words(kept["lessons"]),
                # Those who played before there were exercises have none.
                _words(kept.get("exercises", {})),
            )
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def add(self, other: Ticks) -> None:
        """Take over the ticks of another one."""
        self.finished |= other.finished
        for mine, theirs in ((self.lessons, other.lessons), (self.exercises, other.exercises)):
            for lesson, ticks in theirs.items():
                mine[lesson] = mine.get(lesson, {}) | ticks


def _words(ticks: dict[object, dict[object, object]]) -> dict[str, dict[str, str]]:
    return {str(lesson): {str(name): str(when) for name, when in of.items()} for lesson, of in ticks.items()}


class Progress:
    """Which checks of which lesson passed on this cluster, and when.

    Notebooks that are open at the same time share the file: each change is put into what it says by then, and what
    one notebook has forgotten no other brings back.

    Args:
        folder: Where it is kept; made when something is first kept.
        cluster: The uid of that cluster's kube-system; "" for any.
    """

    def __init__(self, folder: Path, cluster: str = "") -> None:
        self.folder = folder
        self.cluster = cluster
        # A damaged file costs ticks, not a lesson.
        self._seen = Ticks.read(self._file) or Ticks()
        # What was reached here: the next change writes it once more, where the file was damaged or the disk full.
        self._own = Ticks(self._seen.of)

    @property
    def finished(self) -> dict[str, str]:
        """Lesson → when it was played to its end."""
        return self._seen.finished

    @property
    def lessons(self) -> dict[str, dict[str, str]]:
        """Lesson → check → when it passed."""
        return self._seen.lessons

    @property
    def exercises(self) -> dict[str, dict[str, str]]:
        """Lesson → exercise → when it was solved."""
        return self._seen.exercises

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
        self._keep(Ticks(lessons={lesson: {check: _now()}}))

    def solved(self, lesson: str, exercise: str) -> None:
        """Remember that an exercise was solved."""
        self._keep(Ticks(exercises={lesson: {exercise: _now()}}))

    def finish(self, lesson: str) -> None:
        """Remember that a lesson was played to its end."""
        self._keep(Ticks(finished={lesson: _now()}))

    def forget(self) -> None:
        """Forget all but the snapshot: the cluster is empty again."""
        self._keep(Ticks(), forgotten=secrets.token_hex(6))

    def rich(self, now: str = "", release: str = "") -> display.Rich:
        """As a table to show; `now` is the lesson being played, `release` the only one to show lessons of."""
        rows = []
        for name, title in (lessons(release) if release else LESSONS).items():
            done, checks = self.finished.get(name, ""), len(self.lessons.get(name, {}))
            mark = display.SYMBOLS["good"] if done else "▶" if name == now else "○"
            when = f"done {done[:16].replace('T', ' ')} UTC" if done else "now" if name == now else ""
            rows.append({"": mark, "Lesson": name, "About": title, "Checks passed": str(checks or ""), "When": when})
        return display.table(rows, ["", "Lesson", "About", "Checks passed", "When"])

    @property
    def _file(self) -> Path:
        return self.folder / "progress.json"

    def _keep(self, new: Ticks, *, forgotten: str = "") -> None:
        try:
            # While no other process changes the file.
            with files.alone(self.folder / "progress.json.lock"):
                self._take(new, Ticks.read(self._file), forgotten)
                files.write(self._file, json.dumps(vars(self._seen), indent=1).encode())
                telling.tell(self.folder, vars(self._seen))
        except OSError as error:
            self._take(new, self._seen, forgotten)
            # As a damaged file does, this costs ticks, not a lesson.
            where = error.filename or self._file
            display.show(display.message(f"Your progress cannot be kept: {where}: {error.strerror}.", "warning"))

    def _take(self, new: Ticks, kept: Ticks | None, forgotten: str) -> None:
        """Put what is new, and what was reached here since all was last forgotten, into what is kept."""
        there = Ticks(forgotten) if forgotten else kept or Ticks(self._own.of)
        if there.of != self._own.of:
            self._own = Ticks(there.of)
        self._own.add(new)
        there.add(self._own)
        self._seen = there


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
