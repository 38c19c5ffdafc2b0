# SPDX-License-Identifier: Apache-2.0
"""Exercises that begin with a broken mesh: traffic has to be whole again, and nothing else may have been taken away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from labkit import bookinfo, cluster, istio
from labkit.course.checks import Check
from labkit.course.exercise import Exercise
from labkit.course.exercises.asking import answers, page
from labkit.course.exercises.tickets import destination_rule, gateway, policy, virtual_service
from labkit.ground.errors import ClusterError
from labkit.observe.access import Call, Caller

if TYPE_CHECKING:
    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES"]

_ASKED = 30
"""Of three versions taken at random, one gives all of them once in 2 · 10¹⁴."""

_MANY = 60
"""So many go to three versions by chance without one of them once in 10¹⁰."""

SHOP, OTHER = "bookshop.example", "casino.example"

_REVIEWS = Call("reviews", "http://reviews.bookinfo:9080/reviews/0")


def _asked(n: int, headers: Mapping[str, str] | None = None) -> tuple[dict[str, int], str]:
    """Which version of reviews answered how often, asked from inside; and the same in words."""
    try:
        seen = bookinfo.ask(n, headers=headers)
    except ClusterError as error:
        return {}, error.message.splitlines()[0]
    return seen, ", ".join(f"{'status ' * one.isdigit()}{one}: {count}" for one, count in seen.items())


def _for_all(lesson: Lesson) -> Iterator[Check]:
    seen, words = _asked(_ASKED)
    step = "503 with the flag NC: which subset does the rule lead to, and which does the DestinationRule define?"
    if "503" not in seen:
        step = "Which of the three versions has black stars? The last rule without a `match` says where all others go."
    yield Check("everybody gets v2", set(seen) == {"v2"}, words, step)
    seen, words = _asked(_ASKED, {"end-user": "jason"})
    step = "His rule was there, and right: mend the other one and leave his. `exercise.reset()` brings it back."
    yield Check("jason still gets v3", set(seen) == {"v3"}, words, step)
    yield from page("the page is whole", "`istio.follow('/productpage')`: which line is marked?")


def _status(path: str, host: str) -> str:
    """The status of a request from outside; in words where nobody answers."""
    try:
        return str(cluster.fetch(f"{istio.ingress(show=False).url}{path}", headers={"Host": host}).status)
    except ClusterError as error:
        return error.message.splitlines()[0]


def _door(lesson: Lesson) -> Iterator[Check]:
    seen = _status("/productpage", SHOP)
    step = "The gateway looks for a host that the Gateway **and** a VirtualService bound to it have: read both names."
    if not seen.isdigit():
        step = "No status: nobody listens. Does the Gateway's `selector` choose the gateway's pods?"
    yield Check(f"`{SHOP}` answers", seen == "200", seen, step)
    seen = _status("/productpage", OTHER)
    step = f"The shop is for `{SHOP}` only: `*` lets in every name."
    yield Check(f"`{OTHER}` gets 404, as before", seen == "404", seen, step)
    seen = _status("/details/0", SHOP)
    step = "The rule lets five paths in: keep its `match`, or details are open to all."
    yield Check("`/details/0` gets 404, as before", seen == "404", seen, step)


def _one_in_three(lesson: Lesson) -> Iterator[Check]:
    seen, words = _asked(_MANY)
    bad = {one: count for one, count in seen.items() if one.isdigit()}
    step = "503 with the flag UH: a subset without pods. Compare its labels with `kubectl get pods --show-labels`."
    yield Check("no request fails", bool(seen) and not bad, words, step)
    step = "Each version had its third. Mend the subset; do not take its share away."
    yield Check("all three versions answer", {"v1", "v2", "v3"} <= set(seen), words, step)
    yield from page("the page is whole", "`istio.follow('/productpage')`: which line is marked?")


def _all_at_once(lesson: Lesson) -> Iterator[Check]:
    step = "One after the other: `istio.follow('/productpage')` marks where it dies first. What is missing on the page?"
    yield from page("the page is whole, with details, reviews and stars", step)
    today = lesson.release.version != "1.2.2"
    # In 2019's release the sidecar's own container stands for who has none: nobody captures what it sends.
    caller = Caller("bookinfo", "ratings-v1", "ratings" if today else "istio-proxy")
    asked, problems = answers([caller], [_REVIEWS])
    yield from problems
    if asked is None:
        return
    claim = (
        "reviews still refuses ratings, which has no business there" if today else "reviews still refuses plain text"
    )
    step = "The demand was right, its name was wrong: let in `bookinfo-productpage`, and nobody else."
    if not today:
        step = "The demand was right, its callers were wrong: keep the Policy, and have callers use mutual TLS."
    yield asked.check(claim, caller, {"reviews": "403" if today else "reset"}, step)


_RED = "{match: [{headers: {end-user: {exact: jason}}}], route: [{destination: {host: reviews, subset: v3}}]}"
_BLACK = "{route: [{destination: {host: reviews, subset: black}}]}"
_THIRDS = ", ".join(
    f"{{destination: {{host: reviews, subset: {name}}}, weight: {weight}}}"
    for name, weight in (("v1", 34), ("v2", 33), ("v3", 33))
)
_NOBODY = destination_rule(
    "reviews",
    "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, "
    "{name: v3, labels: {version: v3, app: review}}]",
)
_PATHS = (
    "{exact: /productpage}",
    "{prefix: /static}",
    "{exact: /login}",
    "{exact: /logout}",
    "{prefix: /api/v1/products}",
)
_BOUND_WRONG = f"""
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {{name: bookinfo, namespace: bookinfo}}
spec:
  hosts: [{SHOP}]
  gateways: [bookinfo-gatway]
  http:
  - match: [{", ".join(f"{{uri: {path}}}" for path in _PATHS)}]
    route: [{{destination: {{host: productpage, port: {{number: 9080}}}}}}]
"""
_FAULT = virtual_service(
    "details",
    "{fault: {abort: {percentage: {value: 100}, httpStatus: 500}}, "
    "route: [{destination: {host: details, subset: v1}}]}",
)
_SIMPLE = destination_rule(
    "ratings", "trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: v1, labels: {version: v1}}]"
)

EXERCISES = (
    Exercise(
        name="no-reviews",
        title="No reviews, except for jason",
        task="“Since this morning the page says that reviews are unavailable. jason says that he sees them, with red "
        "stars.” Find it and mend it:\n\n"
        "- everybody gets **v2** of reviews, with black stars;\n"
        "- jason still gets **v3**: his rule was wanted.",
        hints=(
            "`istio.follow('/productpage')` marks the proxy where it dies, and its flag. Then `istio.diagnose()`.",
            "NC: the rule's last route leads to subset `black`, which no DestinationRule defines. Black stars are v2.",
        ),
        judge=_for_all,
        start=(virtual_service("reviews", _RED, _BLACK),),
    ),
    Exercise(
        name="the-door",
        title="404 at the new address",
        task=f"The shop has a name now: `{SHOP}`. It gets 404 there, and somebody says: “I have mended that already!” "
        "Mend it:\n\n"
        f"- `{SHOP}` answers (try it: `istio.follow('/productpage', headers={{'Host': '{SHOP}'}})`);\n"
        f"- `{OTHER}` goes on getting 404, and so does `/details/0`: only the page's own paths are open.",
        hints=(
            "404, by the gateway itself. Which hosts does it know? `istio.trace_route('ingress → productpage', "
            f"'/productpage', host='{SHOP}')`. There may be more than one fault.",
            "Two names are misspelt: a host in the Gateway, and the Gateway's own name in the VirtualService.",
        ),
        judge=_door,
        start={one: (gateway(one, "bookshop.exmaple"), _BOUND_WRONG) for one in ("1.2.2", "1.30.3")},
    ),
    Exercise(
        name="one-in-three",
        title="Now and then no reviews",
        task="“It fails now and then. When I look, it works.” One request for reviews in three fails; productpage "
        "hides many of them, as it asks twice. Mend it:\n\n"
        "- no request fails (`bookinfo.ask(60)` asks reviews itself);\n"
        "- all **three versions** go on answering.",
        hints=(
            "One in three: what is there three times? `istio.trace_route('productpage → reviews', '/reviews/0')` "
            "shows every branch.",
            "UH: the subset v3 of the DestinationRule `reviews` asks for labels that no pod has.",
        ),
        judge=_one_in_three,
        start=(virtual_service("reviews", f"{{route: [{_THIRDS}]}}"), _NOBODY),
    ),
    Exercise(
        name="all-at-once",
        title="All at once",
        task="Monday morning: neither details nor reviews. Three faults, and one of them shows only when another is "
        "mended. Mend them:\n\n"
        "- the page is whole, with details, reviews and stars;\n"
        "- what protects `reviews` **goes on protecting it**: 1.30.3: only productpage gets in (`ratings` gets 403); "
        "1.2.2: plain text is refused.",
        hints=(
            "Take them as they come: `istio.follow('/productpage')`, mend what is marked first, and look again. A 403, "
            "or UC, comes from a rule of security; UF with a TLS error from both sides' `tls`.",
            "details: a fault is left in its VirtualService. ratings: `tls: SIMPLE` in its DestinationRule. reviews, "
            "1.30.3: the policy names `productpage`, but the account is `bookinfo-productpage`; 1.2.2: a Policy asks "
            "for mutual TLS, and the DestinationRule has callers use none (`ISTIO_MUTUAL`).",
        ),
        judge=_all_at_once,
        start={one: (_FAULT, _SIMPLE, policy(one, "reviews", "productpage")) for one in ("1.2.2", "1.30.3")},
    ),
)
