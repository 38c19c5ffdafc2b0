# SPDX-License-Identifier: Apache-2.0
"""The exam of 19-exam through real Envoys: its tasks, what is counted meanwhile, and a promise that is broken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import cluster, istio
from labkit.cluster import apply
from labkit.course import Lesson
from labkit.course.exercises import certificate, slo
from labkit.course.exercises.exam import begin
from labkit.ground.errors import CheckError
from tests.conftest import wait_until
from tests.course.exercising import begun, checked, lesson_in, solutions, solve, told, untouched
from tests.shops import Shop

# Rules are made anew, with labkit's marks.
pytestmark = [pytest.mark.long, pytest.mark.restored, pytest.mark.timeout(1200)]

NAME = "19-exam"
RATE = 60
"""Pages a second, as in the lesson: what is judged waits for so and so many of them."""
EXERCISES = ["canary", "back", "harden", "everybody", "lock-down"]


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_in(shared_shop, NAME) as lesson:
        yield lesson
        lesson.rules()
        cluster.kubectl("delete deployment reviews-broken -n bookinfo --ignore-not-found", show=False)


@pytest.fixture(scope="module")
def exam(lesson: Lesson) -> Iterator[slo.Exam]:
    """Visitors, for all of the tasks."""
    exam = begin(lesson, RATE)
    yield exam
    exam.traffic.stop()


def rule(body: str, kind: str = "VirtualService", spec: str = "hosts: [reviews]\n  http:") -> str:
    head = f"apiVersion: networking.istio.io/v1alpha3\nkind: {kind}\nmetadata: {{name: reviews, namespace: bookinfo}}\n"
    return f"{head}spec:\n  {spec}\n{body}---\n"


def shares(*parts: tuple[str, int], more: str = "") -> str:
    rows = (f"    - {{destination: {{host: reviews, subset: {to}}}, weight: {weight}}}\n" for to, weight in parts)
    return rule("  - route:\n" + "".join(rows) + more)


def outliers(release: str, more: str, where: str = "trafficPolicy") -> str:
    """The subsets of reviews, and who of them is left out: of all, or of one alone."""
    field = {"1.2.2": "consecutiveErrors", "1.30.3": "consecutive5xxErrors"}[release]
    policy = f"trafficPolicy: {{outlierDetection: {{{field}: 2, interval: 1s, baseEjectionTime: 5m{more}}}}}"
    named = [f"  - {{name: {one}, labels: {{version: {one}}}}}\n" for one in ("v1", "v2", "v3")]
    if where == "v2":
        named[1] = f"  - {{name: v2, labels: {{version: v2}}, {policy}}}\n"
        policy = "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}"
    return rule("".join(named), "DestinationRule", f"host: reviews\n  {policy}\n  subsets:")


def bring_the_broken_pod() -> None:
    cluster.kubectl("scale deployment reviews-broken -n bookinfo --replicas=1", show=False)
    cluster.kubectl("rollout status deployment reviews-broken -n bookinfo --timeout=240s", show=False)


def access(body: str, name: str = "mine", selector: str = "{app: reviews}") -> str:
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: bookinfo}}\nspec:\n  selector: {{matchLabels: {selector}}}\n{body}---\n"
    )


def policy(target: str) -> str:
    return (
        "apiVersion: authentication.istio.io/v1alpha1\nkind: Policy\n"
        f"metadata: {{name: {target}, namespace: bookinfo}}\nspec:\n"
        + ("" if target == "default" else f"  targets: [{{name: {target}}}]\n")
        + "  peers: [{mtls: {}}]\n---\n"
    )


RETRIES = "    retries: {attempts: 2, retryOn: gateway-error}\n"
PAGES = 'principals: ["cluster.local/ns/bookinfo/sa/bookinfo-productpage"]'
GONE = "delete virtualservice ratings"
ALL_MUTUAL = "samples/bookinfo/networking/destination-rule-all-mtls.yaml"

WRONG: dict[str, tuple[str, str, str, str]] = {
    "half of them": ("canary", shares(("v2", 50), ("v3", 50)), "with a fifth, chance gives 10 to 78", "weights"),
    "the wrong rest": ("canary", shares(("v1", 80), ("v3", 20)), "all others stay with v2: v", "Two subsets"),
    "the fault mended": ("canary", GONE, "the VirtualService ratings has no delay any more", "not yours to mend"),
    "a few are left": ("back", shares(("v2", 90), ("v3", 10)), "all of them see v2: v2: ", "uses up the budget"),
    "further back": ("back", shares(("v1", 100)), "all of them see v2: v1: 80", "uses up the budget"),
    "not all": ("everybody", shares(("v2", 30), ("v3", 70)), "all of them see v3: v2: ", "all of the weight"),
    "a subset too many": ("everybody", shares(("v4", 100)), "every visitor gets the whole page: 0 of 80", "reset"),
}


def write(answer: str) -> None:
    if answer.startswith("delete "):
        cluster.kubectl(f"{answer} -n bookinfo", show=False)
    else:
        apply(answer, namespace="bookinfo", show=False)


@pytest.mark.parametrize("name", EXERCISES)
def test_untouched_is_not_solved(lesson: Lesson, exam: slo.Exam, name: str) -> None:
    untouched(begun(lesson, name))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_is_told_why(lesson: Lesson, exam: slo.Exam, case: str) -> None:
    name, answer, seen, step = WRONG[case]
    played = begun(lesson, name)
    write(answer)
    told(played, seen, step)


def test_a_pod_that_fails_and_what_does_not_help(lesson: Lesson, exam: slo.Exam) -> None:
    played = begun(lesson, "harden")
    told(played, "the broken pod is among the endpoints of reviews: ", "scales reviews-broken to one replica")
    bring_the_broken_pod()
    told(played, "tries went to it", "how many of two may be?")
    if lesson.release.version != "1.2.2":
        # In 1.2.2 each 503 is tried again by itself.
        told(played, "every visitor gets the whole page: ", "tells who fails")
        write(outliers(lesson.release.version, ""))
        told(played, "tries went to it", "how many of two may be?")
    write(shares(("v2", 100), more="    retries: {attempts: 3, retryOn: 5xx}\n"))
    # Retries alone hide it: one claim is so, the other is not.
    wait_until(
        lambda: {one.name for one in played.look() if not one.passed} == {"the broken pod is asked no more"},
        what="retries to hide the errors",
    )
    write(shares(("v1", 100)))
    told(played, "all of them see v2: v1: ", "nobody is to be sent elsewhere")


def test_who_may_call_and_what_is_too_little_or_too_much(lesson: Lesson, exam: slo.Exam) -> None:
    played = begun(lesson, "lock-down")
    if lesson.release.version == "1.2.2":
        write((lesson.release.path / ALL_MUTUAL).read_text())
        told(played, "who shows no certificate gets nothing from reviews: 200: 20", "All versions of reviews")
        lesson.start(played)
        write(policy("reviews"))
        told(played, "every visitor gets the whole page: 0 of 80", "tells who fails")
        return
    write(access(f"  rules: [{{from: [{{source: {{{PAGES}}}}}]}}]\n", selector="{app: reviews, version: v3}"))
    told(played, "who shows no certificate gets nothing from reviews: 200: ", "All versions of reviews")
    write(access("  rules: [{from: [{source: {namespaces: [bookinfo]}}]}]\n"))
    told(played, "ratings, which has one and no reason to ask, gets nothing from reviews: 200: 20", "All versions")
    write(access("  rules: []\n"))
    told(played, "every visitor gets the whole page: 0 of 80", "tells who fails")


def test_another_right_answer_is_right(lesson: Lesson, exam: slo.Exam) -> None:
    release = lesson.release.version
    solve(begun(lesson, "canary"), shares(("v2", 40), ("v3", 20), ("v2", 40)))
    solve(begun(lesson, "back"), shares(("v3", 0), ("v2", 100)))
    played = begun(lesson, "harden")
    write(outliers(release, ", maxEjectionPercent: 100", "v2") + shares(("v2", 100), more=RETRIES))
    bring_the_broken_pod()
    solve(played)
    to_v3 = "    route: [{destination: {host: reviews, subset: v3}}]\n"
    solve(begun(lesson, "everybody"), rule("  - match: [{uri: {prefix: /reviews}}]\n" + to_v3))
    played = begun(lesson, "lock-down")
    if release == "1.2.2":
        write((lesson.release.path / ALL_MUTUAL).read_text())
        solve(played, policy("default"))
    else:
        others = PAGES.replace("principals", "notPrincipals")
        solve(played, access(f"  action: DENY\n  rules: [{{from: [{{source: {{{others}}}}}]}}]\n"))


def test_the_solutions_one_after_the_other_keep_the_promise(lesson: Lesson) -> None:
    """As the lesson is played: each task goes on from what was made before it, and what is counted is what was sent."""
    exam = begin(lesson, RATE)
    cells = solutions(NAME)
    assert list(cells) == EXERCISES
    names = {"apply": apply, "istio": istio, "release": lesson.release}
    for name in EXERCISES:
        played = lesson.exercise(name)
        for cell in cells[name]:
            if cell.startswith("%%yaml"):
                write(cell.partition("\n")[2])
            else:
                exec(cell, names)
        if name == "harden":
            bring_the_broken_pod()
        solve(played)
        checked(played)
        if name == "harden":
            assert istio.endpoints("productpage-v1", "reviews")["ejected"].any()
    (rules,) = cluster.get("destinationrules.networking.istio.io", "reviews", namespace="bookinfo")
    # The 1.2.2 answer to the last task writes it once more.
    kept = "tls" if lesson.release.version == "1.2.2" else "outlierDetection"
    assert list(rules["spec"]["trafficPolicy"]) == [kept], "what was written for one task is there in the next ones"

    result = exam.end()
    assert not exam.traffic.running
    assert [solved for _, solved in result.tasks] == [True] * 5
    assert [one.objective.name for one in result.spent] == ["failed", "late"]
    seen = exam.traffic.seen
    # One call a page, and a second one where that failed; eight were under way when the visitors were sent home.
    assert abs(result.calls - len(seen)) <= 8 + result.spent[0].bad
    assert exam.versions()["calls"].sum() == result.calls
    assert result.spent[0].bad <= 0.01 * result.calls, result.spent[0].words
    assert 0 < result.p95 < slo.LIMIT + 1.5


def test_a_promise_that_was_broken_is_told_with_by_how_much(lesson: Lesson) -> None:
    exam = begin(lesson, RATE)
    # Visitors come from the first moment on.
    assert exam.versions()["failed"].sum() == 0
    fails = "    fault: {abort: {percentage: {value: 100}, httpStatus: 500}}\n"
    write(shares(("v2", 100), more=fails))
    wait_until(lambda: set(exam.visitors(20)["reviews"]) == {""}, what="all of them to be without reviews")
    exam.visitors(slo.LEAST)
    result = exam.end()
    failed, late = result.spent
    assert failed.counted >= slo.LEAST
    # productpage asks twice.
    assert failed.bad >= 2 * slo.LEAST
    assert failed.used == failed.bad / failed.counted / 0.01 > 1
    assert failed.words in result.lacks
    assert f"not passed: {failed.bad} of {failed.counted} not answered with 200" in str(error_of(result))
    assert f"{failed.bad - failed.counted // 100} too many, {failed.used:.1f} times the budget" in str(error_of(result))
    with pytest.raises(CheckError, match="not solved: Who may call"):
        certificate.page(result, "Ann")
    assert late.counted == failed.counted


def error_of(result: slo.Result) -> CheckError:
    with pytest.raises(CheckError) as raised:
        result.require()
    return raised.value


def test_without_an_exam_nothing_is_judged(shared_shop: Shop, lesson: Lesson) -> None:
    with lesson_in(shared_shop, NAME) as another:
        assert slo.running(another) is None
        told(begun(another, "back"), "the exam has begun: not in this kernel", "`exam = begin(lesson, …)`")
    exam = begin(lesson, RATE)
    exam.traffic.stop()
    told(
        begun(lesson, "back"), "every visitor gets the whole page: 0 of 0; 80 visitors were to come", "traffic.start()"
    )
