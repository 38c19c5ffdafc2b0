# SPDX-License-Identifier: Apache-2.0
"""Blocks of addresses: proven free by binding, told whose they are; a sandbox moves when its own is taken."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from labkit.ground.errors import SandboxError
from meshbox import blocks
from meshbox.reach import access
from tests.conftest import SandboxUnderTest

ME = f"user {pwd.getpwuid(os.geteuid()).pw_name}"


@pytest.fixture
def homes(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in ("first", "second")]
    for home in found:
        home.mkdir()
    return found


def test_a_home_has_its_block_again(homes: list[Path]) -> None:
    plan, held = blocks.claim(homes[0])
    held.close()
    again, held = blocks.claim(homes[0])
    with held:
        assert again.number == plan.number
        assert (homes[0] / "number").read_text() == str(plan.number)


def test_a_block_that_is_held_is_nobody_elses(homes: list[Path]) -> None:
    first, held = blocks.claim(homes[0])
    with held:
        assert blocks.hold(first.number) is None
        (homes[1] / "number").write_text(str(first.number))
        second, other = blocks.claim(homes[1])
        with other:
            assert second.number != first.number
            assert (homes[1] / "number").read_text() == str(second.number)


def test_whose_a_block_is_can_be_told(homes: list[Path]) -> None:
    plan, held = blocks.claim(homes[0])
    with held:
        said = blocks.holder(plan.number)
        assert said.startswith(f"{ME}, process {os.getpid()} (")
        assert " ".join(psutil.Process().cmdline()[:2]) in said
    assert blocks.holder(plan.number) == "somebody who cannot be seen from here"


def test_a_block_where_something_listens_is_not_taken(homes: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plan, held = blocks.claim(homes[0])
    (homes[0] / "number").unlink()
    monkeypatch.setattr(blocks, "NUMBERS", range(plan.number, plan.number + 1))
    with socket.create_server((f"127.{plan.number}.64.3", 0)):
        # Nobody else takes it now either.
        held.close()
        with pytest.raises(SandboxError, match=rf"no free block .*: of 1, 1 are used by {ME}"):
            blocks.claim(homes[0])
        # What is left of a sandbox's own last run is in its own way only.
        (homes[0] / "number").write_text(str(plan.number))
        again, held = blocks.claim(homes[0])
        held.close()
        assert again.number == plan.number


def test_what_a_test_has_stopped_has_its_block_again(
    start_sandbox: Callable[..., SandboxUnderTest], homes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests go on with its addresses, and other workers look for blocks meanwhile."""
    sandbox = start_sandbox("1.30.3")
    assert sandbox.labkit("down", "--name", sandbox.name).returncode == 0
    monkeypatch.setattr(blocks, "NUMBERS", [int(sandbox.node.split(".")[1])])
    with pytest.raises(SandboxError, match=rf"no free block .*: of 1, 1 are used by {ME}"):
        blocks.claim(homes[0])
    up = sandbox.labkit("up", "--name", sandbox.name)
    assert up.returncode == 0, up.stderr
    assert access(sandbox.kubeconfig).node == sandbox.node


def test_all_blocks_are_taken(homes: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        mine = []
        for number in blocks.NUMBERS:
            if len(mine) < 3 and (held := blocks.hold(number)) is not None:
                stack.enter_context(held)
                mine.append(number)
        monkeypatch.setattr(blocks, "NUMBERS", mine)
        with pytest.raises(SandboxError) as caught:
            blocks.claim(homes[0])
        assert f"of 3, 3 are used by {ME}" in caught.value.message
        assert "meshbox down --all" in caught.value.next_step
        assert not (homes[0] / "number").exists()


_CLAIM = """
import sys
from pathlib import Path
from meshbox import blocks
plan, held = blocks.claim(Path(sys.argv[1]))
print(plan.number, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def elsewhere(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs until the end of the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*command], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_holder_leaves_nothing(homes: list[Path]) -> None:
    with elsewhere(sys.executable, "-c", _CLAIM, str(homes[0])) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        assert blocks.hold(number) is None
        process.kill()
        process.wait()
        held = blocks.hold(number)
        assert held is not None
        held.close()


def test_network_namespaces_do_not_know_each_other(homes: list[Path]) -> None:
    """The same block is free in another network namespace, and there only one has it too."""
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("this machine has no network namespaces for its users")
    plan, held = blocks.claim(homes[0])
    (homes[1] / "number").write_text(str(plan.number))
    inside = ("sh", "-c", 'ip link set lo up; exec "$@"', "sh", sys.executable, "-c", _CLAIM, str(homes[1]))
    with held, elsewhere("unshare", "-rn", *inside) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == plan.number
