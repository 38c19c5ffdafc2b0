# SPDX-License-Identifier: Apache-2.0
"""Exercises of 09-shifting: a share by weights, a worse version found and left, and copies that nobody notices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit import bookinfo, istio
from labkit.course.checks import Check
from labkit.course.exercise import Exercise
from labkit.course.exercises.asking import share, told
from labkit.course.exercises.counters import has_fault, reached

if TYPE_CHECKING:
    import pandas as pd

    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES"]

_MANY = 250
_PAGES = 150
_COPIED = 40

_ONE_IS_WORSE = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: reviews, namespace: bookinfo}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v2}
      weight: 50
    - destination: {host: reviews, subset: v3}
      weight: 50
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: ratings, namespace: bookinfo}
spec:
  hosts: [ratings]
  http:
  - match: [{sourceLabels: {app: reviews, version: v2}}]
    fault: {abort: {percentage: {value: 30}, httpStatus: 503}}
    route: [{destination: {host: ratings, subset: v1}}]
  - route: [{destination: {host: ratings, subset: v1}}]
"""


def _pages(n: int) -> pd.DataFrame:
    return bookinfo.load(istio.ingress(show=False).url, n, rate=300)


def _versions(pages: pd.DataFrame) -> dict[str, int]:
    """How many pages each version answered; "no reviews" where none is to be seen."""
    counts = pages["reviews"].replace("", "no reviews").value_counts().sort_index()
    return {str(version): int(count) for version, count in counts.items()}


def _came(pages: pd.DataFrame) -> Check:
    good = int((pages["status"] == 200).sum())
    return Check(
        "every page comes",
        good == len(pages),
        f"{good} of {len(pages)} with status 200",
        "`kubectl get virtualservices -n bookinfo` shows the rules there are; `exercise.reset()` begins anew.",
    )


def _fifth(lesson: Lesson) -> Iterator[Check]:
    pages = _pages(_MANY)
    yield _came(pages)
    versions = _versions(pages)
    step = "The weights of one route: 20 for the subset v3."
    yield share("one page in five is from v3", versions, _MANY, 0.2, "a fifth", step)
    yield Check(
        "all others are from v1",
        versions.keys() <= {"v1", "v3"} and versions.get("v1", 0) > 0,
        told(versions),
        "A rule for the host `reviews` names the two subsets, and nothing else: `no reviews` means that a "
        "subset is not defined.",
    )


def _better(lesson: Lesson) -> Iterator[Check]:
    pages = _pages(_PAGES)
    yield _came(pages)
    versions = _versions(pages)
    yield Check(
        "only the better version answers",
        versions.keys() == {"v3"},
        told(versions),
        "Ask the counters who fails: calls to `ratings` by `source_workload` and `response_code`.",
    )
    yield Check(
        "the fault itself was left alone",
        has_fault("ratings", "abort"),
        "yes" if has_fault("ratings", "abort") else "the VirtualService ratings has no fault any more",
        "It stands for what is wrong inside of a version: shift visitors away from it. `exercise.reset()` "
        "brings it back.",
    )


def _copied(lesson: Lesson) -> Iterator[Check]:
    sent, gained, _ = reached(lesson, _COPIED)
    yield _came(sent)
    versions = _versions(sent)
    yield Check(
        "visitors see v1 alone",
        versions.keys() == {"v1"},
        told(versions),
        "The `route` says who answers: v1, and no other.",
    )
    copies = int(gained.get("reviews-v3", 0))
    yield Check(
        "v3 gets a copy of every request",
        copies >= _COPIED,
        f"{copies} requests reached reviews-v3 while {_COPIED} pages were sent",
        "Beside `route`, in the same rule: `mirror`, a destination with its subset.",
    )
    others = int(gained.get("reviews-v2", 0))
    yield Check("nobody else gets one", others == 0, f"{others} requests reached reviews-v2", "Copies for v3 only.")


EXERCISES = (
    Exercise(
        name="one-in-five",
        title="One visitor in five",
        task="""Everybody shall get `v1` of `reviews`, but **one request in five** goes to `v3`. None goes to `v2`.

Write the VirtualService for the host `reviews`. Who judges sends 250 requests, and knows what chance does to them.""",
        hints=(
            "One rule with one `route`, and in it two destinations. Each has a `weight`; together they are 100.",
            "`- destination: {host: reviews, subset: v1}` with `weight: 80`, and the same for `v3` with `weight: 20`.",
        ),
        judge=_fifth,
    ),
    Exercise(
        name="which-is-worse",
        title="One of the two is worse",
        task="""Half of the requests go to `v2` of `reviews`, half to `v3`. In **one of the two** something is wrong:
some of its pages say that ratings are not available.

Find out which, and send everybody to the other one. Leave the VirtualService `ratings` alone: it plays the fault.""",
        hints=(
            "The page alone does not tell it in each release; the counters do. Who calls `ratings`, and how often does "
            "that go wrong? Send requests first, then ask Prometheus for `istio_requests_total` by `source_workload` "
            "and `response_code`.",
            "`CALLS` from the lesson, once more: the version with answers 503 is the worse one. Then a route to the "
            "other subset alone.",
        ),
        judge=_better,
        start=(_ONE_IS_WORSE,),
    ),
    Exercise(
        name="quiet-copies",
        title="Copies that nobody notices",
        task="""Visitors get `v1` of `reviews`, all of them. `v3` is to be tried with **real requests**: it gets a copy
of each, and nobody sees its answers.""",
        hints=(
            "Copies are no matter of weights. A rule with a `route` may have a `mirror` beside it.",
            "`route: [{destination: {host: reviews, subset: v1}}]`, and indented like `route`: "
            "`mirror: {host: reviews, subset: v3}`.",
        ),
        judge=_copied,
    ),
)
