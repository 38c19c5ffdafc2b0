# SPDX-License-Identifier: Apache-2.0
"""Exercises on the Kubernetes Gateway API: a door of one's own, a canary inside the mesh, a route from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit import bookinfo, cluster
from labkit.course.checks import Check
from labkit.course.exercise import Exercise
from labkit.course.exercises.asking import page, share, told
from labkit.ground.errors import LabError

if TYPE_CHECKING:
    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES"]

_VERSIONS = "samples/bookinfo/platform/kube/bookinfo-versions.yaml"
_HOST = "books.example"
_MANY = 250
_FEW = 30

_SHARED = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: shared
  namespace: bookinfo
  annotations: {networking.istio.io/service-type: ClusterIP}
spec:
  gatewayClassName: istio
  listeners:
  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Same}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: page, namespace: bookinfo}
spec:
  parentRefs: [{name: shared}]
  rules:
  - matches: [{path: {type: Exact, value: /productpage}}]
    backendRefs: [{name: productpage, port: 9080}]
---
apiVersion: v1
kind: Namespace
metadata: {name: library}
---
apiVersion: v1
kind: Namespace
metadata: {name: bazaar}
"""


def _from_elsewhere(namespace: str, name: str, service: str, to: str) -> str:
    """A route of another namespace to one of BookInfo's services, below its own name."""
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{name: shared, namespace: bookinfo}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]
    filters:
    - {{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: {to}}}}}}}
    backendRefs: [{{name: {service}, namespace: bookinfo, port: 9080}}]
"""


def _through(gateway: str, *urls: str) -> tuple[dict[str, int], Check]:
    """Ask through the Service that Istio makes for a Gateway.

    Args:
        gateway: The Gateway's name.
        urls: What to ask for, as "host/path".

    Returns:
        Their statuses, and the finding that it answers; no statuses where nobody does.
    """
    claim, got = f"the Gateway {gateway} answers at its port 80", {}
    try:
        with cluster.port_forward(f"svc/{gateway}-istio", 80, namespace="bookinfo", show=False, timeout=3) as door:
            for url in urls:
                host, _, path = url.partition("/")
                got[url] = cluster.fetch(f"{door.url}/{path}", headers={"Host": host}).status
    except LabError as error:
        seen = "; ".join([error.message.splitlines()[0], *_objections("Gateway")])
        return {}, Check(claim, False, seen, f"`kubectl get gtw {gateway} -n bookinfo -o yaml` has its `status`.")
    return got, Check(claim, True)


def _objections(kind: str, namespace: str = "bookinfo") -> Iterator[str]:
    """What the status of the objects of a kind says against them."""
    for one in cluster.get(f"{kind.lower()}s.gateway.networking.k8s.io", namespace=namespace):
        status, name = one.get("status") or {}, f"{kind} {one['metadata']['name']}"
        parents = status.get("parents") or [] if kind == "HTTPRoute" else [status]
        if not parents:
            yield f"{name}: nobody has written a status"
        for condition in (each for parent in parents for each in parent.get("conditions") or []):
            if condition["type"] in ("Accepted", "Programmed", "ResolvedRefs") and condition["status"] != "True":
                yield f"{name}: {condition['type']} {condition['status']}, {condition['reason']}"


def _told(statuses: dict[str, int], *urls: str, namespace: str = "bookinfo") -> str:
    """Statuses, and where one is not 200 what there is against routes of a namespace."""
    seen = ", ".join(f"{url}: {statuses[url]}" for url in urls)
    fine = all(statuses[url] == 200 for url in urls)
    return "; ".join([seen, *([] if fine else _objections("HTTPRoute", namespace))])


def _own_door(lesson: Lesson) -> Iterator[Check]:
    wanted = (f"{_HOST}/productpage", f"{_HOST}/details/0")
    closed = (f"{_HOST}/health", f"{_HOST}/")
    others = ("other.example/productpage", "other.example/details/0")
    found, answers = _through("books", *wanted, *closed, *others)
    yield answers
    if found:
        yield Check(
            "the page and the details come",
            all(found[url] == 200 for url in wanted),
            _told(found, *wanted),
            f"A route with `parentRefs` to the Gateway `books`, for the host `{_HOST}`, and a rule for each Service.",
        )
        yield Check(
            "no other path is open",
            all(found[url] == 404 for url in closed),
            ", ".join(f"{url}: {found[url]}" for url in closed),
            "A prefix `/` is every path, and so is a rule without `matches`. What fits no rule gets 404.",
        )
        yield Check(
            "other hosts get nothing",
            all(found[url] == 404 for url in others),
            ", ".join(f"{url}: {found[url]}" for url in others),
            "`hostnames` in the route, or `hostname` in the listener, says for which hosts it is.",
        )
    yield from page("the ingress gateway goes on as before", "`exercise.reset()` brings its rules back.")


def _mesh_canary(lesson: Lesson) -> Iterator[Check]:
    jason = bookinfo.ask(_FEW, headers={"end-user": "jason"})
    yield Check(
        "jason gets v3, every time",
        jason == {"v3": _FEW},
        "; ".join([told(jason), *_objections("HTTPRoute")]),
        "A rule with `matches` on the header `end-user`, in a route whose `parentRefs` name the Service `reviews`: one "
        "at a Gateway says nothing about calls inside the mesh.",
    )
    rest = bookinfo.ask(_MANY)
    step = "Two `backendRefs` in one rule, whose weights are as 3 to 1."
    yield share("of the others one in four gets v3", rest, _MANY, 0.25, "a quarter", step)
    yield Check(
        "and all the rest v1",
        rest.keys() <= {"v1", "v3"} and rest.get("v1", 0) > 0,
        told(rest),
        "The Services `reviews-v1` and `reviews-v3`: `reviews` itself has all versions. 500 means that a Service that "
        "is named is not there.",
    )
    rules = cluster.get("virtualservices.networking.istio.io", namespace="bookinfo")
    own = [one["metadata"]["name"] for one in rules if "reviews" in str((one.get("spec") or {}).get("hosts"))]
    yield Check(
        "no VirtualService has a part in it",
        not own,
        f"there is {', '.join(own)}" if own else "none is for reviews",
        "Say the same as an HTTPRoute, and take the VirtualService away.",
    )


def _two_consents(lesson: Lesson) -> Iterator[Check]:
    books, scores, stall, own = urls = [
        f"any.example/{path}" for path in ("books/0", "scores/0", "stall", "productpage")
    ]
    found, answers = _through("shared", *urls)
    yield answers
    if not found:
        return
    yield Check(
        "/books/0 is answered by details",
        found[books] == 200,
        _told(found, books, namespace="library"),
        "404: the Gateway takes no routes of `library` (`allowedRoutes`). 500: it does, and nobody in `bookinfo` has "
        "granted the way to `details` (ReferenceGrant).",
    )
    yield Check(
        "library has no way to ratings",
        found[scores] in (404, 500),
        f"{scores}: {found[scores]}",
        "`to` of a ReferenceGrant may have a `name`; without one it is every Service of its namespace.",
    )
    yield Check(
        "the Gateway takes no routes of bazaar",
        found[stall] == 404,
        f"{stall}: {found[stall]}",
        "Any other answer says that the route is at the Gateway. `from: All` is everybody; with `from: Selector` it is "
        "the namespaces whose labels fit, and each has the label `kubernetes.io/metadata.name`.",
    )
    yield Check(
        "bookinfo's own route still holds",
        found[own] == 200,
        _told(found, own),
        "A selector stands in place of `Same`: bookinfo has to be among the namespaces that fit.",
    )


EXERCISES = (
    Exercise(
        name="own-door",
        title="A door of your own",
        task=f"""BookInfo gets a second door: a Gateway **`books`** of class `istio` in namespace `bookinfo`,
that listens on port 80. For the host **`{_HOST}`**:

- `/productpage` shows the page, and `/details/0` (and all below `/details`) is answered by the Service `details`;
- every other path gets 404, and so does every other host.

The ingress gateway goes on as before.""",
        hints=(
            "Two objects. The Gateway opens a port (with the annotation `networking.istio.io/service-type: ClusterIP` "
            "where there is no load balancer). The HTTPRoute names it in `parentRefs`, and a host in `hostnames`.",
            "Two rules: `matches: [{path: {type: Exact, value: /productpage}}]` with `backendRefs: [{name: "
            "productpage, port: 9080}]`, and the type `PathPrefix` with `/details` for `details`.",
        ),
        judge=_own_door,
        releases=("1.30.3",),
    ),
    Exercise(
        name="mesh-canary",
        title="A canary by weights, inside the mesh",
        task="""Version 3 of `reviews` is to be tried, **without a VirtualService**:

- `jason` (header `end-user`) gets `v3`, always;
- of all others **one request in four** gets `v3`, the rest `v1`. Nobody gets `v2`.

The Services `reviews-v1`, `reviews-v2` and `reviews-v3` are there. Who judges asks from inside the mesh, 250 times,
and knows what chance does.""",
        hints=(
            'An HTTPRoute whose parent is no Gateway but a Service: `parentRefs: [{group: "", kind: Service, name: '
            "reviews, port: 9080}]`. Two rules: one for jason, one for everybody.",
            "`matches: [{headers: [{name: end-user, value: jason}]}]` leads to `reviews-v3`; the rule without "
            "`matches` to `{name: reviews-v1, port: 9080, weight: 3}` and `{name: reviews-v3, port: 9080, weight: 1}`.",
        ),
        judge=_mesh_canary,
        start=(_VERSIONS,),
        releases=("1.30.3",),
    ),
    Exercise(
        name="two-consents",
        title="A reference across namespaces",
        task="""The Gateway `shared` in `bookinfo` has a route of its own (`page`). Others stand ready elsewhere,
and do nothing so far: `books` (to details) and `scores` (to ratings) in namespace `library`, `stall` in `bazaar`.
**Let in exactly one**; no route has to be changed for it:

- through `shared`, `/books/0` is answered by details;
- `/scores/0` is not answered by ratings, and the Gateway does not take `stall` at all (404);
- `/productpage` goes on.""",
        hints=(
            "Two consents are missing: of the Gateway, whose `allowedRoutes` say which namespaces may attach routes; "
            "and of the namespace of the Service, by a ReferenceGrant *there*. `kubectl get httproute books -n library "
            "-o yaml` says which is missing now.",
            "`allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: "
            "kubernetes.io/metadata.name, operator: In, values: [bookinfo, library]}]}}}`; and a ReferenceGrant in "
            "`bookinfo`, from HTTPRoutes of `library` to the Service `details` by name.",
        ),
        judge=_two_consents,
        start=(
            _SHARED,
            _from_elsewhere("library", "books", "details", "/details"),
            _from_elsewhere("library", "scores", "ratings", "/ratings"),
            _from_elsewhere("bazaar", "stall", "productpage", "/productpage"),
        ),
        releases=("1.30.3",),
    ),
)
