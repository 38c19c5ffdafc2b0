"""One lesson: it begins on a cluster, with what must be there; it checks what it claims; it ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from labkit import cluster, display, istio
from labkit.course import stages, targets
from labkit.course.checks import Check, Checklist
from labkit.course.progress import LESSONS, Progress
from labkit.errors import CheckError

__all__ = ["Lesson", "begin"]


class Lesson:
    """A lesson being played; made by `begin`.

    Args:
        name: The notebook's name, "02-bookinfo".
        release: The Istio release it plays with.
        progress: What was reached on this cluster.
    """

    def __init__(self, name: str, release: istio.Release, progress: Progress) -> None:
        self.name = name
        self.release = release
        self.progress = progress

    def check(self, name: str, passed: object, *, seen: object = "", next_step: str = "") -> None:
        """Say that something is so, and go on only if it is.

        Args:
            name: The claim, as a sentence.
            passed: Whether it is so (anything Python takes for true or false).
            seen: What was seen.
            next_step: What to do if it is not so.

        Raises:
            CheckError: It is not so.
        """
        step = next_step or "Play the cells above again, from the first one that differs from what it says."
        one = Check(name, bool(passed), str(seen), step)
        display.show(one.rich())
        one.require()
        self.progress.passed(self.name, name)

    def done(self) -> None:
        """End the lesson: remember it, and show how far the course has come."""
        self.progress.finish(self.name)
        display.show(self.progress.rich())

    def keep_snapshot(self) -> cluster.Snapshot:
        """Keep what is on the cluster now, for "nothing is left" at the end; one taken before Istio came stays."""
        now = cluster.snapshot()
        installed = any(e.kind == "CustomResourceDefinition" and "istio.io" in e.name for e in now.entries)
        if self.progress.snapshot.exists() and installed:
            display.show(display.message("Istio is here already: the snapshot taken before it came is kept.", "note"))
        else:
            now.save(self.progress.snapshot)
        return now

    def kept_snapshot(self) -> cluster.Snapshot:
        """The snapshot that 00-kubernetes took.

        Raises:
            ClusterError: There is none.
        """
        return cluster.Snapshot.load(self.progress.snapshot)


def begin(name: str, release: str, target: str = targets.SANDBOX, *, needs: Sequence[str] = ()) -> Lesson:
    """Begin a lesson: choose the cluster, check what must be there, show where the course stands.

    Args:
        name: The notebook's name, "02-bookinfo".
        release: The Istio release, "1.2.2" or "1.30.3", or the folder of an unpacked one.
        target: "sandbox", or a context of your kubeconfig.
        needs: What must be there: names of `labkit.course.stages`.

    Raises:
        CheckError: Something that must be there is not; names the lesson that brings it.
        ClusterError: The cluster does not answer.
        ReleaseError: The release cannot be had.
    """
    if name not in LESSONS:
        raise CheckError(f"there is no lesson {name!r}", next_step=f"The lessons: {', '.join(LESSONS)}.")
    chosen = targets.choose(target, release)
    known = istio.release(release)
    server = re.search(r"Server Version: (\S+)", cluster.kubectl("version"))
    lesson = Lesson(name, known, Progress.of_target())
    display.show(
        display.message(
            f"{name} · {LESSONS[name]}\nIstio {known.version} from {_short(known.path)}, "
            f"Kubernetes {server[1] if server else '?'}, kubeconfig {chosen}",
            "note",
        )
    )
    if needs:
        there = Checklist(stages.STAGES[stage].check(known) for stage in needs)
        display.show(there.rich())
        there.require()
    return lesson


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
