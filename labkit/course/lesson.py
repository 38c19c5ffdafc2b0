# SPDX-License-Identifier: Apache-2.0
"""One lesson: it begins on a cluster, with what must be there; it checks what it claims; it ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit import choice, clicks, cluster, display, istio, kernel
from labkit.choice import Choice
from labkit.cluster.target import Chosen, choosing, end_lesson
from labkit.course import rules, stages, targets
from labkit.course.checks import Check, Checklist
from labkit.course.exercise import Played, only
from labkit.course.prediction import Prediction
from labkit.course.progress import LESSONS, ONLY, Progress
from labkit.ground import files, language
from labkit.ground.errors import CheckError, LabError

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
        self._played: Played | None = None
        self._predictions: dict[str, Prediction] = {}

    def check(self, name: str, passed: object, *, seen: object = "", next_step: str = "") -> None:
        """Say that something is so, and go on only if it is.

        Args:
            name: The claim, as a sentence.
            passed: Whether it is so (anything Python takes for true or false).
            seen: What was seen; a mapping is shown as "key: value, …".
            next_step: What to do if it is not so.

        Raises:
            CheckError: It is not so.
        """
        step = next_step or "Play the cells above again, from the first one that differs from what it says."
        counts = ", ".join(f"{key}: {value}" for key, value in seen.items()) if isinstance(seen, Mapping) else str(seen)
        one = Check(name, bool(passed), counts, step)
        display.show(one.rich())
        one.require()
        self.progress.passed(self.name, name)

    def rules(self, *more: str) -> None:
        """Have the course's base rules in namespace bookinfo, and no others of Istio's: what was made there goes.

        The base is the Gateway and the VirtualService "bookinfo", and the DestinationRules with a subset a version.

        Args:
            more: Further manifests to begin with: paths below the release's folder, or YAML.

        Raises:
            CheckError: A manifest cannot be read.
            ClusterError: The cluster refused something, or the rules there are somebody else's.
        """
        # Whatever exercise was being played, its state is gone.
        self._played = None
        display.show(rules.restore(self.release, more))

    def predict(self, question: str, options: Sequence[str]) -> Prediction:
        """Ask what will happen, before it is tried.

        Args:
            question: The question; what was said to it before in this lesson still counts.
            options: Two to eight answers.
        """
        made = Prediction(question, options)
        before = self._predictions.get(made.name)
        if before is not None and before.options == made.options and not before.settled:
            made.chosen = before.chosen
        self._predictions[made.name] = made
        clicks.offer(made.name, made)
        display.show(made.rich())
        return made

    def exercise(self, name: str) -> Played:
        """Show an exercise. Its start is brought, unless it is the one that is being played: then what was tried stays.

        One that goes on from the exercise before it leaves as it is what was made there.

        Args:
            name: One of the lesson's exercises, in `labkit.course.exercises`.

        Raises:
            CheckError: The lesson has no such exercise.
            ClusterError: The cluster refused something.
        """
        if self._played is None or self._played.exercise.name != name:
            played = Played(only(self.name, name), self)
            if played.offered and (self._played is None or played.exercise.brings is None):
                self.start(played)
            elif played.offered:
                for more in played.exercise.brings or ():
                    cluster.apply(more, namespace=rules.NAMESPACE, show=False)
            self._played = played
            clicks.offer(name, played)
        display.show(self._played.rich())
        return self._played

    def start(self, played: Played) -> None:
        """Bring what an exercise begins with; from then on it is the one that is being played.

        Raises:
            ClusterError: The cluster refused something.
        """
        self.rules(*played.exercise.begins(self.release.version))
        self._played = played

    def done(self) -> None:
        """End the lesson: remember it, and show how far the course has come."""
        self.progress.finish(self.name)
        display.show(self.progress.rich(release=self.release.version))
        if seconds := kernel.mark_finished(True):
            text = f"Once nothing has run here for {seconds / 60:g} minutes this notebook's kernel ends, with its "
            text += "port-forwards: its memory is free then, and all that is shown stays."
            display.show(
                display.message(
                    text, "note", next_step="To go on after that: Kernel ▸ Restart Kernel and Run All Cells."
                )
            )

    def keep_snapshot(self, *, show: bool = True) -> cluster.Snapshot:
        """Keep what is on the cluster now, for "nothing is left" at the end; one taken before Istio came stays.

        Args:
            show: Whether to show the command, and which snapshot counts.
        """
        now = cluster.snapshot(show=show)
        installed = any(e.kind == "CustomResourceDefinition" and "istio.io" in e.name for e in now.entries)
        if not installed:
            now.save(self.progress.snapshot)
        elif show:
            kept = "the snapshot taken before it came counts" if self.progress.snapshot.exists() else "none is kept"
            display.show(display.message(f"Istio is here already: {kept}.", "note"))
        return now

    def kept_snapshot(self) -> cluster.Snapshot:
        """The snapshot that 00-kubernetes took.

        Raises:
            ClusterError: There is none.
        """
        return cluster.Snapshot.load(self.progress.snapshot, self.progress.cluster)

    def plan(self, *parts: str) -> cluster.Plan:
        """What clean-up would delete here, and why that is the course's: a table to show.

        Args:
            parts: Only these: "rules", "applications", "istio"; none for all.
        """
        return istio.plan(self.release, *parts)

    def left(self) -> cluster.Difference:
        """What the course has left behind, compared with its snapshot.

        On a cluster that others use too, only what is the course's counts: what they made and removed meanwhile is not
        its affair, and what it had to leave to them was told.
        """
        changed = cluster.snapshot(show=False).difference(self.kept_snapshot())
        plan = self.plan()
        if plan.known.whole:
            return changed
        mine = {item.thing.key for item in plan.items}
        return cluster.Difference(tuple(e for e in changed.added if (e.kind, e.namespace, e.name) in mine), ())


def begin(name: str, release: str = "", target: str = "", *, needs: Sequence[str] = ()) -> Lesson:
    """Begin a lesson: choose the cluster, go to the release's folder, check what must be there.

    Where no cluster can be chosen none is in use afterwards, not even one that another lesson had begun on here.

    Args:
        name: The notebook's name, "02-bookinfo".
        release: The Istio release, "1.2.2" or "1.30.3"; "" for what the course runs on (`course.choose`).
        target: "sandbox", or a context of your kubeconfig; "" for what the course runs on.
        needs: What must be there: names of `labkit.course.stages`.

    Raises:
        CheckError: Something that must be there is not; names the lesson that brings it.
        SettingError: There is no such target, or the sandbox cannot start.
        ClusterError: The cluster does not answer.
        ReleaseError: The release cannot be had.
    """
    end_lesson()
    with choosing():
        if name not in LESSONS:
            raise CheckError(f"there is no lesson {name!r}", next_step=f"The lessons: {', '.join(LESSONS)}.")
        display.figures_without_internet()
        kernel.prepare()
        clicks.forget()
        if (asked := language.told()) and asked not in language.LANGUAGES:
            text = f"LABKIT_LANG asks for the language {asked!r}, which the course is not in: it goes on in English."
            display.show(display.message(text, "warning"))
        said = choice.chosen(release, target)
        if said.note and not (release and target):
            display.show(display.message(said.note, "warning"))
        if said.release not in ONLY.get(name, (said.release,)):
            has = ", ".join(ONLY[name])
            raise CheckError(
                f"{name} is about what Istio {said.release} does not have, as it was installed then",
                next_step=f'`RELEASE = "{ONLY[name][0]}"` plays it on {has}; most other lessons are for both.',
            )
        chosen = _go_to(said, told=bool(target))
        known = istio.release(said.release)
    server = cluster.server_version()
    lesson = Lesson(name, known, Progress.of_target())
    cluster.in_lesson(name)
    if context := cluster.current().named.context:
        _name(lesson.progress, context)
    if not lesson.progress.snapshot.exists():
        lesson.keep_snapshot(show=False)
    os.chdir(known.path)
    display.show(
        display.style()
        + display.message(
            f"{name} · {LESSONS[name]}\n"
            f"Kubernetes {server}, kubeconfig {_short(str(chosen))}\n"
            f"Istio {known.version}; paths below start in {_short(str(known.path))}",
            "note",
        )
    )
    if needs:
        display.show(Checklist(stages.STAGES[stage].check(known) for stage in needs).require().rich())
    return lesson


def _go_to(said: Choice, *, told: bool) -> Chosen:
    try:
        return targets.choose(said.target, said.release)
    except LabError as error:
        if told or said.target == targets.SANDBOX:
            raise
        # The notebook names none: without this the reader would look for a word that is nowhere in it.
        raise type(error)(
            f"the context {said.target!r} was chosen for the course, and cannot be had: {error.message}",
            next_step=f'{error.next_step} `course.choose(target="sandbox")` leads all notebooks to the sandbox.',
        ) from None


def _name(progress: Progress, context: str) -> None:
    """Write down by which context this cluster was reached: the start page, which asks no cluster, finds it so."""
    with contextlib.suppress(OSError):
        progress.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.write(progress.folder / "context", context.encode(), lasting=False)


def _short(path: str) -> str:
    return path.replace(f"{Path.home()}/", "~/")
