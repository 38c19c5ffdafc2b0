# SPDX-License-Identifier: Apache-2.0
"""Where pods run beside others: what a real scheduler of Kubernetes 1.35.4 decided and said, on one node."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.controllers.meta import condition

from .conftest import Cluster, pod_spec

HERE = "labkit.dev/here"
NONE = "0/1 nodes are available: 1 node(s) didn't "
VAIN = " no new claims to deallocate, preemption: 0/1 nodes are available: 1 "
NOBODY, HELPLESS = (
    f"{VAIN}No preemption victims found for incoming pod.",
    f"{VAIN}Preemption is not helpful for scheduling.",
)


def create(cluster: Cluster, name: str, app: str, **spec: Any) -> None:
    made = {"metadata": {"name": name, "labels": {"app": app}}, "spec": pod_spec(**spec)}
    cluster.objects.create("pods", made, "default")


def term(app: str, **more: Any) -> dict[str, Any]:
    return {"topologyKey": HERE, "labelSelector": {"matchLabels": {"app": app}}, **more}


def near(*terms: Any) -> dict[str, Any]:
    return {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}}


def apart(*terms: Any) -> dict[str, Any]:
    return {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}}


def spread(**more: Any) -> dict[str, Any]:
    one = {"maxSkew": 1, "topologyKey": HERE, "whenUnsatisfiable": "DoNotSchedule", **more}
    return {"topologySpreadConstraints": [{"labelSelector": {"matchLabels": {"app": "web"}}, **one}]}


def said(cluster: Cluster, name: str) -> str:
    """Where a pod got to: "" on the node, else why not."""
    pod = cluster.objects.get("pods", name, "default")
    told = condition(pod["status"], "PodScheduled") or {}
    return "" if pod["spec"].get("nodeName") else str(told.get("message"))


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (near(term("web")), ""),
        (near(term("nobody")), f"{NONE}match pod affinity rules.{HELPLESS}"),
        # The first of its like may go anywhere, not the first of others.
        (near(term("new")), ""),
        (near(term("new"), term("web")), f"{NONE}match pod affinity rules.{HELPLESS}"),
        (near({**term("web"), "topologyKey": "zone"}), f"{NONE}match pod affinity rules.{HELPLESS}"),
        (near(term("web", namespaces=["kube-system"])), f"{NONE}match pod affinity rules.{HELPLESS}"),
        (near(term("web", namespaceSelector={})), ""),
        (near(term("web", matchLabelKeys=["app"])), f"{NONE}match pod affinity rules.{HELPLESS}"),
        (apart(term("web")), f"{NONE}match pod anti-affinity rules.{NOBODY}"),
        (apart(term("nobody")), ""),
        (apart({**term("web"), "topologyKey": "zone"}), ""),
        (apart(term("web", namespaces=["kube-system"])), ""),
        (apart(term("web", mismatchLabelKeys=["app"])), f"{NONE}match pod anti-affinity rules.{NOBODY}"),
        (spread(), ""),
        (spread(minDomains=2, labelSelector={"matchLabels": {"app": "new"}}), ""),
        (
            spread(minDomains=2, labelSelector={"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
            f"{NONE}match pod topology spread constraints.{NOBODY}",
        ),
        (
            spread(topologyKey="zone"),
            f"{NONE}match pod topology spread constraints (missing required label).{HELPLESS}",
        ),
        (spread(topologyKey="zone", whenUnsatisfiable="ScheduleAnyway"), ""),
    ],
)
async def test_a_pod_beside_another(cluster: Cluster, asked: dict[str, Any], answer: str) -> None:
    await cluster.settled()
    cluster.objects.patch("nodes", "labkit-test", {"metadata": {"labels": {HERE: "yes"}}})
    create(cluster, "there", "web")
    await cluster.settled()
    assert said(cluster, "there") == ""
    create(cluster, "it", "new", **asked)
    await cluster.settled()
    assert said(cluster, "it") == answer


async def test_who_keeps_away_from_others_keeps_them_away_until_it_is_gone(cluster: Cluster) -> None:
    await cluster.settled()
    cluster.objects.patch("nodes", "labkit-test", {"metadata": {"labels": {HERE: "yes"}}})
    create(cluster, "first", "web", **apart(term("new")))
    await cluster.settled()
    create(cluster, "it", "new")
    await cluster.settled()
    words = "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."
    assert said(cluster, "it") == f"{words}{NOBODY}"
    cluster.objects.delete("pods", "first", "default")
    await cluster.until(lambda: said(cluster, "it") == "")


async def test_who_waits_for_company_goes_where_it_comes(cluster: Cluster) -> None:
    await cluster.settled()
    cluster.objects.patch("nodes", "labkit-test", {"metadata": {"labels": {HERE: "yes"}}})
    create(cluster, "it", "new", **near(term("web")))
    await cluster.settled()
    assert said(cluster, "it").startswith(f"{NONE}match pod affinity rules.")
    create(cluster, "friend", "web")
    await cluster.until(lambda: said(cluster, "it") == "")
