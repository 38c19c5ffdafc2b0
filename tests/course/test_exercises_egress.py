# SPDX-License-Identifier: Apache-2.0
"""The exercises of 12-egress through real Envoys: what is wrong is told, what is right passes, also in another way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit.cluster import apply, get, kubectl
from labkit.course import Lesson
from labkit.course.exercises import outside
from labkit.course.exercises.outside import BANK, CASINO, WEATHER
from labkit.observe.access import Caller
from tests.conftest import PATIENCE
from tests.course.exercising import begun, checked, lesson_in, solution, solve, told, untouched
from tests.shops import Shop

# Rules are made anew, with labkit's marks.
pytestmark = [pytest.mark.long, pytest.mark.restored]

NAME = "12-egress"
EXERCISES = ["only-the-weather", "deadline-outside", "one-way-out"]
GATEWAY = "istio-egressgateway.istio-system.svc.cluster.local"


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_in(shared_shop, NAME) as lesson:
        outside.bring(lesson.release, timeout=PATIENCE)
        yield lesson
        lesson.rules()
        outside.remove(lesson.release)
        assert get("namespaces", outside.NAMESPACE) == []


def rule(kind: str, name: str, spec: str) -> str:
    return (
        f"apiVersion: networking.istio.io/v1alpha3\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: bookinfo}}\nspec: {spec}\n---\n"
    )


def entry(*hosts: str, name: str = "weather", **fields: str) -> str:
    more = {"resolution": "DNS", "ports": "[{number: 80, name: http, protocol: HTTP}]", **fields}
    spec = ", ".join(f"{key}: {value}" for key, value in more.items())
    return rule("ServiceEntry", name, f"{{hosts: [{', '.join(hosts)}], location: MESH_EXTERNAL, {spec}}}")


def route(to: str, more: str = "", *, name: str = "weather", gateways: str = "mesh") -> str:
    http = f"[{{route: [{{destination: {{host: {to}, port: {{number: 80}}}}}}]{more}}}]"
    return rule("VirtualService", name, f"{{hosts: [{WEATHER}], gateways: [{gateways}], http: {http}}}")


@pytest.mark.parametrize("name", EXERCISES)
def test_untouched_is_not_solved(lesson: Lesson, name: str) -> None:
    untouched(begun(lesson, name))


def test_what_lets_too_little_or_too_much_out(lesson: Lesson) -> None:
    played = begun(lesson, "only-the-weather")
    told(played, "the weather answers: 1 × 502", "no rule knows the host")
    apply(entry(WEATHER, ports="[{number: 8080, name: http, protocol: HTTP}]"), show=False)
    told(played, "the weather answers: 1 × 502", "port 80 and the protocol HTTP")
    apply(entry(WEATHER, CASINO), show=False)
    told(played, "the casino stays out of reach: 3 × 200", "one host in the ServiceEntry")
    open_ = "{egress: [{hosts: ['./*', istio-system/*]}], outboundTrafficPolicy: {mode: ALLOW_ANY}}"
    apply(entry(WEATHER) + rule("Sidecar", "default", open_), show=False)
    told(played, "the bank stays out of reach: 3 × 200", "Is it still REGISTRY_ONLY")


def test_an_address_that_is_told_lets_the_weather_out_too(lesson: Lesson) -> None:
    played = begun(lesson, "only-the-weather")
    (pod,) = get("pods", namespace=outside.NAMESPACE)
    there = f"[{{address: {pod['status']['podIP']}, ports: {{http: 8080}}}}]"
    solve(played, entry(WEATHER, resolution="STATIC", endpoints=there))


def test_what_is_no_deadline(lesson: Lesson) -> None:
    played = begun(lesson, "deadline-outside")
    told(played, "who waits for a slow page is told 504: 1 × 200", "A `timeout` in a VirtualService")
    connection = "{tcp: {connectTimeout: 1s}}"
    policy = f"{{host: {WEATHER}, trafficPolicy: {{connectionPool: {connection}}}}}"
    apply(rule("DestinationRule", "weather", policy), show=False)
    told(played, "who waits for a slow page is told 504: 1 × 200", "about the connection only")
    apply(route(WEATHER, ", timeout: 2.5s"), show=False)
    told(played, "within 2 s: 2 × 504, after 2.", "The task says one second")


def test_the_patience_of_a_single_try_is_a_deadline_too(lesson: Lesson) -> None:
    played = begun(lesson, "deadline-outside")
    solve(played, route(WEATHER, ", retries: {attempts: 1, perTryTimeout: 0.5s, retryOn: connect-failure}"))


def test_what_does_not_lead_through_the_gateway(lesson: Lesson) -> None:
    played = begun(lesson, "one-way-out")
    told(played, "the weather answers: 1 × 404", "Which VirtualService is for `way-out`?")
    # Straight out: it answers, and nobody stands at the way.
    apply(route(WEATHER), show=False)
    told(played, "all requests come through the egress gateway: 0 of 30 answers", "`mesh`")
    apply(route(WEATHER, gateways="way-out"), show=False)
    told(played, "all requests come through the egress gateway: 0 of 30 answers", "`mesh`")
    kubectl("delete gateways.networking.istio.io way-out -n bookinfo", show=False)
    apply(route(GATEWAY), show=False)
    told(played, "the weather answers: 1 × 503", "Which VirtualService is for `way-out`?")


def test_a_rule_of_its_own_for_the_gateway_is_right_too(lesson: Lesson) -> None:
    solve(begun(lesson, "one-way-out"), route(WEATHER, name="weather-out", gateways="way-out"))


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right_also_after_a_half_done_attempt(lesson: Lesson, name: str) -> None:
    played = begun(lesson, name)
    attempt = {
        "only-the-weather": entry(WEATHER, CASINO),
        "deadline-outside": route(WEATHER, ", timeout: 2.5s"),
        "one-way-out": route(WEATHER),
    }
    apply(attempt[name], show=False)
    solve(played, *solution(NAME, name))
    checked(played)
    assert name in lesson.progress.exercises[NAME]


def test_without_its_client_nothing_can_be_judged(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    played = begun(lesson, "deadline-outside")
    monkeypatch.setattr(outside, "client", lambda _release, namespace: Caller(namespace, "nobody"))
    told(played, "the client can call: ", "that makes the client and the world outside")


def test_the_hosts_outside_are_what_the_lesson_says(lesson: Lesson) -> None:
    lesson.rules()
    kubectl("rollout status deployment world -n outside --timeout=240s", show=False)
    all_ = {"weather": "200", "casino": "200", "bank": "200"}
    assert outside.look(lesson.release, all_, timeout=240).iloc[0].to_dict() == all_
    one, two = outside.ask(lesson.release, f"https://{BANK}/status/404", 2)
    assert (one.status, two.status) == ("404", "404")
    (nobody,) = outside.ask(lesson.release, f"http://{WEATHER.replace('weather', 'nobody')}/")
    # No name leads there: curl says so, before anybody in the mesh is asked.
    assert nobody.status == "curl 6"
