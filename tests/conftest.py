# SPDX-License-Identifier: Apache-2.0
"""Fixtures that the whole suite shares. A sandbox here is a real one, in a LABKIT_HOME of the test's own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from labkit.cluster import target
from meshbox.reach import access
from tests.compiling import pytest_collection
from tests.groups import pytest_configure_node, pytest_xdist_make_scheduler
from tests.suite import (
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtest_call,
    pytest_xdist_auto_num_workers,
)

__all__ = [
    "pytest_collection",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_runtest_call",
    "pytest_xdist_auto_num_workers",
    "pytest_xdist_make_scheduler",
]

# Where the machine is busy, commands would say that they are still at it: tests read what they say at the end.
os.environ["LABKIT_PROGRESS"] = "off"
# Nor do they depend on whose terminal they are run from.
for _name in ("COLUMNS", "LINES", "LABKIT_LANG"):
    os.environ.pop(_name, None)

REPOSITORY = Path(__file__).resolve().parent.parent
GENUINE = REPOSITORY.parent / "shared" / "releases"
BIN = Path(sys.executable).parent
TOKEN = "a-token-of-the-tests-which-is-long-enough"
"""A sandbox's token, for parts of one that a test starts by themselves."""


PATIENCE = 240.0
"""Seconds that every wait has at least: a deadline only ends a hang, however busy the machine is."""


def wait_until(
    condition: Callable[[], Any], seconds: float = PATIENCE, what: str = "the condition", *, rest: float = 4.0
) -> Any:
    """Poll `condition` until it returns something true; fail with `what` at the deadline.

    Args:
        condition: What is waited for.
        seconds: How long, if that is more than `PATIENCE`.
        what: Its words.
        rest: How many times as long as a look takes nobody looks, at most a second: what is waited for needs the
            processor as well.
    """
    seconds = max(seconds, PATIENCE)
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        now = time.monotonic()
        assert now < deadline, f"{what} was not so within {seconds:g} s"
        time.sleep(min(max(0.02, rest * (now - began)), 1.0))


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that the test starts do not count what of them was run, which loads modules and calls the kernel."""
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The target, and what is in the environment for it, are afterwards what they were: another test comes next."""
    variables = {name: os.environ.get(name) for name in ("KUBECONFIG", "LABKIT_KUBECONFIG")}
    state, settled = target._state, target._settled
    yield
    if target._state is not state:
        target._set(target._NOTHING_YET)
        target._state, target._settled = state, settled
    for name, value in variables.items():
        if os.environ.get(name) == value:
            continue
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def until() -> Callable[..., Any]:
    """The only way tests wait."""
    return wait_until


def genuine(release: str) -> Path:
    """The unpacked genuine release, or skip."""
    folder = GENUINE / f"istio-{release}"
    if not folder.is_dir():
        pytest.skip(f"the genuine manifests of Istio {release} are not at {folder}")
    return folder


@dataclass
class SandboxUnderTest:
    """A running sandbox, and kubectl for it."""

    name: str
    release: str
    labkit_home: Path
    kubeconfig: Path
    node: str

    @property
    def home(self) -> Path:
        return self.labkit_home / "sandboxes" / self.name

    @property
    def env(self) -> dict[str, str]:
        path = f"{BIN}:{os.environ['PATH']}"
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "LABKIT_HOME": str(self.labkit_home),
            "PATH": path,
            # kubectl caches discovery below HOME; a test must neither read nor leave such a cache.
            "HOME": str(self.labkit_home),
        }

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(BIN / "kubectl"), *arguments], env=self.env, input=stdin, capture_output=True, text=True, timeout=300
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done

    def bash(self, command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command], env=self.env, cwd=cwd, capture_output=True, text=True, timeout=300
        )

    def labkit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        if arguments[0] == "up" and "--with-pid" not in arguments:
            # What a test run that is killed has started ends with it.
            arguments += ("--with-pid", str(os.getpid()))
        command = [sys.executable, "-m", "labkit", *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=300)


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that carries the sandbox's mark, or runs its daemon."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("LABKIT_SANDBOX") == str(home) or str(home) in process.cmdline():
                found.append(process)
    return found


def names_of(home: Path) -> dict[int, str]:
    """Process id → name, of a sandbox's processes; one that ends meanwhile, such as a probe's command, is none."""
    found = {}
    for process in processes_of(home):
        with contextlib.suppress(psutil.Error):
            found[process.pid] = process.name()
    return found


@contextlib.contextmanager
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SandboxUnderTest]]:
    """Start sandboxes as a user does; each is stopped and removed at the end, and must leave no process."""
    made: list[SandboxUnderTest] = []
    ends = contextlib.ExitStack()

    def start(release: str = "1.2.2", *options: str, name: str = "test", home: Path | None = None) -> SandboxUnderTest:
        labkit_home = home or tmp_path_factory.mktemp("labkit")
        sandbox = SandboxUnderTest(name, release, labkit_home, labkit_home / "sandboxes" / name / "kubeconfig", node="")
        made.append(sandbox)
        up = sandbox.labkit("up", "--name", name, "--release", release, *options)
        assert up.returncode == 0, up.stderr
        sandbox.node = access(sandbox.kubeconfig).node
        # Nobody takes a block in which somebody listens, but the sandbox whose it was: what is stopped or killed comes
        # back where it was, whatever other workers start meanwhile. They take one of 240 for each test of the API.
        ends.enter_context(socket.create_server((f"{sandbox.node.removesuffix('0.1')}255.1", 0)))
        return sandbox

    with ends:
        yield start
    for sandbox in made:
        down = sandbox.labkit("down", "--name", sandbox.name, "--delete")
        assert down.returncode == 0, down.stderr
    assert [process for sandbox in made for process in processes_of(sandbox.home)] == []


@contextlib.contextmanager
def small_file_system(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs with mount options of its own, such as "size=1m", for root and others: a process holds its namespace."""
    hold = 'mount -t tmpfs -o "$1" none "$2" && echo mounted && exec cat'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", hold, "sh", options, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        if holder.stdout.readline() != b"mounted\n":
            pytest.skip(f"this user may not make a mount namespace: {holder.communicate()[1].decode()}")
        yield Path(f"/proc/{holder.pid}/root{folder}")
        holder.stdin.close()


@pytest.fixture
def start_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SandboxUnderTest]]:
    """Starts sandboxes that end with the test."""
    with sandboxes(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SandboxUnderTest]]:
    """Starts sandboxes that a module's tests share; they must not depend on each other's objects."""
    with sandboxes(tmp_path_factory) as start:
        yield start
