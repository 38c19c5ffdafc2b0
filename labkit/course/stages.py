# SPDX-License-Identifier: Apache-2.0
"""The stages of the course: what each brings, how to tell that it is there, and the short way to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labkit import bookinfo, cluster, display, istio
from labkit.choice import chosen
from labkit.course.checks import Check
from labkit.ground.errors import CheckError, ClusterError

__all__ = ["STAGES", "Stage", "catch_up"]

GATEWAY = "samples/bookinfo/networking/bookinfo-gateway.yaml"
DESTINATION_RULES = "samples/bookinfo/networking/destination-rule-all.yaml"


@dataclass(frozen=True)
class Stage:
    """A state of the cluster that lessons build on.

    Args:
        name: What `needs` calls it.
        lesson: The lesson that brings it.
        claim: What is then so.
        seen: None if it is so, else what is seen instead.
        reach: Brings it, without the lesson's explanations.
    """

    name: str
    lesson: str
    claim: str
    seen: Callable[[istio.Release], str | None]
    reach: Callable[[istio.Release], object]

    def check(self, release: istio.Release) -> Check:
        """Whether it is there."""
        seen = self.seen(release)
        step = f'Play {self.lesson} first; or, in a hurry: `course.catch_up("{self.name}", "{release.version}")`.'
        return Check(self.claim, seen is None, seen or "yes", step)


def _all_ready(namespace: str, names: tuple[str, ...] = ()) -> str | None:
    return cluster.Ready(namespace, names).look()


def _istio_seen(release: istio.Release) -> str | None:
    seen = _all_ready("istio-system")
    if seen is None and (theirs := istio.claimed(release, cluster.look())):
        return f"it is somebody else's: {', '.join(map(str, theirs[:3]))}"
    return seen


def _bookinfo_seen(release: istio.Release) -> str | None:
    seen = _all_ready("bookinfo", bookinfo.WORKLOADS)
    if seen is not None:
        return seen
    # What else is there, such as a gateway that Istio has deployed, needs none.
    own = (w for w in cluster.readiness("bookinfo").workloads if w.name in bookinfo.WORKLOADS)
    bare = [w.name for w in own if w.containers == "1/1"]
    return f"no sidecar in {', '.join(bare)}" if bare else None


def _gateway_seen(release: istio.Release) -> str | None:
    if not cluster.exists("gateways.networking.istio.io", "bookinfo-gateway", namespace="bookinfo"):
        return "no Gateway bookinfo-gateway in namespace bookinfo"
    return cluster.Answers(f"{istio.ingress(show=False).url}/productpage").look()


def _rules_seen(release: istio.Release) -> str | None:
    if cluster.exists("destinationrules.networking.istio.io", "reviews", namespace="bookinfo"):
        return None
    return "no DestinationRule reviews in namespace bookinfo"


def _reach_gateway(release: istio.Release) -> None:
    cluster.apply(release.path / GATEWAY, namespace="bookinfo")
    cluster.wait_for(cluster.Answers(f"{istio.ingress().url}/productpage"), timeout=60)


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "istio",
            "01-install-istio",
            "Istio is installed and ready",
            _istio_seen,
            lambda release: istio.install(release),
        ),
        Stage(
            "bookinfo",
            "02-bookinfo",
            "BookInfo runs with its sidecars",
            _bookinfo_seen,
            lambda release: bookinfo.deploy(release),
        ),
        Stage("gateway", "03-ingress", "BookInfo answers through the ingress gateway", _gateway_seen, _reach_gateway),
        Stage(
            "destination-rules",
            "03-ingress",
            "BookInfo's subsets are defined",
            _rules_seen,
            lambda release: cluster.apply(release.path / DESTINATION_RULES, namespace="bookinfo"),
        ),
    )
}
"""In the order in which they build on each other."""


def catch_up(stage: str, release: str = "") -> None:
    """Bring the cluster to a stage, without the lessons on the way; what is there already stays.

    Args:
        stage: "istio", "bookinfo", "gateway" or "destination-rules".
        release: The Istio release; "" for what the course runs on.

    Raises:
        CheckError: There is no such stage.
        ClusterError: The cluster refused something.
    """
    if stage not in STAGES:
        raise CheckError(f"there is no stage {stage!r}", next_step=f"The stages: {', '.join(STAGES)}.")
    known = istio.release(chosen(release).release)
    for one in STAGES.values():
        if not _is_there(one, known):
            one.reach(known)
        display.show(one.check(known).rich())
        if one.name == stage:
            return


def _is_there(stage: Stage, release: istio.Release) -> bool:
    try:
        return stage.seen(release) is None
    except ClusterError:
        return False
