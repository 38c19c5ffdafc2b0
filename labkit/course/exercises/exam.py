# SPDX-License-Identifier: Apache-2.0
"""Exercises of 19-exam: a new version goes out under load, each task goes on from the one before, what is lost counts.

Judged are the visitors who come anyway: nobody sends requests of his own that would use up the budget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit import cluster, istio
from labkit.course.chance import expected
from labkit.course.checks import Check
from labkit.course.exercise import Exercise
from labkit.course.exercises import slo
from labkit.course.exercises.asking import told
from labkit.course.exercises.counters import has_fault
from labkit.ground.errors import ClusterError, SettingError

if TYPE_CHECKING:
    import pandas as pd

    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES", "begin"]

_MANY, _SOME = 200, 80
"""Visitors that a judge waits for: for a share, and where all are to get the same."""

_SHARE = 0.2
_TRIES = 20
"""A policy for one version of three leaves none of so many calls to the others once in 10⁹ times."""

# A connection each: without a sidecar it is connections that are led to one pod or another.
_CALLS = [
    *("sh", "-c", 'curl -s -o /dev/null -m 5 -H "Connection: close" -w "%{http_code}\\n" "$0"; true'),
    f"http://reviews:9080/reviews/0?[1-{_TRIES}]",
]

_BROKEN = "reviews-broken"
_BACK = "`exercise.reset()` brings back what this task begins with; what was lost meanwhile counts."

_REVIEWS = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: reviews, namespace: bookinfo}
spec:
  hosts: [reviews]
  http:
  - route:
"""


def _route(*parts: tuple[str, int]) -> str:
    rows = (f"    - {{destination: {{host: reviews, subset: {to}}}, weight: {share}}}\n" for to, share in parts)
    return _REVIEWS + "".join(rows)


_OLD = _route(("v2", 100))
_FIRST_BUILD = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: ratings, namespace: bookinfo}
spec:
  hosts: [ratings]
  http:
  - match: [{sourceLabels: {app: reviews, version: v3}}]
    fault: {delay: {percentage: {value: 16}, fixedDelay: 1.5s}}
    route: [{destination: {host: ratings, subset: v1}}]
  - route: [{destination: {host: ratings, subset: v1}}]
"""
_SECOND_BUILD = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: ratings, namespace: bookinfo}
spec:
  hosts: [ratings]
  http:
  - route: [{destination: {host: ratings, subset: v1}}]
"""
_NO_SPARE = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {_BROKEN}, namespace: bookinfo}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: reviews, version: v2, of: {_BROKEN}}}}}
  template:
    metadata: {{labels: {{app: reviews, version: v2, of: {_BROKEN}}}}}
    spec:
      serviceAccountName: bookinfo-reviews
      terminationGracePeriodSeconds: 1
      containers:
      - name: reviews
        image: docker.io/istio/examples-bookinfo-reviews-v2:1.20.3
        command: [sleep, infinity]
        ports: [{{containerPort: 9080}}]
"""


class _Seen:
    """What visitors have got, who came since the judge began to look."""

    def __init__(self, pages: pd.DataFrame, n: int) -> None:
        self._n, self._pages = n, pages
        self.versions = Counter(str(one) for one in pages["reviews"].replace("", "no reviews"))

    def all_whole(self) -> Check:
        whole = int(((self._pages["status"] == 200) & (self._pages["reviews"] != "")).sum())
        claim, seen = "every visitor gets the whole page", f"{whole} of {len(self._pages)}"
        if len(self._pages) < self._n:
            step = "`exam.traffic` says whether visitors come, and `exam.traffic.start()` has them come."
            return Check(claim, False, f"{seen}; {self._n} visitors were to come", step)
        return Check(claim, whole == self._n, seen, f"`exam.versions()` tells who fails. {_BACK}")

    def only(self, version: str, step: str) -> Check:
        good = set(self.versions) == {version}
        return Check(f"all of them see {version}", good, told(dict(sorted(self.versions.items()))), step)


def _visitors(lesson: Lesson, n: int) -> tuple[_Seen | None, list[Check]]:
    """What the next visitors get; None, with a finding that says why, where no exam has begun."""
    if (exam := slo.running(lesson)) is None:
        step = "Run the cell `exam = begin(lesson, …)` near the lesson's top."
        return None, [Check("the exam has begun", False, "not in this kernel", step)]
    return _Seen(exam.visitors(n), n), []


def _still_slow() -> Check:
    there = has_fault("ratings", "delay")
    seen = "yes" if there else "the VirtualService ratings has no delay any more"
    step = "It plays what is wrong inside of version 3, and is not yours to mend."
    return Check("the first build is as it was delivered", there, seen, f"{step} {_BACK}")


def _canary(lesson: Lesson) -> Iterator[Check]:
    seen, problems = _visitors(lesson, _MANY)
    yield from problems
    if seen is None:
        return
    yield seen.all_whole()
    new, total = seen.versions.get("v3", 0), max(1, seen.versions.total())
    low, high = expected(total, _SHARE)
    yield Check(
        "one in five gets v3",
        max(1, low) <= new <= high,
        f"{new} of {total} ({new / total:.0%}); with a fifth, chance gives {max(1, low)} to {high}",
        "Shares are weights of one route.",
    )
    others = {name: count for name, count in seen.versions.items() if name not in ("v2", "v3")}
    yield Check("all others stay with v2", not others, told(dict(seen.versions)), "Two subsets, and no other.")
    yield _still_slow()


def _back(lesson: Lesson) -> Iterator[Check]:
    seen, problems = _visitors(lesson, _SOME)
    yield from problems
    if seen is None:
        return
    yield seen.all_whole()
    yield seen.only("v2", "Whatever share still goes elsewhere uses up the budget.")
    yield _still_slow()


def _hardened(lesson: Lesson) -> Iterator[Check]:
    try:
        before = istio.endpoints("productpage-v1", "reviews")
    except (ClusterError, SettingError) as error:
        yield Check("productpage's Envoy can be asked", False, error.message.splitlines()[0], _BACK)
        return
    broken = [name for name in before.index if name.startswith(_BROKEN)]
    yield Check(
        "the broken pod is among the endpoints of reviews",
        len(broken) == 1,
        ", ".join(before.index) or "there is none",
        f"The cell that scales {_BROKEN} to one replica makes it; it may need a moment to be ready.",
    )
    if not broken:
        return
    seen, problems = _visitors(lesson, _SOME)
    yield from problems
    if seen is None:
        return
    after = istio.endpoints("productpage-v1", "reviews")
    yield seen.all_whole()
    yield seen.only("v2", "It is v2 that gets a broken pod; nobody is to be sent elsewhere because of it.")
    gained = after["requests"].sub(before["requests"], fill_value=0)
    asked, tries = int(gained.reindex(broken).fillna(0).sum()), int(gained.sum())
    yield Check(
        "the broken pod is asked no more",
        asked == 0 and tries >= _SOME // 2,
        f"{asked} of the last {tries} tries went to it",
        "A retry hides an error from the visitor, and the pod is asked all the same. Who fails again and again can be "
        "left out; how many of two may be?",
    )


def _everybody(lesson: Lesson) -> Iterator[Check]:
    seen, problems = _visitors(lesson, _SOME)
    yield from problems
    if seen is None:
        return
    yield seen.all_whole()
    yield seen.only("v3", "One subset of `reviews`, with all of the weight.")


def _call(container: str) -> str:
    return cluster.exec("deploy/ratings-v1", _CALLS, container=container, namespace="bookinfo", show=False)


def _locked(lesson: Lesson) -> Iterator[Check]:
    # What the user of the sidecar sends is not led through the sidecar: it has no certificate to show.
    callers = {"who shows no certificate": "istio-proxy"}
    if lesson.release.version != "1.2.2":
        callers["ratings, which has one and no reason to ask,"] = "ratings"
    step = "All versions of reviews are meant: the rule is for the Service's pods, not for those of one version."
    try:
        for who, container in callers.items():
            got = Counter(_call(container).split())
            claim, answered = f"{who} gets nothing from reviews", got["200"]
            yield Check(claim, answered == 0 and got.total() == _TRIES, told(dict(sorted(got.items()))), step)
    except ClusterError as error:
        yield Check("ratings can call", False, error.message.splitlines()[0], _BACK)
        return
    seen, problems = _visitors(lesson, _SOME)
    yield from problems
    if seen is None:
        return
    yield seen.all_whole()
    yield seen.only("v3", "The new version stays what everybody gets.")


EXERCISES = (
    Exercise(
        name="canary",
        title="A canary",
        task="""Version 3 of `reviews` has been delivered, and everybody has version 2. Let **one visitor in five** see
`v3`, and the others `v2`.

The VirtualService `ratings` plays how the new build behaves: leave it alone.""",
        hints=(
            "What a rule for the host `reviews` may say beside each destination: 09-shifting has it.",
            "Two destinations in one route, with weights that are a hundred together.",
        ),
        judge=_canary,
        start=(_OLD, _FIRST_BUILD, _NO_SPARE),
    ),
    Exercise(
        name="back",
        title="The way back",
        task="""You have seen what the counters say. Take the new version away from the visitors, **all of them at
once**, and without losing a page.

Leave the VirtualService `ratings` alone: other teams look at that build now.""",
        hints=("The rule is the one that you have written.", "The whole weight to the version that was good."),
        judge=_back,
        start=(_route(("v2", 80), ("v3", 20)), _FIRST_BUILD, _NO_SPARE),
        brings=(),
    ),
    Exercise(
        name="harden",
        title="A pod that fails",
        task="""In a moment `v2` gets a second pod in which the program does not run, and which Kubernetes takes for
ready. Every second call of `productpage` would go there.

**First** write what makes the visitors notice nothing: each page is whole, and after a few errors the broken pod is
asked no more. **Then** run the cell that brings it. Leave the Deployments as they are.""",
        hints=(
            "Two objects for the host `reviews`: one says what is worth another try, the other who is left out.",
            "10-resilience has the first, 11-load-balancing the second. Keep the subsets, and mind how many of two "
            "pods may be left out where nothing is said.",
        ),
        judge=_hardened,
        start=(_OLD, _FIRST_BUILD, _NO_SPARE),
        brings=(_NO_SPARE,),
    ),
    Exercise(
        name="everybody",
        title="The second build, for everybody",
        task="""The broken pod is gone, and the second build of `v3` is there. Bring it **to all visitors**; how many
steps you take is up to you. Not a page may be lost.""",
        hints=("Weights again; watch `exam.versions()` on the way.", "In the end all of the weight is with `v3`."),
        judge=_everybody,
        start=(_OLD, _SECOND_BUILD, _NO_SPARE),
        brings=(_SECOND_BUILD, _NO_SPARE),
    ),
    Exercise(
        name="lock-down",
        title="Who may call",
        task="""Now that it is out, close it: **`reviews` answers `productpage`, and nobody else**, while visitors come.

- Who shows no certificate gets nothing, from no version of `reviews`.
- **1.30.3**: nor does `ratings`, which has a certificate, and no reason to ask. In 1.2.2 the certificate is enough.""",
        hints=(
            "1.30.3: who calls is asked by the server's sidecar, see 14-who-may. 1.2.2: 13-identity; the order "
            "matters, as callers and servers are told by different objects.",
            "1.30.3: an AuthorizationPolicy with a selector, and productpage's principal. 1.2.2: first the callers, by "
            "`destination-rule-all-mtls.yaml`, and then a Policy.",
        ),
        judge=_locked,
        start=(_route(("v3", 100)), _SECOND_BUILD, _NO_SPARE),
        brings=(),
    ),
)


def begin(lesson: Lesson, rate: float) -> slo.Exam:
    """Begin the exam: visitors come from now on, and all that they get counts.

    Args:
        lesson: 19-exam.
        rate: Pages a second, above 0, at most 1000.

    Raises:
        ClusterError: The cluster refused something, or Prometheus does not answer.
        NotReadyError: The rules do not come to hold, or somebody else sends requests as well.
    """
    return slo.begin(lesson, rate, *EXERCISES[0].begins(lesson.release.version))
