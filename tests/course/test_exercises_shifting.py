# SPDX-License-Identifier: Apache-2.0
"""The exercises of 09-shifting in a mesh: what is wrong is told, what is right passes, also in another way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit.course import Lesson
from tests.course.exercising import lesson_in, solution, solved, wrong
from tests.shops import Shop

# Rules are made anew, with labkit's marks.
pytestmark = [pytest.mark.long, pytest.mark.restored, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_in(shared_shop, "09-shifting") as lesson:
        yield lesson


def rule(body: str) -> str:
    head = "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {name: reviews}\n"
    return f"{head}spec:\n  hosts: [reviews]\n  http:\n{body}"


def shares(*parts: tuple[str, int]) -> str:
    rows = (
        f"    - destination: {{host: reviews, subset: {subset}}}\n      weight: {weight}\n" for subset, weight in parts
    )
    return rule("  - route:\n" + "".join(rows))


def all_to(subset: str, more: str = "") -> str:
    return rule(f"  - route: [{{destination: {{host: reviews, subset: {subset}}}}}]\n{more}")


def test_one_in_five(lesson: Lesson) -> None:
    name = "one-in-five"
    wrong(lesson, name, "all others are from v1: v1: ")
    wrong(lesson, name, "with a fifth, chance gives", shares(("v1", 20), ("v3", 80)))
    wrong(lesson, name, "one page in five is from v3: 0 of 250", shares(("v1", 80), ("v2", 20)))
    wrong(lesson, name, "no reviews: ", shares(("v1", 80), ("v4", 20)))
    solved(lesson, name, shares(("v2", 50), ("v3", 50)), *solution(lesson.name, name))
    solved(lesson, name, shares(("v1", 40), ("v3", 20), ("v1", 40)))


def test_which_is_worse(lesson: Lesson) -> None:
    name = "which-is-worse"
    wrong(lesson, name, "only the better version answers: ")
    wrong(lesson, name, "v2: ", all_to("v2"))
    wrong(lesson, name, "v2: ", shares(("v2", 20), ("v3", 80)))
    wrong(lesson, name, "has no fault any more", all_to("v3"), "delete virtualservice ratings")
    solved(lesson, name, all_to("v1"), *solution(lesson.name, name))
    solved(lesson, name, shares(("v2", 0), ("v3", 100)))


def test_quiet_copies(lesson: Lesson) -> None:
    name = "quiet-copies"
    wrong(lesson, name, "visitors see v1 alone: v1: ")
    wrong(lesson, name, "visitors see v1 alone: ", shares(("v1", 50), ("v3", 50)))
    wrong(lesson, name, "v3 gets a copy of every request: 0 requests", all_to("v1"))
    wrong(lesson, name, "nobody else gets one: 40 requests", all_to("v1", "    mirror: {host: reviews, subset: v2}\n"))
    solved(lesson, name, shares(("v1", 50), ("v3", 50)), *solution(lesson.name, name))
    by_path = "    match: [{uri: {prefix: /reviews}}]\n    mirror: {host: reviews, subset: v3}\n"
    solved(lesson, name, all_to("v1", by_path) + "  - route: [{destination: {host: reviews, subset: v1}}]\n")
