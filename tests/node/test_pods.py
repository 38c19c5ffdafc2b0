# SPDX-License-Identifier: Apache-2.0
"""A pod's life: phases, conditions, restarts, order of containers, its end."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from meshbox.node.pod import PodWorker
from tests.node.conftest import Cluster, running

FOREVER = "while true; do sleep 0.05; done"


async def test_a_pod_runs_and_says_so(cluster: Cluster) -> None:
    cluster.shell(f"echo hello; {FOREVER}")
    await cluster.until(cluster.ready)
    status = cluster.status()
    assert status["phase"] == "Running"
    assert status["hostIP"] == cluster.settings.plan.node
    assert status["podIP"].startswith(f"127.{cluster.settings.plan.number}.64.")
    assert {item["type"]: item["status"] for item in status["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }
    container = cluster.container()
    assert container["image"] == "docker.io/library/busybox:1.28"
    assert container["containerID"].startswith("docker://")
    assert (container["ready"], container["started"], container["restartCount"]) == (True, True, 0)
    assert set(cluster.reasons()) == {"Pulling", "Pulled", "Created", "Started"}


@pytest.mark.parametrize(
    ("policy", "script", "phase", "code"),
    [
        ("Never", "exit 0", "Succeeded", 0),
        ("Never", "exit 3", "Failed", 3),
        ("OnFailure", "exit 0", "Succeeded", 0),
    ],
)
async def test_a_pod_that_ends_keeps_its_exit_code(
    cluster: Cluster, policy: str, script: str, phase: str, code: int
) -> None:
    cluster.shell(script, restartPolicy=policy)
    await cluster.until(lambda: cluster.status().get("phase") == phase)
    ended = cluster.container()["state"]["terminated"]
    assert ended["exitCode"] == code
    assert ended["reason"] == ("Completed" if code == 0 else "Error")
    assert not cluster.ready()


async def test_on_failure_runs_again_until_it_succeeds(cluster: Cluster) -> None:
    volume = {"name": "v", "emptyDir": {}}
    script = "n=$(ls data | wc -l); touch data/$n; test $n -ge 2"
    cluster.pod(
        container={"command": ["sh", "-c", script], "volumeMounts": [{"name": "v", "mountPath": "/data"}]},
        restartPolicy="OnFailure",
        volumes=[volume],
    )
    await cluster.until(lambda: cluster.status().get("phase") == "Succeeded")
    assert cluster.container()["restartCount"] == 2


async def test_a_crash_loop_backs_off_as_the_kubelet_does(cluster: Cluster) -> None:
    pod = cluster.shell("echo boom; exit 7")
    await cluster.until(lambda: cluster.container().get("restartCount", 0) >= 2)
    await cluster.until(lambda: "waiting" in cluster.container()["state"])
    container = cluster.container()
    waiting = container["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert waiting["message"] == (
        f"back-off {400 if container['restartCount'] == 2 else 800}ms restarting failed "
        f"container=c pod=web_default({pod['metadata']['uid']})"
    )
    assert container["lastState"]["terminated"]["exitCode"] == 7
    assert cluster.status()["phase"] == "Running"
    assert cluster.messages("BackOff") == [
        f"Back-off restarting failed container c in pod web_default({pod['metadata']['uid']})"
    ]
    assert await cluster.log(previous=True) == "boom\n"


async def test_a_killed_process_is_137_and_is_restarted(cluster: Cluster) -> None:
    cluster.shell(f"echo $$$$; {FOREVER}")
    await cluster.until(cluster.ready)
    pid = int(await _first_line(cluster))
    os.kill(pid, signal.SIGKILL)
    await cluster.until(lambda: cluster.container()["restartCount"] == 1 and cluster.ready())
    ended = cluster.container()["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")


async def _first_line(cluster: Cluster, name: str = "web") -> str:
    async for chunk in cluster.node.logs("default", name, "c", follow=True):
        if b"\n" in chunk:
            return chunk.split(b"\n")[0].decode()
    raise AssertionError("the log ended without a line")


async def test_an_unknown_image_says_where_all_are_listed(cluster: Cluster) -> None:
    cluster.pod(container={"image": "example.com/nope:1"})
    await cluster.until(lambda: "waiting" in cluster.container().get("state", {}))
    seen: set[str] = set()

    def reasons() -> bool:
        seen.add(cluster.container()["state"]["waiting"]["reason"])
        return {"ErrImagePull", "ImagePullBackOff"} <= seen

    await cluster.until(reasons)
    assert cluster.status()["phase"] == "Pending"
    [failure] = [text for text in cluster.messages("Failed") if text.startswith("Failed to pull")]
    assert 'Failed to pull image "example.com/nope:1"' in failure
    assert "`labkit image list` shows all" in failure
    assert set(cluster.reasons()) == {"Pulling", "Failed", "BackOff"}


async def test_a_reference_that_is_none_is_told(cluster: Cluster) -> None:
    cluster.pod(container={"image": "UPPER/case:1"})
    await cluster.until(
        lambda: cluster.container().get("state", {}).get("waiting", {}).get("reason") == "InvalidImageName"
    )


async def test_never_pull_needs_the_image_on_the_node(cluster: Cluster) -> None:
    cluster.pod(container={"imagePullPolicy": "Never", "command": ["sh", "-c", FOREVER]})
    await cluster.until(lambda: "ErrImageNeverPull" in cluster.reasons())
    cluster.shell(FOREVER, name="other")
    await cluster.until(cluster.ready)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["nope"], 'exec: "nope": executable file not found in $PATH'),
        (["/no/such/program"], 'exec: "/no/such/program": stat /no/such/program: no such file or directory'),
        (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
    ],
)
async def test_a_command_that_cannot_start_is_a_start_error(cluster: Cluster, command: list[str], problem: str) -> None:
    cluster.pod(container={"command": command}, restartPolicy="Never")
    await cluster.until(lambda: cluster.status().get("phase") == "Failed")
    ended = cluster.container()["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert problem in ended["message"]
    assert problem in cluster.messages("Failed")[0]


async def test_init_containers_run_one_after_the_other_and_first(cluster: Cluster) -> None:
    mount = [{"name": "v", "mountPath": "/data"}]
    waits = "until [ -e data/go ]; do sleep 0.02; done; echo {} >> data/order"
    init = [{"name": f"i{n}", "image": "busybox", "command": ["sh", "-c", waits.format(n)]} for n in (1, 2)]
    cluster.pod(
        container={"command": ["cat", "data/order"], "volumeMounts": mount},
        initContainers=[{**item, "volumeMounts": mount} for item in init],
        volumes=[{"name": "v", "hostPath": {"path": "/shared"}}],
        restartPolicy="Never",
    )
    await cluster.until(lambda: "state" in cluster.container())
    assert cluster.status()["phase"] == "Pending"
    assert cluster.container()["state"]["waiting"]["reason"] == "PodInitializing"
    shared = cluster.settings.home / "host" / "shared"
    await cluster.until(shared.is_dir)
    reasons = set()
    async with cluster.objects.watch("pods", "default") as watch:
        (shared / "go").touch()
        async for event in watch:
            reasons.add(event.object["status"]["containerStatuses"][0]["state"].get("waiting", {}).get("reason"))
            if event.object["status"]["phase"] == "Succeeded":
                break
    # Also while the container is made: a pod that begins with others has no other word for it.
    assert reasons == {"PodInitializing", None}
    assert await cluster.log() == "1\n2\n"
    assert [item["state"]["terminated"]["reason"] for item in cluster.status()["initContainerStatuses"]] == [
        "Completed",
        "Completed",
    ]
    assert [item["ready"] for item in cluster.status()["initContainerStatuses"]] == [True, True]


async def test_an_init_container_that_fails_fails_the_pod(cluster: Cluster) -> None:
    init = {"name": "i", "image": "busybox", "command": ["sh", "-c", "exit 4"]}
    cluster.pod(container={"command": ["sh", "-c", FOREVER]}, initContainers=[init], restartPolicy="Never")
    await cluster.until(lambda: cluster.status().get("phase") == "Failed")
    assert cluster.status()["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    assert cluster.status()["initContainerStatuses"][0]["ready"] is False
    assert "waiting" in cluster.container()["state"]


async def test_a_native_sidecar_starts_before_and_ends_after_the_others(cluster: Cluster) -> None:
    mount = [{"name": "v", "mountPath": "/data"}]
    sidecar = "trap 'echo sidecar >> data/ends; exit 0' TERM; touch data/up; " + FOREVER
    main = "test -e data/up || exit 9; trap 'echo main >> data/ends; exit 0' TERM; touch trapped; " + FOREVER
    trapped = {"exec": {"command": ["test", "-e", "trapped"]}, "periodSeconds": 1}
    cluster.pod(
        container={"command": ["sh", "-c", main], "volumeMounts": mount, "readinessProbe": trapped},
        initContainers=[
            {
                "name": "side",
                "image": "busybox",
                "restartPolicy": "Always",
                "command": ["sh", "-c", sidecar],
                "volumeMounts": mount,
                "startupProbe": {"exec": {"command": ["test", "-e", "data/up"]}, "periodSeconds": 1},
            }
        ],
        volumes=[{"name": "v", "hostPath": {"path": "/shared"}}],
    )
    await cluster.until(cluster.ready)
    assert cluster.container()["restartCount"] == 0
    assert cluster.status()["initContainerStatuses"][0]["ready"] is True
    cluster.objects.delete("pods", "web", "default")
    await cluster.until(cluster.gone)
    order = (cluster.settings.home / "host" / "shared" / "ends").read_text().split()
    assert order == ["main", "sidecar"]


async def test_a_job_pod_ends_its_native_sidecars(cluster: Cluster) -> None:
    sidecar = {"name": "side", "image": "busybox", "restartPolicy": "Always", "command": ["sh", "-c", FOREVER]}
    cluster.pod(container={"command": ["sh", "-c", "sleep 0.1"]}, initContainers=[sidecar], restartPolicy="Never")
    await cluster.until(lambda: cluster.status().get("phase") == "Succeeded")
    assert cluster.status()["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 143


@pytest.mark.parametrize(("release", "counted"), [("1.30.3", {1}), ("1.2.2", {None})])
async def test_a_status_names_the_generation_that_it_is_of(
    tmp_path: Path, release: str, counted: set[int | None]
) -> None:
    async with running(tmp_path / "home", release) as cluster:
        cluster.shell(FOREVER)
        await cluster.until(cluster.ready)
        status = cluster.status()
    assert {one.get("observedGeneration") for one in (status, *status["conditions"])} == counted


@pytest.mark.parametrize(
    ("release", "code", "last"),
    [("1.30.3", 0, "Succeeded"), ("1.30.3", 3, "Failed"), ("1.2.2", 0, "Running")],
)
async def test_the_phase_of_a_pod_that_is_deleted(tmp_path: Path, release: str, code: int, last: str) -> None:
    side = {"name": "side", "image": "busybox", "restartPolicy": "Always", "command": ["sh", "-c", FOREVER]}
    ends = f"trap 'exit {code}' TERM; touch trapped; {FOREVER}"
    trapped = {"exec": {"command": ["test", "-e", "trapped"]}, "periodSeconds": 1}
    async with running(tmp_path / "home", release) as cluster:
        cluster.pod(container={"command": ["sh", "-c", ends], "readinessProbe": trapped}, initContainers=[side])
        await cluster.until(cluster.ready)
        phases = []
        async with cluster.objects.watch("pods", "default") as watch:
            cluster.objects.delete("pods", "web", "default")
            async for event in watch:
                phases.append(event.object["status"]["phase"])
                if event.type == "DELETED":
                    break
    assert list(dict.fromkeys(phases)) == list(dict.fromkeys(["Running", last]))


async def test_deletion_is_graceful_and_leaves_nothing(cluster: Cluster) -> None:
    pod = cluster.shell("trap 'sleep 0.2; exit 0' TERM; " + FOREVER)
    await cluster.until(cluster.ready)
    folder = cluster.settings.pods_dir / pod["metadata"]["uid"]
    assert folder.is_dir()
    cluster.objects.delete("pods", "web", "default")
    assert not cluster.gone()
    assert "deletionTimestamp" in cluster.objects.get("pods", "web", "default")["metadata"]
    await cluster.until(cluster.gone)
    await cluster.until(lambda: not folder.exists())
    assert "Killing" in cluster.reasons()


async def test_a_process_that_ignores_sigterm_is_killed_after_the_grace_period(cluster: Cluster) -> None:
    cluster.shell("trap '' TERM; echo $$$$; " + FOREVER, terminationGracePeriodSeconds=1)
    await cluster.until(cluster.ready)
    pid = int(await _first_line(cluster))
    cluster.objects.delete("pods", "web", "default")
    await cluster.until(cluster.gone)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_forced_deletion_kills_at_once(cluster: Cluster) -> None:
    cluster.shell("trap '' TERM; echo $$$$; " + FOREVER)
    await cluster.until(cluster.ready)
    pid = int(await _first_line(cluster))
    cluster.objects.delete("pods", "web", "default", grace_period=0)

    def ended() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    await cluster.until(ended)


async def test_pre_stop_runs_before_sigterm_and_post_start_before_ready(cluster: Cluster) -> None:
    hooks = {
        # The container's own script is not at its trap when it begins.
        "postStart": {"exec": {"command": ["sh", "-c", "until test -e trapped; do sleep 0.02; done; touch started"]}},
        "preStop": {"exec": {"command": ["touch", "stopping"]}},
    }
    script = "trap 'test -e stopping && echo told; exit 0' TERM; touch trapped; " + FOREVER
    pod = cluster.shell(script, lifecycle=hooks)
    await cluster.until(cluster.ready)
    root = cluster.settings.pods_dir / pod["metadata"]["uid"] / "containers" / "c" / "root"
    assert (root / "started").exists()
    chunks: list[bytes] = []
    log = cluster.node.logs("default", "web", "c", follow=True)
    cluster.objects.delete("pods", "web", "default")
    async for chunk in log:
        chunks.append(chunk)
    assert b"".join(chunks) == b"told\n"


async def test_a_post_start_hook_that_fails_restarts_the_container(cluster: Cluster) -> None:
    cluster.shell(FOREVER, lifecycle={"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 1"]}}})
    await cluster.until(lambda: cluster.container().get("restartCount", 0) >= 1)
    assert cluster.messages("FailedPostStartHook") == ["PostStartHook failed: no"]


async def test_a_missing_configmap_keeps_the_container_waiting_until_it_is_there(cluster: Cluster) -> None:
    source: dict[str, Any] = {"configMapKeyRef": {"name": "settings", "key": "color"}}
    cluster.shell("echo $COLOR; " + FOREVER, env=[{"name": "COLOR", "valueFrom": source}])
    await cluster.until(lambda: "waiting" in cluster.container().get("state", {}))
    await cluster.until(lambda: cluster.container()["state"]["waiting"]["reason"] == "CreateContainerConfigError")
    assert cluster.container()["state"]["waiting"]["message"] == 'configmap "settings" not found'
    cluster.objects.create("configmaps", {"metadata": {"name": "settings"}, "data": {"color": "red"}}, "default")
    await cluster.until(cluster.ready)
    assert await _first_line(cluster) == "red"


async def test_a_missing_secret_volume_is_told_and_waited_for(cluster: Cluster) -> None:
    cluster.pod(
        container={"command": ["sh", "-c", FOREVER], "volumeMounts": [{"name": "certs", "mountPath": "/etc/certs"}]},
        volumes=[{"name": "certs", "secret": {"secretName": "istio.default"}}],
    )
    await cluster.until(lambda: "FailedMount" in cluster.reasons())
    # The event is written at once, the status a moment later.
    await cluster.until(lambda: "waiting" in cluster.container().get("state", {}))
    assert cluster.messages("FailedMount") == [
        'MountVolume.SetUp failed for volume "certs" : secret "istio.default" not found'
    ]
    assert cluster.container()["state"]["waiting"]["reason"] == "ContainerCreating"
    cluster.objects.create("secrets", {"metadata": {"name": "istio.default"}, "data": {"k": "dg=="}}, "default")
    await cluster.until(cluster.ready)
    assert await cluster.exec(["cat", "/etc/certs/k"]) == (0, "v", "")


async def test_the_last_words_of_a_container_are_kept(cluster: Cluster) -> None:
    cluster.shell("echo reason; exit 1", restartPolicy="Never", terminationMessagePolicy="FallbackToLogsOnError")
    cluster.shell("printf why > dev/termination-log; exit 1", name="file", restartPolicy="Never")
    await cluster.until(lambda: cluster.status().get("phase") == "Failed")
    await cluster.until(lambda: cluster.status("file").get("phase") == "Failed")
    assert cluster.container()["state"]["terminated"]["message"] == "reason"
    assert cluster.container("file")["state"]["terminated"]["message"] == "why"


async def test_a_pod_past_its_deadline_fails(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = PodWorker._end_at_deadline

    async def once_it_runs(worker: PodWorker, seconds: float) -> None:
        # On a busy machine the deadline might come before the container.
        await cluster.until(cluster.ready)
        await ends(worker, seconds)

    monkeypatch.setattr(PodWorker, "_end_at_deadline", once_it_runs)
    cluster.pod(container={"command": ["sh", "-c", FOREVER]}, activeDeadlineSeconds=1, restartPolicy="Never")
    await cluster.until(
        lambda: cluster.status().get("phase") == "Failed" and "terminated" in cluster.container()["state"]
    )
    assert cluster.status()["reason"] == "DeadlineExceeded"
    assert cluster.container()["state"]["terminated"]["exitCode"] == 143


async def test_only_the_last_two_logs_of_a_container_are_kept(cluster: Cluster) -> None:
    pod = cluster.shell("echo x; exit 1")
    await cluster.until(lambda: cluster.container().get("restartCount", 0) >= 3)
    folder = cluster.settings.pods_dir / pod["metadata"]["uid"] / "logs" / "c"
    run = cluster.container()["restartCount"]
    assert sorted(int(file.stem) for file in folder.iterdir()) == [run - 1, run]


async def test_a_container_waits_for_the_hook_of_the_one_before_it(cluster: Cluster) -> None:
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "until test -e go; do sleep 0.02; done"]}}}
    first = {"name": "first", "image": "busybox", "command": ["sh", "-c", FOREVER], "lifecycle": hook}
    second = {"name": "second", "image": "busybox", "command": ["sh", "-c", FOREVER]}
    cluster.pod(containers=[first, second])
    await cluster.until(lambda: "running" in cluster.container(index=0).get("state", {}))
    assert "waiting" in cluster.container(index=1)["state"]
    assert (await cluster.exec(["touch", "go"], container="first"))[0] == 0
    await cluster.until(lambda: "running" in cluster.container(index=1)["state"])
