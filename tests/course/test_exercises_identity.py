# SPDX-License-Identifier: Apache-2.0
"""The exercises of 13-identity through real Envoys: untouched, wrong answers, the solution, another right answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labkit.cluster import apply, kubectl, shell
from labkit.course.lesson import Lesson
from tests.course.exercising import begun, checked, lesson_with_clients, solutions, solve, told, untouched
from tests.shops import Shop

pytestmark = [pytest.mark.long, pytest.mark.restored]

NAME = "13-identity"
EXERCISES = ["one-door", "mend-details", "own-name"]
MUTUAL = "samples/bookinfo/networking/destination-rule-all-mtls.yaml"


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_with_clients(shared_shop, NAME) as lesson:
        yield lesson
        kubectl("delete deployment,serviceaccount auditor -n bookinfo --ignore-not-found")


def demand(lesson: Lesson, name: str, mode: str, app: str = "") -> str:
    """What has a namespace, or one application, take callers in a mode; in the words of the lesson's release."""
    if lesson.release.version == "1.2.2":
        spec: dict[str, Any] = {"peers": [{"mtls": {"mode": mode}}]} | ({"targets": [{"name": app}]} if app else {})
        head = "apiVersion: authentication.istio.io/v1alpha1\nkind: Policy"
    else:
        spec = {"mtls": {"mode": mode}} | ({"selector": {"matchLabels": {"app": app}}} if app else {})
        head = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication"
    return f"{head}\nmetadata: {{name: {name}, namespace: bookinfo}}\nspec: {spec}\n---\n"


def details(mode: str) -> str:
    tls = f"  trafficPolicy: {{tls: {{mode: {mode}}}}}\n"
    return (
        "apiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\n"
        f"metadata: {{name: details, namespace: bookinfo}}\nspec:\n  host: details\n{tls}"
    )


@pytest.mark.parametrize("name", EXERCISES)
def test_untouched_is_not_solved(lesson: Lesson, name: str) -> None:
    untouched(begun(lesson, name))


def test_a_door_too_few_and_a_door_too_many(lesson: Lesson) -> None:
    played = begun(lesson, "one-door")
    apply(lesson.release.path / MUTUAL, namespace="bookinfo", show=False)
    apply(demand(lesson, "default", "STRICT"), show=False)
    told(played, "who has no sidecar reaches ratings: ratings: reset", "`app: ratings`")
    apply(demand(lesson, "default", "PERMISSIVE"), show=False)
    told(played, "who has no sidecar reaches nothing else: productpage: 200, details: 200", "STRICT")


def test_the_door_of_the_whole_workload_is_one_as_well(lesson: Lesson) -> None:
    played = begun(lesson, "one-door")
    apply(lesson.release.path / MUTUAL, namespace="bookinfo", show=False)
    solve(played, demand(lesson, "default", "STRICT") + demand(lesson, "ratings", "PERMISSIVE", "ratings"))


def test_what_does_not_mend_the_details(lesson: Lesson) -> None:
    played = begun(lesson, "mend-details")
    told(played, "who has a sidecar reaches details: details: 503", "DestinationRule for details")
    apply(demand(lesson, "default", "PERMISSIVE"), show=False)
    told(played, "details still refuses plain text: details: 200", "put STRICT back")
    apply(demand(lesson, "default", "STRICT") + details("SIMPLE"), show=False)
    told(played, "who has a sidecar reaches details: details: 503", "DestinationRule for details")


def test_details_are_mended_without_the_rule_too(lesson: Lesson) -> None:
    played = begun(lesson, "mend-details")
    kubectl("delete destinationrule details -n bookinfo", show=False)
    wider = details("ISTIO_MUTUAL").replace("name: details", "name: all").replace(
        "host: details", "host: '*.bookinfo.svc.cluster.local'"
    )  # fmt: skip
    solve(played, *([wider] if lesson.release.version == "1.2.2" else []))


def test_what_gives_nobody_a_name(lesson: Lesson) -> None:
    played = begun(lesson, "own-name")
    kubectl("label deployment auditor -n bookinfo auditor=auditor", show=False)
    told(played, "sa/default; its Deployment asks for the ServiceAccount default", "no label")
    # Such pods are never made: the old one goes on.
    kubectl("set serviceaccount deployment auditor nobody -n bookinfo", show=False)
    told(played, "sa/default; its Deployment asks for the ServiceAccount nobody", "nothing else")


def test_a_name_by_patch_is_one_too(lesson: Lesson) -> None:
    played = begun(lesson, "own-name")
    shell("kubectl create serviceaccount auditor -n bookinfo --dry-run=client -o yaml | kubectl apply -f -", show=False)
    patch = '{"spec": {"template": {"spec": {"serviceAccountName": "auditor"}}}}'
    kubectl(["patch", "deployment", "auditor", "-n", "bookinfo", "-p", patch], show=False)
    solve(played)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right_also_after_a_half_done_attempt(lesson: Lesson, name: str) -> None:
    played = begun(lesson, name)
    apply(demand(lesson, "mine", "PERMISSIVE", "details") + details("DISABLE"), show=False)
    if name == "mend-details":
        kubectl(["delete", "-f", "-"], stdin=demand(lesson, "mine", "PERMISSIVE", "details"), show=False)
    names = {
        "apply": apply,
        "shell": shell,
        "lesson": lesson,
        "release": lesson.release,
        # What the lesson's own cell has called so.
        "STRICT": demand(lesson, "default", "STRICT").removesuffix("---\n"),
    }
    for cell in solutions(NAME)[name]:
        exec(cell, names)
    solve(played)
    checked(played)
    assert name in lesson.progress.exercises[NAME]
