# SPDX-License-Identifier: Apache-2.0
"""Any lesson's start, from wherever one is: what the course brought goes, and what the lessons before bring comes."""

from __future__ import annotations

from labkit import choice, display, istio
from labkit.course import targets
from labkit.course.lesson import Lesson
from labkit.course.progress import ONLY, Progress, lessons
from labkit.course.stages import STAGES, Stage
from labkit.ground.errors import CheckError

__all__ = ["lesson_named", "reset"]


def lesson_named(word: str, release: str) -> str:
    """The lesson that somebody means.

    Args:
        word: Its number, "05", or its name, "05-grafana".
        release: The Istio release that the course runs on.

    Raises:
        CheckError: There is none, or that release does not have what it is about.
    """
    taught = lessons(release)
    number = word.partition("-")[0].zfill(2)
    found = [name for name in taught if name == word or (word.isdecimal() and name.startswith(f"{number}-"))]
    if found:
        return found[0]
    if has := next((known for name, known in ONLY.items() if word == name or name.startswith(f"{number}-")), ()):
        raise CheckError(
            f"lesson {word} is about what Istio {release} does not have yet",
            next_step=f"`--release {has[0]}` goes to it.",
        )
    raise CheckError(f"there is no lesson {word!r}", next_step=f"The lessons: {', '.join(taught)}.")


def stages_before(lesson: str) -> list[Stage]:
    """What the lessons before one have brought, in the order in which it builds up.

    Args:
        lesson: A lesson's name; names begin with their places in the course.
    """
    # After the last lesson all is there: cleaning up needs nothing, and is for something.
    return [stage for stage in STAGES.values() if stage.lesson < lesson]


def reset(to: str, release: str = "", target: str = "", confirm: str = "") -> str:
    """Bring the cluster to a lesson's start: what the course made goes, then comes what the lessons before bring.

    What was reached (ticks, exercises solved) stays, and so does what is not the course's; in a sandbox, which is the
    reader's alone, everything goes that was not there before the course.

    Args:
        to: A lesson's number or name: "05", "05-grafana".
        release: The Istio release; "" for what the course runs on.
        target: "sandbox" or a context of your kubeconfig; "" for what the course runs on.
        confirm: On a cluster of yours, the context's name once more; "" to be asked.

    Returns:
        The lesson's name.

    Raises:
        CheckError: There is no such lesson.
        ClusterError: It was not confirmed, or the cluster refused something; running this again goes on.
        NotReadyError: Something was not ready in time.
        SettingError: There is no such release or context, or the sandbox cannot start.
    """
    said = choice.chosen(release, target)
    lesson = lesson_named(to, said.release)
    targets.choose(said.target, said.release)
    known = istio.release(said.release)
    begun = Lesson(lesson, known, Progress.of_target())
    if not begun.progress.snapshot.exists():
        # What a reset takes away is told from what was there before by it, as in a lesson.
        begun.keep_snapshot(show=False)
    plan = begun.plan()
    if plan.items or plan.kept:
        if not plan.known.whole:
            display.show(plan.rich())
        plan.confirm(confirm)
        plan.remove()
    for stage in stages_before(lesson):
        stage.reach(known)
        display.show(stage.check(known).rich())
    return lesson
