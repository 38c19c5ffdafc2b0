# SPDX-License-Identifier: Apache-2.0
"""Exercises of 10-resilience: a fault for one user, a deadline in spite of a slow service, and a storm of retries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit import bookinfo, istio
from labkit.course.checks import Check
from labkit.course.exercise import Exercise
from labkit.course.exercises.counters import has_fault, reached

if TYPE_CHECKING:
    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES"]

_AT_ONCE = 2.0
"""Seconds: what fails at once is far below, what waits for a delay or a patience of the sample's is above."""

_LIMIT = 1.5
"""Seconds that a learner's answer may take."""

_LOOKS = 30
"""Pages that are looked at one by one: a fault of one half is missed once in 10⁹ looks."""

_REQUESTS = 5
_ASKED_TWICE = 2
"""How often productpage asks for reviews by itself before it gives up."""

_BACK = "`exercise.reset()` brings the rules back that this exercise begins with."

_STARS = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: reviews, namespace: bookinfo}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews, subset: v2}}]
"""

_SLOW = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: ratings, namespace: bookinfo}
spec:
  hosts: [ratings]
  http:
  - fault: {delay: {percentage: {value: 100}, fixedDelay: SECONDS}}
    route: [{destination: {host: ratings, subset: v1}}]
"""

_STORM = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: reviews, namespace: bookinfo}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews, subset: v2}}]
    retries: {attempts: 2, perTryTimeout: 0.1s, retryOn: 5xx}
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: bookinfo, namespace: bookinfo}
spec:
  hosts: ['*']
  gateways: [bookinfo-gateway]
  http:
  - route: [{destination: {host: productpage, port: {number: 9080}}}]
    retries: {attempts: 2, retryOn: 5xx}
"""


def _one_user(lesson: Lesson) -> Iterator[Check]:
    url = istio.ingress(show=False).url
    jason = bookinfo.sign_in(url, "jason")
    first = bookinfo.page(url, headers=jason)
    seen = [first]
    # One that is slow says all there is to say.
    if first.seconds < _AT_ONCE:
        seen += [bookinfo.page(url, headers=jason) for _ in range(_LOOKS - 1)]
    failed = [page for page in seen if page.status == 200 and any("Ratings" in error for error in page.errors)]
    yield Check(
        "jason's page says that there are no ratings",
        len(failed) == len(seen),
        f"on {len(failed)} of {len(seen)} pages; the first: {_words(first)}",
        "A rule for the host `ratings` with a `match` on the header `end-user`, and `fault: {abort: …}`.",
    )
    slowest = max(page.seconds for page in seen)
    yield Check(
        "he is told at once",
        slowest < _AT_ONCE,
        f"the slowest page took {slowest:.1f} s",
        "An `abort` answers in place of the service; a `delay` only makes it late.",
    )
    others = [bookinfo.page(url) for _ in range(_LOOKS)]
    bad = [page for page in others if not page.good or page.stars == "none"]
    yield Check(
        "everybody else sees stars",
        not bad,
        f"{len(others) - len(bad)} of {len(others)} pages" + (f"; one of the others: {_words(bad[0])}" if bad else ""),
        "Rules are read from the top: what has no `match` holds for all. A second rule without a fault is for the "
        "others.",
    )


def _words(page: bookinfo.Page) -> str:
    found = (
        [f"status {page.status}", *page.errors] if page.status != 200 or page.errors else [f"reviews {page.reviews}"]
    )
    return ", ".join(found)


def _deadline(lesson: Lesson) -> Iterator[Check]:
    url = istio.ingress(show=False).url
    sent = bookinfo.load(url, 8, rate=100, workers=8)
    good = int((sent["status"] == 200).sum())
    yield Check("every page comes", good == len(sent), f"{good} of {len(sent)} with status 200", _BACK)
    slowest = float(sent["latency"].max())
    yield Check(
        f"none takes longer than {_LIMIT:g} s",
        slowest <= _LIMIT,
        f"the slowest took {slowest:.2f} s",
        "Whose patience counts? A `timeout` for `reviews` holds for one try, and productpage tries twice. Beside a "
        "fault of the same rule a `timeout` does nothing.",
    )
    page = bookinfo.page(url)
    lost = [error for error in page.errors if "details" in error]
    yield Check(
        "the book's details are there",
        page.status == 200 and not lost,
        ", ".join(lost) or _words(page),
        "Leave details.",
    )
    yield _still_slow()


def _still_slow() -> Check:
    slow = has_fault("ratings", "delay")
    return Check(
        "ratings is as slow as before",
        slow,
        "yes" if slow else "the VirtualService ratings has no delay any more",
        "The delay plays a service that is not yours to mend; `exercise.reset()` brings it back.",
    )


def _calm(lesson: Lesson) -> Iterator[Check]:
    sent, gained, _ = reached(lesson, _REQUESTS, path="/api/v1/products/0/reviews")
    count = sum(int(more) for name, more in gained.items() if str(name).startswith("reviews-"))
    yield Check(
        f"at most {_ASKED_TWICE} requests reach reviews for each that is sent",
        count <= _ASKED_TWICE * len(sent),
        f"{count} for {len(sent)}: {count / len(sent):.1f} for each",
        "Who repeats a request? The gateway (VirtualService `bookinfo`), productpage itself, and productpage's sidecar "
        "(VirtualService `reviews`): each multiplies what those before it do.",
    )
    none = int((sent["status"] == 0).sum())
    yield Check("each is answered", none == 0, f"{len(sent) - none} of {len(sent)}", _BACK)
    slowest = float(sent["latency"].max())
    yield Check(
        f"nobody waits longer than {_LIMIT:g} s for that answer, which may be an error",
        slowest <= _LIMIT,
        f"the slowest took {slowest:.2f} s",
        "Without a `timeout` productpage waits its own 3 s, twice.",
    )
    yield _still_slow()


EXERCISES = (
    Exercise(
        name="fail-for-one",
        title="No ratings for jason",
        task="""Try how BookInfo does without `ratings`, at the expense of **one user only**: for `jason` every call to
`ratings` fails **at once**. Everybody else goes on seeing stars.

At the start all reviews come from `v2`, with black stars.""",
        hints=(
            "productpage passes the name of who is signed in on in the header `end-user`. A rule with a `match` on it "
            "comes first; one without, for all the others, comes second.",
            "`match: [{headers: {end-user: {exact: jason}}}]`, `fault: {abort: {percentage: {value: 100}, httpStatus: "
            "500}}` and a `route` to ratings. Then a second rule that has the `route` alone.",
        ),
        judge=_one_user,
        start=(_STARS,),
    ),
    Exercise(
        name="deadline",
        title="A page within a second and a half",
        task="""`ratings` answers after 2 s, and you cannot mend it. Visitors shall get their page **within 1.5 s** all
the same, with the details of the book. Stars may be missing, and so may the reviews.

Leave the VirtualService `ratings` alone: it plays the slow service.""",
        hints=(
            "Who waits for whom? productpage for reviews, and reviews for ratings. A `timeout` ends a wait, but not in "
            "the rule that has the fault.",
            "A `timeout` for the host `reviews`. productpage tries twice, so it may be half of what the page may take.",
        ),
        judge=_deadline,
        start=(_STARS, _SLOW.replace("SECONDS", "2s")),
    ),
    Exercise(
        name="calm-the-storm",
        title="Calm the storm",
        task="""`ratings` answers after 4 s. Two teams meant well: the gateway repeats what fails twice (VirtualService
`bookinfo`), and so does productpage's sidecar (VirtualService `reviews`). One request for
`/api/v1/products/0/reviews` becomes 18.

Bring that down to **at most 2** for each, as productpage asks twice by itself, and let nobody wait longer than
**1.5 s** for the answer. Leave the VirtualService `ratings` alone.""",
        hints=(
            "A retry helps against what fails by chance. Here each try fails, so none is worth it, in either place. "
            "And what ends the wait once `perTryTimeout` is gone?",
            "In `bookinfo` no `retries` that react to 5xx; in `reviews` a `timeout` of half a second in place of "
            "`retries`.",
        ),
        judge=_calm,
        start=(_STORM, _SLOW.replace("SECONDS", "4s")),
    ),
)
