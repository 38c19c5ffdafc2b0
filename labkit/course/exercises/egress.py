# SPDX-License-Identifier: Apache-2.0
"""Exercises on the way out of the mesh: who is let out, for how long one waits, and where all have to pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit.course.checks import Check
from labkit.course.exercise import Exercise
from labkit.course.exercises.asking import page
from labkit.course.exercises.outside import BANK, CASINO, WEATHER, Answer, ask
from labkit.ground.errors import ClusterError

if TYPE_CHECKING:
    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES"]

_REQUESTS = 30
"""That many that all go one way: with a share of one half once in 10⁹ looks."""

_DELAY = 3
_PATIENCE = 2.0
"""Seconds that the slow page takes, and that a learner's answer may."""

_CLOSED = """
apiVersion: networking.istio.io/v1alpha3
kind: Sidecar
metadata: {name: default, namespace: bookinfo}
spec:
  egress: [{hosts: ["./*", "istio-system/*"]}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
"""

_WEATHER = f"""
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {{name: weather, namespace: bookinfo}}
spec:
  hosts: [{WEATHER}]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{{number: 80, name: http, protocol: HTTP}}]
"""

_DEAD_END = f"""
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {{name: way-out, namespace: bookinfo}}
spec:
  selector: {{istio: egressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{WEATHER}]}}]
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {{name: weather, namespace: bookinfo}}
spec:
  hosts: [{WEATHER}]
  gateways: [mesh]
  http:
  - route: [{{destination: {{host: istio-egressgateway.istio-system.svc.cluster.local, port: {{number: 80}}}}}}]
"""

_CLIENT = "Play the cell near the lesson's top that makes the client and the world outside."


def _asked(lesson: Lesson, url: str, n: int, wanted: str = "200") -> tuple[list[Answer], list[Check]]:
    """The answers; none, with a finding that says why, where the client cannot call.

    Where already the first one is not as wanted there are no others: each may take as long as curl waits.
    """
    try:
        answers = ask(lesson.release, url)
        return answers + (ask(lesson.release, url, n - 1) if answers[0].status == wanted else []), []
    except ClusterError as error:
        return [], [Check("the client can call", False, error.message.splitlines()[0], _CLIENT)]


def _seen(answers: list[Answer]) -> str:
    return ", ".join(f"{count} × {status}" for status, count in Counter(one.status for one in answers).items())


def _reached(lesson: Lesson, claim: str, url: str, step: str) -> Iterator[Check]:
    answers, problems = _asked(lesson, url, _REQUESTS)
    yield from problems
    if answers:
        yield Check(claim, all(one.status == "200" for one in answers), _seen(answers), step)


def _closed(lesson: Lesson, name: str, url: str) -> Iterator[Check]:
    """Whether nobody outside answers: neither the place itself, nor anybody in its stead."""
    answers, problems = _asked(lesson, url, 3)
    yield from problems
    step = (
        "Is it still REGISTRY_ONLY that holds for the client, and is there one host in the ServiceEntry, without `*`?"
    )
    if answers:
        yield Check(f"the {name} stays out of reach", answers[0].status in ("502", "cut"), _seen(answers), step)


def _only_the_weather(lesson: Lesson) -> Iterator[Check]:
    yield from _reached(
        lesson,
        "the weather answers",
        f"http://{WEATHER}/get",
        "A ServiceEntry with exactly this host, port 80 and the protocol HTTP. 502: no rule knows the host. 503: a "
        "rule knows it, but nobody answers where it leads.",
    )
    yield from _closed(lesson, "casino", f"http://{CASINO}/get")
    yield from _closed(lesson, "bank", f"https://{BANK}/get")
    yield from page("the page is whole", "Does the Sidecar still let BookInfo see its own namespace, `./*`?")


def _deadline(lesson: Lesson) -> Iterator[Check]:
    answers, problems = _asked(lesson, f"http://{WEATHER}/delay/{_DELAY}", 2, "504")
    yield from problems
    if not answers:
        return
    slowest = max(one.seconds for one in answers)
    seen = f"{_seen(answers)}, after {slowest:.1f} s at most"
    yield Check(
        "who waits for a slow page is told 504",
        {one.status for one in answers} == {"504"},
        seen,
        "A `timeout` in a VirtualService whose `hosts` has the host outside. Beside a `fault` it does nothing, and a "
        "DestinationRule's `connectTimeout` is about the connection only.",
    )
    yield Check(
        f"within {_PATIENCE:g} s",
        slowest < _PATIENCE,
        seen,
        "The task says one second. Tries add up: `retries` with a `perTryTimeout` wait once for each of them.",
    )
    yield from _reached(lesson, "a quick page still comes", f"http://{WEATHER}/get", "Where does the route lead?")


def _one_way_out(lesson: Lesson) -> Iterator[Check]:
    answers, problems = _asked(lesson, f"http://{WEATHER}/headers", _REQUESTS)
    yield from problems
    if not answers:
        return
    good = [one for one in answers if one.status == "200"]
    yield Check(
        "the weather answers",
        len(good) == _REQUESTS,
        _seen(answers),
        "404 is a gateway's word for a host that no route of its own is for. Which VirtualService is for `way-out`?",
    )
    through = sum("x-forwarded-for" in one.body.lower() for one in good)
    yield Check(
        "all requests come through the egress gateway",
        through == _REQUESTS,
        f"{through} of {len(good)} answers tell of the header X-Forwarded-For, which the gateway adds",
        "In the sidecars (`mesh`) the host has to lead to istio-egressgateway, and from there to the host itself.",
    )
    yield from _closed(lesson, "casino", f"http://{CASINO}/get")


EXERCISES = (
    Exercise(
        name="only-the-weather",
        title="One host, and no other",
        task="For all of namespace `bookinfo` holds REGISTRY_ONLY: what no rule knows is not reached. Let **the "
        "weather** out, and nothing else.\n\n"
        f"- `http://{WEATHER}` answers;\n"
        f"- `http://{CASINO}` and `https://{BANK}` do not;\n"
        "- the page of BookInfo is whole.",
        hints=(
            "The Sidecar stays as it is. What makes a host known that Kubernetes does not tell of?",
            f"A ServiceEntry: `hosts: [{WEATHER}]`, `resolution: DNS`, `ports: [{{number: 80, name: http, protocol: "
            "HTTP}]`.",
        ),
        judge=_only_the_weather,
        start=(_CLOSED,),
    ),
    Exercise(
        name="deadline-outside",
        title="Nobody waits for the weather",
        task=f"The weather is slow at times: its page `/delay/{_DELAY}` takes {_DELAY} seconds. No program of yours is "
        "to wait for it longer than **one second**.\n\n"
        f"- `http://{WEATHER}/delay/{_DELAY}`: 504, after about a second;\n"
        "- quick pages come as before.",
        hints=(
            "With a ServiceEntry the host is one like any other: the rules of the lesson on timeouts hold for it.",
            f"A VirtualService with `hosts: [{WEATHER}]`, a `route` to that host and `timeout: 1s` beside it.",
        ),
        judge=_deadline,
        start=(_WEATHER,),
    ),
    Exercise(
        name="one-way-out",
        title="404 at the way out",
        task="All requests for the weather were to leave through the **egress gateway**. Somebody has begun with it, "
        "and since then the weather answers 404. Finish it.\n\n"
        f"- `http://{WEATHER}` answers, and all requests pass through the gateway;\n"
        "- the casino stays out of reach.",
        hints=(
            "Who says 404? `kubectl logs -n istio-system deploy/istio-egressgateway --tail=3`. The sidecars know the "
            "way to the gateway. Does the gateway know the way on?",
            "A second route, for `gateways: [way-out]`, to the weather's own host, port 80: in the same VirtualService "
            "(with a `match` on `gateways` in both), or in one of its own.",
        ),
        judge=_one_way_out,
        start=(_CLOSED, _WEATHER, _DEAD_END),
    ),
)
