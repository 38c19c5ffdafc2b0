# SPDX-License-Identifier: Apache-2.0
"""The exercises of 08-routing through real Envoys: untouched, two wrong answers, the solution, another right answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from labkit import istio
from labkit.cluster import cells
from labkit.course import Progress
from labkit.course import exercise as engine
from labkit.course.checks import Checklist
from labkit.course.exercise import Played
from labkit.course.lesson import Lesson
from labkit.ground.errors import CheckError
from tests.conftest import REPOSITORY, wait_until
from tests.shops import Shop

pytestmark = [pytest.mark.long, pytest.mark.spoils]


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lesson]:
    release = istio.release(shared_shop.sandbox.release)
    with pytest.MonkeyPatch.context() as patch:
        # A sandbox is known by its place, and all in it is the reader's.
        patch.setenv("LABKIT_HOME", str(shared_shop.sandbox.labkit_home))
        yield Lesson("08-routing", release, Progress(tmp_path_factory.mktemp("course")))


@pytest.fixture
def exercise(lesson: Lesson, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Played]]:
    """An exercise at its start, whatever was tried before."""

    def begin(name: str) -> Played:
        played = lesson.exercise(name)
        played.reset()
        return played

    yield begin
    lesson.rules()


def rules(*http: str) -> str:
    """A VirtualService for reviews with these rules."""
    listed = "".join(f"  - {rule}\n" for rule in http)
    return (
        "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\n"
        f"metadata: {{name: reviews, namespace: bookinfo}}\nspec:\n  hosts: [reviews]\n  http:\n{listed}"
    )


def to(subset: str, *matches: str) -> str:
    """A rule that leads to a subset."""
    match = f"match: [{', '.join(matches)}], " if matches else ""
    return f"{{{match}route: [{{destination: {{host: reviews, subset: {subset}}}}}]}}"


JASON = "{headers: {end-user: {exact: jason}}}"
BETA = "{headers: {cookie: {regex: '(.*; )?beta=yes(;.*)?'}}}"
TRIAL = '{headers: {x-trial: {exact: "yes"}}}'
WITH_TRIAL = """
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: reviews, namespace: bookinfo}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
  - {name: v3-trial, labels: {version: v3}}
"""

WRONG = {
    "no rule for the others": ("jason-sees-red", rules(to("v3", JASON)), "404: 30 of 30", "without `match`"),
    "the rule for all comes first": (
        "jason-sees-red",
        rules(to("v1"), to("v3", JASON)),
        "v1: 30 of 30",
        "from top to bottom",
    ),
    "whoever begins like jason": (
        "jason-sees-red",
        rules(to("v3", JASON.replace("exact", "prefix")), to("v1")),
        "v3: 30 of 30",
        "takes jasonina for jason",
    ),
    "the only cookie": (
        "beta-by-cookie",
        rules(to("v2", '{headers: {cookie: {exact: "beta=yes"}}}'), to("v1")),
        "v1: 30 of 30",
        "One header holds all cookies",
    ),
    "anywhere in the cookies": (
        "beta-by-cookie",
        rules(to("v2", "{headers: {cookie: {regex: '.*beta=yes.*'}}}"), to("v1")),
        "v2: 30 of 30",
        "from its first letter to its last",
    ),
    "only the order is mended": (
        "trial-in-vain",
        rules(to("v3-trial", TRIAL), to("v2")),
        "503: 30 of 30",
        "Is that subset defined?",
    ),
    "only the subset is mended": ("trial-in-vain", WITH_TRIAL, "v2: 30 of 30", "the first that fits"),
}

RIGHT = {
    "a regular expression": (
        "jason-sees-red",
        [rules(to("v3", "{headers: {end-user: {regex: jason}}}"), to("v1"))],
    ),
    "four ways to have the cookie": (
        "beta-by-cookie",
        [
            rules(
                to(
                    "v2",
                    '{headers: {cookie: {exact: "beta=yes"}}}',
                    '{headers: {cookie: {prefix: "beta=yes;"}}}',
                    "{headers: {cookie: {regex: '.*; beta=yes'}}}",
                    "{headers: {cookie: {regex: '.*; beta=yes;.*'}}}",
                ),
                to("v1"),
            )
        ],
    ),
    "the subset is defined": ("trial-in-vain", [WITH_TRIAL, rules(to("v3-trial", TRIAL), to("v2"))]),
}


def failed(seen: Checklist) -> list[str]:
    return [f"{one.seen} → {one.next_step}" for one in seen if not one.passed]


@pytest.mark.parametrize("name", ["jason-sees-red", "beta-by-cookie", "trial-in-vain"])
def test_untouched_is_not_solved(exercise: Callable[[str], Played], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 0.0)
    with pytest.raises(CheckError, match="not so: "):
        exercise(name).check()


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_is_told_why(exercise: Callable[[str], Played], case: str) -> None:
    name, answer, seen, step = WRONG[case]
    played = exercise(name)
    cells.yaml("", answer)

    def told() -> bool:
        return any(seen in one and step in one for one in failed(played.look()))

    wait_until(told, what=f"{seen!r} with {step!r} among what is found")


@pytest.mark.parametrize("case", RIGHT)
def test_another_right_answer_is_right(exercise: Callable[[str], Played], case: str) -> None:
    name, answers = RIGHT[case]
    played = exercise(name)
    for answer in answers:
        cells.yaml("", answer)
    wait_until(lambda: failed(played.look()) == [], what="another right answer to be right")


def solutions() -> dict[str, list[str]]:
    """The cells with solutions, by the exercise that was shown last above them."""
    notebook = json.loads((REPOSITORY / "notebooks" / "08-routing.ipynb").read_text())
    found: dict[str, list[str]] = {}
    name = ""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if "lesson.exercise(" in text:
            name = text.split('lesson.exercise("')[1].split('"')[0]
        if "solution" in cell["metadata"].get("tags", []):
            found.setdefault(name, []).append(text)
    return found


@pytest.mark.parametrize("name", ["jason-sees-red", "beta-by-cookie", "trial-in-vain"])
def test_the_solution_is_right_also_after_a_half_done_attempt(
    exercise: Callable[[str], Played], lesson: Lesson, name: str
) -> None:
    played = exercise(name)
    for attempt in ("", rules(to("v2", JASON, TRIAL), to("v3"))):
        if attempt:
            cells.yaml("", attempt)
        for cell in solutions()[name]:
            first, _, text = cell.partition("\n")
            assert first.startswith("%%yaml")
            cells.yaml(first.removeprefix("%%yaml"), text)
        wait_until(lambda: failed(played.look()) == [], what="the solution to be right")
    played.check()
    assert name in lesson.progress.exercises["08-routing"]
    assert str(played).startswith("✔")
