# SPDX-License-Identifier: Apache-2.0
"""The exercises of 08-routing through real Envoys: untouched, two wrong answers, the solution, another right answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from labkit.cluster import cells
from labkit.course.exercise import Played
from labkit.course.lesson import Lesson
from tests.conftest import wait_until
from tests.course.exercising import begun, checked, lesson_in, solutions, solve, told, untouched
from tests.shops import Shop

pytestmark = [pytest.mark.long, pytest.mark.restored]


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_in(shared_shop, "08-routing") as lesson:
        yield lesson


@pytest.fixture
def exercise(lesson: Lesson, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Played]]:
    """An exercise at its start, whatever was tried before."""
    yield lambda name: begun(lesson, name)
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


OTHERS = """
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: reviews, namespace: bookinfo}
spec: {trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1alpha3
kind: Sidecar
metadata: {name: narrow, namespace: bookinfo}
spec: {egress: [{hosts: ["./details.bookinfo.svc.cluster.local"]}]}
"""


def test_rules_are_exactly_the_base_whatever_was_done(
    lesson: Lesson, shared_shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = "gateways.networking.istio.io,virtualservices,destinationrules,sidecars"

    def specs() -> dict[str, object]:
        listed = shared_shop.sandbox.kubectl("get", kinds, "-n", "bookinfo", "-o", "json").stdout
        return {f"{one['kind']} {one['metadata']['name']}": one["spec"] for one in json.loads(listed)["items"]}

    lesson.rules()
    base = specs()
    assert len(base) == 6
    # What an apply of the base over it would leave: fields of another manager, further objects.
    other = ("apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", "-")
    shared_shop.sandbox.kubectl(*other, stdin=OTHERS)
    shared_shop.sandbox.kubectl("delete", "gateways.networking.istio.io", "bookinfo-gateway", "-n", "bookinfo")
    assert specs() != base
    capsys.readouterr()
    lesson.rules()
    said = capsys.readouterr().out
    assert "Removed: Sidecar narrow." in said
    assert "Made anew, as it differed: DestinationRule reviews." in said
    assert specs() == base
    # It was away between two versions of its Gateway.
    wait_until(lambda: shared_shop.status() == 200, what="the way in, which was made anew")
    capsys.readouterr()
    lesson.rules()
    assert "Removed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["jason-sees-red", "beta-by-cookie", "trial-in-vain"])
def test_untouched_is_not_solved(exercise: Callable[[str], Played], name: str) -> None:
    untouched(exercise(name))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_is_told_why(exercise: Callable[[str], Played], case: str) -> None:
    name, answer, seen, step = WRONG[case]
    played = exercise(name)
    cells.yaml("", answer)
    told(played, seen, step)


@pytest.mark.parametrize("case", RIGHT)
def test_another_right_answer_is_right(exercise: Callable[[str], Played], case: str) -> None:
    name, answers = RIGHT[case]
    solve(exercise(name), *answers)


@pytest.mark.parametrize("name", ["jason-sees-red", "beta-by-cookie", "trial-in-vain"])
def test_the_solution_is_right_also_after_a_half_done_attempt(
    exercise: Callable[[str], Played], lesson: Lesson, name: str
) -> None:
    played = exercise(name)
    for attempt in ("", rules(to("v2", JASON, TRIAL), to("v3"))):
        if attempt:
            cells.yaml("", attempt)
        for cell in solutions(lesson.name)[name]:
            first, _, text = cell.partition("\n")
            assert first.startswith("%%yaml")
            cells.yaml(first.removeprefix("%%yaml"), text)
        solve(played)
    checked(played)
    assert name in lesson.progress.exercises["08-routing"]
    assert str(played).startswith("✔")
