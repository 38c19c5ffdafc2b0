# SPDX-License-Identifier: Apache-2.0
"""The exercises of 17-telemetry in a mesh: what is wrong is told, what is right passes, also in another way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import cluster
from labkit.cluster import cells
from labkit.course import Lesson
from labkit.course.exercise import Played
from tests.course.exercising import begun, checked, lesson_in, solutions, solve, told, untouched
from tests.shops import Shop

pytestmark = [
    pytest.mark.long,
    pytest.mark.restored,
    pytest.mark.timeout(1200),
    # The lesson is about what no other release has.
    pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True, scope="session"),
]

NAME = "17-telemetry"


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_in(shared_shop, NAME) as lesson:
        yield lesson


def answered(lesson: Lesson, name: str, *answers: str) -> Played:
    """An exercise at its start, and then answers: YAML, or "delete KIND NAME"."""
    played = begun(lesson, name)
    for one in answers:
        if one.startswith("delete "):
            cluster.kubectl(f"{one} -n bookinfo", show=False)
        else:
            cells.yaml("", one)
    return played


def wrong(lesson: Lesson, name: str, seen: str, step: str, *answers: str) -> None:
    """The answer is a wrong one: soon a claim that is not so says why, and what to do."""
    told(answered(lesson, name, *answers), seen, step)


def solved(lesson: Lesson, name: str, *answers: str) -> None:
    """The answer is a right one: soon all is so."""
    solve(answered(lesson, name, *answers))


def half_done(lesson: Lesson, name: str, answer: str) -> None:
    """Whatever was tried before, the solution solves it, as its cells stand in the lesson."""
    played = answered(lesson, name, answer)
    for text in solutions(NAME)[name]:
        if text.startswith("%%yaml\n"):
            cells.yaml("", text.removeprefix("%%yaml\n"))
        else:
            exec(text, {"exercise": played, "kubectl": cluster.kubectl})
    solve(played)
    checked(played)
    assert name in lesson.progress.exercises[NAME]


def telemetry(spec: str, name: str = "mine", namespace: str = "bookinfo") -> str:
    head = "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\n"
    return f"{head}metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"


def logging(*entries: str) -> str:
    return f"accessLogging: [{', '.join(f'{{{one}}}' for one in entries)}]"


ENVOY = "providers: [{name: envoy}]"
FAILED = "filter: {expression: response.code >= 400}"
TRACED = "tracing: [{providers: [{name: jaeger}], randomSamplingPercentage: 100}]"
SERVER, CLIENT = "match: {mode: SERVER}", "match: {mode: CLIENT}"


def test_quiet_log(lesson: Lesson) -> None:
    name = "quiet-log"
    untouched(begun(lesson, name))
    both = telemetry(logging(f"{ENVOY}, {FAILED}"))
    wrong(lesson, name, "at the caller's: lines of 10 calls: 10", "another entry: `CLIENT`", both)
    # Where nobody is named, nobody is meant.
    nobody = telemetry(logging("disabled: true"))
    wrong(lesson, name, "the caller's sidecar logged 10, the server's 10", "beside the provider", nobody)
    half_done(lesson, name, telemetry(logging(f"{ENVOY}, {FAILED}"), "errors"))
    never = f"{ENVOY}, {CLIENT}, filter: {{expression: 'false'}}"
    solved(lesson, name, telemetry(logging(f"{ENVOY}, {SERVER}, {FAILED}", never)))


def test_quiet_log_for_the_whole_mesh_is_too_much(lesson: Lesson) -> None:
    entries = f"{ENVOY}, {SERVER}, {FAILED}", f"{ENVOY}, {CLIENT}, disabled: true"
    # The mesh's own object, whoever has made it: a second one would not count.
    everywhere = telemetry(f"{logging(*entries)}, {TRACED}", "mesh-default", "istio-system")
    try:
        wrong(lesson, "quiet-log", "logging: lines of the one request: 0", "for the whole mesh", everywhere)
    finally:
        cells.yaml("", telemetry(TRACED, "mesh-default", "istio-system"))


def metrics(*overrides: str) -> str:
    return f"metrics: [{{providers: [{{name: prometheus}}], overrides: [{', '.join(overrides)}]}}]"


COUNT = "match: {metric: REQUEST_COUNT}"
PURPOSE = """purpose: {value: "request.url_path == '/health' ? 'health' : 'work'"}"""
DROPPED = "source_principal: {operation: REMOVE}"


def test_own_tag(lesson: Lesson) -> None:
    name = "own-tag"
    untouched(begun(lesson, name))
    every = telemetry(metrics(f"{{tagOverrides: {{{PURPOSE}, {DROPPED}}}}}"))
    wrong(lesson, name, "have other tags", "without it all metrics are meant", every)
    client = telemetry(metrics(f"{{match: {{metric: REQUEST_COUNT, mode: CLIENT}}, tagOverrides: {{{PURPOSE}}}}}"))
    wrong(lesson, name, "as `health`: source: ", "Without `mode` both sides are meant", client)
    half_done(lesson, name, client)
    ends = PURPOSE.replace("request.url_path == '/health'", "request.path.startsWith('/health')")
    two = f"{{{COUNT}, tagOverrides: {{{ends}}}}}", f"{{{COUNT}, tagOverrides: {{{DROPPED}}}}}"
    solved(lesson, name, telemetry(metrics(*two)))


TEAM = "customTags: {team: {literal: {value: books}}}"
DETAILS = "selector: {matchLabels: {app: details}}"


def test_named_spans(lesson: Lesson) -> None:
    name = "named-spans"
    untouched(begun(lesson, name))
    wrong(lesson, name, "details sends no spans: it is in", "`app: details`", telemetry(f"tracing: [{{{TEAM}}}]"))
    silent = telemetry(f"{DETAILS}, tracing: [{{disableSpanReporting: true}}]", "silent")
    wrong(lesson, name, "tag team: books: in 0 of", "without a selector", silent)
    half_done(lesson, name, silent)
    everywhere = telemetry(
        f"tracing: [{{providers: [{{name: jaeger}}], randomSamplingPercentage: 100, {TEAM}}}]",
        "mesh-default",
        "istio-system",
    )
    solved(lesson, name, everywhere, silent)


def fault(host: str, spec: str) -> str:
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
    route = f"{{route: [{{destination: {{host: {host}}}}}]{spec}}}"
    return f"{head}metadata: {{name: {host}, namespace: bookinfo}}\nspec: {{hosts: [{host}], http: [{route}]}}\n"


def test_out_of_budget(lesson: Lesson) -> None:
    name = "out-of-budget"
    played = begun(lesson, name)
    told(played, "a burn rate of ", "Its VirtualService has a fault")
    wrong(lesson, name, "gone: details", "neither is an error", "delete virtualservice details reviews")
    half_done(lesson, name, "delete virtualservice ratings")
    solved(lesson, name, fault("reviews", ""))
