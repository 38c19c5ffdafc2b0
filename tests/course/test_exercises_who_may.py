# SPDX-License-Identifier: Apache-2.0
"""The exercises of 14-who-may through real Envoys: untouched, two wrong answers, the solution, another right answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit.cluster import apply
from labkit.course.lesson import Lesson
from tests.course.exercising import begun, checked, lesson_with_clients, solutions, solve, told, untouched
from tests.shops import Shop

pytestmark = [
    pytest.mark.long,
    pytest.mark.restored,
    # The lesson is about what no other release has.
    pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True, scope="session"),
]

NAME = "14-who-may"
EXERCISES = ["page-again", "read-only", "by-token"]
SA = "cluster.local/ns/bookinfo/sa/bookinfo-"


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_with_clients(shared_shop, NAME) as lesson:
        yield lesson


def policy(name: str, app: str, *rules: str, action: str = "ALLOW") -> str:
    """An AuthorizationPolicy for an application ("": for all) with these rules."""
    selector = f"  selector: {{matchLabels: {{app: {app}}}}}\n" if app else ""
    listed = "".join(f"  - {rule}\n" for rule in rules)
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: bookinfo}}\nspec:\n{selector}  action: {action}\n  rules:\n{listed}---\n"
    )


def by(**source: str) -> str:
    ((key, value),) = source.items()
    return f'from: [{{source: {{{key}: ["{value}"]}}}}]'


WHOLE_NAMESPACE = policy("mine", "", f"{{{by(namespaces='bookinfo')}}}")
WITH_SCHEME = "".join(
    policy(f"mine-{app}", app, f"{{{by(principals=f'spiffe://{SA}{who}')}}}")
    for app, who in (("details", "productpage"), ("reviews", "productpage"), ("ratings", "reviews"))
)
READ = 'to: [{operation: {methods: [GET], paths: ["/ratings/*"]}}]'
GROUP = 'when: [{key: "request.auth.claims[groups]", values: [readers]}]'

WRONG = {
    "a whole namespace": ("page-again", WHOLE_NAMESPACE, "ratings, which calls nobody", "more than who needs it"),
    "principals with a scheme": ("page-again", WITH_SCHEME, "the page is whole: Sorry", "What is missing"),
    "one path": (
        "read-only",
        policy("mine", "ratings", f"{{{by(namespaces='partner')}, {READ.replace('/*', '/0')}}}"),
        "GET /ratings/0: 200, GET /ratings/7: 403",
        "compared whole",
    ),
    "every method": (
        "read-only",
        policy("mine", "ratings", f"{{{by(namespaces='partner')}, {READ.replace('methods: [GET], ', '')}}}"),
        "partner writes none: POST /ratings/0: 400",
        "every one",
    ),
    "two rules in place of one": (
        "by-token",
        policy("mine", "details", f"{{{by(namespaces='partner')}}}", f"{{{GROUP}}}"),
        "without a token partner is refused: none: 200",
        "lets pass who shows none",
    ),
    "any token": (
        "by-token",
        policy("mine", "details", f"{{{by(requestPrincipals='*')}}}"),
        "a token of another group does not let it in: writers: 200",
        "`request.auth.claims[groups]`",
    ),
}


def whom(who: str) -> str:
    return f'when: [{{key: source.principal, values: ["{SA}{who}"]}}]'


RIGHT = {
    "conditions in place of sources": (
        "page-again",
        policy("mine", "details", f"{{{whom('productpage')}}}")
        + policy("mine-reviews", "reviews", f"{{{whom('productpage')}}}")
        + policy("mine-ratings", "ratings", f"{{{whom('reviews')}}}"),
    ),
    "allow all to partner, and deny the rest": (
        "read-only",
        policy("mine", "ratings", f"{{{by(namespaces='partner')}}}")
        + policy(
            "mine-not",
            "ratings",
            f"{{{by(namespaces='partner')}, to: [{{operation: {{notMethods: [GET]}}}}]}}",
            f'{{{by(namespaces="partner")}, to: [{{operation: {{notPaths: ["/ratings/*"]}}}}]}}',
            action="DENY",
        ),
    ),
    "allow partner, and deny who claims nothing": (
        "by-token",
        policy("mine", "details", f"{{{by(namespaces='partner')}}}")
        + policy(
            "mine-not",
            "details",
            f"{{{by(namespaces='partner')}, {GROUP.replace('values', 'notValues')}}}",
            action="DENY",
        ),
    ),
}


@pytest.mark.parametrize("name", EXERCISES)
def test_untouched_is_not_solved(lesson: Lesson, name: str) -> None:
    untouched(begun(lesson, name))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_is_told_why(lesson: Lesson, case: str) -> None:
    name, answer, seen, step = WRONG[case]
    played = begun(lesson, name)
    apply(answer, show=False)
    told(played, seen, step)


@pytest.mark.parametrize("case", RIGHT)
def test_another_right_answer_is_right(lesson: Lesson, case: str) -> None:
    name, answer = RIGHT[case]
    solve(begun(lesson, name), answer)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right_also_after_a_half_done_attempt(lesson: Lesson, name: str) -> None:
    played = begun(lesson, name)
    apply(policy("half-done", "details", f"{{{by(namespaces='nowhere')}}}"), show=False)
    for cell in solutions(NAME)[name]:
        exec(cell, {"apply": apply})
    solve(played)
    checked(played)
    assert name in lesson.progress.exercises[NAME]
