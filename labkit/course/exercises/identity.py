# SPDX-License-Identifier: Apache-2.0
"""Exercises on identity and mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit import cluster
from labkit.course.checks import Check
from labkit.course.clients import DETAILS, client
from labkit.course.exercise import Exercise
from labkit.course.exercises.asking import answers, page
from labkit.ground.errors import ClusterError
from labkit.observe.access import Call
from labkit.observe.certificates import certificates

if TYPE_CHECKING:
    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES"]

_STRICT = {
    "1.2.2": """
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {name: default, namespace: bookinfo}
spec: {peers: [{mtls: {}}]}
""",
    "1.30.3": """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: bookinfo}
spec: {mtls: {mode: STRICT}}
""",
}
_ALL_MUTUAL = "samples/bookinfo/networking/destination-rule-all-mtls.yaml"
_PLAIN = """
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: details, namespace: bookinfo}
spec:
  host: details
  trafficPolicy: {tls: {mode: DISABLE}}
  subsets:
  - {name: v1, labels: {version: v1}}
"""
_AUDITOR = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: auditor, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: auditor}}
  template:
    metadata: {labels: {app: auditor}}
    spec:
      serviceAccountName: default
      terminationGracePeriodSeconds: 1
      containers:
      - {name: auditor, image: "docker.io/curlimages/curl:8.16.0", command: [/bin/sleep, infinity]}
"""
_WHO = "spiffe://cluster.local/ns/bookinfo/sa/auditor"


def _one_door(lesson: Lesson) -> Iterator[Check]:
    legacy, partner = (client(lesson.release, namespace) for namespace in ("legacy", "partner"))
    asked, problems = answers([legacy, partner])
    yield from problems
    if asked is None:
        return
    closed = dict.fromkeys(("productpage", "details", "reviews"), "not 200")
    yield asked.check(
        "who has no sidecar reaches ratings",
        legacy,
        {"ratings": "200"},
        "A rule for ratings alone has to take plain text; does it choose the pods of ratings (`app: ratings`)?",
    )
    yield asked.check(
        "who has no sidecar reaches nothing else",
        legacy,
        closed,
        "Does the namespace's own rule demand mutual TLS (STRICT)?",
    )
    yield asked.check(
        "who has a sidecar reaches all four",
        partner,
        dict.fromkeys((*closed, "ratings"), "200"),
        "503 is the answer of the caller's own sidecar: do caller and server agree? Look at the DestinationRules.",
    )
    yield from page("the page is whole", "What does the page say is missing? Who asks for it, and how?")


def _mended(lesson: Lesson) -> Iterator[Check]:
    legacy, partner = (client(lesson.release, namespace) for namespace in ("legacy", "partner"))
    asked, problems = answers([legacy, partner], [Call("details", DETAILS)])
    yield from problems
    if asked is None:
        return
    yield asked.check(
        "who has a sidecar reaches details",
        partner,
        {"details": "200"},
        "What does the DestinationRule for details tell its callers to speak, and what does details demand?",
    )
    yield asked.check(
        "details still refuses plain text",
        legacy,
        {"details": "not 200"},
        "The demand was right, the caller's rule was wrong: put STRICT back.",
    )
    yield from page("the page is whole", "`kubectl logs -n bookinfo deploy/productpage-v1 -c istio-proxy --tail=5`")


def _own_name(lesson: Lesson) -> Iterator[Check]:
    step = "`kubectl get pods -n bookinfo -l app=auditor`: is there a new pod, with 2 of 2 ready?"
    try:
        held = certificates("auditor", "bookinfo")
        names = sorted(set(held.loc[held["of"] == "workload", "identity"]))
    except ClusterError as error:
        yield Check("the auditor's sidecar holds a certificate", False, error.message.splitlines()[0], step)
        return
    asked_for = cluster.get("deployments.apps", "auditor", namespace="bookinfo")
    account = asked_for[0]["spec"]["template"]["spec"].get("serviceAccountName", "default") if asked_for else "nobody"
    seen = f"its certificate says {', '.join(names) or 'nothing yet'}; "
    seen += f"its Deployment asks for the ServiceAccount {account}"
    if account == "auditor":
        step = "Is there such a ServiceAccount in this namespace? A pod that asks for another one is never made."
    else:
        step = "An identity is the ServiceAccount of the pod, and nothing else: no label, no name of a Deployment."
    yield Check(f"its identity is {_WHO}", names == [_WHO], seen, step)


EXERCISES = (
    Exercise(
        name="one-door",
        title="One door for those without a sidecar",
        task="An old program in namespace `legacy`, without a sidecar, has to go on reading **ratings**. Everything "
        "else in namespace `bookinfo` is to demand mutual TLS.\n\n"
        "- `legacy` gets an answer from `ratings` (port 9080), and from no other service;\n"
        "- `partner`, which has a sidecar, gets one from all four;\n"
        "- the page is whole.",
        hints=(
            "Two rules: one for the whole namespace that demands mutual TLS, and one for `ratings` that is closer and "
            "so wins. 1.2.2 also needs callers that speak it: `destination-rule-all-mtls.yaml`.",
            "1.30.3: a second PeerAuthentication with `selector: {matchLabels: {app: ratings}}` and `portLevelMtls: "
            "{9080: {mode: PERMISSIVE}}`. 1.2.2: a Policy with `targets: [{name: ratings}]` and `peers: [{mtls: "
            "{mode: PERMISSIVE}}]`.",
        ),
        judge=_one_door,
    ),
    Exercise(
        name="mend-details",
        title="503: the details are missing",
        task="Somebody has changed a rule, and the page says that the product's details are missing. Find the rule and "
        "**mend it, without letting plain text in again**.\n\n"
        "- `partner` gets an answer from `details`; the page is whole;\n"
        "- `legacy`, without a sidecar, is still refused.",
        hints=(
            "503 with the flag UC comes from the **caller's** sidecar: it connected, and was cut off. So the server "
            "demands something that the caller does not do. `kubectl get destinationrules -n bookinfo -o yaml`",
            "The DestinationRule `details` says `tls: {mode: DISABLE}`. `ISTIO_MUTUAL` in its place says what the "
            "server demands; today, without any `tls`, sidecars find that out by themselves.",
        ),
        judge=_mended,
        start={
            "1.2.2": (_STRICT["1.2.2"], _ALL_MUTUAL, _PLAIN),
            "1.30.3": (_STRICT["1.30.3"], _PLAIN),
        },
    ),
    Exercise(
        name="own-name",
        title="An identity of its own",
        task="The Deployment `auditor` in namespace `bookinfo` runs as ServiceAccount `default`, like everything that "
        "says nothing else. A rule that lets it in would let all of those in. Give it an identity of its own: "
        f"`{_WHO}`.",
        hints=(
            "What part of a SPIFFE id is not the trust domain, and not the namespace? Which field of a pod says it?",
            "`kubectl create serviceaccount auditor -n bookinfo`, then `kubectl set serviceaccount deployment auditor "
            "auditor -n bookinfo`: the new pod's sidecar asks for a new certificate.",
        ),
        judge=_own_name,
        # In 1.2.2 a proxy shows its certificate once a rule has it use one.
        start={"1.2.2": (_ALL_MUTUAL, _AUDITOR), "1.30.3": (_AUDITOR,)},
    ),
)
