# SPDX-License-Identifier: Apache-2.0
"""What is killed stays dead, and what shall live comes back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import force_setattr

from meshbox.node import keeper
from meshbox.node.processes import sweep
from tests.conftest import REPOSITORY, processes_of, small_file_system, wait_until
from tests.node.conftest import Cluster, running

FOREVER = "while true; do sleep 0.05; done"
# A grandchild in a session of its own, whose parent has ended: what `nohup … &` and daemons do.
DETACHED = "(setsid sleep 1000 & ) ; (setsid sh -c 'setsid sleep 1001 & exec sleep 1002' &) ; " + FOREVER


class Daemon:
    """A node in a process of its own."""

    def __init__(self, home: Path, *scripts: str, python: tuple[str, ...] = (sys.executable,)) -> None:
        self.home = home
        command = [*python, "-m", "tests.node.run_node", str(home), *scripts]
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the node did not start"
        self.said: dict[str, Any] = json.loads(line)

    @property
    def keeper(self) -> psutil.Process:
        [keeper] = [
            child for child in psutil.Process(self.process.pid).children() if "keeper.py" in str(child.cmdline())
        ]
        return keeper

    def close(self) -> None:
        """End it as a user does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(120)
        self.process.stdout.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    made: list[Daemon] = []

    def start(*scripts: str, home: Path | None = None, python: tuple[str, ...] = (sys.executable,)) -> Daemon:
        made.append(Daemon(home or tmp_path / "home", *scripts, python=python))
        return made[-1]

    yield start
    for item in made:
        item.close()
    for item in made:
        # The keeper outlives a killed daemon for a moment: it ends what hid from it first.
        wait_until(lambda home=item.home: processes_of(home) == [], 5, "the end of every process")


def alive(home: Path, text: str) -> list[int]:
    """Processes of the sandbox that run `text`: a command line, or "keeper.py" or "while true" in it."""
    found = []
    for process in processes_of(home):
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if (
                text in command if text in ("keeper.py", "while true") else text == command
            ) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def test_a_killed_daemon_leaves_no_process_not_even_detached_ones(daemon: Any, until: Any) -> None:
    node = daemon(DETACHED, FOREVER)
    home = node.home
    for text in ("sleep 1000", "sleep 1001", "sleep 1002", "keeper.py"):
        until(lambda text=text: alive(home, text), what=f"{text} runs")
    node.process.kill()
    node.process.wait()
    until(lambda: not processes_of(home), seconds=10, what="all is gone")


def test_a_killed_daemon_leaves_nothing_that_hid_its_mark(daemon: Any, until: Any) -> None:
    # It has no mark to be told by: its words are those of this test only, whoever plays it beside.
    words = f"1003.{os.getpid()}"
    node = daemon(f"setsid env -i sleep {words} & {FOREVER}")

    def hidden_sleepers() -> list[int]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[-1:] == [words] and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    until(hidden_sleepers, what="the hidden process runs")
    node.process.kill()
    node.process.wait()
    until(lambda: not hidden_sleepers(), seconds=10, what="it is gone")


def test_a_killed_keeper_takes_its_processes_along_and_pods_come_back(daemon: Any, until: Any) -> None:
    node = daemon(DETACHED)
    home, keeper = node.home, node.keeper
    before = {process.pid for process in processes_of(home)} - {node.process.pid}
    keeper.kill()
    until(lambda: not any(psutil.pid_exists(pid) for pid in before), seconds=10, what="the old ones are gone")
    until(lambda: alive(home, "sleep 1001"), what="the pod runs again")
    assert node.keeper.pid != keeper.pid


def test_daemon_and_keeper_killed_at_once_are_swept_up_by_the_next_start(daemon: Any, until: Any) -> None:
    first = daemon(DETACHED)
    home, keeper = first.home, first.keeper
    left = until(lambda: alive(home, "sleep 1000"), what="the detached process runs")
    # Stopped first, so that neither can clean up after the other.
    for process in (psutil.Process(first.process.pid), keeper):
        process.suspend()
    for process in (psutil.Process(first.process.pid), keeper):
        process.kill()
    first.process.wait()
    until(lambda: not alive(home, "while true"), what="the main processes end with the keeper")
    assert alive(home, "sleep 1000") == left
    second = daemon(DETACHED)
    until(lambda: alive(home, "sleep 1000"), what="the pod runs again")
    assert not set(left) & set(alive(home, "sleep 1000"))
    [status] = second.said["pods"]["web-0"]["status"]["containerStatuses"]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["reason"] == "Unknown"
    assert second.said["pods"]["web-0"]["status"]["podIP"] == first.said["pods"]["web-0"]["status"]["podIP"]


async def test_what_a_container_left_behind_ends_with_it(cluster: Cluster) -> None:
    detached = "(setsid sh -c 'sleep 1000 & exec sleep 1001' &)"
    cluster.shell(f"{detached}; until [ -e go ]; do sleep 0.02; done", restartPolicy="Never")
    home = cluster.settings.home
    await cluster.until(lambda: alive(home, "sleep 1000") and alive(home, "sleep 1001"))
    # The status tells of its start a moment after its processes have begun.
    await cluster.until(lambda: cluster.status().get("phase") == "Running")
    cluster.touch("go")
    await cluster.until(lambda: cluster.status().get("phase") == "Succeeded")
    await cluster.until(lambda: not alive(home, "sleep 1000") + alive(home, "sleep 1001"))


def test_the_sweep_ends_only_this_sandboxs_processes(tmp_path: Path) -> None:
    ours = [subprocess.Popen(["sleep", "1000"], env={"LABKIT_SANDBOX": str(tmp_path / "a")}) for _ in range(3)]
    other = subprocess.Popen(["sleep", "1000"], env={"LABKIT_SANDBOX": str(tmp_path / "ab")})
    try:
        assert sweep(tmp_path / "a") == 3
        assert [process.wait(120) for process in ours] == [-signal.SIGKILL] * 3
        assert other.poll() is None
        assert sweep(tmp_path / "a") == 0
    finally:
        other.kill()
        other.wait()


def test_two_sandboxes_live_side_by_side(daemon: Any, tmp_path: Path, until: Any) -> None:
    first, second = daemon(FOREVER, home=tmp_path / "one"), daemon(FOREVER, home=tmp_path / "two")
    addresses = {node.said["pods"]["web-0"]["status"]["hostIP"] for node in (first, second)}
    assert len(addresses) == 2
    first.process.kill()
    first.process.wait()
    until(lambda: not processes_of(tmp_path / "one"))
    assert alive(tmp_path / "two", "while true")


def python_for_nobody() -> tuple[str, ...]:
    """A Python of this version that the user "nobody" can run: an interpreter below /root is closed to it."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else; the other tests of this run are unprivileged already")
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all")
    # The second execution counts: at the first, setpriv still has root's rights.
    check = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'pass'])"
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        if subprocess.run([*nobody, python, "-c", check], capture_output=True).returncode == 0:
            return (*nobody, python)
    pytest.skip(f"the user nobody can run neither {sys.executable} nor a Python of the system")


def test_it_works_for_an_unprivileged_user(daemon: Any, until: Any) -> None:
    # pytest's own folders are closed to other users.
    home = Path(tempfile.mkdtemp(prefix="labkit-nobody-"))
    python = python_for_nobody()
    try:
        shutil.chown(home, 65534, 65534)
        node = daemon(DETACHED, home=home, python=python)
        assert node.said["uid"] == 65534
        until(lambda: alive(home, "sleep 1000"))
        [pid] = alive(home, "sleep 1000")
        assert psutil.Process(pid).uids().real == 65534
        node.process.kill()
        node.process.wait()
        until(lambda: not processes_of(home))
    finally:
        shutil.rmtree(home)


async def test_a_port_below_1024_is_served_where_it_can_be(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as cluster:
        force_setattr(cluster.settings.plan, "low_ports", False)
        probe = {"httpGet": {"path": "/status/200", "port": 80}}
        cluster.pod(container={"image": "docker.io/kennethreitz/httpbin", "readinessProbe": probe})
        await cluster.until(cluster.ready)
        stream = await cluster.node.connect("default", "web", 80)
        await stream.write(b"GET /ip HTTP/1.0\r\n\r\n")
        assert (await stream.read()).startswith(b"HTTP/1.1 200")
        stream.close()
        with socket.socket() as probe:
            assert probe.connect_ex((cluster.status()["podIP"], 20080)) == 0
        with socket.socket() as probe:
            assert probe.connect_ex((cluster.status()["podIP"], 80)) == errno.ECONNREFUSED


async def test_pods_come_back_after_a_stop_with_their_address_and_count(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with running(home) as cluster:
        cluster.shell("echo run; " + FOREVER)
        cluster.shell("echo done; exit 0", name="job", restartPolicy="Never")
        await cluster.until(cluster.ready)
        await cluster.until(lambda: cluster.status("job").get("phase") == "Succeeded")
        # It runs before it has said anything.
        async for line in cluster.node.logs("default", "web", "c", follow=True):
            assert line == b"run\n"
            break
        address = cluster.status()["podIP"]
    assert processes_of(home) == []
    async with running(home) as cluster:
        await cluster.until(lambda: cluster.container()["restartCount"] == 1 and cluster.ready())
        assert cluster.status()["podIP"] == address
        assert cluster.container()["lastState"]["terminated"]["exitCode"] == 255
        # A pod that had ended stays as it was, with its log.
        assert cluster.status("job")["phase"] == "Succeeded"
        assert await cluster.log("job") == "done\n"
        assert await cluster.log(previous=True) == "run\n"
        cluster.shell(FOREVER, name="later")
        await cluster.until(lambda: cluster.ready("later"))
        assert cluster.status("later")["podIP"] != address


async def test_a_pod_deleted_while_the_node_was_away_leaves_no_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with running(home) as cluster:
        pod = cluster.shell(FOREVER)
        await cluster.until(cluster.ready)
        folder = cluster.settings.pods_dir / pod["metadata"]["uid"]
        await cluster.node.stop()
        assert folder.exists()
        cluster.objects.delete("pods", "web", "default", grace_period=0)
    async with running(home) as cluster:
        assert not folder.exists()
        assert cluster.gone()


async def test_a_pod_that_was_ending_when_the_node_went_away_ends_at_the_next_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with running(home) as cluster:
        cluster.shell(FOREVER)
        await cluster.until(cluster.ready)
        await cluster.node.stop()
        cluster.objects.delete("pods", "web", "default")
        assert not cluster.gone()
    async with running(home) as cluster:
        await cluster.until(cluster.gone)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for little; once it was full, for minutes of what a pod says."""
    place = tmp_path / "small"
    place.mkdir()
    with small_file_system(place, "size=32m") as folder:
        yield folder


async def test_a_full_disk_is_told_and_survived(tmp_path: Path, small_disk: Path) -> None:
    async with running(tmp_path / "home") as cluster:
        shutil.rmtree(cluster.settings.pods_dir)
        cluster.settings.pods_dir.symlink_to(small_disk)
        # Each line fills a page of its own, so that none finds room in one that is there already.
        script = "line=$(head -c 4000 /dev/zero | tr '\\0' x); while true; do echo $line; sleep 0.05; done"
        cluster.shell(script, name="talker")
        await cluster.until(lambda: cluster.ready("talker"))
        big = {"metadata": {"name": "big"}, "data": {f"k{n}": "x" * 100_000 for n in range(9)}}
        cluster.objects.create("configmaps", big, "default")
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096) == 4096:
                pass
        mounts = [{"name": "v", "mountPath": "/v"}]
        cluster.pod(
            "late",
            {"command": ["sleep", "infinity"], "volumeMounts": mounts},
            volumes=[{"name": "v", "configMap": {"name": "big"}}],
        )
        await cluster.until(lambda: cluster.messages("FailedMount", "late"))
        assert "No space left on device" in cluster.messages("FailedMount", "late")[0]
        talker = next(w for w in cluster.node._workers.values() if w.pod["metadata"]["name"] == "talker")
        await cluster.until(lambda: talker.main[0].log is not None and talker.main[0].log.lost > 0)
        assert cluster.ready("talker")
        assert (await cluster.exec(["true"], "talker"))[0] == 0
        filler.unlink()
        # Room for the volume comes with the deletion of what filled the disk.
        await cluster.until(lambda: cluster.ready("late"))
        deadline = time.monotonic() + 120
        while "lost" not in (text := await cluster.log("talker")):
            assert time.monotonic() < deadline, text[-100:]
            await asyncio.sleep(0.02)
        cluster.objects.delete("pods", "late", "default", grace_period=0)
        await cluster.until(lambda: cluster.gone("late"))


async def test_curl_reaches_low_ports_where_they_are(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as cluster:
        force_setattr(cluster.settings.plan, "low_ports", False)
        probe = {"httpGet": {"path": "/status/200", "port": 80}}
        cluster.pod(container={"image": "docker.io/kennethreitz/httpbin", "readinessProbe": probe})
        cluster.shell(FOREVER, name="client")
        await cluster.until(cluster.ready)
        await cluster.until(lambda: cluster.ready("client"))
        address = cluster.status()["podIP"]
        said = await cluster.exec(
            ["curl", "-sSf", f"http://{address}/status/200", f"{address}:80/status/200"], "client"
        )
        assert said == (0, "", "")


def test_a_process_that_cannot_be_forked_is_told_and_the_keeper_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of processes is reached: that is one container's trouble, not all pods' end."""

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    daemon, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with daemon, its, open(os.memfd_create("request"), "w+b") as file:
        file.write(b"{}")
        file.flush()
        file.seek(0)
        socket.send_fds(daemon, [b'{"do": "spawn", "id": 7}'], [file.fileno()])
        monkeypatch.setattr(os, "fork", refuse)
        assert keeper.Keeper(its)._request()
        assert json.loads(daemon.recv(4096)) == {"failed": 7, "errno": errno.EAGAIN}
