# SPDX-License-Identifier: Apache-2.0
"""Exercises on who may call whom: today's AuthorizationPolicy and RequestAuthentication."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit.course.checks import Check
from labkit.course.clients import CALLS, DETAILS, RATINGS, client
from labkit.course.exercise import Exercise
from labkit.course.exercises.asking import Asked, answers, page
from labkit.istio.tokens import ISSUER, jwks, token
from labkit.observe.access import Call, Caller

if TYPE_CHECKING:
    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES"]

_NOTHING = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow-nothing, namespace: bookinfo}
spec: {}
"""


def _allow(name: str, app: str, account: str) -> str:
    """A policy by which one service account may GET from one application."""
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: bookinfo}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  rules:
  - from: [{{source: {{principals: ["cluster.local/ns/{account}"]}}}}]
    to: [{{operation: {{methods: [GET]}}}}]
"""


_FROM_OUTSIDE = _allow("page-for-all", "productpage", "istio-system/sa/istio-ingressgateway-service-account")
_WHOLE = (
    _NOTHING,
    _FROM_OUTSIDE,
    _allow("details-for-page", "details", "bookinfo/sa/bookinfo-productpage"),
    _allow("reviews-for-page", "reviews", "bookinfo/sa/bookinfo-productpage"),
    _allow("ratings-for-reviews", "ratings", "bookinfo/sa/bookinfo-reviews"),
)
_TOKENS = f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: details-tokens, namespace: bookinfo}}
spec:
  selector: {{matchLabels: {{app: details}}}}
  jwtRules:
  - issuer: {ISSUER}
    jwks: '{jwks()}'
"""
_RATINGS = Caller("bookinfo", "ratings-v1", "ratings")
_SERVICES = tuple(call.name for call in CALLS)


def _page_again(lesson: Lesson) -> Iterator[Check]:
    yield from page(
        "the page is whole",
        "What is missing tells whom to let in: productpage asks details and reviews, reviews (v2 and v3) asks ratings.",
    )
    partner, legacy = client(lesson.release, "partner"), client(lesson.release, "legacy")
    asked, problems = answers([partner, legacy, _RATINGS])
    yield from problems
    if asked is None:
        return
    for caller in (partner, legacy):
        yield _refused(asked, caller, f"{caller.name} is refused by all four", "Whom do your rules name in `from`?")
    yield _refused(
        asked,
        _RATINGS,
        "ratings, which calls nobody, is refused by all four",
        "A whole namespace is more than who needs it: name the service accounts that ask, each for what it asks.",
    )


def _refused(asked: Asked, caller: Caller, claim: str, next_step: str) -> Check:
    return asked.check(claim, caller, dict.fromkeys(_SERVICES, "403"), next_step)


def _read_only(lesson: Lesson) -> Iterator[Check]:
    partner, legacy = client(lesson.release, "partner"), client(lesson.release, "legacy")
    calls = [
        Call("GET /ratings/0", RATINGS),
        Call("GET /ratings/7", "http://ratings.bookinfo:9080/ratings/7"),
        Call("POST /ratings/0", RATINGS, "POST"),
        Call("GET /health", "http://ratings.bookinfo:9080/health"),
        Call("GET details", DETAILS),
    ]
    asked, problems = answers([partner, legacy], calls)
    yield from problems
    if asked is None:
        return
    yield asked.check(
        "partner reads the ratings of every product",
        partner,
        {"GET /ratings/0": "200", "GET /ratings/7": "200"},
        "A path is compared whole; `/ratings/*` is every path that begins so.",
    )
    yield asked.check(
        "partner writes none",
        partner,
        {"POST /ratings/0": "403"},
        "A rule that names no method allows every one.",
    )
    yield asked.check(
        "partner gets no other path of ratings, and no other service",
        partner,
        {"GET /health": "403", "GET details": "403"},
        "A rule without `to` allows every path, a policy without `selector` speaks of every workload.",
    )
    yield asked.check(
        "legacy, which proves no identity, gets nothing",
        legacy,
        dict.fromkeys((call.name for call in calls), "403"),
        "Does your rule have a `from`? Without one it is for everybody.",
    )
    yield from page(
        "the page is whole", "Do the rules that were there still stand? `exercise.reset()` brings them back."
    )


def _by_token(lesson: Lesson) -> Iterator[Check]:
    partner = client(lesson.release, "partner")
    reader = token("ann", groups=["readers"])
    tokens = {
        "none": "",
        "broken": f"{reader[:-8]}AAAAAAAA",
        "expired": token("ann", seconds=-3600, groups=["readers"]),
        "writers": token("bob", groups=["writers"]),
        "readers": reader,
    }
    calls = [
        Call(name, DETAILS, headers={"Authorization": f"Bearer {one}"} if one else {}) for name, one in tokens.items()
    ]
    asked, problems = answers([partner], calls)
    yield from problems
    if asked is None:
        return
    yield asked.check(
        "a token of the group readers lets partner in",
        partner,
        {"readers": "200"},
        f"401: the issuer ({ISSUER}) or its keys are not what the token says. 403: no rule allows what it claims; "
        "without a RequestAuthentication nobody reads it.",
    )
    yield asked.check(
        "without a token partner is refused",
        partner,
        {"none": "403"},
        "A RequestAuthentication refuses bad tokens, and lets pass who shows none: an AuthorizationPolicy has to ask.",
    )
    yield asked.check(
        "a token of another group does not let it in",
        partner,
        {"writers": "403"},
        "Is there a `when` with the key `request.auth.claims[groups]`? All parts of one rule must hold; one rule of "
        "several is enough.",
    )
    yield asked.check(
        "broken and expired tokens are refused as such",
        partner,
        {"broken": "401", "expired": "401"},
        "401 comes from the RequestAuthentication: does it choose the pods of details?",
    )
    yield from page("the page is whole: productpage shows no token", "Is the rule for productpage still there?")


EXERCISES = (
    Exercise(
        name="page-again",
        title="The whole page, and nobody else",
        task="Nothing is allowed in `bookinfo` but the page itself, from outside. Let in **exactly who needs it**:\n\n"
        "- the page is whole again, with details, reviews and stars;\n"
        "- `partner`, `legacy`, and `ratings` (which calls nobody) get 403 from all four services.",
        hints=(
            "Follow the calls: productpage asks details and reviews; reviews asks ratings. So three workloads need a "
            "rule each. Who asks has an identity, of its ServiceAccount: `bookinfo-productpage`, `bookinfo-reviews`.",
            "Three times `page-for-all` with another `selector`, and in `principals` "
            "`cluster.local/ns/bookinfo/sa/bookinfo-productpage` (twice) and `…/bookinfo-reviews` (for ratings).",
        ),
        judge=_page_again,
        start=(_NOTHING, _FROM_OUTSIDE),
        releases=("1.30.3",),
    ),
    Exercise(
        name="read-only",
        title="Ratings to read, not to write",
        task="Namespace `partner` may read ratings now, whoever it is there, and no more than that:\n\n"
        "- GET of `/ratings/0`, `/ratings/7` and any other product is answered;\n"
        "- POST is not, nor is `/health`, nor another service;\n"
        "- `legacy`, without a sidecar, gets nothing. BookInfo goes on as before.",
        hints=(
            "One more policy, for `app: ratings`: rules add up, and it is enough that one allows. What stands in "
            "`from`, and what in `to`?",
            "`from: [{source: {namespaces: [partner]}}]` and `to: [{operation: {methods: [GET], paths: "
            '["/ratings/*"]}}]`, both in **one** rule.',
        ),
        judge=_read_only,
        start=_WHOLE,
        releases=("1.30.3",),
    ),
    Exercise(
        name="by-token",
        title="Details for readers",
        task=f"People come through `partner`, and show who they are by a token of `{ISSUER}`. A RequestAuthentication "
        "for details is there already. Let `partner` get **details**, but only with a token whose claim `groups` has "
        "`readers`.\n\n"
        "- no token, or one of another group: 403; a broken or expired one: 401;\n"
        "- productpage, which has no token, goes on as before.",
        hints=(
            "The RequestAuthentication refuses bad tokens, and no more. One more AuthorizationPolicy for "
            "`app: details` says whom to let in: who calls **and** what the token claims, in one rule.",
            "`from: [{source: {namespaces: [partner]}}]` and `when: [{key: "
            '"request.auth.claims[groups]", values: [readers]}]`.',
        ),
        judge=_by_token,
        start=(*_WHOLE, _TOKENS),
        releases=("1.30.3",),
    ),
)
