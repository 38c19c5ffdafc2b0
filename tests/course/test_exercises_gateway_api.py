# SPDX-License-Identifier: Apache-2.0
"""The exercises of 16-gateway-api through real Envoys: untouched, wrong answers, the solution, another right answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import cluster, istio
from labkit.cluster import cells
from labkit.course import clients
from labkit.course.lesson import Lesson
from tests.course.exercising import begun, checked, lesson_in, solution, solve, told, untouched
from tests.shops import Shop

pytestmark = [
    pytest.mark.long,
    pytest.mark.restored,
    # The lesson is about what no other release has.
    pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True, scope="session"),
]

NAME = "16-gateway-api"
EXERCISES = ["own-door", "mesh-canary", "two-consents"]
VERSION = "apiVersion: gateway.networking.k8s.io/v1"


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_in(shared_shop, NAME) as lesson:
        istio.install_gateway_api()
        yield lesson
        lesson.rules()
        clients.remove("library", "bazaar")


def gateway(name: str, listener: str = "", kind: str = "istio") -> str:
    return (
        f"{VERSION}\nkind: Gateway\nmetadata: {{name: {name}, namespace: bookinfo}}\n"
        f"spec: {{gatewayClassName: {kind}, listeners: [{{name: http, port: 80, protocol: HTTP{listener}}}]}}\n---\n"
    )


def route(name: str, parent: str, *rules: str, hosts: str = "") -> str:
    return (
        f"{VERSION}\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: bookinfo}}\n"
        f"spec:\n  parentRefs: [{parent}]\n  hostnames: [{hosts}]\n  rules:\n"
        + "".join(f"  - {rule}\n" for rule in rules)
        + "---\n"
    )


def path(value: str, service: str, kind: str = "PathPrefix") -> str:
    match = f"matches: [{{path: {{type: {kind}, value: {value}}}}}]"
    return f"{{{match}, backendRefs: [{{name: {service}, port: 9080}}]}}"


PAGE, DETAILS = path("/productpage", "productpage", "Exact"), path("/details", "details")
BOOKS, HOST = "{name: books}", "books.example"

REVIEWS = '{group: "", kind: Service, name: reviews, port: 9080}'
OF_JASON = "{matches: [{headers: [{name: end-user, value: jason}]}], backendRefs: [{name: reviews-v3, port: 9080}]}"


def weights(*parts: tuple[str, int]) -> str:
    refs = ", ".join(f"{{name: {name}, port: 9080, weight: {weight}}}" for name, weight in parts)
    return f"{{backendRefs: [{refs}]}}"


QUARTER = weights(("reviews-v1", 3), ("reviews-v3", 1))
BY_SUBSETS = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mine, namespace: bookinfo}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v3}}]
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 75}
    - {destination: {host: reviews, subset: v3}, weight: 25}
"""


def shared(allowed: str) -> str:
    return gateway("shared", f", allowedRoutes: {{namespaces: {{{allowed}}}}}")


def selecting(*names: str) -> str:
    wanted = f"{{key: kubernetes.io/metadata.name, operator: In, values: [{', '.join(names)}]}}"
    return f"from: Selector, selector: {{matchExpressions: [{wanted}]}}"


def grant(to: str, namespace: str = "bookinfo", whom: str = "library") -> str:
    source = f"{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: {whom}}}"
    return (
        f"{VERSION}beta1\nkind: ReferenceGrant\nmetadata: {{name: mine-{whom}, namespace: {namespace}}}\n"
        f'spec: {{from: [{source}], to: [{{group: "", kind: Service{to}}}]}}\n---\n'
    )


BOTH, TO_DETAILS = selecting("bookinfo", "library"), ", name: details"
LABELLED = "".join(
    f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{door: shared}}}}\n---\n"
    for name in ("bookinfo", "library")
)

WRONG = {
    "a Gateway of a class that nobody plays": (
        "own-door",
        gateway("books", kind="nobody") + route("mine", BOOKS, PAGE, DETAILS, hosts=HOST),
        [("Gateway books: Accepted Unknown, Pending", "has its `status`")],
    ),
    "a route to another Gateway": (
        "own-door",
        gateway("books") + route("mine", "{name: book}", PAGE, DETAILS, hosts=HOST),
        [("books.example/details/0: 404; HTTPRoute mine: nobody has written a status", "`parentRefs`")],
    ),
    "a route for all hosts and paths": (
        "own-door",
        gateway("books") + route("mine", BOOKS, PAGE, DETAILS, path("/", "productpage")),
        [
            ("other.example/productpage: 200", "`hostnames` in the route"),
            ("no other path is open: books.example/health: 200", "A prefix `/` is every path"),
        ],
    ),
    "a parent that is a Gateway": (
        "mesh-canary",
        route("mine", "{name: front}", OF_JASON, QUARTER),
        [("HTTPRoute mine: nobody has written a status", "says nothing about calls inside the mesh")],
    ),
    "weights the wrong way round": (
        "mesh-canary",
        route("mine", REVIEWS, OF_JASON, weights(("reviews-v1", 1), ("reviews-v3", 3))),
        [("with a quarter, chance gives", "as 3 to 1")],
    ),
    "a Service that is not there": (
        "mesh-canary",
        route("mine", REVIEWS, OF_JASON.replace("v3", "v4"), QUARTER),
        [("500: 30; HTTPRoute mine: ResolvedRefs False, BackendNotFound", "`parentRefs` name the Service")],
    ),
    "a VirtualService": (
        "mesh-canary",
        BY_SUBSETS,
        [("no VirtualService has a part in it: there is mine", "as an HTTPRoute")],
    ),
    "a Gateway for everybody, and a grant in the namespace of the route": (
        "two-consents",
        shared("from: All") + grant(TO_DETAILS, namespace="library"),
        [
            ("the Gateway takes no routes of bazaar: any.example/stall: 500", "`from: All` is everybody"),
            ("books/0: 500; HTTPRoute books: ResolvedRefs False, RefNotPermitted", "nobody in `bookinfo` has granted"),
        ],
    ),
    "a Gateway for the other namespace alone, and a way to every Service": (
        "two-consents",
        shared(selecting("library")) + grant(""),
        [
            ("productpage: 404; HTTPRoute page: Accepted False, NotAllowedByListeners", "in place of `Same`"),
            ("library has no way to ratings: any.example/scores/0: 200", "may have a `name`"),
        ],
    ),
}

RIGHT = {
    "two routes, and the host at the listener": (
        "own-door",
        gateway("books", f", hostname: {HOST}") + route("mine", BOOKS, PAGE) + route("mine-too", BOOKS, DETAILS),
    ),
    "two routes, and weights that make 100": (
        "mesh-canary",
        route("mine", REVIEWS, weights(("reviews-v3", 25), ("reviews-v2", 0), ("reviews-v1", 75)))
        + route("mine-of-jason", REVIEWS, OF_JASON),
    ),
    "namespaces by a label of one's own": (
        "two-consents",
        LABELLED + shared("from: Selector, selector: {matchLabels: {door: shared}}") + grant(TO_DETAILS),
    ),
}


@pytest.mark.parametrize("name", EXERCISES)
def test_untouched_is_not_solved(lesson: Lesson, name: str) -> None:
    untouched(begun(lesson, name))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_is_told_why(lesson: Lesson, case: str) -> None:
    name, answer, findings = WRONG[case]
    played = begun(lesson, name)
    cells.yaml("", answer)
    for seen, step in findings:
        told(played, seen, step)


@pytest.mark.parametrize("case", RIGHT)
def test_another_right_answer_is_right(lesson: Lesson, case: str) -> None:
    name, answer = RIGHT[case]
    solve(begun(lesson, name), answer)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right_also_after_a_half_done_attempt(lesson: Lesson, name: str) -> None:
    half_done = gateway("books", kind="nobody") + route("books", BOOKS, PAGE) + route("reviews", REVIEWS, QUARTER)
    played = begun(lesson, name)
    cells.yaml("", half_done)
    solve(played, *solution(NAME, name))
    checked(played)
    assert name in lesson.progress.exercises[NAME]


def test_the_rules_take_away_what_was_deployed_for_a_gateway(lesson: Lesson) -> None:
    cluster.apply(gateway("mine") + route("mine", "{name: mine}", PAGE) + grant(TO_DETAILS), show=False)
    ready = cluster.Ready("bookinfo", ("mine-istio",))
    cluster.wait_for(ready, timeout=240)
    lesson.rules()
    kinds = "gateways.gateway.networking.k8s.io,httproutes,referencegrants"
    assert cluster.get(kinds, namespace="bookinfo") == []
    assert not any(cluster.exists(kind, "mine-istio", namespace="bookinfo") for kind in ("deployment", "service"))


def test_what_an_exercise_begins_with_may_be_elsewhere_and_stays_where_nothing_differs(lesson: Lesson) -> None:
    played = begun(lesson, "two-consents")
    (before,) = cluster.get("gateways.gateway.networking.k8s.io", "shared", namespace="bookinfo")
    cluster.kubectl("delete namespace library bazaar", show=False)
    played.reset()
    assert cluster.exists("httproute", "books", namespace="library")
    (after,) = cluster.get("gateways.gateway.networking.k8s.io", "shared", namespace="bookinfo")
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "its proxy goes on"
