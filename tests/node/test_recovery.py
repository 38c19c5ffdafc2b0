# SPDX-License-Identifier: Apache-2.0
"""Whose fault an end was decides how soon the next run begins."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

from meshbox.healing import KEEPER_LOST, healing
from meshbox.node import Timing
from meshbox.node.endings import faultless
from meshbox.node.processes import Exit, Processes
from tests.node.conftest import running

FOREVER = "while true; do sleep 0.05; done"
PATIENT = Timing(backoff=600.0, backoff_limit=6000.0, retry=0.05, heartbeat=1.0)
"""A back-off that no test lives to see the end of: what is counted as a crash shows at once."""
SETTLED = Timing(backoff=0.01, backoff_limit=6000.0, retry=0.05, heartbeat=1.0)


@pytest.mark.parametrize(
    ("ended", "signalled", "settled", "wanted"),
    [
        (Exit(137, 9, lost=True), False, False, True),
        (Exit(137, 9), False, True, True),
        (Exit(137, 9), False, False, False),
        (Exit(137, 9), True, True, False),
        (Exit(143, 15), False, True, False),
        (Exit(137), False, True, False),
        (Exit(1), False, True, False),
        (Exit(0), False, True, False),
    ],
)
def test_who_is_to_blame(ended: Exit, signalled: bool, settled: bool, wanted: bool) -> None:
    assert faultless(ended, signalled, settled) is wanted


async def test_pods_come_back_from_each_loss_of_the_keeper_without_back_off(tmp_path: Path) -> None:
    async with running(tmp_path / "home", timing=PATIENT) as cluster:
        for name in ("one", "two"):
            cluster.shell(FOREVER, name=name)
        for lost in range(3):
            await cluster.until(lambda n=lost: cluster.ready("one") and cluster.ready("two"))
            assert [cluster.container(name)["restartCount"] for name in ("one", "two")] == [lost, lost]
            keeper = cluster.node._processes._keeper
            assert keeper is not None
            keeper.kill()
            await cluster.until(lambda n=lost: cluster.container("one")["restartCount"] == n + 1)
            await cluster.until(lambda n=lost: cluster.container("two")["restartCount"] == n + 1)
        assert "BackOff" not in cluster.reasons("one") + cluster.reasons("two")


async def test_what_the_machine_kills_is_restarted_at_once_each_time(tmp_path: Path) -> None:
    async with running(tmp_path / "home", timing=SETTLED) as cluster:
        cluster.shell(FOREVER)
        cluster.shell(FOREVER, name="other")
        await cluster.until(lambda: cluster.ready() and cluster.ready("other"))
        for killed in range(3):
            container = cluster.node._container("default", "web", "c")[1]
            await cluster.until(lambda c=container: c.pid and time.time() - c.began > SETTLED.backoff)
            os.kill(container.pid, signal.SIGKILL)
            await cluster.until(lambda n=killed: cluster.container()["restartCount"] == n + 1 and cluster.ready())
            ended = cluster.container()["lastState"]["terminated"]
            assert (ended["exitCode"], ended["reason"]) == (137, "Error")
        assert "BackOff" not in cluster.reasons()
        assert cluster.container("other")["restartCount"] == 0


async def test_what_kills_itself_at_once_is_a_crash_loop(tmp_path: Path) -> None:
    async with running(tmp_path / "home", timing=PATIENT) as cluster:
        cluster.shell("kill -9 $$$$")
        waiting = await cluster.until(lambda: cluster.container().get("state", {}).get("waiting", {}).get("message"))
        await cluster.until(lambda: "BackOff" in cluster.reasons())
        assert "back-off 10m0s restarting failed container=c" in cluster.container()["state"]["waiting"]["message"]
        assert cluster.container()["restartCount"] == 1, waiting


async def test_the_nodes_own_restart_is_no_crash_of_its_pods(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with running(home, timing=PATIENT) as cluster:
        cluster.shell(FOREVER)
        await cluster.until(cluster.ready)
    async with running(home, timing=PATIENT) as cluster:
        await cluster.until(lambda: cluster.container()["restartCount"] == 1 and cluster.ready())
        # The first restart that is the container's own comes at once, as ever.
        os.kill(cluster.node._container("default", "web", "c")[1].pid, signal.SIGKILL)
        await cluster.until(lambda: cluster.container()["restartCount"] == 2 and cluster.ready())
        assert "BackOff" not in cluster.reasons()


async def test_a_container_has_ended_when_the_last_of_it_has(tmp_path: Path) -> None:
    """Ports, locks and files of a run are free when its end is told: the next run begins at once."""
    processes = Processes(tmp_path)
    processes.start()
    # Each in a session of its own and the child of the one before: the keeper finds one when the last one has ended.
    (tmp_path / "chain").write_text("[ $1 -eq 0 ] && touch full || setsid sh chain $(($1 - 1)) & exec sleep 1000")
    env = {"LABKIT_SANDBOX": str(tmp_path), "LABKIT_CONTAINER": "one", "PATH": os.environ["PATH"]}
    with open(tmp_path / "lock", "w") as lock, open(os.devnull, "r+b") as null:
        streams = (null.fileno(),) * 3
        argv = ["/bin/sh", "-c", "exec 9>>lock; flock 9; setsid sh chain 50 & wait"]
        process = await processes.spawn("one", argv=argv, env=env, cwd=tmp_path, streams=streams)
        async with asyncio.timeout(120):
            while not (tmp_path / "full").exists():
                await asyncio.sleep(0.01)
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.kill(process.pid, signal.SIGKILL)
            assert await process.exited == Exit(137, 9)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    await processes.stop()


async def test_the_loss_of_the_keeper_is_an_event_of_the_node(tmp_path: Path) -> None:
    async with running(tmp_path / "home", timing=PATIENT) as cluster:
        cluster.shell(FOREVER)
        await cluster.until(cluster.ready)
        keeper = cluster.node._processes._keeper
        assert keeper is not None
        keeper.kill()
        await cluster.until(lambda: KEEPER_LOST in cluster.reasons(cluster.settings.node_name))
        seen: set[str] = set()

        def mended() -> bool:
            told = healing(cluster.objects.list("pods"), cluster.events(cluster.settings.node_name))
            seen.update(one.partition(" was ")[0] for one in told)
            return cluster.ready() and cluster.container()["restartCount"] == 1

        await cluster.until(mended)
        assert "the keeper of the pods' processes" in seen
