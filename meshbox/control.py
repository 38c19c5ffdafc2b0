# SPDX-License-Identifier: Apache-2.0
"""Start, find and stop sandboxes: the side of a sandbox that a command line holds.

A sandbox is one background process (`meshbox.daemon`) and a folder below ``$LABKIT_HOME/sandboxes``. Which
process that is stands in the folder's `state.json`; a pid alone is never trusted: the process's start time must match,
or, where somebody has set the clock since, its command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from labkit.ground import config
from labkit.ground.errors import SandboxError, SettingError
from labkit.ground.names import dns1123_label
from meshbox import kept
from meshbox.asker import Asker
from meshbox.launch import UP_DEADLINE, UnexplainedError, last_words, launch
from meshbox.preflight import check, make_folder, unmake_folder
from meshbox.program import program

__all__ = ["Status", "down", "folder", "kubeconfig", "names", "reports", "set_aside", "status", "up"]

DOWN_DEADLINE = 10.0
"""Seconds `down` waits for the daemon to end by itself before it is killed."""


State = Literal["running", "starting", "stopped", "crashed", "absent"]


class Status(NamedTuple):
    """What is known of one sandbox.

    Args:
        name: Its name.
        state: "running" (the API answers whoever uses the kubeconfig), "starting", "stopped", "crashed" (its process
            is gone, objects are kept) or "absent".
        release: The Istio release it plays, e.g. "1.2.2".
        pid: The daemon's process id; None unless running or starting.
        kubeconfig: Path of its kubeconfig.
        node: Address of its node, e.g. "127.20.0.1".
        server: URL of its API server.
        note: What its user should know: that its addresses are others than before, which file is damaged; mostly "".
        ends_with: The process that it ends with at the latest (``labkit up --with-pid``); None where there is none.
        healing: What it is mending, a sentence each; only where `status` was asked for it.
        advice: What is wrong and what to do, where it does not run though it should.
    """

    name: str
    state: State
    release: str = ""
    pid: int | None = None
    kubeconfig: str = ""
    node: str = ""
    server: str = ""
    note: str = ""
    ends_with: int | None = None
    healing: tuple[str, ...] = ()
    advice: str = ""

    def as_dict(self) -> dict[str, object]:
        """The status for ``labkit status --json``; `note` and `advice` only where there is one."""
        return {key: value for key, value in self._asdict().items() if key not in ("note", "advice") or value}

    def as_json(self) -> str:
        """The status as one JSON object, for ``labkit status --json``."""
        return json.dumps(self.as_dict(), indent=2)


def folder(name: str) -> Path:
    """The folder of sandbox `name`.

    Raises:
        SettingError: `name` is not a DNS label of at most 32 characters.
    """
    if len(name) > 32 or dns1123_label(name):
        raise SettingError(
            f"{name!r} cannot be the name of a sandbox",
            next_step="use lower-case letters, digits and '-', at most 32 characters, such as 'class-2'",
        )
    return config.home() / "sandboxes" / name


def names() -> list[str]:
    """The names of all sandboxes that have a folder."""
    parent = config.home() / "sandboxes"
    return sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def kubeconfig(name: str) -> Path:
    """Where the kubeconfig of sandbox `name` is."""
    return folder(name) / "kubeconfig"


def _advice(name: str, state: State, home: Path) -> str:
    """What to do about a sandbox that does not answer, and since when it is so."""
    option = "" if name == "default" else f" --name {name}"
    if state == "crashed":
        last = max((path.stat().st_mtime for path in (home / "objects").glob("*")), default=0.0)
        since = time.strftime(" after %H:%M:%S", time.localtime(last)) if last else ""
        return f"its process ended{since} without being told to; `{program()} up{option}` brings all of it back"
    if state == "starting":
        again = f"`{program()} down{option}` and `{program()} up{option}`"
        return f"its process runs, its API does not answer: look again, or {again}"
    return ""


def status(name: str, *, healing: bool = False) -> Status:
    """What sandbox `name` is doing now.

    Args:
        name: Which sandbox.
        healing: Whether to ask a running one what it is mending.
    """
    home = folder(name)
    if not home.is_dir():
        return Status(name, "absent")
    # Slow to import: a start that has nobody to look for comes to it while the daemon starts.
    from meshbox import processes, reach

    state, process, file = kept.state(home), processes.daemon_process(home), home / "kubeconfig"
    current: State = "crashed" if state.get("state") in ("running", "starting") else "stopped"
    node, port, note = str(state.get("node", "")), state.get("port"), ""
    if process is not None and state.get("state") != "starting":
        note = str(state.get("note", ""))
        current = "running"
        try:
            found = reach.access(file)
            problem = reach.answers(found)
            node, port = found.node, found.port
        except FileNotFoundError:
            problem = f"{file} is missing"
        except (OSError, ValueError) as error:
            problem = f"{file} is damaged: it {getattr(error, 'strerror', '') or error}"
        if problem:
            current, note = "starting", problem
    elif process is not None:
        current = "starting"
    return Status(
        name=name,
        state=current,
        release=kept.release(home) or str(state.get("release", "")),
        pid=process.pid if process else None,
        kubeconfig=str(file),
        node=node,
        server=f"https://{node}:{port}" if port else "",
        note=note,
        ends_with=with_pid if process and isinstance(with_pid := state.get("ends_with"), int) else None,
        healing=reach.mended(file) if healing and current == "running" else (),
        advice=_advice(name, current, home),
    )


def up(
    name: str = "default",
    release: str | None = None,
    *,
    loadbalancer: bool = False,
    real_clocks: bool = False,
    recover: bool = False,
    with_pid: int | None = None,
) -> Status:
    """Start sandbox `name`, or reuse it if it runs; returns when its API answers.

    Args:
        name: A DNS label of at most 32 characters.
        release: "1.2.2" or "1.30.3"; None means the release it was made with, else the default.
        loadbalancer: Give Services of type LoadBalancer an address.
        real_clocks: Run telemetry at Istio's own intervals.
        recover: Start from what is sound of a damaged journal of objects; `reports` has what was lost.
        with_pid: A process that the sandbox ends with, however that ends; its objects are kept. None: it goes on until
            `down`, as does one that runs already.

    Raises:
        SettingError: an unknown release, one that differs from what the sandbox was made with, or no such process.
        SandboxError: it did not start; the message carries its reason.
    """
    if release is not None and release not in config.RELEASES:
        raise SettingError(
            f"release {release!r} is not one of {', '.join(config.RELEASES)}", next_step="choose one of these"
        )
    asker = Asker.of(with_pid) if with_pid is not None else None
    home = folder(name)
    with _starting(home) as made:
        # Whoever had a folder of this name that is gone ends by itself.
        now = Status(name, "absent") if home in made else status(name)
        made_with = now.release or None
        if release and made_with and made_with != release:
            raise SettingError(
                f"sandbox {name!r} plays Istio {made_with}, not {release}",
                next_step=f"`{program()} up --release {release}`, without --name, finds or makes another beside it",
            )
        if now.state == "running":
            return now
        if now.state == "starting":
            now = _wait_while_starting(name, home)
            if now.state == "running":
                return now
        check(home)
        options = ["--with", str(asker)] if asker else []
        options += ["--loadbalancer"] * loadbalancer + ["--real-clocks"] * real_clocks + ["--recover"] * recover
        launch(home, name, release or made_with or config.DEFAULT_RELEASE, *options)
        now = _wait_while_starting(name, home)
        if now.state != "running":
            raise SandboxError(
                f"sandbox {name!r} was ended while it started",
                next_step=f"`{program()} up --name {name}` starts it again",
            )
        return now


@contextlib.contextmanager
def _starting(home: Path) -> Iterator[list[Path]]:
    """Two `labkit up` at the same time start one sandbox, not two; what fails leaves no new folder.

    Yields:
        The folders that were made for it.
    """
    try:
        made = make_folder(home)
        handle = _lock(home)
    except OSError as error:
        raise SandboxError(
            f"cannot write to {home}: {error.strerror}",
            next_step="set LABKIT_HOME to a folder of yours with free space",
        ) from error
    try:
        yield made
    except UnexplainedError:
        # The log is all there is to find out with.
        raise
    except BaseException:
        unmake_folder(home, made)
        raise
    finally:
        os.close(handle)


def _lock(home: Path) -> int:
    """The descriptor of the lock in `home`, which lasts as long as it is open."""
    import fcntl

    while True:
        handle = os.open(home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(handle, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        # Whoever held it may have removed the folder, and with it what we waited for.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), (home / "up.lock").stat()):
                return handle
        os.close(handle)
        make_folder(home)


def reports(name: str) -> list[Path]:
    """What was told of damaged objects of sandbox `name` when they were recovered, one file a time, oldest first."""
    try:
        return sorted((folder(name) / "objects").glob("recovered-*.txt"))
    except OSError:
        # The folder cannot even be looked at: `up` says why.
        return []


def set_aside(name: str) -> list[Path]:
    """The objects of sandbox `name` that could not be understood at a start, one file each."""
    return sorted((folder(name) / "objects" / "set-aside").glob("*.json"))


def _wait_while_starting(name: str, home: Path) -> Status:
    """What becomes of a sandbox that was started a moment ago, here or by another `labkit up`, or that is stopping."""
    deadline = time.monotonic() + UP_DEADLINE
    while time.monotonic() < deadline:
        now = status(name)
        if now.state in ("running", "stopped"):
            return now
        if now.state != "starting":
            raise UnexplainedError(
                f"sandbox {name!r} did not start{last_words(home)}",
                next_step=f"its whole log is {home / 'daemon.log'}; `{program()} doctor` says what this machine lacks",
            )
        time.sleep(0.02)
    raise UnexplainedError(
        f"sandbox {name!r} did not answer within {UP_DEADLINE:.0f} s{last_words(home)}",
        next_step=f"`{program()} down --name {name}`, then look at {home / 'daemon.log'}",
    )


def down(name: str = "default", *, delete: bool = False) -> Status:
    """Stop sandbox `name` and everything it started; its objects are kept unless `delete`.

    Args:
        name: Which sandbox.
        delete: Also remove its folder, objects included.

    Raises:
        SandboxError: a process of it could not be ended.
    """
    from meshbox import processes

    home = folder(name)
    process = processes.daemon_process(home)
    if process is not None:
        processes.end(process, DOWN_DEADLINE)
    processes.end_leftovers(home)
    if delete and home.exists():
        shutil.rmtree(home)
    return status(name)
