# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to its pods, its spec and the controllers: a Deployment ends as it is written."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.pods import is_active, is_ready
from meshbox.controllers.rollout import revision

from .conftest import DEPLOYMENTS, REPLICA_SETS, Cluster, deployment

SECONDS_TO_CONVERGE = 60.0

EXAMPLES = 60 if os.environ.get("LABKIT_LONG") else 20
"""Histories of a Deployment, of 25 steps each; `make test-thorough` plays all of them."""


class DeploymentUnderStress(RuleBasedStateMachine):
    """One Deployment, one node, and everything that users and bad luck do to them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.cluster: Cluster | None = None

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @property
    def here(self) -> Cluster:
        assert self.cluster is not None
        return self.cluster

    @initialize(replicas=st.integers(0, 4), legacy=st.booleans())
    def begin(self, replicas: int, legacy: bool) -> None:
        async def start() -> Cluster:
            return await Cluster(Path(self.folder.name) / "home", "1.2.2" if legacy else "1.30.3").start()

        self.cluster = self.run(start())
        self.here.objects.create(DEPLOYMENTS, deployment("web", replicas))
        self.run(self.here.settled())

    def patch(self, spec: Obj) -> None:
        self.here.objects.patch(DEPLOYMENTS, "web", {"spec": spec}, "default")

    def pod(self, index: int) -> Obj | None:
        pods = self.here.pods("app=web")
        return pods[index % len(pods)] if pods else None

    @rule(replicas=st.integers(0, 6))
    def scale(self, replicas: int) -> None:
        self.patch({"replicas": replicas})

    @rule(image=st.integers(1, 4))
    def set_image(self, image: int) -> None:
        self.patch({"template": {"spec": {"containers": [{"name": "main", "image": f"httpbin:{image}"}]}}})

    @rule(surge=st.sampled_from([0, 1, "25%", "100%"]), unavailable=st.sampled_from([0, 1, "25%", "50%"]))
    def roll(self, surge: int | str, unavailable: int | str) -> None:
        if surge == 0 and unavailable == 0:
            surge = 1
        rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
        self.patch({"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}})

    @rule()
    def recreate(self) -> None:
        self.patch({"strategy": {"type": "Recreate", "rollingUpdate": None}})

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.patch({"paused": paused})

    @rule()
    def undo(self) -> None:
        sets = sorted(self.here.objects.list(REPLICA_SETS, "default"), key=revision)
        if len(sets) > 1:
            self.patch({"template": {"spec": sets[-2]["spec"]["template"]["spec"]}})

    @rule(index=st.integers(0, 9), phase=st.sampled_from(["Failed", "Succeeded"]))
    def end_pod(self, index: int, phase: str) -> None:
        if (pod := self.pod(index)) is not None:
            self.here.set_pod(pod["metadata"]["name"], "default", phase, False)

    @rule(index=st.integers(0, 9), ready=st.booleans())
    def set_readiness(self, index: int, ready: bool) -> None:
        pod = self.pod(index)
        if pod is not None and pod["status"]["phase"] == "Running":
            self.here.set_pod(pod["metadata"]["name"], "default", "Running", ready)

    @rule(index=st.integers(0, 9), grace=st.sampled_from([None, 0]))
    def delete_pod(self, index: int, grace: int | None) -> None:
        if (pod := self.pod(index)) is not None:
            self.here.objects.delete("pods", pod["metadata"]["name"], "default", grace_period=grace)

    @rule(index=st.integers(0, 9))
    def take_label_away(self, index: int) -> None:
        if (pod := self.pod(index)) is not None:
            patch = {"metadata": {"labels": {"pod-template-hash": "taken"}}}
            self.here.objects.patch("pods", pod["metadata"]["name"], patch, "default")

    @rule(index=st.integers(0, 9), mode=st.sampled_from(["Background", "Foreground", "Orphan"]))
    def delete_replica_set(self, index: int, mode: Any) -> None:
        sets = self.here.objects.list(REPLICA_SETS, "default")
        if sets:
            name = sets[index % len(sets)]["metadata"]["name"]
            with contextlib.suppress(ApiError):
                self.here.objects.delete(REPLICA_SETS, name, "default", propagation=mode)

    @rule(paused=st.booleans(), healthy=st.booleans())
    def change_node(self, paused: bool, healthy: bool) -> None:
        self.here.node.ready = lambda _pod: healthy
        if paused:
            self.here.node.paused = True
        else:
            self.here.node.catch_up()

    @rule(steps=st.integers(1, 30))
    def work(self, steps: int) -> None:
        async def some() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self.run(some())

    @rule()
    def crash(self) -> None:
        self.run(self.here.restart())

    def heal(self) -> None:
        self.here.node.ready = lambda _pod: True
        self.here.node.catch_up()
        for pod in self.here.pods("app=web"):
            if pod["status"]["phase"] == "Running" and not is_ready(pod):
                self.here.set_pod(pod["metadata"]["name"], "default", "Running", True)

    def is_as_written(self) -> bool:
        self.heal()
        found = self.here.objects.get(DEPLOYMENTS, "web", "default")
        wanted = found["spec"]["replicas"]
        image = found["spec"]["template"]["spec"]["containers"][0]["image"]
        sets = {item["metadata"]["uid"]: item for item in self.here.objects.list(REPLICA_SETS, "default")}
        mine = [
            pod
            for pod in self.here.pods("app=web")
            if is_active(pod) and (pod["metadata"].get("ownerReferences") or [{}])[0].get("uid") in sets
        ]
        status = found.get("status") or {}
        return (
            len(mine) == wanted
            and all(is_ready(pod) for pod in mine)
            and {pod["spec"]["containers"][0]["image"] for pod in mine} <= {image}
            and sum(item["spec"]["replicas"] for item in sets.values()) == wanted
            and all(status.get(f, 0) == wanted for f in ("replicas", "updatedReplicas", "availableReplicas"))
            and status.get("observedGeneration") == found["metadata"]["generation"]
        )

    def teardown(self) -> None:
        try:
            if self.cluster is not None:
                self.patch({"paused": False})
                what = "the Deployment as it is written"
                self.run(self.here.until(self.is_as_written, what, SECONDS_TO_CONVERGE))
                # And it stays so: nothing is written any more.
                self.run(self.here.settled())
                assert self.is_as_written()
        finally:
            if self.cluster is not None:
                self.run(self.here.stop())
            self.loop.close()
            self.folder.cleanup()


DeploymentUnderStress.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    # Each failing run lasts SECONDS_TO_CONVERGE: shrinking it would take hours and end in the test's timeout.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
TestDeploymentUnderStress = DeploymentUnderStress.TestCase
