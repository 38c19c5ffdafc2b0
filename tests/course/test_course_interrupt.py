# SPDX-License-Identifier: Apache-2.0
"""A headless run that is interrupted, and the kernels it plays in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest
import zmq
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop

from labkit.course.kernels import ARGUMENTS, Ahead, quiet
from tests.conftest import PATIENCE, wait_until

PLAY = """
import signal
import sys
from pathlib import Path
from labkit.course.runner import play
# As in a terminal: a test run in the background may have been told to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    play(Path(sys.argv[1]), Path(sys.argv[2]), {})
except KeyboardInterrupt:
    print("labkit: interrupted", file=sys.stderr)
    raise SystemExit(130)
"""


@pytest.mark.parametrize("cell", ["import time; time.sleep(600)", "while True: pass"])
def test_an_interrupted_run_ends_in_one_line(tmp_path: Path, cell: str) -> None:
    begun = tmp_path / "begun"
    source = f"open({str(begun)!r}, 'w').close()\n{cell}"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(notebook, tmp_path / "one.ipynb")
    command = [sys.executable, "-c", PLAY, str(tmp_path / "one.ipynb"), str(tmp_path / "out.ipynb")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    with run:
        wait_until(lambda: begun.exists() or run.poll() is not None, what="the cell to begin")
        assert run.poll() is None, run.communicate()[0]
        os.killpg(run.pid, signal.SIGINT)
        said, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip() and "cell/s" not in line]
    assert lines == ["labkit: interrupted"]


def test_kernels_end_after_an_interrupt_in_the_moment_that_something_ended(tmp_path: Path) -> None:
    """Its end still waits in the loop then, and would be taken for that of what runs next."""
    path = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), path)
    with contextlib.closing(Ahead()) as kernels:
        kernels.prepare(path, tmp_path / "kernel.log")

        def interrupt() -> None:
            raise KeyboardInterrupt

        async def ends() -> None:
            asyncio.get_running_loop().call_soon(interrupt)

        with pytest.raises(KeyboardInterrupt):
            ensure_event_loop().run_until_complete(ends())
    mine = psutil.Process().children(recursive=True)
    assert [one for one in mine if "ipykernel_launcher" in " ".join(one.cmdline())] == []


def test_a_prepared_kernel_ends_when_the_look_whether_it_lives_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, log = tmp_path / "a.ipynb", tmp_path / "kernel.log"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), path)
    with contextlib.closing(Ahead()) as kernels:
        kernels.prepare(path, log)
        (one,) = (one for one in psutil.Process().children() if "ipykernel_launcher" in " ".join(one.cmdline()))

        async def interrupt(_: AsyncKernelManager) -> bool:
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(AsyncKernelManager, "is_alive", interrupt)
        with pytest.raises(KeyboardInterrupt), kernels.manager(path, log):
            pytest.fail("it was not interrupted")
        assert not one.is_running()


async def test_what_a_kernel_complains_of_goes_to_its_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "kernel.log"
    manager = quiet(log)(kernel_name="python3")
    await manager.start_kernel(extra_arguments=["--debug"])
    try:
        wait_until(lambda: "[IPKernelApp]" in log.read_text(), what="the kernel to complain")
    finally:
        await manager.shutdown_kernel(now=True)
    assert "[IPKernelApp]" not in capfd.readouterr().err


async def test_what_a_kernel_complains_of_once_it_is_told_to_end_is_left_out(tmp_path: Path) -> None:
    """It is interrupted first, whatever it does at that moment."""
    log, begun = tmp_path / "kernel.log", tmp_path / "begun"
    manager = quiet(log)(kernel_name="python3")
    await manager.start_kernel(extra_arguments=ARGUMENTS)
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=PATIENCE)
        tells = "__import__('os').write(__import__('sys').__stderr__.fileno(), b'before')"
        client.execute(f"{tells}; open({str(begun)!r}, 'w').close(); import time; time.sleep(600)")
        wait_until(begun.exists, what="the cell to begin")
    finally:
        client.stop_channels()
        await manager.shutdown_kernel()
    assert log.read_text() == "before"


async def test_a_kernel_of_a_run_takes_no_ports(tmp_path: Path) -> None:
    """One that was free a moment ago may be another's when the kernel has come so far."""
    managers = [quiet(tmp_path / "kernel.log")(kernel_name="python3") for _ in range(2)]
    assert [manager.transport for manager in managers] == ["ipc", "ipc"]
    assert all(manager.ip.startswith("@") for manager in managers)
    assert len({manager.ip for manager in managers}) == 2


async def test_what_a_kernel_says_is_heard_by_its_own_client_only(tmp_path: Path) -> None:
    manager = quiet(tmp_path / "kernel.log")(kernel_name="python3")
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    context = zmq.Context()
    stranger = context.socket(zmq.SUB)
    try:
        await client.wait_for_ready(timeout=PATIENCE)
        stranger.connect(f"ipc://{manager.ip}-{manager.iopub_port}")
        stranger.subscribe(b"")
        for _ in range(3):
            client.execute("print('secret')")
            while (await client.get_iopub_msg(timeout=PATIENCE))["msg_type"] != "stream":
                pass
        assert stranger.poll(500) == 0
    finally:
        context.destroy(linger=0)
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
