# SPDX-License-Identifier: Apache-2.0
"""The readiness model: each reason a learner meets, from the objects that show it."""

from __future__ import annotations

from typing import Any

import pytest

from labkit import cluster
from labkit.cluster.readiness import judge
from labkit.ground.errors import ClusterError, NotReadyError
from tests.cluster.fake_kubectl import FakeKubectl

Obj = dict[str, Any]


def deployment(name: str = "web", *, ready: int = 0, desired: int = 1, **status: Any) -> Obj:
    told = {"observedGeneration": 1, "replicas": desired, "updatedReplicas": desired, "readyReplicas": ready, **status}
    meta = {"name": name, "uid": f"d-{name}", "generation": 1}
    return {"kind": "Deployment", "metadata": meta, "spec": {"replicas": desired}, "status": told}


def replica_set(name: str = "web", **status: Any) -> Obj:
    owners = [{"controller": True, "uid": f"d-{name}"}]
    return {"kind": "ReplicaSet", "metadata": {"name": f"{name}-1", "uid": f"r-{name}", "ownerReferences": owners},
            "spec": {"replicas": 1}, "status": status}  # fmt: skip


def pod(name: str = "web", containers: list[Obj] | None = None, *, ready: bool = False, **more: Any) -> Obj:
    containers = containers if containers is not None else [{"name": "app", "image": "i:1", "ready": ready}]
    conditions = more.pop("conditions", [{"type": "Ready", "status": str(ready)}])
    owners = [{"controller": True, "uid": f"r-{name}"}]
    meta = {"name": f"{name}-1-abc", "uid": f"p-{name}", "ownerReferences": owners, **more.pop("metadata", {})}
    status = {"phase": "Running", "conditions": conditions, "containerStatuses": containers, **more}
    return {"kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": c["name"]} for c in containers]},
            "status": status}  # fmt: skip


def event(uid: str, reason: str, message: str, at: str = "2024-01-01T00:00:00Z") -> Obj:
    return {"kind": "Event", "metadata": {}, "involvedObject": {"uid": uid}, "reason": reason, "message": message,
            "lastTimestamp": at}  # fmt: skip


def one(*objects: Obj, **options: Any) -> cluster.Workload:
    found = judge("ns", objects, **options)
    assert len(found.workloads) == 1, found
    return found.workloads[0]


def test_ready() -> None:
    sidecar = {"name": "istio-proxy", "image": "p", "ready": True, "restartCount": 2}
    app = {"name": "app", "image": "i", "ready": True, "restartCount": 1}
    seen = one(deployment(ready=1), replica_set(), pod(containers=[app, sidecar], ready=True))
    assert (seen.state, seen.ready, seen.desired, seen.containers, seen.restarts, seen.reason) == (
        "Ready", 1, 1, "2/2", 3, "")  # fmt: skip
    assert seen.good
    assert not seen.hopeless


def test_a_native_sidecar_counts_as_a_container() -> None:
    item = pod(ready=True)
    item["spec"]["initContainers"] = [{"name": "istio-init"}, {"name": "istio-proxy", "restartPolicy": "Always"}]
    item["status"]["initContainerStatuses"] = [
        {"name": "istio-init", "image": "p", "ready": True},
        {"name": "istio-proxy", "image": "p", "ready": True},
    ]
    assert one(deployment(ready=1), replica_set(), item).containers == "2/2"


def test_an_unseen_change_is_not_ready_yet() -> None:
    item = deployment(ready=1, observedGeneration=0)
    assert one(item, replica_set(), pod(ready=True)).state == "Progressing"


def test_the_old_pod_of_a_rolling_update_does_not_count() -> None:
    item = deployment(ready=1, replicas=2, updatedReplicas=1)
    waiting = {"name": "app", "image": "i:2", "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}
    seen = one(item, replica_set(), pod(containers=[waiting]))
    assert (seen.state, seen.reason) == ("Progressing", "starting: app")


def test_scaled_to_nothing_is_ready() -> None:
    assert one(deployment(desired=0)).state == "Ready"


@pytest.mark.parametrize(
    ("reason", "message", "hopeless"),
    [
        ("ErrImagePull", "no runner for image nope:1", False),
        ("ImagePullBackOff", "no runner for image nope:1", True),
        ("ImagePullBackOff", "Get https://registry/v2/: net/http: TLS handshake timeout", False),
        ("InvalidImageName", "couldn't parse image name", True),
    ],
)
def test_image_that_cannot_be_pulled(reason: str, message: str, hopeless: bool) -> None:
    waiting = {"name": "app", "image": "nope:1", "ready": False, "state": {"waiting": {"reason": reason}}}
    told = event("p-web", "Failed", f'Failed to pull image "nope:1": {message}')
    seen = one(deployment(), replica_set(), pod(containers=[waiting]), told)
    assert seen.state == "ImagePull"
    assert "nope:1" in seen.reason
    assert message in seen.reason
    assert seen.hopeless is hopeless


def test_crash_loop_has_exit_code_and_last_line() -> None:
    crashing = {
        "name": "app", "image": "i", "ready": False, "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }  # fmt: skip
    asked = []

    def last_log(namespace: str, pod: str, container: str) -> str:
        asked.append((namespace, pod, container))
        return "panic: no pilot"

    seen = one(deployment(), replica_set(), pod(containers=[crashing]), last_log=last_log)
    assert seen.state == "CrashLoop"
    assert seen.reason == "container app ended 4 times (exit code 137, OOMKilled); its last line: panic: no pilot"
    assert asked == [("ns", "web-1-abc", "app")]
    assert not seen.hopeless, "the walk-through's own istio-policy restarted six times and came up"


def test_a_crashing_init_container_is_seen() -> None:
    crashing = {"name": "istio-init", "image": "i", "ready": False, "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}  # fmt: skip
    seen = one(deployment(), replica_set(), pod(containers=[], initContainerStatuses=[crashing], phase="Pending"))
    assert seen.reason == "container istio-init ended 1 times (exit code 1)"


def test_pending_says_what_the_scheduler_said() -> None:
    conditions = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: Insufficient cpu."}]
    seen = one(deployment(), replica_set(), pod(containers=[], conditions=conditions, phase="Pending"))
    assert (seen.state, seen.reason) == ("Pending", "0/1 nodes are available: Insufficient cpu.")


def test_a_failing_probe_is_told_by_its_latest_event() -> None:
    old = event("p-web", "Unhealthy", "Readiness probe failed: connection refused", "2024-01-01T00:00:01Z")
    new = event("p-web", "Unhealthy", "Readiness probe failed: HTTP 503", "2024-01-01T00:00:09Z")
    seen = one(deployment(), replica_set(), pod(), new, old)
    assert (seen.state, seen.reason) == ("NotReady", "Readiness probe failed: HTTP 503")


def test_quota() -> None:
    said = 'pods "web-1-x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2'
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}
    seen = one(deployment(replicas=0), replica_set(conditions=[failure]))
    assert (seen.state, seen.reason, seen.hopeless) == ("Quota", said, True)


def test_a_webhook_that_does_not_answer_yet_passes() -> None:
    said = 'Internal error occurred: failed calling webhook "sidecar-injector.istio.io": connection refused'
    seen = one(deployment(replicas=0), replica_set(), event("r-web", "FailedCreate", said))
    assert (seen.state, seen.reason, seen.hopeless) == ("Failed", said, False)


def test_jobs() -> None:
    done: Obj = {"kind": "Job", "metadata": {"name": "j", "uid": "j"}, "spec": {"completions": 1}}
    done["status"] = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
    assert (one(done).state, one(done).ready, one(done).containers) == ("Completed", 1, "")
    failed = {**done, "status": {"conditions": [{"type": "Failed", "status": "True", "message": "back-off limit"}]}}
    assert (one(failed).state, one(failed).reason, one(failed).hopeless) == ("Failed", "back-off limit", True)
    assert one({**done, "status": {}}).state == "Progressing"


def test_a_bare_pod_and_a_daemon_set() -> None:
    bare = pod(ready=True, metadata={"ownerReferences": []})
    assert (one(bare).kind, one(bare).state) == ("Pod", "Ready")
    daemon: Obj = {"kind": "DaemonSet", "metadata": {"name": "n", "uid": "n"}, "spec": {},
                   "status": {"desiredNumberScheduled": 2, "numberReady": 1}}  # fmt: skip
    assert (one(daemon).state, one(daemon).desired) == ("Progressing", 2)


def test_the_whole(kubectl: FakeKubectl) -> None:
    items = [deployment("b", ready=1), deployment("a"), replica_set("a"), pod("a")]
    kubectl.api.items = items
    seen = cluster.readiness("bookinfo")
    assert [w.name for w in seen.workloads] == ["a", "b"]
    assert not seen.ready
    assert "bookinfo: 1 of 2 workloads ready" in str(seen)
    assert "<table" in seen._repr_mimebundle_()["text/html"]
    frame = seen.table()
    assert list(frame.columns) == ["kind", "name", "ready", "desired", "containers", "restarts", "state", "reason"]
    assert frame["ready"].tolist() == [0, 1]
    kubectl.api.items = []
    assert not cluster.readiness("empty").ready


def test_waiting_ends_early_when_it_cannot_help(kubectl: FakeKubectl) -> None:
    waiting = {"name": "app", "image": "nope:1", "ready": False, "state": {"waiting": {"reason": "InvalidImageName"}}}
    kubectl.api.items = [deployment(), replica_set(), pod(containers=[waiting])]
    looks: list[cluster.Readiness] = []
    with pytest.raises(NotReadyError, match=r"Deployment web in namespace b: ImagePull: image nope:1") as caught:
        cluster.wait_for(cluster.Ready("b", on_look=looks.append), timeout=120)
    assert "kubectl describe pods -n b" in caught.value.next_step
    assert len(looks) == 1


def test_a_wait_ends_at_its_deadline_and_says_what_it_saw(kubectl: FakeKubectl) -> None:
    kubectl.api.items = [deployment(), replica_set(), pod()]
    with pytest.raises(NotReadyError, match=r"waited 0\.3 s for all workloads in namespace b .* web \(Progressing"):
        cluster.wait_for(cluster.Ready("b"), timeout=0.3, every=0.05)
    with pytest.raises(NotReadyError, match="other not there"):
        cluster.wait_for(cluster.Ready("b", ["other"]), timeout=0)


def test_one_cause_of_many_is_told_once_and_a_webhook_by_its_own_next_step(kubectl: FakeKubectl) -> None:
    """On a cluster whose API server cannot reach the injector all workloads wait for the same thing."""
    said = (
        'Internal error occurred: failed calling webhook "namespace.sidecar-injector.istio.io": failed to call '
        'webhook: Post "https://istiod.istio-system.svc:443/inject?timeout=10s": context deadline exceeded'
    )
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}
    kubectl.api.items = [
        one for name in ("a", "b") for one in (deployment(name), replica_set(name, conditions=[failure]))
    ]
    kubectl.api.items += [deployment("c"), replica_set("c"), pod("c")]
    with pytest.raises(NotReadyError) as caught:
        cluster.wait_for(cluster.Ready("shop"), timeout=0)
    assert f"seen last: a, b (Failed: {said}), c (Progressing" in caught.value.message
    step = "cannot ask its webhook namespace.sidecar-injector.istio.io: do the pods behind it run? `kubectl get pods -n"
    assert f"{step} istio-system`" in caught.value.next_step


def test_a_wait_for_some_ignores_the_rest(kubectl: FakeKubectl) -> None:
    kubectl.api.items = [deployment("a", ready=1), deployment("b"), replica_set("b"), pod("b")]
    assert cluster.wait_for(cluster.Ready("ns", ["a"]), timeout=0) >= 0


def test_gone(kubectl: FakeKubectl) -> None:
    kubectl.api.items = [{"kind": "Pod", "metadata": {"name": "a"}}]
    cluster.wait_for(cluster.Gone("jobs"), timeout=0)
    with pytest.raises(NotReadyError, match="pods/a in namespace n to be gone; seen last: a still there"):
        cluster.wait_for(cluster.Gone("pods", "a", "n"), timeout=0)


def test_any_condition_is_polled() -> None:
    answers = iter(["no", "nearly", None])
    cluster.wait_for(cluster.Condition("it", lambda: next(answers)), timeout=120, every=0.02)
    assert list(answers) == []


def test_a_log_is_had_whole_and_a_refusal_in_its_words(kubectl: FakeKubectl) -> None:
    text = "".join(f"line {number}\n" for number in range(2000))
    kubectl.api.answers["/api/v1/namespaces/web/pods/a/log"] = text
    assert cluster.log("a", "app", namespace="web", last=2000) == text
    with pytest.raises(ClusterError, match="kubectl logs b -c app -n web --tail=1"):
        cluster.log("b", "app", namespace="web", last=1)
