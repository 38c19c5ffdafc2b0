# SPDX-License-Identifier: Apache-2.0
"""Exercises of 11-load-balancing: a caller stays with one pod, broken pods are left out, what is too much is shed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit import bookinfo, istio
from labkit.cluster import fetch
from labkit.course.checks import Check
from labkit.course.exercise import Exercise
from labkit.course.exercises.counters import has_fault
from labkit.ground.errors import ClusterError

if TYPE_CHECKING:
    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES"]

_USERS = 30
"""Who goes to one of three pods by chance all go to the same one once in 10⁹ times, as uneven as a ring may be."""

_REQUESTS = 60
"""With one broken pod of three left, none of so many fails once in 10¹⁰ times."""

_AT_ONCE, _SHED = 12, 4
_ANSWER, _LIMIT = 0.5, 2.0
"""Seconds: what one answer of the slow service takes, and what a caller may wait for an answer or a refusal."""

_BACK = "`exercise.reset()` brings back what this exercise begins with."
_SPARE, _BROKEN = "ratings-spare", "ratings-broken"

_DOORS = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: doors, namespace: bookinfo}
spec:
  hosts: ['*']
  gateways: [bookinfo-gateway]
  http:
  - match: [{uri: {prefix: /reviews}}]
    retries: {attempts: 1, retryOn: connect-failure}
    route: [{destination: {host: reviews, subset: v2, port: {number: 9080}}}]
  - match: [{uri: {prefix: /ratings}}]
    retries: {attempts: 1, retryOn: connect-failure}
    route: [{destination: {host: ratings, port: {number: 9080}}}]
"""

_SLOW = f"""
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {{name: ratings, namespace: bookinfo}}
spec:
  hosts: [ratings]
  http:
  - fault: {{delay: {{percentage: {{value: 100}}, fixedDelay: {_ANSWER:g}s}}}}
    route: [{{destination: {{host: ratings, subset: v1}}}}]
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {{name: reviews, namespace: bookinfo}}
spec:
  host: reviews
  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 2}}}}}}
  subsets: [{{name: v2, labels: {{version: v2}}}}]
"""

_PODS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: bookinfo}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: ratings, version: NAME}}
  template:
    metadata: {labels: {app: ratings, version: NAME}}
    spec:
      serviceAccountName: bookinfo-ratings
      containers:
      - image: docker.io/istio/examples-bookinfo-ratings-v1:1.20.3
        name: ratings
        ports: [{containerPort: 9080}]
        command: COMMAND
"""


def _start(spare: int, broken: int, *more: str) -> tuple[str, ...]:
    """Further pods of the Service `ratings`; in the broken ones the program does not run, so that nobody answers."""
    sleeps = "[sleep, infinity]"
    pods = (_PODS.replace("NAME", _SPARE), spare, "[]"), (_PODS.replace("NAME", _BROKEN), broken, sleeps)
    return (*(one.replace("REPLICAS", str(n)).replace("COMMAND", command) for one, n, command in pods), _DOORS, *more)


def _stays(lesson: Lesson) -> Iterator[Check]:
    url, look = istio.ingress(show=False).url, uuid.uuid4().hex
    before = istio.endpoints("ingress", "ratings")["requests"]
    kept = 0
    try:
        for number in range(_USERS):
            where, who = f"{url}/ratings/{1000 + number}", {"x-user": f"user-{number}"}
            fetch(where, headers=who | {"Content-Type": "application/json"}, post=json.dumps({look: 1}))
            kept += look in fetch(where, headers=who).text
    except ClusterError as error:
        yield Check("ratings answers at the gateway", False, error.message, _BACK)
        return
    yield Check(
        "who gives stars sees them again",
        kept == _USERS,
        f"{kept} of {_USERS} users",
        "Each wrote once and read once, both with the header `x-user`. Which field of a DestinationRule makes requests "
        "with the same header value go the same way?",
    )
    gained = istio.endpoints("ingress", "ratings")["requests"].sub(before, fill_value=0)
    used, there = int((gained > 0).sum()), len(gained)
    yield Check(
        "the users are spread over the pods",
        used > 1,
        f"{used} of {there} pods got their requests",
        "Requests that look alike to the hash all go to one pod: take what differs from user to user.",
    )


def _ejects(lesson: Lesson) -> Iterator[Check]:
    url = f"{istio.ingress(show=False).url}/ratings/0"
    # By these Envoy finds out who fails.
    bookinfo.load(url, _REQUESTS, rate=300)
    before = istio.endpoints("ingress", "ratings")
    sent = bookinfo.load(url, _REQUESTS, rate=300)
    after = istio.endpoints("ingress", "ratings")
    good = int((sent["status"] == 200).sum())
    yield Check(
        f"all of the last {_REQUESTS} requests succeed",
        good == _REQUESTS,
        f"{good} of {_REQUESTS}",
        "Outlier detection has to leave out both of the broken pods. How many of four may be left out is "
        "`maxEjectionPercent`, 10 where nothing is said.",
    )
    broken = [name for name in after.index if name.startswith(_BROKEN)]
    gained = after["requests"].sub(before["requests"], fill_value=0)
    asked = int(gained[broken].sum())
    yield Check(
        "the broken pods are asked no more",
        asked == 0 and int(gained.sum()) >= _REQUESTS,
        f"{asked} of the last {int(gained.sum())} tries went to them",
        "A retry hides an error from the visitor; the pod is asked all the same.",
    )
    yield Check(
        "the pods are as they were",
        len(broken) == 2,
        f"{len(broken)} broken pods among the endpoints",
        f"They are not yours to mend, nor to hide. {_BACK}",
    )


def _sheds(lesson: Lesson) -> Iterator[Check]:
    url = f"{istio.ingress(show=False).url}/reviews/0"
    sent = bookinfo.load(url, _AT_ONCE, rate=200, workers=_AT_ONCE)
    slowest = float(sent["latency"].max())
    yield Check(
        f"nobody waits longer than {_LIMIT:g} s",
        slowest <= _LIMIT,
        f"the slowest waited {slowest:.1f} s",
        "They queue for one of two connections. How long the queue may be is another field of `connectionPool`.",
    )
    refused = sent[sent["status"] == 503]
    late = float(refused["latency"].max()) if len(refused) else 0.0
    yield Check(
        "what is too much is refused at once, with 503",
        len(refused) >= _SHED and late < _ANSWER,
        f"{len(refused)} of {_AT_ONCE} were refused" + (f", the last after {late:.2f} s" if len(refused) else ""),
        f"At least {_SHED} of {_AT_ONCE}: the service bears two at a time, so leave the limit of connections. A "
        "`timeout` refuses as well, but only after a wait, and with 504.",
    )
    served = int((sent["status"] == 200).sum())
    yield Check("the others are served", served >= 2, f"{served} of {_AT_ONCE}", _BACK)
    slow = has_fault("ratings", "delay")
    yield Check("ratings is as slow as before", slow, "yes" if slow else "it has no delay any more", _BACK)


EXERCISES = (
    Exercise(
        name="stay",
        title="A user stays with one pod",
        task="""`ratings` has three pods, and each keeps the stars it was given in its own memory. Who gives stars at
the gateway (`POST /ratings/7`) and looks again often asks another pod, which knows nothing of them.

Each request says in the header `x-user` whose it is. Have **each user stay with one pod**, while the users as a whole
are spread over the pods.""",
        hints=(
            "It is the gateway's Envoy that chooses, and how it does is in the `trafficPolicy` of the DestinationRule "
            "for `ratings`: look at `loadBalancer`.",
            "`loadBalancer: {consistentHash: {httpHeaderName: …}}`, with the header that tells users apart.",
        ),
        judge=_stays,
        start=_start(2, 0),
    ),
    Exercise(
        name="eject",
        title="Leave out the pods that fail",
        task="""`ratings` has four pods, and in **two of them** the program does not run. Kubernetes thinks them ready,
so up to every second request for `/ratings/0` at the gateway fails with 503.

Have the gateway's Envoy find out by itself whom to leave out: after some errors **no request goes to the broken pods**
any more. Leave the Deployments as they are.""",
        hints=(
            "`outlierDetection` in the `trafficPolicy` of the DestinationRule for `ratings`. After how many errors is "
            "a pod left out, and how many of the pods may be?",
            "`consecutive5xxErrors: 3` (Istio 1.2.2: `consecutiveErrors: 3`), `baseEjectionTime: 60s` and a "
            "`maxEjectionPercent` that two of four pods fit in.",
        ),
        judge=_ejects,
        start=_start(1, 2),
    ),
    Exercise(
        name="shed",
        title="Shed what is too much",
        task=f"""`reviews` takes {_ANSWER:g} s for an answer now, and bears two requests at a time. Somebody has limited
the connections to two (DestinationRule `reviews`). So the service is safe, but of {_AT_ONCE} callers who come at once
the last one waits for {_AT_ONCE / 2 * _ANSWER:g} s.

Keep the limit, and let **nobody wait longer than {_LIMIT:g} s**: who is too many is told so **at once**, by a 503.""",
        hints=(
            "A request that finds no connection waits for one. Envoy counts those that wait, and there is a limit for "
            "them as well, next to the one for connections.",
            "`connectionPool: {tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: …}}`; how many may wait so "
            "that the last one still has its answer in time?",
        ),
        judge=_sheds,
        start=_start(0, 0, _SLOW),
    ),
)
